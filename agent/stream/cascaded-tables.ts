/**
 * Tables that cascades may have changed without a trace in the binlog. They are copied again and are stale until then; not
 * at each such change, but when they were quiet for a while, or after a longer time of changes.
 */
import { tableKey } from '../../shared/table-name.ts';
import { markStale, queueTables } from '../spool/snapshot-progress.ts';
import type { QueuedTable, SnapshotProgress } from '../spool/snapshot-progress.ts';
import type { TableFilter } from '../source/table-filter.ts';
import type { PendingSnapshots } from './pending-snapshots.ts';

/** Tables are copied when there was no change for this long. */
const QUIET_MS = 2_000;
/** Or when changes have gone on for this long. */
const MAX_WAIT_MS = 60_000;

export interface CascadedTablesOptions {
  readonly snapshots: PendingSnapshots;
  readonly tableFilter: Pick<TableFilter, 'captures'>;
  readonly now: () => number;
}

export class CascadedTables {
  readonly #o: CascadedTablesOptions;
  readonly #tables = new Set<string>();
  /** When the first waiting table was added, and when the last change came. */
  #since = 0;
  #lastAt = 0;

  constructor(options: CascadedTablesOptions) {
    this.#o = options;
  }

  /** Has the captured ones of these tables copied. @param at when their rows may have changed, ISO */
  add(children: readonly QueuedTable[], at: string): void {
    const { snapshots, tableFilter } = this.#o;
    const captured = children.filter(
      table => tableFilter.captures(table.schema, table.name) && !snapshots.isSetAside(table),
    );
    if (captured.length === 0) return;
    const now = this.#o.now();
    const before = snapshots.progress;
    const next = queueTables(
      before,
      captured.map(({ schema, name }) => ({ schema, name })),
    );
    if (next !== before) this.#since = now;
    this.#lastAt = now;
    for (const table of captured) this.#tables.add(tableKey(table));
    if (next === before && before.queuedStaleSince !== null) return;
    snapshots.change(() => markStale(next, at));
  }

  /** Whether the queue holds only such tables, and more of their changes are likely to come. @param restUntilMs wait until then */
  growing({ queued, queuedWhole }: SnapshotProgress, restUntilMs: number): boolean {
    if (queuedWhole || !queued.every(table => this.#tables.has(tableKey(table)))) return false;
    const now = this.#o.now();
    return now < restUntilMs || (now - this.#lastAt < QUIET_MS && now - this.#since < MAX_WAIT_MS);
  }
}
