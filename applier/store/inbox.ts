/**
 * `tributary_inbox`: batches that the head office has and cannot apply yet. `early`: a batch before it is missing.
 * `part`: a part of a large transaction whose last part is missing.
 *
 * Invariants: parts are exactly the batches after `applied` up to `received`. Early entries are after `received`, and
 * are checked against the stream again when their turn comes. The bytes of early entries are limited, and those of
 * parts by a quota (transaction/quotas.ts). Parts are read one at a time.
 */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import type { BatchHeader } from '../../shared/batch/batch.ts';
import { readBytes, readCount, readText } from './sql-values.ts';

/**
 * Bytes of early bodies kept for one branch. Beyond them an early batch is dropped, and the branch is asked for it
 * again.
 */
export const MAX_EARLY_BYTES = 64 * 1024 * 1024;

export type InboxKind = 'early' | 'part';

export interface InboxEntry {
  readonly kind: InboxKind;
  readonly header: BatchHeader;
  /** In one or several buffers, as it was stored. */
  readonly body: readonly Buffer[];
}

/**
 * Stores an entry and replaces one with the same seq. A body in several buffers is stored in as many rows, so that no
 * statement is longer than the server accepts.
 */
export async function putInbox(
  connection: Connection,
  kind: InboxKind,
  header: BatchHeader,
  body: readonly Buffer[],
): Promise<void> {
  const { branch, seq, epoch, previous, digest } = header;
  const [only = Buffer.alloc(0), ...more] = body;
  await connection.execute('DELETE FROM tributary_inbox_piece WHERE branch = ? AND seq = ?', [branch, seq]);
  await connection.execute(
    `REPLACE INTO tributary_inbox (branch, seq, kind, epoch, previous, digest, body) VALUES (?, ?, ?, ?, ?, ?, ?)`,
    [branch, seq, kind, epoch, previous, digest, only],
  );
  for (const [index, piece] of more.entries()) {
    await connection.execute('INSERT INTO tributary_inbox_piece (branch, seq, piece, body) VALUES (?, ?, ?, ?)', [
      branch,
      seq,
      index + 1,
      piece,
    ]);
  }
}

/** The buffers of a body after the first, read one at a time. */
async function readMore(connection: Connection, branch: string, seq: number): Promise<Buffer[]> {
  const pieces: Buffer[] = [];
  for (;;) {
    const [rows] = await connection.execute<RowDataPacket[]>(
      'SELECT body FROM tributary_inbox_piece WHERE branch = ? AND seq = ? AND piece = ?',
      [branch, seq, pieces.length + 1],
    );
    const row = rows[0];
    if (row === undefined) return pieces;
    pieces.push(readBytes(row, 'body'));
  }
}

export async function readInbox(connection: Connection, branch: string, seq: number): Promise<InboxEntry | null> {
  const [rows] = await connection.execute<RowDataPacket[]>(
    'SELECT kind, epoch, previous, digest, body FROM tributary_inbox WHERE branch = ? AND seq = ?',
    [branch, seq],
  );
  const row = rows[0];
  if (row === undefined) return null;
  const header: BatchHeader = {
    branch,
    epoch: readText(row, 'epoch'),
    seq,
    previous: readText(row, 'previous'),
    digest: readText(row, 'digest'),
  };
  const body = [readBytes(row, 'body'), ...(await readMore(connection, branch, seq))];
  return { kind: readText(row, 'kind') === 'part' ? 'part' : 'early', header, body };
}

/** Deletes entries up to and including `seq`: they are applied, or repeated. */
export async function deleteInboxThrough(connection: Connection, branch: string, seq: number): Promise<void> {
  await deleteWhere(connection, 'branch = ? AND seq <= ?', [branch, seq]);
}

export async function deleteInboxEntry(connection: Connection, branch: string, seq: number): Promise<void> {
  await deleteWhere(connection, 'branch = ? AND seq = ?', [branch, seq]);
}

export async function clearInbox(connection: Connection, branch: string): Promise<void> {
  await deleteWhere(connection, 'branch = ?', [branch]);
}

async function deleteWhere(connection: Connection, where: string, values: (string | number)[]): Promise<void> {
  await connection.execute(`DELETE FROM tributary_inbox_piece WHERE ${where}`, values);
  await connection.execute(`DELETE FROM tributary_inbox WHERE ${where}`, values);
}

/** Bytes of the parts that wait for the last one. It reads them all, so do not call it at each part. */
export async function partBytes(connection: Connection, branch: string): Promise<number> {
  const [rows] = await connection.execute<RowDataPacket[]>(
    `SELECT CAST(COALESCE(SUM(LENGTH(body)), 0) AS UNSIGNED) AS bytes FROM tributary_inbox
     WHERE branch = ? AND kind = 'part'`,
    [branch],
  );
  return rows[0] === undefined ? 0 : readCount(rows[0], 'bytes');
}

export interface EarlyEntries {
  /** Lowest first. */
  readonly seqs: readonly number[];
  readonly bytes: number;
}

/** The entries after `received`, at most EARLY_WINDOW. */
export async function earlyEntries(connection: Connection, branch: string, received: number): Promise<EarlyEntries> {
  const [rows] = await connection.execute<RowDataPacket[]>(
    'SELECT seq, LENGTH(body) AS bytes FROM tributary_inbox WHERE branch = ? AND seq > ? ORDER BY seq',
    [branch, received],
  );
  return {
    seqs: rows.map(row => readCount(row, 'seq')),
    bytes: rows.reduce((sum, row) => sum + readCount(row, 'bytes'), 0),
  };
}
