/**
 * How far a snapshot is. Pure; stored in the spool in one transaction with the batches that it describes.
 *
 * A table goes waiting → copying → done. A table that changed by DDL, or that someone asks for while a snapshot runs,
 * is queued for the next one, which begins with a start marker of its own: its sweep must not count rows that were
 * written before the change.
 */
import { tableKey } from '../../shared/table-name.ts';
import { COPIES_ASKED, noted, pauseMs } from '../growing-pause.ts';
import type { QueuedTable, SnapshotProgress, SnapshotTable } from './stored-state.ts';

export type { QueuedTable, SnapshotProgress, SnapshotTable } from './stored-state.ts';

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
    queuedRequests: [],
    staleSince: null,
    queuedStaleSince: null,
    rules: null,
    askedEpochs: [],
    askedCopies: [],
  };
}

/** Nothing is running: what a queue is attached to when no snapshot is. */
export function idleProgress(): SnapshotProgress {
  return { ...beginProgress('', false, []), started: true, finished: true };
}

export function queueTables(progress: SnapshotProgress, tables: readonly QueuedTable[]): SnapshotProgress {
  const present = new Set(progress.queued.map(tableKey));
  const queued = [...progress.queued];
  for (const table of tables) {
    const key = tableKey(table);
    if (!present.has(key)) queued.push(table);
    present.add(key);
  }
  return queued.length === progress.queued.length ? progress : { ...progress, queued };
}

export function queueWhole(progress: SnapshotProgress): SnapshotProgress {
  return { ...progress, queuedWhole: true };
}

/** A request of the head office. */
export interface SnapshotRequest {
  readonly id: string;
  /** Null: all. */
  readonly tables: readonly QueuedTable[] | null;
}

/** Requests that wait for the next snapshot at most, and tables by name: of more, all are copied. */
export const MOST_QUEUED = 1_000;

/**
 * The next snapshot serves these requests too; those that are under way or queued are left alone, and of too many the rest,
 * for the head office repeats what is open. Unchanged while it has asked for copies too often lately.
 * @param now ms since 1970
 */
export function queueRequests(
  progress: SnapshotProgress,
  requests: readonly SnapshotRequest[],
  now: number,
): SnapshotProgress {
  const known = new Set([...(progress.finished ? [] : progress.requests), ...progress.queuedRequests]);
  const room = Math.max(0, MOST_QUEUED - progress.queuedRequests.length);
  const fresh = requests.filter(({ id }) => !known.has(id)).slice(0, room);
  if (fresh.length === 0 || pauseMs(progress.askedCopies, COPIES_ASKED, now) > 0) return progress;
  const tables = fresh.flatMap(request => request.tables ?? []);
  const whole = fresh.some(request => request.tables === null) || progress.queued.length + tables.length > MOST_QUEUED;
  return {
    ...(whole ? queueWhole(progress) : queueTables(progress, tables)),
    queuedRequests: [...progress.queuedRequests, ...new Set(fresh.map(({ id }) => id))],
    askedCopies: noted(progress.askedCopies, now),
  };
}

/** Until the next snapshot has ended, the head office is not up to date beyond this time. @param at ISO */
export function markStale(progress: SnapshotProgress, at: string): SnapshotProgress {
  return { ...progress, queuedStaleSince: earlier(progress.queuedStaleSince, at) };
}

/** Up to when the head office can be complete at most, once it has the batches; null: no bound. ISO */
export function staleSince(progress: SnapshotProgress | null): string | null {
  if (progress === null) return null;
  const running = progress.finished ? null : progress.staleSince;
  return progress.queuedStaleSince === null ? running : earlier(running, progress.queuedStaleSince);
}

/** The earlier of two ISO times. */
export function earlier(a: string | null, b: string): string {
  return a === null || Date.parse(b) < Date.parse(a) ? b : a;
}

/** What follows a progress: `next` with all that was queued after `seen` still queued. */
export function follow(next: SnapshotProgress, seen: SnapshotProgress, now: SnapshotProgress): SnapshotProgress {
  return {
    ...next,
    requests: seen.queuedRequests,
    staleSince: seen.queuedStaleSince,
    queued: now.queued.filter(each => !seen.queued.includes(each)),
    queuedWhole: now.queuedWhole && !seen.queuedWhole,
    queuedRequests: now.queuedRequests.filter(each => !seen.queuedRequests.includes(each)),
    queuedStaleSince: now.queuedStaleSince === seen.queuedStaleSince ? null : now.queuedStaleSince,
    rules: now.rules,
    askedEpochs: now.askedEpochs,
    askedCopies: now.askedCopies,
  };
}

/** The stream carries whatever the table holds from now on: nothing of it is left to be copied. */
export function emptied(progress: SnapshotProgress, table: QueuedTable): SnapshotProgress {
  return openTable(progress, table) ? updateTable(progress, table, { state: 'done' }) : progress;
}

/** The table's definition has changed: a key that was read before it may mean nothing now, so it is copied anew. */
export function redefined(progress: SnapshotProgress, table: QueuedTable): SnapshotProgress {
  return openTable(progress, table)
    ? updateTable(progress, table, { state: 'waiting', lastKey: null, rows: 0 })
    : progress;
}

function openTable(progress: SnapshotProgress, table: QueuedTable): boolean {
  return !progress.finished && progress.tables.some(each => isSame(each, table) && each.state !== 'done');
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
  // Requests without tables are for tables that are gone: an empty snapshot closes them.
  return progress.queuedWhole || progress.queued.length > 0 || progress.queuedRequests.length > 0;
}

function isSame(a: QueuedTable, b: QueuedTable): boolean {
  return a.schema === b.schema && a.name === b.name;
}
