/**
 * The agent: capture, spool and forwarder wired together, and what they say of themselves. Nothing is decided here.
 */
import { Registry } from 'prom-client';
import { earliestExpiry } from '../shared/certificates.ts';
import { ERRORS, TributaryError, describeError } from '../shared/errors.ts';
import type { Logger } from '../shared/logging.ts';
import { agentMetrics } from '../shared/metrics.ts';
import type { AgentMetrics } from '../shared/metrics.ts';
import { parseWindow } from '../shared/link-schedule.ts';
import { brokerAccess } from '../shared/link-settings.ts';
import { RecentHistory, RecentRate, secondsLeft } from '../shared/recent.ts';
import type { AgentReport } from '../shared/protocol.ts';
import { StandstillClock } from '../shared/service-manager.ts';
import { Capture } from './capture/capture.ts';
import type { CaptureStatus } from './capture/capture.ts';
import { createSelection } from './capture/selection.ts';
import { SourceConnection } from './capture/source.ts';
import type { AgentConfig } from './config.ts';
import { brokerLink } from './forward/broker-link.ts';
import { Forwarder } from './forward/forwarder.ts';
import { AgentGauges } from './gauges.ts';
import type { ForwarderStatus } from './forward/forwarder.ts';
import { mysqlSslOptions } from '../shared/tls.ts';
import { currentTable } from './snapshot/progress.ts';
import type { QueuedTable } from './snapshot/progress.ts';
import { Spool } from './spool/spool.ts';
import { RateOfDay, secondsUntilFull } from './time-left.ts';
import type { AgentState, AgentStatus, StatusError, SyncStatus, TableStatus } from './web/status.ts';

/** How often what is sent and what waits is looked at. */
const SAMPLE_MS = 2_000;
const STOP_WITHIN_MS = 4_000;
/** Longer than any deadline of what capture or the forwarder waits for: whoever stands still for so long is hung. */
const STALLED_AFTER_MS = 10 * 60_000;

interface TableRows {
  readonly schema: string;
  readonly name: string;
  rows: number;
}

export class Agent {
  readonly registry = new Registry();
  readonly #config: AgentConfig;
  readonly #version: string;
  readonly #logger: Logger;
  readonly #spool: Spool;
  readonly #capture: Capture;
  readonly #forwarder: Forwarder;
  readonly #metrics: AgentMetrics;
  readonly #gauges: AgentGauges;
  readonly #rate = new RateOfDay(Date.now());
  readonly #startedAt = new Date().toISOString();
  readonly #tables = new Map<string, TableRows>();
  /** For people: how fast it goes, and what has been waiting. */
  readonly #sent = new RecentRate();
  readonly #waiting = new RecentHistory();
  #sampledBytes = 0;
  readonly #failed = Promise.withResolvers<TributaryError>();
  #transactions = 0;
  #binlogBytes = 0;
  #binlogConnections = 0;
  #errorSince: string | null = null;
  #snapshotSince: { id: string; at: number; rows: number } | null = null;
  #sync: SyncStatus | null = null;
  readonly #captureClock = new StandstillClock();
  readonly #forwardClock = new StandstillClock();

  /** Opens the spool. @throws TributaryError ALREADY_RUNNING, SPOOL_… */
  constructor(config: AgentConfig, version: string, logger: Logger) {
    this.#config = config;
    this.#version = version;
    this.#logger = logger;
    this.#metrics = agentMetrics(this.registry, version);
    this.#gauges = new AgentGauges(this.#metrics);
    this.#spool = Spool.open({ ...config.spool, branch: config.branch, now: () => Date.now() });
    let head = this.#spool.totalBytes;
    this.#spool.onAppend(() => {
      const { totalBytes } = this.#spool;
      if (totalBytes > head) this.#rate.add(totalBytes - head, Date.now());
      head = totalBytes;
      this.#metrics.spoolAppended.inc();
    });
    const selection = createSelection(config.tables, config.tables.hashKey?.reveal() ?? null);
    this.#capture = new Capture({
      branch: config.branch,
      spool: this.#spool,
      selection,
      connection: binlogConnection(config),
      connect: stallMs => SourceConnection.open(config.source, `tributary-agent ${config.branch}`, stallMs),
      logger,
      counters: {
        rows: (schema, name, op, rows) => this.#countRows(schema, name, op, rows),
        group: () => {
          this.#transactions += 1;
          this.#metrics.captureTransactions.inc();
        },
        connected: () => {
          this.#binlogConnections += 1;
        },
        read: bytes => {
          this.#binlogBytes += bytes;
        },
        fault: code => this.#metrics.captureErrors.inc({ code }),
        epoch: reason => this.#metrics.streamEpochs.inc({ reason }),
      },
      now: () => Date.now(),
      canSend: () => this.#forwarder.idle,
      online: () => this.#forwarder.status().connected,
    });
    this.#forwarder = new Forwarder({
      spool: this.#spool,
      connect: brokerLink({ ...brokerAccess(config.broker), branch: config.branch }),
      policy: { ...config.link, windows: config.link.windows.map(parseWindow) },
      facts: () => ({ capturedThrough: this.#capture.status().capturedThrough, report: this.#report() }),
      events: {
        onNewEpoch: reason =>
          this.#capture.beginNewEpoch(`the head office is ${reason === 'behind' ? 'behind' : 'elsewhere'}`),
        onStopped: error => {
          if (error.code !== 'EPOCH_SUPERSEDED') {
            if (error.code === 'SPOOL_CORRUPT') this.#giveUpEpoch();
            this.#failed.resolve(error);
            return;
          }
          this.#logger.error({ err: error }, error.message);
          this.#capture.lookAgain();
        },
        onIdle: () => this.#capture.onForwarderIdle(),
        onAnswer: answer => {
          this.#capture.serveRequests(answer.requests);
          this.#capture.serveAsks(answer.asks);
        },
      },
      log: logger,
      now: () => Date.now(),
      random: () => Math.random(),
    });
  }

  /**
   * A stored batch does not match its digest: what follows it can never be sent. The process ends, loudly; its next
   * life begins an epoch with a snapshot.
   */
  #giveUpEpoch(): void {
    try {
      this.#spool.newEpoch(null, null);
    } catch (error) {
      // The file itself is damaged, and the fault that ends the process says so.
      this.#logger.error({ err: error }, 'the spool cannot begin anew');
    }
  }

  /** Works until aborted. @throws TributaryError what ends the process */
  async run(signal: AbortSignal): Promise<void> {
    const stop = new AbortController();
    const both = AbortSignal.any([signal, stop.signal]);
    this.#forwarder.start();
    const sampling = setInterval(() => this.#sample(), SAMPLE_MS).unref();
    const fault = Promise.race([this.#failed.promise, this.#spool.failed]).then(error => {
      throw error;
    });
    try {
      await Promise.race([this.#capture.run(both), fault]);
    } finally {
      clearInterval(sampling);
      stop.abort();
      const late = new Promise(resolve => setTimeout(resolve, STOP_WITHIN_MS).unref());
      await Promise.race([this.#forwarder.stop(), late]);
      this.#spool.close();
    }
  }

  /**
   * Opens the link until the spool is empty.
   * @param patienceMs without anything moving; null: for ever
   * @throws TributaryError SYNC_STALLED, EPOCH_SUPERSEDED, …
   */
  async sync(
    onProgress: (status: SyncStatus) => void,
    { signal, patienceMs = null }: { readonly signal?: AbortSignal; readonly patienceMs?: number | null } = {},
  ): Promise<void> {
    const startedAt = new Date().toISOString();
    // Else an empty spool would say that nothing is left to send.
    this.#capture.closeBatch();
    const before = this.#spool.stream();
    const note = (state: SyncStatus['state'], error: StatusError | null): void => {
      const stream = this.#spool.stream();
      const waiting = stream.head.seq - stream.known;
      const doneBatches = Math.max(0, stream.known - before.known);
      this.#sample();
      const bytesPerSecond = this.#sent.perSecond(Date.now());
      const { waitingBytes } = this.#spool.usage();
      this.#sync = {
        state,
        startedAt,
        totalBatches: doneBatches + waiting,
        doneBatches,
        waitingBytes,
        bytesPerSecond,
        secondsLeft: state === 'running' ? secondsLeft(waitingBytes, bytesPerSecond) : null,
        error,
      };
      onProgress(this.#sync);
    };
    note('running', null);
    try {
      await this.#forwarder.sync(() => note('running', null), { signal, patienceMs });
      note('done', null);
    } catch (error) {
      note('failed', statusError(error, new Date().toISOString()));
      throw error;
    }
  }

  startSync(): void {
    if (this.#sync?.state === 'running') return;
    this.sync(() => undefined).catch((error: unknown) => this.#logger.warn({ err: error }, 'sync failed'));
  }

  requestSnapshot(tables: readonly QueuedTable[]): void {
    this.#capture.requestSnapshot(tables);
  }

  readiness(): { ready: boolean; reasons: string[] } {
    const { state, error } = this.#capture.status();
    const reasons = state === 'streaming' ? [] : [`capture is ${state}${error ? `: ${describeError(error)}` : ''}`];
    return { ready: reasons.length === 0, reasons };
  }

  /** What should move and does not; null: all is alive. States that wait for something outside may wait for ever. */
  stalled(): string | null {
    const { state, events } = this.#capture.status();
    const still = this.#captureClock.standstillMs(`${state} ${events}`);
    if (still > STALLED_AFTER_MS && ['connecting', 'verifying', 'streaming'].includes(state)) {
      return `capture has been ${state} without an event for ${Math.round(still / 60_000)} minutes`;
    }
    const forward = this.#forwarder.status();
    const waiting = this.#forwardClock.standstillMs(`${forward.state} ${forward.since}`);
    if (waiting > STALLED_AFTER_MS && forward.state === 'connecting') {
      return `the forwarder has been connecting for ${Math.round(waiting / 60_000)} minutes`;
    }
    return null;
  }

  /** One line for `systemctl status`. */
  summary(): string {
    const { state, error } = this.#capture.status();
    const { waitingBatches } = this.#spool.usage();
    const link = this.#forwarder.status().connected ? 'link up' : 'link down';
    return `${state}, ${waitingBatches} batches wait, ${link}${error === null ? '' : `; ${describeError(error)}`}`;
  }

  status(): AgentStatus {
    const now = new Date();
    const capture = this.#capture.status();
    const forward = this.#forwarder.status();
    const usage = this.#spool.usage();
    const stream = this.#spool.stream();
    const position = this.#spool.position();
    this.#errorSince = capture.error === null ? null : (this.#errorSince ?? now.toISOString());
    const { broker, link } = this.#config;
    const superseded = forward.state === 'superseded';
    const bytesPerSecond = this.#sent.perSecond(now.getTime());
    return {
      program: 'tributary-agent',
      version: this.#version,
      branch: this.#config.branch,
      now: now.toISOString(),
      startedAt: this.#startedAt,
      state: superseded ? 'superseded' : stateOf(capture),
      error: capture.error === null ? null : statusError(capture.error, this.#errorSince ?? now.toISOString()),
      capture: {
        source: this.#sourceName(capture),
        lagSeconds: capture.lagSeconds,
        capturedThrough: capture.capturedThrough,
        position:
          position === null
            ? null
            : { file: position.source.file, offset: position.source.offset, gtidSet: position.source.gtidSet },
        transactions: this.#transactions,
        binlogSecondsLeft: roundedOrNull(capture.binlogSecondsLeft),
        tables: this.#tableStatus(),
      },
      spool: {
        waitingBatches: usage.waitingBatches,
        waitingBytes: usage.waitingBytes,
        totalBytes: usage.totalBytes,
        maxBytes: usage.maxBytes,
        oldestWaitingAt: usage.oldestWaitingAt === null ? null : new Date(usage.oldestWaitingAt).toISOString(),
        freeDiskBytes: usage.freeDiskBytes,
        minFreeBytes: this.#config.spool.minFreeBytes,
        secondsUntilFull: this.#secondsUntilFull(),
        history: this.#waiting.samples(),
      },
      stream: {
        epoch: stream.epoch,
        head: stream.head.seq,
        confirmed: forward.confirmed,
        received: forward.lastAnswer === null ? null : stream.known,
        applied: forward.lastAnswer?.applied.seq ?? null,
      },
      link: {
        broker: `${broker.host}:${broker.port}`,
        up: forward.connected,
        windowOpen: forward.windowOpen,
        windows: link.windows,
        timeZone: link.timeZone,
        closesAt: forward.windowOpen ? isoOrNull(forward.windowChangesAt) : null,
        opensAt: forward.windowOpen ? null : isoOrNull(forward.windowChangesAt),
        maxBytesPerSecond: link.maxBytesPerSecond,
        sentBytes: forward.counters.sentBytes,
        bytesPerSecond,
        secondsLeft: secondsLeft(usage.waitingBytes, bytesPerSecond),
        unconfirmedBytes: forward.inFlightBytes,
        lastAnswerAt: isoOrNull(forward.lastAnswerAt),
        error: linkError(forward),
      },
      snapshot: this.#snapshotStatus(),
      sync: this.#sync,
    };
  }

  /** Brings the gauges up to date; called before each scrape. */
  updateMetrics(): void {
    this.#gauges.update(
      this.status(),
      {
        ...this.#forwarder.status().counters,
        binlogBytes: this.#binlogBytes,
        binlogConnections: this.#binlogConnections,
      },
      Date.now(),
    );
  }

  #sample(): void {
    const now = Date.now();
    const { sentBytes } = this.#forwarder.status().counters;
    if (sentBytes > this.#sampledBytes) this.#sent.add(sentBytes - this.#sampledBytes, now);
    this.#sampledBytes = sentBytes;
    this.#waiting.note(this.#spool.usage().waitingBytes, now);
  }

  /** Those that the last snapshot covered, and those that changes have been read of since the start. */
  #tableStatus(): TableStatus[] {
    const known = [...(this.#spool.snapshot()?.tables ?? []), ...this.#tables.values()];
    const byName = new Map(known.map(({ schema, name }) => [`${schema}.${name}`, { schema, name }]));
    return [...byName]
      .sort(([a], [b]) => a.localeCompare(b))
      .map(([full, { schema, name }]) => ({
        schema,
        name,
        target: this.#config.tables.map[full] ?? name,
        rows: this.#tables.get(full)?.rows ?? 0,
      }));
  }

  #countRows(schema: string, name: string, op: 'upsert' | 'delete', rows: number): void {
    const table = `${schema}.${name}`;
    this.#metrics.captureRows.inc({ table, op }, rows);
    const known = this.#tables.get(table);
    if (known) known.rows += rows;
    else this.#tables.set(table, { schema, name, rows });
  }

  #secondsUntilFull(): number | null {
    const usage = this.#spool.usage();
    const room = Math.min(
      usage.maxBytes - usage.waitingBytes,
      usage.freeDiskBytes - this.#config.spool.minFreeBytes + (usage.totalBytes - usage.waitingBytes),
    );
    const untilFull = secondsUntilFull(room, this.#rate.bytesPerSecond(Date.now()));
    const capture = this.#capture.status();
    // While capture reads, the binlog waits for nobody.
    if (capture.state === 'streaming' || capture.binlogSecondsLeft === null) return untilFull;
    return Math.round(Math.min(untilFull ?? Infinity, capture.binlogSecondsLeft));
  }

  #snapshotStatus(): AgentStatus['snapshot'] {
    const progress = this.#spool.snapshot();
    if (progress === null || progress.tables.length === 0) return null;
    const rows = progress.tables.reduce((sum, table) => sum + table.rows, 0);
    const now = Date.now();
    if (this.#snapshotSince?.id !== progress.id) this.#snapshotSince = { id: progress.id, at: now, rows };
    const since = this.#snapshotSince;
    const left = progress.tables.reduce(
      (sum, table) => sum + (table.state === 'done' ? 0 : Math.max(0, (table.estimatedRows ?? 0) - table.rows)),
      0,
    );
    const rate = (rows - since.rows) / Math.max(1, (now - since.at) / 1000);
    const running = !progress.finished && currentTable(progress) !== null;
    return {
      startedAt: new Date(since.at).toISOString(),
      secondsLeft: running && rate > 0 ? Math.round(left / rate) : null,
      tables: progress.tables.map(({ schema, name, state, rows: copied, estimatedRows }) => ({
        schema,
        name,
        state,
        rows: copied,
        estimatedRows,
      })),
    };
  }

  #sourceName({ identity }: CaptureStatus): string | null {
    if (identity === null) return null;
    const { host, port } = this.#config.source;
    return `${identity.flavor === 'mysql' ? 'MySQL' : 'MariaDB'} ${identity.version} at ${host}:${port}`;
  }

  #report(): AgentReport {
    const capture = this.#capture.status();
    const usage = this.#spool.usage();
    const progress = this.#spool.snapshot();
    const error = capture.error ?? (this.#forwarder.status().twinSince === null ? null : identityShared());
    return {
      version: this.#version,
      serves: ['verify'],
      state: stateOf(capture),
      spoolBatches: usage.waitingBatches,
      spoolBytes: usage.waitingBytes,
      outlook: {
        binlogSecondsLeft: roundedOrNull(capture.binlogSecondsLeft),
        diskFreeBytes: usage.freeDiskBytes,
        certificateExpiresAt: earliestExpiry(),
      },
      secondsUntilFull: this.#secondsUntilFull(),
      captureLagSeconds: capture.lagSeconds,
      snapshot:
        progress === null || progress.finished
          ? null
          : {
              tablesDone: progress.tables.filter(table => table.state === 'done').length,
              tables: progress.tables.length,
              rows: progress.tables.reduce((sum, table) => sum + table.rows, 0),
              secondsLeft: this.#snapshotStatus()?.secondsLeft ?? null,
            },
      windows: this.#config.link.windows,
      timeZone: this.#config.link.timeZone,
      source: this.#sourceName(capture),
      error: error === null ? null : describeError(error).slice(0, 1000),
    };
  }
}

function stateOf(capture: CaptureStatus): AgentState {
  switch (capture.state) {
    case 'streaming':
      return 'capturing';
    case 'waiting-for-room':
      return 'full';
    case 'backing-off':
      return 'failing';
    case 'halted':
      return 'stopped';
    case 'stopped':
    case 'connecting':
    case 'verifying':
      return capture.error === null ? 'starting' : 'failing';
  }
}

/** What stands in the way of the link, or else what is wrong though it works. */
function linkError(forward: ForwarderStatus): StatusError | null {
  if (forward.fault !== null) return statusError(forward.fault, new Date(forward.since).toISOString());
  if (forward.twinSince === null) return null;
  return statusError(identityShared(), new Date(forward.twinSince).toISOString());
}

function identityShared(): TributaryError {
  return new TributaryError('IDENTITY_SHARED', ERRORS.IDENTITY_SHARED.cause);
}

function statusError(error: unknown, since: string): StatusError {
  return error instanceof TributaryError
    ? { code: error.code, message: error.message, hint: error.hint, since }
    : { code: 'INTERNAL', message: describeError(error), hint: '', since };
}

function roundedOrNull(value: number | null): number | null {
  return value === null ? null : Math.round(value);
}

function isoOrNull(ms: number | null): string | null {
  return ms === null ? null : new Date(ms).toISOString();
}

/** What zongji's own connections need. */
function binlogConnection(config: AgentConfig) {
  const { host, port } = config.source;
  const ssl = mysqlSslOptions(config.source.tls, host);
  return {
    host,
    port,
    user: config.source.user,
    password: config.source.password.reveal(),
    ...(ssl === undefined ? {} : { ssl }),
  };
}
