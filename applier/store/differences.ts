/**
 * `tributary_difference`: the rows of a table that differed in its last comparison. At first only their names in the
 * sketch are known (`unnamed`). Then the branch is asked for these rows, and they are compared with those here at one
 * place of the stream (applier/verify/row-search.ts). `tributary_repair`: what repairs have changed.
 *
 * Invariants: every write is made under the lock on the branch's row. A comparison that ends replaces all entries of
 * its table.
 */
import { randomUUID } from 'node:crypto';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import type { Value } from '../../shared/batch/batch.ts';
import { MAX_NAMED_ROWS } from '../../shared/batch/row-sketch.ts';
import type { TableName } from '../../shared/table-name.ts';
import { cutRow } from './quarantined-rows.ts';
import { addRequest, closeRequests, openRequests } from './snapshots.ts';
import { readCount, readJson, readText } from './sql-values.ts';
import type { Row } from './sql-values.ts';

/** The repaired rows of one branch that are kept. */
const MAX_REPAIRED = 10_000;
/** Rows written by one statement. */
const ROWS_AT_ONCE = 50;

export type DifferenceKind = 'changed' | 'missing' | 'extra' | 'unnamed';

/** Where a row is here, if the table has `_key`: that in hexadecimal, and `_copy`, if it has that too. */
export type RowPlace = readonly [key: string, copy: number | null];

/** A row that differs. */
export interface Difference {
  /** Its name in the sketch (shared/batch/row-sums.ts), in hexadecimal. */
  readonly row: string;
  readonly kind: DifferenceKind;
  readonly quarantined: boolean;
  /** By column; null: a table without a key, or not known yet. */
  readonly key: Record<string, Value> | null;
  /** The columns that differ. */
  readonly columns: readonly string[];
  readonly here: Record<string, Value> | null;
  readonly there: Record<string, Value> | null;
  readonly copiesHere: number;
  readonly copiesThere: number;
  readonly places: readonly RowPlace[];
}

/** How many rows of a table differ. */
export interface DifferenceCount {
  readonly rows: number;
  readonly quarantined: number;
  readonly unnamed: number;
}

/** Replaces the differences of a table. */
export async function saveDifferences(
  connection: Connection,
  branch: string,
  table: TableName,
  differences: readonly Difference[],
): Promise<void> {
  await forgetDifferences(connection, branch, table.name);
  for (let from = 0; from < differences.length; from += ROWS_AT_ONCE) {
    const some = differences.slice(from, from + ROWS_AT_ONCE);
    const values = some.map(each => [
      branch,
      table.name,
      each.row,
      table.schema,
      each.kind,
      each.quarantined,
      jsonOf(each.key),
      JSON.stringify(each.columns),
      jsonOf(each.here),
      jsonOf(each.there),
      each.copiesHere,
      each.copiesThere,
      JSON.stringify(each.places),
    ]);
    await connection.query(
      `INSERT INTO tributary_difference (branch, table_name, row_name, source_schema, kind, quarantined, row_key, columns,
         here, there, copies_here, copies_there, places) VALUES ?`,
      [values],
    );
  }
}

/** The row as JSON, with long values cut. */
function jsonOf(row: Record<string, Value> | null): string | null {
  return row === null ? null : JSON.stringify(cutRow(row));
}

export async function forgetDifferences(connection: Connection, branch: string, table: string): Promise<void> {
  await connection.execute('DELETE FROM tributary_difference WHERE branch = ? AND table_name = ?', [branch, table]);
}

/** Notes rows of which only the names are known, and asks the branch for them. */
export async function askForRows(
  connection: Connection,
  branch: string,
  table: TableName,
  names: readonly string[],
): Promise<void> {
  const none = { quarantined: false, key: null, columns: [], here: null, there: null, copiesHere: 0, copiesThere: 0 };
  const unnamed = names.map(row => ({ row, kind: 'unnamed' as const, ...none, places: [] }));
  await saveDifferences(connection, branch, table, unnamed);
  const open = await openRequests(connection, branch);
  const earlier = open.filter(({ kind, tables }) => kind === 'rows' && tables?.[0]?.name === table.name);
  await closeRequests(
    connection,
    branch,
    earlier.map(({ id }) => id),
  );
  await addRequest(connection, branch, {
    id: randomUUID(),
    kind: 'rows',
    reason: 'to name what differs',
    tables: [table],
  });
}

/** The rows of a table that differ, by their names. */
export async function readDifferences(
  connection: Connection,
  branch: string,
  table: string,
): Promise<ReadonlyMap<string, Difference>> {
  const [rows] = await connection.execute<RowDataPacket[]>(
    `SELECT * FROM tributary_difference WHERE branch = ? AND table_name = ? ORDER BY kind, row_name LIMIT ${MAX_NAMED_ROWS}`,
    [branch, table],
  );
  return new Map(rows.map(row => [readText(row, 'row_name'), toDifference(row)]));
}

/** At most `limit` rows of each table that differ, by the table's name at the head office. */
export async function listDifferences(
  connection: Connection,
  branch: string,
  limit: number,
): Promise<ReadonlyMap<string, readonly Difference[]>> {
  const [rows] = await connection.query<RowDataPacket[]>(
    `SELECT * FROM (SELECT d.*, ROW_NUMBER() OVER (PARTITION BY table_name ORDER BY kind, CAST(row_key AS CHAR), row_name) AS place
       FROM tributary_difference d WHERE branch = ?) n WHERE place <= ? ORDER BY table_name, place`,
    [branch, limit],
  );
  const tables = new Map<string, Difference[]>();
  for (const row of rows) {
    const table = readText(row, 'table_name');
    tables.set(table, [...(tables.get(table) ?? []), toDifference(row)]);
  }
  return tables;
}

export async function countDifferences(
  connection: Connection,
  branch: string,
): Promise<ReadonlyMap<string, DifferenceCount>> {
  const [rows] = await connection.execute<RowDataPacket[]>(
    `SELECT table_name, COUNT(*) AS n, CAST(SUM(quarantined) AS SIGNED) AS quarantined,
       CAST(SUM(kind = 'unnamed') AS SIGNED) AS unnamed
     FROM tributary_difference WHERE branch = ? GROUP BY table_name`,
    [branch],
  );
  return new Map(
    rows.map(row => [
      readText(row, 'table_name'),
      { rows: readCount(row, 'n'), quarantined: readCount(row, 'quarantined'), unnamed: readCount(row, 'unnamed') },
    ]),
  );
}

/** The names of rows for a request, in base64. @param repair whether rows in quarantine are left out */
export async function namesFor(
  connection: Connection,
  branch: string,
  table: string,
  repair: boolean,
): Promise<string> {
  const [rows] = await connection.execute<RowDataPacket[]>(
    `SELECT row_name FROM tributary_difference WHERE branch = ? AND table_name = ? ${repair ? 'AND NOT quarantined' : ''}
     ORDER BY row_name LIMIT ${MAX_NAMED_ROWS}`,
    [branch, table],
  );
  return Buffer.from(rows.map(row => readText(row, 'row_name')).join(''), 'hex').toString('base64');
}

/** The rows do not differ any more. */
export async function removeDifferences(
  connection: Connection,
  branch: string,
  table: string,
  names: readonly string[],
): Promise<void> {
  if (names.length === 0) return;
  const sql = 'DELETE FROM tributary_difference WHERE branch = ? AND table_name = ? AND row_name IN (?)';
  await connection.query(sql, [branch, table, names]);
}

/** One row that a repair has changed or tried to change. */
export interface RepairedRow {
  readonly action: 'inserted' | 'updated' | 'deleted' | 'refused';
  readonly key: Record<string, Value> | null;
  readonly had: Record<string, Value> | null;
  readonly has: Record<string, Value> | null;
  readonly copiesHad: number;
  readonly copiesHas: number;
}

/** What repaired the rows. */
export interface RepairedBy {
  readonly branch: string;
  readonly table: TableName;
  readonly request: string;
  readonly asked: string;
  readonly epoch: string;
  readonly seq: number;
}

export async function saveRepairs(
  connection: Connection,
  { branch, table, request, asked, epoch, seq }: RepairedBy,
  repaired: readonly RepairedRow[],
): Promise<void> {
  for (let from = 0; from < repaired.length; from += ROWS_AT_ONCE) {
    const values = repaired.slice(from, from + ROWS_AT_ONCE).map(each => {
      const { action, key, had, has, copiesHad, copiesHas } = each;
      const row = [action, jsonOf(key), jsonOf(had), jsonOf(has), copiesHad, copiesHas];
      return [branch, table.name, table.schema, request, asked, ...row, epoch, seq];
    });
    await connection.query(
      `INSERT INTO tributary_repair (branch, table_name, source_schema, request, asked, action, row_key, had, has,
         copies_had, copies_has, epoch, seq) VALUES ?`,
      [values],
    );
  }
  await connection.execute(
    `DELETE r FROM tributary_repair r JOIN (SELECT id FROM tributary_repair WHERE branch = ? ORDER BY id DESC
       LIMIT ${MAX_REPAIRED}, 1) o ON r.id <= o.id WHERE r.branch = ?`,
    [branch, branch],
  );
}

function toDifference(row: Row): Difference {
  return {
    row: readText(row, 'row_name'),
    kind: kindOf(readText(row, 'kind')),
    quarantined: readCount(row, 'quarantined') === 1,
    key: readRow(row, 'row_key'),
    columns: (readJson(row, 'columns') ?? []) as readonly string[],
    here: readRow(row, 'here'),
    there: readRow(row, 'there'),
    copiesHere: readCount(row, 'copies_here'),
    copiesThere: readCount(row, 'copies_there'),
    places: (readJson(row, 'places') ?? []) as readonly RowPlace[],
  };
}

function readRow(row: Row, column: string): Record<string, Value> | null {
  return readJson(row, column) as Record<string, Value> | null;
}

function kindOf(text: string): DifferenceKind {
  return text === 'changed' || text === 'missing' || text === 'extra' ? text : 'unnamed';
}
