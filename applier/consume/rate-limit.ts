/**
 * How often something may happen: `burst` times at once, then once in `everyMs`. Pure; times are milliseconds of any
 * clock that does not go back.
 */
export interface RateLimits {
  readonly burst: number;
  readonly everyMs: number;
}

export class RateLimit {
  readonly #limits: RateLimits;
  /** When the allowance would be whole again. */
  #wholeAt = -Infinity;

  constructor(limits: RateLimits) {
    this.#limits = limits;
  }

  /** Takes one, also from the future; returns the milliseconds until it is due. */
  take(nowMs: number): number {
    const { burst, everyMs } = this.#limits;
    this.#wholeAt = Math.max(this.#wholeAt, nowMs) + everyMs;
    return Math.max(0, this.#wholeAt - nowMs - burst * everyMs);
  }

  /** Takes one if it is due now. */
  takeNow(nowMs: number): boolean {
    const { burst, everyMs } = this.#limits;
    if (Math.max(this.#wholeAt, nowMs) + everyMs - nowMs > burst * everyMs) return false;
    this.take(nowMs);
    return true;
  }
}
