/**
 * "Complete as of": until which time the head office holds everything that was committed at a branch.
 *
 * A hello says: all that was committed until `capturedThrough` is in batches up to `head.seq`. Once the head office
 * has applied that batch it is complete as of that time, also when nothing has been sold since: a quiet Sunday is not
 * a lag. Pairs that wait are remembered, bounded. Pure.
 *
 * Invariants: `through` never goes back within an epoch; pending pairs ascend strictly in time and in seq.
 */
import { toDateTime } from './sql-values.ts';

export interface PendingTime {
  /** ISO 8601, UTC. */
  readonly through: string;
  /** Must be applied before the time counts. */
  readonly seq: number;
}

export interface Completeness {
  /** ISO 8601, UTC; null: never yet. */
  readonly through: string | null;
  readonly pending: readonly PendingTime[];
}

/** Pairs kept; beyond them the newest takes the place of the one before it, so that progress stays visible. */
export const MAX_PENDING_TIMES = 64;

export const NOTHING_COMPLETE: Completeness = { through: null, pending: [] };

/** Takes in what a hello of the current epoch says. */
export function noteCaptured(state: Completeness, capturedThrough: string | null, headSeq: number): Completeness {
  if (capturedThrough === null || !isTime(capturedThrough)) return state;
  if (state.through !== null && !isLater(capturedThrough, state.through)) return state;
  // A late or repeated hello, or a clock that was set back: what is already known says as much or more.
  const kept = state.pending.filter(pair => isLater(capturedThrough, pair.through));
  if (kept.length < state.pending.length) return state;
  // The same batch, a later time: the newer statement replaces the older. A lower seq for a later time likewise.
  const earlier = kept.filter(pair => pair.seq < headSeq);
  if (earlier.length >= MAX_PENDING_TIMES) earlier.length = MAX_PENDING_TIMES - 1;
  return { through: state.through, pending: [...earlier, { through: capturedThrough, seq: headSeq }] };
}

/**
 * What a branch says it has captured through, but nothing later than now: a branch's clock that is ahead, or a branch
 * that lies, would else be complete for years to come, whatever it says later.
 */
export function notLaterThan(nowMs: number, capturedThrough: string | null): string | null {
  if (capturedThrough === null || !isTime(capturedThrough)) return null;
  return Date.parse(capturedThrough) > nowMs ? new Date(nowMs).toISOString() : capturedThrough;
}

/** Moves `through` to the last time whose batch is applied; stands still while rows are known to be missing. */
export function noteApplied(state: Completeness, appliedSeq: number, incomplete: boolean): Completeness {
  if (incomplete) return state;
  const reached = state.pending.filter(pair => pair.seq <= appliedSeq);
  const last = reached.at(-1);
  if (last === undefined) return state;
  return { through: last.through, pending: state.pending.slice(reached.length) };
}

/** A new epoch: what waited was said of batches that will never come. What was reached stays. */
export function noteNewEpoch(state: Completeness): Completeness {
  return { through: state.through, pending: [] };
}

function isTime(iso: string): boolean {
  return toDateTime(iso) !== null;
}

/** Compares with the fraction of a second as text, which Date would cut to milliseconds. */
function isLater(a: string, b: string): boolean {
  const byDate = Date.parse(a) - Date.parse(b);
  return byDate === 0 ? fraction(a) > fraction(b) : byDate > 0;
}

function fraction(iso: string): string {
  return (/\.(\d+)/.exec(iso)?.[1] ?? '').padEnd(9, '0');
}
