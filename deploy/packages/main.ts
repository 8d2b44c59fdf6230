/** `node deploy/packages/main.ts FORMAT`: builds both programs' packages, Debian's into dist, others into dist/FORMAT. */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { buildPackages, FORMATS } from './build.ts';
import type { Format } from './build.ts';
import { ARCHITECTURES, OWN_ARCHITECTURE } from './node.ts';
import type { Architecture } from './node.ts';

const root = resolve(import.meta.dirname, '../..');
const format = process.argv[2] as Format;
const base = process.env['BASE'];

try {
  if (!Object.hasOwn(FORMATS, format)) throw new Error(`name a format: ${Object.keys(FORMATS).join(', ')}`);
  const output = join(root, 'dist', format === 'deb' ? '' : format);
  removeFiles(output);
  // What npm's package holds runs on every kind of machine, and an image's base is of this machine's own.
  const all = format === 'deb' || format === 'rpm';
  const architectures = all ? (Object.keys(ARCHITECTURES) as Architecture[]) : [OWN_ARCHITECTURE];
  const report = (line: string): void => console.log(line);
  const names = await buildPackages({ root, output, format, architectures, report, ...(base ? { base } : {}) });
  if (format === 'deb') look(names);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}

/** What an earlier build has left. Folders are other formats'. */
function removeFiles(folder: string): void {
  if (!existsSync(folder)) return;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (!entry.isDirectory()) rmSync(join(folder, entry.name));
  }
}

/** Has lintian look at the packages where it is installed. */
function look(packages: readonly string[]): void {
  const args = ['--fail-on', 'error', '--tag-display-limit', '0', ...packages];
  const lintian = spawnSync('lintian', args, { stdio: 'inherit' });
  if (lintian.error)
    console.log('lintian is not installed, so the packages were not looked at: apt-get install lintian');
  process.exitCode = lintian.error ? 0 : (lintian.status ?? 1);
}
