/**
 * Until when everything that was committed is captured.
 *
 * This follows from the commit time of the last group, and from the ends of the binlog that the server reports: when the
 * stream is past such an end, everything that was committed before is taken. A heartbeat alone does not say when it was
 * sent: it may have waited in the socket behind a backlog or a pause.
 */
import type { BinlogPosition } from '../binlog/group-sink.ts';
import { comparePositions } from '../source/connection.ts';

/** Where the binlog ended at a time: the server's time, and ours in milliseconds. */
export interface EndMark {
  readonly place: BinlogPosition;
  readonly at: string;
  readonly localMs: number;
}

export class Watermark {
  readonly #now: () => number;
  /** An end of the binlog that the stream has not reached yet, and the last one that it has reached. */
  #ahead: EndMark | null = null;
  #reached: EndMark | null = null;
  /** How far the server's clock is ahead of ours. */
  #skewMs = 0;
  #time: string | null = null;

  /** @param now our clock, in milliseconds */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** The spool has everything that was committed until then; null: not yet known. ISO time. */
  get time(): string | null {
    return this.#time;
  }

  /** How many seconds the server's clock is ahead of ours, as last seen; negative: behind. */
  get aheadSeconds(): number {
    return Math.round(this.#skewMs / 1000);
  }

  /** Whether another end is of use. There is only one at a time, so that a busy stream reaches it. */
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

  /** The spool has everything that was taken. @param committedAt commit time of the last group taken */
  stored(committedAt: string | null): void {
    const { at = null } = this.#reached ?? {};
    // A session can set the time with which its statements are logged, even to a time in the future.
    const plausible = committedAt !== null && Date.parse(committedAt) <= this.#now() + this.#skewMs;
    for (const time of [plausible ? committedAt : null, at]) {
      if (time === null) continue;
      if (this.#time === null || Date.parse(time) > Date.parse(this.#time)) this.#time = time;
    }
  }

  /** Until when, by our clock, everything that was committed was taken, in milliseconds; null: not yet known. */
  takenUntilMs(committedAt: string | null): number | null {
    const last = committedAt === null ? null : Date.parse(committedAt) - this.#skewMs;
    if (this.#reached === null) return last;
    return Math.max(this.#reached.localMs, last ?? 0);
  }
}
