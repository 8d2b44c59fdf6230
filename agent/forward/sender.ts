/**
 * Sends batches over the present link and watches their confirms: order, window, rate, timeouts. It reports faults; the
 * forwarder decides what they mean.
 *
 * Invariant: each piece of a batch is in flight at most once on one link. After a rewind the outcomes of the old
 * messages must be known before anything is sent again on the same link. Otherwise a confirm of an old message could be
 * taken for that of a new one.
 */
import { batchMessage, fragmentMessage } from '../../shared/broker/amqp.ts';
import type { OutgoingMessage, SendOutcome } from '../../shared/broker/amqp.ts';
import type { BatchHeader } from '../../shared/batch/batch.ts';
import { assert, TributaryError } from '../../shared/errors.ts';
import type { AgentStream, Answer } from '../../shared/protocol.ts';
import { release, releaseGarbage } from '../../shared/release.ts';
import type { Spool, StoredBatch } from '../spool/spool.ts';
import type { ForwardLink } from './broker-link.ts';
import { bytesOf, cutFor, Cuts, LineRate, missingBytes, uncut } from './cutting.ts';
import type { Cut } from './cutting.ts';
import type { ForwarderCounters, ForwarderHost } from './forwarder-types.ts';
import { BandwidthLimit } from './rate-limit.ts';
import { Outbox } from './outbox.ts';
import type { Packing } from './packing.ts';
import { SendWindow } from './send-window.ts';
import { Timers } from './timers.ts';
import { formatDuration } from '../../shared/units.ts';
import { holdMs, waitsInSpool } from './freshness.ts';

/** A confirm may take `stallMs`, and besides as long as the slowest usable link needs for its bytes. */
const SLOWEST_BYTES_PER_SECOND = 8 * 1024;
/** Pieces of one large batch in flight at a time: one on the wire while the confirm of another is on its way back. */
const PIECES_IN_FLIGHT = 2;
/** The library copies every piece, and at the first one the captured row may still be in memory. */
const PIECES_BETWEEN_COLLECTIONS = 4;

const CONFIRMED: SendOutcome = { outcome: 'confirmed' };
/** The outcome of a batch that was not sent whole, because it will be sent again. */
const ABANDONED: SendOutcome = {
  outcome: 'rejected',
  error: new TributaryError('BROKER_UNREACHABLE', 'A batch was abandoned between two of its pieces.'),
};

/** A batch that is sent. */
interface Outgoing {
  readonly header: BatchHeader;
  readonly batch: StoredBatch;
  /** All of it in one message; null: it is sent in the usual form. */
  readonly slim: OutgoingMessage | null;
}

export interface SenderOptions {
  readonly spool: Spool;
  readonly packing: Packing;
  readonly counters: ForwarderCounters;
  readonly maxBytesPerSecond: number;
  readonly freshnessMs: number;
  /** Whether somebody waits for what is in the spool, however fresh it is. */
  readonly isAwaited: () => boolean;
  /** When `isAwaited` becomes true by itself, because the link is about to close; null: it does not. */
  readonly lastCallAt: () => number | null;
  /** Everything that was committed until then is in batches up to the spool's head, ISO; null: not known. */
  readonly through: () => string | null;
  readonly stallMs: number;
  readonly windowBytes: number;
  readonly windowMessages: number;
  readonly now: () => number;
  readonly host: ForwarderHost;
}

export class Sender {
  /** Whether batches may be sent at present. */
  isEnabled = false;
  readonly #o: SenderOptions;
  readonly #outbox: Outbox;
  readonly #rate: BandwidthLimit;
  readonly #line = new LineRate();
  readonly #cuts = new Cuts();
  readonly #timers = new Timers<'rate' | 'stall' | 'fresh'>();
  #window: SendWindow;
  #link: ForwardLink | null = null;
  /**
   * Batches given to the present link whose outcome is not known. After a rewind these are more than the outbox has.
   */
  #pending = 0;
  #progressAt = 0;
  /** Batches up to this one are old enough to be sent. */
  #releasedThrough = 0;

  constructor(options: SenderOptions) {
    this.#o = options;
    this.#outbox = new Outbox(options.spool.stream());
    this.#rate = new BandwidthLimit(options.maxBytesPerSecond, options.now());
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

  /** Everything is confirmed, and one more batch would be sent at once. */
  get drained(): boolean {
    return (
      this.#pending === 0 &&
      this.#outbox.peek(this.#o.spool.stream().head.seq) === null &&
      this.#rate.waitMs(this.#o.now()) === 0
    );
  }

  /** Whether a batch waits in the spool for more that is sent with it. */
  get isHolding(): boolean {
    return this.#timers.has('fresh');
  }

  attach(link: ForwardLink): void {
    this.#link = link;
    this.#o.packing.connected();
    this.#pending = 0;
    this.#window = new SendWindow(this.#o.windowBytes, this.#o.windowMessages);
  }

  /** Ignores whatever the link reports from now on. */
  detach(): void {
    this.#link = null;
    this.#pending = 0;
    this.#timers.clearAll();
    this.rewind();
  }

  /** Begins with the first batch of this epoch that the head office is not known to have received. */
  restart(stream: AgentStream): void {
    if (stream.epoch !== this.#outbox.epoch) {
      this.#o.packing.forget();
      this.#releasedThrough = 0;
    }
    this.#cuts.forget();
    this.#outbox.restart(stream);
    this.#timers.clearAll();
  }

  /** Sends again from the lowest unconfirmed batch on, except pieces that the broker has confirmed. */
  rewind(): void {
    if (this.#outbox.rewind()) this.#o.counters.rewinds += 1;
    this.#line.idle();
    this.#timers.clear('stall');
  }

  /** After a refusal: sends one batch alone until it is confirmed, and all of it, because pieces may be missing. */
  probe(): void {
    this.#cuts.forget();
    this.#window.probe();
  }

  /** The head office has received everything up to this seq. */
  received(seq: number): void {
    this.#cuts.passed(seq);
    this.#outbox.received(seq);
  }

  /** The head office asks for these batches again. */
  resend(range: NonNullable<Answer['resend']>): void {
    this.#cuts.forget();
    this.#outbox.resend(range.from, range.to);
    this.#o.counters.rewinds += 1;
  }

  /** How long something may take that waits behind everything in flight. */
  timeoutMs(bytes = this.#outbox.inFlightBytes): number {
    return this.#o.stallMs + (bytes / SLOWEST_BYTES_PER_SECOND) * 1_000;
  }

  /** Sends what may be sent. */
  pump(): void {
    const { spool, host, now } = this.#o;
    for (let link = this.#link; link !== null && link === this.#link && this.isEnabled;) {
      if (this.#pending > this.#outbox.inFlightBatches) break;
      const stream = spool.stream();
      const seq = this.#outbox.peek(stream.head.seq);
      if (seq === null || !this.#window.admits(this.#outbox.inFlightBatches, this.#outbox.inFlightBytes)) break;
      const waitMs = this.#rate.waitMs(now());
      if (waitMs > 0) {
        this.#timers.set('rate', waitMs, () => host.guarded(() => this.pump()));
        break;
      }
      if (this.#isHeld(seq, stream.head.seq)) break;
      this.#send(link, stream.branch, seq);
    }
    this.#watchStall();
    host.pumped();
  }

  /** Whether a batch waits in the spool for more that is sent with it. */
  #isHeld(seq: number, head: number): boolean {
    const { spool, freshnessMs, isAwaited, lastCallAt, host, now } = this.#o;
    this.#timers.clear('fresh');
    // A collapse of the backlog may have put fewer batches in the place of some.
    this.#releasedThrough = Math.min(this.#releasedThrough, head);
    if (!waitsInSpool(freshnessMs) || seq <= this.#releasedThrough) return false;
    const spooledAt = spool.read(seq)?.createdAt;
    const waitMs =
      spooledAt === undefined || isAwaited() ? 0 : holdMs(freshnessMs, spooledAt, spool.bytesAfter(seq - 1), now());
    if (waitMs > 0) {
      const lastCallMs = (lastCallAt() ?? Infinity) - now();
      this.#timers.set('fresh', Math.min(waitMs, Math.max(0, lastCallMs)), () => host.guarded(() => this.pump()));
      return true;
    }
    this.#releasedThrough = head;
    return false;
  }

  #send(link: ForwardLink, branch: string, seq: number): void {
    const { spool, counters, host, now } = this.#o;
    const batch = spool.read(seq);
    assert(batch !== null && !batch.open, `batch ${seq} is to be sent but is not in the spool`);
    const header = { branch, epoch: this.#outbox.epoch, seq, previous: batch.previous, digest: batch.digest };
    const sentAt = now();
    const slim = this.#slimMessage(header, batch, sentAt);
    const cut =
      slim === null
        ? this.#cuts.of(seq, () => cutFor(batch.bytes, this.#line.bytesPerSecond))
        : uncut(slim.body.length);
    const bytes = missingBytes(cut);
    if (this.#outbox.inFlightBatches === 0) this.#progressAt = sentAt;
    this.#line.sent(sentAt);
    const flight = this.#outbox.sent(seq, bytes);
    this.#pending += 1;
    counters.sentBatches += 1;
    counters.sentBytes += bytes;
    this.#rate.spend(bytes, sentAt);
    const finish = (outcome: SendOutcome): void => {
      if (link !== this.#link) return;
      this.#pending -= 1;
      // Otherwise there was a rewind: the batch will be sent again, which does no harm.
      if (this.#outbox.holds(seq, flight)) this.#finished(seq, outcome);
      else if (outcome.outcome === 'unknown' || outcome.outcome === 'returned') host.linkFailed(outcome.error);
      this.pump();
    };
    const wanted = (): boolean => link === this.#link && this.#outbox.holds(seq, flight);
    void this.#sendPieces(link, { header, batch, slim }, cut, wanted).then(
      outcome => host.guarded(() => finish(outcome)),
      (error: unknown) =>
        host.guarded(() => {
          throw error;
        }),
    );
  }

  /** A small batch in as few bytes as the head office understands; null: in the usual form. */
  #slimMessage(header: BatchHeader, batch: StoredBatch, now: number): OutgoingMessage | null {
    const { packing, spool, through } = this.#o;
    if (batch.pieces > 1 || this.#cuts.isCut(header.seq)) return null;
    const isHead = header.seq === spool.stream().head.seq;
    const message = packing.message(header, batch.piece(0), () => (isHead ? through() : null), now);
    return message !== null && cutFor(message.body.length, this.#line.bytesPerSecond).count === 1 ? message : null;
  }

  /**
   * Sends all missing messages of one batch. The batch is confirmed when every message is; if the outcome of one is not
   * known, neither is that of the batch. A batch that is in memory is sent at once, so that no other comes between its
   * pieces.
   * @param wanted false once the link is gone or everything is to be sent again
   * @throws TributaryError SPOOL_CORRUPT, SPOOL_IO
   */
  async #sendPieces(
    link: ForwardLink,
    { header, batch, slim }: Outgoing,
    cut: Cut,
    wanted: () => boolean,
  ): Promise<SendOutcome> {
    const sentAt = this.#o.now();
    // #watchStall ends a dead link; this deadline is for a library that never answers.
    const deadlineMs = 2 * this.timeoutMs();
    const body = slim?.body ?? (batch.pieces === 1 ? batch.piece(0) : null);
    const most = body === null ? PIECES_IN_FLIGHT : cut.count;
    const inFlight: Promise<SendOutcome>[] = [];
    const failures: SendOutcome[] = [];
    const send = async (index: number, piece: Buffer): Promise<SendOutcome> => {
      const message =
        slim ??
        (cut.count === 1 ? batchMessage(header, piece) : fragmentMessage(header, { index, count: cut.count }, piece));
      const outcome = await link.send(message, deadlineMs);
      if (outcome.outcome !== 'confirmed') failures.push(outcome);
      // After a failure the link may still be writing the piece.
      else if (body === null) release(piece);
      if (outcome.outcome === 'confirmed' && wanted()) {
        this.#o.host.guarded(() => this.#progressed(header.seq, cut, index, sentAt));
      }
      return outcome;
    };
    for (const index of [...cut.missing]) {
      if (inFlight.length >= most) await inFlight.shift();
      if (failures.length > 0 || !wanted()) break;
      if (body === null && index % PIECES_BETWEEN_COLLECTIONS === 0) releaseGarbage();
      // Read it here and not in `send`: a damaged spool must end this call, not a promise that nobody waits for yet.
      const piece = body?.subarray(index * cut.pieceBytes, (index + 1) * cut.pieceBytes) ?? batch.piece(index);
      inFlight.push(send(index, piece));
    }
    await Promise.all(inFlight);
    return failures[0] ?? (wanted() ? CONFIRMED : ABANDONED);
  }

  /** The broker has confirmed one more piece: there may be room for the next batch. */
  #progressed(seq: number, cut: Cut, index: number, sentAt: number): void {
    const at = this.#o.now();
    const bytes = bytesOf(cut, index);
    cut.missing.delete(index);
    this.#o.counters.confirmedBytes += bytes;
    this.#progressAt = at;
    this.#line.confirmed(bytes, at);
    this.#window.confirmed(bytes, at - sentAt);
    this.#outbox.progress(seq, bytes);
    // When it was the last piece, #sendPieces ends and #finished goes on.
    if (cut.missing.size > 0) this.pump();
  }

  #finished(seq: number, outcome: SendOutcome): void {
    const { counters, host } = this.#o;
    switch (outcome.outcome) {
      case 'confirmed':
        counters.confirmedBatches += 1;
        this.#cuts.confirmed(seq);
        this.#outbox.confirm(seq);
        if (this.#outbox.inFlightBatches === 0) this.#line.idle();
        host.batchConfirmed();
        break;
      case 'rejected':
        counters.refusals += 1;
        host.batchRefused(outcome.error);
        break;
      case 'returned':
      case 'unknown':
        host.linkFailed(outcome.error);
    }
  }

  /** Keeps one timer while batches are in flight: no confirm for too long means that the link is dead. */
  #watchStall(): void {
    if (this.#outbox.inFlightBatches === 0) {
      this.#timers.clear('stall');
      return;
    }
    if (this.#timers.has('stall')) return;
    const { host, now } = this.#o;
    const timeoutMs = this.timeoutMs(this.#outbox.oldestBytes);
    const check = (): void => {
      // An alarm at the broker is not a dead link: its heartbeats still show that it is there.
      if (this.#link?.blocked === true) this.#progressAt = now();
      if (now() - this.#progressAt < timeoutMs) this.#watchStall();
      else
        host.linkFailed(
          new TributaryError(
            'BROKER_UNCONFIRMED',
            `The broker has confirmed nothing for ${formatDuration(timeoutMs)}.`,
          ),
        );
    };
    this.#timers.set('stall', this.#progressAt + timeoutMs - now(), () => host.guarded(check));
  }
}
