/**
 * Notices from the answers that another machine talks under this branch's identity: the head office says `displaced`
 * when the hello before was another process's. Once is the restart of this process, and once may be a head office
 * restored from a backup; again within TOGETHER_MS is a second machine. Pure: times are passed in.
 */
import type { Answer } from '../../shared/protocol.ts';

/** Some hellos long: while there are two machines, most answers tell of it. */
const TOGETHER_MS = 60_000;

export class DuplicateIdentityWatch {
  #answered = false;
  #lastAt = -Infinity;
  #since: number | null = null;

  /** @returns true when the other machine is news */
  answered(answer: Answer, now: number): boolean {
    const first = !this.#answered;
    this.#answered = true;
    if (first || !answer.displaced) return false;
    const known = this.since(now) !== null;
    const again = now - this.#lastAt < TOGETHER_MS;
    this.#lastAt = now;
    if (known || !again) return false;
    this.#since = now;
    return true;
  }

  /** Since when there has been another one; null: none now. */
  since(now: number): number | null {
    if (now - this.#lastAt >= TOGETHER_MS) this.#since = null;
    return this.#since;
  }
}
