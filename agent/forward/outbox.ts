/**
 * Which batch is sent next, which are in flight, and up to which the broker has confirmed without a gap. Pure
 * arithmetic over seqs; batches themselves stay in the spool.
 *
 * First the outbox sends what the head office asked for again (`resend`, a closed range), then everything from `next`
 * on. Invariants: confirmed = (lowest seq in flight or to be sent) − 1, or what the head office has received if that is
 * more; what it has received is sent again only on request, because the spool may have pruned it.
 */
import { assert } from '../../shared/errors.ts';
import type { AgentStream } from '../../shared/protocol.ts';

interface Flight {
  /** Not confirmed yet. */
  bytes: number;
  readonly number: number;
}

export class Outbox {
  /** By seq; in the order of sending. Bounded by the send window. */
  readonly #inFlight = new Map<number, Flight>();
  #inFlightBytes = 0;
  #flights = 0;
  #next = 1;
  #received = 0;
  #resend: { from: number; readonly to: number } | null = null;
  #epoch: string;

  constructor(stream: AgentStream) {
    this.#epoch = stream.epoch;
    this.restart(stream);
  }

  get epoch(): string {
    return this.#epoch;
  }

  get inFlightBatches(): number {
    return this.#inFlight.size;
  }

  get inFlightBytes(): number {
    return this.#inFlightBytes;
  }

  /** Unconfirmed bytes of the batch that has been in flight for longest. */
  get oldestBytes(): number {
    for (const flight of this.#inFlight.values()) return flight.bytes;
    return 0;
  }

  /** Contiguously confirmed; everything that the head office has received counts as confirmed. */
  get confirmed(): number {
    let lowest = this.#next;
    if (this.#resend !== null) lowest = Math.min(lowest, this.#resend.from);
    for (const seq of this.#inFlight.keys()) lowest = Math.min(lowest, seq);
    return Math.max(lowest - 1, this.#received);
  }

  /** Begins with the first batch of this epoch that the head office is not known to have received. */
  restart(stream: AgentStream): void {
    this.#clear();
    this.#epoch = stream.epoch;
    this.#resend = null;
    this.#received = stream.receivedSeq;
    this.#next = stream.receivedSeq + 1;
  }

  /** The next batch to send, if it is not beyond `head`. */
  peek(head: number): number | null {
    const seq = this.#resend?.from ?? this.#next;
    return seq <= head ? seq : null;
  }

  /** @returns the number of this flight, for `holds` */
  sent(seq: number, bytes: number): number {
    assert(!this.#inFlight.has(seq), `batch ${seq} is in flight already`);
    if (this.#resend !== null) {
      assert(seq === this.#resend.from, `batch ${seq} is out of turn`);
      if (seq === this.#resend.to) this.#resend = null;
      else this.#resend.from = seq + 1;
    } else {
      assert(seq === this.#next, `batch ${seq} is out of turn`);
      this.#next = seq + 1;
    }
    this.#flights += 1;
    this.#inFlight.set(seq, { bytes, number: this.#flights });
    this.#inFlightBytes += bytes;
    return this.#flights;
  }

  /** Whether the flight is in progress; false after a rewind. */
  holds(seq: number, flight: number): boolean {
    return this.#inFlight.get(seq)?.number === flight;
  }

  /** The broker has confirmed this many bytes of a batch. */
  progress(seq: number, bytes: number): void {
    const found = this.#inFlight.get(seq);
    assert(found !== undefined && bytes <= found.bytes, `${bytes} bytes of batch ${seq} were not in flight`);
    found.bytes -= bytes;
    this.#inFlightBytes -= bytes;
  }

  confirm(seq: number): void {
    const found = this.#inFlight.get(seq);
    assert(found !== undefined, `batch ${seq} is confirmed but was not in flight`);
    this.#inFlight.delete(seq);
    this.#inFlightBytes -= found.bytes;
  }

  /** Everything from the lowest unconfirmed batch on is sent again. @returns whether anything was in flight */
  rewind(): boolean {
    const lowest = this.confirmed + 1;
    const any = this.#inFlight.size > 0;
    this.#clear();
    this.#resend = null;
    this.#next = lowest;
    return any;
  }

  /** The head office has received everything up to this seq, which may be lower than before if it was restored. */
  received(seq: number): void {
    this.#received = seq;
    this.#next = Math.max(this.#next, seq + 1);
    if (this.#resend === null) return;
    this.#resend.from = Math.max(this.#resend.from, seq + 1);
    if (this.#resend.from > this.#resend.to) this.#resend = null;
  }

  /** The head office lacks this range, which was confirmed. Batches of it that are in flight are not sent again. */
  resend(from: number, to: number): void {
    assert(from <= to, `a resend from ${from} to ${to}`);
    const last = Math.min(to, this.confirmed);
    if (from <= last) this.#resend = { from, to: last };
  }

  #clear(): void {
    this.#inFlight.clear();
    this.#inFlightBytes = 0;
  }
}
