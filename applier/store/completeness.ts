/**
 * "Complete as of": until which time the head office has everything that was committed at a branch.
 *
 * A hello says: everything that was committed until `capturedThrough` is in batches up to `head.seq`. Once the head
 * office has applied that batch, it is complete as of that time, even if nothing was committed since. So a quiet Sunday
 * is not a lag. A limited number of pairs of time and seq is kept until they are reached. Pure.
 *
 * Invariants: `through` never goes back within an epoch; pending pairs strictly ascend in time and in seq.
 */
import { toDateTime } from './sql-values.ts';

export interface PendingTime {
  /** ISO 8601, UTC. */
  readonly through: string;
  /** The batch that must be applied before the time counts. */
  readonly seq: number;
}

export interface Completeness {
  /** ISO 8601, UTC; null: never yet. */
  readonly through: string | null;
  readonly pending: readonly PendingTime[];
}

/** How many pairs are kept. A newer one then replaces the last one, so that progress stays visible. */
export const MAX_PENDING_TIMES = 64;

export const NOTHING_COMPLETE: Completeness = { through: null, pending: [] };

/** Notes the time and seq of a hello of the current epoch. */
export function noteCaptured(state: Completeness, capturedThrough: string | null, headSeq: number): Completeness {
  if (capturedThrough === null || !isTime(capturedThrough)) return state;
  if (state.through !== null && !isLater(capturedThrough, state.through)) return state;
  // A late or repeated hello, or a clock that was set back: it says nothing new.
  const kept = state.pending.filter(pair => isLater(capturedThrough, pair.through));
  if (kept.length < state.pending.length) return state;
  // A later time for the same batch, or for a lower seq, replaces the older pair.
  const earlier = kept.filter(pair => pair.seq < headSeq);
  if (earlier.length >= MAX_PENDING_TIMES) earlier.length = MAX_PENDING_TIMES - 1;
  return { through: state.through, pending: [...earlier, { through: capturedThrough, seq: headSeq }] };
}

/**
 * The time through which a branch has captured, but never later than now. Otherwise a branch whose clock is ahead, or
 * that sends a wrong time, would be complete until then, whatever it says later.
 */
export function notLaterThan(nowMs: number, capturedThrough: string | null): string | null {
  if (capturedThrough === null || !isTime(capturedThrough)) return null;
  return Date.parse(capturedThrough) > nowMs ? new Date(nowMs).toISOString() : capturedThrough;
}

/** Moves `through` to the last time whose batch is applied, unless rows are known to be missing. */
export function noteApplied(state: Completeness, appliedSeq: number, incomplete: boolean): Completeness {
  if (incomplete) return state;
  const reached = state.pending.filter(pair => pair.seq <= appliedSeq);
  const last = reached.at(-1);
  if (last === undefined) return state;
  return { through: last.through, pending: state.pending.slice(reached.length) };
}

/** After a new epoch, the batches that pending times wait for will never come. `through` stays. */
export function noteNewEpoch(state: Completeness): Completeness {
  return { through: state.through, pending: [] };
}

function isTime(iso: string): boolean {
  return toDateTime(iso) !== null;
}

/** Compares the fractions of a second as text, because Date cuts them to milliseconds. */
function isLater(a: string, b: string): boolean {
  const byDate = Date.parse(a) - Date.parse(b);
  return byDate === 0 ? fraction(a) > fraction(b) : byDate > 0;
}

function fraction(iso: string): string {
  return (/\.(\d+)/.exec(iso)?.[1] ?? '').padEnd(9, '0');
}
