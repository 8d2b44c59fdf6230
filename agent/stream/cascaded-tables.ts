/**
 * Tables that cascades may have changed without a word in the binlog: they are copied again, and stale until then. Not at
 * each such change, but once they have been quiet for a while, or have gone on for long.
 */
import { tableKey } from '../../shared/table-name.ts';
import { markStale, queueTables } from '../spool/snapshot-progress.ts';
import type { QueuedTable, SnapshotProgress } from '../spool/snapshot-progress.ts';
import type { PendingSnapshots } from './pending-snapshots.ts';

/** Copied when changes have been quiet for so long, or have gone on for so long. */
const QUIET_MS = 2_000;
const MOST_MS = 60_000;

export interface CascadedTablesOptions {
  readonly copies: PendingSnapshots;
  readonly captures: (schema: string, name: string) => boolean;
  readonly now: () => number;
}

export class CascadedTables {
  readonly #o: CascadedTablesOptions;
  readonly #tables = new Set<string>();
  /** Since when one is to be copied, and when the last was added. */
  #since = 0;
  #lastAt = 0;

  constructor(options: CascadedTablesOptions) {
    this.#o = options;
  }

  /** @param at when their rows may have changed, ISO */
  add(children: readonly QueuedTable[], at: () => string): void {
    const { copies, captures } = this.#o;
    const captured = children.filter(({ schema, name }) => captures(schema, name));
    if (captured.length === 0) return;
    const now = this.#o.now();
    const before = copies.progress;
    const next = queueTables(
      before,
      captured.map(({ schema, name }) => ({ schema, name })),
    );
    if (next !== before) this.#since = now;
    this.#lastAt = now;
    for (const table of captured) this.#tables.add(tableKey(table));
    if (next === before && before.queuedStaleSince !== null) return;
    copies.change(() => markStale(next, at()));
  }

  /** Whether all that is queued to be copied is owed, and more of that is likely to come. */
  growing({ queued, queuedWhole }: SnapshotProgress, restUntilMs: number): boolean {
    if (queuedWhole || !queued.every(table => this.#tables.has(tableKey(table)))) return false;
    const now = this.#o.now();
    return now < restUntilMs || (now - this.#lastAt < QUIET_MS && now - this.#since < MOST_MS);
  }
}
