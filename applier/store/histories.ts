/**
 * `tributary_history`: since when the history of a table is whole for a branch, or why it is stopped.
 *
 * Invariant: `batch_number` follows the branch's own number in every transaction that keeps the history. If the two
 * differ, rows were written without it: by an older applier, by one whose configuration does not name the table, or after a
 * person has dropped the history. Then it begins again. While it is stopped, rows are written without it.
 */
import type { Connection, ResultSetHeader, RowDataPacket } from 'mysql2/promise';
import * as z from 'zod';
import type { TableDescription } from '../../shared/batch/batch.ts';
import { TributaryError } from '../../shared/errors.ts';
import { nameText } from '../../shared/table-name.ts';
import type { BranchRow } from './branch-row.ts';
import { BY_HEAD_OFFICE } from './event-kinds.ts';
import { noteEvent } from './events.ts';
import { isoColumn, readCount, readJson, readText } from './sql-values.ts';

/** Characters of a reason that are kept. */
const MAX_REASON = 4_000;

const columnsSchema = z.array(z.object({ name: z.string(), type: z.string(), key: z.number().optional() }));

/** @throws TARGET_BUSY if a history is not whole: it must begin again, and then the transaction is tried again */
export async function advanceHistories(
  connection: Connection,
  row: BranchRow,
  batchNumber: number,
  tables: readonly string[],
): Promise<void> {
  if (tables.length === 0 || batchNumber === row.batchNumber) return;
  const [moved] = await connection.query<ResultSetHeader>(
    `UPDATE tributary_history SET batch_number = ?
      WHERE branch = ? AND batch_number = ? AND table_name IN (?) AND stopped_since IS NULL`,
    [batchNumber, row.branch, row.batchNumber, tables],
  );
  if (moved.affectedRows === tables.length) return;
  throw new TributaryError('TARGET_BUSY', `A history of ${row.branch} is not whole, and begins again.`);
}

/** A history that cannot be kept. */
export interface StoppedHistory {
  /** By its name in `history`. */
  readonly table: string;
  /** ISO 8601. */
  readonly since: string;
  readonly code: string;
  readonly reason: string;
}

export async function readStopped(connection: Connection, branch: string): Promise<StoppedHistory[]> {
  const [rows] = await connection.execute<RowDataPacket[]>(
    `SELECT table_name, stopped_code, stopped_reason, ${isoColumn('stopped_since')} FROM tributary_history
      WHERE branch = ? AND tributary_history.stopped_since IS NOT NULL ORDER BY table_name`,
    [branch],
  );
  return rows.map(row => ({
    table: readText(row, 'table_name'),
    since: readText(row, 'stopped_since'),
    code: readText(row, 'stopped_code'),
    reason: readText(row, 'stopped_reason'),
  }));
}

/** Of these tables, those whose history is not whole, and those whose history is stopped. */
export async function brokenHistories(
  connection: Connection,
  row: BranchRow,
  tables: readonly string[],
): Promise<{ readonly broken: readonly string[]; readonly stopped: readonly StoppedHistory[] }> {
  const [rows] = await connection.query<RowDataPacket[]>(
    'SELECT table_name, batch_number FROM tributary_history WHERE branch = ? AND table_name IN (?)',
    [row.branch, tables],
  );
  const stopped = (await readStopped(connection, row.branch)).filter(({ table }) => tables.includes(table));
  const fine = new Set(
    rows.filter(each => readCount(each, 'batch_number') === row.batchNumber).map(each => readText(each, 'table_name')),
  );
  const isStopped = new Set(stopped.map(({ table }) => table));
  return { broken: tables.filter(table => !fine.has(table) && !isStopped.has(table)), stopped };
}

/** The history of the table is whole from now on. @param at a DATETIME(6) in UTC */
export async function historyBegun(connection: Connection, row: BranchRow, table: string, at: string): Promise<void> {
  const stopped = (await readStopped(connection, row.branch)).some(each => each.table === table);
  await connection.query(
    `INSERT INTO tributary_history (branch, table_name, begun_at, batch_number) VALUES (?, ?, ?, ?)
     ON DUPLICATE KEY UPDATE begun_at = VALUES(begun_at), batch_number = VALUES(batch_number),
       stopped_since = NULL, stopped_code = NULL, stopped_reason = NULL`,
    [row.branch, table, at, row.batchNumber],
  );
  if (!stopped) return;
  const text = `The history of ${nameText(table)} is kept again. What was changed meanwhile has no versions of its own.`;
  await noteEvent(connection, row.branch, { kind: 'history-kept', actor: BY_HEAD_OFFICE, text });
}

/** Rows of the table are written without history from now on. @returns false: it was stopped already */
export async function stopHistory(
  connection: Connection,
  row: BranchRow,
  { table, code, reason }: Omit<StoppedHistory, 'since'>,
): Promise<boolean> {
  const text = reason.slice(0, MAX_REASON);
  const known = (await readStopped(connection, row.branch)).find(each => each.table === table);
  await connection.query(
    `INSERT INTO tributary_history (branch, table_name, begun_at, batch_number, stopped_since, stopped_code, stopped_reason)
     VALUES (?, ?, UTC_TIMESTAMP(6), ?, UTC_TIMESTAMP(6), ?, ?)
     ON DUPLICATE KEY UPDATE stopped_since = COALESCE(stopped_since, VALUES(stopped_since)),
       stopped_code = VALUES(stopped_code), stopped_reason = VALUES(stopped_reason)`,
    [row.branch, table, row.batchNumber, code, text],
  );
  if (known !== undefined) return false;
  await noteEvent(connection, row.branch, {
    kind: 'history-stopped',
    actor: BY_HEAD_OFFICE,
    text: `Rows of ${nameText(table)} are written without their history. ${text}`,
    code,
  });
  return true;
}

/** A history was dropped or renamed: it is whole for no branch. */
export async function historyLost(connection: Connection, table: string): Promise<void> {
  await connection.query('DELETE FROM tributary_history WHERE LOWER(table_name) = LOWER(?)', [table]);
}

/** The branch's table as it last described it; null: it has none of this name, or has not described it. */
export async function describedTable(
  connection: Connection,
  branch: string,
  table: string,
): Promise<TableDescription | null> {
  const [rows] = await connection.query<RowDataPacket[]>(
    `SELECT source_schema, table_name, definition FROM tributary_table WHERE branch = ? AND LOWER(table_name) = LOWER(?)
      ORDER BY table_name = ? DESC LIMIT 1`,
    [branch, table, table],
  );
  const [row] = rows;
  if (row === undefined) return null;
  const columns = columnsSchema.parse(readJson(row, 'definition')).map(({ key, ...column }) => ({
    ...column,
    ...(key === undefined ? {} : { key }),
  }));
  // A table that the branch has only set aside or emptied so far was never described.
  if (columns.length === 0) return null;
  return { schema: readText(row, 'source_schema'), name: readText(row, 'table_name'), columns };
}
