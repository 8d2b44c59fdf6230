/** What the programs say of themselves to people, monitors and scripts, taken from running ones. */
import t from 'tap';
import type { Test } from 'tap';
import type { Product } from '../../deploy/rig/daemon.ts';
import { createWorld } from '../support/world/world.ts';

/** DESIGN.md promises these to whoever has a dashboard. */
const AGENT_METRICS = [
  'tributary_capture_lag_seconds',
  'tributary_capture_rows_total{table="SCHEMA.sale",op="upsert"}',
  'tributary_spool_batches',
  'tributary_spool_bytes',
  'tributary_spool_time_until_full_seconds',
  'tributary_link_up',
  'tributary_link_window_open',
  'tributary_link_sent_bytes_total',
  'tributary_build_info{',
];
const BRANCH_METRICS = [
  'tributary_apply_rows_total{branch="BRANCH",op="upsert"}',
  'tributary_apply_batches_total{branch="BRANCH"}',
  'tributary_branch_lag_seconds{branch="BRANCH"}',
  'tributary_branch_complete_timestamp_seconds{branch="BRANCH"}',
  'tributary_branch_last_seen_timestamp_seconds{branch="BRANCH"}',
  'tributary_branch_backlog_batches{branch="BRANCH"}',
  'tributary_branch_halted{branch="BRANCH"}',
  'tributary_branch_gaps_total{branch="BRANCH"}',
];

/** The value of a metric; NaN if it is not there. */
function valueOf(text: string, name: string): number {
  const line = text.split('\n').find(each => each.startsWith(name) && !each.startsWith('#'));
  return line === undefined ? NaN : Number(line.slice(line.lastIndexOf(' ') + 1));
}

async function metricsOf(product: Product, path = '/metrics'): Promise<string> {
  return String(await product.get(path));
}

void t.test('running programs tell what they do', async t => {
  // In whole seconds, as the metric tells it.
  const begun = Math.floor(Date.now() / 1000);
  const world = await createWorld(t);
  const applier = await world.startApplier();
  const branch = await world.addBranch('tells', { setup: ['CREATE TABLE sale (id INT PRIMARY KEY)'] });
  const agent = await branch.startAgent();
  await branch.db.query('INSERT INTO sale VALUES (1), (2), (3)');
  await branch.db.query('DELETE FROM sale WHERE id = 2');
  await world.waitUntilEqual(branch);
  const named = (name: string): string => name.replace('SCHEMA', branch.schema).replace('BRANCH', branch.id);

  await t.test('sync --wait returns when everything is at the head office', async t => {
    await branch.db.query('INSERT INTO sale VALUES (4)');
    await agent.waitUntil('the row in the spool', async () => {
      const rows = valueOf(
        await metricsOf(agent),
        named('tributary_capture_rows_total{table="SCHEMA.sale",op="upsert"}'),
      );
      return rows >= 4;
    });
    const result = await branch.cli(['sync', '--wait']);
    t.equal(result.code, 0, result.stderr);
    t.ok((await world.compare(branch)).equal, 'and then it is');
  });

  await t.test('/metrics holds what is promised, with numbers', async t => {
    const check = async (t: Test, product: Product, names: readonly string[], path?: string): Promise<string> => {
      const text = await metricsOf(product, path);
      for (const name of names) t.match(valueOf(text, named(name)), /^(\d|NaN$|Infinity$)/, named(name));
      return text;
    };
    const ofAgent = await check(t, agent, AGENT_METRICS);
    t.ok(valueOf(ofAgent, 'tributary_capture_rows_total') >= 4);
    t.equal(valueOf(ofAgent, 'tributary_link_up'), 1);
    t.equal(valueOf(ofAgent, 'tributary_spool_batches'), 0);
    t.ok(valueOf(ofAgent, 'tributary_link_sent_bytes_total') > 0);
    // A small fleet has it all at one place.
    await check(t, applier, ['tributary_build_info{', ...BRANCH_METRICS]);
    const ofApplier = await check(t, applier, BRANCH_METRICS, '/metrics/branches');
    t.ok(valueOf(ofApplier, 'tributary_apply_batches_total') > 0);
    t.equal(valueOf(ofApplier, 'tributary_branch_halted{'), 0);
    const seen = valueOf(ofApplier, 'tributary_branch_last_seen_timestamp_seconds{');
    t.ok(seen >= begun && seen <= Date.now() / 1000, `last seen at ${seen}, begun at ${begun}`);
  });

  await t.test('/metrics/branches holds what the branch last said', async t => {
    await applier.waitUntil('the branch’s own numbers', async () =>
      (await metricsOf(applier, '/metrics/branches')).includes(`branch="${branch.id}"`),
    );
    t.match(await metricsOf(applier, '/metrics/branches'), /tributary_\w+\{branch="tells-[^}]*\} \S+/);
  });

  await t.test('/healthz, /readyz and /api/status answer', async t => {
    for (const product of [agent, applier]) {
      t.match(await product.get('/healthz'), { ok: true }, product.program);
      t.match(await product.get('/readyz'), { ready: true, reasons: [] });
      t.match(await product.get('/api/status'), { program: `tributary-${product.program}`, version: /^\d/ });
    }
  });

  await t.test('status and branch list print JSON for scripts and words for people', async t => {
    const status = await branch.cli(['status', '--json']);
    t.match(JSON.parse(status.stdout), {
      branch: branch.id,
      state: 'capturing',
      error: null,
      spool: { waitingBatches: 0 },
      link: { up: true, error: null },
      snapshot: { tables: [{ name: 'sale', state: 'done' }] },
    });
    t.match((await branch.cli(['status'])).stdout, new RegExp(`branch ${branch.id}: capturing`));
    const office = JSON.parse((await world.applierCli(['status', '--json'])).stdout) as object;
    t.match(office, { target: { up: true }, broker: { up: true }, branches: [{ branch: branch.id, halted: null }] });
    const list = JSON.parse((await world.applierCli(['branch', 'list', '--json'])).stdout) as unknown;
    t.match(list, [{ branch: branch.id, state: /current|behind/, halt: null }]);
    const lines = (await world.applierCli(['branch', 'list'])).stdout;
    t.match(lines, new RegExp(`^BRANCH +STATE .*\\n${branch.id} +(current|behind) +\\S.* ago|just now`));
    t.match((await world.applierCli(['branch', 'show', branch.id])).stdout, new RegExp(`${branch.schema}\\.sale`));
    t.equal((await world.applierCli(['branch', 'show', 'nobody'])).code, 1);
  });

  await t.test('a branch that sells nothing is complete as of now, not as of its last sale', async t => {
    const complete = async (): Promise<number> =>
      valueOf(await metricsOf(applier, '/metrics/branches'), 'tributary_branch_complete_timestamp_seconds{');
    const before = await complete();
    await applier.waitUntil('a later time', async () => (await complete()) > before + 1);
    t.pass('it moves without a change');
  });

  await t.test('a head office without its branch says so; with it, no more', async () => {
    await agent.stop();
    await applier.stop();
    await branch.db.query('INSERT INTO sale VALUES (5)');
    await branch.startAgent();
    await agent.waitUntil(
      'a waiting batch',
      async () => valueOf(await metricsOf(agent), 'tributary_spool_batches') > 0,
    );
    await world.products[0]?.start();
    await world.waitUntilEqual(branch);
    await agent.waitUntil('none', async () => valueOf(await metricsOf(agent), 'tributary_spool_batches') === 0);
  });

  await t.test('outside its windows a sync carries what was captured a moment ago too', async t => {
    const away = String((new Date().getUTCHours() + 12) % 24).padStart(2, '0');
    const quiet = await world.addBranch('quiet', {
      setup: ['CREATE TABLE sale (id INT PRIMARY KEY)'],
      config: { link: { windows: [`${away}:00-${away}:01`], timeZone: 'UTC' } },
    });
    const its = await quiet.startAgent();
    const rows = `tributary_capture_rows_total{table="${quiet.schema}.sale",op="upsert"}`;
    for (let id = 1; id <= 3; id += 1) {
      await quiet.db.query('INSERT INTO sale VALUES (?)', [id]);
      await its.waitUntil('the row was captured', async () => valueOf(await metricsOf(its), rows) >= id);
      // It is in the open batch now, and nothing waits in the spool.
      t.equal((await quiet.cli(['sync', '--wait'])).code, 0);
      t.ok((await world.compare(quiet)).equal, `with row ${id}`);
    }
  });
});
