/**
 * How fast the link is used, and how long to wait before trying it again. Pure arithmetic: times come in as
 * milliseconds since 1970, random numbers as arguments. When it may be used: shared/config/link-schedule.ts.
 */
import type { LinkSchedule } from '../../shared/config/link-schedule.ts';

export interface LinkPolicy extends LinkSchedule {
  /** 0: as fast as it goes. */
  readonly maxBytesPerSecond: number;
}

/**
 * Bytes per second, as a balance that fills with time up to one second's worth. Sending is allowed while it is
 * positive and may make it negative, so that a batch larger than a second's worth passes, and is paid for afterwards.
 */
export class RateLimit {
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
    // A clock that was set back must not take away what was earned, nor stop the filling.
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
 * Where somebody answers and what follows fails, each attempt costs the broker something: the pauses grow, but the first is
 * short, because a line that drops its connections is mostly there again at once. Where nobody answers an attempt costs
 * one small packet, and the internet is there for an hour: its return is noticed in half a second.
 */
export interface BackOffs {
  readonly failed: BackOff;
  readonly away: BackOff;
}

export const BACK_OFFS: BackOffs = {
  failed: { firstMs: 50, maxMs: 30_000 },
  away: { firstMs: 50, maxMs: 500 },
};

/**
 * How long to wait before attempt n + 1: doubling, with the upper half at random, so that branches which a broker's
 * restart has cut off together do not come back together.
 * @param failures in a row so far, 1 or more
 * @param random in [0, 1)
 */
export function backOffMs(backOff: BackOff, failures: number, random: number): number {
  const full = Math.min(backOff.maxMs, backOff.firstMs * 2 ** Math.min(failures - 1, 30));
  return Math.round(full / 2 + (full / 2) * random);
}
