/**
 * Capture: from the branch's binlog into the spool, for as long as the process lives.
 *
 * States: stopped → connecting (who is the server, is it set as it must be, is there a position) → verifying (the last
 * group taken is read again and compared) → streaming ⇄ waiting-for-room (the spool is full) → backing-off → connecting.
 * `halted` is backing-off after a fault that only a person can mend: it is looked at again every HALTED_RETRY_MS, so
 * that mending it is enough.
 *
 * Any fault voids what is not in the spool and resumes from the last durable position.
 */
import { randomUUID } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { setTimeout as sleep } from 'node:timers/promises';
import { TributaryError, describeError } from '../../shared/errors.ts';
import { throwFaults } from '../../shared/findings.ts';
import type { Logger } from '../../shared/logging.ts';
import { beginProgress, idleProgress, queueTables, queueWhole } from '../snapshot/progress.ts';
import type { QueuedTable } from '../snapshot/progress.ts';
import { Snapshotter, startMarker } from '../snapshot/snapshotter.ts';
import type { Position, Spool } from '../spool/spool.ts';
import { encodeBatch } from '../../shared/batch-codec.ts';
import { bodyOf } from './batcher.ts';
import { openBinlogStream } from './binlog-stream.ts';
import type { BinlogConnection, BinlogStart, BinlogStream } from './binlog-stream.ts';
import { GroupReader } from './group-reader.ts';
import { checkRights, checkSettings, checkTables } from './preflight.ts';
import type { Selection } from './selection.ts';
import { CaptureSink } from './sink.ts';
import type { CaptureCounters } from './sink.ts';
import { comparePlaces } from './source.ts';
import type { SourceConnection, SourceIdentity } from './source.ts';
import { readTables } from './tables.ts';

/** How often an idle server is asked to speak: an idle source's snapshot chunks wait for it. */
const HEARTBEAT_MS = 250;
/** Silence after which the stream is given up. */
const SILENCE_MS = 10_000;
const FIRST_BACK_OFF_MS = 250;
const MOST_BACK_OFF_MS = 15_000;
const HALTED_RETRY_MS = 15_000;
/** A pause longer than net_write_timeout (60 s) makes the server hang up; the stream is given up before. */
const LONGEST_PAUSE_MS = 30_000;
const ROOM_LOOK_MS = 500;
/** A change waits no longer than this for others to travel with: while the link is up, and while it is not. */
const ONLINE_AGE_MS = 200;
const OFFLINE_AGE_MS = 3_000;
const TICK_MS = 100;
/** How often the position of groups without captured rows is stored. */
const POSITION_SAVE_MS = 1_000;

export type CaptureState =
  'stopped' | 'connecting' | 'verifying' | 'streaming' | 'waiting-for-room' | 'backing-off' | 'halted';

export interface CaptureOptions {
  readonly branch: string;
  readonly spool: Spool;
  readonly selection: Selection;
  readonly connection: BinlogConnection;
  readonly connect: () => Promise<SourceConnection>;
  readonly logger: Logger;
  readonly counters: CaptureCounters;
  readonly now: () => number;
  /** The forwarder could send a fresh batch at once. */
  readonly canSend: () => boolean;
  /** The link is up: changes wait only briefly. */
  readonly online: () => boolean;
}

export interface CaptureStatus {
  readonly state: CaptureState;
  readonly error: TributaryError | null;
  readonly identity: SourceIdentity | null;
  /** Seconds that capture is behind the branch; 0: it has seen everything; null: unknown. */
  readonly lagSeconds: number | null;
  readonly capturedThrough: string | null;
}

export class Capture {
  readonly #o: CaptureOptions;
  #state: CaptureState = 'stopped';
  #error: TributaryError | null = null;
  #identity: SourceIdentity | null = null;
  #sink: CaptureSink | null = null;
  #stream: BinlogStream | null = null;
  #session = new AbortController();
  #capturedThrough: string | null = null;
  #newEpoch: string | null = null;
  #drainCheck = false;
  #events = 0;
  #savedAt = 0;

  constructor(options: CaptureOptions) {
    this.#o = options;
  }

  status(): CaptureStatus {
    const streaming = this.#state === 'streaming' || this.#state === 'waiting-for-room';
    return {
      state: this.#state,
      error: this.#error,
      identity: this.#identity,
      lagSeconds: streaming ? this.#lagSeconds() : null,
      capturedThrough: this.#sink?.capturedThrough ?? this.#capturedThrough,
    };
  }

  #lagSeconds(): number | null {
    const through = this.#sink?.capturedThrough ?? null;
    return through === null ? null : Math.max(0, (this.#o.now() - Date.parse(through)) / 1000 - 1.25);
  }

  /** The stream's history is void: begins a new epoch as soon as the source can be read. */
  beginNewEpoch(reason: string): void {
    this.#newEpoch = reason;
    this.#session.abort();
  }

  /** Copies tables again (none named: all), while changes go on. */
  requestSnapshot(tables: readonly QueuedTable[]): void {
    const position = this.#o.spool.position();
    if (position === null) return;
    const queue = (progress = this.#o.spool.snapshot() ?? idleProgress()) =>
      tables.length === 0 ? queueWhole(progress) : queueTables(progress, tables);
    if (this.#sink) {
      this.#sink.queueSnapshot(queue);
    } else {
      this.#o.spool.savePosition(position, queue());
    }
  }

  /** Works until aborted. @throws what ends the process: SPOOL_IO, INTERNAL */
  async run(signal: AbortSignal): Promise<void> {
    let backOffMs = FIRST_BACK_OFF_MS;
    // Asked anew after each await: what the compiler concluded before it no longer holds.
    const stopping = (): boolean => signal.aborted;
    while (!stopping()) {
      const startedAt = this.#o.now();
      try {
        await this.#live(signal);
        backOffMs = FIRST_BACK_OFF_MS;
      } catch (error) {
        if (stopping()) break;
        const fault =
          error instanceof TributaryError
            ? error
            : new TributaryError('INTERNAL', describeError(error), { cause: error });
        if (fault.code === 'INTERNAL' || fault.code === 'SPOOL_IO' || fault.code === 'SPOOL_CORRUPT') throw fault;
        this.#error = fault;
        this.#o.counters.fault(fault.code);
        if (fault.code === 'SOURCE_POSITION_LOST') this.#newEpoch = fault.message;
        if (this.#o.now() - startedAt > MOST_BACK_OFF_MS) backOffMs = FIRST_BACK_OFF_MS;
        this.#state = fault.retryable ? 'backing-off' : 'halted';
        const waitMs = fault.retryable ? backOffMs * (0.5 + Math.random()) : HALTED_RETRY_MS;
        const level = fault.retryable ? 'warn' : 'error';
        this.#o.logger[level](
          { code: fault.code, hint: fault.hint, retryInMs: Math.round(waitMs) },
          `capture: ${fault.message}`,
        );
        await sleep(waitMs, undefined, { signal }).catch(() => undefined);
        backOffMs = Math.min(MOST_BACK_OFF_MS, backOffMs * 2);
      }
    }
    this.#state = 'stopped';
  }

  /** One life of the binlog connection. */
  async #live(signal: AbortSignal): Promise<void> {
    this.#state = 'connecting';
    this.#session = new AbortController();
    const session = AbortSignal.any([signal, this.#session.signal]);
    const identity = await this.#prepare();
    const position = this.#o.spool.position();
    if (position === null) throw new TributaryError('INTERNAL', 'an epoch without a position');
    this.#o.spool.discardOpenGroup();
    const sink = new CaptureSink({
      spool: this.#o.spool,
      selection: this.#o.selection,
      server: identity.server,
      gtids: identity.gtids,
      position,
      counters: this.#o.counters,
      now: this.#o.now,
      onSpooled: () => this.#onSpooled(),
      onQuiet: () => this.#onQuiet(),
    });
    const start = startOf(position, identity);
    const reader = new GroupReader(sink, start.kind === 'file' ? start : null);
    const stream = await openBinlogStream({
      connection: this.#o.connection,
      serverId: serverIdOf(this.#o.branch, this.#o.spool.stream().epoch),
      start,
      heartbeatMs: HEARTBEAT_MS,
      silenceMs: SILENCE_MS,
      onEvent: event => {
        this.#events += 1;
        reader.handle(event);
      },
    });
    this.#sink = sink;
    this.#stream = stream;
    this.#state = sink.phase === 'verifying' ? 'verifying' : 'streaming';
    const ticker = setInterval(() => this.#tick(), TICK_MS);
    const snapshotter = new Snapshotter({
      connect: this.#o.connect,
      identity,
      selection: this.#o.selection,
      spool: this.#o.spool,
      sink,
      logger: this.#o.logger,
    });
    try {
      const aborted = new Promise<null>(resolve => {
        if (session.aborted) resolve(null);
        session.addEventListener('abort', () => resolve(null), { once: true });
      });
      const fault = await Promise.race([stream.ended, aborted, snapshotter.run(session).then(() => null)]);
      if (fault) throw fault;
    } finally {
      clearInterval(ticker);
      // Only what ends between groups is in the spool's terms; the rest is read again.
      if (this.#sink.betweenGroups && this.#sink.phase === 'taking' && signal.aborted) this.#sink.flush();
      this.#capturedThrough = sink.capturedThrough;
      this.#sink = null;
      this.#stream = null;
      this.#session.abort();
      await stream.close();
      this.#o.spool.discardOpenGroup();
    }
  }

  /** Looks at the server and, where there is no position to resume from, begins an epoch. */
  async #prepare(): Promise<SourceIdentity> {
    const source = await this.#o.connect();
    try {
      const identity = await source.identity();
      this.#identity = identity;
      throwFaults(await checkSettings(source, identity));
      throwFaults(await checkRights(source, identity));
      const position = this.#o.spool.position();
      const reason = this.#newEpoch ?? (position === null ? 'a new spool' : await whyLost(source, identity, position));
      if (reason !== null) {
        await this.#beginEpoch(source, identity, reason);
        this.#o.counters.epoch(this.#newEpoch === null ? 'source' : 'head office');
        this.#newEpoch = null;
      }
      this.#error = null;
      return identity;
    } finally {
      source.destroy();
    }
  }

  async #beginEpoch(source: SourceConnection, identity: SourceIdentity, reason: string): Promise<void> {
    const tables = await readTables(source, this.#o.selection);
    throwFaults(checkTables(tables, []));
    const { file, offset, gtidSet } = await source.binlogEnd();
    const position: Position = {
      source: { server: identity.server, gtidSet, file, offset, committedAt: null },
      lastGroup: null,
    };
    const progress = beginProgress(randomUUID(), true, tables);
    const { spool } = this.#o;
    spool.newEpoch(progress, position);
    const draft = startMarker(progress, tables, this.#o.selection);
    spool.append({
      body: encodeBatch(bodyOf(draft, position.source)),
      rows: 0,
      position,
      open: false,
      snapshot: { ...progress, started: true },
    });
    this.#o.logger.info(
      { epoch: spool.stream().epoch, tables: tables.length, reason },
      'a new epoch begins with a snapshot',
    );
  }

  #onSpooled(): void {
    const stream = this.#stream;
    if (stream && this.#state === 'streaming' && !this.#o.spool.usage().room) {
      stream.pause();
      this.#state = 'waiting-for-room';
      this.#o.logger.warn({}, 'the spool is full: capture stops reading until there is room; nothing is lost');
      void this.#waitForRoom(stream);
    }
  }

  async #waitForRoom(stream: BinlogStream): Promise<void> {
    const since = this.#o.now();
    while (this.#stream === stream) {
      if (this.#o.spool.usage().room) {
        this.#state = 'streaming';
        this.#o.logger.info({}, 'the spool has room again');
        stream.resume();
        return;
      }
      if (this.#o.now() - since > LONGEST_PAUSE_MS) {
        this.#session.abort();
        return;
      }
      await sleep(ROOM_LOOK_MS);
    }
  }

  /** A group has ended or the server was heard. */
  #onQuiet(): void {
    const sink = this.#sink;
    if (!sink) return;
    if (this.#state === 'verifying' && sink.phase === 'taking') this.#state = 'streaming';
    if (sink.empty || this.#drainCheck) return;
    // A lone commit leaves at once, a burst travels together: the batch closes when a turn of the event loop has
    // brought nothing more and the forwarder has nothing under way.
    this.#drainCheck = true;
    const seen = this.#events;
    setImmediate(() => {
      setImmediate(() => {
        this.#drainCheck = false;
        if (this.#sink !== sink || !sink.betweenGroups || sink.empty) return;
        if (this.#events === seen && this.#o.canSend()) sink.flush();
      });
    });
  }

  /** The forwarder has nothing under way any more. */
  onForwarderIdle(): void {
    this.#onQuiet();
  }

  #tick(): void {
    const sink = this.#sink;
    if (!sink || !sink.betweenGroups || sink.phase !== 'taking') return;
    const now = this.#o.now();
    if (sink.openSince === null) {
      if (now - this.#savedAt < POSITION_SAVE_MS) return;
    } else if (now - sink.openSince < (this.#o.online() ? ONLINE_AGE_MS : OFFLINE_AGE_MS)) {
      return;
    }
    if (!this.#o.spool.usage().room) return;
    this.#savedAt = now;
    sink.flush();
  }
}

/** Why capture cannot resume at the position, as far as the server can be asked before streaming; null: it may. */
async function whyLost(source: SourceConnection, identity: SourceIdentity, position: Position): Promise<string | null> {
  const { source: mark } = position;
  if (identity.gtids) {
    if (mark.gtidSet === '' || (await source.hasExecuted(mark.gtidSet))) return null;
    return 'the server has not executed transactions that were captured: it was restored or replaced';
  }
  // File and offset mean nothing on another server.
  if (mark.server !== identity.server) return `another server (${identity.server}) is behind the address`;
  if (comparePlaces(await source.binlogEnd(), mark) >= 0) return null;
  return 'the binlog ends before the place where capture stopped: it was reset, or the server restored';
}

/** Where to read the last group taken again; without one, where the epoch began. */
function startOf(position: Position, identity: SourceIdentity): BinlogStart {
  const { source, lastGroup } = position;
  if (identity.gtids) return { kind: 'gtid', gtidSet: lastGroup?.gtidSetBefore ?? source.gtidSet };
  return lastGroup === null
    ? { kind: 'file', file: source.file, offset: source.offset }
    : { kind: 'file', file: lastGroup.file, offset: lastGroup.startOffset };
}

/** A replica's id must be unique in a topology: an unlikely one that is stable for one life of a spool. */
function serverIdOf(branch: string, epoch: string): number {
  return (crc32(`${branch}/${epoch}`) | 0x8000_0000) >>> 0;
}
