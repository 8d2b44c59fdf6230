/** Rows of the head office as the values that the branch has sent: what SQL reads them, and how. Pure. */
import type { TableDescription, Value } from '../../shared/batch.ts';
import { wireKind } from '../../shared/column-type.ts';
import type { ColumnType } from '../../shared/column-type.ts';
import { LONG_BYTES, LongBytes, LongText } from '../../shared/long-value.ts';
import { quoteName, quoteString } from '../../shared/sql.ts';
import { readTypedJson, typedJsonSelect } from '../../shared/typed-json.ts';
import { parseServerType } from '../apply/target-column.ts';
import type { ServerTable } from '../apply/target-table.ts';

/**
 * The branch's rows of a table, columns as the branch has them, each cell in text or bytes. A column that is not there yet
 * is NULL in every row.
 * @param table quoted
 */
export function readBackQuery(
  table: string,
  { columns }: TableDescription,
  server: ServerTable,
  branch: string,
): string {
  const types = new Map(
    server.columns.map(({ name, columnType }) => [name.toLowerCase(), parseServerType(columnType)]),
  );
  const list = columns.map(({ name }) => {
    const type = types.get(name.toLowerCase());
    return type === undefined ? 'NULL' : exactly(quoteName(name), type?.base);
  });
  return `SELECT ${list.join(', ')} FROM ${table} WHERE \`_branch\` = ${quoteString(branch)}`;
}

/** SQL that yields a value's text exactly. */
function exactly(column: string, base: ColumnType['base'] | undefined): string {
  // A FLOAT prints six digits of itself, a BIT its bytes.
  if (base === 'float') return `${column}*1e0`;
  if (base === 'json') return typedJsonSelect(column);
  return base === 'bit' ? `${column}+0` : column;
}

/** What makes a value of a cell, by the type that it has at the branch. */
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
      // A YEAR prints four digits.
      return cell => cell.toString('utf8').replace(/^0+(?=\d)/, '');
    default:
      return cell => cell.toString('utf8');
  }
}
