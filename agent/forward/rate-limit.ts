/**
 * How fast the link is used, and how long to wait before the next attempt to connect. Pure arithmetic: times are
 * arguments in milliseconds since 1970, and so are random numbers. When the link may be used:
 * shared/config/link-schedule.ts.
 */
import type { LinkSchedule } from '../../shared/config/link-schedule.ts';

export interface LinkPolicy extends LinkSchedule {
  /** 0: no limit. */
  readonly maxBytesPerSecond: number;
  /** So old changes may become before they are sent; 0: they are sent at once. */
  readonly freshnessMs?: number;
}

/**
 * Limits bytes per second by a balance that fills with time, up to the bytes of one second. Sending is allowed while
 * the balance is positive, and may make it negative. So a batch larger than that can be sent, and the pause comes
 * afterwards.
 */
export class BandwidthLimit {
  readonly #bytesPerSecond: number;
  #balance: number;
  #at: number;

  /** @param bytesPerSecond 0: no limit */
  constructor(bytesPerSecond: number, now: number) {
    this.#bytesPerSecond = bytesPerSecond;
    this.#balance = bytesPerSecond;
    this.#at = now;
  }

  /** Milliseconds until something may be sent; 0: now. */
  waitMs(now: number): number {
    if (this.#bytesPerSecond === 0) return 0;
    this.#fill(now);
    return this.#balance > 0 ? 0 : Math.floor((-this.#balance * 1000) / this.#bytesPerSecond) + 1;
  }

  spend(bytes: number, now: number): void {
    if (this.#bytesPerSecond === 0) return;
    this.#fill(now);
    this.#balance -= bytes;
  }

  #fill(now: number): void {
    // A clock that was set back must neither lower the balance nor keep it from filling.
    const elapsed = Math.max(0, now - this.#at);
    this.#at = now;
    this.#balance = Math.min(this.#bytesPerSecond, this.#balance + (elapsed * this.#bytesPerSecond) / 1000);
  }
}

export interface BackOff {
  readonly firstMs: number;
  readonly maxMs: number;
}

/**
 * `failed`: the broker was reached. Each attempt costs the broker something, so the pauses grow; the first is short,
 * because a line that drops its connections is mostly back at once. `unreachable`: an attempt costs one small packet,
 * and the internet may work for only an hour, so its return is noticed within half a second.
 */
export interface BackOffs {
  readonly failed: BackOff;
  readonly unreachable: BackOff;
}

export const BACK_OFFS: BackOffs = {
  failed: { firstMs: 50, maxMs: 30_000 },
  unreachable: { firstMs: 50, maxMs: 500 },
};

/**
 * How long to wait before attempt n + 1: twice as long each time, the upper half at random. So branches that lose their
 * connections together, when a broker restarts, do not come back together.
 * @param failures in a row so far, 1 or more
 * @param random in [0, 1)
 */
export function backOffMs(backOff: BackOff, failures: number, random: number): number {
  const full = Math.min(backOff.maxMs, backOff.firstMs * 2 ** Math.min(failures - 1, 30));
  return Math.round(full / 2 + (full / 2) * random);
}
