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
import { randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { TributaryError, describeError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/process/logging.ts';
import { pause } from '../../shared/pause.ts';
import { earlier, staleSince } from '../spool/snapshot-progress.ts';
import { SnapshotRequests } from '../snapshot/requests.ts';
import { Snapshotter } from '../snapshot/snapshotter.ts';
import type { Spool } from '../spool/spool.ts';
import { BatchMaxAge } from './batch-max-age.ts';
import { FlushPolicy } from './flush-policy.ts';
import { VerifyRequests } from '../verify/requests.ts';
import { Verifier } from '../verify/verifier.ts';
import { openBinlogStream } from '../binlog/binlog-stream.ts';
import { pollBinlogEnd } from './binlog-end-poll.ts';
import type { BinlogConnection, BinlogStream } from '../binlog/binlog-stream.ts';
import { GroupReader } from '../binlog/group-reader.ts';
import type { BinlogPosition } from '../binlog/group-sink.ts';
import type { TableFilter } from '../source/table-filter.ts';
import { Preparation } from './preparation.ts';
import type { Prepared } from './preparation.ts';
import { startOf } from './resume-point.ts';
import { BinlogRestart } from '../binlog-restart.ts';
import { CaptureSink } from '../stream/sink.ts';
import type { CaptureCounters } from '../stream/sink.ts';
import type { SourceConnection, SourceIdentity } from '../source/connection.ts';
import { RepeatedFaults } from './repeated-faults.ts';
import { FaultWatch } from '../fault-watch.ts';
import { RolledBackRows } from '../binlog/rolled-back-rows.ts';
import { queueMissedTables, UnloggedWrites } from '../source/unlogged-writes.ts';

/** How often an idle server is asked to speak: an idle source's snapshot chunks wait for it. */
const HEARTBEAT_MS = 250;
/** Silence after which the stream is given up. */
const SILENCE_MS = 10_000;
const FIRST_BACK_OFF_MS = 250;
const MOST_BACK_OFF_MS = 15_000;
const MOST_WAIT_FOR_SERVER_MS = 1_000;
const HALTED_RETRY_MS = 5_000;
/** A pause longer than net_write_timeout (60 s) makes the server hang up; the stream is given up before. */
const LONGEST_PAUSE_MS = 30_000;
/** A chunk that cannot be read is tried again; after so long it is told as what stands in the way. */
const LASTING_COPY_TROUBLE_MS = 3 * 60_000;
const ROOM_LOOK_MS = 500;

export type CaptureState =
  'stopped' | 'connecting' | 'verifying' | 'streaming' | 'waiting-for-room' | 'backing-off' | 'halted';

export interface CaptureOptions {
  readonly branch: string;
  readonly spool: Spool;
  readonly tableFilter: TableFilter;
  readonly connection: BinlogConnection;
  /** @param stallMs longest silence of a query, where it is not the usual one */
  readonly connect: (stallMs?: number) => Promise<SourceConnection>;
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
  /** What stands in the way; of a fault that is tried again: until what it held up has been passed. */
  readonly error: TributaryError | null;
  /** When it came first, ISO. */
  readonly errorSince: string | null;
  readonly identity: SourceIdentity | null;
  /** Seconds that capture is behind the branch; 0: it has seen everything; null: unknown. */
  readonly lagSeconds: number | null;
  readonly capturedThrough: string | null;
  /** Seconds until the server may purge binlogs that were not read, if none are read any more; null: no limit, or not known. */
  readonly binlogSecondsLeft: number | null;
  /** Events read since the start; with the state it tells whether capture moves. */
  readonly events: number;
}

export class Capture {
  readonly snapshots: SnapshotRequests;
  readonly verifications = new VerifyRequests();
  readonly #o: CaptureOptions;
  #state: CaptureState = 'stopped';
  readonly #fault: FaultWatch;
  /** Of copying, beside which the stream goes on. */
  readonly #snapshotFault: FaultWatch;
  /** How far the stream had come when the fault came; null: it was not read. */
  #faultAt: BinlogPosition | null = null;
  readonly #rolledBack = new RolledBackRows();
  /**
   * The server ends an older stream under the same id, so it is the process's own: a stream that hangs makes way for its
   * successor, while two agents on copies of one spool do not end each other's in turn.
   */
  readonly #serverId = randomInt(2 ** 31, 2 ** 32);
  /** This process has begun the epoch, and was not parted from the server since. */
  #unbroken = false;
  #sink: CaptureSink | null = null;
  #stream: BinlogStream | null = null;
  #flushPolicy: FlushPolicy | null = null;
  /** Ends this life of the connection with a fault that came up outside of the stream. */
  #fail: (error: unknown) => void = () => undefined;
  #session = new AbortController();
  #capturedThrough: string | null = null;
  /** Why a new epoch must begin; a request that comes while one begins is another object, and so not forgotten with it. */
  #newEpoch: { readonly reason: string } | null = null;
  readonly #preparation: Preparation;
  readonly #repeatedFaults: RepeatedFaults;
  readonly #age = new BatchMaxAge();
  #events = 0;

  constructor(options: CaptureOptions) {
    this.#o = options;
    this.#fault = new FaultWatch(options.now);
    this.#snapshotFault = new FaultWatch(options.now);
    this.#preparation = new Preparation(options);
    this.#repeatedFaults = new RepeatedFaults(options.now);
    const { spool, tableFilter } = options;
    this.snapshots = new SnapshotRequests({ spool, tableFilter, sink: () => this.#sink, now: options.now });
  }

  status(): CaptureStatus {
    const streaming = this.#state === 'streaming' || this.#state === 'waiting-for-room';
    const trouble = this.#fault.trouble ?? this.#snapshotFault.lasting(LASTING_COPY_TROUBLE_MS);
    return {
      state: this.#state,
      error: trouble?.error ?? null,
      errorSince: trouble === null ? null : new Date(trouble.since).toISOString(),
      identity: this.#preparation.identity,
      lagSeconds: streaming ? this.#lagSeconds() : null,
      capturedThrough: this.#through(),
      binlogSecondsLeft: this.#binlogSecondsLeft(),
      events: this.#events,
    };
  }

  /** Never later than a statement whose effect on rows a snapshot has yet to bring. */
  #through(): string | null {
    const through = this.#sink?.capturedThrough ?? this.#capturedThrough;
    const bound = staleSince(this.#o.spool.snapshot());
    return through === null || bound === null ? through : earlier(through, bound);
  }

  #lagSeconds(): number | null {
    const until = this.#sink?.takenUntilMs ?? null;
    return until === null ? null : Math.max(0, (this.#o.now() - until) / 1000 - 1.25);
  }

  #binlogSecondsLeft(): number | null {
    const through = this.#capturedThrough === null ? null : Date.parse(this.#capturedThrough);
    const readUntil = this.#sink?.takenUntilMs ?? through;
    const { retentionSeconds } = this.#preparation;
    if (retentionSeconds === null || readUntil === null) return null;
    return Math.max(0, retentionSeconds - (this.#o.now() - readUntil) / 1000);
  }

  /** The stream's history is void: begins a new epoch as soon as the source can be read. */
  beginNewEpoch(reason: string): void {
    this.#newEpoch = { reason };
    this.#session.abort();
  }

  /** What the spool says of this life of the branch has changed: looks at it now. */
  lookAgain(): void {
    this.#session.abort();
  }

  /** Works until aborted. @throws what ends the process: SPOOL_IO, INTERNAL */
  async run(signal: AbortSignal): Promise<void> {
    let backOffMs = FIRST_BACK_OFF_MS;
    // Asked anew after each await: what the compiler concluded before it no longer holds.
    const stopping = (): boolean => signal.aborted;
    // Nothing has been read while connecting: whatever that still waits for, a server without an answer or a lock, it may.
    const abandoned = Promise.withResolvers<null>();
    const abandon = (): void => {
      if (this.#state === 'connecting') abandoned.resolve(null);
    };
    signal.addEventListener('abort', abandon, { once: true });
    while (!stopping()) {
      const startedAt = this.#o.now();
      try {
        await Promise.race([this.#live(signal), abandoned.promise]);
        backOffMs = FIRST_BACK_OFF_MS;
      } catch (error) {
        if (stopping()) break;
        if (error instanceof BinlogRestart) {
          this.#o.logger.info({}, `capture: ${error.message}`);
          this.#preparation.askAbout(error.tables);
          continue;
        }
        const fault =
          error instanceof TributaryError
            ? error
            : new TributaryError('INTERNAL', describeError(error), { cause: error });
        if (fault.code === 'INTERNAL' || fault.code === 'SPOOL_IO' || fault.code === 'SPOOL_CORRUPT') throw fault;
        const { times } = this.#fault.note(fault);
        if (fault instanceof UnloggedWrites) {
          queueMissedTables(this.#o, this.#capturedThrough, this.#preparation.settingsRightAt);
        }
        // What a person must mend has to do with what was read, not with the connection.
        if (fault.retryable) this.#unbroken = false;
        this.#o.counters.fault(fault.code);
        if (fault.code === 'SOURCE_POSITION_LOST') this.#newEpoch = { reason: fault.message };
        if (this.#o.now() - startedAt > MOST_BACK_OFF_MS) backOffMs = FIRST_BACK_OFF_MS;
        this.#state = fault.retryable ? 'backing-off' : 'halted';
        const waitMs = fault.retryable ? backOffMs * (0.5 + Math.random()) : HALTED_RETRY_MS;
        // Of those in a row the first, second, fourth, eighth …
        const isTold = Number.isInteger(Math.log2(times));
        const level = !isTold ? 'debug' : fault.retryable ? 'warn' : 'error';
        this.#o.logger[level](
          { code: fault.code, hint: fault.hint, retryInMs: Math.round(waitMs) },
          `capture: ${fault.message}`,
        );
        await pause(waitMs, signal);
        // Whoever is away is looked for often: how it is set when it is back may be known for a moment only.
        const most = fault.code === 'SOURCE_UNREACHABLE' ? MOST_WAIT_FOR_SERVER_MS : MOST_BACK_OFF_MS;
        backOffMs = Math.min(most, backOffMs * 2);
      }
    }
    this.#state = 'stopped';
  }

  /** One life of the binlog connection. */
  async #live(signal: AbortSignal): Promise<void> {
    this.#state = 'connecting';
    this.#session = new AbortController();
    const session = AbortSignal.any([signal, this.#session.signal]);
    if (this.#o.spool.stream().superseded) {
      throw new TributaryError('EPOCH_SUPERSEDED', 'a newer life of this branch is the valid one: capture has stopped');
    }
    if (!(await this.#roomForMore(session))) return;
    const { identity, catalogue, charsets } = await this.#prepare();
    const position = this.#o.spool.position();
    // Places of another server mean nothing.
    if (position?.source.server !== identity.server || position.lastGroup === null) this.#faultAt = null;
    if (position === null) throw new TributaryError('INTERNAL', 'an epoch without a position');
    this.#o.spool.discardOpenGroup();
    const sink = new CaptureSink({
      spool: this.#o.spool,
      tableFilter: this.#o.tableFilter,
      server: identity.server,
      gtids: identity.gtids,
      lowerCaseNames: identity.lowerCaseNames,
      catalogue,
      onRedefined: () => reader.forgetTables(),
      position,
      counters: this.#o.counters,
      now: this.#o.now,
      onSpooled: () => this.#onSpooled(),
      onQuiet: () => this.#onQuiet(),
    });
    const start = startOf(position, identity);
    const reader = new GroupReader(sink, start.kind === 'file' ? start : null, charsets, this.#rolledBack);
    const stream = await openBinlogStream({
      connection: this.#o.connection,
      serverId: this.#serverId,
      start,
      heartbeatMs: HEARTBEAT_MS,
      silenceMs: SILENCE_MS,
      onEvent: event => {
        this.#events += 1;
        this.#o.counters.read(event.length);
        reader.handle(event);
      },
    });
    this.#o.counters.connected();
    this.#sink = sink;
    this.#stream = stream;
    this.#state = sink.phase === 'verifying' ? 'verifying' : 'streaming';
    const failure = Promise.withResolvers<never>();
    this.#fail = error => failure.reject(error);
    const closer = new FlushPolicy({
      sink,
      spool: this.#o.spool,
      now: this.#o.now,
      events: () => this.#events,
      canSend: this.#o.canSend,
      online: this.#o.online,
      age: this.#age,
      onFailure: this.#fail,
    });
    this.#flushPolicy = closer;
    const { connect, tableFilter, spool, logger, now } = this.#o;
    const checkSettings = (source: SourceConnection) => this.#preparation.checkSettings(source);
    void pollBinlogEnd({ connect, identity, sink, checkSettings, now, onFault: this.#fail }, session);
    const tools = { connect, identity, tableFilter, charsets, spool, sink, logger };
    const snapshotter = new Snapshotter({ ...tools, trouble: this.#snapshotFault });
    const verifier = new Verifier({ ...tools, requests: this.verifications });
    try {
      const aborted = new Promise<null>(resolve => {
        if (session.aborted) resolve(null);
        session.addEventListener('abort', () => resolve(null), { once: true });
      });
      const copying = snapshotter.run(session).then(() => null);
      const comparing = verifier.run(session).then(() => null);
      const fault = await Promise.race([stream.ended, aborted, copying, comparing, failure.promise]);
      if (fault) {
        if (this.#repeatedFaults.isLasting(fault))
          this.#newEpoch = { reason: `the binlog cannot be read on: ${fault.message}` };
        throw this.#repeatedFaults.judge(fault, sink.phase === 'verifying');
      }
    } finally {
      closer.stop();
      this.#faultAt = sink.phase === 'taking' ? sink.place : null;
      this.#flushPolicy = null;
      this.#sink = null;
      this.#stream = null;
      this.#session.abort();
      // No event is delivered after this call; what it still waits for is the server's side.
      const closed = stream.close();
      try {
        // Only what ends between groups is in the spool's terms; the rest is read again.
        if (sink.sound && signal.aborted) sink.flush();
      } finally {
        this.#capturedThrough = sink.capturedThrough ?? this.#capturedThrough;
        this.#o.spool.discardOpenGroup();
        await closed;
      }
    }
  }

  /** Waits until the spool has room: to read on before would only fail. False: aborted. */
  async #roomForMore(session: AbortSignal): Promise<boolean> {
    this.#o.spool.discardOpenGroup();
    while (!session.aborted) {
      // A new epoch empties the spool.
      if (this.#newEpoch !== null || this.#o.spool.hasRoom()) return true;
      if (this.#state !== 'waiting-for-room') {
        this.#state = 'waiting-for-room';
        this.#o.logger.warn({}, 'the spool is full: capture stops reading until there is room; nothing is lost');
      }
      await pause(ROOM_LOOK_MS, session);
    }
    return false;
  }

  /** Looks at the server and, where there is no position to resume from, begins an epoch. */
  async #prepare(): Promise<Prepared> {
    const asked = this.#newEpoch;
    const prepared = await this.#preparation.prepare(asked?.reason ?? null, this.#unbroken);
    if (prepared.begun) {
      this.verifications.forgetAnswers();
      if (this.#newEpoch === asked) this.#newEpoch = null;
      this.#unbroken = true;
      this.#o.counters.epoch(asked === null ? 'source' : 'head office');
    }
    return prepared;
  }

  #onSpooled(): void {
    const stream = this.#stream;
    if (stream && this.#state === 'streaming' && !this.#o.spool.hasRoom()) {
      stream.pause();
      this.#state = 'waiting-for-room';
      this.#o.logger.warn({}, 'the spool is full: capture stops reading until there is room; nothing is lost');
      this.#waitForRoom(stream).catch((error: unknown) => this.#fail(error));
    }
  }

  async #waitForRoom(stream: BinlogStream): Promise<void> {
    const since = this.#o.now();
    while (this.#stream === stream) {
      if (this.#o.spool.hasRoom()) {
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
    if (this.#state === 'verifying' && sink?.phase === 'taking') this.#state = 'streaming';
    if (sink?.hasPassed(this.#faultAt) === true) this.#fault.passed();
    this.#flushPolicy?.look();
  }

  /** What was taken goes into the spool at once, or as soon as the open group has ended. */
  closeBatch(): void {
    this.#flushPolicy?.close();
  }

  /** The forwarder has nothing under way any more. */
  onForwarderIdle(): void {
    this.#flushPolicy?.look();
  }
}
