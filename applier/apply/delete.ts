/** Deletes a branch's rows: by key, all in a table, or those that a snapshot did not send again. */
import type { Connection, ResultSetHeader } from 'mysql2/promise';
import { quoteString } from '../../shared/database/sql.ts';
import { literalWriter } from '../../shared/batch/sql-literal.ts';
import type { RowSet } from './merge.ts';
import { keyHashOf } from './row-text.ts';
import { isText } from './target-column.ts';
import type { TargetTable } from './target-table.ts';
import { checkPacket } from './upsert.ts';

const MAX_CHARACTERS = 512 * 1024;
const MAX_KEYS = 500;

/** Deletes rows by key. A missing row is not an error, because merged batches may insert and delete the same row. */
export async function deleteRows(
  connection: Connection,
  table: TargetTable,
  keys: RowSet,
  branch: string,
): Promise<void> {
  for (const rows of keyConditions(table, keys, branch))
    await run(connection, `DELETE FROM ${table.sql} WHERE ${rows}`);
}

/** SQL conditions that together match exactly the branch's rows with these keys. None if there are no keys. */
export function* keyConditions(table: TargetTable, keys: RowSet, branch: string): Generator<string, void, undefined> {
  const columns = table.key.map(index => table.columns[index]!);
  const writers = columns.map(({ type, target }) => literalWriter(type, isText(target)));
  const byColumns = table.identity === 'columns';
  const names = byColumns ? columns.map(({ sql }) => sql) : ['`_key`'];
  const own = quoteString(branch);
  // A row constructor with all of the primary key, so that the optimizer reads exactly these rows.
  const head = `(\`_branch\`, ${names.join(', ')}) IN (`;
  let list: string[] = [];
  let length = 0;
  for (let row = 0; row < keys.rows; row += 1) {
    const key = byColumns
      ? writers.map((write, place) => write(keys.columns[place]![row]!)).join(', ')
      : `X'${keyHashOf(table, keys, row)}'`;
    if (list.length > 0 && (length + key.length > MAX_CHARACTERS || list.length === MAX_KEYS)) {
      yield `${head}${list.join(', ')})`;
      list = [];
      length = 0;
    }
    list.push(`(${own}, ${key})`);
    length += key.length + own.length + 6;
  }
  if (list.length > 0) yield `${head}${list.join(', ')})`;
}

/** Deletes the branch's rows in a table, and no other branch's. */
export async function truncateRows(connection: Connection, table: TargetTable, branch: string): Promise<void> {
  await run(connection, `DELETE FROM ${table.sql} WHERE \`_branch\` = ${quoteString(branch)}`);
}

/** SQL of the keys of the rows that `sweepRows` deletes in this order. @param key the key's columns, which are the order */
export function rowsToSweep(tableSql: string, branch: string, sinceBatch: number, limit: number, key: string): string {
  return `SELECT ${key} FROM ${tableSql} WHERE ${swept(branch, sinceBatch)} ORDER BY ${key} LIMIT ${limit}`;
}

function swept(branch: string, sinceBatch: number): string {
  return `\`_branch\` = ${quoteString(branch)} AND \`_batch\` < ${sinceBatch}`;
}

/**
 * Deletes at most `limit` of the branch's rows that were last written before batch `sinceBatch`; returns how many.
 * @param order columns, if it matters which rows are deleted first
 */
export function sweepRows(
  connection: Connection,
  tableSql: string,
  branch: string,
  sinceBatch: number,
  limit: number,
  order = '',
): Promise<number> {
  const by = order === '' ? '' : ` ORDER BY ${order}`;
  return run(connection, `DELETE FROM ${tableSql} WHERE ${swept(branch, sinceBatch)}${by} LIMIT ${limit}`);
}

/** Deletes at most `limit` of the branch's rows; returns how many. */
export function clearRows(connection: Connection, tableSql: string, branch: string, limit: number): Promise<number> {
  return run(connection, `DELETE FROM ${tableSql} WHERE \`_branch\` = ${quoteString(branch)} LIMIT ${limit}`);
}

async function run(connection: Connection, sql: string): Promise<number> {
  checkPacket(connection, sql);
  const [result] = await connection.query<ResultSetHeader>(sql);
  return result.affectedRows;
}
