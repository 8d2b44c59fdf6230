/** Reads rows of the head office as the values that the branch has sent: the SQL, and the readers of cells. Pure. */
import type { TableDescription, Value } from '../../shared/batch/batch.ts';
import { columnType, exactSql, wireKind } from '../../shared/batch/column-type.ts';
import { columnKey } from '../../shared/identifiers.ts';
import type { ColumnType } from '../../shared/batch/column-type.ts';
import { LONG_BYTES, LongBytes, LongText } from '../../shared/batch/long-value.ts';
import { quoteName, quoteString } from '../../shared/database/sql.ts';
import { readTypedJson } from '../../shared/batch/typed-json.ts';
import { parseServerType } from '../apply/target-column.ts';
import type { ServerTable } from '../apply/server-table.ts';

/**
 * SQL of the branch's rows of a table, with the branch's columns, each cell as text or bytes. A column that does not
 * exist yet is NULL in every row.
 * @param table quoted
 * @param more SQL of further cells
 */
export function readBackQuery(
  table: string,
  { columns }: TableDescription,
  server: ServerTable,
  branch: string,
  more: readonly string[] = [],
): string {
  const types = new Map(server.columns.map(column => [columnKey(column.name), parseServerType(column.columnType)]));
  const list = columns.map(({ name, type }) => {
    const target = types.get(columnKey(name));
    return target === undefined ? 'NULL' : exactly(quoteName(name), columnType(type), target);
  });
  return `SELECT ${[...list, ...more].join(', ')} FROM ${table} WHERE \`_branch\` = ${quoteString(branch)}`;
}

/** SQL that yields a value's text exactly. */
function exactly(column: string, source: ColumnType, target: ColumnType | null): string {
  if (target === null) return column;
  // A DOUBLE prints large whole numbers with an exponent.
  const isWhole = wireKind(source) === 'integer' || wireKind(source) === 'decimal';
  if (target.base === 'double' && isWhole) return `CAST(${column} AS DECIMAL(65,30))`;
  return exactSql(target, column);
}

/** A function that makes a value from a cell, by the type at the branch. */
export function cellReader(type: ColumnType): (cell: Buffer | null) => Value {
  const read = readerOf(type);
  return cell => (cell === null ? null : read(cell));
}

function readerOf(type: ColumnType): (cell: Buffer) => Value {
  switch (wireKind(type)) {
    case 'bytes':
      return cell => (cell.length < LONG_BYTES ? cell.toString('base64') : new LongBytes(cell));
    case 'json':
      return cell => readTypedJson(cell.toString('utf8'));
    case 'text':
      return cell => (cell.length < LONG_BYTES ? cell.toString('utf8') : new LongText(cell));
    case 'integer':
      // A YEAR prints four digits. A column that also holds fractions prints zeros after the point.
      return cell => cell.toString('utf8').replace(/^0+(?=\d)|\.0*$/g, '');
    case 'temporal':
      if (type.base !== 'date') return cell => cell.toString('utf8');
      // A DATETIME holds a date as its midnight.
      return cell => cell.toString('utf8').replace(/ 00:00:00(\.0*)?$/, '');
    case 'decimal':
    case 'float':
    case 'double':
      return cell => cell.toString('utf8');
  }
}
