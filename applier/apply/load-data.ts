/**
 * Writes rows by LOAD DATA LOCAL … REPLACE, streamed from memory. This is the fastest way, and has the most pitfalls.
 *
 * Invariants: this throws, and the caller rolls back, unless the server counts as many records as rows were sent and
 * gives no warning or note. The data that waits in the socket is bounded, however many rows there are.
 */
import { Socket } from 'node:net';
import { Readable } from 'node:stream';
import { setImmediate as aTurnOfTheLoop, setTimeout as delay } from 'node:timers/promises';
import type { Connection, ResultSetHeader, RowDataPacket } from 'mysql2/promise';
import { TributaryError } from '../../shared/errors.ts';
import { quoteString } from '../../shared/database/sql.ts';
import type { RowSet } from './merge.ts';
import { fieldExpression, rowChunks } from './row-text.ts';
import { isRowWarning } from './target-error.ts';
import type { TargetTable } from './target-table.ts';

/** The most bytes that may wait in the socket. mysql2 itself has no bound. */
const MAX_BUFFERED_BYTES = 4 * 1024 * 1024;
const DRAIN_POLL_MS = 2;

/** Inserts or replaces rows. @throws mysql2's errors; BATCH_REFUSED if the server counts another number of rows */
export async function loadRows(
  connection: Connection,
  table: TargetTable,
  rows: RowSet,
  branch: string,
  batchNumber: number,
): Promise<void> {
  if (rows.rows === 0) return;
  const result = await stream(connection, loadStatement(table, branch, batchNumber), rowChunks(table, rows));
  // "Records: 2  Deleted: 0  Skipped: 0  Warnings: 0", in the server's language.
  const [records, , skipped, warnings] = (result.info.match(/\d+/g) ?? []).map(Number);
  if (records !== rows.rows || skipped !== 0 || warnings !== 0 || result.warningStatus !== 0) {
    throw await warned(connection, `${rows.rows} rows sent, the server says: ${result.info}`);
  }
}

/** The statement that reads the lines of `rowChunks`. */
function loadStatement(table: TargetTable, branch: string, batchNumber: number): string {
  const { identity } = table;
  const targets: string[] = identity === 'columns' ? [] : identity === 'hash' ? ['@k'] : ['@k', '`_copy`'];
  const sets = [
    `\`_branch\` = ${quoteString(branch)}`,
    `\`_batch\` = ${batchNumber}`,
    '`_changed_at` = UTC_TIMESTAMP(6)',
    ...(identity === 'columns' ? [] : ['`_key` = UNHEX(@k)']),
  ];
  table.columns.forEach((column, index) => {
    const variable = `@v${index}`;
    const expression = fieldExpression(column.type, variable);
    targets.push(expression === null ? column.sql : variable);
    if (expression !== null) sets.push(`${column.sql} = ${expression}`);
  });
  return (
    `LOAD DATA LOCAL INFILE 'rows' REPLACE INTO TABLE ${table.sql} CHARACTER SET utf8mb4 ` +
    `FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' ` +
    `(${targets.join(', ')}) SET ${sets.join(', ')}`
  );
}

/**
 * The error for a statement that succeeded with warnings, from the first one. @param account what is known about the
 * rows
 */
export async function warned(connection: Connection, account: string): Promise<TributaryError> {
  const [warnings] = await connection.query<RowDataPacket[]>('SHOW WARNINGS LIMIT 1');
  const warning = warnings[0];
  if (warning === undefined) return new TributaryError('BATCH_REFUSED', `The server shows no warning (${account}).`);
  const code = isRowWarning(Number(warning['Code'])) ? 'BATCH_REFUSED' : 'TARGET_FAILED';
  return new TributaryError(code, `${String(warning['Message'])} (${account})`);
}

/** Runs a LOAD DATA statement with these chunks as the file. */
async function stream(connection: Connection, sql: string, chunks: Iterable<Buffer>): Promise<ResultSetHeader> {
  const socket = socketOf(connection);
  const events = ['pause', 'drain'] as const;
  const mine = events.filter(event => socket.listenerCount(event) === 0);
  try {
    const infileStreamFactory = (): Readable => Readable.from(heldBack(socket, chunks), { highWaterMark: 1 });
    const [result] = await connection.query<ResultSetHeader>({ sql, infileStreamFactory });
    return result;
  } finally {
    // mysql2 leaves its listeners on the socket when the server answers with an error.
    for (const event of mine) socket.removeAllListeners(event);
  }
}

async function* heldBack(socket: Socket, chunks: Iterable<Buffer>): AsyncGenerator<Buffer, void, undefined> {
  for (const chunk of chunks) {
    while (socket.writableLength > MAX_BUFFERED_BYTES && !socket.destroyed) await delay(DRAIN_POLL_MS);
    if (socket.destroyed) return;
    yield chunk;
    // Making a chunk takes some milliseconds. Without this turn, nothing else would run until all of them are made.
    await aTurnOfTheLoop();
  }
}

/** mysql2's own socket: the promise wrapper holds the core connection, which holds the stream. */
function socketOf(connection: Connection): Socket {
  const core: unknown = Reflect.get(connection, 'connection');
  const stream: unknown = core instanceof Object ? Reflect.get(core, 'stream') : undefined;
  if (!(stream instanceof Socket)) throw new TributaryError('INTERNAL', 'mysql2 keeps its socket elsewhere.');
  return stream;
}
