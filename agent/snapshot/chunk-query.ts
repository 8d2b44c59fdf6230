/** The SQL that reads a table: by chunks in key order, or, without a key, in the order of a checksum. Pure. */
import { parseColumnType, wireKind } from '../../shared/batch/column-type.ts';
import { quoteBytes, quoteString, quoteTable } from '../../shared/database/sql.ts';
import type { Value } from '../../shared/batch/batch.ts';
import type { CapturedColumn, CapturedTable } from '../source/tables.ts';
import { keyColumns } from '../stream/change-buffer.ts';

/**
 * Columns 0 … n−1 are the table's columns. The key's cursor values follow, because a key column may not compare by its own
 * text (ENUM compares by index).
 * @param after key of the last row read, as `cursorOf` returned it; null: from the beginning
 */
export function chunkQuery(table: CapturedTable, after: readonly Value[] | null, limit: number, lock: string): string {
  const keys = keyColumns(table.columns).map(index => table.columns[index]!);
  const lists = [...table.columns.map(column => column.select), ...keys.map(column => column.cursor)];
  const where = after === null ? '' : ` WHERE ${afterCondition(keys, after)}`;
  const order = keys.map(column => column.order).join(', ');
  return `SELECT ${lists.join(', ')} FROM ${quoteTable(table.schema, table.name)}${where} ORDER BY ${order} LIMIT ${limit}${lock}`;
}

/**
 * Reads all rows in the order of their checksum, which is the last column. Equal rows have the same checksum; other rows may
 * have it too.
 * @param after only rows with a greater checksum; null: all
 */
export function scanQuery(table: CapturedTable, after: number | null): string {
  const checksum = checksumOf(table);
  const lists = [...table.columns.map(column => column.select), checksum];
  const where = after === null ? '' : ` WHERE ${checksum} > ${after}`;
  return `SELECT ${lists.join(', ')} FROM ${quoteTable(table.schema, table.name)}${where} ORDER BY ${lists.length}`;
}

/** Reads all rows, in any order. */
export function tableQuery(table: CapturedTable): string {
  return `SELECT ${table.columns.map(({ select }) => select).join(', ')} FROM ${quoteTable(table.schema, table.name)}`;
}

/**
 * Waits for all transactions that change rows of the table, and returns no rows. At READ COMMITTED the server releases the
 * lock of a row that does not match at once. (FOR SHARE is the same, but 5.7 does not know it, and below 8.0.22 it takes
 * more than SELECT.) Only the table itself, and no other index, has all columns of the condition.
 */
export function lockingQuery(table: CapturedTable): string {
  return `SELECT 1 FROM ${quoteTable(table.schema, table.name)} WHERE ${checksumOf(table)} < 0 LOCK IN SHARE MODE`;
}

function checksumOf({ columns }: CapturedTable): string {
  const parts = columns.filter(({ select }) => select !== 'NULL').map(column => `CRC32(${column.bytes})`);
  return parts.length === 0 ? '0' : `CRC32(CONCAT_WS(',', ${parts.join(', ')}))`;
}

/** (a, b) > (x, y), written out in the form for which the server uses the key. */
function afterCondition(keys: readonly CapturedColumn[], after: readonly Value[]): string {
  const alternatives = keys.map((column, place) => {
    const equal = keys.slice(0, place).map((earlier, k) => `${earlier.order} = ${literal(earlier, after[k]!)}`);
    return `(${[...equal, `${column.order} > ${literal(column, after[place]!)}`].join(' AND ')})`;
  });
  const first = keys[0]!;
  // The redundant first bound lets the server start a range on the key's first column.
  return `${first.order} >= ${literal(first, after[0]!)} AND (${alternatives.join(' OR ')})`;
}

function literal(column: CapturedColumn, value: Value): string {
  if (column.charset !== null) return `_${column.charset} ${quoteBytes(Buffer.from(String(value), 'base64'))}`;
  const type = parseColumnType(column.read);
  if (type.base === 'enum' || type.base === 'set') return String(value);
  switch (wireKind(type)) {
    case 'integer':
    case 'decimal':
      return String(value);
    case 'float':
    case 'double': {
      const text = String(value);
      return text.includes('e') ? text : `${text}e0`;
    }
    case 'bytes':
      return quoteBytes(Buffer.from(String(value), 'base64'));
    case 'text':
    case 'temporal':
    case 'json':
      return quoteString(String(value));
  }
}

/** Converts the cursor cells of a row, which follow the table's columns, to what `chunkQuery` takes as `after`. */
export function cursorOf(table: CapturedTable, cells: readonly (Buffer | null)[]): Value[] {
  return keyColumns(table.columns).map((index, place) => {
    const cell = cells[table.columns.length + place];
    if (cell === null || cell === undefined) return null;
    const { charset, read } = table.columns[index]!;
    return charset !== null || wireKind(parseColumnType(read)) === 'bytes'
      ? cell.toString('base64')
      : cell.toString('utf8');
  });
}
