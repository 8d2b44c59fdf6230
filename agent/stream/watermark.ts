/**
 * Until when everything that was committed has been captured.
 *
 * Known by the commit time of the last group, and by ends of the binlog that the server was asked for: once the stream is
 * past such a place, everything that was committed before is taken. A heartbeat alone does not tell when it was sent: it
 * may have waited in the socket behind a backlog or a pause.
 */
import type { BinlogPosition } from '../binlog/group-sink.ts';
import { comparePositions } from '../source/connection.ts';

/** Where the binlog ended, and when that was: the server's time, and ours in milliseconds. */
export interface EndMark {
  readonly place: BinlogPosition;
  readonly at: string;
  readonly localMs: number;
}

export class Watermark {
  readonly #now: () => number;
  /** An end of the binlog that the stream has not reached yet, and the last one that it has. */
  #ahead: EndMark | null = null;
  #reached: EndMark | null = null;
  /** How far the server's clock is ahead of ours. */
  #skewMs = 0;
  #time: string | null = null;

  /** @param now our clock, in milliseconds */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** Everything that was committed until then is in the spool; null: not yet known. ISO time. */
  get time(): string | null {
    return this.#time;
  }

  /** One end at a time is of use, so that a busy stream reaches it. */
  get wantsMark(): boolean {
    return this.#ahead === null;
  }

  note(mark: EndMark): void {
    this.#ahead = mark;
    this.#skewMs = Date.parse(mark.at) - mark.localMs;
  }

  /** The stream is there now. */
  passed(place: BinlogPosition): void {
    if (this.#ahead === null || comparePositions(place, this.#ahead.place) < 0) return;
    this.#reached = this.#ahead;
    this.#ahead = null;
  }

  /** All that was taken is in the spool. @param committedAt of the last group taken */
  stored(committedAt: string | null): void {
    const { at = null } = this.#reached ?? {};
    // A session can set the time that its statements are logged with: into the future, too.
    const plausible = committedAt !== null && Date.parse(committedAt) <= this.#now() + this.#skewMs;
    for (const time of [plausible ? committedAt : null, at]) {
      if (time === null) continue;
      if (this.#time === null || Date.parse(time) > Date.parse(this.#time)) this.#time = time;
    }
  }

  /** Until when, by our clock, all that was committed has been taken, in milliseconds; null: not yet known. */
  takenUntilMs(committedAt: string | null): number | null {
    const last = committedAt === null ? null : Date.parse(committedAt) - this.#skewMs;
    if (this.#reached === null) return last;
    return Math.max(this.#reached.localMs, last ?? 0);
  }
}
