/** What `make npm` makes: installed by npm into a folder of its own, the guide's commands lead to a syncing branch. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import t from 'tap';
import { buildPackages } from '../../deploy/packages/build.ts';
import { run } from '../../deploy/rig/run.ts';
import { tryPackaged } from '../support/world/packaged.ts';

const ROOT = resolve(import.meta.dirname, '../..');

await t.test('npm install -g of the packages gives a syncing branch', async t => {
  const folder = t.testdir({});
  const packages = await buildPackages({ root: ROOT, output: join(folder, 'dist'), format: 'npm' });
  // Nothing is to be fetched: all that a program needs is inside.
  const args = ['install', '--global', '--offline', '--no-audit', '--no-fund', '--prefix', folder, ...packages];
  const { status, output, errors } = await run('npm', args, { environment: { NODE_OPTIONS: undefined } });
  t.equal(status, 0, output + errors);
  const installed = join(folder, 'lib/node_modules/tributary-agent');
  t.match(readFileSync(join(installed, 'systemd/tributary-agent.service'), 'utf8'), /^ExecStart=\/usr\/bin\/env /m);
  for (const file of ['README.md', 'copyright', 'agent.yaml', 'docs/branch.md'])
    t.ok(existsSync(join(installed, file)), file);
  const environment = { PATH: `${join(folder, 'bin')}:${dirname(process.execPath)}:/usr/bin:/bin` };
  await tryPackaged(t, { agent: ['tributary-agent'], applier: ['tributary-applier'], environment });
});
