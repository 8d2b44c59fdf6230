/**
 * Rows that a transaction has logged and then undone, by ROLLBACK TO SAVEPOINT or by ROLLBACK.
 *
 * Servers log that only where a table of an engine without transactions has changed in the same transaction. In row
 * format the rows of such tables stand in groups of their own [live: MariaDB 11.8], so what is undone in a group is all
 * of it since the savepoint. A reader learns of it only behind the rows: it notes which they are and looks again; on
 * reading the group anew it passes them by.
 *
 * Lives as long as capture, over its connections. Invariant: forgetting a group costs another look, never a row.
 */

/** Groups remembered at most; the oldest go first. */
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
