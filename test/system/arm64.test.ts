/** The packages for arm64, unpacked and run by qemu-user: their programs bring a branch and the head office to equality. */
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import t from 'tap';
import { buildPackages } from '../../deploy/packages/build.ts';
import { findPrograms } from '../../deploy/rig/install/programs.ts';
import { run } from '../../deploy/rig/run.ts';
import { nodeSettings, SMALL_HEAP } from '../../shared/process/node-settings.ts';
import { tryPackaged } from '../support/world/packaged.ts';

const ROOT = resolve(import.meta.dirname, '../..');

t.setTimeout(15 * 60_000);

await t.test('the programs for arm64 make a syncing branch', async t => {
  const folder = t.testdir({});
  const root = join(folder, 'root');
  const options = { root: ROOT, output: join(folder, 'dist'), architectures: ['arm64'], quick: true } as const;
  for (const file of await buildPackages(options)) {
    t.match((await run('dpkg-deb', ['--field', file, 'Architecture'])).output, 'arm64');
    t.equal((await run('dpkg-deb', ['-x', file, root])).status, 0);
  }
  const qemu = await findPrograms('qemu', line => t.comment(line));
  const command = (program: 'agent' | 'applier', more: readonly string[]): string[] => {
    const library = join(root, `usr/lib/tributary-${program}`);
    // A program replaces itself by one with these flags, which qemu-user cannot do: it has them from the beginning.
    const { flags } = nodeSettings({}, homedir(), more);
    return [qemu.program('qemu-aarch64-static'), join(library, 'node'), ...flags, join(library, program, 'main.js')];
  };
  const environment = { QEMU_LD_PREFIX: '/usr/aarch64-linux-gnu', ...qemu.environment };
  const [emulator = '', node = ''] = command('agent', []);
  const { output, errors } = await run(emulator, [node, '-p', 'process.arch'], { environment });
  t.equal(output.trim(), 'arm64', errors);
  await tryPackaged(t, { agent: command('agent', SMALL_HEAP), applier: command('applier', []), environment });
});
