/**
 * How often the head office may ask the branch for something costly: a few times at once, then with pauses that double.
 * Each request is forgotten after some time, so that a head office that has recovered is served at once again. Pure.
 */
export interface GrowingPause {
  /** How many times need no pause. */
  readonly free: number;
  readonly firstMs: number;
  readonly mostMs: number;
  /** One time is forgotten after this time, two after twice this time. */
  readonly forgetMs: number;
}

/** For a new epoch, which sends every table again, because an answer says that the head office has another stream. */
export const EPOCHS_ASKED: GrowingPause = { free: 1, firstMs: 1_000, mostMs: 3_600_000, forgetMs: 3_600_000 };

/** For another snapshot of tables. */
export const COPIES_ASKED: GrowingPause = { free: 8, firstMs: 10_000, mostMs: 3_600_000, forgetMs: 3_600_000 };

/** For trying tables again that are set aside, where only a copy of them shows whether the cause is gone. */
export const RETURNS_TRIED: GrowingPause = {
  free: 1,
  firstMs: 60_000,
  mostMs: 24 * 3_600_000,
  forgetMs: 24 * 3_600_000,
};

/** So many past times determine the pause. */
export const TIMES_KEPT = 32;

/** The times with this one added. */
export function noted(times: readonly number[], now: number): readonly number[] {
  return [...times, now].slice(-TIMES_KEPT);
}

/**
 * @param times when it was done, oldest first, in milliseconds of the same clock as `now`, which may have been set back
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
