/**
 * When a branch without link windows usually comes online, from its samples of the last eight days. It is said only where
 * the last days agree; else it is not known. Pure.
 */
import type { Sample } from '../store/samples.ts';
import { DAY_MS } from './zone-time.ts';

const HOUR_S = 3_600;
const DAY_S = DAY_MS / 1_000;
const DAYS = 7;
/** So many of the last seven days must have been alike, and the same weekday among them. */
const ALIKE_DAYS = 5;
/** How far apart they may be. */
const SPREAD_S = 3 * HOUR_S;
/** Online in an hour: at least this long. */
const ONLINE_MS = 60_000;

/**
 * By when the branch was online again on the last days, counted from this time of day; so it is late only after that.
 * @param samples of an hour each, the oldest first
 * @param now milliseconds since 1970
 * @returns milliseconds since 1970; null: not known
 */
export function usuallyBackAt(
  samples: readonly (Pick<Sample, 'onlineMs'> & { readonly at: number })[],
  now: number,
): number | null {
  const at = new Map(samples.map(sample => [sample.at, sample.onlineMs]));
  /** Whether it was online in the hour that ends then; null: not known. */
  const wasOnline = (end: number): boolean | null => {
    const [before, after] = [at.get(end - HOUR_S), at.get(end)];
    return before === undefined || after === undefined ? null : after - before >= ONLINE_MS;
  };
  const waits: number[] = [];
  for (let day = 1; day <= DAYS; day += 1) {
    const then = now / 1_000 - day * DAY_S;
    const wait = waitFrom(then, wasOnline);
    if (wait === null && day === DAYS) return null;
    if (wait !== null) waits.push(wait);
  }
  if (waits.length < ALIKE_DAYS || Math.max(...waits) - Math.min(...waits) > SPREAD_S) return null;
  return now + Math.max(...waits) * 1_000;
}

/** Seconds until the end of the first hour in which it was online, within a day; null: not known, or never. */
function waitFrom(then: number, wasOnline: (end: number) => boolean | null): number | null {
  const first = Math.ceil(then / HOUR_S) * HOUR_S;
  for (let end = first; end <= then + DAY_S; end += HOUR_S) {
    const online = wasOnline(end);
    if (online === null) return null;
    if (online) return end - then;
  }
  return null;
}
