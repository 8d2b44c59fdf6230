/**
 * Capture: from the branch's binlog into the spool, for as long as the process lives. This is the loop that decides when
 * to connect, to back off and to halt; session.ts is the life of one connection.
 *
 * States (only `#enter` changes them):
 *
 *   stopped            before the start and after the end                      ──run──▶ connecting
 *   connecting         checks the server and the position, opens the stream    ──▶ capturing
 *                      the spool is full                                       ──▶ waiting-for-room
 *   waiting-for-room   reading on would only fail                              ──the spool has room──▶ connecting
 *   capturing          a session is at work; status shows the session's state  ──it ended without a fault──▶ connecting
 *   backing-off        after a fault that may pass                             ──after a pause──▶ connecting
 *   halted             after a fault that a person must repair; capture tries again every HALTED_RETRY_MS, so that
 *                      repairing it is enough                                  ──▶ connecting
 *
 * Any fault voids what is not in the spool; capture resumes from the last durable position.
 */
import { randomInt } from 'node:crypto';
import { TributaryError, assert, describeError } from '../../shared/errors.ts';
import { pause } from '../../shared/pause.ts';
import { earlier, staleSince } from '../spool/snapshot-progress.ts';
import { SnapshotRequests } from '../snapshot/requests.ts';
import { StateMachine } from '../state-machine.ts';
import type { Transitions } from '../state-machine.ts';
import { BatchMaxAge } from './batch-max-age.ts';
import { VerifyRequests } from '../verify/requests.ts';
import type { BinlogPosition } from '../binlog/group-sink.ts';
import type { CaptureOptions, CaptureState, CaptureStatus } from './capture-types.ts';
import { Preparation } from './preparation.ts';
import type { Prepared } from './preparation.ts';
import { BinlogRestart } from '../binlog-restart.ts';
import type { CaptureSink } from '../stream/sink.ts';
import { RepeatedFaults } from './repeated-faults.ts';
import { FaultWatch } from '../fault-watch.ts';
import { RolledBackRows } from '../binlog/rolled-back-rows.ts';
import { CaptureSession, SPOOL_FULL_NOTICE } from './session.ts';
import { queueMissedTables, UnloggedWrites } from '../source/unlogged-writes.ts';

export type * from './capture-types.ts';

const FIRST_BACK_OFF_MS = 250;
const MAX_BACK_OFF_MS = 15_000;
const MAX_BACK_OFF_FOR_SERVER_MS = 1_000;
const HALTED_RETRY_MS = 5_000;
/** A snapshot chunk that cannot be read is retried; after this long its fault is reported. */
const LASTING_SNAPSHOT_FAULT_MS = 3 * 60_000;
const ROOM_POLL_MS = 500;
/** The lag that shows when nothing is behind: half an interval of the poll of the binlog's end, and a heartbeat. */
const USUAL_LAG_SECONDS = 1.25;

type LoopState = 'stopped' | 'connecting' | 'waiting-for-room' | 'capturing' | 'backing-off' | 'halted';

const TRANSITIONS: Transitions<LoopState> = {
  stopped: ['connecting'],
  connecting: ['connecting', 'waiting-for-room', 'capturing', 'backing-off', 'halted', 'stopped'],
  'waiting-for-room': ['connecting', 'backing-off', 'halted', 'stopped'],
  capturing: ['connecting', 'backing-off', 'halted', 'stopped'],
  'backing-off': ['connecting', 'stopped'],
  halted: ['connecting', 'stopped'],
};

export class Capture {
  readonly snapshots: SnapshotRequests;
  readonly verifications = new VerifyRequests();
  readonly #o: CaptureOptions;
  readonly #machine = new StateMachine<LoopState>('Capture', TRANSITIONS, 'stopped');
  readonly #fault: FaultWatch;
  /** Faults of the snapshot, beside which the stream goes on. */
  readonly #snapshotFault: FaultWatch;
  /** How far the stream had come when the fault came; null: it was not read. */
  #faultAt: BinlogPosition | null = null;
  readonly #rolledBack = new RolledBackRows();
  /**
   * The server ends an older stream with the same id. The id belongs to the process: its new stream replaces one that
   * hangs, while two agents on copies of one spool do not keep ending each other's streams.
   */
  readonly #serverId = randomInt(2 ** 31, 2 ** 32);
  /** This process has begun the epoch, and has not lost the server since. */
  #unbroken = false;
  /** Null: the binlog is not being read. */
  #session: CaptureSession | null = null;
  /** Ends the present attempt. */
  #attempt = new AbortController();
  #capturedThrough: string | null = null;
  #serverAheadSeconds = 0;
  /** Why a new epoch must begin. A request that comes while one begins is another object, so it is not lost with it. */
  #newEpoch: { readonly reason: string } | null = null;
  readonly #preparation: Preparation;
  readonly #repeatedFaults: RepeatedFaults;
  readonly #age = new BatchMaxAge();
  /** Events that earlier sessions have read. */
  #events = 0;
  #backOffMs = FIRST_BACK_OFF_MS;

  constructor(options: CaptureOptions) {
    this.#o = options;
    this.#fault = new FaultWatch(options.now);
    this.#snapshotFault = new FaultWatch(options.now);
    this.#preparation = new Preparation(options);
    this.#repeatedFaults = new RepeatedFaults(options.now);
    this.snapshots = new SnapshotRequests({ ...options, stream: this });
  }

  /** What takes the binlog; null: it is not being read. */
  get sink(): CaptureSink | null {
    return this.#session?.sink ?? null;
  }

  status(): CaptureStatus {
    const { state } = this;
    const trouble = this.#fault.trouble ?? this.#snapshotFault.lasting(LASTING_SNAPSHOT_FAULT_MS);
    return {
      state,
      error: trouble?.error ?? null,
      errorSince: trouble === null ? null : new Date(trouble.since).toISOString(),
      identity: this.#preparation.identity,
      lagSeconds: state === 'streaming' || state === 'waiting-for-room' ? this.#lagSeconds() : null,
      capturedThrough: this.#through(),
      binlogSecondsLeft: this.#binlogSecondsLeft(),
      serverAheadSeconds: this.sink?.serverAheadSeconds ?? this.#serverAheadSeconds,
      events: this.#events + (this.#session?.events ?? 0),
    };
  }

  get state(): CaptureState {
    const { state } = this.#machine;
    if (state !== 'capturing') return state;
    const session = this.#session?.state ?? 'ended';
    // What remains is to close the connection, before the next one.
    return session === 'ended' ? 'connecting' : session;
  }

  /** The only place where the state changes. @throws TributaryError INTERNAL */
  #enter(state: LoopState): void {
    this.#machine.enter(state);
  }

  /** Never later than a statement whose effect on rows a snapshot has yet to bring. */
  #through(): string | null {
    const through = this.sink?.capturedThrough ?? this.#capturedThrough;
    const bound = staleSince(this.#o.spool.snapshot());
    return through === null || bound === null ? through : earlier(through, bound);
  }

  #lagSeconds(): number | null {
    const until = this.sink?.takenUntilMs ?? null;
    return until === null ? null : Math.max(0, (this.#o.now() - until) / 1000 - USUAL_LAG_SECONDS);
  }

  #binlogSecondsLeft(): number | null {
    const through = this.#capturedThrough === null ? null : Date.parse(this.#capturedThrough);
    const readUntil = this.sink?.takenUntilMs ?? through;
    const { retentionSeconds } = this.#preparation;
    if (retentionSeconds === null || readUntil === null) return null;
    return Math.max(0, retentionSeconds - (this.#o.now() - readUntil) / 1000);
  }

  /** The stream's history is void: begins a new epoch as soon as the source can be read. */
  beginNewEpoch(reason: string): void {
    this.#newEpoch = { reason };
    this.#attempt.abort();
  }

  /** The spool says something else about this epoch now: looks at it at once. */
  lookAgain(): void {
    this.#attempt.abort();
  }

  /** Puts what was taken into the spool at once, or as soon as the open group has ended. */
  closeBatch(): void {
    this.#session?.closeBatch();
  }

  /** The forwarder has nothing under way any more. */
  onForwarderIdle(): void {
    this.#session?.onForwarderIdle();
  }

  /** Works until aborted. @throws what ends the process: SPOOL_IO, SPOOL_CORRUPT, INTERNAL */
  async run(signal: AbortSignal): Promise<void> {
    assert(this.#machine.state === 'stopped', 'Capture was started twice.');
    // A function, because TypeScript would assume that the state is the same after an await.
    const stopping = (): boolean => signal.aborted;
    // Nothing was read while connecting, so whatever that waits for, an answer or a lock of the server, may be abandoned.
    const abandoned = Promise.withResolvers<null>();
    const abandon = (): void => {
      if (this.#machine.state === 'connecting') abandoned.resolve(null);
    };
    signal.addEventListener('abort', abandon, { once: true });
    while (!stopping()) {
      const startedAt = this.#o.now();
      try {
        await Promise.race([this.#connect(signal), abandoned.promise]);
        this.#backOffMs = FIRST_BACK_OFF_MS;
      } catch (error) {
        if (stopping()) break;
        if (error instanceof BinlogRestart) {
          this.#o.logger.info({}, error.message);
          this.#preparation.heed(error);
          continue;
        }
        await pause(this.#failed(asFault(error), this.#o.now() - startedAt), signal);
      }
    }
    this.#enter('stopped');
  }

  /** Connects and captures, until aborted. @throws what went wrong */
  async #connect(signal: AbortSignal): Promise<void> {
    this.#enter('connecting');
    this.#attempt = new AbortController();
    const attempt = AbortSignal.any([signal, this.#attempt.signal]);
    const { spool } = this.#o;
    if (spool.stream().superseded) {
      throw new TributaryError(
        'EPOCH_SUPERSEDED',
        'A newer epoch of this branch is the valid one. Capture has stopped.',
      );
    }
    // A function, because TypeScript would assume that the state is the same after an await.
    const isGivenUp = (): boolean => attempt.aborted;
    await this.#waitForRoom(attempt);
    if (isGivenUp()) return;
    const prepared = await this.#prepare();
    if (isGivenUp()) return;
    const position = spool.position();
    if (position === null) throw new TributaryError('INTERNAL', 'The epoch has no position.');
    // Places at another server mean nothing.
    if (position.source.server !== prepared.identity.server || position.lastGroup === null) this.#faultAt = null;
    spool.discardOpenGroup();
    const session = await CaptureSession.open({
      ...this.#o,
      prepared,
      position,
      serverId: this.#serverId,
      preparation: this.#preparation,
      verifications: this.verifications,
      rolledBack: this.#rolledBack,
      age: this.#age,
      fault: this.#fault,
      faultAt: this.#faultAt,
      snapshotFault: this.#snapshotFault,
    });
    await this.#capture(session, attempt, signal);
  }

  /** The life of a session. @param signal whether the whole process ends, so that what was taken is worth storing */
  async #capture(session: CaptureSession, attempt: AbortSignal, signal: AbortSignal): Promise<void> {
    const { sink } = session;
    try {
      if (attempt.aborted) return;
      this.#enter('capturing');
      this.#session = session;
      const fault = await session.run(attempt);
      if (fault === null) return;
      if (this.#repeatedFaults.isLasting(fault)) {
        this.#newEpoch = { reason: `The binlog cannot be read any further: ${fault.message}` };
      }
      throw this.#repeatedFaults.judge(fault, !sink.isTaking);
    } finally {
      this.#faultAt = sink.isTaking ? sink.place : null;
      this.#events += session.events;
      this.#session = null;
      const closed = session.close(signal.aborted);
      this.#capturedThrough = sink.capturedThrough ?? this.#capturedThrough;
      this.#serverAheadSeconds = sink.serverAheadSeconds;
      await closed;
    }
  }

  /** Waits until the spool has room, because reading on would only fail. */
  async #waitForRoom(attempt: AbortSignal): Promise<void> {
    this.#o.spool.discardOpenGroup();
    let isFull = false;
    // A new epoch empties the spool.
    while (!attempt.aborted && this.#newEpoch === null && !this.#o.spool.hasRoom()) {
      if (!isFull) {
        isFull = true;
        this.#enter('waiting-for-room');
        this.#o.logger.warn({}, SPOOL_FULL_NOTICE);
      }
      await pause(ROOM_POLL_MS, attempt);
    }
    if (isFull && !attempt.aborted) this.#enter('connecting');
  }

  /** Checks the server and, if there is no position to resume from, begins an epoch. */
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

  /** @param afterMs how long the attempt lasted @returns how long to wait before the next one @throws what ends the process */
  #failed(fault: TributaryError, afterMs: number): number {
    if (fault.code === 'INTERNAL' || fault.code === 'SPOOL_IO' || fault.code === 'SPOOL_CORRUPT') throw fault;
    const { times } = this.#fault.note(fault);
    if (fault instanceof UnloggedWrites) {
      queueMissedTables(this.#o, this.#capturedThrough, this.#preparation.settingsRightAt);
    }
    // A fault that a person must repair has to do with what was read, not with the connection.
    if (fault.retryable) this.#unbroken = false;
    this.#o.counters.fault(fault.code);
    if (fault.code === 'SOURCE_POSITION_LOST') this.#newEpoch = { reason: fault.message };
    this.#enter(fault.retryable ? 'backing-off' : 'halted');
    if (afterMs > MAX_BACK_OFF_MS) this.#backOffMs = FIRST_BACK_OFF_MS;
    const waitMs = fault.retryable ? this.#backOffMs * (0.5 + Math.random()) : HALTED_RETRY_MS;
    this.#logFault(fault, times, waitMs);
    // A server that is away is tried often: the settings that it comes back with may be visible for a moment only.
    const most = fault.code === 'SOURCE_UNREACHABLE' ? MAX_BACK_OFF_FOR_SERVER_MS : MAX_BACK_OFF_MS;
    this.#backOffMs = Math.min(most, this.#backOffMs * 2);
    return waitMs;
  }

  /** A fault that repeats is logged loudly the first, second, fourth, eighth … time only. */
  #logFault({ code, hint, message, retryable }: TributaryError, times: number, waitMs: number): void {
    const isLoud = Number.isInteger(Math.log2(times));
    const level = !isLoud ? 'debug' : retryable ? 'warn' : 'error';
    this.#o.logger[level]({ code, hint, retryInMs: Math.round(waitMs) }, message);
  }
}

function asFault(error: unknown): TributaryError {
  if (error instanceof TributaryError) return error;
  return new TributaryError('INTERNAL', describeError(error), { cause: error });
}
