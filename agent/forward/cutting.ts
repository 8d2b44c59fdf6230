/**
 * How a batch is cut for a line that drops: what was only in part across when the link broke is sent again, so on a
 * slow line a batch travels in pieces of less than a second each, and after a drop only the pieces that the broker has
 * not confirmed are sent again. On a line that is fast enough a batch is one message. Pure: times are passed in.
 */
import { FRAGMENT_BYTES } from '../../shared/broker/amqp-messages.ts';

/** Of the line's time for one piece. Shorter costs more in headers (some 450 bytes a piece) than it saves at a drop. */
const PIECE_SECONDS = 0.75;
const LEAST_PIECE_BYTES = 8 * 1024;
/** While nothing is known of the line. */
const FIRST_PIECE_BYTES = 32 * 1024;
/** What is not much longer than a piece is not cut. */
const WORTH_CUTTING = 1.5;
/** An applier holds the pieces of two batches, and some messages more, unacknowledged. */
const MOST_PIECES = 12;

/** How an unconfirmed batch is cut, and which of its pieces the broker has not confirmed. */
export interface Cut {
  readonly bytes: number;
  /** The last one may be shorter. */
  readonly pieceBytes: number;
  readonly count: number;
  readonly missing: Set<number>;
}

/** Cuts a body into pieces of equal size. @param bytesPerSecond of the line; null: not known yet */
export function cutFor(bytes: number, bytesPerSecond: number | null): Cut {
  const pieceBytes = pieceBytesFor(bytes, bytesPerSecond);
  const count = Math.ceil(bytes / pieceBytes);
  return { bytes, pieceBytes, count, missing: new Set(Array.from({ length: count }, (_, index) => index)) };
}

function pieceBytesFor(bytes: number, bytesPerSecond: number | null): number {
  // So it lies in the spool: what is larger is never in memory whole.
  if (bytes > FRAGMENT_BYTES) return FRAGMENT_BYTES;
  const worth = bytesPerSecond === null ? FIRST_PIECE_BYTES : bytesPerSecond * PIECE_SECONDS;
  const wanted = Math.max(LEAST_PIECE_BYTES, worth);
  if (bytes <= wanted * WORTH_CUTTING) return Math.max(1, bytes);
  return Math.ceil(bytes / Math.min(MOST_PIECES, Math.ceil(bytes / wanted)));
}

/** Of one piece. */
export function bytesOf(cut: Cut, index: number): number {
  return Math.min(cut.pieceBytes, cut.bytes - index * cut.pieceBytes);
}

/** Of all pieces that the broker has not confirmed. */
export function missingBytes(cut: Cut): number {
  let sum = 0;
  for (const index of cut.missing) sum += bytesOf(cut, index);
  return sum;
}

/** The cuts of batches that are not confirmed whole. Bounded by the send window: what is not on its way is not here. */
export class Cuts {
  readonly #cuts = new Map<number, Cut>();

  /** How the batch was cut when it was sent first, or is cut now. */
  of(seq: number, cut: () => Cut): Cut {
    const known = this.#cuts.get(seq) ?? cut();
    this.#cuts.set(seq, known);
    return known;
  }

  /** All batches up to this one need not be sent again. */
  passed(seq: number): void {
    for (const known of this.#cuts.keys()) if (known <= seq) this.#cuts.delete(known);
  }

  confirmed(seq: number): void {
    this.#cuts.delete(seq);
  }

  /** What the broker was given may be lost: all of each batch is sent again. */
  forget(): void {
    this.#cuts.clear();
  }
}

/** Bytes over which the pace is taken. */
const SAMPLE_BYTES = 64 * 1024;

/**
 * How many bytes a second the line takes, by its confirms while something is always on its way; what a line could do
 * that has nothing to carry is not known. It is kept from link to link.
 */
export class LineRate {
  #since: number | null = null;
  #bytes = 0;
  #perSecond: number | null = null;

  /** Null: not known yet. */
  get bytesPerSecond(): number | null {
    return this.#perSecond;
  }

  sent(now: number): void {
    if (this.#since !== null) return;
    this.#since = now;
    this.#bytes = 0;
  }

  confirmed(bytes: number, now: number): void {
    if (this.#since === null) return;
    this.#bytes += bytes;
    if (this.#bytes < SAMPLE_BYTES) return;
    const rate = (this.#bytes * 1_000) / Math.max(1, now - this.#since);
    this.#perSecond = this.#perSecond === null ? rate : (this.#perSecond + rate) / 2;
    this.#since = now;
    this.#bytes = 0;
  }

  /** Nothing is on its way. */
  idle(): void {
    this.#since = null;
  }
}
