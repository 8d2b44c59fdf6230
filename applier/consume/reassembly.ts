/**
 * Puts the fragments of a batch together that was too large for one message.
 *
 * Invariants: at most one batch is in pieces here, so at most MAX_FRAGMENTS messages are held; they stay unacknowledged
 * until the batch is committed, so that a crash brings them again. A fragment of another batch ends the one at hand:
 * its pieces are acknowledged and forgotten, and the branch is asked for the batch again, because what is in pieces
 * does not count as queued. Whether the pieces are what the branch sent, the batch's digest says, not this.
 */
import type { Fragment } from '../../shared/amqp-messages.ts';
import type { BatchHeader } from '../../shared/batch.ts';

/** A piece of a batch, as it came. */
export interface Piece {
  readonly header: BatchHeader;
  readonly fragment: Fragment;
  readonly body: Buffer;
  readonly acknowledge: () => void;
}

export interface Whole {
  readonly header: BatchHeader;
  /** In order. Not joined: of a row of 64 MiB there is no room for another copy. */
  readonly body: readonly Buffer[];
  /** Acknowledges every piece. */
  readonly acknowledge: () => void;
}

export class Reassembly {
  #pieces = new Map<number, Piece>();

  /** Takes a piece; returns the batch when it was the last one missing. */
  add(piece: Piece): Whole | null {
    const [first] = this.#pieces.values();
    if (first !== undefined && !sameBatch(first, piece)) this.#giveUp();
    // A second copy of a piece: the link has repeated it.
    if (this.#pieces.has(piece.fragment.index)) {
      piece.acknowledge();
      return null;
    }
    this.#pieces.set(piece.fragment.index, piece);
    if (this.#pieces.size < piece.fragment.count) return null;
    const pieces = [...this.#pieces.values()].sort((a, b) => a.fragment.index - b.fragment.index);
    this.#pieces = new Map();
    return {
      header: piece.header,
      body: pieces.map(({ body }) => body),
      acknowledge: () => {
        for (const each of pieces) each.acknowledge();
      },
    };
  }

  /** The channel that the pieces came from is gone: they come again. */
  forget(): void {
    this.#pieces = new Map();
  }

  #giveUp(): void {
    for (const piece of this.#pieces.values()) piece.acknowledge();
    this.#pieces = new Map();
  }
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
