/**
 * The head office: fleet, tables and pages wired together, and what they say of themselves. Nothing is decided here.
 */
import { hostname } from 'node:os';
import type { Connection } from 'mysql2/promise';
import { Registry as MetricsRegistry } from 'prom-client';
import { connectBroker } from '../shared/amqp.ts';
import { storedHello } from '../shared/amqp-messages.ts';
import { brokerAccess } from '../shared/link-settings.ts';
import type { Logger } from '../shared/logging.ts';
import { applierMetrics, renderBranchReports, showCertificates } from '../shared/metrics.ts';
import type { ApplierMetrics } from '../shared/metrics.ts';
import { connectMysql } from '../shared/mysql.ts';
import { Applier } from './apply/applier.ts';
import { BrokerMender } from './branches/broker-mender.ts';
import { managementApi } from './branches/management-api.ts';
import { Provisioning } from './branches/provisioning.ts';
import type { ApplierConfig } from './config.ts';
import { Fleet } from './consume/fleet.ts';
import type { BranchStatus as FleetBranch } from './consume/fleet.ts';
import { NO_EVENTS } from './consume/pipeline-events.ts';
import type { PipelineEvents } from './consume/pipeline-events.ts';
import { ERRORS } from '../shared/errors.ts';
import type { TributaryError } from '../shared/errors.ts';
import { StandstillClock } from '../shared/service-manager.ts';
import { TableBrowser } from './web/data.ts';
import type { ApplierStatus, BranchState, BranchStatus, DependencyStatus } from './web/status.ts';

/** Longer without a hello, and a branch counts as offline. */
const OFFLINE_AFTER_MS = 30_000;
/** Longer than any deadline of a look at the branches (target-pool.ts): who stands still for so long is hung. */
const STALLED_AFTER_MS = 20 * 60_000;

export class HeadOffice {
  readonly registry = new MetricsRegistry();
  readonly tables: TableBrowser;
  readonly #clock = new StandstillClock();
  readonly #version: string;
  readonly #fleet: Fleet;
  readonly #metrics: ApplierMetrics;
  readonly #startedAt = new Date().toISOString();
  /** Rows written for a branch since the start. */
  readonly #rows = new Map<string, number>();
  #shown = new Set<string>();

  constructor(config: ApplierConfig, version: string, logger: Logger) {
    this.#version = version;
    this.#metrics = applierMetrics(this.registry, version);
    this.#fleet = new Fleet({
      connectTarget: () => connectTarget(config, 'tributary-applier apply'),
      connectBroker: purpose => connectBroker({ ...brokerAccess(config.broker), purpose }),
      rows: new Applier({
        connect: () => connectTarget(config, 'tributary-applier schema'),
        database: config.target.database,
      }),
      instance: hostname(),
      logger,
      events: this.#events(),
      mendBroker: (pool, branches) =>
        new BrokerMender(
          pool,
          new Provisioning(managementApi(config.broker), config.broker.vhost),
          config.broker.user,
        ).mend(branches),
    });
    this.tables = new TableBrowser({
      database: config.target.database,
      connect: () => connectTarget(config, 'tributary-applier page'),
    });
  }

  /** @throws TributaryError TARGET_… when the database is not there; the broker may come later */
  async start(): Promise<void> {
    await this.#fleet.start();
  }

  async stop(): Promise<void> {
    await this.#fleet.stop();
    await this.tables.close();
  }

  /** Lets a halted branch try again. @throws BRANCH_UNKNOWN */
  retry(branch: string): Promise<void> {
    return this.#fleet.retry(branch);
  }

  /** Looks at the branches now: a command has changed one. */
  refresh(): void {
    this.#fleet.refresh();
  }

  readiness(): { ready: boolean; reasons: string[] } {
    const reasons = this.#fleet.faults().map(error => error.message);
    return { ready: reasons.length === 0, reasons };
  }

  /** What should move and does not; null: all is alive. A branch’s own trouble is its own and does not count. */
  stalled(): string | null {
    const still = this.#clock.standstillMs(String(this.#fleet.polls));
    return still > STALLED_AFTER_MS
      ? `the branches were not looked at for ${Math.round(still / 60_000)} minutes`
      : null;
  }

  /** One line for `systemctl status`. */
  summary(): string {
    const { branches, broker, target } = this.status();
    const halted = branches.filter(branch => branch.state === 'halted').length;
    const faults = [broker, target].flatMap(({ error }) =>
      error === null ? [] : [`; ${error.code}: ${error.message}`],
    );
    return `${branches.length} branches, ${halted} halted${faults.join('')}`;
  }

  status(): ApplierStatus {
    const now = Date.now();
    const faults = this.#fleet.faults();
    const about = (prefix: string): TributaryError | null => faults.find(({ code }) => code.startsWith(prefix)) ?? null;
    return {
      program: 'tributary-applier',
      version: this.#version,
      instance: hostname(),
      now: new Date(now).toISOString(),
      startedAt: this.#startedAt,
      target: dependency('database', about('TARGET_')),
      broker: dependency('broker', about('BROKER_')),
      branches: this.#fleet
        .status()
        .filter(({ row }) => row.state !== 'removed')
        .map(branch => this.#branchStatus(branch, now)),
    };
  }

  branchMetrics(): Promise<string> {
    const reports = this.#fleet.status().flatMap(({ row, contact }) => {
      const hello = storedHello(contact?.hello);
      const receivedAtMs = seconds(contact?.lastSeen ?? null) * 1000;
      return hello === null ? [] : [{ branch: row.branch, report: hello.report, receivedAtMs }];
    });
    return renderBranchReports(reports, Date.now());
  }

  /** Brings the gauges up to date; called before each scrape. */
  updateMetrics(): void {
    const m = this.#metrics;
    const { branches, broker, target } = this.status();
    showCertificates(m);
    m.brokerUp.set(broker.up ? 1 : 0);
    m.targetUp.set(target.up ? 1 : 0);
    m.pipelines.set(this.#fleet.status().filter(({ pipeline }) => pipeline === 'consuming').length);
    for (const state of BRANCH_STATES) m.branches.set({ state }, branches.filter(each => each.state === state).length);
    const shown = new Set(branches.map(({ branch }) => branch));
    for (const branch of this.#shown) if (!shown.has(branch)) this.#forget(branch);
    this.#shown = shown;
    for (const each of branches) {
      const { branch } = each;
      m.branchLagSeconds.set({ branch }, each.lagSeconds ?? NaN);
      m.branchCompleteSeconds.set({ branch }, seconds(each.completeThrough));
      m.branchLastSeenSeconds.set({ branch }, seconds(each.lastSeenAt));
      m.branchBacklogBatches.set({ branch }, each.backlogBatches ?? NaN);
      m.branchHalted.set({ branch }, each.halted === null ? 0 : 1);
      m.branchIncomplete.set({ branch }, each.incompleteSince === null ? 0 : 1);
      m.branchInboxBatches.set({ branch }, each.receivedSeq - each.appliedSeq);
      this.#beginCounters(branch);
      this.#showOutlook(each);
    }
  }

  /** A counter that begins with its first event has no rate of it: those that alerts look at begin at nought. */
  #beginCounters(branch: string): void {
    const m = this.#metrics;
    m.branchGaps.inc({ branch }, 0);
    m.applyBatches.inc({ branch }, 0);
    m.applyBytes.inc({ branch }, 0);
    for (const op of ['upsert', 'delete']) m.applyRows.inc({ branch, op }, 0);
    for (const verdict of ['forked', 'refused']) m.branchIgnored.inc({ branch, verdict }, 0);
    for (const verdict of ['current', 'superseded', 'unknown']) m.branchHellos.inc({ branch, verdict }, 0);
  }

  /** What will run out at a branch, as times, which stay true while the branch is not heard of. */
  #showOutlook({ branch, lastSeenAt, report }: BranchStatus): void {
    if (report === null) return;
    const m = this.#metrics;
    const seen = seconds(lastSeenAt);
    m.branchSpoolFullSeconds.set({ branch }, seen + (report.secondsUntilFull ?? Infinity));
    if (report.outlook === undefined) return;
    m.branchBinlogLossSeconds.set({ branch }, seen + (report.outlook.binlogSecondsLeft ?? Infinity));
    m.branchCertificateExpiry.set({ branch }, seconds(report.outlook.certificateExpiresAt));
  }

  /** A branch that was removed is no longer shown: a stale number looks like a live one. */
  #forget(branch: string): void {
    const m = this.#metrics;
    const gauges = [
      m.branchLagSeconds,
      m.branchCompleteSeconds,
      m.branchLastSeenSeconds,
      m.branchBacklogBatches,
      m.branchHalted,
      m.branchIncomplete,
      m.branchInboxBatches,
      m.branchSpoolFullSeconds,
      m.branchBinlogLossSeconds,
      m.branchCertificateExpiry,
    ];
    for (const gauge of gauges) gauge.remove({ branch });
  }

  #branchStatus({ row, contact }: FleetBranch, now: number): BranchStatus {
    const lastSeen = contact?.lastSeen ?? null;
    const lastSeenMs = lastSeen === null ? null : Date.parse(lastSeen);
    const through = contact?.completeness.through ?? null;
    const said = storedHello(contact?.hello);
    const { received, applied } = row.stream;
    const backlog = said === null || said.epoch !== row.stream.epoch ? null : Math.max(0, said.head.seq - applied.seq);
    let state: BranchState = backlog === null || backlog > 0 ? 'catching-up' : 'current';
    if (lastSeenMs === null) state = 'never-seen';
    else if (now - lastSeenMs > OFFLINE_AFTER_MS) state = 'offline';
    if (row.halt !== null) state = 'halted';
    return {
      branch: row.branch,
      state,
      lastSeenAt: lastSeen,
      completeThrough: through,
      lagSeconds: through === null ? null : Math.max(0, (now - Date.parse(through)) / 1000),
      backlogBatches: backlog,
      receivedSeq: received.seq,
      appliedSeq: applied.seq,
      rowsWritten: this.#rows.get(row.branch) ?? 0,
      halted: row.halt === null ? null : { code: row.halt.code, reason: row.halt.reason, hint: cureOf(row.halt.code) },
      incompleteSince: row.incompleteSince,
      report: said?.report ?? null,
    };
  }

  #events(): PipelineEvents {
    const m = this.#metrics;
    return {
      ...NO_EVENTS,
      applied: (branch, { batches, upserts, deletes, bytes, seconds: took }) => {
        m.applyBatches.inc({ branch }, batches);
        m.applyBytes.inc({ branch }, bytes);
        m.applySeconds.observe(took);
        m.applyRows.inc({ branch, op: 'upsert' }, upserts);
        m.applyRows.inc({ branch, op: 'delete' }, deletes);
        this.#rows.set(branch, (this.#rows.get(branch) ?? 0) + upserts + deletes);
      },
      ignored: (branch, verdict) => m.branchIgnored.inc({ branch, verdict }),
      gap: branch => m.branchGaps.inc({ branch }),
      refused: branch => m.branchIgnored.inc({ branch, verdict: 'refused' }),
      halted: (branch, row) => m.applyErrors.inc({ branch, code: row.halt?.code ?? 'INTERNAL' }),
      retried: branch => m.applyErrors.inc({ branch, code: 'TARGET_BUSY' }),
      hello: (branch, { answer }) => m.branchHellos.inc({ branch, verdict: answer.verdict }),
    };
  }
}

const BRANCH_STATES: readonly BranchState[] = ['current', 'catching-up', 'halted', 'offline', 'never-seen'];

export function connectTarget(config: ApplierConfig, name: string): Promise<Connection> {
  return connectMysql(config.target, { side: 'target', name, stallMs: 300_000 });
}

function dependency(name: string, error: TributaryError | null): DependencyStatus {
  return {
    name,
    up: error === null,
    error: error === null ? null : { code: error.code, message: error.message, hint: error.hint },
  };
}

function cureOf(code: string): string {
  return Object.entries(ERRORS).find(([name]) => name === code)?.[1].cure ?? '';
}

function seconds(iso: string | null): number {
  return iso === null ? NaN : Date.parse(iso) / 1000;
}
