/**
 * Rows as the text that LOAD DATA reads: fields between tabs, lines between newlines, backslash escapes, `\N` for NULL.
 *
 * Invariants: no chunk is empty (an empty one would end the data too early, without an error), and every field reads
 * back as exactly the value. Bytes are sent as base64, which the server decodes, so that all text is UTF-8.
 */
import { hash } from 'node:crypto';
import type { Value } from '../../shared/batch/batch.ts';
import type { ColumnType } from '../../shared/batch/column-type.ts';
import { wireKind } from '../../shared/batch/column-type.ts';
import { assert, TributaryError } from '../../shared/errors.ts';
import { wholeValue } from '../../shared/batch/long-value.ts';
import { holdsTypes } from '../../shared/batch/typed-json.ts';
import type { RowSet } from './merge.ts';
import type { RowColumn, TargetTable } from './target-table.ts';

/** Characters of text in one chunk; a few network packets. */
const CHUNK_CHARACTERS = 256 * 1024;
/** The most bytes in one chunk, however large a value is: a packet of the protocol has at most 16 MiB. */
const MAX_CHUNK_BYTES = 4 * 1024 * 1024;

const NULL_FIELD = '\\N';
/** The shortest text of the largest FLOAT (3.4028235e38), read as a double, is larger than it, and so out of range. */
const FLOAT_EDGE = 3.4028234e38;
const ESCAPED = /[\\\t\n\0]/;
const ESCAPED_ALL = /[\\\t\n\0]/g;

/** Kinds of types whose values can be long. */
const LONG_KINDS: ReadonlySet<string> = new Set(['bytes', 'text', 'json']);

function escape(character: string): string {
  return character === '\t' ? '\\t' : character === '\n' ? '\\n' : character === '\0' ? '\\0' : '\\\\';
}

/** The expression through which a column's field is read; null: it is read straight into the column. */
export function fieldExpression(type: ColumnType, variable: string): string | null {
  if (wireKind(type) === 'bytes') return `FROM_BASE64(${variable})`;
  // Read straight, the text "5" would become the bits of the character "5".
  return type.base === 'bit' ? `CAST(${variable} AS UNSIGNED)` : null;
}

/** Adds a column's fields to the lines of the rows from `from` to before `to`. Most values need no change. */
function addFields(
  lines: string[],
  values: readonly Value[],
  { type, target }: Pick<RowColumn, 'type' | 'target'>,
  from: number,
  to: number,
  end: string,
): void {
  const kind = wireKind(type);
  const isText = kind === 'text' || kind === 'json';
  // A YEAR of "0" would be the year 2000.
  const isYear = type.base === 'year';
  const isFloat = type.base === 'float';
  // A DOUBLE would read the shortest text of a FLOAT as another number.
  const edge = target.base === 'float' ? FLOAT_EDGE : 0;
  const none = NULL_FIELD + end;
  for (let row = from; row < to; row += 1) {
    const value = values[row] ?? null;
    let field: string;
    if (value === null) field = none;
    else if (typeof value === 'object') throw new TributaryError('INTERNAL', 'A long value among short ones.');
    else if (isText) field = toText(value) + end;
    else if (isFloat && typeof value === 'number' && Math.abs(value) > edge) field = String(Math.fround(value)) + end;
    else if (isYear) field = String(value).padStart(4, '0') + end;
    else field = typeof value === 'number' ? `${value}${end}` : value + end;
    lines[row - from]! += field;
  }
}

function toText(value: string | number): string {
  const text = String(value);
  return ESCAPED.test(text) ? text.replace(ESCAPED_ALL, escape) : text;
}

/** Lines built together: small enough to stay in the processor's cache. */
const BLOCK_ROWS = 512;

/**
 * All rows as chunks of text, made on demand. The first fields are `_key`, in hexadecimal, and `_copy`, if there are
 * any.
 */
export function* rowChunks(table: TargetTable, rows: RowSet): Generator<Buffer, void, undefined> {
  const long = rowsWithLongValues(table, rows);
  let from = 0;
  for (const row of long) {
    yield* blocks(table, rows, from, row);
    yield* longRow(table, rows, row);
    from = row + 1;
  }
  yield* blocks(table, rows, from, rows.rows);
}

/** Whether any value is read in pieces. */
export function hasLongValues(table: TargetTable, rows: RowSet): boolean {
  return rowsWithLongValues(table, rows).length > 0;
}

/** Separates the rows that LOAD DATA can write from those whose JSON documents need an expression (typed-json.ts). */
export function partTyped(table: TargetTable, rows: RowSet): { readonly plain: RowSet; readonly typed: RowSet } {
  const found = new Set<number>();
  table.columns.forEach(({ type }, index) => {
    if (type.base !== 'json') return;
    rows.columns[index]!.forEach((value, row) => {
      if (holdsTypes(value)) found.add(row);
    });
  });
  if (found.size === 0) return { plain: rows, typed: pick(rows, []) };
  const all = [...Array(rows.rows).keys()];
  return {
    plain: pick(
      rows,
      all.filter(row => !found.has(row)),
    ),
    typed: pick(
      rows,
      [...found].sort((a, b) => a - b),
    ),
  };
}

function pick(rows: RowSet, chosen: readonly number[]): RowSet {
  const { columns, copies } = rows;
  const of = <T>(values: readonly T[]): T[] => chosen.map(row => values[row]!);
  return {
    rows: chosen.length,
    columns: columns.map(of),
    ...(copies === undefined ? {} : { copies: { keys: of(copies.keys), numbers: of(copies.numbers) } }),
  };
}

function rowsWithLongValues(table: TargetTable, rows: RowSet): number[] {
  const found = new Set<number>();
  table.columns.forEach(({ type }, index) => {
    if (!LONG_KINDS.has(wireKind(type))) return;
    const values = rows.columns[index] ?? [];
    for (let row = 0; row < rows.rows; row += 1) {
      const value = values[row];
      if (typeof value === 'object' && value !== null) found.add(row);
    }
  });
  return [...found].sort((a, b) => a - b);
}

/** One row whose values are written piece by piece. */
function* longRow(table: TargetTable, rows: RowSet, row: number): Generator<Buffer, void, undefined> {
  if (table.identity !== 'columns') yield Buffer.from(`${ownFields(table, rows, row).join('\t')}\t`);
  const last = table.columns.length - 1;
  for (const [index, column] of table.columns.entries()) {
    const value = rows.columns[index]![row] ?? null;
    const end = index === last ? '\n' : '\t';
    if (typeof value === 'object' && value !== null) {
      for (const piece of value.pieces()) yield Buffer.from(toText(piece), 'utf8');
      yield Buffer.from(end);
    } else {
      const lines = [''];
      addFields(lines, [value], column, 0, 1, end);
      yield Buffer.from(lines[0]!, 'utf8');
    }
  }
}

function* blocks(table: TargetTable, rows: RowSet, first: number, end: number): Generator<Buffer, void, undefined> {
  let text = '';
  for (let from = first; from < end; from += BLOCK_ROWS) {
    const to = Math.min(from + BLOCK_ROWS, end);
    const lines = new Array<string>(to - from).fill('');
    if (table.identity !== 'columns') {
      for (let row = from; row < to; row += 1) lines[row - from] = `${ownFields(table, rows, row).join('\t')}\t`;
    }
    const last = table.columns.length - 1;
    table.columns.forEach((column, index) => {
      addFields(lines, rows.columns[index]!, column, from, to, index === last ? '\n' : '\t');
    });
    text += lines.join('');
    if (text.length >= CHUNK_CHARACTERS) {
      yield* split(Buffer.from(text, 'utf8'));
      text = '';
    }
  }
  if (text !== '') yield* split(Buffer.from(text, 'utf8'));
}

function* split(bytes: Buffer): Generator<Buffer, void, undefined> {
  for (let at = 0; at < bytes.length; at += MAX_CHUNK_BYTES) yield bytes.subarray(at, at + MAX_CHUNK_BYTES);
}

/** The values of `_key`, in hexadecimal, and `_copy`, if they identify the row. Empty if its own key does. */
export function ownFields(table: TargetTable, rows: RowSet, row: number): (string | number)[] {
  if (table.identity === 'columns') return [];
  if (table.identity === 'hash') return [keyHash(table, rows, row)];
  if (table.identity === 'first-copy') return [keyHash(table, rows, row), 1];
  const { copies } = rows;
  assert(copies !== undefined, 'rows of a table without a key have no numbers');
  return [copies.keys[row]!, copies.numbers[row]!];
}

/** SHA-256 of a row's key in hexadecimal: the value of `_key`. `rows` holds all columns. */
export function keyHash(table: TargetTable, rows: RowSet, row: number): string {
  return hashKey(table.key.map(index => ({ value: rows.columns[index]![row]!, type: table.columns[index]!.type })));
}

/** The same from the key's own columns, in key order. */
export function keyHashOf(
  table: { readonly key: readonly number[]; readonly columns: readonly Pick<RowColumn, 'type'>[] },
  keys: RowSet,
  row: number,
): string {
  return hashKey(
    table.key.map((index, place) => ({ value: keys.columns[place]![row]!, type: table.columns[index]!.type })),
  );
}

function hashKey(parts: readonly { readonly value: Value; readonly type: ColumnType }[]): string {
  const canonical = parts.map(({ value, type }) =>
    value === '-0' && (type.base === 'float' || type.base === 'double') ? 0 : wholeValue(value),
  );
  return hash('sha256', JSON.stringify(canonical), 'hex');
}
