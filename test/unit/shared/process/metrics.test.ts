import { Counter, Gauge, Registry } from 'prom-client';
import t from 'tap';
import { BRANCHES_IN_METRICS } from '../../../../applier/applier.ts';
import { makeReport } from '../../../support/hand-made/messages.ts';
import {
  agentMetrics,
  applierMetrics,
  branchMetrics,
  metricsTable,
  renderBranchReports,
  REPORT_STALE_MS,
} from '../../../../shared/process/metrics.ts';

/** The names that DESIGN.md promises to others. */
const PROMISED = {
  agent: [
    'tributary_capture_lag_seconds',
    'tributary_capture_rows_total{table,op}',
    'tributary_spool_batches',
    'tributary_spool_bytes',
    'tributary_spool_time_until_full_seconds',
    'tributary_link_up',
    'tributary_link_window_open',
    'tributary_link_sent_bytes_total',
  ],
  '`/metrics/branches`': [
    'tributary_apply_rows_total{branch,op}',
    'tributary_apply_batches_total{branch}',
    'tributary_branch_lag_seconds{branch}',
    'tributary_branch_complete_timestamp_seconds{branch}',
    'tributary_branch_last_seen_timestamp_seconds{branch}',
    'tributary_branch_backlog_batches{branch}',
    'tributary_branch_halted{branch}',
    'tributary_branch_gaps_total{branch}',
  ],
  both: ['tributary_build_info'],
};

void t.test('every promised metric is in the table, under its program and with its labels', t => {
  const table = metricsTable();
  for (const [program, names] of Object.entries(PROMISED)) {
    for (const name of names) {
      const shown = name.includes('{') ? `\`${name}\`` : `\`${name}`;
      t.ok(
        table.split('\n').some(line => line.startsWith(`| ${shown}`) && line.includes(`| ${program} |`)),
        name,
      );
    }
  }
  t.end();
});

void t.test('names follow the rules: prefix, _total for counters only, base units', t => {
  for (const line of metricsTable().split('\n').slice(2)) {
    const [, name = '', , kind = ''] = line.split('|').map(cell => cell.trim().replace(/[`]|\{.*\}/g, ''));
    t.match(name, /^tributary_[a-z][a-z_]*[a-z]$/);
    t.equal(name.endsWith('_total'), kind === 'counter', `${name} is a ${kind}`);
    t.notMatch(name, /_(ms|milliseconds|minutes|kb|mb)(_|$)/);
  }
  t.end();
});

void t.test('both programs expose what the table says, and the process’s own', async t => {
  const agent = new Registry();
  const metrics = agentMetrics(agent, '0.1.0');
  metrics.captureRows.inc({ table: 'shop.sales', op: 'insert' }, 3);
  const text = await agent.metrics();
  t.match(text, 'tributary_capture_rows_total{table="shop.sales",op="insert"} 3');
  t.match(text, /tributary_build_info\{program="tributary-agent",version="0\.1\.0",node="v24[^"]*"\} 1/);
  t.match(text, /process_resident_memory_bytes \d+/);
  const applier = new Registry();
  applierMetrics(applier, '0.1.0');
  t.notMatch(await applier.metrics(), 'tributary_branch_', 'nothing that grows with the number of branches');
  const branches = new Registry();
  branchMetrics(branches).branchHalted.set({ branch: 'paris' }, 1);
  t.match(await branches.metrics(), 'tributary_branch_halted{branch="paris"} 1');
});

void t.test('however many branches there are, /metrics stays below 300 kB', async t => {
  const [own, branches] = [new Registry(), new Registry()];
  applierMetrics(own, '0.1.0');
  branchMetrics(branches);
  // A larger fleet is in /metrics/branches alone.
  for (let n = 0; n < BRANCHES_IN_METRICS; n += 1) {
    for (const [, name = '', labels = 'branch'] of metricsTable().matchAll(/`(tributary_\w+)\{([\w,]+)\}`/g)) {
      const metric = branches.getSingleMetric(name);
      const values = Object.fromEntries(labels.split(',').map(label => [label, `${label}-that-is-long-${n}`]));
      if (metric instanceof Gauge || metric instanceof Counter) metric.inc(values, 1_700_000_000.123);
    }
  }
  const bytes = Buffer.byteLength(`${await own.metrics()}${await branches.metrics()}`);
  t.ok(bytes < 300_000, `${bytes} bytes`);
  t.ok(bytes > 100_000, 'of all branches');
});

void t.test('branches’ reports are labelled, say what is not known, and are dropped when stale', async t => {
  const report = makeReport({
    spoolBatches: 7,
    outlook: { binlogSecondsLeft: 3600, diskFreeBytes: 5_000_000, certificateExpiresAt: null },
    snapshot: { tablesDone: 1, tables: 3, rows: 10, secondsLeft: null },
    error: 'boom',
  });
  const text = await renderBranchReports(
    [
      { branch: 'paris', report, receivedAtMs: 1_000_000 },
      { branch: 'nice', report: { ...report, state: 'x"} 1' }, receivedAtMs: 1_000_000 },
      { branch: 'lyon', report, receivedAtMs: 1_000_000 - REPORT_STALE_MS - 1 },
    ],
    1_000_000,
  );
  t.match(text, 'tributary_spool_batches{branch="paris"} 7');
  t.match(text, 'tributary_spool_time_until_full_seconds{branch="paris"} +Inf');
  t.match(text, /tributary_capture_lag_seconds\{branch="paris"\} nan/i);
  t.match(text, 'tributary_snapshot_tables{branch="paris",state="waiting"} 2');
  t.match(text, 'tributary_branch_failing{branch="paris"} 1');
  t.match(text, 'tributary_agent_state{branch="paris",state="capturing"} 1');
  t.match(text, 'tributary_agent_state{branch="paris",state="stopped"} 0');
  t.match(text, 'tributary_agent_state{branch="nice",state="other"} 1', 'what a branch calls its state makes no label');
  t.match(text, 'tributary_capture_binlog_time_left_seconds{branch="paris"} 3600');
  t.match(text, 'tributary_spool_disk_free_bytes{branch="paris"} 5000000');
  t.notMatch(text, 'lyon');
});
