/** A batch as the spool's file holds it: written after the one before it, and checked against its digest when it is read. */
import { nextDigest } from '../../shared/batch/batch.ts';
import type { StreamMark } from '../../shared/batch/batch.ts';
import { TributaryError } from '../../shared/errors.ts';
import { release } from '../../shared/release.ts';
import { measurePieces, readPiece, storeBody } from './bodies.ts';
import { integer, text } from './spool-file.ts';
import type { SpoolFile } from './spool-file.ts';
import type { StoredBatch } from './spool-types.ts';

/** A place in the stream with the running total of bytes through it. */
export interface SpoolMark extends StreamMark {
  readonly endBytes: number;
}

/** Which batch is read. */
export interface BatchAddress {
  /** Id of its row. */
  readonly id: number;
  readonly seq: number;
  /** Digest of the batch before it. */
  readonly before: string;
  /** It belongs to a group that is open. */
  readonly open: boolean;
}

/** @throws TributaryError SPOOL_CORRUPT */
export function readBatch(file: SpoolFile, { id, seq, before, open }: BatchAddress): StoredBatch {
  const row = file.get('SELECT * FROM batches WHERE id = ?', id);
  const inRow = row?.['body'];
  if (row === null || !(inRow instanceof Uint8Array) || integer(row, 'seq') !== seq) throw damaged(seq);
  const previous = text(row, 'previous');
  const digest = text(row, 'digest');
  const only = Buffer.from(inRow.buffer, inRow.byteOffset, inRow.byteLength);
  const { pieces, bytes } = only.length > 0 ? { pieces: 1, bytes: only.length } : measurePieces(file, id);
  const piece = (index: number): Buffer => {
    const found = only.length > 0 && index === 0 ? only : readPiece(file, id, index);
    if (found === null) throw damaged(seq);
    return found;
  };
  const all = function* (): Generator<Buffer> {
    for (let index = 0; index < pieces; index += 1) yield piece(index);
  };
  const each = function* (): Generator<Buffer> {
    for (const next of all()) {
      yield next;
      if (next !== only) release(next);
    }
  };
  if (previous !== before || nextDigest(previous, each()) !== digest) throw damaged(seq);
  return {
    seq,
    previous,
    digest,
    bytes,
    pieces,
    piece,
    get body() {
      return only.length > 0 ? only : Buffer.concat([...all()]);
    },
    rows: integer(row, 'rows'),
    open,
    createdAt: integer(row, 'created_at'),
  };
}

/** What a batch takes besides its body; counted, so that a million tiny batches are not free. */
export const BATCH_OVERHEAD_BYTES = 256;

export interface BatchToWrite {
  readonly body: Buffer | Iterable<Buffer>;
  readonly rows: number;
  /** Milliseconds since 1970. */
  readonly createdAt: number;
}

/**
 * Writes a batch after another one, within a transaction.
 * @returns its place, the size of its body, and whether that is not in pieces
 */
export function writeBatch(
  file: SpoolFile,
  firstId: number,
  before: SpoolMark,
  { body, rows, createdAt }: BatchToWrite,
): { readonly reached: SpoolMark; readonly bytes: number; readonly isWhole: boolean } {
  const seq = before.seq + 1;
  const id = firstId + seq;
  const { digest, bytes, inRow } = storeBody(file, id, before.digest, body);
  const reached: SpoolMark = { seq, digest, endBytes: before.endBytes + bytes + BATCH_OVERHEAD_BYTES };
  file.run(
    'INSERT INTO batches (id, seq, previous, digest, rows, created_at, end_bytes, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)',
    id,
    seq,
    before.digest,
    digest,
    rows,
    createdAt,
    reached.endBytes,
    inRow,
  );
  return { reached, bytes, isWhole: inRow.length > 0 };
}

/** The batch is missing, or is not the one that was stored. */
export function damaged(seq: number): TributaryError {
  return new TributaryError('SPOOL_CORRUPT', `Batch ${seq} of the spool is missing or does not match its digest.`);
}
