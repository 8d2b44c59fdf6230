/** `make deb`: builds both packages into dist/, and has lintian look at them where it is installed. */
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { buildPackages } from './build.ts';

const root = resolve(import.meta.dirname, '../..');
const output = join(root, 'dist');

try {
  rmSync(output, { recursive: true, force: true });
  const archives = await buildPackages({ root, output, report: line => console.log(line) });
  const lintian = spawnSync('lintian', ['--fail-on', 'error', '--tag-display-limit', '0', ...archives], {
    stdio: 'inherit',
  });
  if (lintian.error)
    console.log('lintian is not installed, so the packages were not looked at: apt-get install lintian');
  process.exitCode = lintian.error ? 0 : (lintian.status ?? 1);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
