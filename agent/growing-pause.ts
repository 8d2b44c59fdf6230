/**
 * How often the head office may have the branch do something costly: a few times at once, then after pauses that double.
 * Each time is forgotten after a while of rest, so that a head office that is well again is served at once again. Pure.
 */
export interface GrowingPause {
  /** So many times without a pause. */
  readonly free: number;
  readonly firstMs: number;
  readonly mostMs: number;
  /** One time is forgotten after so long, two after twice as long. */
  readonly forgetMs: number;
}

/** A new epoch, which reads and sends every table, because an answer says that the head office has another stream. */
export const EPOCHS_ASKED: GrowingPause = { free: 1, firstMs: 1_000, mostMs: 3_600_000, forgetMs: 3_600_000 };

/** Another copy of tables. */
export const COPIES_ASKED: GrowingPause = { free: 8, firstMs: 10_000, mostMs: 3_600_000, forgetMs: 3_600_000 };

/** Of the times before so many are enough to know the pause. */
export const TIMES_KEPT = 32;

/** The times with one more. */
export function noted(times: readonly number[], now: number): readonly number[] {
  return [...times, now].slice(-TIMES_KEPT);
}

/**
 * @param times when it was done, oldest first; milliseconds of the same clock as `now`, which may have been set back
 * @returns milliseconds until it may be done again; 0: now
 */
export function pauseMs(
  times: readonly number[],
  { free, firstMs, mostMs, forgetMs }: GrowingPause,
  now: number,
): number {
  let level = 0;
  let last = -Infinity;
  for (const at of times.slice(-TIMES_KEPT)) {
    level = Math.max(0, level - Math.max(0, at - last) / forgetMs) + 1;
    last = at;
  }
  const rested = Math.max(0, now - last);
  level = Math.round(Math.max(0, level - rested / forgetMs));
  if (level < free) return 0;
  const pause = Math.min(mostMs, firstMs * 2 ** (level - free));
  return Math.max(0, Math.min(pause, Math.ceil(pause - rested)));
}
