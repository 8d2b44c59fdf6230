/**
 * How often something may happen: `burst` times at once, then once every `everyMs`. Pure: times are milliseconds of a
 * clock that does not go back.
 */
export interface RateLimits {
  readonly burst: number;
  readonly everyMs: number;
}

export class RateLimit {
  readonly #limits: RateLimits;
  /** When the whole burst is available again. */
  #fullAt = -Infinity;

  constructor(limits: RateLimits) {
    this.#limits = limits;
  }

  /** Takes one, if necessary of those to come. @returns the milliseconds until it is due */
  take(nowMs: number): number {
    const { burst, everyMs } = this.#limits;
    this.#fullAt = Math.max(this.#fullAt, nowMs) + everyMs;
    return Math.max(0, this.#fullAt - nowMs - burst * everyMs);
  }

  /** Takes one if it is due now. */
  takeNow(nowMs: number): boolean {
    const { burst, everyMs } = this.#limits;
    if (Math.max(this.#fullAt, nowMs) + everyMs - nowMs > burst * everyMs) return false;
    this.take(nowMs);
    return true;
  }
}
