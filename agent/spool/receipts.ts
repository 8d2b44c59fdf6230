/**
 * When the head office received what: a batch is kept for a while after that. One receipt is kept for each slot of time,
 * so that there are never more than about RECEIPT_SLOTS of them.
 */
import type { SpoolFile } from './spool-file.ts';

const RECEIPT_SLOTS = 200;

export class Receipts {
  readonly #file: SpoolFile;
  readonly #keepMs: number;
  readonly #slotMs: number;

  /** @param keepMs how long a batch is kept after its receipt */
  constructor(file: SpoolFile, keepMs: number) {
    this.#file = file;
    this.#keepMs = keepMs;
    this.#slotMs = Math.max(1, Math.ceil(keepMs / RECEIPT_SLOTS));
  }

  /** The head office has everything up to `receivedSeq`, which may have gone down. Must be called inside a transaction. */
  note(receivedSeq: number, now: number): void {
    // If the mark has gone down, receipts above it no longer say since when the head office has those batches.
    this.#file.run('DELETE FROM receipts WHERE received_seq > ?', receivedSeq);
    this.#file.run(
      `INSERT INTO receipts (slot, received_seq) VALUES (?, ?)
       ON CONFLICT (slot) DO UPDATE SET received_seq = excluded.received_seq`,
      Math.ceil(now / this.#slotMs),
      receivedSeq,
    );
  }

  /** The last batch that was received long enough ago; null: there is none. */
  expired(now: number): number | null {
    const row = this.#file.get('SELECT max(received_seq) AS seq FROM receipts WHERE slot <= ?', this.#expiredSlot(now));
    const seq = row?.['seq'];
    return typeof seq === 'number' ? seq : null;
  }

  /** Forgets the receipts of batches that were received long enough ago. */
  forgetExpired(now: number): void {
    this.#file.run('DELETE FROM receipts WHERE slot <= ?', this.#expiredSlot(now));
  }

  /** The last slot that lies wholly before the time that is kept. */
  #expiredSlot(now: number): number {
    return Math.floor((now - this.#keepMs) / this.#slotMs);
  }
}
