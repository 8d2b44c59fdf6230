/**
 * Wall clocks of time zones. A moment is milliseconds since 1970; a wall time is the milliseconds that its date and time
 * of day would have in UTC, so that days and hours are plain arithmetic. Pure.
 */
const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
export const DAY_MS = 24 * HOUR_MS;
/** Zones change twice a year at most for long; a step this long passes over no change that another one undoes. */
const STEP_MS = 30 * DAY_MS;
/** One formatter for each zone: making one costs more than a thousand uses. */
const MAX_CLOCKS = 20;
const clocks = new Map<string, Intl.DateTimeFormat>();

function clock(zone: string): Intl.DateTimeFormat {
  const known = clocks.get(zone);
  if (known !== undefined) return known;
  const fresh = new Intl.DateTimeFormat('en-US', {
    timeZone: zone,
    hourCycle: 'h23',
    year: 'numeric',
    month: 'numeric',
    day: 'numeric',
    hour: 'numeric',
    minute: 'numeric',
    second: 'numeric',
  });
  if (clocks.size >= MAX_CLOCKS) clocks.clear();
  clocks.set(zone, fresh);
  return fresh;
}

/** The wall time of a moment, in whole seconds. */
export function wallOf(zone: string, at: number): number {
  if (zone === 'UTC') return Math.floor(at / 1_000) * 1_000;
  const parts = new Map(
    clock(zone)
      .formatToParts(at)
      .map(({ type, value }) => [type, Number(value)]),
  );
  const of = (type: Intl.DateTimeFormatPartTypes): number => parts.get(type) ?? 0;
  return Date.UTC(of('year'), of('month') - 1, of('day'), of('hour'), of('minute'), of('second'));
}

/** How far the wall clock is ahead of UTC, in milliseconds. */
export function offsetOf(zone: string, at: number): number {
  const whole = Math.floor(at / 1_000) * 1_000;
  return wallOf(zone, whole) - whole;
}

/** The moment of a wall time: the first where clocks repeat it, the one after the gap where they pass over it. */
export function momentOf(zone: string, wall: number): number {
  const before = offsetOf(zone, wall - DAY_MS);
  const after = offsetOf(zone, wall + DAY_MS);
  for (const offset of [before, after]) {
    const at = wall - offset;
    if (offsetOf(zone, at) === offset) return at;
  }
  return wall - before;
}

/** When the clocks change between two moments, the oldest first, with the offset from then on in milliseconds. */
export function changesBetween(
  zone: string,
  from: number,
  to: number,
): readonly { readonly at: number; readonly offset: number }[] {
  const changes: { at: number; offset: number }[] = [];
  for (let start = from; start < to; start += STEP_MS) {
    const end = Math.min(to, start + STEP_MS);
    const offset = offsetOf(zone, end);
    if (offset === offsetOf(zone, start)) continue;
    let [low, high] = [start, end];
    while (high - low > 1_000) {
      const middle = Math.floor((low + high) / 2_000) * 1_000;
      if (middle <= low || middle >= high) break;
      if (offsetOf(zone, middle) === offset) high = middle;
      else low = middle;
    }
    changes.push({ at: Math.ceil(high / 1_000) * 1_000, offset });
  }
  return changes;
}

/** All that a TIMESTAMP can be: from 1970 until 19 January 2038 (MySQL manual, "The DATE, DATETIME, and TIMESTAMP Types"). */
const TIMESTAMPS_END = Date.UTC(2038, 0, 20);
/** Finding them takes a twentieth of a second. */
const allChanges = new Map<string, ReturnType<typeof changesBetween>>();

/** When the clocks change, of all times that a TIMESTAMP can have; as `changesBetween`. */
export function changesOf(zone: string): ReturnType<typeof changesBetween> {
  const known = allChanges.get(zone);
  if (known !== undefined) return known;
  const changes = changesBetween(zone, 0, TIMESTAMPS_END);
  if (allChanges.size >= MAX_CLOCKS) allChanges.clear();
  allChanges.set(zone, changes);
  return changes;
}

/** The beginning of a wall time's day. */
export function dayOf(wall: number): number {
  return Math.floor(wall / DAY_MS) * DAY_MS;
}

/** `2026-11-30 20:00:00` of a wall time, or of a moment in UTC. */
export function dateTimeText(wall: number): string {
  return new Date(wall).toISOString().slice(0, 19).replace('T', ' ');
}

/**
 * The last moment at which the day closed.
 * @param minutes after midnight, up to 24:00
 */
export function lastClosing(zone: string, minutes: number, now: number): number {
  const today = dayOf(wallOf(zone, now)) + minutes * MINUTE_MS;
  const at = momentOf(zone, today);
  return at <= now ? at : momentOf(zone, today - DAY_MS);
}
