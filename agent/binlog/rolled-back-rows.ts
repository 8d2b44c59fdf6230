/**
 * Remembers rows that a transaction logged and then rolled back, by ROLLBACK TO SAVEPOINT or by ROLLBACK.
 *
 * Servers log such rows only if the transaction has also changed a table of a non-transactional engine. In row format,
 * the rows of those tables are in groups of their own [live: MariaDB 11.8]. So everything in a group since the
 * savepoint is rolled back. A reader learns of it only after the rows. It notes them here, reads the group again, and
 * skips them.
 *
 * The object lives as long as capture, across connections. Invariant: if a group is forgotten, it is read once more,
 * but no row is lost.
 */

/** The most groups that are remembered; the oldest are forgotten first. */
const MAX_GROUPS = 1_000;

/** Rows events of a group by number, from `from` to before `to`. */
export interface Range {
  readonly from: number;
  readonly to: number;
}

const NONE: readonly Range[] = [];

export class RolledBackRows {
  readonly #groups = new Map<string, Range[]>();

  /** @param group its GTID, or its place in the binlog */
  note(group: string, range: Range): void {
    const ranges = this.#groups.get(group) ?? [];
    this.#groups.delete(group);
    this.#groups.set(group, [...ranges, range]);
    const [oldest] = this.#groups.keys();
    if (this.#groups.size > MAX_GROUPS && oldest !== undefined) this.#groups.delete(oldest);
  }

  of(group: string): readonly Range[] {
    return this.#groups.size === 0 ? NONE : (this.#groups.get(group) ?? NONE);
  }
}
