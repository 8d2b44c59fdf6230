/** What the agent says of itself: to its page and its commands (status), and to the head office (report). */
import { earliestExpiry } from '../shared/config/certificates.ts';
import { ERRORS, TributaryError, describeError } from '../shared/errors.ts';
import { RecentHistory, RecentRate, secondsLeft } from '../shared/process/recent.ts';
import type { AgentReport } from '../shared/protocol.ts';
import { tableText } from '../shared/table-name.ts';
import type { Capture, CaptureStatus } from './capture/capture.ts';
import type { TableFilter } from './source/table-filter.ts';
import type { CaptureTally } from './capture/counters.ts';
import type { AgentConfig } from './config.ts';
import type { Forwarder, ForwarderStatus } from './forward/forwarder.ts';
import { currentTable } from './spool/snapshot-progress.ts';
import type { Spool } from './spool/spool.ts';
import { RateOfDay, secondsUntilFull } from './time-left.ts';
import type { AgentState, AgentStatus, StatusError, SyncStatus, TableStatus } from './web/status.ts';

export interface SelfReportOptions {
  readonly config: AgentConfig;
  readonly tableFilter: TableFilter;
  readonly version: string;
  readonly spool: Spool;
  readonly capture: Capture;
  readonly forwarder: Forwarder;
  readonly tally: CaptureTally;
}

export class SelfReport {
  readonly #o: SelfReportOptions;
  readonly #rate = new RateOfDay(Date.now());
  readonly #startedAt = new Date().toISOString();
  /** For people: how fast it goes, and what has been waiting. */
  readonly #sent = new RecentRate();
  readonly #waiting = new RecentHistory();
  #sampledBytes = 0;
  #snapshotSince: { id: string; at: number; rows: number } | null = null;

  constructor(options: SelfReportOptions) {
    this.#o = options;
  }

  /** So many bytes have come into the spool. */
  spooled(bytes: number): void {
    this.#rate.add(bytes, Date.now());
  }

  /** Of what was sent lately. */
  get bytesPerSecond(): number {
    return this.#sent.perSecond(Date.now());
  }

  /** For its page and its commands. @param sync the one that was asked for last */
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
    return {
      program: 'tributary-agent',
      version: this.#o.version,
      branch: this.#o.config.branch,
      now: now.toISOString(),
      startedAt: this.#startedAt,
      state: superseded ? 'superseded' : stateOf(capture),
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
      sync,
    };
  }

  /** Looks at what was sent and what waits; to be called now and then. */
  sample(): void {
    const now = Date.now();
    const { sentBytes } = this.#o.forwarder.status().counters;
    if (sentBytes > this.#sampledBytes) this.#sent.add(sentBytes - this.#sampledBytes, now);
    this.#sampledBytes = sentBytes;
    this.#waiting.note(this.#o.spool.usage().waitingBytes, now);
  }

  /** Those that the last snapshot covered, and those that changes have been read of since the start. */
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
    // While capture reads, the binlog waits for nobody.
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

  /** For the head office. */
  report(): AgentReport {
    const capture = this.#o.capture.status();
    const usage = this.#o.spool.usage();
    const progress = this.#o.spool.snapshot();
    const error = capture.error ?? (this.#o.forwarder.status().duplicateSince === null ? null : identityShared());
    return {
      version: this.#o.version,
      capabilities: ['verify'],
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
      windows: this.#o.config.link.windows,
      timeZone: this.#o.config.link.timeZone,
      source: this.#sourceName(capture),
      error: error === null ? null : describeError(error).slice(0, 1000),
    };
  }
}

function stateOf(capture: CaptureStatus): AgentState {
  switch (capture.state) {
    case 'streaming':
      // A fault that comes again and again, or copying that gets nowhere.
      return capture.error === null ? 'capturing' : 'failing';
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
  if (forward.duplicateSince === null) return null;
  return statusError(identityShared(), new Date(forward.duplicateSince).toISOString());
}

function identityShared(): TributaryError {
  return new TributaryError('IDENTITY_SHARED', ERRORS.IDENTITY_SHARED.cause);
}

export function statusError(error: unknown, since: string): StatusError {
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
