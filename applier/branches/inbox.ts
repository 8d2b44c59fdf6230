/**
 * `tributary_inbox`: batches that the head office keeps but cannot apply yet. `early`: they came before one that
 * precedes them. `part`: parts of one large transaction, received, waiting for the last.
 *
 * Invariants: parts are exactly the batches after `applied` up to `received`; early entries lie beyond `received`,
 * and are checked against the stream again when their turn comes. All is bounded: in bytes for early ones, by the
 * source's transaction for parts, which are read back one at a time.
 */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import type { BatchHeader } from '../../shared/batch.ts';
import { readBytes, readCount, readText } from './sql-values.ts';

/** Bytes of early bodies kept for one branch; beyond them an early batch is forgotten and will be asked for again. */
export const MAX_EARLY_BYTES = 64 * 1024 * 1024;

export type InboxKind = 'early' | 'part';

export interface InboxEntry {
  readonly kind: InboxKind;
  readonly header: BatchHeader;
  readonly body: Buffer;
}

/** Stores an entry; one that is already there under this seq is replaced. */
export async function putInbox(
  connection: Connection,
  kind: InboxKind,
  header: BatchHeader,
  body: Buffer,
): Promise<void> {
  await connection.execute(
    `REPLACE INTO tributary_inbox (branch, seq, kind, epoch, previous, digest, body) VALUES (?, ?, ?, ?, ?, ?, ?)`,
    [header.branch, header.seq, kind, header.epoch, header.previous, header.digest, body],
  );
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
  return { kind: readText(row, 'kind') === 'part' ? 'part' : 'early', header, body: readBytes(row, 'body') };
}

/** Deletes entries up to and including `seq`: they are applied, or repeated. */
export async function deleteInboxThrough(connection: Connection, branch: string, seq: number): Promise<void> {
  await connection.execute('DELETE FROM tributary_inbox WHERE branch = ? AND seq <= ?', [branch, seq]);
}

export async function deleteInboxEntry(connection: Connection, branch: string, seq: number): Promise<void> {
  await connection.execute('DELETE FROM tributary_inbox WHERE branch = ? AND seq = ?', [branch, seq]);
}

export async function clearInbox(connection: Connection, branch: string): Promise<void> {
  await connection.execute('DELETE FROM tributary_inbox WHERE branch = ?', [branch]);
}

export interface EarlyEntries {
  /** Lowest first. */
  readonly seqs: readonly number[];
  readonly bytes: number;
}

/** What waits beyond `received`. At most EARLY_WINDOW entries. */
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
