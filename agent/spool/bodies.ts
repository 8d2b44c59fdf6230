/**
 * The bodies of batches in the spool's file. A body that fits into one message is in the batch's row. A larger body is in
 * pieces, each of which is one message, so that no more than one piece need be in memory.
 *
 * Invariants: all pieces but the last have FRAGMENT_BYTES; the digest covers all of them. A body must be written inside the
 * transaction that writes the batch.
 */
import { createHash } from 'node:crypto';
import { FRAGMENT_BYTES } from '../../shared/broker/amqp-messages.ts';
import { release } from '../../shared/release.ts';
import { integer } from './spool-file.ts';
import type { SpoolFile } from './spool-file.ts';

export interface StoredBody {
  /** The digest of the batch before it and of this body. */
  readonly digest: string;
  readonly bytes: number;
  /** What goes into the batch's row: the whole body, or nothing. */
  readonly inRow: Buffer;
}

/**
 * Stores the pieces of a body. The caller writes `inRow` into the batch's row.
 * @param body if it has several buffers, each is void as soon as the next one is requested
 */
export function storeBody(file: SpoolFile, id: number, previous: string, body: Buffer | Iterable<Buffer>): StoredBody {
  const hash = createHash('sha256').update(previous);
  let bytes = 0;
  let pieces = 0;
  let inRow: Buffer = Buffer.alloc(0);
  for (const { piece, last } of Buffer.isBuffer(body) ? cut(body) : joined(body)) {
    hash.update(piece);
    bytes += piece.length;
    // A copy, because the piece is void when the next one is requested, and this one is stored later.
    if (last && pieces === 0) inRow = Buffer.isBuffer(body) ? piece : Buffer.from(piece);
    else file.run('INSERT INTO pieces (batch, piece, body) VALUES (?, ?, ?)', id, pieces, piece);
    pieces += 1;
  }
  return { digest: hash.digest('hex'), bytes, inRow };
}

/** How many pieces a batch has, and their total size; none: it is in its row. */
export function measurePieces(file: SpoolFile, id: number): { readonly pieces: number; readonly bytes: number } {
  const row = file.get('SELECT count(*) AS n, coalesce(sum(length(body)), 0) AS bytes FROM pieces WHERE batch = ?', id);
  return { pieces: integer(row, 'n'), bytes: integer(row, 'bytes') };
}

/** Null where there is none. */
export function readPiece(file: SpoolFile, id: number, piece: number): Buffer | null {
  const body = file.get('SELECT body FROM pieces WHERE batch = ? AND piece = ?', id, piece)?.['body'];
  return body instanceof Uint8Array ? Buffer.from(body.buffer, body.byteOffset, body.byteLength) : null;
}

interface Piece {
  /** Valid until the next one. */
  readonly piece: Buffer;
  readonly last: boolean;
}

function* cut(body: Buffer): Generator<Piece, void, undefined> {
  for (let at = 0; at === 0 || at < body.length; at += FRAGMENT_BYTES) {
    const end = at + FRAGMENT_BYTES;
    yield { piece: body.subarray(at, end), last: end >= body.length };
  }
}

/** Cuts and joins what comes; the usual body, which is one buffer, is handed on as it is. */
function* joined(body: Iterable<Buffer>): Generator<Piece, void, undefined> {
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
  if (first !== null) yield* cut(first);
  if (piece === null) return;
  yield { piece: piece.subarray(0, filled), last: true };
  release(piece);
}
