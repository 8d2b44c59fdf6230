/** What the agent reports: to its page and its commands (status), and to the head office (report). */
import { createHash } from 'node:crypto';
import { earliestExpiry } from '../shared/config/certificates.ts';
import { asTributaryError, describeError, ERRORS, TributaryError } from '../shared/errors.ts';
import type { ErrorCode } from '../shared/errors.ts';
import { RecentHistory, RecentRate, secondsLeft } from '../shared/process/recent.ts';
import { MAX_REPORTED_TABLES, ROWS_CAPABILITY } from '../shared/protocol.ts';
import type { AgentReport, AskedSync } from '../shared/protocol.ts';
import { tableText } from '../shared/table-name.ts';
import type { Capture, CaptureStatus } from './capture/capture.ts';
import { SilenceWatch } from './silence-watch.ts';
import type { TableFilter } from './source/table-filter.ts';
import type { CaptureTally } from './capture/counters.ts';
import type { AgentConfig } from './config.ts';
import type { Forwarder } from './forward/forwarder.ts';
import { currentTable } from './spool/snapshot-progress.ts';
import type { SetAsideTable } from './spool/snapshot-progress.ts';
import type { Spool } from './spool/spool.ts';
import { SLOT_SECONDS } from './spool/rows-of-day.ts';
import type { Traffic } from './forward/traffic.ts';
import { RateOfDay, secondsUntilFull } from './time-left.ts';
import { sentenceOf } from './web/sentence.ts';
import type { SentenceFacts } from './web/sentence.ts';
import type { AgentState, AgentStatus, StatusError, SyncStatus, TableStatus } from './web/status.ts';

export interface SelfReportOptions {
  readonly config: AgentConfig;
  readonly tableFilter: TableFilter;
  readonly version: string;
  readonly spool: Spool;
  readonly capture: Capture;
  readonly forwarder: Forwarder;
  readonly tally: CaptureTally;
  readonly traffic: Traffic;
}

export class SelfReport {
  readonly #o: SelfReportOptions;
  readonly #rate = new RateOfDay(Date.now());
  readonly #startedAt = new Date().toISOString();
  /** Rates and figures for people. */
  readonly #sent = new RecentRate();
  readonly #waiting = new RecentHistory();
  readonly #silence = new SilenceWatch();
  #sampledBytes = 0;
  #snapshotSince: { id: string; at: number; rows: number } | null = null;

  constructor(options: SelfReportOptions) {
    this.#o = options;
  }

  /** Counts bytes that came into the spool. */
  spooled(bytes: number): void {
    this.#rate.add(bytes, Date.now());
  }

  /** The rate of the last minute. */
  get bytesPerSecond(): number {
    return this.#sent.perSecond(Date.now());
  }

  /** For the page and the commands. @param sync the last one that was requested */
  status(sync: SyncStatus | null): AgentStatus {
    const now = new Date();
    const capture = this.#o.capture.status();
    const forward = this.#o.forwarder.status();
    const usage = this.#o.spool.usage();
    const stream = this.#o.spool.stream();
    const position = this.#o.spool.position();
    const { broker, link } = this.#o.config;
    const superseded = forward.state === 'superseded';
    const bytesPerSecond = this.#sent.perSecond(now.getTime());
    const sentThrough = Math.min(stream.head.seq, Math.max(stream.receivedSeq, forward.confirmed));
    const unsentBytes = this.#o.spool.isOpen ? this.#o.spool.bytesAfter(sentThrough) : 0;
    const facts: SentenceFacts = {
      program: 'tributary-agent',
      version: this.#o.version,
      branch: this.#o.config.branch,
      now: now.toISOString(),
      startedAt: this.#startedAt,
      state: superseded ? 'superseded' : this.#state(capture),
      error: capture.error === null ? null : statusError(capture.error, capture.errorSince ?? now.toISOString()),
      capture: {
        source: this.#sourceName(capture),
        lagSeconds: capture.lagSeconds,
        capturedThrough: capture.capturedThrough,
        position:
          position === null
            ? null
            : { file: position.source.file, offset: position.source.offset, gtidSet: position.source.gtidSet },
        transactions: this.#o.tally.transactions,
        serverAheadSeconds: capture.serverAheadSeconds,
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
        minFreeBytes: this.#o.config.spool.minFreeBytes,
        secondsUntilFull: this.#secondsUntilFull(),
        collapsed: this.#o.spool.collapsed,
        history: this.#waiting.samples(),
      },
      stream: {
        epoch: stream.epoch,
        head: stream.head.seq,
        confirmed: forward.confirmed,
        received: forward.lastAnswer === null ? null : stream.receivedSeq,
        applied: forward.lastAnswer?.applied.seq ?? null,
      },
      link: {
        broker: String(broker.addresses),
        up: forward.connected,
        windowOpen: forward.windowOpen,
        windows: link.windows,
        timeZone: link.timeZone,
        closesAt: forward.windowOpen ? isoOrNull(forward.windowChangesAt) : null,
        opensAt: forward.windowOpen ? null : isoOrNull(forward.windowChangesAt),
        maxBytesPerSecond: link.maxBytesPerSecond,
        freshnessSeconds: link.freshnessMs / 1_000,
        holding: forward.holding,
        unsentBytes,
        sentBytes: forward.counters.sentBytes,
        traffic: this.#o.traffic.status(),
        bytesPerSecond,
        secondsLeft: secondsLeft(unsentBytes, bytesPerSecond),
        unconfirmedBytes: forward.inFlightBytes,
        lastAnswerAt: isoOrNull(forward.lastAnswerAt),
        error: this.linkError(),
      },
      snapshot: this.#snapshotStatus(),
      setAside: this.#setAside().map(({ schema, name, state, since, code, message, hint }) => ({
        schema,
        name,
        state,
        since,
        code,
        message,
        hint,
      })),
      sync,
      headOffice: this.#o.spool.standing.heard,
      committed: {
        everySeconds: SLOT_SECONDS,
        slots: this.#o.spool.isOpen
          ? this.#o.spool.rowsOfDay.slots().map(({ from, rows }) => [from, rows] as const)
          : [],
      },
    };
    return { ...facts, sentence: sentenceOf(facts) };
  }

  #setAside(): readonly SetAsideTable[] {
    return this.#o.spool.snapshot()?.setAside ?? [];
  }

  #state(capture: CaptureStatus): AgentState {
    const state = stateOf(capture);
    return state === 'capturing' && this.#setAside().length > 0 ? 'set-aside' : state;
  }

  /** What is wrong with the link, whether it is up or not. */
  linkError(): StatusError | null {
    const forward = this.#o.forwarder.status();
    const since = new Date(forward.since).toISOString();
    if (forward.blocked) return statusError(faultOfCode('BROKER_BLOCKED'), since);
    if (forward.fault !== null) return statusError(forward.fault, since);
    const { silentSince } = this.#silence;
    if (silentSince !== null)
      return statusError(faultOfCode('HEAD_OFFICE_SILENT'), new Date(silentSince).toISOString());
    if (forward.duplicateSince === null) return null;
    return statusError(faultOfCode('IDENTITY_SHARED'), new Date(forward.duplicateSince).toISOString());
  }

  /** Why a head office that can be reached does not take what is sent; null: it does, or it cannot be reached. */
  obstacle(): TributaryError | null {
    const { blocked, fault } = this.#o.forwarder.status();
    if (blocked) return faultOfCode('BROKER_BLOCKED');
    if (fault?.code === 'BROKER_UNCONFIRMED') return fault;
    return this.#silence.silentSince === null ? null : faultOfCode('HEAD_OFFICE_SILENT');
  }

  /** Takes a sample of what was sent, what waits and what the link does. */
  sample(): void {
    const now = Date.now();
    const forward = this.#o.forwarder.status();
    this.#silence.look(forward, now);
    const { sentBytes } = forward.counters;
    if (sentBytes > this.#sampledBytes) this.#sent.add(sentBytes - this.#sampledBytes, now);
    this.#sampledBytes = sentBytes;
    this.#waiting.note(this.#o.spool.usage().waitingBytes, now);
  }

  /** The tables of the last snapshot, and those with changes since the start. */
  #tableStatus(): TableStatus[] {
    const { tally } = this.#o;
    const known = [...(this.#o.spool.snapshot()?.tables ?? []), ...tally.tables];
    const byName = new Map(known.map(({ schema, name }) => [tableText({ schema, name }), { schema, name }]));
    return [...byName]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([, { schema, name }]) => ({
        schema,
        name,
        target: this.#o.tableFilter.targetName(schema, name),
        rows: tally.rowsOf({ schema, name }),
      }));
  }

  #secondsUntilFull(): number | null {
    const usage = this.#o.spool.usage();
    const room = Math.min(
      usage.maxBytes - usage.waitingBytes,
      usage.freeDiskBytes - this.#o.config.spool.minFreeBytes + (usage.totalBytes - usage.waitingBytes),
    );
    const untilFull = secondsUntilFull(room, this.#rate.bytesPerSecond(Date.now()));
    const capture = this.#o.capture.status();
    // While capture reads, the binlog's retention does not matter.
    if (capture.state === 'streaming' || capture.binlogSecondsLeft === null) return untilFull;
    return Math.round(Math.min(untilFull ?? Infinity, capture.binlogSecondsLeft));
  }

  #snapshotStatus(): AgentStatus['snapshot'] {
    const progress = this.#o.spool.snapshot();
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
    const { host, port } = this.#o.config.source;
    return `${identity.flavor === 'mysql' ? 'MySQL' : 'MariaDB'} ${identity.version} at ${host}:${port}`;
  }

  /** For the head office. @param sync that somebody has asked for */
  report(sync: AskedSync | null): AgentReport {
    const capture = this.#o.capture.status();
    const usage = this.#o.spool.usage();
    const progress = this.#o.spool.snapshot();
    const rules = progress?.rules ?? null;
    const { today, month } = this.#o.traffic.status();
    const error =
      capture.error ?? (this.#o.forwarder.status().duplicateSince === null ? null : faultOfCode('IDENTITY_SHARED'));
    return {
      version: this.#o.version,
      capabilities: ['verify', ROWS_CAPABILITY, 'history', 'wake'],
      state: this.#state(capture),
      spoolBatches: usage.waitingBatches,
      spoolBytes: usage.waitingBytes,
      outlook: {
        binlogSecondsLeft: roughlyOrNull(capture.binlogSecondsLeft),
        diskFreeBytes: roughly(usage.freeDiskBytes),
        certificateExpiresAt: earliestExpiry(),
      },
      secondsUntilFull: roughlyOrNull(this.#secondsUntilFull()),
      captureLagSeconds: roundedOrNull(capture.lagSeconds),
      snapshot:
        progress === null || progress.finished
          ? null
          : {
              tablesDone: progress.tables.filter(table => table.state === 'done').length,
              tables: progress.tables.length,
              rows: progress.tables.reduce((sum, table) => sum + table.rows, 0),
              secondsLeft: this.#snapshotStatus()?.secondsLeft ?? null,
            },
      windows: this.#o.config.link.windows,
      ...freshnessOf(this.#o.config.link.freshnessMs),
      traffic: { today: roughly(today.sent + today.received), month: roughly(month.sent + month.received) },
      timeZone: this.#o.config.link.timeZone,
      source: this.#sourceName(capture),
      setAside: this.#setAside()
        .slice(0, MAX_REPORTED_TABLES)
        .map(({ schema, name, since, code, message, hint }) => ({
          schema,
          name: this.#o.tableFilter.targetName(schema, name),
          since,
          code,
          reason: `${message} — ${hint}`,
        })),
      choice: rules === null ? undefined : hashOf(JSON.stringify(rules)),
      error: error === null ? null : describeError(error).slice(0, 1000),
      ...(sync === null ? {} : { sync }),
    };
  }
}

/** The state of capture as people see it. */
export function stateOf(capture: Pick<CaptureStatus, 'state' | 'error'>): AgentState {
  switch (capture.state) {
    case 'streaming':
      // An error that recurs, or a snapshot that does not progress.
      return capture.error === null ? 'capturing' : 'failing';
    case 'waiting-for-room':
      return 'full';
    case 'backing-off':
      return 'failing';
    case 'halted':
      return 'stopped';
    case 'stopped':
    case 'connecting':
    case 'resuming':
      return capture.error === null ? 'starting' : 'failing';
  }
}

function faultOfCode(code: ErrorCode): TributaryError {
  return new TributaryError(code, ERRORS[code].cause);
}

export function statusError(error: unknown, since: string): StatusError {
  const { code, message, hint } = asTributaryError(error);
  return { code, message, hint, since };
}

/** Short, because every hello has it. */
function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 8);
}

function freshnessOf(freshnessMs: number): { readonly freshnessSeconds?: number } {
  return freshnessMs === 0 ? {} : { freshnessSeconds: Math.round(freshnessMs / 1_000) };
}

/** Two or three digits, and never more than it is: a figure that hardly changes need not be said again. */
function roughly(value: number): number {
  const unit = 10 ** Math.max(0, Math.floor(Math.log10(Math.max(1, value))) - 1);
  return Math.floor(value / unit) * unit;
}

function roughlyOrNull(value: number | null): number | null {
  return value === null ? null : roughly(Math.round(value));
}

function roundedOrNull(value: number | null): number | null {
  return value === null ? null : Math.round(value);
}

function isoOrNull(ms: number | null): string | null {
  return ms === null ? null : new Date(ms).toISOString();
}
