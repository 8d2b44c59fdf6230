/**
 * When to wake a branch's agent, so that it says hello at once. Pure: the caller says what time it is.
 *
 * Invariant: a wake that comes too early after the one before is deferred, not dropped, unless a hello is answered
 * meanwhile.
 */

/** The time between two attempts to wake an agent. */
export const WAKE_EVERY_MS = 5_000;

export class AgentWakes {
  /** By performance.now(). */
  #nextAt = 0;
  #isDue = false;
  /** The requests for which an applier has woken the agent that is not served its messages. */
  #wokenFor: string | null = null;

  /** @returns whether to wake it now; otherwise it is due later */
  ask(now: number): boolean {
    this.#isDue = now < this.#nextAt;
    if (this.#isDue) return false;
    this.#nextAt = now + WAKE_EVERY_MS;
    return true;
  }

  /** @returns whether to wake it now, because it was too early before */
  takeDue(now: number): boolean {
    return this.#isDue && this.ask(now);
  }

  /**
   * For requests that no answer had yet. An applier that does not get the branch's hellos never sees that they were
   * answered: it wakes once for the same requests.
   * @returns whether to wake it now
   */
  askFor(requests: readonly string[], isActive: boolean, now: number): boolean {
    const key = requests.toSorted((a, b) => (a < b ? -1 : 1)).join(' ');
    if (!isActive && key === this.#wokenFor) return false;
    const isNow = now >= this.#nextAt && this.ask(now);
    if (isNow) this.#wokenFor = isActive ? null : key;
    return isNow;
  }

  /** A hello is being answered: it is the one that was wanted. What is missed from now on needs another one. */
  answering(): void {
    this.#isDue = false;
  }
}
