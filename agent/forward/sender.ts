/**
 * Sends batches over the link that it is given, and watches their confirms: order, window, rate, patience. What a
 * fault means is the forwarder's business; here it is only told.
 *
 * Invariant: at most one message of a batch is on its way on one link. After a rewind the old messages must settle
 * before anything is sent again on the same link, for a second message of the same batch would be taken for the first.
 */
import { batchMessage, fragmentMessage } from '../../shared/amqp.ts';
import type { SendOutcome } from '../../shared/amqp.ts';
import type { BatchHeader } from '../../shared/batch.ts';
import { assert, TributaryError } from '../../shared/errors.ts';
import type { AgentStream, Answer } from '../../shared/protocol.ts';
import { release } from '../../shared/release.ts';
import type { Spool, StoredBatch } from '../spool/spool.ts';
import type { ForwardLink } from './broker-link.ts';
import type { ForwarderCounters } from './forwarder-types.ts';
import { RateLimit } from './link.ts';
import { Outbox } from './outbox.ts';
import { SendWindow } from './send-window.ts';
import { Timers } from './timers.ts';

/** A confirm may take `stallMs`, and as much longer as the slowest link worth waiting for needs for its bytes. */
const SLOWEST_BYTES_PER_SECOND = 8 * 1024;
/** Pieces of one large batch that are on their way at a time: one on the wire while the confirm of another travels. */
const PIECES_IN_FLIGHT = 2;

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
    this.#outbox.restart(stream);
    this.#timers.clearAll();
  }

  rewind(): void {
    if (this.#outbox.rewind()) this.#o.counters.rewinds += 1;
    this.#timers.clear('stall');
  }

  /** After a refusal: one batch alone, until it is confirmed. */
  probe(): void {
    this.#window.probe();
  }

  known(seq: number): void {
    this.#outbox.known(seq);
  }

  resend(range: NonNullable<Answer['resend']>): void {
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
    const { bytes } = batch;
    const header = { branch, epoch: this.#outbox.epoch, seq, previous: batch.previous, digest: batch.digest };
    const sentAt = now();
    if (this.#outbox.inFlightBatches === 0) this.#progressAt = sentAt;
    const flight = this.#outbox.sent(seq, bytes);
    this.#unsettled += 1;
    counters.sentBatches += 1;
    counters.sentBytes += bytes;
    this.#rate.spend(bytes, sentAt);
    const settled = (outcome: SendOutcome): void => {
      if (link !== this.#link) return;
      this.#unsettled -= 1;
      // After a rewind: it will be sent again, which does no harm.
      if (this.#outbox.holds(seq, flight)) this.#settled(seq, bytes, sentAt, outcome);
      else if (outcome.outcome === 'unknown' || outcome.outcome === 'returned') host.onFault(outcome.error);
      this.pump();
    };
    void this.#sendPieces(link, header, batch, () => link === this.#link && this.#outbox.holds(seq, flight)).then(
      outcome => host.guarded(() => settled(outcome)),
      (error: unknown) =>
        host.guarded(() => {
          throw error;
        }),
    );
  }

  /**
   * All messages of one batch, as one: confirmed when each is; a doubt about one is a doubt about the batch.
   * @param wanted false once the link is gone or everything is to be sent again
   * @throws TributaryError SPOOL_CORRUPT, SPOOL_IO
   */
  async #sendPieces(
    link: ForwardLink,
    header: BatchHeader,
    batch: StoredBatch,
    wanted: () => boolean,
  ): Promise<SendOutcome> {
    // The watch below ends a dead link; this deadline is for a library that never answers.
    const deadlineMs = 2 * this.patienceMs();
    const { pieces: count } = batch;
    if (count === 1) return link.send(batchMessage(header, batch.piece(0)), deadlineMs);
    const sendPiece = async (index: number, piece: Buffer): Promise<SendOutcome> => {
      const outcome = await link.send(fragmentMessage(header, { index, count }, piece), deadlineMs);
      // In doubt the link may still be writing it.
      if (outcome.outcome === 'confirmed') release(piece);
      return outcome;
    };
    const onTheWay: Promise<SendOutcome>[] = [];
    let doubt: SendOutcome | null = null;
    for (let index = 0; index < count || onTheWay.length > 0;) {
      if (index < count && onTheWay.length < PIECES_IN_FLIGHT && doubt === null && wanted()) {
        onTheWay.push(sendPiece(index, batch.piece(index)));
        index += 1;
        continue;
      }
      const next = onTheWay.shift();
      if (next === undefined) break;
      const outcome = await next;
      if (outcome.outcome === 'confirmed') this.#progressAt = this.#o.now();
      else doubt ??= outcome;
    }
    return doubt ?? (wanted() ? { outcome: 'confirmed' } : GIVEN_UP);
  }

  #settled(seq: number, bytes: number, sentAt: number, outcome: SendOutcome): void {
    const { counters, host, now } = this.#o;
    switch (outcome.outcome) {
      case 'confirmed':
        counters.confirmedBatches += 1;
        counters.confirmedBytes += bytes;
        this.#progressAt = now();
        this.#window.confirmed(bytes, now() - sentAt);
        this.#outbox.confirm(seq);
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
