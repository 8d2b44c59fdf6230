/**
 * Every query of every alert rule and every panel, asked of a real Prometheus that has scraped real programs: one
 * branch that works, and one that is halted, so that alerts have something to show.
 */
import { join } from 'node:path';
import type { RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import { findPrograms } from '../../deploy/rig/install/programs.ts';
import { PrometheusServer } from '../../deploy/rig/prometheus-server.ts';
import { run } from '../../deploy/rig/run.ts';
import { sharedServers } from '../../deploy/rig/shared-servers.ts';
import type { DatabaseAddress } from '../../deploy/rig/shared-servers.ts';
import { metricsTable } from '../../shared/process/metrics.ts';
import {
  alertRules,
  dashboards,
  DEPLOY,
  filledIn,
  scrapeConfig,
  withoutComparisons,
} from '../support/world/monitoring.ts';
import { until } from '../support/until.ts';
import { createWorld } from '../support/world/world.ts';
import type { Branch } from '../support/world/world.ts';
import { connectTo } from '../support/world/database.ts';

/** Metrics without a sample as long as nothing fails. */
const OF_FAULTS_ONLY = [
  'tributary_capture_errors_total',
  'tributary_branch_waiting_since_timestamp_seconds',
  'tributary_branch_refused_messages_total',
];
/** Rules without data while no branch waits, and while the branches are scraped; promtool's cases try them. */
const OF_FAULTS = /tributary_branch_waiting_since|unless on \(\)/;

await t.test('promtool finds the rules, their tests and the scrape example right', async t => {
  const programs = await findPrograms('prometheus');
  const folder = join(DEPLOY, 'prometheus');
  for (const args of [
    ['check', 'rules', '--lint-fatal', join(folder, 'tributary.rules.yaml')],
    ['test', 'rules', join(folder, 'tributary.test.yaml')],
    ['check', 'config', join(folder, 'prometheus.yaml')],
  ]) {
    const { status, output, errors } = await run(programs.program('promtool'), args, { timeoutMs: 120_000 });
    t.equal(status, 0, `promtool ${args.join(' ')}\n${output}${errors}`);
  }
});

await t.test('every rule and every panel finds data in a Prometheus that scrapes running programs', async t => {
  const world = await createWorld(t);
  // A server's own certificate carries no name.
  const tlsTo = async (server: DatabaseAddress) => ({ ca: await authorityOf(server), verifyName: false });
  const applier = await world.startApplier({
    config: { target: { tls: await tlsTo(world.headOffice) }, onTableTrouble: 'halt' },
  });
  const options = {
    config: { source: { tls: await tlsTo(sharedServers().branchMysql) }, spool: { maxBytes: '64MiB' } },
    setup: [
      'CREATE TABLE sale (id INT PRIMARY KEY AUTO_INCREMENT, item VARCHAR(20))',
      "INSERT INTO sale VALUES (1, 'x')",
    ],
  };
  const paris = await world.addBranch('paris', options);
  const lyon = await world.addBranch('lyon', options);
  for (const branch of [paris, lyon]) await branch.startAgent();
  for (const branch of [paris, lyon]) await world.waitUntilEqual(branch);

  const prometheus = await PrometheusServer.start(await scrapeConfig(world, applier, [paris, lyon]));
  t.teardown(() => prometheus.stop());
  const seen = async (expression: string): Promise<boolean> => (await prometheus.query(expression)).length > 0;
  await applier.waitUntil('both branches in Prometheus', () => seen('count(tributary_branch_halted) == 2'));

  // A branch that halts before it was complete once has no such time.
  const complete = 'count(tributary_branch_complete_timestamp_seconds > 0) == 2';
  await applier.waitUntil('both branches complete', () => seen(complete));

  // Rates need movement, and an alert something to be wrong: a type that no column at the head office can hold with the others.
  await lyon.db.query('CREATE TABLE measure (id INT PRIMARY KEY, v DOUBLE)');
  await lyon.db.query('INSERT INTO measure VALUES (1, 1.5)');
  await lyon.db.query('ALTER TABLE measure MODIFY v JSON');
  await lyon.db.query(`INSERT INTO measure VALUES (2, '{"a": 1}')`);
  await applier.waitUntil('the halt as an alert', () => seen('ALERTS{alertname="TributaryBranchHalted"}'));

  const questions = new Map<string, string>();
  for (const { alert, expr } of alertRules()) {
    if (!OF_FAULTS.test(expr)) questions.set(withoutComparisons(expr), `rule ${alert}`);
  }
  for (const dashboard of dashboards()) {
    const filled = (expr: string): string => filledIn(expr, { branch: lyon.id, __rate_interval: '1m' });
    for (const { name, expr } of dashboard.annotations.list) questions.set(filled(expr), `${dashboard.title}, ${name}`);
    for (const { name, query } of dashboard.templating.list) {
      const [, metric] = typeof query === 'string' ? [] : (/^label_values\((\w+), \w+\)$/.exec(query.query) ?? []);
      if (metric !== undefined) questions.set(metric, `${dashboard.title}, the choice of ${name}`);
    }
    for (const { title, targets } of dashboard.panels) {
      for (const { expr } of targets ?? []) {
        if (OF_FAULTS.test(expr)) continue;
        questions.set(filled(expr), `${dashboard.title}, ${title}`);
      }
    }
  }
  for (const [, name = '', kind] of metricsTable().matchAll(/^\| `(tributary_\w+)[^|]*\|[^|]*\| (\w+)/gm)) {
    if (!OF_FAULTS_ONLY.includes(name))
      questions.set(kind === 'histogram' ? `${name}_count` : name, 'the table of metrics');
  }
  await askUntilAnswered(questions, prometheus, paris);
  t.pass('all have been asked');

  await t.test('the alert that should fire does, and those of trouble that is not there do not', async t => {
    const firing = await prometheus.query('ALERTS{alertstate="firing"}');
    t.same(
      firing.map(({ labels: { alertname, branch, severity } }) => ({ alertname, branch, severity })),
      [{ alertname: 'TributaryBranchHalted', branch: lyon.id, severity: 'critical' }],
    );
  });
});

/** Asks until each question, an expression and where it stands, has had an answer with a number; writes meanwhile, so that rates move. */
async function askUntilAnswered(
  questions: Map<string, string>,
  prometheus: PrometheusServer,
  busy: Branch,
): Promise<void> {
  const ask = async (): Promise<boolean> => {
    await busy.db.query("INSERT INTO sale (item) VALUES ('sold')");
    for (const expression of [...questions.keys()]) {
      const samples = await prometheus.query(expression);
      if (samples.some(({ value }) => !Number.isNaN(value))) questions.delete(expression);
    }
    return questions.size === 0;
  };
  await until('numbers', ask, { everyMs: 500, detail: () => [...questions].join('\n') });
}

/** The file with the authority that a MySQL server has made for itself. */
async function authorityOf(server: DatabaseAddress): Promise<string> {
  const connection = await connectTo(server);
  try {
    const [rows] = await connection.query<RowDataPacket[]>('SELECT @@datadir AS folder, @@ssl_ca AS file');
    return join(String(rows[0]?.['folder']), String(rows[0]?.['file']));
  } finally {
    connection.destroy();
  }
}
