/**
 * Remembers since when the same fault keeps coming. A fault that is retried is shown until the work that it held up has gone
 * on, not only until the next attempt begins: a fault that comes back within seconds would hardly be seen otherwise.
 */
import type { TributaryError } from '../shared/errors.ts';

export interface LastingFault {
  readonly error: TributaryError;
  /** When a fault of this code came first, in milliseconds. */
  readonly since: number;
  /** How often it came. */
  readonly times: number;
}

export class FaultWatch {
  readonly #now: () => number;
  #trouble: LastingFault | null = null;

  constructor(now: () => number) {
    this.#now = now;
  }

  note(error: TributaryError): LastingFault {
    const before = this.#trouble?.error.code === error.code ? this.#trouble : null;
    this.#trouble = { error, since: before?.since ?? this.#now(), times: (before?.times ?? 0) + 1 };
    return this.#trouble;
  }

  /** The work that it held up has gone on. */
  passed(): void {
    this.#trouble = null;
  }

  get trouble(): LastingFault | null {
    return this.#trouble;
  }

  /** The fault, if it has lasted for this long. */
  lasting(ms: number): LastingFault | null {
    return this.#trouble !== null && this.#now() - this.#trouble.since >= ms ? this.#trouble : null;
  }
}
