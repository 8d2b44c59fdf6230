/**
 * Rows that a transaction has logged and then rolled back, by ROLLBACK TO SAVEPOINT or by ROLLBACK.
 *
 * Servers only log this if a table of an engine without transactions has changed in the same transaction. In row
 * format, the rows of such tables are in groups of their own [live: MariaDB 11.8]. So everything in a group since the
 * savepoint is rolled back. A reader learns of it only after the rows: it notes them, reads the group again, and then
 * skips them.
 *
 * Lives as long as capture, across connections. Invariant: forgetting a group costs another reading, never a row.
 */

/** The most groups that are remembered; the oldest are forgotten first. */
const MAX_GROUPS = 1_000;

/** Rows events of a group by their running number: from this one, before that one. */
export interface Range {
  readonly from: number;
  readonly to: number;
}

const NONE: readonly Range[] = [];

export class RolledBackRows {
  readonly #groups = new Map<string, Range[]>();

  /** @param group its GTID, or where it begins */
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
