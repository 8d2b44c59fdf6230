/**
 * `tributary_history`: since when the history of a table is whole for a branch.
 *
 * Invariant: `batch_number` follows the branch's own number in every transaction that keeps the history. If the two
 * differ, rows were written without it: by an older applier, by one whose configuration does not name the table, or after a
 * person has dropped the history. Then it begins again.
 */
import type { Connection, ResultSetHeader, RowDataPacket } from 'mysql2/promise';
import * as z from 'zod';
import type { TableDescription } from '../../shared/batch/batch.ts';
import { TributaryError } from '../../shared/errors.ts';
import type { BranchRow } from './branch-row.ts';
import { readCount, readJson, readText } from './sql-values.ts';

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
    'UPDATE tributary_history SET batch_number = ? WHERE branch = ? AND batch_number = ? AND table_name IN (?)',
    [batchNumber, row.branch, row.batchNumber, tables],
  );
  if (moved.affectedRows === tables.length) return;
  throw new TributaryError('TARGET_BUSY', `A history of ${row.branch} is not whole, and begins again.`);
}

/** The tables of these names whose history is not whole. */
export async function histories(connection: Connection, row: BranchRow, tables: readonly string[]): Promise<string[]> {
  const [rows] = await connection.query<RowDataPacket[]>(
    'SELECT table_name, batch_number FROM tributary_history WHERE branch = ? AND table_name IN (?)',
    [row.branch, tables],
  );
  const whole = new Set(
    rows.filter(each => readCount(each, 'batch_number') === row.batchNumber).map(each => readText(each, 'table_name')),
  );
  return tables.filter(table => !whole.has(table));
}

/** The history of the table is whole from now on. @param at a DATETIME(6) in UTC */
export async function historyBegun(connection: Connection, row: BranchRow, table: string, at: string): Promise<void> {
  await connection.query(
    `INSERT INTO tributary_history (branch, table_name, begun_at, batch_number) VALUES (?, ?, ?, ?)
     ON DUPLICATE KEY UPDATE begun_at = VALUES(begun_at), batch_number = VALUES(batch_number)`,
    [row.branch, table, at, row.batchNumber],
  );
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
