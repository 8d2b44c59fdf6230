/**
 * Notes, for a table whose history the head office keeps, in which commit each entry of the open batch was made, and
 * which entries later commits have replaced. An entry that its own commit has replaced is no version: nobody saw it.
 */
import type { TableVersions } from '../../shared/batch/batch.ts';

/** The event group whose rows come now. The batcher moves it on. */
export interface OpenCommit {
  /** Counts groups. */
  number: number;
  /** When it was committed, in microseconds since 1970. */
  time: number;
}

type Op = 'upsert' | 'delete';

export class RowVersions {
  readonly #open: OpenCommit;
  readonly #times: number[] = [];
  #last = -1;
  /** The commit of each entry, by its index in `#times`. */
  readonly #commits: Record<Op, number[]> = { upsert: [], delete: [] };
  readonly replaced: Record<Op, Set<number>> = { upsert: new Set(), delete: new Set() };

  constructor(open: OpenCommit) {
    this.#open = open;
  }

  get rows(): number {
    return this.replaced.upsert.size + this.replaced.delete.size;
  }

  /** The next entry of its kind was made. */
  note(op: Op): void {
    if (this.#last !== this.#open.number) {
      this.#last = this.#open.number;
      this.#times.push(this.#open.time);
    }
    this.#commits[op].push(this.#times.length - 1);
  }

  /** A later change has replaced the entry. @returns whether it was a version, and is kept as replaced */
  replace(op: Op, entry: number): boolean {
    if (this.#commits[op][entry] === this.#times.length - 1) return false;
    this.replaced[op].add(entry);
    return true;
  }

  /** @param dead entries that are no versions */
  of(table: number, dead: Readonly<Record<Op, ReadonlySet<number>>>): TableVersions {
    const none = (): number[] => this.#times.map(() => 0);
    const present = { upsert: none(), delete: none() };
    const replaced = { upsert: none(), delete: none() };
    for (const op of ['upsert', 'delete'] as const) {
      this.#commits[op].forEach((commit, entry) => {
        if (dead[op].has(entry)) return;
        const counts = this.replaced[op].has(entry) ? replaced[op] : present[op];
        counts[commit]! += 1;
      });
    }
    return {
      table,
      commits: this.#times.map((time, index) => time - (this.#times[index - 1] ?? 0)),
      upserts: present.upsert,
      deletes: present.delete,
      replacedUpserts: replaced.upsert,
      replacedDeletes: replaced.delete,
    };
  }

  clear(): void {
    this.#times.length = 0;
    this.#last = -1;
    for (const op of ['upsert', 'delete'] as const) {
      this.#commits[op].length = 0;
      this.replaced[op].clear();
    }
  }
}
