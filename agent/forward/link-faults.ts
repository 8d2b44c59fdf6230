/** What is wrong with the link, how often in a row, and how long to wait before the next attempt. Pure. */
import { describeError, TributaryError } from '../../shared/errors.ts';
import { backOffMs } from './rate-limit.ts';
import type { BackOffs } from './rate-limit.ts';

export class LinkFaults {
  readonly #backOffs: BackOffs;
  #fault: TributaryError | null = null;
  #description: string | null = null;
  /** In a row, and of one kind. */
  #failures = 0;
  #kind: keyof BackOffs = 'failed';

  constructor(backOffs: BackOffs) {
    this.#backOffs = backOffs;
  }

  /** What was last wrong; null: nothing since the link was last seen to work. */
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

  /** Of a line that is away, which is tried twice a second, the first attempts are told, and then ever fewer. */
  get isTold(): boolean {
    const isPowerOfTwo = (this.#failures & (this.#failures - 1)) === 0;
    return this.#kind !== 'away' || isPowerOfTwo;
  }

  note(error: unknown): void {
    this.#description = describeError(error);
    this.#fault =
      error instanceof TributaryError ? error : new TributaryError('INTERNAL', this.#description, { cause: error });
  }

  /** @returns how many milliseconds to wait before the next attempt */
  failed(kind: keyof BackOffs, random: number): number {
    // What was counted of the network says nothing of the broker, nor the other way round.
    this.#failures = kind === this.#kind ? this.#failures + 1 : 1;
    this.#kind = kind;
    return backOffMs(this.#backOffs[kind], this.#failures, random);
  }

  /** An attempt came through; what was wrong before may still be so. */
  succeeded(): void {
    this.#failures = 0;
  }

  /** What was wrong is so no more. */
  over(): void {
    this.succeeded();
    this.#description = null;
    this.#fault = null;
  }
}
