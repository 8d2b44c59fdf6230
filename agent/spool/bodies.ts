/**
 * Stores the bodies of batches in the spool's file. A body that fits into one message is in the batch's row. A larger
 * body is stored in pieces of one message each, so that only one piece at a time must be in memory.
 *
 * Invariants: all pieces except the last have FRAGMENT_BYTES, and the digest covers all of them. A body must be written
 * in the transaction that writes the batch.
 */
import { createHash } from 'node:crypto';
import { FRAGMENT_BYTES } from '../../shared/broker/amqp-messages.ts';
import { release } from '../../shared/release.ts';
import { integer } from './spool-file.ts';
import type { SpoolFile } from './spool-file.ts';

export interface StoredBody {
  /** The stream's digest up to this batch: SHA-256 over the previous digest and this body. */
  readonly digest: string;
  readonly bytes: number;
  /** What goes into the batch's row: the whole body, or nothing if it is in pieces. */
  readonly inRow: Buffer;
}

/**
 * Stores the pieces of a body. The caller writes `inRow` into the batch's row.
 * @param body in one or several buffers. If there are several, each is released as soon as it is copied
 */
export function storeBody(file: SpoolFile, id: number, previous: string, body: Buffer | Iterable<Buffer>): StoredBody {
  const hash = createHash('sha256').update(previous);
  let bytes = 0;
  let pieces = 0;
  let inRow: Buffer = Buffer.alloc(0);
  for (const { piece, last } of Buffer.isBuffer(body) ? piecesOf(body) : copyToPieces(body)) {
    hash.update(piece);
    bytes += piece.length;
    // A copy, because the caller stores it later, when the piece's buffer is released.
    if (last && pieces === 0) inRow = Buffer.isBuffer(body) ? piece : Buffer.from(piece);
    else file.run('INSERT INTO pieces (batch, piece, body) VALUES (?, ?, ?)', id, pieces, piece);
    pieces += 1;
  }
  return { digest: hash.digest('hex'), bytes, inRow };
}

/** The number of a body's pieces and their total size; 0 if the body is in the batch's row. */
export function measurePieces(file: SpoolFile, id: number): { readonly pieces: number; readonly bytes: number } {
  const row = file.get('SELECT count(*) AS n, coalesce(sum(length(body)), 0) AS bytes FROM pieces WHERE batch = ?', id);
  return { pieces: integer(row, 'n'), bytes: integer(row, 'bytes') };
}

/** Reads one piece; null if there is none. */
export function readPiece(file: SpoolFile, id: number, piece: number): Buffer | null {
  const body = file.get('SELECT body FROM pieces WHERE batch = ? AND piece = ?', id, piece)?.['body'];
  return body instanceof Uint8Array ? Buffer.from(body.buffer, body.byteOffset, body.byteLength) : null;
}

interface Piece {
  /** Valid until the next one is requested. */
  readonly piece: Buffer;
  readonly last: boolean;
}

function* piecesOf(body: Buffer): Generator<Piece, void, undefined> {
  for (let at = 0; at === 0 || at < body.length; at += FRAGMENT_BYTES) {
    const end = at + FRAGMENT_BYTES;
    yield { piece: body.subarray(at, end), last: end >= body.length };
  }
}

/** Copies buffers of any size into pieces. A single buffer, the usual case, is cut without a copy. */
function* copyToPieces(body: Iterable<Buffer>): Generator<Piece, void, undefined> {
  let first: Buffer | null = null;
  let piece: Buffer | null = null;
  let filled = 0;
  for (const part of body) {
    if (first === null && piece === null) {
      first = part;
      continue;
    }
    piece ??= Buffer.allocUnsafeSlow(FRAGMENT_BYTES);
    for (const next of first === null ? [part] : [first, part]) {
      for (let at = 0; at < next.length;) {
        if (filled === FRAGMENT_BYTES) {
          yield { piece, last: false };
          filled = 0;
        }
        const copied = next.copy(piece, filled, at);
        filled += copied;
        at += copied;
      }
      release(next);
    }
    first = null;
  }
  if (first !== null) yield* piecesOf(first);
  if (piece === null) return;
  yield { piece: piece.subarray(0, filled), last: true };
  release(piece);
}
