/**
 * Makes unpacked packages run from a folder that they were not compiled for: the programs get the loader and the
 * libraries that came with them, scripts and wrappers the folder's name.
 *
 * `root` is where the files are now, `place` is where they will be used; both are absolute.
 */
import { existsSync, globSync } from 'node:fs';
import { mkdir, open, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import type { BundleSpecification } from './bundles.ts';
import { LocalServerError } from '../errors.ts';
import { lastLines, run } from '../run.ts';

/** Patching Chromium (200 MB) on a slow disk. */
const PATCH_TIMEOUT_MS = 120_000;
const ELF_MAGIC = Buffer.from([0x7f, 0x45, 0x4c, 0x46]);
/** Our own files under the root. */
const WRAPPERS = 'tributary-bin';

export async function relocate(specification: BundleSpecification, root: string, place: string): Promise<void> {
  await patchPrograms(specification, root, place);
  await patchErlang(root, place);
  const { wrap, environment, programs, files } = specification.debian;
  const fill = placeholders(root, place);
  for (const [path, content] of Object.entries(files)) await writeUnder(root, path, fill(content), 0o644);
  for (const [name, args] of Object.entries(wrap)) {
    const lines = ['#!/bin/sh'];
    for (const [key, value] of Object.entries(environment)) lines.push(`export ${key}='${fill(value)}'`);
    lines.push(`exec '${join(place, programs[name] ?? name)}' ${args.join(' ')} "$@"`, '');
    await writeUnder(root, join(WRAPPERS, name), lines.join('\n'), 0o755);
  }
}

/** Absolute path of a program of an installation; undefined if the bundle has no program of that name. */
export function installedProgram(specification: BundleSpecification, root: string, name: string): string | undefined {
  if (Object.hasOwn(specification.debian.wrap, name)) return join(root, WRAPPERS, name);
  const path = specification.debian.programs[name];
  if (path === undefined) return undefined;
  if (!path.includes('*')) return join(root, path);
  const found = globSync(path, { cwd: root })[0];
  return found === undefined ? undefined : join(root, found);
}

/** Environment variables of an installation's programs, on top of the process's own. */
export function installedEnvironment(specification: BundleSpecification, root: string): Record<string, string> {
  const fill = placeholders(root, root);
  const result: Record<string, string> = {};
  for (const [key, value] of Object.entries(specification.debian.environment)) {
    // What a wrapper sets is nobody else's business: our libraries on a foreign program's path would break it.
    if (Object.keys(specification.debian.wrap).length > 0) continue;
    result[key] = key === 'PATH' ? `${fill(value)}:${process.env['PATH'] ?? '/usr/bin:/bin'}` : fill(value);
  }
  return result;
}

function placeholders(root: string, place: string): (text: string) => string {
  const triplet = loaderUnder(root).split('/').at(-2) ?? '';
  return text => text.replaceAll('{root}', place).replaceAll('{triplet}', triplet);
}

/** The dynamic loader's path relative to the root; older suites keep it in /lib. */
function loaderUnder(root: string): string {
  const loader = globSync(['usr/lib/*/ld-linux*.so.*', 'lib/*/ld-linux*.so.*'], { cwd: root })[0];
  if (loader === undefined) throw new LocalServerError('INSTALL_FAILED', `no dynamic loader is under ${root}`, '');
  return loader;
}

/** Points every program at the loader and the libraries that came with it. */
async function patchPrograms(specification: BundleSpecification, root: string, place: string): Promise<void> {
  const loader = loaderUnder(root);
  const fill = placeholders(root, place);
  const folders = ['usr/lib/{triplet}', 'lib/{triplet}', 'usr/lib', ...specification.debian.libraries].map(fill);
  const tool = join(root, 'usr/bin/patchelf');
  const patchelf = (args: readonly string[]): ReturnType<typeof run> => {
    const here = folders.map(folder => join(root, folder)).join(':');
    return run(join(root, loader), ['--library-path', here, tool, ...args], { timeoutMs: PATCH_TIMEOUT_MS });
  };
  const libraries = folders.filter(folder => existsSync(join(root, folder))).map(folder => join(place, folder));
  for (const path of specification.debian.patch) {
    for (const program of await programsUnder(join(root, path))) {
      if (program === tool) continue; // In use just now.
      if ((await patchelf(['--print-interpreter', program])).status !== 0) continue; // Static, or a library.
      const own = (await patchelf(['--print-rpath', program])).output.trim();
      const rpath = [own, ...libraries].filter(one => one !== '').join(':');
      // --force-rpath: unlike a RUNPATH it also holds for what the libraries themselves need.
      const how = ['--set-interpreter', join(place, loader), '--force-rpath', '--set-rpath', rpath];
      const result = await patchelf([...how, program]);
      if (result.status === 0) continue;
      const what = `patching ${relative(root, program)} failed: ${lastLines(result.errors, 2)}`;
      throw new LocalServerError('INSTALL_FAILED', what, 'Check the free disk space and try again.');
    }
  }
}

/** Erlang's start scripts have its folder written into them: the outer one, and the one that RabbitMQ starts peers by. */
export async function patchErlang(root: string, place: string): Promise<void> {
  for (const path of globSync(['usr/lib/erlang/bin/erl', 'usr/lib/erlang/erts-*/bin/erl'], { cwd: root })) {
    const script = join(root, path);
    const text = await readFile(script, 'utf8');
    const patched = text.replaceAll('ROOTDIR=/usr/lib/erlang', `ROOTDIR='${join(place, 'usr/lib/erlang')}'`);
    if (patched !== text) await writeFile(script, patched);
  }
}

/** ELF files with an execute permission: the file itself, or all in the folder and below; links are passed over. */
async function programsUnder(path: string): Promise<string[]> {
  const entry = await stat(path).catch(() => undefined);
  if (entry === undefined) return [];
  const below = entry.isDirectory() ? await readdir(path, { recursive: true, withFileTypes: true }) : [];
  const files = entry.isDirectory()
    ? below.filter(one => one.isFile()).map(one => join(one.parentPath, one.name))
    : [path];
  const found: string[] = [];
  for (const file of files) {
    if (((await stat(file)).mode & 0o111) !== 0 && (await isElf(file))) found.push(file);
  }
  return found;
}

async function isElf(file: string): Promise<boolean> {
  const handle = await open(file);
  try {
    const { buffer } = await handle.read(Buffer.alloc(ELF_MAGIC.length), 0, ELF_MAGIC.length, 0);
    return buffer.equals(ELF_MAGIC);
  } finally {
    await handle.close();
  }
}

async function writeUnder(root: string, path: string, content: string, mode: number): Promise<void> {
  const file = join(root, path);
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, content, { mode });
}
