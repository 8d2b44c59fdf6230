/** What `make npm` makes: the guides' commands install it into a folder of its own, and lead to a syncing branch. */
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import t from 'tap';
import { buildPackages } from '../../deploy/packages/build.ts';
import { blocksOf, GuideShell } from '../support/documents/guides.ts';
import { tryPackaged } from '../support/world/packaged.ts';

const ROOT = resolve(import.meta.dirname, '../..');

await t.test('npm install -g of the packages gives a syncing branch', async t => {
  const folder = t.testdir({});
  const dist = join(folder, 'dist');
  await buildPackages({ root: ROOT, output: dist, format: 'npm' });
  const units = join(folder, 'units');
  mkdirSync(units);
  for (const [guide, name, program] of [
    ['branch.md', 'tributary-agent', 'agent'],
    ['head-office.md', 'tributary-applier', 'applier'],
  ] as const) {
    const shell = new GuideShell({
      folder: join(folder, program),
      names: [
        ['./tributary-', `${dist}/tributary-`],
        // The user is the machine's, and so is where its configuration lies.
        [` -g ${name}`, ''],
        ['/etc/systemd/system', units],
        [`/etc/${name}`, join(folder, program)],
      ],
      programs: { 'systemd-sysusers': 'test -f' },
      // Nothing is to be fetched: all that a program needs is inside.
      environment: { npm_config_prefix: folder, npm_config_offline: 'true' },
    });
    const block = blocksOf(guide).find(({ kind }) => kind === 'npm');
    const { status, output, errors } = await shell.run(block ?? { language: 'sh', text: 'false' });
    t.equal(status, 0, `${guide}: ${output}${errors}`);
    t.match(
      readFileSync(join(units, `${name}.service`), 'utf8'),
      new RegExp(`^ExecStart=/usr/bin/env ${name} run$`, 'm'),
    );
    t.ok(existsSync(join(folder, program, `${program}.yaml`)), 'the example is where the program looks for it');
    for (const file of ['README.md', 'copyright', `docs/${guide}`])
      t.ok(existsSync(join(folder, 'lib/node_modules', name, file)), file);
  }
  const environment = { PATH: `${join(folder, 'bin')}:${dirname(process.execPath)}:/usr/bin:/bin` };
  await tryPackaged(t, { agent: ['tributary-agent'], applier: ['tributary-applier'], environment });
});
