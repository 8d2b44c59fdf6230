/**
 * Writes a run without the rows that the server refuses. It tries all rows at once. If that fails, it tries halves of
 * them, each after a savepoint, until only the refused rows are left. All others are written.
 *
 * Invariants: a refused statement leaves nothing behind, because it is rolled back to its savepoint. A fault that no
 * row causes is thrown, and the caller rolls back. The older version of a refused row is deleted, because people would
 * take it for the current one.
 */
import type { Connection } from 'mysql2/promise';
import type { TributaryError } from '../../shared/errors.ts';
import { deleteRows } from './delete.ts';
import type { RowSet } from './merge.ts';
import { keyHash, keyHashOf } from './row-text.ts';
import { keyText, refusal, rowText } from './refusal.ts';
import { isRowFault } from './target-error.ts';
import type { TargetTable } from './target-table.ts';
import { upsertRows } from './upsert.ts';

/** A change of one row that the head office's table refuses. */
export interface RefusedRow {
  readonly table: TargetTable;
  readonly op: 'upsert' | 'delete';
  /** All columns of an upsert, the key columns of a delete. */
  readonly rows: RowSet;
  readonly row: number;
  /** SHA-256 of the key, or of the row if it has no key, in hexadecimal. */
  readonly keyHash: string;
  /** BATCH_REFUSED, with the row's key in its message. */
  readonly error: TributaryError;
}

/** Records in the same transaction that a row is left out. @throws the row's error if it may not be left out */
export type QuarantineRow = (refused: RefusedRow) => Promise<void>;

const SAVEPOINT = 'tributary_attempt';

/** Deletes by key. @returns how many were refused */
export async function deleteRowsBut(
  connection: Connection,
  table: TargetTable,
  keys: RowSet,
  branch: string,
  leaveOut: QuarantineRow,
): Promise<number> {
  if (keys.rows === 0) return 0;
  return attempt(
    connection,
    0,
    keys.rows,
    (from, to) => deleteRows(connection, table, slice(keys, from, to), branch),
    async (row, fault) => {
      const key = keys.columns.map(column => column[row]!);
      const error = refusal(table, keyText(table, key), fault);
      await leaveOut({ table, op: 'delete', rows: keys, row, keyHash: keyHashOf(table, keys, row), error });
    },
  );
}

/**
 * Inserts or replaces rows.
 * @param load writes all rows by LOAD DATA; null if that is not possible
 * @returns how many were refused
 */
export async function upsertRowsBut(
  connection: Connection,
  table: TargetTable,
  rows: RowSet,
  branch: string,
  batchNumber: number,
  load: (() => Promise<void>) | null,
  leaveOut: QuarantineRow,
): Promise<number> {
  if (rows.rows === 0) return 0;
  const refused = async (row: number, fault: unknown): Promise<void> => {
    const error = refusal(table, rowText(table, rows, row), fault);
    const hash = rows.copies?.keys[row] ?? keyHash(table, rows, row);
    await leaveOut({ table, op: 'upsert', rows, row, keyHash: hash, error });
    // A row without a key has no older version.
    if (rows.copies !== undefined) return;
    const columns = table.key.map(index => [rows.columns[index]![row]!]);
    await tried(connection, () => deleteRows(connection, table, { rows: 1, columns }, branch));
  };
  if (load !== null && (await tried(connection, load)) === null) return 0;
  return attempt(
    connection,
    0,
    rows.rows,
    (from, to) => upsertRows(connection, table, rows, branch, batchNumber, from, to),
    refused,
  );
}

async function attempt(
  connection: Connection,
  from: number,
  to: number,
  write: (from: number, to: number) => Promise<void>,
  refused: (row: number, fault: unknown) => Promise<void>,
): Promise<number> {
  const fault = await tried(connection, () => write(from, to));
  if (fault === null) return 0;
  if (to - from === 1) {
    await refused(from, fault.fault);
    return 1;
  }
  const middle = (from + to) >> 1;
  const first = await attempt(connection, from, middle, write, refused);
  return first + (await attempt(connection, middle, to, write, refused));
}

/** Null: done. Otherwise the server's error about the rows, after a rollback to the savepoint. */
async function tried(connection: Connection, write: () => Promise<void>): Promise<{ readonly fault: unknown } | null> {
  await connection.query(`SAVEPOINT ${SAVEPOINT}`);
  try {
    await write();
    return null;
  } catch (error) {
    if (!isRowFault(error)) throw error;
    await connection.query(`ROLLBACK TO SAVEPOINT ${SAVEPOINT}`);
    return { fault: error };
  }
}

function slice(rows: RowSet, from: number, to: number): RowSet {
  return { rows: to - from, columns: rows.columns.map(column => column.slice(from, to)) };
}
