/**
 * Asks the server now and then what time it is and where its binlog ends.
 *
 * So capture knows up to what time it has everything, even on a Sunday without sales. The poll also shows what the
 * stream does not. A server whose binlog was reset goes on sending heartbeats for the file that it has deleted. So an
 * end that goes backwards means a lost position, and a stream that idles before the end is read again. Each new
 * connection shows whether the address now leads to another server, while the stream is still connected to the old one.
 * It also shows changed settings, which running sessions do not notice.
 *
 * It retries when its connection fails. Until it succeeds, "captured through" does not advance.
 */
import { TributaryError } from '../../shared/errors.ts';
import type { ErrorCode } from '../../shared/errors.ts';
import { pause } from '../../shared/pause.ts';
import { MysqlGtidSet } from '../binlog/gtid-set.ts';
import type { BinlogPosition } from '../binlog/group-sink.ts';
import type { Preparation } from './preparation.ts';
import type { CaptureSink } from '../stream/sink.ts';
import { comparePositions } from '../source/connection.ts';
import type { BinlogEnd, SourceConnection, SourceIdentity } from '../source/connection.ts';

/** Each poll costs three small queries, a tenth of an idle agent's work. Hellos report the result every five seconds. */
const POLL_MS = 2_000;
/** Polls through one connection. */
const MAX_POLLS = 10;
/** A commit is in the binlog before it is sent. A stream that has idled before the end for this long will not get there. */
const IDLE_BEFORE_END_MS = 5_000;
/** This many heartbeats in that time show that the stream is idle, and not paused. */
const IDLE_HEARTBEATS = 8;
/** After these faults the stream must not be read any further. */
const ENDING: ReadonlySet<string> = new Set<ErrorCode>(['SOURCE_SETTING', 'SOURCE_POSITION_LOST', 'STREAM_ENDED']);

export interface BinlogEndPollOptions {
  readonly connect: () => Promise<SourceConnection>;
  readonly identity: SourceIdentity;
  readonly sink: CaptureSink;
  /** Checks the settings through each new connection. */
  readonly preparation: Pick<Preparation, 'checkSettings'>;
  readonly now: () => number;
}

/** Works until aborted. @throws TributaryError if the stream must not be read any further */
export async function pollBinlogEnd(options: BinlogEndPollOptions, signal: AbortSignal): Promise<void> {
  const { sink, now, identity, preparation } = options;
  const history = new EndHistory(sink, now);
  let source: SourceConnection | null = null;
  let polls = 0;
  const hangUp = (): void => {
    source?.destroy();
    source = null;
  };
  signal.addEventListener('abort', hangUp, { once: true });
  // A function, because TypeScript would assume that the state is the same after an await.
  const stopping = (): boolean => signal.aborted;
  while (!stopping()) {
    try {
      if (polls >= MAX_POLLS) hangUp();
      if (source === null) {
        source = await options.connect();
        polls = 0;
        const { server } = await source.identity();
        if (server !== identity.server) throw streamEnded(`Another server (${server}) answers at the address now.`);
        await preparation.checkSettings(source);
      }
      polls += 1;
      const before = history.begin();
      const localMs = now();
      // The order matters: what was committed before this time lies before the end that is read after it.
      const at = await source.time();
      const end = await source.binlogEnd();
      if (!stopping()) {
        history.take(before, end);
        if (sink.wantsEndMark) sink.noteEnd({ place: { file: end.file, offset: end.offset }, at, localMs });
      }
    } catch (error) {
      hangUp();
      // The binlog connection shows what else is wrong with the server.
      if (endsStream(error) && !stopping()) throw error;
    }
    await pause(POLL_MS, signal);
  }
  signal.removeEventListener('abort', hangUp);
  hangUp();
}

/** Compares the ends of the binlog, one after the other, with the stream. */
class EndHistory {
  readonly #sink: CaptureSink;
  readonly #now: () => number;
  /** The GTIDs executed at the previous end. */
  #executed: MysqlGtidSet | null = null;
  /** An end that the stream has not reached, since when, and how many heartbeats it had heard then. */
  #ahead: { readonly place: BinlogPosition; readonly since: number; readonly heartbeats: number } | null = null;

  constructor(sink: CaptureSink, now: () => number) {
    this.#sink = sink;
    this.#now = now;
  }

  /** Must be called before the end is read. @returns where the stream is; null: its last group was not compared yet */
  begin(): BinlogPosition | null {
    return this.#sink.isTaking ? this.#sink.place : null;
  }

  /** @throws TributaryError SOURCE_POSITION_LOST, STREAM_ENDED */
  take(before: BinlogPosition | null, end: BinlogEnd): void {
    if (before !== null && comparePositions(end, before) < 0) {
      throw lost(`It ends at ${end.file}:${end.offset}, before ${before.file}:${before.offset}, which was read.`);
    }
    const executed = MysqlGtidSet.parse(end.gtidSet);
    if (this.#executed !== null && !executed.includes(this.#executed))
      throw lost('GTIDs that were executed are missing now.');
    this.#executed = executed;
    if (before !== null) this.#watchIdling(end);
  }

  #watchIdling(end: BinlogEnd): void {
    const { place, idleHeartbeats } = this.#sink;
    const ahead = this.#ahead;
    // A group has come since then, so the stream is not idle.
    const moves = ahead !== null && idleHeartbeats < ahead.heartbeats;
    if (ahead === null || moves || comparePositions(place, ahead.place) >= 0) {
      const isBehind = comparePositions(place, end) < 0;
      this.#ahead = isBehind ? { place: end, since: this.#now(), heartbeats: idleHeartbeats } : null;
      return;
    }
    if (this.#now() - ahead.since < IDLE_BEFORE_END_MS || idleHeartbeats - ahead.heartbeats < IDLE_HEARTBEATS) return;
    throw streamEnded(
      `The stream idles at ${place.file}:${place.offset}, but the binlog goes on to ${ahead.place.file}:${ahead.place.offset}.`,
    );
  }
}

function endsStream(error: unknown): error is TributaryError {
  return error instanceof TributaryError && ENDING.has(error.code);
}

function lost(what: string): TributaryError {
  return new TributaryError('SOURCE_POSITION_LOST', `The binlog was reset while it was read. ${what}`);
}

function streamEnded(message: string): TributaryError {
  return new TributaryError('STREAM_ENDED', message);
}
