/**
 * The spool's row about its stream: epoch, marks, position, snapshot. It is read once at the start, then kept in memory and
 * written with every change, in the transaction of that change.
 */
import { randomUUID } from 'node:crypto';
import { firstDigest } from '../../shared/batch/batch.ts';
import { assert, TributaryError } from '../../shared/errors.ts';
import { readPosition, readRequests, readSnapshot } from './stored-state.ts';
import type { Position, SnapshotProgress } from './stored-state.ts';
import { integer, text } from './spool-file.ts';
import type { SpoolFile } from './spool-file.ts';
import { writeBatch } from './stored-batch.ts';
import type { BatchToWrite, SpoolMark } from './stored-batch.ts';

/** The size of one slice of deleting: too short to delay binlog events noticeably. */
const DELETE_SLICE_BYTES = 8 * 1024 * 1024;
const DELETE_SLICE_ROWS = 256;

export interface StreamState {
  readonly epoch: string;
  /** Row id = firstId + seq. Rows up to firstId + base.seq can be deleted. */
  readonly firstId: number;
  readonly base: SpoolMark;
  readonly head: SpoolMark;
  readonly receivedSeq: number;
  readonly receivedEndBytes: number;
  readonly acknowledgedEpoch: string | null;
  readonly superseded: boolean;
  readonly doneRequests: readonly string[];
  readonly position: Position | null;
  readonly snapshot: SnapshotProgress | null;
}

/** The stored state; null: the file is new. @throws TributaryError SPOOL_FORMAT, SPOOL_CORRUPT */
export function loadState(file: SpoolFile, branch: string): StreamState | null {
  const row = file.get('SELECT * FROM stream WHERE id = 1');
  if (row === null) return null;
  if (text(row, 'branch') !== branch) {
    throw new TributaryError(
      'SPOOL_FORMAT',
      `The spool in ${file.directory} belongs to branch ${text(row, 'branch')}, not ${branch}.`,
    );
  }
  const firstId = integer(row, 'first_id');
  const base: SpoolMark = {
    seq: integer(row, 'base_seq'),
    digest: text(row, 'base_digest'),
    endBytes: integer(row, 'base_end_bytes'),
  };
  const endBytes = (seq: number): number =>
    seq === base.seq
      ? base.endBytes
      : integer(file.get('SELECT end_bytes FROM batches WHERE id = ?', firstId + seq), 'end_bytes');
  const headSeq = integer(row, 'head_seq');
  const receivedSeq = integer(row, 'received_seq');
  const progress = file.get('SELECT progress FROM snapshot WHERE id = 1');
  return {
    epoch: text(row, 'epoch'),
    firstId,
    base,
    head: { seq: headSeq, digest: text(row, 'head_digest'), endBytes: endBytes(headSeq) },
    receivedSeq,
    receivedEndBytes: endBytes(receivedSeq),
    acknowledgedEpoch: row['acknowledged_epoch'] === null ? null : text(row, 'acknowledged_epoch'),
    superseded: integer(row, 'superseded') === 1,
    doneRequests: readRequests(text(row, 'done_requests')),
    position: row['position'] === null ? null : readPosition(text(row, 'position')),
    snapshot: progress === null ? null : readSnapshot(text(progress, 'progress')),
  };
}

/** Begins an epoch with a new random id, in a transaction of its own. */
export function startEpoch(
  file: SpoolFile,
  branch: string,
  firstId: number,
  acknowledgedEpoch: string | null,
  doneRequests: readonly string[],
  snapshot: SnapshotProgress | null,
  position: Position | null,
): StreamState {
  const epoch = randomUUID();
  const start: SpoolMark = { seq: 0, digest: firstDigest(branch, epoch), endBytes: 0 };
  file.transaction(() => {
    file.run(
      `INSERT OR REPLACE INTO stream (id, branch, epoch, first_id, base_seq, base_digest, base_end_bytes, head_seq,
         head_digest, received_seq, acknowledged_epoch, superseded, done_requests, position)
       VALUES (1, ?, ?, ?, 0, ?, 0, 0, ?, 0, ?, 0, ?, ?)`,
      branch,
      epoch,
      firstId,
      start.digest,
      start.digest,
      acknowledgedEpoch,
      JSON.stringify(doneRequests),
      position === null ? null : JSON.stringify(position),
    );
    file.run('DELETE FROM receipts');
    file.run('DELETE FROM snapshot');
    file.run('DELETE FROM definitions');
    if (snapshot !== null) {
      file.run('INSERT INTO snapshot (id, progress) VALUES (1, ?)', JSON.stringify(snapshot));
    }
  });
  return {
    epoch,
    firstId,
    base: start,
    head: start,
    receivedSeq: 0,
    receivedEndBytes: 0,
    acknowledgedEpoch,
    superseded: false,
    doneRequests,
    position,
    snapshot,
  };
}

/** Stores a changed state. Must be called inside a transaction. */
export function storeState(file: SpoolFile, before: StreamState, next: StreamState): void {
  const stored = file.run(
    `UPDATE stream SET epoch = ?, first_id = ?, base_seq = ?, base_digest = ?, base_end_bytes = ?, head_seq = ?,
       head_digest = ?, received_seq = ?, acknowledged_epoch = ?, superseded = ?, done_requests = ?, position = ?
     WHERE id = 1`,
    next.epoch,
    next.firstId,
    next.base.seq,
    next.base.digest,
    next.base.endBytes,
    next.head.seq,
    next.head.digest,
    next.receivedSeq,
    next.acknowledgedEpoch,
    next.superseded ? 1 : 0,
    JSON.stringify(next.doneRequests),
    next.position === null ? null : JSON.stringify(next.position),
  );
  assert(stored === 1, 'The stream row is missing.');
  if (next.snapshot === before.snapshot) return;
  if (next.snapshot === null) file.run('DELETE FROM snapshot');
  else file.run('INSERT OR REPLACE INTO snapshot (id, progress) VALUES (1, ?)', JSON.stringify(next.snapshot));
}

/** Deletes the batches after row id `last`, which is the end of a closed group. */
export function deleteBatchesAfter(file: SpoolFile, last: number): void {
  file.transaction(() => {
    file.run('DELETE FROM pieces WHERE batch > ?', last);
    file.run('DELETE FROM batches WHERE id > ?', last);
  });
}

/**
 * Puts these batches in the place of all after `before`, none of which has a body in pieces, in one transaction that is
 * durable on return. Their numbers and digests follow from `before`.
 */
export function replaceBatches(
  file: SpoolFile,
  state: StreamState,
  before: SpoolMark,
  batches: readonly BatchToWrite[],
): StreamState {
  return file.transaction(() => {
    file.run('DELETE FROM batches WHERE id > ?', state.firstId + before.seq);
    let head = before;
    for (const batch of batches) head = writeBatch(file, state.firstId, head, batch).reached;
    const next = { ...state, head };
    storeState(file, state, next);
    return next;
  });
}

/** Deletes some of the batches up to row id `last`, oldest first. @returns whether there are more */
export function deleteBatches(file: SpoolFile, last: number): boolean {
  const rows = file.all(
    `SELECT id, length(body) + (SELECT coalesce(sum(length(pieces.body)), 0) FROM pieces WHERE batch = id) AS bytes
       FROM batches WHERE id <= ? ORDER BY id LIMIT ?`,
    last,
    DELETE_SLICE_ROWS,
  );
  let through = 0;
  let bytes = 0;
  for (const row of rows) {
    through = integer(row, 'id');
    bytes += integer(row, 'bytes');
    if (bytes >= DELETE_SLICE_BYTES) break;
  }
  if (rows.length === 0) return false;
  file.transaction(() => {
    file.run('DELETE FROM pieces WHERE batch <= ?', through);
    file.run('DELETE FROM batches WHERE id <= ?', through);
  });
  return through < last;
}
