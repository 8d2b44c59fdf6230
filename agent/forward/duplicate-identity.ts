/**
 * Detects from the answers that another machine uses this branch's identity. The head office says `displaced` when the
 * hello before came from another process. The first answer says so after a restart, and one answer may say so after the
 * head office was restored from a backup. Two within DUPLICATE_WINDOW_MS mean a second machine. Pure: times are passed
 * in.
 */
import type { Answer } from '../../shared/protocol.ts';

/** As long as several hellos: while there are two machines, most answers say `displaced`. */
const DUPLICATE_WINDOW_MS = 60_000;

export class DuplicateIdentityWatch {
  #answered = false;
  #lastAt = -Infinity;
  #since: number | null = null;

  /** @returns whether another machine was detected that was not known before */
  answered(answer: Answer, now: number): boolean {
    const first = !this.#answered;
    this.#answered = true;
    if (first || !answer.displaced) return false;
    const known = this.since(now) !== null;
    const again = now - this.#lastAt < DUPLICATE_WINDOW_MS;
    this.#lastAt = now;
    if (known || !again) return false;
    this.#since = now;
    return true;
  }

  /** Since when there has been another machine; null: there is none now. */
  since(now: number): number | null {
    if (now - this.#lastAt >= DUPLICATE_WINDOW_MS) this.#since = null;
    return this.#since;
  }
}
