/**
 * Asks the server now and then what time it is and where its binlog ends.
 *
 * That is how capture knows until when it has everything, also on a Sunday on which nothing is sold. And it shows what the
 * stream does not: a server whose binlog was reset goes on sending heartbeats of the file that it has deleted. So an end that
 * goes backwards is a lost position, and a stream that idles before the end is read anew. A look through a new connection
 * shows when the address leads to another server, while the stream still hangs on the old one; and by then the settings
 * may have been changed, which running sessions do not notice.
 *
 * Failures of its connection are tried again; meanwhile capture claims nothing new.
 */
import { TributaryError } from '../../shared/errors.ts';
import type { ErrorCode } from '../../shared/errors.ts';
import { pause } from '../../shared/pause.ts';
import { MysqlGtidSet } from '../binlog/gtid-set.ts';
import type { BinlogPosition } from '../binlog/group-sink.ts';
import type { CaptureSink } from '../stream/sink.ts';
import { comparePositions } from '../source/connection.ts';
import type { BinlogEnd, SourceConnection, SourceIdentity } from '../source/connection.ts';

/** Each costs three small questions, a tenth of what an idle agent takes. Hellos tell of it every five seconds. */
const LOOK_MS = 2_000;
/** Looks through one connection. */
const MOST_LOOKS = 10;
/** A commit is in the binlog before it is sent; a stream that has idled for longer before the end will not get there. */
const IDLE_BEFORE_END_MS = 5_000;
/** Heartbeats in that time by which it is known to idle, and not to be paused. */
const IDLE_HEARTBEATS = 8;
/** What the stream must not be read on after. */
const ENDING: ReadonlySet<string> = new Set<ErrorCode>(['SOURCE_SETTING', 'SOURCE_POSITION_LOST', 'STREAM_ENDED']);

export interface BinlogEndPollOptions {
  readonly connect: () => Promise<SourceConnection>;
  readonly identity: SourceIdentity;
  readonly sink: CaptureSink;
  /** Asked at each new connection. @throws TributaryError SOURCE_SETTING */
  readonly checkSettings: (source: SourceConnection) => Promise<void>;
  readonly now: () => number;
  /** The stream must not be read any further. */
  readonly onFault: (fault: TributaryError) => void;
}

/** Works until aborted. Never rejects. */
export async function pollBinlogEnd(options: BinlogEndPollOptions, signal: AbortSignal): Promise<void> {
  const { sink, now, identity } = options;
  const history = new EndHistory(sink, now);
  let source: SourceConnection | null = null;
  let looks = 0;
  const hangUp = (): void => {
    source?.destroy();
    source = null;
  };
  signal.addEventListener('abort', hangUp, { once: true });
  // Asked anew after each await: what the compiler concluded before it no longer holds.
  const stopping = (): boolean => signal.aborted;
  while (!stopping()) {
    try {
      if (looks >= MOST_LOOKS) hangUp();
      if (source === null) {
        source = await options.connect();
        looks = 0;
        const { server } = await source.identity();
        if (server !== identity.server) throw streamEnded(`another server (${server}) answers at the address now`);
        await options.checkSettings(source);
      }
      looks += 1;
      const before = history.begin();
      const localMs = now();
      // In this order: what was committed before this time is before the end that is read after it.
      const at = await source.time();
      const end = await source.binlogEnd();
      if (!stopping()) {
        history.take(before, end);
        if (sink.wantsEndMark) sink.noteEnd({ place: { file: end.file, offset: end.offset }, at, localMs });
      }
    } catch (error) {
      if (endsStream(error) && !stopping()) options.onFault(error);
      // The binlog connection tells what else is wrong with the server; without this one only the claim stands still.
      hangUp();
    }
    await pause(LOOK_MS, signal);
  }
  signal.removeEventListener('abort', hangUp);
  hangUp();
}

/** What the ends of the binlog say of the stream, one after the other. */
class EndHistory {
  readonly #sink: CaptureSink;
  readonly #now: () => number;
  /** Of the end before. */
  #executed: MysqlGtidSet | null = null;
  /** An end that the stream has not reached, since when, and what it had heard then. */
  #ahead: { readonly place: BinlogPosition; readonly since: number; readonly heartbeats: number } | null = null;

  constructor(sink: CaptureSink, now: () => number) {
    this.#sink = sink;
    this.#now = now;
  }

  /** To be called before the end is asked for. @returns where the stream is; null: it has not been compared yet */
  begin(): BinlogPosition | null {
    return this.#sink.phase === 'taking' ? this.#sink.place : null;
  }

  /** @throws TributaryError SOURCE_POSITION_LOST, STREAM_ENDED */
  take(before: BinlogPosition | null, end: BinlogEnd): void {
    if (before !== null && comparePositions(end, before) < 0) {
      throw lost(`it ends at ${end.file}:${end.offset}, before ${before.file}:${before.offset} that was read`);
    }
    const executed = MysqlGtidSet.parse(end.gtidSet);
    if (this.#executed !== null && !executed.includes(this.#executed)) throw lost('executed GTIDs have gone');
    this.#executed = executed;
    if (before !== null) this.#watchIdling(end);
  }

  #watchIdling(end: BinlogEnd): void {
    const { place, idleHeartbeats } = this.#sink;
    const ahead = this.#ahead;
    // A group has come since: it reads on.
    const moves = ahead !== null && idleHeartbeats < ahead.heartbeats;
    if (ahead === null || moves || comparePositions(place, ahead.place) >= 0) {
      const isBehind = comparePositions(place, end) < 0;
      this.#ahead = isBehind ? { place: end, since: this.#now(), heartbeats: idleHeartbeats } : null;
      return;
    }
    if (this.#now() - ahead.since < IDLE_BEFORE_END_MS || idleHeartbeats - ahead.heartbeats < IDLE_HEARTBEATS) return;
    throw streamEnded(
      `the stream idles at ${place.file}:${place.offset}, though the binlog went on to ${ahead.place.file}:${ahead.place.offset}`,
    );
  }
}

function endsStream(error: unknown): error is TributaryError {
  return error instanceof TributaryError && ENDING.has(error.code);
}

function lost(what: string): TributaryError {
  return new TributaryError('SOURCE_POSITION_LOST', `the binlog was reset while it was read: ${what}`);
}

function streamEnded(message: string): TributaryError {
  return new TributaryError('STREAM_ENDED', message);
}
