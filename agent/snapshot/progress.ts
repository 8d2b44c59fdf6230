/**
 * How far a snapshot is. Pure; stored in the spool in one transaction with the batches that it describes.
 *
 * A table goes waiting → copying → done. A table that changed by DDL, or that someone asks for while a snapshot runs,
 * is queued for the next one, which begins with a start marker of its own: its sweep must not count rows that were
 * written before the change.
 */
import type { QueuedTable, SnapshotProgress, SnapshotTable } from '../spool/progress.ts';

export type { QueuedTable, SnapshotProgress, SnapshotTable } from '../spool/progress.ts';

export function beginProgress(
  id: string,
  whole: boolean,
  tables: readonly { schema: string; name: string; estimatedRows: number | null }[],
): SnapshotProgress {
  return {
    id,
    whole,
    requests: [],
    started: false,
    finished: false,
    tables: tables.map(table => ({
      schema: table.schema,
      name: table.name,
      state: 'waiting',
      lastKey: null,
      rows: 0,
      estimatedRows: table.estimatedRows,
    })),
    queued: [],
    queuedWhole: false,
  };
}

/** Nothing is running: what a queue is attached to when no snapshot is. */
export function idleProgress(): SnapshotProgress {
  return { ...beginProgress('', false, []), started: true, finished: true };
}

export function queueTables(progress: SnapshotProgress, tables: readonly QueuedTable[]): SnapshotProgress {
  const fresh = tables.filter(table => !progress.queued.some(queued => isSame(queued, table)));
  return fresh.length === 0 ? progress : { ...progress, queued: [...progress.queued, ...fresh] };
}

export function queueWhole(progress: SnapshotProgress): SnapshotProgress {
  return { ...progress, queuedWhole: true };
}

export function updateTable(
  progress: SnapshotProgress,
  table: QueuedTable,
  change: Partial<Pick<SnapshotTable, 'state' | 'lastKey' | 'rows'>>,
): SnapshotProgress {
  return { ...progress, tables: progress.tables.map(each => (isSame(each, table) ? { ...each, ...change } : each)) };
}

/** The table to copy now; null: all are done. */
export function currentTable(progress: SnapshotProgress): SnapshotTable | null {
  return (
    progress.tables.find(table => table.state === 'copying') ??
    progress.tables.find(table => table.state === 'waiting') ??
    null
  );
}

export function hasQueue(progress: SnapshotProgress): boolean {
  return progress.queuedWhole || progress.queued.length > 0;
}

function isSame(a: QueuedTable, b: QueuedTable): boolean {
  return a.schema === b.schema && a.name === b.name;
}
