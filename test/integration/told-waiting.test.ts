/** What applying waits for is told wherever people look, with its code, its reason and its cure; and no longer than it lasts. */
import { join } from 'node:path';
import t from 'tap';
import { readEnrolment } from '../../shared/config/enrolment.ts';
import { HandMadeBranch, SALES } from '../support/hand-made/branch.ts';
import type { MadeBatch } from '../support/hand-made/branch.ts';
import { until } from '../support/until.ts';
import { createWorld, expectSuccess } from '../support/world/world.ts';

const world = await createWorld(t);
const id = `much-${world.id}`;
const SHOWN = /waiting for .*tried \d+ times: BRANCH_THROTTLED: .*\n +→ .*quotas\.unpackedPerHour/;
const LISTED = new RegExp(`^${id} .*BRANCH_THROTTLED: `, 'm');

/** Some kilobytes that become 6 MiB of rows. */
function expanded(branch: HandMadeBranch): MadeBatch {
  const rows = 200;
  const columns = [SALES.columns[0]!, { name: 'note', type: 'text' }];
  const values = [[...Array(rows).keys()], Array<string>(rows).fill('x'.repeat(30_000))];
  const tables = [{ ...SALES, name: `much_${world.id}`, columns }];
  return branch.make([{ op: 'upsert', table: 0, rows, values }], { tables });
}

const printed = async (...command: string[]): Promise<string> => expectSuccess(await world.applierCli(command)).stdout;
const json = async (...command: string[]): Promise<unknown> => JSON.parse(await printed(...command, '--json'));

void t.test('a branch that waits says so everywhere', async t => {
  const applier = await world.startApplier({ config: { quotas: { unpackedPerHour: '1MiB' } } });
  const file = join(world.directory, 'much.enrolment');
  expectSuccess(await world.applierCli(['branch', 'add', id, '--out', file]));
  const branch = await HandMadeBranch.connect(await readEnrolment(file));
  t.teardown(() => branch.close());
  await branch.hello();
  await branch.send(expanded(branch));
  let list = '';
  await until(
    'the first to be applied',
    async () => (list = await printed('branch', 'show', id)).includes('applied 1,'),
    {
      detail: () => `${list}\n${applier.logTail()}`,
    },
  );
  t.notMatch(list, 'BRANCH_THROTTLED');
  await branch.send(expanded(branch));
  let status = '';
  await until('it to wait', async () => SHOWN.test((status = await printed('status'))), {
    detail: () => `${status}\n${applier.logTail()}`,
  });

  await t.test('status, branch list and branch show tell it, in text and in JSON', async t => {
    t.match(await printed('branch', 'list'), LISTED);
    t.match(await printed('branch', 'show', id), SHOWN);
    const waiting = {
      code: 'BRANCH_THROTTLED',
      reason: /used up its quota of 1 MiB/,
      hint: /unpackedPerHour/,
      tries: Number,
    };
    t.match(await json('status'), { branches: [{ branch: id, waiting, halted: null }] });
    t.match(await json('branch', 'show', id), { waiting, state: /incomplete|behind|waiting/, halt: null });
    t.match(await json('branch', 'list'), [{ branch: id, waiting }]);
    t.match(await applier.get('/api/status'), { branches: [{ branch: id, waiting, halted: null }] });
  });

  await t.test('the metrics tell since when, by its code', async t => {
    const metrics = String(await applier.get('/metrics/branches'));
    const found = new RegExp(
      `tributary_branch_waiting_since_timestamp_seconds{branch="${id}",code="BRANCH_THROTTLED"} (\\d+)`,
    ).exec(metrics);
    t.ok(Number(found?.[1]) > 1_700_000_000, metrics.slice(0, 2_000));
    t.match(metrics, new RegExp(`tributary_apply_errors_total{branch="${id}",code="BRANCH_THROTTLED"} [1-9]`));
  });

  await t.test('a larger quota lets the branch go on', async t => {
    await applier.stop();
    const wider = await world.startApplier({ config: { quotas: { unpackedPerHour: '1GiB' } } });
    const shown = (): Promise<unknown> => json('branch', 'show', id);
    await until('the second to be applied', async () => ((await shown()) as { applied: number }).applied === 2);
    t.match(await shown(), { waiting: null, halt: null });
    await printed('check');
    await wider.stop();
  });

  await t.test('branch list works without a running applier, and then tells of no waiting', async t => {
    await applier.stop();
    const list = await printed('branch', 'list');
    t.match(list, id);
    t.notMatch(list, 'BRANCH_THROTTLED');
  });
});
