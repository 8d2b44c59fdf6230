/**
 * The dictionaries that the head office has, and the batches that are packed with them (shared/broker/slim-batch.ts).
 *
 * A batch is offered: the head office keeps its text. When an answer names it, later batches are packed with it. The head
 * office has dictionaries in memory only. So another applier, or one that was restarted, cannot read some batches, wakes
 * the agent, and asks for them again. They are then packed without a dictionary.
 *
 * Rule: a batch is packed only with a dictionary that the last answer over this link names, and never one that was asked
 * for again. A hello that has no answer in time ends this: then none is used until the next answer.
 */
import { pack } from '../../shared/batch/packing.ts';
import { storedText } from '../../shared/batch/stored-frame.ts';
import type { BatchHeader } from '../../shared/batch/batch.ts';
import { grown, MOST_DICTIONARY_BYTES, MOST_DISTANCE, slimMessage } from '../../shared/broker/slim-batch.ts';
import type { Dictionary } from '../../shared/broker/slim-batch.ts';
import type { OutgoingMessage } from '../../shared/broker/amqp.ts';
import { KNOWS_SLIM } from '../../shared/protocol.ts';
import type { Answer } from '../../shared/protocol.ts';

/** A larger body gains nothing by a short header. */
const MOST_SLIM_BYTES = 32 * 1024;
/** After so long a pause there is time to pack thoroughly. */
const QUIET_MS = 50;
/** How often a batch is offered, and how long a dictionary is good: ids and dates go on. */
const OFFER_EVERY_MS = 60_000;
/** A smaller dictionary holds hardly more than a marker: the next one is offered at once. */
const ENOUGH_BYTES = 2 * 1024;
const GOOD_FOR_MS = 3_600_000;
/** A dictionary is of use for a text if it saves more than this part. */
const WORTH = 0.3;

export class Packing {
  #isUnderstood = false;
  /** An answer over the present link has named the dictionary, and no hello has timed out since: meanwhile the applier may have been restarted. */
  #isSure = false;
  #kept: (Dictionary & { readonly at: number }) | null = null;
  #offered: Dictionary | null = null;
  #offeredAt = -Infinity;
  #packedAt = -Infinity;

  /** Whether the head office is known to read slim batches. */
  get isUnderstood(): boolean {
    return this.#isUnderstood;
  }

  /** Whether an answer should soon say that the head office has a dictionary that is of use. */
  get isOffering(): boolean {
    return this.#offered !== null && this.#isPoor;
  }

  get #isPoor(): boolean {
    return this.#kept === null || this.#kept.bytes.length < ENOUGH_BYTES;
  }

  /** An answer to a hello of the present epoch was acted on. */
  answered({ capabilities = [], dictionaries = [], received, resend }: Answer, now: number): void {
    this.#isUnderstood = capabilities.includes(KNOWS_SLIM);
    this.#isSure = true;
    if (this.#kept !== null && !dictionaries.includes(this.#kept.seq)) this.#kept = null;
    if (this.#offered !== null && dictionaries.includes(this.#offered.seq)) {
      this.#kept = { ...this.#offered, at: now };
      this.#offered = null;
    } else if (this.#offered !== null && received.seq >= this.#offered.seq) {
      this.#offered = null;
    }
    if (resend !== null) this.forget();
  }

  /** There is a new link. */
  connected(): void {
    this.#isSure = false;
  }

  /** A hello had no answer in time: the applier may have been restarted, and have lost what the last answer named. */
  unanswered(): void {
    this.#isSure = false;
  }

  /** Batches are sent again, or those of another epoch: nothing is known of dictionaries. */
  forget(): void {
    this.#kept = null;
    this.#offered = null;
  }

  /**
   * The slim message of a batch. @param body all of it
   * @param through see SlimBatch
   * @returns null: it is to be sent in the usual form
   */
  message(header: BatchHeader, body: Buffer, through: () => string | null, now: number): OutgoingMessage | null {
    if (!this.#isUnderstood || body.length > MOST_SLIM_BYTES) return null;
    const { seq } = header;
    if (this.#kept !== null && seq - this.#kept.seq > MOST_DISTANCE) this.#kept = null;
    // It comes before the dictionary: it is sent again.
    const dictionary = this.#kept !== null && this.#isSure && this.#kept.seq < seq ? this.#kept : null;
    const text = storedText(body);
    const keep = text !== null && this.#mayOffer(seq, now) && this.#isWorth(text, dictionary, now);
    const effort = Math.abs(now - this.#packedAt) < QUIET_MS ? 'quick' : 'thorough';
    this.#packedAt = now;
    const message = slimMessage({ header, body, keep, through: through() }, dictionary, effort);
    if (message !== null && keep) {
      this.#offered = grown(dictionary, seq, text);
      this.#offeredAt = now;
    }
    return message;
  }

  #mayOffer(seq: number, now: number): boolean {
    if (this.#offered !== null || (this.#kept !== null && this.#kept.seq >= seq)) return false;
    // A clock that was set back must not keep it from offering.
    return Math.abs(now - this.#offeredAt) >= OFFER_EVERY_MS || this.#isPoor;
  }

  /** Whether the text would make a better dictionary. */
  #isWorth(text: Buffer, dictionary: Dictionary | null, now: number): boolean {
    if (text.length > MOST_DICTIONARY_BYTES) return false;
    if (dictionary === null || this.#kept === null || Math.abs(now - this.#kept.at) > GOOD_FOR_MS) return true;
    // The more rows it has, the better.
    if (dictionary.bytes.length + text.length <= MOST_DICTIONARY_BYTES) return true;
    const alone = pack(text, null, 'quick').length;
    return pack(text, dictionary.bytes, 'quick').length > alone * (1 - WORTH);
  }
}
