/**
 * What the stream requires to be copied, beyond what the spool already knows. It is stored together with the next position:
 * the position must not pass the statement that requires a copy without it.
 */
import type { Spool } from '../spool/spool.ts';
import {
  emptied,
  idleProgress,
  markStale,
  queueTables,
  queueWhole,
  redefined,
  setAside,
  setAsideEntry,
} from '../spool/snapshot-progress.ts';
import type { QueuedTable, SetAsideTable, SnapshotProgress, Trouble } from '../spool/snapshot-progress.ts';

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
    return table !== null && named.some(each => isSame(each, table));
  }

  /** Copies all tables, because nobody knows which ones changed. @param at since when, ISO */
  copyAll(at: string): void {
    this.change(progress => markStale(queueWhole(progress), at));
  }

  /**
   * Copies these tables, which have changed or may have. A table that is set aside is looked at again, because a
   * statement may have taken the cause away.
   * @param at since when, ISO
   */
  copyAgain(tables: readonly QueuedTable[], at: string): void {
    for (const table of tables) this.#noteChanged(table);
    const copied = tables.filter(table => !this.isSetAside(table));
    if (copied.length === 0) return;
    this.change(progress => markStale(queueTables(copied.reduce(redefined, progress), copied), at));
  }

  /** Whether the table's rows are passed over. */
  isSetAside(table: QueuedTable): boolean {
    return this.#entry(table)?.state === 'aside';
  }

  /** Whether a snapshot brings the table back. */
  isReturning(table: QueuedTable): boolean {
    return this.#entry(table)?.state === 'returning';
  }

  /** Tables that are set aside, of which the stream has not told the head office. */
  get untold(): readonly SetAsideTable[] {
    return this.progress.setAside.filter(({ told }) => !told);
  }

  /** Passes the table's rows over from here on. @param at its rows were taken until then, ISO @returns whether this is new */
  setAside(table: QueuedTable, trouble: Trouble, at: string): boolean {
    const isNew = !this.isSetAside(table);
    this.change(progress => setAside(progress, table, trouble, at));
    return isNew;
  }

  #entry(table: QueuedTable): SetAsideTable | undefined {
    const { progress } = this;
    return progress.setAside.length === 0 ? undefined : setAsideEntry(progress, table);
  }

  /**
   * Rows of the table that nobody could read were passed by, and all rows of it since the stream last brought one that was
   * read, which was before the table was queued. So if it waits for its turn, that copy has everything.
   */
  passedBy(table: QueuedTable, at: string): void {
    const { queued, started, finished, tables } = this.progress;
    const isQueued = queued.some(each => isSame(each, table));
    const turn = started && !finished && !isQueued ? tables.find(each => isSame(each, table)) : undefined;
    if (turn?.state === 'waiting' && turn.lastKey === null && turn.rows === 0) this.#noteChanged(table);
    else this.copyAgain([table], at);
  }

  /** Whether the running snapshot has yet to copy the table, or a part of it. */
  isOpen(table: QueuedTable): boolean {
    const { finished, tables } = this.progress;
    return !finished && tables.some(each => isSame(each, table) && each.state !== 'done');
  }

  #noteChanged(table: QueuedTable): void {
    if (!this.changedTables.some(each => isSame(each, table))) this.changedTables.push(table);
  }

  /** The table is empty now. */
  emptied(table: QueuedTable): void {
    this.changedTables.push(table);
    this.change(progress => emptied(progress, table));
  }
}

function isSame(a: QueuedTable, b: QueuedTable): boolean {
  return a.schema === b.schema && a.name === b.name;
}
