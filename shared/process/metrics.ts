/**
 * Every metric, in one table: name, kind, unit, labels and help. The table in docs/reference.md and the programs'
 * prom-client objects come from it, so a metric exists here or nowhere.
 *
 * Rules: base units (seconds, bytes). A time for alerts is a timestamp as well as a lag. An unknown value is NaN, a time
 * that is not foreseeable is +Inf. Labels are bounded (tables, branches, operations, codes).
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
  buildInfo: gauge('tributary_build_info', '1', 'Always 1. The labels name the program and its versions.', [
    'program',
    'version',
    'node',
  ]),
  certificateExpiry: gauge(
    'tributary_certificate_expiry_timestamp_seconds',
    'Unix time',
    'When a certificate expires: of the server of a link, of our own files, or of the page.',
    ['link', 'of'],
  ),
};

const AGENT = {
  agentState: gauge('tributary_agent_state', '0 or 1', '1 for the state that the agent is in.', ['state']),
  setAsideTables: gauge(
    'tributary_set_aside_tables',
    'tables',
    'Tables of which something cannot be carried, while everything else goes on.',
  ),
  captureRunning: gauge('tributary_capture_running', '0 or 1', 'Whether the binlog is being read.'),
  captureLagSeconds: gauge(
    'tributary_capture_lag_seconds',
    'seconds',
    'How far capture is behind the branch database.',
  ),
  capturedThroughSeconds: gauge(
    'tributary_captured_through_timestamp_seconds',
    'Unix time',
    'Everything committed until then is in the spool.',
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
    'Until the branch database may purge binlogs that capture has not read, if capture stopped now; NaN: no limit, or unknown.',
  ),
  captureErrors: counter('tributary_capture_errors_total', 'errors', 'Errors of capture.', ['code']),

  spoolBatches: gauge('tributary_spool_batches', 'batches', 'Batches that the head office has not yet received.'),
  spoolBytes: gauge('tributary_spool_bytes', 'bytes', 'Bytes of those batches.'),
  spoolTotalBytes: gauge(
    'tributary_spool_total_bytes',
    'bytes',
    'Everything that the spool holds, including batches that are kept.',
  ),
  spoolCapacityBytes: gauge('tributary_spool_capacity_bytes', 'bytes', 'Most that the spool may hold.'),
  spoolOldestSeconds: gauge('tributary_spool_oldest_waiting_seconds', 'seconds', 'Age of the oldest waiting batch.'),
  spoolFull: gauge('tributary_spool_full', '0 or 1', 'Whether capture waits for room.'),
  spoolSecondsUntilFull: gauge(
    'tributary_spool_time_until_full_seconds',
    'seconds',
    'Until spool, disk or binlog retention runs out at today’s rate; +Inf: not foreseeable.',
  ),
  spoolDiskFree: gauge('tributary_spool_disk_free_bytes', 'bytes', 'Free space on the disk of the spool.'),
  spoolDiskFloor: gauge(
    'tributary_spool_disk_floor_bytes',
    'bytes',
    'Disk space that capture leaves free (spool.minFree).',
  ),
  spoolCollapsedChanges: counter(
    'tributary_spool_collapsed_changes_total',
    'changes',
    'Changes that need not be sent, because a later change of the same row waited with them.',
  ),
  spoolCollapsedBytes: counter(
    'tributary_spool_collapsed_bytes_total',
    'bytes',
    'Bytes of waiting batches that merging has saved.',
  ),
  spoolAppended: counter('tributary_spool_appended_batches_total', 'batches', 'Batches written to the spool.'),

  linkUp: gauge('tributary_link_up', '0 or 1', 'Whether the broker is connected.'),
  linkWindowOpen: gauge('tributary_link_window_open', '0 or 1', 'Whether the link may be used now.'),
  linkSentBytes: counter(
    'tributary_link_sent_bytes_total',
    'bytes',
    'Batch bytes given to the broker, including repeats.',
  ),
  linkTraffic: gauge(
    'tributary_link_traffic_bytes',
    'bytes',
    'Bytes on the line in the present day and month of the machine’s clock, TLS included.',
    ['period', 'direction'],
  ),
  linkSentBatches: counter(
    'tributary_link_sent_batches_total',
    'batches',
    'Batches given to the broker, including repeats.',
  ),
  linkUnconfirmedBytes: gauge('tributary_link_unconfirmed_bytes', 'bytes', 'Sent and not yet confirmed by the broker.'),
  linkReconnects: counter('tributary_link_reconnects_total', 'times', 'Broker connections opened after the first.'),
  linkRewinds: counter(
    'tributary_link_rewinds_total',
    'times',
    'How often sending went back to the lowest unconfirmed batch.',
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

  snapshotRunning: gauge('tributary_snapshot_running', '0 or 1', 'Whether a snapshot is copying rows.'),
  snapshotTables: gauge('tributary_snapshot_tables', 'tables', 'Tables of the current snapshot.', ['state']),
  snapshotRows: counter('tributary_snapshot_rows_total', 'rows', 'Rows copied by snapshots.'),
};

const APPLIER = {
  applySeconds: histogram('tributary_apply_duration_seconds', 'seconds', 'One transaction at the head office.'),
  branches: gauge('tributary_branches', 'branches', 'Branches by state.', ['state']),
  brokerUp: gauge(
    'tributary_broker_up',
    '0 or 1',
    'Whether the broker is connected and has the majority of its nodes.',
  ),
  targetUp: gauge('tributary_target_up', '0 or 1', 'Whether the head-office database answers.'),
  pipelines: gauge('tributary_pipelines', 'branches', 'Branches that this applier consumes.'),
};

/** What the applier knows of each branch, served at `/metrics/branches`: with a thousand branches it is over a megabyte. */
const BRANCHES = {
  applyRows: counter('tributary_apply_rows_total', 'rows', 'Rows written at the head office.', ['branch', 'op']),
  applyBatches: counter('tributary_apply_batches_total', 'batches', 'Batches applied.', ['branch']),
  applyBytes: counter('tributary_apply_bytes_total', 'bytes', 'Compressed bodies applied.', ['branch']),
  applyErrors: counter('tributary_apply_errors_total', 'errors', 'Errors of applying, including retried ones.', [
    'branch',
    'code',
  ]),
  branchLagSeconds: gauge(
    'tributary_branch_lag_seconds',
    'seconds',
    'Now minus the time that the head office is complete as of.',
    ['branch'],
  ),
  branchAllowedLagSeconds: gauge(
    'tributary_branch_allowed_lag_seconds',
    'seconds',
    'How far behind the branch may be by its own link.freshness; 0: it sends at once.',
    ['branch'],
  ),
  branchOnline: gauge('tributary_branch_online', '0 or 1', 'Whether the last hello of the branch is recent enough.', [
    'branch',
  ]),
  branchCompleteSeconds: gauge(
    'tributary_branch_complete_timestamp_seconds',
    'Unix time',
    'The head office holds everything that the branch had committed then.',
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
    'Batches received and not yet applied: parts of a transaction that is not complete.',
    ['branch'],
  ),
  branchSpoolFullSeconds: gauge(
    'tributary_branch_spool_full_timestamp_seconds',
    'Unix time',
    'When the spool or disk of the branch will be full, by its last report; +Inf: not foreseeable.',
    ['branch'],
  ),
  branchBinlogLossSeconds: gauge(
    'tributary_branch_binlog_loss_timestamp_seconds',
    'Unix time',
    'When the branch database may purge uncaptured binlogs if the agent has been down since its last report; +Inf: no limit.',
    ['branch'],
  ),
  branchCertificateExpiry: gauge(
    'tributary_branch_certificate_expiry_timestamp_seconds',
    'Unix time',
    'When the first certificate of the branch expires, by its last report.',
    ['branch'],
  ),
  branchHalted: gauge('tributary_branch_halted', '0 or 1', 'Whether applying has halted.', ['branch']),
  branchWaiting: gauge(
    'tributary_branch_waiting_since_timestamp_seconds',
    'Unix time',
    'Since when applying waits for an error to pass that no batch has caused; no sample: it does not wait.',
    ['branch', 'code'],
  ),
  branchOverdue: gauge(
    'tributary_branch_overdue',
    '0 or 1',
    'Whether a whole link window has passed without contact.',
    ['branch'],
  ),
  branchIncomplete: gauge('tributary_branch_incomplete', '0 or 1', 'Whether rows are known to be missing.', ['branch']),
  branchQuarantined: gauge(
    'tributary_branch_quarantined_rows',
    'rows',
    'Rows, and tables that do not fit, that cannot be applied and are in quarantine.',
    ['branch'],
  ),
  branchVerifiedSeconds: gauge(
    'tributary_branch_verified_timestamp_seconds',
    'Unix time',
    'When a table was last compared with the branch; 0: never.',
    ['branch'],
  ),
  branchSetAsideTables: gauge(
    'tributary_branch_set_aside_tables',
    'tables',
    'Tables of the branch that are set aside: their rows here stay as they are.',
    ['branch'],
  ),
  branchStoppedHistories: gauge(
    'tributary_branch_stopped_histories',
    'tables',
    'Tables of the branch whose rows are written without their history.',
    ['branch'],
  ),
  branchDifferentTables: gauge(
    'tributary_branch_different_tables',
    'tables',
    'Tables whose last comparison with the branch found a difference.',
    ['branch'],
  ),
  branchRefused: counter(
    'tributary_branch_refused_messages_total',
    'messages',
    'Messages discarded: wrong sender or branch, malformed, wrong digest, bad hello.',
    ['branch', 'reason'],
  ),
  branchGaps: counter('tributary_branch_gaps_total', 'times', 'Batches that arrived before their predecessor.', [
    'branch',
  ]),
  branchIgnored: counter('tributary_branch_ignored_batches_total', 'batches', 'Batches that were not accepted.', [
    'branch',
    'verdict',
  ]),
  branchHellos: counter('tributary_branch_hellos_total', 'hellos', 'Hellos answered, by the verdict of the answer.', [
    'branch',
    'verdict',
  ]),
};

/** The last reports of the branches, under the names of the agent's own metrics, with the label `branch`. */
const REPORTS = {
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
  linkTraffic: gauge(
    'tributary_branch_traffic_bytes',
    'bytes',
    'Bytes on the branch’s line, both ways, as it has counted them.',
    ['branch', 'period'],
  ),
  failing: gauge('tributary_branch_failing', '0 or 1', 'Whether the agent of the branch reports an error.', ['branch']),
};

type CommonMetrics = Instances<typeof COMMON>;
export type AgentMetrics = Instances<typeof AGENT> & CommonMetrics;
export type ApplierMetrics = Instances<typeof APPLIER> & CommonMetrics;
export type BranchMetrics = Instances<typeof BRANCHES>;

/** The agent's metrics on a registry, with those of the process. */
export function agentMetrics(registry: Registry, version: string): AgentMetrics {
  return { ...commonMetrics(registry, 'tributary-agent', version), ...create(registry, AGENT) };
}

/** The applier's metrics on a registry, with those of the process. */
export function applierMetrics(registry: Registry, version: string): ApplierMetrics {
  return { ...commonMetrics(registry, 'tributary-applier', version), ...create(registry, APPLIER) };
}

/** What the applier knows of each branch, on a registry of its own. */
export function branchMetrics(registry: Registry): BranchMetrics {
  return create(registry, BRANCHES);
}

/**
 * prom-client's statistics of the event loop lag wake an idle process a hundred times a second. Only
 * `nodejs_eventloop_lag_seconds`, which each scrape measures, is kept.
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

/** Sets the gauge of certificates; called before each scrape. */
export function showCertificates({ certificateExpiry }: CommonMetrics): void {
  for (const { link, of, expiresAt } of certificateExpiries()) certificateExpiry.set({ link, of }, expiresAt / 1000);
}

/** All states of an agent. Any other state that a branch reports is `other`, so that labels stay bounded. */
const AGENT_STATES = ['starting', 'capturing', 'set-aside', 'full', 'failing', 'stopped', 'superseded'] as const;

/** Sets one sample for each state: 1 for the current one. */
export function showAgentState(state: string, set: (state: string, value: 0 | 1) => void): void {
  for (const each of AGENT_STATES) set(each, each === state ? 1 : 0);
  if (!AGENT_STATES.some(each => each === state)) set('other', 1);
}

/** The last report of a branch. */
export interface BranchReport {
  readonly branch: string;
  readonly report: AgentReport;
  readonly receivedAtMs: number;
  /** How long it counts at least: until the next one must have come. */
  readonly validMs?: number;
}

/** An older report is not shown: a stale number looks like a live one. */
export const REPORT_STALE_MS = 120_000;

/** The part of `/metrics/branches` that branches have said. */
export async function renderBranchReports(reports: Iterable<BranchReport>, nowMs: number): Promise<string> {
  const registry = new Registry();
  const metrics = create(registry, REPORTS);
  for (const { branch, report, receivedAtMs, validMs = 0 } of reports) {
    if (nowMs - receivedAtMs > Math.max(REPORT_STALE_MS, validMs)) continue;
    showAgentState(report.state, (state, value) => metrics.agentState.set({ branch, state }, value));
    metrics.captureLagSeconds.set({ branch }, report.captureLagSeconds ?? NaN);
    metrics.captureBinlogLeft.set({ branch }, report.outlook.binlogSecondsLeft ?? NaN);
    metrics.spoolDiskFree.set({ branch }, report.outlook.diskFreeBytes);
    metrics.spoolBatches.set({ branch }, report.spoolBatches);
    metrics.spoolBytes.set({ branch }, report.spoolBytes);
    metrics.spoolSecondsUntilFull.set({ branch }, report.secondsUntilFull ?? Infinity);
    for (const [period, bytes] of Object.entries(report.traffic ?? {})) {
      metrics.linkTraffic.set({ branch, period }, bytes);
    }
    metrics.failing.set({ branch }, report.error === null ? 0 : 1);
    if (report.snapshot !== null) {
      const { tables, tablesDone } = report.snapshot;
      metrics.snapshotTables.set({ branch, state: 'done' }, tablesDone);
      metrics.snapshotTables.set({ branch, state: 'waiting' }, tables - tablesDone);
    }
  }
  return registry.metrics();
}

/** The table of metrics for the reference, in Markdown. */
export function metricsTable(): string {
  const rows = [
    ...rowsOf('both', COMMON),
    ...rowsOf('agent', AGENT),
    ...rowsOf('applier', APPLIER),
    ...rowsOf('`/metrics/branches`', BRANCHES),
    ...rowsOf('`/metrics/branches`', REPORTS),
  ];
  return ['| metric | of | kind | unit | meaning |', '|---|---|---|---|---|', ...rows].join('\n');
}

function rowsOf(program: string, table: Readonly<Record<string, AnySpec>>): string[] {
  return Object.values(table).map(({ name, kind, unit, help, labels }) => {
    const shown = labels.length === 0 ? name : `${name}{${labels.join(',')}}`;
    return `| \`${shown}\` | ${program} | ${kind} | ${unit} | ${help} |`;
  });
}

/** Buckets for a transaction at the head office: from a single row to a large part of a snapshot. */
const DURATION_BUCKETS = [0.005, 0.02, 0.1, 0.5, 2, 10, 60];

function create<T extends Record<string, AnySpec>>(registry: Registry, table: T): Instances<T> {
  const entries = Object.entries(table).map(([key, { kind, name, help, labels }]) => {
    const options = { name, help, labelNames: [...labels], registers: [registry] };
    if (kind === 'counter') return [key, new Counter(options)] as const;
    if (kind === 'gauge') return [key, new Gauge(options)] as const;
    return [key, new Histogram({ ...options, buckets: DURATION_BUCKETS })] as const;
  });
  // Each entry was made from the spec of its own key. Object.fromEntries loses this type.
  return Object.fromEntries(entries) as Instances<T>;
}
