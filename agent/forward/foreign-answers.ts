/**
 * Answers to hellos of another process. Two machines with one identity read one queue in turn. Each might get only the
 * other's answers, and neither would learn that it was superseded. So a foreign answer goes back to the queue, and the
 * broker gives it to the other machine next. If that one is busy, the answer comes here again; so it is requeued some
 * more times, with a pause. Then it is dropped, because it may be the answer to a process that has ended.
 */

const MAX_REQUEUES = 5;
const PAUSE_MS = 100;
/** Answers that are remembered. The queue holds one, and each reader a few. */
const REMEMBERED = 16;

export class ForeignAnswers {
  /** How often each was requeued, in order of arrival. */
  readonly #requeued = new Map<string, number>();

  /** How long to keep the answer before it is requeued; null: drop it. */
  requeueAfterMs(messageId: string | null): number | null {
    if (messageId === null) return null;
    const times = this.#requeued.get(messageId) ?? 0;
    if (times >= MAX_REQUEUES) return null;
    this.#requeued.set(messageId, times + 1);
    for (const oldest of this.#requeued.keys()) {
      if (this.#requeued.size <= REMEMBERED) break;
      this.#requeued.delete(oldest);
    }
    return times === 0 ? 0 : PAUSE_MS;
  }
}
