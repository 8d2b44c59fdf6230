/**
 * The agent's status as metrics. Before each scrape gauges are set from the status, and counters grow by what the parts
 * have counted since the scrape before.
 */
import { showAgentState, showCertificates } from '../shared/process/metrics.ts';
import type { AgentMetrics } from '../shared/process/metrics.ts';
import type { ForwarderCounters } from './forward/forwarder-types.ts';
import type { AgentStatus } from './web/status.ts';

/** Counts since the process began. */
export interface AgentCounts extends Pick<ForwarderCounters, 'sentBytes' | 'sentBatches' | 'rewinds' | 'connections'> {
  readonly binlogBytes: number;
  readonly binlogConnections: number;
  readonly collapsedChanges: number;
  readonly collapsedBytes: number;
}

const NOTHING: AgentCounts = {
  sentBytes: 0,
  sentBatches: 0,
  rewinds: 0,
  // The first connection is not a reconnection.
  connections: 1,
  binlogBytes: 0,
  binlogConnections: 1,
  collapsedChanges: 0,
  collapsedBytes: 0,
};

export class AgentGauges {
  readonly #metrics: AgentMetrics;
  #seen: AgentCounts = NOTHING;
  /** Rows of the last snapshot, as of the scrape before. */
  #copied: { readonly startedAt: string | null; readonly rows: number } | null = null;

  constructor(metrics: AgentMetrics) {
    this.#metrics = metrics;
  }

  update(status: AgentStatus, counts: AgentCounts, now: number): void {
    const m = this.#metrics;
    const { spool, stream, link, capture } = status;
    showAgentState(status.state, (state, value) => m.agentState.set({ state }, value));
    showCertificates(m);
    m.captureRunning.set(status.state === 'capturing' || status.state === 'set-aside' ? 1 : 0);
    m.setAsideTables.set(status.setAside.length);
    m.captureLagSeconds.set(capture.lagSeconds ?? NaN);
    m.captureBinlogLeft.set(capture.binlogSecondsLeft ?? NaN);
    m.capturedThroughSeconds.set(unixTime(capture.capturedThrough));
    m.spoolBatches.set(spool.waitingBatches);
    m.spoolBytes.set(spool.waitingBytes);
    m.spoolTotalBytes.set(spool.totalBytes);
    m.spoolCapacityBytes.set(spool.maxBytes);
    m.spoolOldestSeconds.set(spool.oldestWaitingAt === null ? 0 : now / 1000 - unixTime(spool.oldestWaitingAt));
    m.spoolFull.set(status.state === 'full' ? 1 : 0);
    m.spoolSecondsUntilFull.set(spool.secondsUntilFull ?? Infinity);
    m.spoolDiskFree.set(spool.freeDiskBytes);
    m.spoolDiskFloor.set(spool.minFreeBytes);
    m.linkUp.set(link.up ? 1 : 0);
    m.linkWindowOpen.set(link.windowOpen ? 1 : 0);
    m.linkUnconfirmedBytes.set(link.unconfirmedBytes);
    for (const period of ['today', 'month'] as const) {
      for (const direction of ['sent', 'received'] as const) {
        m.linkTraffic.set({ period, direction }, link.traffic[period][direction]);
      }
    }
    m.linkAnswerSeconds.set(unixTime(link.lastAnswerAt));
    m.streamHead.set(stream.head);
    m.streamConfirmed.set(stream.confirmed);
    m.streamReceived.set(stream.received ?? NaN);
    m.streamApplied.set(stream.applied ?? NaN);
    this.#count(counts);
    this.#countSnapshot(status.snapshot);
  }

  #count(counts: AgentCounts): void {
    const m = this.#metrics;
    const seen = this.#seen;
    const grown = (name: keyof AgentCounts): number => Math.max(0, counts[name] - seen[name]);
    m.linkSentBytes.inc(grown('sentBytes'));
    m.linkSentBatches.inc(grown('sentBatches'));
    m.linkRewinds.inc(grown('rewinds'));
    m.linkReconnects.inc(grown('connections'));
    m.spoolCollapsedChanges.inc(grown('collapsedChanges'));
    m.spoolCollapsedBytes.inc(grown('collapsedBytes'));
    m.captureBytes.inc(grown('binlogBytes'));
    m.captureReconnects.inc(grown('binlogConnections'));
    const connections = Math.max(1, counts.connections);
    this.#seen = { ...counts, connections, binlogConnections: Math.max(1, counts.binlogConnections) };
  }

  #countSnapshot(snapshot: AgentStatus['snapshot']): void {
    const m = this.#metrics;
    const tables = snapshot?.tables ?? [];
    m.snapshotRunning.set(tables.some(table => table.state !== 'done') ? 1 : 0);
    for (const state of ['waiting', 'copying', 'done'] as const) {
      m.snapshotTables.set({ state }, tables.filter(table => table.state === state).length);
    }
    const rows = tables.reduce((sum, table) => sum + table.rows, 0);
    const startedAt = snapshot?.startedAt ?? null;
    const before = this.#copied?.startedAt === startedAt ? this.#copied.rows : 0;
    m.snapshotRows.inc(Math.max(0, rows - before));
    this.#copied = { startedAt, rows };
  }
}

function unixTime(iso: string | null): number {
  return iso === null ? NaN : Date.parse(iso) / 1000;
}
