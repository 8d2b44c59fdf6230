/**
 * Every metric in one table: name, kind, unit, labels and help. README's table is rendered from it and the programs
 * get typed prom-client objects from it, so a metric exists here or nowhere.
 *
 * Rules: base units (seconds, bytes); a time that people alert on is a timestamp as well as a lag; what is not known
 * is NaN, what is not in sight is +Inf; labels are bounded (tables, branches, operations, codes).
 */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import { certificateExpiries } from '../config/certificates.ts';
import type { AgentReport } from '../protocol.ts';

interface Spec<K extends 'counter' | 'gauge' | 'histogram', L extends string> {
  readonly kind: K;
  readonly name: string;
  readonly unit: string;
  readonly help: string;
  readonly labels: readonly L[];
}
type AnySpec = Spec<'counter' | 'gauge' | 'histogram', string>;
type Instance<S> =
  S extends Spec<'counter', infer L>
    ? Counter<L>
    : S extends Spec<'gauge', infer L>
      ? Gauge<L>
      : S extends Spec<'histogram', infer L>
        ? Histogram<L>
        : never;
type Instances<T> = { readonly [K in keyof T]: Instance<T[K]> };

function counter<L extends string = never>(name: string, unit: string, help: string, labels: readonly L[] = []) {
  return { kind: 'counter', name, unit, help, labels } as const;
}

function gauge<L extends string = never>(name: string, unit: string, help: string, labels: readonly L[] = []) {
  return { kind: 'gauge', name, unit, help, labels } as const;
}

function histogram<L extends string = never>(name: string, unit: string, help: string, labels: readonly L[] = []) {
  return { kind: 'histogram', name, unit, help, labels } as const;
}

const COMMON = {
  buildInfo: gauge('tributary_build_info', '1', 'Always 1; labels say what runs.', ['program', 'version', 'node']),
  certificateExpiry: gauge(
    'tributary_certificate_expiry_timestamp_seconds',
    'Unix time',
    'When a certificate runs out: of the server that a link leads to, or of our own files.',
    ['link', 'of'],
  ),
};

const AGENT = {
  agentState: gauge('tributary_agent_state', '0 or 1', '1 for the state that the agent is in.', ['state']),
  captureRunning: gauge('tributary_capture_running', '0 or 1', 'Whether the binlog is being read.'),
  captureLagSeconds: gauge(
    'tributary_capture_lag_seconds',
    'seconds',
    'How far capture is behind the branch database.',
  ),
  capturedThroughSeconds: gauge(
    'tributary_captured_through_timestamp_seconds',
    'Unix time',
    'All that was committed until then is in the spool.',
  ),
  captureRows: counter('tributary_capture_rows_total', 'rows', 'Changed rows read from the binlog.', ['table', 'op']),
  captureTransactions: counter('tributary_capture_transactions_total', 'transactions', 'Transactions read.'),
  captureBytes: counter('tributary_capture_bytes_total', 'bytes', 'Binlog read.'),
  captureReconnects: counter(
    'tributary_capture_reconnects_total',
    'times',
    'Binlog connections opened after the first.',
  ),
  captureBinlogLeft: gauge(
    'tributary_capture_binlog_time_left_seconds',
    'seconds',
    'Until the branch database may purge binlogs that capture has not read, if it reads no more; NaN: no limit, or not known.',
  ),
  captureErrors: counter('tributary_capture_errors_total', 'errors', 'Faults of capture.', ['code']),

  spoolBatches: gauge('tributary_spool_batches', 'batches', 'Batches that the head office has not yet received.'),
  spoolBytes: gauge('tributary_spool_bytes', 'bytes', 'Bytes of those batches.'),
  spoolTotalBytes: gauge('tributary_spool_total_bytes', 'bytes', 'All that the spool holds, kept batches included.'),
  spoolCapacityBytes: gauge('tributary_spool_capacity_bytes', 'bytes', 'Most that the spool may hold.'),
  spoolOldestSeconds: gauge('tributary_spool_oldest_waiting_seconds', 'seconds', 'Age of the oldest waiting batch.'),
  spoolFull: gauge('tributary_spool_full', '0 or 1', 'Whether capture waits for room.'),
  spoolSecondsUntilFull: gauge(
    'tributary_spool_time_until_full_seconds',
    'seconds',
    'Until spool, disk or binlog retention runs out at today’s rate; +Inf: not in sight.',
  ),
  spoolDiskFree: gauge('tributary_spool_disk_free_bytes', 'bytes', 'Free on the disk that the spool is on.'),
  spoolDiskFloor: gauge('tributary_spool_disk_floor_bytes', 'bytes', 'What capture leaves free (spool.minFree).'),
  spoolAppended: counter('tributary_spool_appended_batches_total', 'batches', 'Batches written to the spool.'),

  linkUp: gauge('tributary_link_up', '0 or 1', 'Whether the broker is connected.'),
  linkWindowOpen: gauge('tributary_link_window_open', '0 or 1', 'Whether the link may be used now.'),
  linkSentBytes: counter('tributary_link_sent_bytes_total', 'bytes', 'Bodies handed to the broker, repeats included.'),
  linkSentBatches: counter(
    'tributary_link_sent_batches_total',
    'batches',
    'Batches handed to the broker, repeats included.',
  ),
  linkUnconfirmedBytes: gauge('tributary_link_unconfirmed_bytes', 'bytes', 'Sent and not yet confirmed by the broker.'),
  linkReconnects: counter('tributary_link_reconnects_total', 'times', 'Broker connections opened after the first.'),
  linkRewinds: counter(
    'tributary_link_rewinds_total',
    'times',
    'Times that sending went back to the lowest unconfirmed.',
  ),
  linkAnswerSeconds: gauge(
    'tributary_link_last_answer_timestamp_seconds',
    'Unix time',
    'Last answer of the head office.',
  ),

  streamHead: gauge('tributary_stream_head_seq', 'seq', 'Last batch in the spool.'),
  streamConfirmed: gauge('tributary_stream_confirmed_seq', 'seq', 'Last batch that the broker holds.'),
  streamReceived: gauge('tributary_stream_received_seq', 'seq', 'Last batch that the head office has committed.'),
  streamApplied: gauge('tributary_stream_applied_seq', 'seq', 'Last batch in the head office’s tables.'),
  streamEpochs: counter('tributary_stream_epochs_total', 'epochs', 'New epochs begun by this process.', ['reason']),

  snapshotRunning: gauge('tributary_snapshot_running', '0 or 1', 'Whether existing rows are being copied.'),
  snapshotTables: gauge('tributary_snapshot_tables', 'tables', 'Tables of the present snapshot.', ['state']),
  snapshotRows: counter('tributary_snapshot_rows_total', 'rows', 'Rows copied by snapshots.'),
};

const APPLIER = {
  applyRows: counter('tributary_apply_rows_total', 'rows', 'Rows written at the head office.', ['branch', 'op']),
  applyBatches: counter('tributary_apply_batches_total', 'batches', 'Batches applied.', ['branch']),
  applyBytes: counter('tributary_apply_bytes_total', 'bytes', 'Compressed bodies applied.', ['branch']),
  applyErrors: counter('tributary_apply_errors_total', 'errors', 'Faults of applying, retried ones included.', [
    'branch',
    'code',
  ]),
  applySeconds: histogram('tributary_apply_duration_seconds', 'seconds', 'One transaction at the head office.'),

  branches: gauge('tributary_branches', 'branches', 'Branches by state.', ['state']),
  branchLagSeconds: gauge(
    'tributary_branch_lag_seconds',
    'seconds',
    'Now minus the time that the head office is complete as of.',
    ['branch'],
  ),
  branchCompleteSeconds: gauge(
    'tributary_branch_complete_timestamp_seconds',
    'Unix time',
    'The head office holds all that the branch had committed then.',
    ['branch'],
  ),
  branchLastSeenSeconds: gauge(
    'tributary_branch_last_seen_timestamp_seconds',
    'Unix time',
    'Last hello or batch of the branch.',
    ['branch'],
  ),
  branchBacklogBatches: gauge(
    'tributary_branch_backlog_batches',
    'batches',
    'Batches that the branch has and the head office has not applied.',
    ['branch'],
  ),
  branchInboxBatches: gauge(
    'tributary_branch_inbox_batches',
    'batches',
    'Batches received and not yet applied: parts of a transaction whose last is to come.',
    ['branch'],
  ),
  branchSpoolFullSeconds: gauge(
    'tributary_branch_spool_full_timestamp_seconds',
    'Unix time',
    'When the branch’s spool or disk will be full, as it last said; +Inf: not in sight.',
    ['branch'],
  ),
  branchBinlogLossSeconds: gauge(
    'tributary_branch_binlog_loss_timestamp_seconds',
    'Unix time',
    'When the branch database may purge what was not captured, had the agent been down since it was last seen; +Inf: no limit.',
    ['branch'],
  ),
  branchCertificateExpiry: gauge(
    'tributary_branch_certificate_expiry_timestamp_seconds',
    'Unix time',
    'When the first of the certificates runs out that the branch relies on, as it last said.',
    ['branch'],
  ),
  branchHalted: gauge('tributary_branch_halted', '0 or 1', 'Whether applying has stopped for a fault.', ['branch']),
  branchWaiting: gauge(
    'tributary_branch_waiting_since_timestamp_seconds',
    'Unix time',
    'Since when applying waits for a fault to pass that no batch is to blame for; no sample: it does not.',
    ['branch', 'code'],
  ),
  branchOverdue: gauge(
    'tributary_branch_overdue',
    '0 or 1',
    'Whether a whole window of its link has passed without a word of the branch.',
    ['branch'],
  ),
  branchIncomplete: gauge('tributary_branch_incomplete', '0 or 1', 'Whether rows are known to be missing.', ['branch']),
  branchQuarantined: gauge(
    'tributary_branch_quarantined_rows',
    'rows',
    'Rows (and tables that do not fit) that were left out: they cannot be applied.',
    ['branch'],
  ),
  branchVerifiedSeconds: gauge(
    'tributary_branch_verified_timestamp_seconds',
    'Unix time',
    'When a table was last compared with the branch’s; 0: never.',
    ['branch'],
  ),
  branchDifferentTables: gauge(
    'tributary_branch_different_tables',
    'tables',
    'Tables whose last comparison with the branch’s found a difference.',
    ['branch'],
  ),
  branchRefused: counter(
    'tributary_branch_refused_messages_total',
    'messages',
    'Messages thrown away: wrong sender or branch, malformed, false digest, bad hello.',
    ['branch', 'reason'],
  ),
  branchGaps: counter('tributary_branch_gaps_total', 'times', 'Batches that came early: one before them was missing.', [
    'branch',
  ]),
  branchIgnored: counter('tributary_branch_ignored_batches_total', 'batches', 'Batches that were not taken.', [
    'branch',
    'verdict',
  ]),
  branchHellos: counter('tributary_branch_hellos_total', 'hellos', 'Hellos answered, by what the answer was.', [
    'branch',
    'verdict',
  ]),

  brokerUp: gauge('tributary_broker_up', '0 or 1', 'Whether the broker is connected.'),
  targetUp: gauge('tributary_target_up', '0 or 1', 'Whether the head-office database answers.'),
  pipelines: gauge('tributary_pipelines', 'branches', 'Branches that this applier consumes now.'),
};

/** What branches last said of themselves, under the names of the agent's own metrics and labelled `branch`. */
const BRANCHES = {
  agentState: gauge(AGENT.agentState.name, '0 or 1', AGENT.agentState.help, ['branch', 'state']),
  captureLagSeconds: gauge(AGENT.captureLagSeconds.name, 'seconds', AGENT.captureLagSeconds.help, ['branch']),
  captureBinlogLeft: gauge(AGENT.captureBinlogLeft.name, 'seconds', AGENT.captureBinlogLeft.help, ['branch']),
  spoolDiskFree: gauge(AGENT.spoolDiskFree.name, 'bytes', AGENT.spoolDiskFree.help, ['branch']),
  spoolBatches: gauge(AGENT.spoolBatches.name, 'batches', AGENT.spoolBatches.help, ['branch']),
  spoolBytes: gauge(AGENT.spoolBytes.name, 'bytes', AGENT.spoolBytes.help, ['branch']),
  spoolSecondsUntilFull: gauge(AGENT.spoolSecondsUntilFull.name, 'seconds', AGENT.spoolSecondsUntilFull.help, [
    'branch',
  ]),
  snapshotTables: gauge(AGENT.snapshotTables.name, 'tables', AGENT.snapshotTables.help, ['branch', 'state']),
  failing: gauge('tributary_branch_failing', '0 or 1', 'Whether the branch’s agent reports a fault of its own.', [
    'branch',
  ]),
};

type CommonMetrics = Instances<typeof COMMON>;
export type AgentMetrics = Instances<typeof AGENT> & CommonMetrics;
export type ApplierMetrics = Instances<typeof APPLIER> & CommonMetrics;

/** The agent's metrics on a registry, with the process's own. */
export function agentMetrics(registry: Registry, version: string): AgentMetrics {
  return { ...commonMetrics(registry, 'tributary-agent', version), ...create(registry, AGENT) };
}

/** The applier's metrics on a registry, with the process's own. */
export function applierMetrics(registry: Registry, version: string): ApplierMetrics {
  return { ...commonMetrics(registry, 'tributary-applier', version), ...create(registry, APPLIER) };
}

/**
 * prom-client's statistics of the event loop's lag wake an idle process a hundred times a second. What is left of them,
 * `nodejs_eventloop_lag_seconds`, is measured when somebody asks.
 */
const LAG_STATISTICS = ['min', 'max', 'mean', 'stddev', 'p50', 'p90', 'p99'];
const SELDOM_MS = 3_600_000;

function commonMetrics(registry: Registry, program: string, version: string): CommonMetrics {
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: SELDOM_MS });
  for (const part of LAG_STATISTICS) registry.removeSingleMetric(`nodejs_eventloop_lag_${part}_seconds`);
  const metrics = create(registry, COMMON);
  metrics.buildInfo.set({ program, version, node: process.version }, 1);
  return metrics;
}

/** Sets the gauge of certificates to what this process knows; called before each scrape. */
export function showCertificates({ certificateExpiry }: CommonMetrics): void {
  for (const { link, of, expiresAt } of certificateExpiries()) certificateExpiry.set({ link, of }, expiresAt / 1000);
}

/** All states an agent can be in; what else a branch calls itself is `other`, so that labels stay bounded. */
const AGENT_STATES = ['starting', 'capturing', 'full', 'failing', 'stopped', 'superseded'] as const;

/** Sets one sample a state: 1 for the present one. */
export function showAgentState(state: string, set: (state: string, value: 0 | 1) => void): void {
  for (const each of AGENT_STATES) set(each, each === state ? 1 : 0);
  if (!AGENT_STATES.some(each => each === state)) set('other', 1);
}

/** One branch's last word about itself. */
export interface BranchReport {
  readonly branch: string;
  readonly report: AgentReport;
  readonly receivedAtMs: number;
}

/** A report older than this is no longer shown: a stale number looks like a live one. */
export const REPORT_STALE_MS = 120_000;

/** The text of `/metrics/branches`. */
export async function renderBranchReports(reports: Iterable<BranchReport>, nowMs: number): Promise<string> {
  const registry = new Registry();
  const metrics = create(registry, BRANCHES);
  for (const { branch, report, receivedAtMs } of reports) {
    if (nowMs - receivedAtMs > REPORT_STALE_MS) continue;
    showAgentState(report.state, (state, value) => metrics.agentState.set({ branch, state }, value));
    metrics.captureLagSeconds.set({ branch }, report.captureLagSeconds ?? NaN);
    metrics.captureBinlogLeft.set({ branch }, report.outlook.binlogSecondsLeft ?? NaN);
    metrics.spoolDiskFree.set({ branch }, report.outlook.diskFreeBytes);
    metrics.spoolBatches.set({ branch }, report.spoolBatches);
    metrics.spoolBytes.set({ branch }, report.spoolBytes);
    metrics.spoolSecondsUntilFull.set({ branch }, report.secondsUntilFull ?? Infinity);
    metrics.failing.set({ branch }, report.error === null ? 0 : 1);
    if (report.snapshot !== null) {
      const { tables, tablesDone } = report.snapshot;
      metrics.snapshotTables.set({ branch, state: 'done' }, tablesDone);
      metrics.snapshotTables.set({ branch, state: 'waiting' }, tables - tablesDone);
    }
  }
  return registry.metrics();
}

/** The table of metrics for README, in Markdown. */
export function metricsTable(): string {
  const rows = [
    ...rowsOf('both', COMMON),
    ...rowsOf('agent', AGENT),
    ...rowsOf('applier', APPLIER),
    ...rowsOf('`/metrics/branches`', BRANCHES),
  ];
  return ['| metric | of | kind | unit | meaning |', '|---|---|---|---|---|', ...rows].join('\n');
}

function rowsOf(program: string, table: Readonly<Record<string, AnySpec>>): string[] {
  return Object.values(table).map(({ name, kind, unit, help, labels }) => {
    const shown = labels.length === 0 ? name : `${name}{${labels.join(',')}}`;
    return `| \`${shown}\` | ${program} | ${kind} | ${unit} | ${help} |`;
  });
}

/** Buckets for a transaction at the head office: from a lone row to a snapshot's large part. */
const DURATION_BUCKETS = [0.005, 0.02, 0.1, 0.5, 2, 10, 60];

function create<T extends Record<string, AnySpec>>(registry: Registry, table: T): Instances<T> {
  const entries = Object.entries(table).map(([key, { kind, name, help, labels }]) => {
    const options = { name, help, labelNames: [...labels], registers: [registry] };
    if (kind === 'counter') return [key, new Counter(options)] as const;
    if (kind === 'gauge') return [key, new Gauge(options)] as const;
    return [key, new Histogram({ ...options, buckets: DURATION_BUCKETS })] as const;
  });
  // Each entry was made from the spec of its own key just above; Object.fromEntries forgets which.
  return Object.fromEntries(entries) as Instances<T>;
}
