/**
 * What the stream requires to be copied, beyond what the spool already knows. It is stored together with the next position:
 * the position must not pass the statement that requires a copy without it.
 */
import type { Spool } from '../spool/spool.ts';
import { emptied, idleProgress, markStale, queueTables, queueWhole, redefined } from '../spool/snapshot-progress.ts';
import type { QueuedTable, SnapshotProgress } from '../spool/snapshot-progress.ts';

export class PendingSnapshots {
  readonly #spool: Pick<Spool, 'snapshot'>;
  #pending: SnapshotProgress | null = null;
  /** Tables whose definition or content a statement has changed since this list was last emptied. */
  readonly changedTables: QueuedTable[] = [];

  constructor(spool: Pick<Spool, 'snapshot'>) {
    this.#spool = spool;
  }

  /** The snapshot's progress, and what follows it. */
  get progress(): SnapshotProgress {
    return this.#pending ?? this.#spool.snapshot() ?? idleProgress();
  }

  /** What must be stored; null: nothing has changed. */
  get pending(): SnapshotProgress | null {
    return this.#pending;
  }

  /** The spool has stored what was pending. */
  saved(): void {
    this.#pending = null;
  }

  change(change: (progress: SnapshotProgress) => SnapshotProgress): void {
    const progress = this.progress;
    const next = change(progress);
    if (next !== progress) this.#pending = next;
  }

  /** Whether the table will be copied anyway; null: whether all tables will. */
  willCopy(table: QueuedTable | null): boolean {
    const { queued, queuedWhole, whole, finished, tables } = this.progress;
    if (queuedWhole || (whole && !finished)) return true;
    const named = finished ? queued : [...queued, ...tables];
    return table !== null && named.some(each => each.schema === table.schema && each.name === table.name);
  }

  /** Copies all tables, because nobody knows which ones changed. @param at since when, ISO */
  copyAll(at: string): void {
    this.change(progress => markStale(queueWhole(progress), at));
  }

  /** Copies these tables, which have changed or may have. @param at since when, ISO */
  copyAgain(tables: readonly QueuedTable[], at: string): void {
    if (tables.length === 0) return;
    this.changedTables.push(...tables);
    this.change(progress => markStale(queueTables(tables.reduce(redefined, progress), tables), at));
  }

  /** The table is empty now. */
  emptied(table: QueuedTable): void {
    this.changedTables.push(table);
    this.change(progress => emptied(progress, table));
  }
}
