/**
 * One program as one file of JavaScript, made by esbuild, and which packages went into it.
 *
 * The file keeps the depth that it has in the checkout (agent/main.js below the package's folder), so that what a
 * program reads at run time by path (shared/root.ts: package.json, page files) is found the same way in both.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';
import * as z from 'zod';
import type { Program } from './programs.ts';

/** An npm package of which at least one file is in a bundle. */
export interface BundledPackage {
  readonly name: string;
  readonly version: string;
  /** SPDX expression. */
  readonly licence: string;
  /** Who wrote it, as package.json says; '' where it does not. */
  readonly author: string;
  readonly folder: string;
}

export interface Bundle {
  readonly code: Uint8Array;
  /** Sorted by name. */
  readonly packages: readonly BundledPackage[];
}

/** CommonJS packages ask for Node's own modules by `require`, which ES modules lack. */
const REQUIRE = "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);";

/** Characters after which a line ends as soon as it can. */
const LINE_LIMIT = 160;

/** @throws where a module cannot be resolved, or a bundled package names no licence */
export async function bundleProgram(root: string, program: Program): Promise<Bundle> {
  const result = await build({
    absWorkingDir: root,
    entryPoints: [`${program}/main.ts`],
    outfile: `${program}/main.js`,
    bundle: true,
    write: false,
    metafile: true,
    platform: 'node',
    format: 'esm',
    target: 'node24',
    banner: { js: REQUIRE },
    // V8 keeps the source as long as the program runs: a third of it is blanks and comments, and a single letter beyond
    // ASCII in one of them makes two bytes of every other. Names and lines stay, so that stack traces can be read.
    minifyWhitespace: true,
    lineLimit: LINE_LIMIT,
    charset: 'ascii',
    legalComments: 'inline',
    logLevel: 'silent',
  });
  const code = result.outputFiles[0]?.contents;
  if (code === undefined) throw new Error(`esbuild made nothing of ${program}/main.ts`);
  return { code, packages: packagesOf(root, Object.keys(result.metafile.inputs)) };
}

function packagesOf(root: string, inputs: readonly string[]): BundledPackage[] {
  const folders = new Set(
    inputs.flatMap(input => {
      // The innermost node_modules: a package may bring its own version of another.
      const match = /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+/.exec(input);
      return match === null ? [] : [match[0]];
    }),
  );
  return [...folders].map(folder => describePackage(join(root, folder))).sort((a, b) => (a.name < b.name ? -1 : 1));
}

const person = z.union([z.string(), z.object({ name: z.string() }).transform(({ name }) => name)]);

const manifestSchema = z.object({
  name: z.string(),
  version: z.string(),
  license: z.string().min(1).optional(),
  author: person.optional(),
  contributors: z.array(person).optional(),
});

/** @throws when its package.json names no licence: what may not be passed on must not be packaged */
export function describePackage(folder: string): BundledPackage {
  const manifest = manifestSchema.parse(JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')));
  const { name, version, license, author, contributors } = manifest;
  if (license === undefined || license === 'UNLICENSED') {
    throw new Error(`${name} ${version} names no licence: it must not be packaged. Replace it.`);
  }
  return { name, version, licence: license, author: author ?? contributors?.join(', ') ?? '', folder };
}
