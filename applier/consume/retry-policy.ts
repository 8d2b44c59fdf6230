/**
 * What a pipeline waits for to pass, since when, and how long until it tries again: first at once, then twice as long
 * each time. Pure; times are milliseconds since 1970.
 *
 * A fault of applying ends only when something was applied, or when what it was about has gone: that the branch's hello
 * was answered in between says nothing of it, and must neither hide it nor begin the waiting anew. Any other fault ends
 * with the next thing that succeeds.
 */
import type { TributaryError } from '../../shared/errors.ts';
import type { BranchRow } from '../store/branch-row.ts';
import type { Fault } from '../transaction/fault-policy.ts';

/** Lost races for a lock, tried again at once before they count as trouble. */
const MAX_QUICK_RETRIES = 5;
const QUICK_RETRY_MS = 50;

export interface Pauses {
  readonly minMs: number;
  readonly maxMs: number;
}

export const PAUSES: Pauses = { minMs: 500, maxMs: 30_000 };

/** A fault that passes by itself, or with a cure that is not the batch's. */
export interface Waiting {
  readonly error: TributaryError;
  /** The first of its kind in a row, ISO 8601. */
  readonly since: string;
  readonly tries: number;
}

/** What was under way when it failed. */
export type Activity = 'applying' | 'other';

export class RetryPolicy {
  readonly #pauses: Pauses;
  #faults = 0;
  #since = 0;
  #error: TributaryError | null = null;
  #activity: Activity = 'other';
  #progress = '';

  constructor(pauses: Pauses = PAUSES) {
    this.#pauses = pauses;
  }

  /** null: nothing, or a race that was lost a moment ago. */
  get waiting(): Waiting | null {
    if (this.#error === null) return null;
    return { error: this.#error, since: new Date(this.#since).toISOString(), tries: this.#faults };
  }

  /** Faults in a row. */
  get faults(): number {
    return this.#faults;
  }

  /** @returns how long to wait before the next try, and whether that is at once */
  failed(error: TributaryError, fault: Fault, doing: Activity, row: BranchRow | null, nowMs: number): Pause {
    this.#faults += 1;
    if (this.#faults === 1) this.#since = nowMs;
    if (this.#faults === 1 || doing === 'applying') this.#activity = doing;
    if (row !== null) this.#progress = progressOf(row);
    if (fault === 'retry' && this.#faults <= MAX_QUICK_RETRIES)
      return { ms: QUICK_RETRY_MS * this.#faults, quick: true };
    this.#error = error;
    const { minMs, maxMs } = this.#pauses;
    return { ms: Math.min(maxMs, minMs * 2 ** Math.min(10, this.#faults - 1)), quick: false };
  }

  /** Something was applied, or there is nothing to be applied any more. @returns what was waited for until now */
  progressed(): Waiting | null {
    const before = this.waiting;
    this.#faults = 0;
    this.#error = null;
    this.#activity = 'other';
    return before;
  }

  /** Something else has succeeded. @returns what is over with it */
  succeeded(): Waiting | null {
    return this.#activity === 'other' ? this.progressed() : null;
  }

  /** Somebody else may have applied what could not be applied here. */
  observe(row: BranchRow): void {
    if (this.#activity === 'applying' && this.#progress !== progressOf(row)) this.progressed();
  }
}

export interface Pause {
  readonly ms: number;
  readonly quick: boolean;
}

function progressOf({ state, stream, batchNumber }: BranchRow): string {
  return [state, stream.epoch, stream.received.seq, stream.applied.seq, batchNumber].join(' ');
}
