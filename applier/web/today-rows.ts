/** Rows received in each of the last 24 hours, beside the same hours a week before, from the samples of the fleet. Pure. */
import type { Sample } from '../store/samples.ts';
import { DAY_MS, momentOf, wallOf } from './zone-time.ts';

const HOUR_S = 3_600;
const HOURS = 24;
/** Fewer hours with both figures are no comparison. */
const COMPARED_HOURS = 18;

export interface RowsByHour {
  /** The end of each hour, seconds since 1970, the oldest first. */
  readonly at: readonly number[];
  /** Written and deleted within it; null: not known. */
  readonly rows: readonly (number | null)[];
  /** In the same hour of the same weekday before. */
  readonly before: readonly (number | null)[];
  /** In all these hours, as far as counters say, also where they do not say in which hour. */
  readonly total: number;
  /** How much more came than a week before, of the hours of which both are known: 0.1 is a tenth more; null: not known. */
  readonly change: number | null;
}

/** How far back samples are needed. */
export const NEEDED_SECONDS = (7 * DAY_MS) / 1_000 + (HOURS + 3) * HOUR_S;

/**
 * @param samples of an hour each, the oldest first
 * @param now milliseconds since 1970
 */
export function rowsByHour(
  samples: readonly (Pick<Sample, 'rows'> & { readonly at: number })[],
  now: number,
  zone: string,
): RowsByHour {
  const counters = new Map(samples.map(({ at, rows }) => [at, rows]));
  const inHour = (end: number): number | null => {
    const [before, after] = [counters.get(end - HOUR_S), counters.get(end)];
    return before === undefined || after === undefined ? null : Math.max(0, after - before);
  };
  const last = Math.floor(now / 1_000 / HOUR_S) * HOUR_S;
  const at = Array.from({ length: HOURS }, (_, i) => last - (HOURS - 1 - i) * HOUR_S);
  const rows = at.map(inHour);
  // By the clock on the wall: seven days are not always as many hours.
  const before = at.map(end => inHour(momentOf(zone, wallOf(zone, end * 1_000) - 7 * DAY_MS) / 1_000));
  const both = rows.flatMap((value, i) => {
    const then = before[i] ?? null;
    return value === null || then === null ? [] : [[value, then] as const];
  });
  // A counter goes on over hours without samples.
  const known = samples.filter(sample => sample.at >= last - HOURS * HOUR_S && sample.at <= last);
  const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
  const sumBefore = sum(both.map(([, then]) => then));
  return {
    at,
    rows,
    before,
    total: Math.max(0, (known.at(-1)?.rows ?? 0) - (known[0]?.rows ?? 0)),
    change: both.length < COMPARED_HOURS || sumBefore === 0 ? null : sum(both.map(([value]) => value)) / sumBefore - 1,
  };
}
