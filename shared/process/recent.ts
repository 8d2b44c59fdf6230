/** Rates of the last minute and figures of the last hours, for people. Bounded. Callers pass the time. */

const SLOT_MS = 5_000;
const SLOTS = 12;

/** The rate of something per second over the last minute. */
export class RecentRate {
  /** Sums by slot number. */
  readonly #slots = new Map<number, number>();
  #since: number | null = null;

  add(amount: number, now: number): void {
    const slot = Math.floor(now / SLOT_MS);
    this.#since ??= now;
    this.#slots.set(slot, (this.#slots.get(slot) ?? 0) + amount);
    this.#forget(slot);
  }

  perSecond(now: number): number {
    this.#forget(Math.floor(now / SLOT_MS));
    if (this.#since === null || this.#slots.size === 0) return 0;
    const sum = [...this.#slots.values()].reduce((a, b) => a + b, 0);
    const span = Math.min(SLOTS * SLOT_MS, Math.max(SLOT_MS, now - this.#since));
    return (sum * 1000) / span;
  }

  #forget(slot: number): void {
    for (const old of this.#slots.keys()) if (old <= slot - SLOTS) this.#slots.delete(old);
    // After an idle minute the next rate starts afresh.
    if (this.#slots.size === 0) this.#since = null;
  }
}

const SAMPLES = 180;

/** A figure over time, with at most one sample per minute. */
export class RecentHistory {
  readonly #samples: number[] = [];
  readonly #everyMs: number;
  #at = -Infinity;

  constructor(everyMs = 60_000) {
    this.#everyMs = everyMs;
  }

  /** Takes a sample if one is due. */
  note(value: number, now: number): void {
    if (now - this.#at < this.#everyMs) return;
    this.#at = now;
    this.#samples.push(value);
    if (this.#samples.length > SAMPLES) this.#samples.shift();
  }

  /** Oldest first. */
  samples(): HistoryView {
    return { everySeconds: this.#everyMs / 1000, values: [...this.#samples] };
  }
}

export interface HistoryView {
  readonly everySeconds: number;
  readonly values: readonly number[];
}

/** Seconds until this amount is done at this rate; null: nothing is left, or nothing moves. */
export function secondsLeft(amount: number, perSecond: number): number | null {
  return amount <= 0 || perSecond <= 0 ? null : Math.round(amount / perSecond);
}
