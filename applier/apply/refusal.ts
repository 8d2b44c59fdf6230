/**
 * Finds the row that the server refuses. The failed statement left nothing behind, or the caller rolls it back. So
 * halves of the rows are tried again until one row is left.
 */
import type { Connection } from 'mysql2/promise';
import type { Value } from '../../shared/batch/batch.ts';
import { TributaryError } from '../../shared/errors.ts';
import { tableText } from '../../shared/table-name.ts';
import { beginning, LongValue } from '../../shared/batch/long-value.ts';
import type { RowSet } from './merge.ts';
import { TableTrouble } from './table-trouble.ts';
import { isRowFault, messageOf, targetError } from './target-error.ts';
import type { TargetTable } from './target-table.ts';
import { upsertRows } from './upsert.ts';
import { nth } from '../../shared/nth.ts';

const MAX_SHOWN = 80;

/**
 * The error that names the row which cannot be written.
 * @param fault the server's error for all rows together
 */
export async function findRefusedRow(
  connection: Connection,
  table: TargetTable,
  rows: RowSet,
  branch: string,
  batchNumber: number,
  fault: unknown,
): Promise<TributaryError> {
  let found = fault;
  let from = 0;
  let to = rows.rows;
  let narrowed = false;
  while (to - from > 1 || !narrowed) {
    const middle = to - from > 1 ? (from + to) >> 1 : to;
    const first = await tryRows(connection, table, rows, branch, batchNumber, from, middle);
    if (first !== null) {
      found = first;
      to = middle;
      narrowed = true;
    } else if (middle === to) {
      return refusal(table, null, found);
    } else {
      const second = await tryRows(connection, table, rows, branch, batchNumber, middle, to);
      // Neither half alone is refused: it is not one row's fault, so no row is named.
      if (second === null) return refusal(table, null, found);
      found = second;
      from = middle;
      narrowed = true;
    }
    if (!isRowFault(found)) return targetError(found, tableName(table));
  }
  return refusal(table, rowText(table, rows, from), found);
}

async function tryRows(
  connection: Connection,
  table: TargetTable,
  rows: RowSet,
  branch: string,
  batchNumber: number,
  from: number,
  to: number,
): Promise<unknown> {
  try {
    await upsertRows(connection, table, rows, branch, batchNumber, from, to);
    return null;
  } catch (error) {
    return error ?? new Error('unknown');
  }
}

/** The error for what the server refused. */
export function refusal(table: TargetTable, key: string | null, fault: unknown): TributaryError {
  const row = key === null ? '' : `, row ${key}`;
  const hint = fault instanceof TributaryError ? { hint: fault.hint } : {};
  return new TableTrouble('BATCH_REFUSED', table.description, `${tableName(table)}${row}: ${messageOf(fault)}`, {
    cause: fault,
    ...hint,
  });
}

function tableName(table: TargetTable): string {
  return tableText(table.description);
}

/** A row's key for people. @param key its values in key order */
export function keyText(table: TargetTable, key: readonly Value[]): string {
  const parts = table.key.map((index, place) => {
    const text = JSON.stringify(key[place]);
    return `${nth(table.columns, index).name}=${text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text}`;
  });
  return `(${parts.join(', ')})`;
}

/** A description of the row for people: its key, or the start of its values if it has none. @param rows all columns */
export function rowText(table: TargetTable, rows: RowSet, row: number): string {
  if (table.key.length > 0)
    return keyText(
      table,
      table.key.map(index => nth(nth(rows.columns, index), row)),
    );
  const shown = (value: Value): Value => (value instanceof LongValue ? beginning(value, MAX_SHOWN) : value);
  const values = JSON.stringify(rows.columns.map(column => shown(nth(column, row))));
  return values.length > MAX_SHOWN ? `${values.slice(0, MAX_SHOWN)}…` : values;
}
