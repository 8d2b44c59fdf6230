/**
 * The progress of a snapshot. Pure; the spool stores it in one transaction with the batches that it describes.
 *
 * A table goes waiting → copying → done. A table that DDL changes, or that is requested, while a snapshot runs is
 * queued for the next snapshot. That one begins with a start marker of its own, because its sweep must not keep rows
 * that were written before the change.
 */
import { tableKey } from '../../shared/table-name.ts';
import type { TableName } from '../../shared/table-name.ts';
import { COPIES_ASKED, noted, pauseMs } from '../growing-pause.ts';
import type { QueuedTable, SetAsideTable, SnapshotProgress, SnapshotTable } from './stored-state.ts';
import type { TributaryError } from '../../shared/errors.ts';

export type { QueuedTable, SetAsideTable, SnapshotProgress, SnapshotTable } from './stored-state.ts';

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
    setAside: [],
    returnsTried: [],
    askedEpochs: [],
    askedCopies: [],
    epochReason: null,
  };
}

/** The progress when no snapshot is running: it only has the queue. */
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
  /** Null: all tables. */
  readonly tables: readonly QueuedTable[] | null;
}

/** Limit of the requests that wait for the next snapshot, and of tables by name: if there are more, all are copied. */
export const MAX_QUEUED = 1_000;

/**
 * The next snapshot serves these requests too. Requests that are under way or queued stay as they are. If there are too many,
 * the others wait, because the head office repeats open requests. Nothing changes while it has asked too often lately.
 * @param now ms since 1970
 */
export function queueRequests(
  progress: SnapshotProgress,
  requests: readonly SnapshotRequest[],
  now: number,
): SnapshotProgress {
  const known = new Set([...(progress.finished ? [] : progress.requests), ...progress.queuedRequests]);
  const room = Math.max(0, MAX_QUEUED - progress.queuedRequests.length);
  const fresh = requests.filter(({ id }) => !known.has(id)).slice(0, room);
  if (fresh.length === 0 || pauseMs(progress.askedCopies, COPIES_ASKED, now) > 0) return progress;
  const tables = fresh.flatMap(request => request.tables ?? []);
  const whole = fresh.some(request => request.tables === null) || progress.queued.length + tables.length > MAX_QUEUED;
  return {
    ...(whole ? queueWhole(progress) : queueTables(progress, tables)),
    queuedRequests: [...progress.queuedRequests, ...new Set(fresh.map(({ id }) => id))],
    askedCopies: noted(progress.askedCopies, now),
  };
}

/** The head office is not up to date beyond this time until the next snapshot has ended. @param at ISO */
export function markStale(progress: SnapshotProgress, at: string): SnapshotProgress {
  const queuedStaleSince = earlier(progress.queuedStaleSince, at);
  return queuedStaleSince === progress.queuedStaleSince ? progress : { ...progress, queuedStaleSince };
}

/** The latest time up to which the head office can be complete when it has all batches; null: no limit. ISO */
export function staleSince(progress: SnapshotProgress | null): string | null {
  if (progress === null) return null;
  const times = [
    progress.finished ? null : progress.staleSince,
    progress.queuedStaleSince,
    // Once it is told, the head office itself knows that the table's rows are older.
    ...progress.setAside.filter(({ told }) => !told).map(({ since }) => since),
  ];
  return times.reduce<string | null>((bound, time) => (time === null ? bound : earlier(bound, time)), null);
}

/** The earlier of two ISO times. */
export function earlier(a: string | null, b: string): string {
  return a === null || Date.parse(b) < Date.parse(a) ? b : a;
}

/** The progress of the snapshot after `seen`: `next`, with everything that was queued after `seen` still queued. */
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
    setAside: now.setAside,
    returnsTried: now.returnsTried,
    askedEpochs: now.askedEpochs,
    askedCopies: now.askedCopies,
    epochReason: now.epochReason,
  };
}

/** The table is empty, and the stream brings whatever comes into it: nothing of it is left to copy. */
export function emptied(progress: SnapshotProgress, table: QueuedTable): SnapshotProgress {
  const next = forgetSetAside(progress, each => isSame(each, table));
  return openTable(next, table) === undefined ? next : updateTable(next, table, { state: 'done' });
}

/** The table's definition has changed: a key that was read before may be invalid now, so copying begins again. */
export function redefined(progress: SnapshotProgress, table: QueuedTable): SnapshotProgress {
  const open = openTable(progress, table);
  // A table whose turn is yet to come has nothing to begin anew. Rows may be passed by a thousand times a second.
  if (open === undefined || (open.state === 'waiting' && open.lastKey === null && open.rows === 0)) return progress;
  return updateTable(progress, table, { state: 'waiting', lastKey: null, rows: 0 });
}

/** The table in the running snapshot, unless it is done. */
function openTable({ finished, tables }: SnapshotProgress, table: QueuedTable): SnapshotTable | undefined {
  return finished ? undefined : tables.find(each => isSame(each, table) && each.state !== 'done');
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
  // Requests without tables are for tables that do not exist any more: an empty snapshot completes them.
  return progress.queuedWhole || progress.queued.length > 0 || progress.queuedRequests.length > 0;
}

// ---------------------------------------------------------------------------------------------------------------
// Tables that are set aside

/** Characters of a cause that are kept. */
const MAX_CAUSE = 1_000;

/** Why a table is set aside, and what shows whether the cause is gone. */
export interface Trouble {
  readonly error: TributaryError;
  readonly shownBy: SetAsideTable['shownBy'];
}

/** The entry of a table that is set aside or returns; undefined: its rows are taken as usual. */
export function setAsideEntry(progress: SnapshotProgress, table: TableName): SetAsideTable | undefined {
  return progress.setAside.find(each => isSame(each, table));
}

/**
 * The table's rows are passed over from here on, until a snapshot of it begins. No snapshot copies it before.
 * @param at its rows were taken until then, ISO; a table that waited to be copied may be out of date for longer
 */
export function setAside(
  progress: SnapshotProgress,
  { schema, name }: TableName,
  { error, shownBy }: Trouble,
  at: string,
): SnapshotProgress {
  const table = { schema, name };
  const before = setAsideEntry(progress, table);
  const { code } = error;
  const message = error.message.slice(0, MAX_CAUSE);
  const isQueued = progress.queued.some(each => isSame(each, table));
  const isKnown = before?.state === 'aside' && before.code === code && before.message === message;
  if (isKnown && !isQueued) return progress;
  const entry: SetAsideTable = {
    schema,
    name,
    state: 'aside',
    since: before?.since ?? earlier(staleSince(progress), at),
    shownBy,
    told: before?.state === 'aside' && before.told,
    code,
    message,
    hint: error.hint.slice(0, MAX_CAUSE),
  };
  const queued = progress.queued.filter(each => !isSame(each, table));
  const isQueueEmpty = queued.length === 0 && !progress.queuedWhole;
  return {
    ...progress,
    tables: progress.finished ? progress.tables : progress.tables.filter(each => !isSame(each, table)),
    queued,
    queuedStaleSince: isQueueEmpty ? null : progress.queuedStaleSince,
    setAside: [...progress.setAside.filter(each => !isSame(each, table)), entry],
  };
}

/** A snapshot of these tables begins: their rows are taken again. */
export function returning(progress: SnapshotProgress, tables: readonly TableName[]): SnapshotProgress {
  return changeSetAside(progress, each =>
    tables.some(table => isSame(table, each)) ? { ...each, state: 'returning', told: true } : each,
  );
}

/** The running snapshot has ended: the tables that it brought back are whole. */
export function returned(progress: SnapshotProgress): SnapshotProgress {
  return forgetSetAside(
    progress,
    each => each.state === 'returning' && progress.tables.some(table => isSame(table, each)),
  );
}

/** The stream has told the head office which tables are set aside. */
export function toldSetAside(progress: SnapshotProgress): SnapshotProgress {
  return changeSetAside(progress, each => (each.told ? each : { ...each, told: true }));
}

export function forgetSetAside(
  progress: SnapshotProgress,
  isGone: (table: SetAsideTable) => boolean,
): SnapshotProgress {
  const left = progress.setAside.filter(each => !isGone(each));
  return left.length === progress.setAside.length ? progress : { ...progress, setAside: left };
}

function changeSetAside(progress: SnapshotProgress, change: (table: SetAsideTable) => SetAsideTable): SnapshotProgress {
  const next = progress.setAside.map(change);
  return next.every((each, index) => each === progress.setAside[index]) ? progress : { ...progress, setAside: next };
}

function isSame(a: QueuedTable, b: QueuedTable): boolean {
  return a.schema === b.schema && a.name === b.name;
}
