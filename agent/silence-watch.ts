/** Notices a head office that does not answer although the broker can be reached. Pure. */
import type { ForwarderStatus } from './forward/forwarder.ts';

/** The head office answers a hello within seconds. Hellos themselves may be rare (hello-pace.ts). What is in flight may delay it, on a slow link. */
const SILENT_AFTER_MS = 90_000;
const SLOWEST_BYTES_PER_SECOND = 8 * 1024;
/** A broker that was not connected for so long cannot be reached, so that nothing is known of the head office. */
const UNREACHED_AFTER_MS = 120_000;

type LinkFacts = Pick<
  ForwarderStatus,
  'connected' | 'windowOpen' | 'syncing' | 'lastHelloAt' | 'lastAnswerAt' | 'inFlightBytes'
>;

export class SilenceWatch {
  /**
   * When nothing was owed by the head office for the last time: it had answered the last hello. Or when the broker was
   * reached without an answer yet. Null: not reached.
   */
  #heardAt: number | null = null;
  #connectedAt = 0;
  #silentSince: number | null = null;

  /** Since when the head office does not answer; null: it does, or the broker cannot be reached. */
  get silentSince(): number | null {
    return this.#silentSince;
  }

  /** Call this every few seconds. */
  look({ connected, windowOpen, syncing, lastHelloAt, lastAnswerAt, inFlightBytes }: LinkFacts, now: number): void {
    if (connected) {
      this.#connectedAt = now;
      this.#heardAt ??= now;
    }
    const isReached = (windowOpen || syncing) && now - this.#connectedAt < UNREACHED_AFTER_MS;
    if (!isReached) this.#heardAt = null;
    if (this.#heardAt !== null) {
      const isAnswered = lastAnswerAt !== null && lastAnswerAt >= (lastHelloAt ?? 0);
      this.#heardAt = isAnswered ? now : Math.max(this.#heardAt, lastAnswerAt ?? 0);
    }
    const patienceMs = SILENT_AFTER_MS + (inFlightBytes / SLOWEST_BYTES_PER_SECOND) * 1_000;
    this.#silentSince = this.#heardAt !== null && now - this.#heardAt > patienceMs ? this.#heardAt : null;
  }
}
