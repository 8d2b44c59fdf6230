/**
 * Puts the pieces of batches together that came in several messages: large ones, and those of branches whose line is
 * slow. After a drop a branch sends only the pieces that it knows nothing of, so those of two batches may come mixed.
 *
 * Invariants: pieces of at most OPEN batches are here, and at most MAX_FRAGMENTS messages; they stay unacknowledged
 * until the batch is committed, so that a crash brings them again. Pieces for which there is no room, and those of a
 * batch that a later one has overtaken, are acknowledged and forgotten: the branch is asked for that batch again,
 * because what is in pieces does not count as queued. Whether the pieces are what the branch sent, the batch's digest
 * says, not this.
 */
import { MAX_FRAGMENTS } from '../../shared/broker/amqp-messages.ts';
import type { Fragment } from '../../shared/broker/amqp-messages.ts';
import type { BatchHeader } from '../../shared/batch/batch.ts';
import { TributaryError } from '../../shared/errors.ts';

/** A piece of a batch, as it came. */
export interface Piece {
  readonly header: BatchHeader;
  readonly fragment: Fragment;
  readonly body: Buffer;
  readonly acknowledge: () => void;
}

export interface CompleteBatch {
  readonly header: BatchHeader;
  /** In order. Not joined: of a row of 64 MiB there is no room for another copy. */
  readonly body: readonly Buffer[];
  /** Acknowledges every piece. */
  readonly acknowledge: () => void;
}

/** Batches in pieces at a time: one, and the next. */
const MAX_OPEN = 2;

export class Reassembly {
  /** The pieces of each batch by index; in order of their first piece. */
  #open: Map<number, Piece>[] = [];

  /** Takes a piece; returns the batch when it was the last one missing. */
  add(piece: Piece): CompleteBatch | null {
    const pieces = this.#of(piece);
    // A second copy of a piece: the link has repeated it.
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

  /** This batch has arrived whole: what is missing of it or of earlier ones will not come by itself any more. */
  overtaken(header: BatchHeader): void {
    this.#giveUp(({ header: { epoch, seq } }) => epoch === header.epoch && seq <= header.seq);
  }

  /** The channel that the pieces came from is gone: they come again. */
  forget(): void {
    this.#open = [];
  }

  #of(piece: Piece): Map<number, Piece> {
    const known = this.#open.find(pieces => sameBatch(firstOf(pieces), piece));
    if (known !== undefined) return known;
    // Cut otherwise: the branch has forgotten how it was cut before, and sends all of it again.
    this.#giveUp(({ header: { epoch, seq } }) => epoch === piece.header.epoch && seq === piece.header.seq);
    const pieces = new Map<number, Piece>();
    this.#open.push(pieces);
    return pieces;
  }

  /** For the batch at hand: the oldest others go. */
  #makeRoom(forThis: Map<number, Piece>): void {
    const held = (): number => this.#open.reduce((sum, pieces) => sum + pieces.size, 0);
    while (this.#open.length > MAX_OPEN || held() > MAX_FRAGMENTS) {
      const oldest = this.#open.find(pieces => pieces !== forThis);
      if (oldest === undefined) return;
      const first = firstOf(oldest);
      this.#giveUp(piece => piece === first);
    }
  }

  /** Gives up the batches whose pieces are such. */
  #giveUp(such: (piece: Piece) => boolean): void {
    this.#open = this.#open.filter(pieces => {
      if (pieces.size === 0 || !such(firstOf(pieces))) return true;
      for (const piece of pieces.values()) piece.acknowledge();
      return false;
    });
  }
}

function firstOf(pieces: ReadonlyMap<number, Piece>): Piece {
  for (const piece of pieces.values()) return piece;
  throw new TributaryError('INTERNAL', 'A batch in pieces has none.');
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
