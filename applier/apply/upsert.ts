/**
 * Writes rows by multi-row REPLACE. It is used if the server does not accept LOAD DATA LOCAL, for a few rows, and to
 * find the row that is refused. It is also used for JSON documents with types that their text does not show.
 *
 * REPLACE, not ON DUPLICATE KEY UPDATE, so that a column that is not named becomes NULL, as with LOAD DATA. The primary
 * key is the only unique one, so only the row itself is replaced.
 */
import type { Connection, ResultSetHeader } from 'mysql2/promise';
import type { Value } from '../../shared/batch/batch.ts';
import type { ColumnType } from '../../shared/batch/column-type.ts';
import { TributaryError } from '../../shared/errors.ts';
import { wholeValue } from '../../shared/batch/long-value.ts';
import { quoteString } from '../../shared/database/sql.ts';
import { literalWriter } from '../../shared/batch/sql-literal.ts';
import { isTypedJson, printedJson, typedJsonSql } from '../../shared/batch/typed-json.ts';
import { warned } from './load-data.ts';
import type { RowSet } from './merge.ts';
import { ownFields } from './row-text.ts';
import { isText } from './target-column.ts';
import { targetSession } from './target-session.ts';
import type { TargetTable } from './target-table.ts';

/** The most characters and rows in one statement, below any sensible max_allowed_packet. */
const MAX_CHARACTERS = 1024 * 1024;
const MAX_ROWS = 2_000;

/** Tributary's own columns that identify rows, in the order of `ownFields`. */
const OWN_NAMES = {
  columns: '',
  hash: '`_key`, ',
  'first-copy': '`_key`, `_copy`, ',
  copies: '`_key`, `_copy`, ',
} as const;

/** Writes the rows from `from` to before `to`. @throws mysql2's errors; BATCH_REFUSED on a warning or a wrong count */
export async function upsertRows(
  connection: Connection,
  table: TargetTable,
  rows: RowSet,
  branch: string,
  batchNumber: number,
  from = 0,
  to = rows.rows,
): Promise<void> {
  const names = table.columns.map(column => column.sql).join(', ');
  const head =
    `REPLACE INTO ${table.sql} (\`_branch\`, \`_batch\`, \`_changed_at\`, ` +
    `${OWN_NAMES[table.identity]}${names}) VALUES `;
  const own = `(${quoteString(branch)}, ${batchNumber}, UTC_TIMESTAMP(6), `;
  const writers = table.columns.map(column => valueWriter(column.type, isText(column.target)));
  let text = '';
  let count = 0;
  for (let row = from; row < to; row += 1) {
    let line = own;
    for (const field of ownFields(table, rows, row)) line += typeof field === 'string' ? `X'${field}', ` : `${field}, `;
    for (let index = 0; index < writers.length; index += 1) {
      const literal = writers[index]!(rows.columns[index]![row]!);
      line += index === 0 ? literal : `, ${literal}`;
    }
    if (count > 0 && (text.length + line.length > MAX_CHARACTERS || count === MAX_ROWS)) {
      await replace(connection, head + text, count);
      text = '';
      count = 0;
    }
    text += count === 0 ? `${line})` : `, ${line})`;
    count += 1;
  }
  if (count > 0) await replace(connection, head + text, count);
}

/** @param asText whether the column holds the value as the text that the branch prints */
function valueWriter(type: ColumnType, asText: boolean): (value: Value) => string {
  const plain = literalWriter(type, asText);
  if (type.base !== 'json') return plain;
  return value => {
    const text = wholeValue(value);
    if (typeof text !== 'string' || !isTypedJson(text)) return plain(text);
    return asText ? plain(printedJson(text)) : typedJsonSql(text);
  };
}

async function replace(connection: Connection, sql: string, rows: number): Promise<void> {
  checkPacket(connection, sql);
  const [result] = await connection.query<ResultSetHeader>(sql);
  if (result.warningStatus !== 0) throw await warned(connection, `${rows} rows sent`);
  if (result.affectedRows < rows || result.affectedRows > 2 * rows) {
    throw new TributaryError('BATCH_REFUSED', `${rows} rows were sent, but the server counted ${result.affectedRows}.`);
  }
}

/** Refuses a statement above max_allowed_packet, which would end the connection. */
export function checkPacket(connection: Connection, sql: string): void {
  const { maxAllowedPacket } = targetSession(connection);
  if (sql.length * 3 < maxAllowedPacket || Buffer.byteLength(sql) < maxAllowedPacket) return;
  throw new TributaryError('BATCH_REFUSED', `A row is larger than max_allowed_packet (${maxAllowedPacket}).`, {
    hint: 'Raise max_allowed_packet at the head office (up to 1G), then `branch retry`.',
  });
}
