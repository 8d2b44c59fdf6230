/**
 * How a batch is cut into pieces for a line that drops. A message that was only partly sent when the link broke is sent
 * again. So on a slow line a batch is sent in pieces that take less than a second each. After a lost connection only
 * the pieces that the broker has not confirmed are sent again. On a fast line a batch is one message. Pure: times are
 * passed in.
 */
import { FRAGMENT_BYTES } from '../../shared/broker/amqp-messages.ts';

/** How long the line needs for one piece. Shorter pieces cost more in headers (450 bytes each) than they save. */
const PIECE_SECONDS = 0.75;
const LEAST_PIECE_BYTES = 8 * 1024;
/** The size of a piece while the speed of the line is not known. */
const FIRST_PIECE_BYTES = 32 * 1024;
/** A batch is cut only if it is this many times as long as a piece. */
const WORTH_CUTTING = 1.5;
/** An applier keeps the pieces of two batches, and some more messages, unacknowledged. */
const MOST_PIECES = 12;

/** How an unconfirmed batch is cut, and which of its pieces the broker has not confirmed. */
export interface Cut {
  readonly bytes: number;
  /** The last piece may be shorter. */
  readonly pieceBytes: number;
  readonly count: number;
  readonly missing: Set<number>;
}

/** Cuts a body into pieces of equal size. @param bytesPerSecond the speed of the line; null: not known yet */
export function cutFor(bytes: number, bytesPerSecond: number | null): Cut {
  const pieceBytes = pieceBytesFor(bytes, bytesPerSecond);
  const count = Math.ceil(bytes / pieceBytes);
  return { bytes, pieceBytes, count, missing: new Set(Array.from({ length: count }, (_, index) => index)) };
}

function pieceBytesFor(bytes: number, bytesPerSecond: number | null): number {
  // The spool stores a larger body in such pieces, so that it is never in memory whole.
  if (bytes > FRAGMENT_BYTES) return FRAGMENT_BYTES;
  const worth = bytesPerSecond === null ? FIRST_PIECE_BYTES : bytesPerSecond * PIECE_SECONDS;
  const wanted = Math.max(LEAST_PIECE_BYTES, worth);
  if (bytes <= wanted * WORTH_CUTTING) return Math.max(1, bytes);
  return Math.ceil(bytes / Math.min(MOST_PIECES, Math.ceil(bytes / wanted)));
}

/** One message, whatever the line is like. */
export function uncut(bytes: number): Cut {
  return { bytes, pieceBytes: Math.max(1, bytes), count: 1, missing: new Set([0]) };
}

/** The bytes of one piece. */
export function bytesOf(cut: Cut, index: number): number {
  return Math.min(cut.pieceBytes, cut.bytes - index * cut.pieceBytes);
}

/** The bytes of all pieces that the broker has not confirmed. */
export function missingBytes(cut: Cut): number {
  let sum = 0;
  for (const index of cut.missing) sum += bytesOf(cut, index);
  return sum;
}

/** How the batches in flight are cut. Bounded by the send window. */
export class Cuts {
  readonly #cuts = new Map<number, Cut>();

  /** How the batch was cut when it was first sent; if it was not, `cut` decides. */
  of(seq: number, cut: () => Cut): Cut {
    const known = this.#cuts.get(seq) ?? cut();
    this.#cuts.set(seq, known);
    return known;
  }

  /** Whether it was sent in pieces, so that some may have arrived. */
  isCut(seq: number): boolean {
    return (this.#cuts.get(seq)?.count ?? 1) > 1;
  }

  /** All batches up to this one are received. */
  passed(seq: number): void {
    for (const known of this.#cuts.keys()) if (known <= seq) this.#cuts.delete(known);
  }

  confirmed(seq: number): void {
    this.#cuts.delete(seq);
  }

  /** The broker may have lost pieces: each batch is sent whole again. */
  forget(): void {
    this.#cuts.clear();
  }
}

/** The speed is measured over this many bytes. */
const SAMPLE_BYTES = 64 * 1024;

/**
 * The speed of the line in bytes per second, by the confirms while something is in flight. It is kept from link to
 * link.
 */
export class LineRate {
  #since: number | null = null;
  #bytes = 0;
  #perSecond: number | null = null;

  /** null: not known yet. */
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

  /** Nothing is in flight. */
  idle(): void {
    this.#since = null;
  }
}
