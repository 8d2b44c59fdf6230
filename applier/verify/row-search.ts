/**
 * Compares rows that a branch has sent (`verify-rows`) with the head office's at the same place of the stream, and says
 * what differs: the second step of a comparison. It reads the table in the view that Counter began at that place, in
 * the background.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Connection } from 'mysql2/promise';
import type { RowsMark, TableDescription, Value } from '../../shared/batch/batch.ts';
import { columnType, wireKind } from '../../shared/batch/column-type.ts';
import type { ColumnType } from '../../shared/batch/column-type.ts';
import { identityOf, isSameValue, NAME_BYTES, rowName } from '../../shared/batch/row-sums.ts';
import type { RowShape } from '../../shared/batch/row-sums.ts';
import type { WireKind } from '../../shared/batch/type-table.ts';
import { streamCells } from '../../shared/database/mysql.ts';
import { quoteTable } from '../../shared/database/sql.ts';
import { nth } from '../../shared/nth.ts';
import { readServerTable } from '../apply/server-table.ts';
import type { ServerTable } from '../apply/server-table.ts';
import { keyOf } from '../apply/target-table.ts';
import type { Difference, RowPlace } from '../store/differences.ts';
import { cellReader, readBackQuery } from './read-back.ts';

const STREAMED_ROWS = 16;
const ROWS_A_TURN = 2_000;
const MOST_REST_MS = 1_000;
/** Copies of one row whose places are kept. Beyond them the table can only be copied. */
const MAX_PLACES = 1_000;
/** Digits that tell any two FLOATs apart. */
const FLOAT_DIGITS = 9;

/** What the branch has of the rows that are compared. */
export interface SentRows {
  readonly description: TableDescription;
  readonly shape: RowShape;
  /** By name; null: the branch has no such row. */
  readonly rows: ReadonlyMap<string, SentRow | null>;
}

export interface SentRow {
  readonly values: readonly Value[];
  readonly copies: number;
}

/** The rows of a mark, by their names. */
export function sentRows(description: TableDescription, mark: RowsMark): SentRows {
  const shape = { types: description.columns.map(({ type }) => columnType(type)), key: keyOf(description) };
  const rows = new Map<string, SentRow | null>();
  for (let row = 0; row < mark.rows; row += 1) {
    const values = mark.values.map(column => nth(column, row));
    rows.set(rowName(shape, identityOf(shape, values)), { values, copies: mark.copies[row] ?? 1 });
  }
  const absent = Buffer.from(mark.absent, 'base64');
  for (let at = 0; at + NAME_BYTES <= absent.length; at += NAME_BYTES) {
    const name = absent.toString('hex', at, at + NAME_BYTES);
    if (!rows.has(name)) rows.set(name, null);
  }
  return { description, shape, rows };
}

/** A row at the head office: its values, and where it is. */
export interface RowHere {
  readonly values: readonly Value[];
  copies: number;
  readonly places: RowPlace[];
}

/** A function that makes a row of the cells of `rowsHereQuery`. */
export function rowReader(types: readonly ColumnType[]): (cells: readonly (Buffer | null)[]) => Value[] {
  const readers = types.map(type => {
    const read = cellReader(type);
    const kind = wireKind(type);
    return (cell: Buffer | null): Value => asSent(kind, read(cell));
  });
  return cells => readers.map((read, index) => read(cells[index] ?? null));
}

/** A value that was read as text, as a branch sends it: hashes of keys and literals depend on that. */
function asSent(kind: WireKind, value: Value): Value {
  if (typeof value !== 'string') return value;
  const number = Number(value);
  switch (kind) {
    case 'integer':
      return Number.isSafeInteger(number) ? number : value;
    case 'float':
      return Object.is(number, -0) ? '-0' : shortestFloat(Math.fround(number));
    case 'double':
      return Object.is(number, -0) ? '-0' : number;
    case 'decimal':
    case 'temporal':
    case 'text':
    case 'json':
    case 'bytes':
      return value;
  }
}

/** The number with the shortest text that is this FLOAT. */
function shortestFloat(float: number): number {
  for (let digits = 1; digits < FLOAT_DIGITS; digits += 1) {
    const shorter = Number(float.toPrecision(digits));
    if (Math.fround(shorter) === float) return shorter;
  }
  return Number(float.toPrecision(FLOAT_DIGITS));
}

/** Reads the branch's rows, each followed by `_key` and `_copy`, where the table has them. */
export function rowsHereQuery(sql: string, description: TableDescription, server: ServerTable, branch: string): string {
  const own = server.primaryKey.filter(name => name === '_key' || name === '_copy');
  const list = own.map(name => (name === '_key' ? 'HEX(`_key`)' : '`_copy`'));
  return readBackQuery(sql, description, server, branch, list);
}

/** Where the row of these cells is; null: its own key says so. */
export function placeOf(cells: readonly (Buffer | null)[], { columns }: TableDescription): RowPlace | null {
  const [key, copy] = cells.slice(columns.length);
  if (key === undefined || key === null) return null;
  return [key.toString().toLowerCase(), copy === undefined || copy === null ? null : Number(copy.toString())];
}

/** Finds what differs. @returns null: a row has too many copies to name their places */
export async function searchRows(
  connection: Connection,
  database: string,
  branch: string,
  sent: SentRows,
): Promise<readonly Difference[] | null> {
  const { description, shape } = sent;
  const server = await readServerTable(connection, database, description.name);
  const here = new Map<string, RowHere>();
  if (server !== null) {
    const query = rowsHereQuery(quoteTable(database, description.name), description, server, branch);
    const read = rowReader(shape.types);
    let rows = 0;
    let startedAt = performance.now();
    for await (const cells of streamCells(connection, query, STREAMED_ROWS)) {
      rows += 1;
      if (rows % ROWS_A_TURN === 0) {
        await sleep(Math.min(MOST_REST_MS, performance.now() - startedAt));
        startedAt = performance.now();
      }
      const values = read(cells);
      const name = rowName(shape, identityOf(shape, values));
      if (!sent.rows.has(name)) continue;
      const place = placeOf(cells, description);
      const found = here.get(name);
      if (found === undefined) here.set(name, { values, copies: 1, places: place === null ? [] : [place] });
      else {
        found.copies += 1;
        if (found.copies > MAX_PLACES) return null;
        if (place !== null) found.places.push(place);
      }
    }
  }
  return [...sent.rows].flatMap(([name, there]) => differenceOf(sent, name, there, here.get(name) ?? null) ?? []);
}

/** null: both sides have the same. */
function differenceOf(
  { description, shape }: SentRows,
  row: string,
  there: SentRow | null,
  here: RowHere | null,
): Difference | null {
  const copiesHere = here?.copies ?? 0;
  const copiesThere = there?.copies ?? 0;
  const differing =
    here === null || there === null
      ? []
      : shape.types.flatMap((type, index) =>
          isSameValue(type, nth(here.values, index), nth(there.values, index)) ? [] : [index],
        );
  if (copiesHere === copiesThere && differing.length === 0) return null;
  const named = (values: readonly Value[] | undefined): Record<string, Value> | null =>
    values === undefined ? null : namedValues(description, values);
  const identity = here?.values ?? there?.values ?? [];
  const key = shape.key.length === 0 ? null : shape.key.map(index => nth(identity, index));
  return {
    row,
    kind: there === null ? 'extra' : here === null ? 'missing' : 'changed',
    quarantined: false,
    key: key === null ? null : keyValues(description, key),
    columns: differing.map(index => nth(description.columns, index).name),
    here: named(here?.values),
    there: named(there?.values),
    copiesHere,
    copiesThere,
    places: here?.places ?? [],
  };
}

/** A row's values by column. */
export function namedValues({ columns }: TableDescription, values: readonly Value[]): Record<string, Value> {
  return Object.fromEntries(columns.map(({ name }, index) => [name, values[index] ?? null]));
}

/** The key's values by column. */
export function keyValues(description: TableDescription, key: readonly Value[]): Record<string, Value> {
  return Object.fromEntries(
    keyOf(description).map((index, place) => [nth(description.columns, index).name, nth(key, place)]),
  );
}
