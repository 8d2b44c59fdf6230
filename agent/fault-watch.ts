/**
 * Since when the same fault comes again and again. One that is tried again by itself is shown until what it held up has been
 * passed, not only while the next attempt waits: else a fault that comes back within seconds is hardly ever seen.
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

  /** What it held up has been passed. */
  passed(): void {
    this.#trouble = null;
  }

  get trouble(): LastingFault | null {
    return this.#trouble;
  }

  /** The same, once it has lasted for so long. */
  lasting(ms: number): LastingFault | null {
    return this.#trouble !== null && this.#now() - this.#trouble.since >= ms ? this.#trouble : null;
  }
}
