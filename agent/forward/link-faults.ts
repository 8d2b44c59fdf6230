/** What is wrong with the link, how many attempts have failed in a row, and how long to wait before the next. Pure. */
import { describeError, TributaryError } from '../../shared/errors.ts';
import { backOffMs } from './rate-limit.ts';
import type { BackOffs } from './rate-limit.ts';

export class LinkFaults {
  readonly #backOffs: BackOffs;
  #fault: TributaryError | null = null;
  #description: string | null = null;
  /** Failed attempts in a row, of one kind. */
  #failures = 0;
  #kind: keyof BackOffs = 'failed';

  constructor(backOffs: BackOffs) {
    this.#backOffs = backOffs;
  }

  /** The last fault; null: none since the link last worked. */
  get fault(): TributaryError | null {
    return this.#fault;
  }

  /** The same in words, for people. */
  get description(): string | null {
    return this.#description;
  }

  /** Failed attempts in a row. */
  get failures(): number {
    return this.#failures;
  }

  /**
   * Whether to log the attempt. A broker that is unreachable is tried twice a second: attempt 1, 2, 4, 8, … is logged.
   */
  get isLogged(): boolean {
    const isPowerOfTwo = (this.#failures & (this.#failures - 1)) === 0;
    return this.#kind !== 'unreachable' || isPowerOfTwo;
  }

  note(error: unknown): void {
    this.#description = describeError(error);
    this.#fault =
      error instanceof TributaryError ? error : new TributaryError('INTERNAL', this.#description, { cause: error });
  }

  /** @returns how many milliseconds to wait before the next attempt */
  failed(kind: keyof BackOffs, random: number): number {
    // Failures of one kind say nothing about the other.
    this.#failures = kind === this.#kind ? this.#failures + 1 : 1;
    this.#kind = kind;
    return backOffMs(this.#backOffs[kind], this.#failures, random);
  }

  /** An attempt succeeded; the fault may still be there. */
  succeeded(): void {
    this.#failures = 0;
  }

  /** The fault is over. */
  cleared(): void {
    this.succeeded();
    this.#description = null;
    this.#fault = null;
  }
}
