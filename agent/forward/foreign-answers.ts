/**
 * What becomes of answers to hellos of another process. Two machines with one identity read one queue in turn, so each
 * might be handed the other's answers only, and neither would learn that it has been superseded. So what is not one's
 * own is given back to the queue, whose broker serves the other one next; if that one is busy it comes here again, so it
 * is given back some times more, with a pause. Then it is dropped: what an earlier process left has no owner any more.
 */

const TIMES = 5;
const PAUSE_MS = 100;
/** Answers that are remembered; the queue holds one, and each reader a few. */
const REMEMBERED = 16;

export class ForeignAnswers {
  /** How often each was given back, in order of arrival. */
  readonly #given = new Map<string, number>();

  /** How long to keep it before giving it back; null: never, it is to be dropped. */
  giveBackAfterMs(messageId: string | null): number | null {
    if (messageId === null) return null;
    const times = this.#given.get(messageId) ?? 0;
    if (times >= TIMES) return null;
    this.#given.set(messageId, times + 1);
    for (const oldest of this.#given.keys()) {
      if (this.#given.size <= REMEMBERED) break;
      this.#given.delete(oldest);
    }
    return times === 0 ? 0 : PAUSE_MS;
  }
}
