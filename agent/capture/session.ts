/**
 * The life of one binlog connection: opens the stream, and beside it runs the snapshotter, the verifier and the poll of
 * the binlog's end. It ends with a fault, or because it was aborted.
 *
 * States (only `#enter` changes them):
 *
 *   resuming           the last group taken is read again and compared   ──it is the same──▶ streaming
 *   streaming          groups are taken                                  ──the spool is full──▶ waiting-for-room
 *   waiting-for-room   the stream is paused                              ──the spool has room──▶ streaming
 *   ended              from any of them, for good; what is not in the spool is void
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { TributaryError } from '../../shared/errors.ts';
import { tableText } from '../../shared/table-name.ts';
import type { TableName } from '../../shared/table-name.ts';
import { openBinlogStream } from '../binlog/binlog-stream.ts';
import type { BinlogStream, RawEvent } from '../binlog/binlog-stream.ts';
import { GroupReader } from '../binlog/group-reader.ts';
import type { BinlogPosition } from '../binlog/group-sink.ts';
import type { RolledBackRows } from '../binlog/rolled-back-rows.ts';
import type { FaultWatch } from '../fault-watch.ts';
import { Snapshotter } from '../snapshot/snapshotter.ts';
import type { Position } from '../spool/spool.ts';
import { StateMachine } from '../state-machine.ts';
import type { Transitions } from '../state-machine.ts';
import { CaptureSink } from '../stream/sink.ts';
import type { SinkListener } from '../stream/sink.ts';
import type { VerifyRequests } from '../verify/requests.ts';
import { Verifier } from '../verify/verifier.ts';
import type { BatchMaxAge } from './batch-max-age.ts';
import { pollBinlogEnd } from './binlog-end-poll.ts';
import type { CaptureOptions, SessionState } from './capture-types.ts';
import { FlushPolicy } from './flush-policy.ts';
import type { FlushHost } from './flush-policy.ts';
import type { Preparation, Prepared } from './preparation.ts';
import { startOf } from './resume-point.ts';

/** How often an idle server sends a heartbeat: the snapshot chunks of an idle branch wait for it. */
const HEARTBEAT_MS = 250;
/** The stream ends when it is silent for this long. */
const SILENCE_MS = 10_000;
/** The session ends after so long a pause: waiting for room needs no connection, and the server would hang up at last. */
const MAX_PAUSE_MS = 30_000;
const ROOM_POLL_MS = 500;
export const SPOOL_FULL_NOTICE =
  'The spool is full: capture stops reading until the spool has room again. Nothing is lost.';

const TRANSITIONS: Transitions<SessionState> = {
  resuming: ['streaming', 'ended'],
  streaming: ['waiting-for-room', 'ended'],
  'waiting-for-room': ['streaming', 'ended'],
  ended: [],
};

export interface SessionOptions extends CaptureOptions {
  readonly prepared: Prepared;
  readonly position: Position;
  readonly serverId: number;
  readonly preparation: Preparation;
  readonly verifications: VerifyRequests;
  readonly rolledBack: RolledBackRows;
  readonly age: BatchMaxAge;
  /** The fault that holds capture up. */
  readonly fault: FaultWatch;
  /** Where the stream stood when capture failed last; null: it had not begun to take groups. */
  readonly faultAt: BinlogPosition | null;
  /** Faults of the snapshot, beside which the stream goes on. */
  readonly snapshotFault: FaultWatch;
}

export class CaptureSession implements SinkListener, FlushHost {
  readonly sink: CaptureSink;
  readonly #o: SessionOptions;
  readonly #machine = new StateMachine<SessionState>('A capture session', TRANSITIONS, 'resuming');
  readonly #stream: BinlogStream;
  readonly #reader: GroupReader;
  readonly #flushPolicy: FlushPolicy;
  /** Ends all that runs beside the stream. */
  readonly #ending = new AbortController();
  readonly #failure = Promise.withResolvers<never>();
  #events = 0;

  /** @throws TributaryError SOURCE_UNREACHABLE, SOURCE_ACCESS_DENIED, SOURCE_POSITION_LOST */
  static async open(options: SessionOptions): Promise<CaptureSession> {
    const start = startOf(options.position, options.prepared.identity);
    const stream = await openBinlogStream({
      connection: options.connection,
      serverId: options.serverId,
      start,
      heartbeatMs: HEARTBEAT_MS,
      silenceMs: SILENCE_MS,
      // The stream delivers no event before it has been returned.
      onEvent: event => session.#take(event),
    });
    const session = new CaptureSession(options, stream, start.kind === 'file' ? start : null);
    options.counters.connected();
    return session;
  }

  private constructor(options: SessionOptions, stream: BinlogStream, start: BinlogPosition | null) {
    this.#o = options;
    this.#stream = stream;
    const { identity, catalogue, charsets } = options.prepared;
    this.sink = new CaptureSink({ ...options, identity, catalogue, listener: this });
    this.#reader = new GroupReader(this.sink, start, charsets, options.rolledBack);
    this.#flushPolicy = new FlushPolicy({ ...options, sink: this.sink, host: this });
    if (this.sink.isTaking) this.#enter('streaming');
  }

  get state(): SessionState {
    return this.#machine.state;
  }

  /** The only place where the state changes. @throws TributaryError INTERNAL */
  #enter(state: SessionState): void {
    this.#machine.enter(state);
  }

  /** Events read so far. */
  get events(): number {
    return this.#events;
  }

  /**
   * Works until aborted, or until the stream or something beside it fails.
   * @returns why the stream ended; null: aborted
   * @throws what failed beside the stream
   */
  async run(signal: AbortSignal): Promise<TributaryError | null> {
    const { connect, tableFilter, spool, logger, now, prepared, preparation, verifications } = this.#o;
    const { sink } = this;
    const { identity, charsets } = prepared;
    const session = AbortSignal.any([signal, this.#ending.signal]);
    const aborted = new Promise<null>(resolve => {
      if (session.aborted) resolve(null);
      session.addEventListener('abort', () => resolve(null), { once: true });
    });
    const tools = { connect, identity, tableFilter, charsets, spool, sink, logger };
    const snapshotter = new Snapshotter({ ...tools, trouble: this.#o.snapshotFault });
    const verifier = new Verifier({ ...tools, requests: verifications });
    const beside = [
      snapshotter.run(session),
      verifier.run(session),
      pollBinlogEnd({ connect, identity, sink, preparation, now }, session),
    ].map(running => running.then(() => null));
    return Promise.race([this.#stream.ended, aborted, ...beside, this.#failure.promise]);
  }

  /** @param flush whether what was taken goes into the spool first; it is void otherwise, and read again */
  async close(flush: boolean): Promise<void> {
    this.#enter('ended');
    this.#flushPolicy.stop();
    this.#ending.abort();
    // No event is delivered after this call. Only the server's side is still to be waited for.
    const closed = this.#stream.close();
    try {
      // The spool takes only what ends between groups.
      if (flush && this.sink.isBetweenGroups) this.sink.flush();
    } finally {
      this.#o.spool.discardOpenGroup();
      await closed;
    }
  }

  /** Puts what was taken into the spool at once, or as soon as the open group has ended. */
  closeBatch(): void {
    this.#flushPolicy.close();
  }

  /** The forwarder has nothing under way any more. */
  onForwarderIdle(): void {
    this.#flushPolicy.look();
  }

  /** Something beside the stream has failed: the session ends with the error. */
  fail(error: unknown): void {
    this.#failure.reject(error);
  }

  #take(event: RawEvent): void {
    this.#events += 1;
    this.#o.counters.read(event.length);
    this.#reader.handle(event);
  }

  onSpooled(): void {
    if (this.state !== 'streaming' || this.#o.spool.hasRoom()) return;
    this.#stream.pause();
    this.#enter('waiting-for-room');
    this.#o.logger.warn({}, SPOOL_FULL_NOTICE);
    this.#waitForRoom().catch((error: unknown) => this.fail(error));
  }

  onQuiet(): void {
    if (this.state === 'resuming' && this.sink.isTaking) this.#enter('streaming');
    if (this.sink.hasPassed(this.#o.faultAt)) this.#o.fault.passed();
    this.#flushPolicy.look();
  }

  onUnlogged(message: string): void {
    this.#o.logger.warn({}, message);
  }

  onSetAside(table: TableName, { code, message, hint }: TributaryError): void {
    this.#o.logger.error(
      { table: tableText(table), code, hint },
      `A table is set aside, and everything else goes on: ${message}`,
    );
  }

  async #waitForRoom(): Promise<void> {
    const since = this.#o.now();
    // A function, because TypeScript would assume that the state is the same after an await.
    const isWaiting = (): boolean => this.state === 'waiting-for-room';
    while (isWaiting()) {
      if (this.#o.spool.hasRoom()) {
        this.#enter('streaming');
        this.#o.logger.info({}, 'The spool has room again.');
        this.#stream.resume();
        return;
      }
      if (this.#o.now() - since > MAX_PAUSE_MS) {
        this.#ending.abort();
        return;
      }
      await sleep(ROOM_POLL_MS);
    }
  }
}
