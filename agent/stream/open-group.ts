/**
 * The event group that the stream is in, for all who take its rows and statements. Pure but for the clock.
 */
import { assert } from '../../shared/errors.ts';
import type { BinlogPosition, GroupStart } from '../binlog/group-sink.ts';

export class OpenGroup {
  readonly #now: () => number;
  #start: GroupStart | null = null;
  #isNew = false;

  constructor(now: () => number) {
    this.#now = now;
  }

  /** @param isNew false: it was taken before, and is read again only to be compared */
  begin(start: GroupStart, isNew: boolean): void {
    this.#start = start;
    this.#isNew = isNew;
  }

  end(): void {
    this.#start = null;
    this.#isNew = false;
  }

  /** Its rows and statements are to be taken. */
  get isNew(): boolean {
    return this.#isNew;
  }

  get start(): GroupStart {
    assert(this.#start !== null, 'No group is open.');
    return this.#start;
  }

  /** Where it begins. */
  get place(): BinlogPosition {
    const { file, startOffset } = this.start;
    return { file, offset: startOffset };
  }

  /** Identifies it among all groups. */
  get id(): string {
    const { gtid, file, startOffset } = this.start;
    return gtid ?? `${file}:${startOffset}`;
  }

  /** When it was committed, ISO; the present if the server does not say. */
  get committedAt(): string {
    return this.start.committedAt ?? new Date(this.#now()).toISOString();
  }
}
