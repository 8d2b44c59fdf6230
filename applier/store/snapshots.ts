/**
 * Snapshots in progress, and open requests. A snapshot's start marker records the batch number at which it began. Its
 * end marker sweeps the branch's rows with an older number, table by table, in slices that are transactions of their
 * own. So the progress is stored here.
 *
 * Invariants: an end without its start sweeps nothing and leaves requests open; only a snapshot that started after rows
 * were left out makes the branch complete again.
 */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { tableKey, tableOfKey } from '../../shared/table-name.ts';
import type { RequestKind } from '../../shared/protocol.ts';
import type { TableName } from '../../shared/table-name.ts';
import { isoColumn, readCount, readNames, readText } from './sql-values.ts';

/** How many snapshots are kept for one branch. An agent runs one at a time, and the oldest have never ended. */
const MAX_SNAPSHOTS = 16;
/** The most open requests of one branch. Every answer has them all. */
export const MAX_REQUESTS = 100;
/** The most tables that one request names. A request for more is for all tables. */
export const MAX_REQUEST_TABLES = 50;

export interface SnapshotRow {
  readonly snapshot: string;
  readonly whole: boolean;
  /** Head-office tables that it covers. */
  readonly tables: readonly string[];
  readonly requests: readonly string[];
  readonly startBatch: number;
  /** Tables that are swept. */
  readonly swept: readonly string[];
  readonly sweptRows: number;
}

export async function startSnapshot(
  connection: Connection,
  branch: string,
  start: Pick<SnapshotRow, 'snapshot' | 'whole' | 'tables' | 'requests' | 'startBatch'>,
): Promise<void> {
  await connection.execute(
    `REPLACE INTO tributary_snapshot (branch, snapshot, whole, tables, requests, start_batch, swept)
     VALUES (?, ?, ?, ?, ?, ?, '[]')`,
    [
      branch,
      start.snapshot,
      start.whole ? 1 : 0,
      JSON.stringify(start.tables),
      JSON.stringify(start.requests),
      start.startBatch,
    ],
  );
  const [rows] = await connection.execute<RowDataPacket[]>(
    `SELECT snapshot FROM tributary_snapshot WHERE branch = ? ORDER BY start_batch DESC LIMIT ${MAX_SNAPSHOTS}, 100`,
    [branch],
  );
  for (const row of rows) await endSnapshot(connection, branch, readText(row, 'snapshot'));
}

/** null: its start marker was not applied in this epoch. */
export async function readSnapshot(
  connection: Connection,
  branch: string,
  snapshot: string,
): Promise<SnapshotRow | null> {
  const [rows] = await connection.execute<RowDataPacket[]>(
    `SELECT whole, tables, requests, start_batch, swept, swept_rows FROM tributary_snapshot
     WHERE branch = ? AND snapshot = ?`,
    [branch, snapshot],
  );
  const row = rows[0];
  if (row === undefined) return null;
  return {
    snapshot,
    whole: readCount(row, 'whole') === 1,
    tables: readNames(row, 'tables'),
    requests: readNames(row, 'requests'),
    startBatch: readCount(row, 'start_batch'),
    swept: readNames(row, 'swept'),
    sweptRows: readCount(row, 'swept_rows'),
  };
}

export async function saveSweep(
  connection: Connection,
  branch: string,
  snapshot: string,
  swept: readonly string[],
  rows: number,
): Promise<void> {
  await connection.execute(
    `UPDATE tributary_snapshot SET swept = ?, swept_rows = swept_rows + ? WHERE branch = ? AND snapshot = ?`,
    [JSON.stringify(swept), rows, branch, snapshot],
  );
}

export async function endSnapshot(connection: Connection, branch: string, snapshot: string): Promise<void> {
  await connection.execute('DELETE FROM tributary_snapshot WHERE branch = ? AND snapshot = ?', [branch, snapshot]);
}

export async function clearSnapshots(connection: Connection, branch: string): Promise<void> {
  await connection.execute('DELETE FROM tributary_snapshot WHERE branch = ?', [branch]);
}

/** Keeps running snapshots from sweeping the table, because not all of its rows were applied. */
export async function skipSweep(connection: Connection, branch: string, table: string): Promise<void> {
  await connection.execute(
    `UPDATE tributary_snapshot SET swept = JSON_ARRAY_APPEND(swept, '$', ?)
     WHERE branch = ? AND NOT JSON_CONTAINS(swept, JSON_QUOTE(?))`,
    [table, branch, table],
  );
}

// ---------------------------------------------------------------------------------------------------------------
// Requests

export interface OpenRequest {
  readonly id: string;
  readonly kind: RequestKind;
  /** Source tables under their names here; null: all. */
  readonly tables: readonly TableName[] | null;
  /** The rows that make the branch incomplete are missing only in these tables. */
  readonly completes: boolean;
  /** Why, and by whom it was asked for. */
  readonly reason: string;
  /** ISO 8601. */
  readonly askedAt: string;
}

export async function openRequests(connection: Connection, branch: string): Promise<OpenRequest[]> {
  const [rows] = await connection.execute<RowDataPacket[]>(
    `SELECT request, kind, tables, completes, reason, ${isoColumn('created_at')} FROM tributary_request WHERE branch = ?
     ORDER BY tributary_request.created_at, request LIMIT ${MAX_REQUESTS}`,
    [branch],
  );
  return rows.map(row => ({
    id: readText(row, 'request'),
    kind: kindOf(readText(row, 'kind')),
    tables: row['tables'] === null ? null : readNames(row, 'tables').map(tableOfKey),
    completes: readCount(row, 'completes') === 1,
    reason: readText(row, 'reason'),
    askedAt: readText(row, 'created_at'),
  }));
}

function kindOf(text: string): RequestKind {
  return text === 'verify' || text === 'rows' || text === 'repair' ? text : 'snapshot';
}

/** The ids of all open requests, by branch. */
export async function listRequests(connection: Connection): Promise<ReadonlyMap<string, readonly string[]>> {
  const [rows] = await connection.execute<RowDataPacket[]>('SELECT branch, request FROM tributary_request');
  const ids = new Map<string, string[]>();
  for (const row of rows) {
    const branch = readText(row, 'branch');
    ids.set(branch, [...(ids.get(branch) ?? []), readText(row, 'request')]);
  }
  return ids;
}

export interface NewRequest {
  readonly id: string;
  readonly reason: string;
  readonly kind?: OpenRequest['kind'];
  /** Absent: all tables. */
  readonly tables?: readonly TableName[];
  readonly completes?: boolean;
}

/**
 * Asks the branch for a snapshot, a verification or rows. The request is in every answer until a batch has answered it.
 * If too many are open, one for a snapshot of all tables replaces all requests for snapshots, and one for rows is not
 * opened.
 */
export async function addRequest(connection: Connection, branch: string, request: NewRequest): Promise<void> {
  const { id, reason, kind = 'snapshot', completes = false } = request;
  let tables = request.tables ?? null;
  const open = await openRequests(connection, branch);
  if (open.length >= MAX_REQUESTS && (kind === 'rows' || kind === 'repair')) return;
  if (open.length >= MAX_REQUESTS || (tables?.length ?? 0) > MAX_REQUEST_TABLES) {
    tables = null;
    if (kind === 'snapshot') await closeRequests(connection, branch, idsOf(open, 'snapshot'));
  }
  await connection.execute(
    `INSERT IGNORE INTO tributary_request (branch, request, kind, tables, completes, reason) VALUES (?, ?, ?, ?, ?, ?)`,
    [
      branch,
      id,
      kind,
      tables === null ? null : JSON.stringify(tables.map(tableKey)),
      completes ? 1 : 0,
      reason.slice(0, 200),
    ],
  );
}

export function idsOf(requests: readonly OpenRequest[], kind: OpenRequest['kind']): string[] {
  return requests.filter(request => request.kind === kind).map(({ id }) => id);
}

export async function closeRequests(
  connection: Connection,
  branch: string,
  requests: readonly string[],
): Promise<void> {
  for (const request of requests) {
    await connection.execute('DELETE FROM tributary_request WHERE branch = ? AND request = ?', [branch, request]);
  }
}
