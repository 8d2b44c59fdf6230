/**
 * What the stream makes necessary to be copied, on top of what the spool knows of the snapshot: stored with the next
 * position, as the statement that made it so must not be passed without it.
 */
import { emptied, idleProgress, markStale, queueTables, queueWhole, redefined } from '../spool/snapshot-progress.ts';
import type { QueuedTable, SnapshotProgress } from '../spool/snapshot-progress.ts';

export class PendingSnapshots {
  readonly #stored: () => SnapshotProgress | null;
  #pending: SnapshotProgress | null = null;
  /** Tables whose definition or content was changed by a statement since this was last emptied. */
  readonly changedTables: QueuedTable[] = [];

  /** @param stored what the spool has */
  constructor(stored: () => SnapshotProgress | null) {
    this.#stored = stored;
  }

  /** How far the snapshot is, and what is to follow it. */
  get progress(): SnapshotProgress {
    return this.#pending ?? this.#stored() ?? idleProgress();
  }

  /** What is to be stored; null: nothing has changed. */
  get pending(): SnapshotProgress | null {
    return this.#pending;
  }

  /** What was pending is in the spool. */
  saved(): void {
    this.#pending = null;
  }

  change(change: (progress: SnapshotProgress) => SnapshotProgress): void {
    const progress = this.progress;
    const next = change(progress);
    if (next !== progress) this.#pending = next;
  }

  /** Whether the table is to be copied anyway; null: whether all tables are. */
  areAsked(table: QueuedTable | null): boolean {
    const { queued, queuedWhole, whole, finished, tables } = this.progress;
    if (queuedWhole || (whole && !finished)) return true;
    const named = finished ? queued : [...queued, ...tables];
    return table !== null && named.some(each => each.schema === table.schema && each.name === table.name);
  }

  /** All tables: nobody knows what has changed. @param at since when, ISO */
  copyAll(at: string): void {
    this.change(progress => markStale(queueWhole(progress), at));
  }

  /** These tables are others now, or may be. @param at since when, ISO */
  copyAgain(tables: readonly QueuedTable[], at: string): void {
    if (tables.length === 0) return;
    this.changedTables.push(...tables);
    this.change(progress => markStale(queueTables(tables.reduce(redefined, progress), tables), at));
  }

  /** All that the table held is gone. */
  emptied(table: QueuedTable): void {
    this.changedTables.push(table);
    this.change(progress => emptied(progress, table));
  }
}
