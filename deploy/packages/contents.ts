/** What a package of a program holds, the same in every format, and how it is laid out. */
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { libraryFiles, PACKAGED, PAGE_LIBRARIES } from '../../shared/process/page-libraries.ts';
import { bundleProgram, describePackage } from './bundle.ts';
import type { BundledPackage } from './bundle.ts';
import { billOfMaterials, copyrightFile, manPage } from './documents.ts';
import type { Component, LicenceText } from './documents.ts';
import { lockedPackage } from './node.ts';
import type { Program, ProgramFacts } from './programs.ts';
import type { Stage } from './stage.ts';

/** One program, read and bundled, for all packages that are made of it. */
export interface Contents {
  /** The project's folder. */
  readonly root: string;
  readonly facts: ProgramFacts;
  readonly version: string;
  /** When the sources were last changed. */
  readonly made: Date;
  readonly code: Uint8Array;
  readonly packages: readonly BundledPackage[];
}

export interface Layout {
  /** The folder of npm's package with Node for these machines. */
  readonly node: string;
  /** Where the units go; null: there is no systemd. */
  readonly units: string | null;
  /** Whether the system keeps the Apache licence for all packages, as Debian does. */
  readonly commonLicences: boolean;
}

export async function readContents(
  root: string,
  facts: ProgramFacts,
  { version, made }: { readonly version: string; readonly made: Date },
): Promise<Contents> {
  const { code, packages } = await bundleProgram(root, facts.program);
  const all = [
    ...packages,
    ...PAGE_LIBRARIES.map(library => describePackage(join(root, 'node_modules', library.package))),
  ];
  return { root, facts, version, made, code, packages: all.sort((a, b) => (a.name < b.name ? -1 : 1)) };
}

/** The program with what it reads by path, as deep in `folder` as in a checkout (shared/root.ts). */
export function layProgram(stage: Stage, folder: string, contents: Contents, manifest: object): void {
  const { root, facts, version, code } = contents;
  const { name, program } = facts;
  stage.write(join(folder, program, 'main.js'), code);
  stage.write(join(folder, 'package.json'), `${JSON.stringify({ name, version, type: 'module', ...manifest })}\n`);
  layPage(stage, folder, root, program);
}

/** What the program's page is made of. */
export function layPage(stage: Stage, folder: string, root: string, program: Program): void {
  stage.copyFolder(join(root, 'shared/web'), join(folder, 'shared/web'));
  stage.copyFolder(join(root, program, 'web/assets'), join(folder, program, 'web/assets'));
  for (const file of libraryFiles(root)) stage.copy(file, join(folder, PACKAGED, basename(file)));
  if (program === 'agent') return;
  // The page shows what it links to.
  stage.copyFolder(join(root, 'deploy/runbook'), join(folder, 'deploy/runbook'));
}

/** The documents, as they lie in the project, so that their links lead on; and every licence. */
export function layDocuments(
  stage: Stage,
  folder: string,
  { root, facts, packages }: Contents,
  { node, library, commonLicences }: { node: string | null; library: string; commonLicences: boolean },
): void {
  for (const file of ['README.md', 'ARCHITECTURE.md', 'SECURITY.md', 'CHANGELOG.md'])
    stage.copy(join(root, file), join(folder, file));
  for (const part of ['docs', ...facts.examples]) stage.copyFolder(join(root, part), join(folder, part));
  const parts = [...packages, ...(node === null ? [] : [describePackage(node)])].map(licenceOf);
  const own = readFileSync(join(root, 'LICENSE'), 'utf8');
  stage.write(join(folder, 'copyright'), copyrightFile(own, parts, { library, commonLicences }));
}

/** Everything as it is installed, Node included. */
export function layInstallation(stage: Stage, contents: Contents, { node, units, commonLicences }: Layout): void {
  const { root, facts, made } = contents;
  const { name, program } = facts;
  const library = `usr/lib/${name}`;
  layProgram(stage, library, contents, { private: true });
  stage.copy(join(node, 'bin/node'), `${library}/node`, 0o755);
  stage.write(`usr/bin/${name}`, `#!/bin/sh\nexec /${library}/node /${library}/${program}/main.js "$@"\n`, 0o755);
  layDocuments(stage, `usr/share/doc/${name}`, contents, { node, library, commonLicences });
  stage.write(`usr/share/${name}/${program}.yaml`, facts.configuration);
  if (units === null) return;
  mkdirSync(join(stage.directory, 'etc', name), { recursive: true });
  for (const unit of facts.units) stage.copy(join(root, 'deploy/systemd', unit), join(units, unit));
  stage.write(`usr/lib/sysusers.d/${name}.conf`, sysusersFile(facts));
  stage.writeGzipped(`usr/share/man/man1/${name}.1`, manPage(facts, made.toISOString().slice(0, 10)));
}

/** systemd-sysusers makes the user; it stays when the package goes, so that no other user is given its files. */
export function sysusersFile({ name }: ProgramFacts): string {
  return `u ${name} - "${name}" /var/lib/${name}\n`;
}

/** The bill of materials of one package. @param node as above; null: the package brings none @param purl of the package */
export function materials(contents: Contents, node: string | null, purl: string): string {
  const { root, facts, version, made, packages } = contents;
  const components = packages.map(one => component(root, one, one.folder.slice(root.length + 1)));
  if (node !== null) {
    const one = describePackage(node);
    components.push(component(root, one, `node_modules/${one.name}`), ...partsOfNode(one.version));
  }
  return billOfMaterials(facts, components, { purl, version, made: made.toISOString() });
}

/** @throws when the package has no text of its licence: the copyright file must hold it */
function licenceOf(one: BundledPackage): LicenceText {
  const file = readdirSync(one.folder).find(name => /^(licen[cs]e|copying)(\.\w+)?$/i.test(name));
  if (file !== undefined) return { package: one, text: readFileSync(join(one.folder, file), 'utf8') };
  throw new Error(
    `${one.name} ${one.version} has no file with the text of its licence (${one.licence}): it must not be packaged`,
  );
}

function component(root: string, { name, version, licence }: BundledPackage, key: string): Component {
  const { sha512 } = lockedPackage(root, key);
  return {
    name,
    version,
    licence,
    purl: `pkg:npm/${name.replace('@', '%40')}@${version}`,
    sha512: sha512 === null ? null : Buffer.from(sha512, 'base64').toString('hex'),
  };
}

/** The libraries that are inside Node's binary, as the same version says here. */
function partsOfNode(version: string): Component[] {
  if (process.versions.node !== version)
    throw new Error(
      `packages with Node ${version} are built by that version, not by ${process.versions.node}: use make`,
    );
  return Object.entries(process.versions)
    .filter(([name, part]) => (part ?? '') !== '' && !['modules', 'napi', 'unicode', 'cldr', 'tz'].includes(name))
    .map(([name, part = '']) => ({
      name,
      version: part,
      licence: null,
      purl: `pkg:generic/${name}@${part}`,
      sha512: null,
    }));
}
