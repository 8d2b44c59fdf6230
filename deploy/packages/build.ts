/**
 * Builds the packages of both programs in one format, with a bill of materials for each and SHA256SUMS.
 *
 * All formats hold the same (contents.ts); a file for each format says what is its own.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as z from 'zod';
import { materials, readContents } from './contents.ts';
import type { Contents } from './contents.ts';
import { buildDeb } from './deb.ts';
import { buildImage } from './image.ts';
import type { Built } from './job.ts';
import { nodeFolder, OWN_ARCHITECTURE } from './node.ts';
import type { Architecture } from './node.ts';
import { buildNpm } from './npm.ts';
import { PROGRAMS } from './programs.ts';
import { buildRpm } from './rpm.ts';
import { hash } from './stage.ts';

export const FORMATS = { deb: buildDeb, rpm: buildRpm, npm: buildNpm, image: buildImage } as const;

export type Format = keyof typeof FORMATS;

export interface BuildOptions {
  /** The project's folder. */
  readonly root: string;
  /** Where the packages go; made where it is missing. */
  readonly output: string;
  /** Default: deb. */
  readonly format?: Format;
  /** Default: this machine's own. */
  readonly architectures?: readonly Architecture[];
  /** Default: package.json's. The tests of upgrades build the same program under several. */
  readonly version?: string;
  readonly quick?: boolean;
  readonly base?: string;
  readonly report?: (line: string) => void;
}

/** @returns the packages' paths, of images the names @throws when a tool, a licence or a package is missing */
export async function buildPackages(options: BuildOptions): Promise<string[]> {
  const { root, output, format = 'deb', quick = false, base = null, report = () => undefined } = options;
  const source = { version: options.version ?? projectVersion(root), made: sourceDate(root) };
  mkdirSync(output, { recursive: true });
  const names: string[] = [];
  for (const facts of PROGRAMS) {
    const contents = await readContents(root, facts, source);
    for (const architecture of options.architectures ?? [OWN_ARCHITECTURE]) {
      const node = nodeFolder(root, architecture, report);
      const work = mkdtempSync(join(tmpdir(), 'tributary-package-'));
      try {
        const built = await FORMATS[format](contents, { architecture, node, work, output, quick, base, report });
        writeMaterials(contents, node, built);
        report(built.name);
        names.push(built.name);
      } finally {
        rmSync(work, { recursive: true, force: true });
      }
    }
  }
  if (format !== 'image') writeFileSync(join(output, 'SHA256SUMS'), sums(output));
  return names;
}

function writeMaterials(contents: Contents, node: string, { name, purl, withNode = true }: Built): void {
  if (purl === undefined) return;
  writeFileSync(name.replace(/\.\w+$/, '.cdx.json'), materials(contents, withNode ? node : null, purl));
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
    .filter(name => name !== 'SHA256SUMS')
    .sort()
    .map(name => `${hash('sha256', join(folder, name))}  ${name}\n`)
    .join('');
}
