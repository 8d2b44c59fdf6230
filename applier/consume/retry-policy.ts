/**
 * Which fault a pipeline waits out, since when, and when it retries: a lost race for a lock almost at once, other
 * faults after pauses that double. Pure: times are milliseconds since 1970.
 *
 * A fault of applying ends only when something was applied, or when there is nothing to apply any more. An answer to a
 * hello in between says nothing about it, and must neither hide the fault nor restart the pauses. Any other fault ends
 * with the next success.
 */
import type { TributaryError } from '../../shared/errors.ts';
import type { BranchRow } from '../store/branch-row.ts';
import type { Fault } from '../transaction/fault-policy.ts';

/** How often a transaction that lost a race for a lock is retried at once before it counts as a fault. */
const MAX_QUICK_RETRIES = 5;
const QUICK_RETRY_MS = 50;

export interface Pauses {
  readonly minMs: number;
  readonly maxMs: number;
}

export const PAUSES: Pauses = { minMs: 500, maxMs: 30_000 };

/** A fault that no batch has caused. */
export interface Waiting {
  readonly error: TributaryError;
  /** When the first of these faults in a row occurred, ISO 8601. */
  readonly since: string;
  readonly tries: number;
}

/** What the pipeline was doing when it failed. */
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

  /** null: nothing, or only a race for a lock that was lost a moment ago. */
  get waiting(): Waiting | null {
    if (this.#error === null) return null;
    return { error: this.#error, since: new Date(this.#since).toISOString(), tries: this.#faults };
  }

  /** Faults in a row. */
  get faults(): number {
    return this.#faults;
  }

  /** @returns how long to wait before the next retry */
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

  /** Something was applied, or there is nothing to apply any more. @returns the fault that is over */
  progressed(): Waiting | null {
    const before = this.waiting;
    this.#faults = 0;
    this.#error = null;
    this.#activity = 'other';
    return before;
  }

  /** Something else has succeeded. @returns the fault that is over with it */
  succeeded(): Waiting | null {
    return this.#activity === 'other' ? this.progressed() : null;
  }

  /** Another applier may have applied what could not be applied here. */
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
