/**
 * Puts the pieces of batches together that came in several messages: large batches, and those of branches with a slow
 * line. After a lost connection a branch sends only the pieces that were not confirmed, so those of two batches may
 * come mixed.
 *
 * Invariants: pieces of at most MAX_OPEN batches are here, and at most MAX_FRAGMENTS messages. They stay unacknowledged
 * until the batch is committed, so that they come again after a crash. Pieces for which there is no room, and those of
 * a batch that a later one has overtaken, are acknowledged and dropped. The branch is then asked for that batch again,
 * because pieces do not count as queued. The pieces are not checked here: the batch's digest is.
 */
import { MAX_FRAGMENTS } from '../../shared/broker/amqp-messages.ts';
import type { Fragment } from '../../shared/broker/amqp-messages.ts';
import type { BatchHeader } from '../../shared/batch/batch.ts';
import { TributaryError } from '../../shared/errors.ts';

/** A piece of a batch, as it was received. */
export interface Piece {
  readonly header: BatchHeader;
  readonly fragment: Fragment;
  readonly body: Buffer;
  readonly acknowledge: () => void;
}

export interface CompleteBatch {
  readonly header: BatchHeader;
  /** In order. They are not joined, because there is no memory for another copy of a row of 64 MiB. */
  readonly body: readonly Buffer[];
  /** Acknowledges every piece. */
  readonly acknowledge: () => void;
}

/** Batches in pieces at a time: one and the next. */
const MAX_OPEN = 2;

export class Reassembly {
  /** The pieces of each batch by index; in order of their first piece. */
  #open: Map<number, Piece>[] = [];

  /** Takes a piece. @returns the batch, if this was its last missing piece */
  add(piece: Piece): CompleteBatch | null {
    const pieces = this.#of(piece);
    // The link has repeated the piece.
    if (pieces.has(piece.fragment.index)) {
      piece.acknowledge();
      return null;
    }
    pieces.set(piece.fragment.index, piece);
    if (pieces.size < piece.fragment.count) {
      this.#makeRoom(pieces);
      return null;
    }
    this.#open = this.#open.filter(each => each !== pieces);
    this.overtaken(piece.header);
    const ordered = [...pieces.values()].sort((a, b) => a.fragment.index - b.fragment.index);
    return {
      header: piece.header,
      body: ordered.map(({ body }) => body),
      acknowledge: () => {
        for (const each of ordered) each.acknowledge();
      },
    };
  }

  /** This batch has arrived whole: missing pieces of it or of earlier batches will not come any more. */
  overtaken(header: BatchHeader): void {
    this.#drop(({ header: { epoch, seq } }) => epoch === header.epoch && seq <= header.seq);
  }

  /** The channel of the pieces is gone: they come again. */
  forget(): void {
    this.#open = [];
  }

  #of(piece: Piece): Map<number, Piece> {
    const known = this.#open.find(pieces => sameBatch(firstOf(pieces), piece));
    if (known !== undefined) return known;
    // The batch is cut in another way: the branch was restarted and sends all of it again.
    this.#drop(({ header: { epoch, seq } }) => epoch === piece.header.epoch && seq === piece.header.seq);
    const pieces = new Map<number, Piece>();
    this.#open.push(pieces);
    return pieces;
  }

  /** Drops the oldest batches until there is room for this one. */
  #makeRoom(forThis: Map<number, Piece>): void {
    const messages = (): number => this.#open.reduce((sum, pieces) => sum + pieces.size, 0);
    while (this.#open.length > MAX_OPEN || messages() > MAX_FRAGMENTS) {
      const oldest = this.#open.find(pieces => pieces !== forThis);
      if (oldest === undefined) return;
      const first = firstOf(oldest);
      this.#drop(piece => piece === first);
    }
  }

  /** Drops the batches of whose pieces this is true. */
  #drop(matches: (piece: Piece) => boolean): void {
    this.#open = this.#open.filter(pieces => {
      if (pieces.size === 0 || !matches(firstOf(pieces))) return true;
      for (const piece of pieces.values()) piece.acknowledge();
      return false;
    });
  }
}

function firstOf(pieces: ReadonlyMap<number, Piece>): Piece {
  for (const piece of pieces.values()) return piece;
  throw new TributaryError('INTERNAL', 'A batch in pieces has no pieces.');
}

function sameBatch(a: Piece, b: Piece): boolean {
  return (
    a.header.seq === b.header.seq &&
    a.header.epoch === b.header.epoch &&
    a.header.previous === b.header.previous &&
    a.header.digest === b.header.digest &&
    a.fragment.count === b.fragment.count
  );
}
