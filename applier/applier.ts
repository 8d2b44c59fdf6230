/** The applier: fleet, tables and pages wired together, and what they report. Nothing is decided here. */
import { hostname } from 'node:os';
import type { Connection } from 'mysql2/promise';
import { Registry as MetricsRegistry } from 'prom-client';
import { Addresses } from '../shared/addresses.ts';
import type { Address } from '../shared/addresses.ts';
import { connectBroker } from '../shared/broker/amqp.ts';
import type { BrokerConnection } from '../shared/broker/amqp.ts';
import { describeError, ERRORS, TributaryError } from '../shared/errors.ts';
import { storedHello } from '../shared/broker/amqp-messages.ts';
import { brokerAccess } from '../shared/config/link-settings.ts';
import type { Readiness } from '../shared/process/http.ts';
import type { Logger } from '../shared/process/logging.ts';
import { applierMetrics, branchMetrics, renderBranchReports, showCertificates } from '../shared/process/metrics.ts';
import type { ApplierMetrics, BranchMetrics } from '../shared/process/metrics.ts';
import { RecentHistory, RecentRate, secondsLeft } from '../shared/process/recent.ts';
import { connectMysql } from '../shared/database/mysql.ts';
import type { MysqlPurpose } from '../shared/database/mysql.ts';
import { RowWriter } from './apply/row-writer.ts';
import { readContents } from './branches/branch-detail.ts';
import { BrokerRepair } from './broker/repair.ts';
import { BRANCH_STATES, standingOf } from './branches/branch-state.ts';
import { Expectations, offlineAfterMs } from './branches/expectation.ts';
import { toDateTimeText } from '../shared/batch/versions.ts';
import { deleteOldVersions } from './apply/history-age.ts';
import { tableOfHistory } from './apply/history-table.ts';
import { historyLost } from './store/histories.ts';
import { RecordKeeper } from './branches/record-keeper.ts';
import { noteLost } from './store/lost-tables.ts';
import { managementApi } from './broker/management-api.ts';
import { Provisioning } from './broker/provisioning.ts';
import { BranchAdmin } from './branches/branch-admin.ts';
import type { Halt } from './store/branch-row.ts';
import type { ApplierConfig } from './config.ts';
import { Fleet } from './consume/fleet.ts';
import type { BranchStatus as FleetBranch } from './consume/fleet.ts';
import { NO_EVENTS } from './consume/pipeline-events.ts';
import type { Waiting } from './consume/retry-policy.ts';
import type { PipelineEvents } from './consume/pipeline-events.ts';
import { QUOTAS } from './transaction/quotas.ts';
import type { RowWriting } from './apply/row-writer.ts';
import { requireOnline, requireWritable } from './apply/target-role.ts';
import { TargetPool } from './apply/connection-pool.ts';
import { StandstillClock } from '../shared/process/systemd.ts';
import { formatDuration } from '../shared/units.ts';
import { TableBrowser } from './web/data.ts';
import { fittingIds, fleetPart, readFleetQuery } from './web/fleet-page.ts';
import type { ApplierStatus, BranchDetail, BranchStatus, DependencyStatus, WaitingStatus } from './web/status.ts';

/**
 * In a fleet of so many branches, `/metrics` has the figures of each branch as well, so that one scrape is enough. Each
 * branch takes about 2 kB.
 */
export const BRANCHES_IN_METRICS = 100;
/** Longer than any deadline of a look at the branches (applier/apply/connection-pool.ts): after this long it hangs. */
const STALLED_AFTER_MS = 20 * 60_000;
/** A frozen broker, and a frozen applier at the broker, is noticed within two of them. */
const HEARTBEAT_SECONDS = 5;
/** How long a statement may get no answer, while the server cannot be asked whether it works on it. */
const STALL_MS = 300_000;
/** The same where another server may have taken over. */
const STALL_OF_SEVERAL_MS = 20_000;
/** How often backlogs are sampled for their history. */
const SAMPLE_MS = 10_000;
/** How often old versions are looked for, and for how long they are deleted then. */
const AGE_EVERY_MS = 60 * 60_000;
const AGE_FOR_MS = 5 * 60_000;

/** What this applier has done for a branch; rates and history are for people. */
interface Activity {
  rowsWritten: number;
  readonly rows: RecentRate;
  readonly batches: RecentRate;
  readonly backlog: RecentHistory;
}

export class Applier {
  readonly #registry = new MetricsRegistry();
  readonly tables: TableBrowser;
  readonly #clock = new StandstillClock();
  readonly #version: string;
  /** Identifies this applier among several. */
  readonly #instance: string;
  readonly #fleet: Fleet;
  readonly #metrics: ApplierMetrics;
  readonly #branchRegistry = new MetricsRegistry();
  readonly #branchMetrics: BranchMetrics = branchMetrics(this.#branchRegistry);
  readonly #startedAt = new Date().toISOString();
  readonly #expectations = new Expectations();
  readonly #activity = new Map<string, Activity>();
  /** For pages and their actions, which must not wait for the pipelines' connections. */
  readonly #pool: TargetPool;
  /** For the actions of the page. */
  readonly branches: BranchAdmin;
  #sampling: NodeJS.Timeout | undefined;
  /** Tables whose history is kept, and how long their versions are. */
  readonly #history: readonly string[];
  readonly #keepHistoryMs: number;
  readonly #database: string;
  #aging: NodeJS.Timeout | undefined;
  readonly #logger: Logger;
  readonly #keeper: RecordKeeper;
  #shown = new Set<string>();
  /** The code with which each waiting branch is shown. */
  readonly #waitingCodes = new Map<string, string>();

  constructor(config: ApplierConfig, version: string, logger: Logger) {
    this.#version = version;
    this.#logger = logger;
    this.#history = config.history;
    this.#keepHistoryMs = config.keepHistoryMs;
    this.#database = config.target.database;
    // Two appliers on one machine listen on two ports.
    this.#instance = `${hostname()}:${config.http.listen.port}`;
    this.#metrics = applierMetrics(this.#registry, version);
    const rows = new RowWriter({
      connect: () => connectTarget(config, 'tributary-applier schema'),
      database: config.target.database,
      schemaChanges: config.schema.changes,
      history: config.history,
      onChanged: async (table, server) => {
        const of = server === null ? tableOfHistory(table) : null;
        if (of !== null) await this.#pool.use(connection => historyLost(connection, of));
        const branches = await noteLost(this.#pool, table, server);
        if (branches.length > 0) logger.warn({ table, branches }, 'A table has lost what branches wrote to it.');
      },
    });
    this.#pool = new TargetPool({ connect: () => connectTarget(config, 'tributary-applier actions'), size: 2 });
    this.branches = branchAdmin(config, this.#pool, rows, this.actor(null));
    const provisioning = new Provisioning(managementApi(config.broker), config.broker.vhost);
    this.#fleet = new Fleet({
      connectTarget: () => connectTarget(config, 'tributary-applier apply'),
      broker: {
        connect: purpose =>
          connectBroker({ ...brokerAccess(config.broker), heartbeatSeconds: HEARTBEAT_SECONDS, purpose }),
        repair: (pool, branches) => new BrokerRepair(pool, provisioning, config.broker.user).mend(branches),
        requireMajority: () => provisioning.requireMajority(),
        findLost: branches => provisioning.branchesLost(branches),
        nodes: brokerNodes(config),
        ensureProbe: () => provisioning.ensureProbe(),
      },
      rows,
      instance: this.#instance,
      logger,
      events: this.#events(),
      onTableTrouble: config.onTableTrouble,
      quotas: { ...QUOTAS, unpackedPerHourBytes: config.quotas.unpackedPerHour },
      comparisons: config.verify,
    });
    this.#keeper = new RecordKeeper({
      pool: this.#pool,
      logger,
      hears: () => this.#fleet.faults().length === 0,
    });
    this.tables = new TableBrowser({
      database: config.target.database,
      connect: () => connectReader(config, 'tributary-applier page'),
      zone: config.reports.timeZone,
    });
  }

  /** Who does something on the page of this applier, as events name it. @param person null: nobody has said */
  actor(person: string | null): string {
    return `${person === null ? '' : `${person}, `}page of ${this.#instance}`;
  }

  /** @throws TributaryError TARGET_… when the database is not available; the broker may come later */
  async start(): Promise<void> {
    await this.#fleet.start();
    this.#sampling = setInterval(() => this.#sample(), SAMPLE_MS).unref();
    if (this.#history.length > 0) this.#aging = setInterval(() => void this.#deleteOldVersions(), AGE_EVERY_MS).unref();
    this.#keeper.start();
  }

  async #deleteOldVersions(): Promise<void> {
    const until = toDateTimeText((Date.now() - this.#keepHistoryMs) * 1000);
    const goesOn = performance.now() + AGE_FOR_MS;
    try {
      const mayGoOn = (): boolean => performance.now() < goesOn;
      const deleted = await deleteOldVersions(this.#pool, this.#database, this.#history, until, mayGoOn);
      if (deleted > 0) this.#logger.info({ deleted, until }, 'Old versions of rows were deleted.');
    } catch (error) {
      // The next time does it.
      this.#logger.warn({ err: error }, 'Old versions of rows could not be deleted.');
    }
  }

  /** Works until aborted, then stops. */
  async run(signal: AbortSignal): Promise<void> {
    await new Promise<void>(resolve => {
      if (signal.aborted) resolve();
      signal.addEventListener('abort', () => resolve(), { once: true });
    });
    clearInterval(this.#sampling);
    clearInterval(this.#aging);
    await this.#fleet.stop();
    // The keeper's last look ends with its connection.
    await Promise.all([this.tables.close(), this.#pool.close(), this.#keeper.stop()]);
  }

  /** Lets a halted branch try again. @throws BRANCH_UNKNOWN */
  retry(branch: string): Promise<void> {
    return this.#fleet.retry(branch);
  }

  /** Looks at the branches now, because a command has changed one. */
  refresh(): void {
    this.#fleet.refresh();
  }

  readiness(): Readiness {
    const reasons = this.#fleet.faults().map(describeError);
    return { ready: reasons.length === 0, reasons };
  }

  /** What should move and does not; null: everything moves. The trouble of a single branch does not count. */
  stalled(): string | null {
    const still = this.#clock.standstillMs(String(this.#fleet.polls));
    return still > STALLED_AFTER_MS ? `The branches were not looked at for ${formatDuration(still)}.` : null;
  }

  /** One line for `systemctl status`. */
  summary(): string {
    const branches = this.#fleet.status().filter(({ row }) => row.state !== 'removed');
    const halted = branches.filter(({ row }) => row.halt !== null).length;
    return [`${branches.length} branches, ${halted} halted`, ...this.#fleet.faults().map(describeError)].join('; ');
  }

  /** @param asked which branches; absent: all of them */
  status(asked?: URLSearchParams): ApplierStatus {
    const query = asked === undefined ? null : readFleetQuery(asked);
    return { ...this.#ownStatus(), ...fleetPart(this.#branches(), query) };
  }

  /** The ids of all branches that fit what is asked for, in their order. */
  branchIds(asked: URLSearchParams): string[] {
    return fittingIds(this.#branches(), readFleetQuery(asked));
  }

  #branches(): BranchStatus[] {
    const now = Date.now();
    const present = this.#fleet.status().filter(({ row }) => row.state !== 'removed');
    return present.map(branch => this.#branchStatus(branch, now));
  }

  #ownStatus(): Omit<ApplierStatus, 'fleet' | 'branches'> {
    const faults = this.#fleet.faults();
    const about = (prefix: string): TributaryError | null => faults.find(({ code }) => code.startsWith(prefix)) ?? null;
    return {
      program: 'tributary-applier',
      version: this.#version,
      instance: this.#instance,
      now: new Date().toISOString(),
      startedAt: this.#startedAt,
      target: dependency('database', about('TARGET_')),
      broker: dependency('broker', about('BROKER_')),
    };
  }

  /** @throws BRANCH_UNKNOWN */
  async detail(branch: string): Promise<BranchDetail> {
    const known = this.#fleet.status().find(({ row }) => row.branch === branch && row.state !== 'removed');
    if (known === undefined) throw new TributaryError('BRANCH_UNKNOWN', `There is no branch ${branch}.`);
    const contents = await this.#pool.use(connection => readContents(connection, branch));
    return {
      status: this.#branchStatus(known, Date.now()),
      connectedSince: known.contact?.connectedSince ?? null,
      addedAt: known.row.createdAt,
      epoch: known.row.stream.epoch,
      backlog: this.#activityOf(branch).backlog.samples(),
      ...contents,
    };
  }

  /** The text of `/metrics/branches`: what this applier knows of each branch, and what each has last said. */
  async branchMetrics(): Promise<string> {
    const fleet = this.#fleet.status();
    this.#updateBranchMetrics(fleet);
    const reports = fleet.flatMap(({ row, contact }) => {
      const hello = storedHello(contact?.hello);
      const receivedAtMs = seconds(contact?.lastSeen ?? null) * 1000;
      const validMs = offlineAfterMs(hello);
      return hello === null ? [] : [{ branch: row.branch, report: hello.report, receivedAtMs, validMs }];
    });
    return `${await this.#branchRegistry.metrics()}\n${await renderBranchReports(reports, Date.now())}`;
  }

  /** The text of `/metrics`, as of now. */
  async metrics(): Promise<string> {
    this.#updateMetrics();
    const fleet = this.#fleet.status();
    if (fleet.length > BRANCHES_IN_METRICS) return this.#registry.metrics();
    this.#updateBranchMetrics(fleet);
    return `${await this.#registry.metrics()}\n${await this.#branchRegistry.metrics()}`;
  }

  #updateMetrics(): void {
    const m = this.#metrics;
    const { broker, target } = this.#ownStatus();
    const branches = this.#branches();
    showCertificates(m);
    m.brokerUp.set(broker.up ? 1 : 0);
    m.targetUp.set(target.up ? 1 : 0);
    m.pipelines.set(this.#fleet.status().filter(({ pipeline }) => pipeline === 'consuming').length);
    for (const state of BRANCH_STATES) m.branches.set({ state }, branches.filter(each => each.state === state).length);
  }

  #updateBranchMetrics(fleet: readonly FleetBranch[]): void {
    const m = this.#branchMetrics;
    const now = Date.now();
    const present = fleet.filter(({ row }) => row.state !== 'removed');
    const branches = present.map(branch => this.#branchStatus(branch, now));
    const shown = new Set(branches.map(({ branch }) => branch));
    for (const branch of this.#shown) if (!shown.has(branch)) this.#forget(branch);
    for (const { branch } of branches) if (!this.#shown.has(branch)) this.#beginCounters(branch);
    this.#shown = shown;
    for (const each of branches) {
      const { branch } = each;
      m.branchLagSeconds.set({ branch }, each.lagSeconds ?? NaN);
      m.branchAllowedLagSeconds.set({ branch }, each.allowedLagSeconds);
      m.branchOnline.set({ branch }, each.online === true ? 1 : 0);
      m.branchCompleteSeconds.set({ branch }, seconds(each.completeThrough));
      m.branchLastSeenSeconds.set({ branch }, seconds(each.lastSeenAt));
      m.branchBacklogBatches.set({ branch }, each.backlogBatches ?? NaN);
      m.branchOverdue.set({ branch }, each.states.includes('overdue') ? 1 : 0);
      m.branchHalted.set({ branch }, each.halted === null ? 0 : 1);
      this.#showWaiting(each);
      m.branchIncomplete.set({ branch }, each.incompleteSince === null ? 0 : 1);
      m.branchQuarantined.set({ branch }, each.quarantined);
      m.branchVerifiedSeconds.set({ branch }, each.verifiedAt === null ? 0 : seconds(each.verifiedAt));
      m.branchSetAsideTables.set({ branch }, each.setAsideTables);
      m.branchStoppedHistories.set({ branch }, each.stoppedHistories);
      m.branchDifferentTables.set({ branch }, each.differentTables);
      m.branchInboxBatches.set({ branch }, each.receivedSeq - each.appliedSeq);
      this.#showOutlook(each);
    }
  }

  /** One sample for each branch, by its present code. */
  #showWaiting({ branch, waiting }: BranchStatus): void {
    const { branchWaiting } = this.#branchMetrics;
    const before = this.#waitingCodes.get(branch);
    if (before !== undefined && before !== waiting?.code) branchWaiting.remove({ branch, code: before });
    if (waiting === null) this.#waitingCodes.delete(branch);
    else {
      this.#waitingCodes.set(branch, waiting.code);
      branchWaiting.set({ branch, code: waiting.code }, Date.parse(waiting.since) / 1000);
    }
  }

  /** A counter that begins with its first event has no rate for it, so those that alerts use begin at zero. */
  #beginCounters(branch: string): void {
    const m = this.#branchMetrics;
    m.branchGaps.inc({ branch }, 0);
    m.applyBatches.inc({ branch }, 0);
    for (const op of ['upsert', 'delete']) m.applyRows.inc({ branch, op }, 0);
    for (const verdict of ['forked', 'refused']) m.branchIgnored.inc({ branch, verdict }, 0);
    m.branchHellos.inc({ branch, verdict: 'superseded' }, 0);
  }

  /** What will run out at a branch, as points in time, which stay true while the branch is offline. */
  #showOutlook({ branch, lastSeenAt, report }: BranchStatus): void {
    if (report === null) return;
    const m = this.#branchMetrics;
    const seen = seconds(lastSeenAt);
    m.branchSpoolFullSeconds.set({ branch }, seen + (report.secondsUntilFull ?? Infinity));
    m.branchBinlogLossSeconds.set({ branch }, seen + (report.outlook.binlogSecondsLeft ?? Infinity));
    m.branchCertificateExpiry.set({ branch }, seconds(report.outlook.certificateExpiresAt));
  }

  /** Removes the samples of a removed branch: a stale number looks like a live one. */
  #forget(branch: string): void {
    const m = this.#branchMetrics;
    const gauges = [
      m.branchLagSeconds,
      m.branchAllowedLagSeconds,
      m.branchOnline,
      m.branchCompleteSeconds,
      m.branchLastSeenSeconds,
      m.branchBacklogBatches,
      m.branchHalted,
      m.branchOverdue,
      m.branchIncomplete,
      m.branchSetAsideTables,
      m.branchStoppedHistories,
      m.branchInboxBatches,
      m.branchSpoolFullSeconds,
      m.branchBinlogLossSeconds,
      m.branchCertificateExpiry,
      m.branchQuarantined,
      m.branchVerifiedSeconds,
      m.branchDifferentTables,
    ];
    for (const gauge of gauges) gauge.remove({ branch });
    const code = this.#waitingCodes.get(branch);
    if (code !== undefined) m.branchWaiting.remove({ branch, code });
    this.#waitingCodes.delete(branch);
    this.#activity.delete(branch);
    this.#expectations.forget(branch);
  }

  #activityOf(branch: string): Activity {
    const known = this.#activity.get(branch);
    if (known !== undefined) return known;
    const fresh = { rowsWritten: 0, rows: new RecentRate(), batches: new RecentRate(), backlog: new RecentHistory() };
    this.#activity.set(branch, fresh);
    return fresh;
  }

  #sample(): void {
    const now = Date.now();
    for (const { branch, backlogBatches } of this.#branches()) {
      if (backlogBatches !== null) this.#activityOf(branch).backlog.note(backlogBatches, now);
    }
  }

  #branchStatus({ row, contact, waiting }: FleetBranch, now: number): BranchStatus {
    const through = contact?.completeness.through ?? null;
    const { received, applied } = row.stream;
    const standing = standingOf({ row, contact, waiting }, now, this.#expectations);
    const { states, backlogBatches, expected, report, allowedLagSeconds } = standing;
    const activity = this.#activityOf(row.branch);
    const batchesPerSecond = activity.batches.perSecond(now);
    return {
      branch: row.branch,
      state: states[0],
      states,
      lastSeenAt: contact?.lastSeen ?? null,
      completeThrough: through,
      lagSeconds: through === null ? null : Math.max(0, (now - Date.parse(through)) / 1000),
      allowedLagSeconds,
      online: contact === null || contact.lastSeen === null ? null : expected === null,
      backlogBatches,
      batchesPerSecond,
      rowsPerSecond: activity.rows.perSecond(now),
      secondsLeft: secondsLeft(backlogBatches ?? 0, batchesPerSecond),
      expectedAt: expected === null ? null : new Date(expected.expectedAt).toISOString(),
      overdueAt: expected === null ? null : new Date(expected.overdueAt).toISOString(),
      receivedSeq: received.seq,
      appliedSeq: applied.seq,
      rowsWritten: activity.rowsWritten,
      halted: row.halt === null ? null : haltStatus(row.halt),
      waiting: waiting === null ? null : waitingStatus(waiting),
      incompleteSince: row.incompleteSince,
      quarantined: row.quarantined,
      verifiedAt: row.verifiedAt,
      setAsideTables: row.setAsideTables,
      stoppedHistories: row.stoppedHistories,
      differentTables: row.differentTables,
      report,
    };
  }

  #events(): PipelineEvents {
    const m = this.#branchMetrics;
    return {
      ...NO_EVENTS,
      applied: (branch, { batches, upserts, deletes, bytes, seconds: took }) => {
        m.applyBatches.inc({ branch }, batches);
        m.applyBytes.inc({ branch }, bytes);
        this.#metrics.applySeconds.observe(took);
        m.applyRows.inc({ branch, op: 'upsert' }, upserts);
        m.applyRows.inc({ branch, op: 'delete' }, deletes);
        const activity = this.#activityOf(branch);
        const now = Date.now();
        activity.rowsWritten += upserts + deletes;
        activity.rows.add(upserts + deletes, now);
        activity.batches.add(batches, now);
      },
      ignored: (branch, verdict) => m.branchIgnored.inc({ branch, verdict }),
      gap: branch => m.branchGaps.inc({ branch }),
      refused: (branch, reason) => {
        m.branchIgnored.inc({ branch, verdict: 'refused' });
        m.branchRefused.inc({ branch, reason });
      },
      failed: (branch, code) => m.applyErrors.inc({ branch, code }),
      hello: (branch, { answer }) => m.branchHellos.inc({ branch, verdict: answer.verdict }),
    };
  }
}

function waitingStatus({ error, since, tries }: Waiting): WaitingStatus {
  return { code: error.code, reason: error.message, hint: error.hint, since, tries };
}

function haltStatus({ code, reason, seq, since }: Halt): NonNullable<BranchStatus['halted']> {
  return { code, reason, hint: hintOf(code), seq, since };
}

/** Opens a connection to each node of the broker; none where it has one address. */
function brokerNodes({ broker }: ApplierConfig): (() => Promise<BrokerConnection>)[] {
  const { all } = broker.addresses;
  if (all.length === 1) return [];
  return all.map(address => () => {
    const url = new Addresses([address]);
    const purpose = 'tributary-applier probe';
    return connectBroker({ ...brokerAccess(broker), url, heartbeatSeconds: HEARTBEAT_SECONDS, purpose });
  });
}

/**
 * The branches of the configured head office. The caller closes the pool.
 * @param actor who does what is done through it
 */
export function branchAdmin(config: ApplierConfig, pool: TargetPool, rows: RowWriting, actor: string): BranchAdmin {
  const { broker, target } = config;
  return new BranchAdmin({
    pool,
    rows,
    provisioning: new Provisioning(managementApi(broker), broker.vhost),
    address: { addresses: broker.branchAddresses, vhost: broker.vhost, ca: broker.tls.ca },
    assigned: config.branches,
    headOffice: `${target.database} at ${broker.branchAddresses[0].host}`,
    actor,
  });
}

/** Connects to the head-office database: of several servers to the one that takes writes. */
export function connectTarget({ target }: ApplierConfig, name: string): Promise<Connection> {
  return connectOne(target, target.addresses, name, requireWritable);
}

/** Connects to where people read rows: of several servers to one that has what the others have. */
export function connectReader({ target }: ApplierConfig, name: string): Promise<Connection> {
  const { addresses, readAddresses } = target;
  return readAddresses === null
    ? connectOne(target, addresses, name, requireWritable)
    : connectOne(target, readAddresses, name, requireOnline);
}

/** @param requirement what one of several servers must be. @throws TARGET_SETTING unless it is that */
function connectOne(
  target: ApplierConfig['target'],
  addresses: Addresses<Address>,
  name: string,
  requirement: (connection: Connection, place: string) => Promise<void>,
): Promise<Connection> {
  return addresses.reach(
    async ({ host, port, ip }) => {
      // A single server is used as it is: each statement says what is wrong with it.
      const isOneOfSeveral = addresses.all.length > 1 || ip !== null;
      const required = (connection: Connection): Promise<void> => requirement(connection, `${ip ?? host}:${port}`);
      // Rows that are old are worse than none.
      const isRequired = isOneOfSeveral || addresses === target.readAddresses;
      const purpose: MysqlPurpose = isRequired
        ? { side: 'target', name, stallMs: STALL_OF_SEVERAL_MS, requirement: required }
        : { side: 'target', name, stallMs: STALL_MS };
      const connection = await connectMysql({ ...target, host, port, ip }, purpose);
      try {
        if (isRequired) await required(connection);
        return connection;
      } catch (error) {
        connection.destroy();
        throw error;
      }
    },
    late => late.destroy(),
  );
}

function dependency(name: string, error: TributaryError | null): DependencyStatus {
  return {
    name,
    up: error === null,
    error: error === null ? null : { code: error.code, message: error.message, hint: error.hint },
  };
}

function hintOf(code: string): string {
  return Object.entries(ERRORS).find(([name]) => name === code)?.[1].hint ?? '';
}

function seconds(iso: string | null): number {
  return iso === null ? NaN : Date.parse(iso) / 1000;
}
