/**
 * Sends batches over the link that it is given, and watches their confirms: order, window, rate, patience. What a
 * fault means is the forwarder's business; here it is only told.
 *
 * Invariant: each piece of a batch is on its way at most once on one link. After a rewind the old messages must settle
 * before anything is sent again on the same link, for a second message of the same piece would be taken for the first.
 */
import { batchMessage, fragmentMessage } from '../../shared/broker/amqp.ts';
import type { SendOutcome } from '../../shared/broker/amqp.ts';
import type { BatchHeader } from '../../shared/batch/batch.ts';
import { assert, TributaryError } from '../../shared/errors.ts';
import type { AgentStream, Answer } from '../../shared/protocol.ts';
import { release, releaseGarbage } from '../../shared/release.ts';
import type { Spool, StoredBatch } from '../spool/spool.ts';
import type { ForwardLink } from './broker-link.ts';
import { bytesOf, cutFor, Cuts, LineRate, missingBytes } from './cutting.ts';
import type { Cut } from './cutting.ts';
import type { ForwarderCounters } from './forwarder-types.ts';
import { RateLimit } from './rate-limit.ts';
import { Outbox } from './outbox.ts';
import { SendWindow } from './send-window.ts';
import { Timers } from './timers.ts';

/** A confirm may take `stallMs`, and as much longer as the slowest link worth waiting for needs for its bytes. */
const SLOWEST_BYTES_PER_SECOND = 8 * 1024;
/** Pieces of one large batch that are on their way at a time: one on the wire while the confirm of another travels. */
const PIECES_IN_FLIGHT = 2;
/** The library copies every piece, and at the first one the row may still stand in memory as it was captured. */
const PIECES_BETWEEN_COLLECTIONS = 4;

const CONFIRMED: SendOutcome = { outcome: 'confirmed' };
/** Of a batch that was not sent whole, because it will be sent again. */
const GIVEN_UP: SendOutcome = {
  outcome: 'rejected',
  error: new TributaryError('BROKER_UNREACHABLE', 'A batch was given up between two of its pieces.'),
};

export interface SenderOptions {
  readonly spool: Spool;
  readonly counters: ForwarderCounters;
  readonly maxBytesPerSecond: number;
  readonly stallMs: number;
  readonly windowBytes: number;
  readonly windowMessages: number;
  readonly now: () => number;
  readonly host: SenderHost;
}

export interface SenderHost {
  /** Runs what an event brought; a throw ends the forwarder. */
  guarded(work: () => void): void;
  maySend(): boolean;
  /** The broker took this batch, and the batch is still the one that was meant. */
  onConfirmed(): void;
  /** The broker nacked. Everything from the lowest unconfirmed on is to be sent again, later. */
  onRefused(error: TributaryError): void;
  /** The link is in doubt. */
  onFault(error: TributaryError): void;
  /** All that could be sent was sent. */
  onPumped(): void;
}

export class Sender {
  readonly #o: SenderOptions;
  readonly #outbox: Outbox;
  readonly #rate: RateLimit;
  readonly #line = new LineRate();
  readonly #cuts = new Cuts();
  readonly #timers = new Timers<'rate' | 'stall'>();
  #window: SendWindow;
  #link: ForwardLink | null = null;
  /** Messages handed to the present link that have not settled; more than the outbox knows after a rewind. */
  #unsettled = 0;
  #progressAt = 0;

  constructor(options: SenderOptions) {
    this.#o = options;
    this.#outbox = new Outbox(options.spool.stream());
    this.#rate = new RateLimit(options.maxBytesPerSecond, options.now());
    this.#window = new SendWindow(options.windowBytes, options.windowMessages);
  }

  get epoch(): string {
    return this.#outbox.epoch;
  }

  get confirmed(): number {
    return this.#outbox.confirmed;
  }

  get inFlightBatches(): number {
    return this.#outbox.inFlightBatches;
  }

  get inFlightBytes(): number {
    return this.#outbox.inFlightBytes;
  }

  get windowBytes(): number {
    return this.#window.limitBytes;
  }

  /** Everything is confirmed, and one more batch would leave at once. */
  get drained(): boolean {
    return (
      this.#unsettled === 0 &&
      this.#outbox.peek(this.#o.spool.stream().head.seq) === null &&
      this.#rate.waitMs(this.#o.now()) === 0
    );
  }

  attach(link: ForwardLink): void {
    this.#link = link;
    this.#unsettled = 0;
    this.#window = new SendWindow(this.#o.windowBytes, this.#o.windowMessages);
  }

  /** What the link still has to say is not heard any more. */
  detach(): void {
    this.#link = null;
    this.#unsettled = 0;
    this.#timers.clearAll();
    this.rewind();
  }

  /** From the first batch that the head office has not said it received, in this epoch. */
  restart(stream: AgentStream): void {
    this.#cuts.forget();
    this.#outbox.restart(stream);
    this.#timers.clearAll();
  }

  /** The broker keeps the pieces that it has confirmed; if it does not, the head office will ask for them. */
  rewind(): void {
    if (this.#outbox.rewind()) this.#o.counters.rewinds += 1;
    this.#line.idle();
    this.#timers.clear('stall');
  }

  /** After a refusal: one batch alone, until it is confirmed; whole, for pieces of several may have been taken. */
  probe(): void {
    this.#cuts.forget();
    this.#window.probe();
  }

  received(seq: number): void {
    this.#cuts.passed(seq);
    this.#outbox.received(seq);
  }

  resend(range: NonNullable<Answer['resend']>): void {
    this.#cuts.forget();
    this.#outbox.resend(range.from, range.to);
    this.#o.counters.rewinds += 1;
  }

  /** How long something may take that waits behind all that is on its way. */
  patienceMs(bytes = this.#outbox.inFlightBytes): number {
    return this.#o.stallMs + (bytes / SLOWEST_BYTES_PER_SECOND) * 1_000;
  }

  /** Sends what may be sent. */
  pump(): void {
    const { spool, host, now } = this.#o;
    for (let link = this.#link; link !== null && link === this.#link && host.maySend();) {
      if (this.#unsettled > this.#outbox.inFlightBatches) break;
      const stream = spool.stream();
      const seq = this.#outbox.peek(stream.head.seq);
      if (seq === null || !this.#window.admits(this.#outbox.inFlightBatches, this.#outbox.inFlightBytes)) break;
      const waitMs = this.#rate.waitMs(now());
      if (waitMs > 0) {
        this.#timers.set('rate', waitMs, () => host.guarded(() => this.pump()));
        break;
      }
      this.#send(link, stream.branch, seq);
    }
    this.#watchStall();
    host.onPumped();
  }

  #send(link: ForwardLink, branch: string, seq: number): void {
    const { spool, counters, host, now } = this.#o;
    const batch = spool.read(seq);
    assert(batch !== null && !batch.open, `batch ${seq} is to be sent but is not in the spool`);
    const header = { branch, epoch: this.#outbox.epoch, seq, previous: batch.previous, digest: batch.digest };
    const cut = this.#cuts.of(seq, () => cutFor(batch.bytes, this.#line.bytesPerSecond));
    const bytes = missingBytes(cut);
    const sentAt = now();
    if (this.#outbox.inFlightBatches === 0) this.#progressAt = sentAt;
    this.#line.sent(sentAt);
    const flight = this.#outbox.sent(seq, bytes);
    this.#unsettled += 1;
    counters.sentBatches += 1;
    counters.sentBytes += bytes;
    this.#rate.spend(bytes, sentAt);
    const settled = (outcome: SendOutcome): void => {
      if (link !== this.#link) return;
      this.#unsettled -= 1;
      // After a rewind: it will be sent again, which does no harm.
      if (this.#outbox.holds(seq, flight)) this.#settled(seq, outcome);
      else if (outcome.outcome === 'unknown' || outcome.outcome === 'returned') host.onFault(outcome.error);
      this.pump();
    };
    void this.#sendPieces(link, header, batch, cut, () => link === this.#link && this.#outbox.holds(seq, flight)).then(
      outcome => host.guarded(() => settled(outcome)),
      (error: unknown) =>
        host.guarded(() => {
          throw error;
        }),
    );
  }

  /**
   * All messages of one batch that are missing, as one: confirmed when each is; a doubt about one is a doubt about the
   * batch. A batch that is in memory whole is handed over at once, so that no other comes between its pieces.
   * @param wanted false once the link is gone or everything is to be sent again
   * @throws TributaryError SPOOL_CORRUPT, SPOOL_IO
   */
  async #sendPieces(
    link: ForwardLink,
    header: BatchHeader,
    batch: StoredBatch,
    cut: Cut,
    wanted: () => boolean,
  ): Promise<SendOutcome> {
    const sentAt = this.#o.now();
    // The watch below ends a dead link; this deadline is for a library that never answers.
    const deadlineMs = 2 * this.patienceMs();
    const body = batch.pieces === 1 ? batch.piece(0) : null;
    const most = body === null ? PIECES_IN_FLIGHT : cut.count;
    const onTheWay: Promise<SendOutcome>[] = [];
    const doubts: SendOutcome[] = [];
    const send = async (index: number, piece: Buffer): Promise<SendOutcome> => {
      const message =
        cut.count === 1 ? batchMessage(header, piece) : fragmentMessage(header, { index, count: cut.count }, piece);
      const outcome = await link.send(message, deadlineMs);
      if (outcome.outcome !== 'confirmed') doubts.push(outcome);
      // In doubt the link may still be writing it.
      else if (body === null) release(piece);
      if (outcome.outcome === 'confirmed' && wanted()) {
        this.#o.host.guarded(() => this.#progressed(header.seq, cut, index, sentAt));
      }
      return outcome;
    };
    for (const index of [...cut.missing]) {
      if (onTheWay.length >= most) await onTheWay.shift();
      if (doubts.length > 0 || !wanted()) break;
      if (body === null && index % PIECES_BETWEEN_COLLECTIONS === 0) releaseGarbage();
      // Read here, not in there: a damaged spool must end this call, not a promise that nobody waits for yet.
      const piece = body?.subarray(index * cut.pieceBytes, (index + 1) * cut.pieceBytes) ?? batch.piece(index);
      onTheWay.push(send(index, piece));
    }
    await Promise.all(onTheWay);
    return doubts[0] ?? (wanted() ? CONFIRMED : GIVEN_UP);
  }

  /** The broker has one more piece: there may be room for the next batch. */
  #progressed(seq: number, cut: Cut, index: number, sentAt: number): void {
    const at = this.#o.now();
    const bytes = bytesOf(cut, index);
    cut.missing.delete(index);
    this.#o.counters.confirmedBytes += bytes;
    this.#progressAt = at;
    this.#line.confirmed(bytes, at);
    this.#window.confirmed(bytes, at - sentAt);
    this.#outbox.progress(seq, bytes);
    // The last one settles the batch.
    if (cut.missing.size > 0) this.pump();
  }

  #settled(seq: number, outcome: SendOutcome): void {
    const { counters, host } = this.#o;
    switch (outcome.outcome) {
      case 'confirmed':
        counters.confirmedBatches += 1;
        this.#cuts.confirmed(seq);
        this.#outbox.confirm(seq);
        if (this.#outbox.inFlightBatches === 0) this.#line.idle();
        host.onConfirmed();
        break;
      case 'rejected':
        counters.refusals += 1;
        host.onRefused(outcome.error);
        break;
      case 'returned':
      case 'unknown':
        host.onFault(outcome.error);
    }
  }

  /** Keeps one timer while batches are on their way: no confirm for too long means that the link is dead. */
  #watchStall(): void {
    if (this.#outbox.inFlightBatches === 0) {
      this.#timers.clear('stall');
      return;
    }
    if (this.#timers.has('stall')) return;
    const { host, now } = this.#o;
    const patienceMs = this.patienceMs(this.#outbox.oldestBytes);
    const check = (): void => {
      // An alarm at the broker is not a dead link: heartbeats from its side still tell that it lives.
      if (this.#link?.blocked === true) this.#progressAt = now();
      if (now() - this.#progressAt < patienceMs) this.#watchStall();
      else host.onFault(new TributaryError('BROKER_UNREACHABLE', `No confirm for ${Math.round(patienceMs / 1000)} s.`));
    };
    this.#timers.set('stall', this.#progressAt + patienceMs - now(), () => host.guarded(check));
  }
}
