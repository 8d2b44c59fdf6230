/**
 * How often a hello is worth its bytes. While something waits for an answer, one follows the other every few seconds;
 * otherwise they are rare. After batches, one tells promptly that they were sent, as long as there is credit: a busy branch
 * sends a batch a second. Pure: times are passed in, in milliseconds since 1970.
 */
import type { HelloFacts } from './hello.ts';

/** After the last batch was confirmed, a hello follows soon, so that the spool is pruned promptly. */
const PROMPT_MS = 200;
/** The shortest time between hellos that were brought forward. */
const SPACING_MS = 1_000;
/** So many hellos after batches may follow each other at that distance; one more is allowed with each CREDIT_EVERY_MS. */
const MOST_CREDIT = 4;
const CREDIT_EVERY_MS = 5_000;

/** Between two hellos while nothing is to be said or asked. */
const IDLE_MS = 30_000;
/** The same of a branch whose changes may be old: so many times as old, within a quarter of an hour. */
const IDLE_TIMES = 18;
const MOST_IDLE_MS = 15 * 60_000;

/** How long an idle branch says nothing. @param freshnessMs 0: its changes are sent at once */
export function idleHelloMs(freshnessMs: number): number {
  return Math.min(MOST_IDLE_MS, Math.max(IDLE_MS, IDLE_TIMES * freshnessMs));
}

/**
 * A hello is earlier or later by up to this part of its interval. The applier gets only the newest hello of a branch, so
 * of two machines with one identity that send in step it would never hear one.
 */
const JITTER = 0.25;

/** @param random in [0, 1) */
export function withJitter(ms: number, random: number): number {
  return ms * (1 - JITTER + 2 * JITTER * random);
}

/** The longest that `withJitter` makes of it, in whole seconds. */
export function longestSeconds(ms: number): number {
  return Math.ceil((ms * (1 + JITTER)) / 1_000);
}

/** How long a hello waits that was brought forward. */
export function soonMs(sinceLastMs: number): number {
  // A clock that was set back must not make it wait.
  return Math.max(PROMPT_MS, SPACING_MS - Math.max(0, sinceLastMs));
}

/** What of the facts the head office should know at once, as text that is compared. The other facts change all the time. */
export function newsOf({ capturedThrough, compare, report }: HelloFacts): string {
  const { state, error, source, snapshot, windows } = report;
  return JSON.stringify([capturedThrough === null, compare === true, state, error, source, snapshot, windows]);
}

/** The credit of hellos that follow batches. */
export class HelloCredit {
  #credit = MOST_CREDIT;
  #at = -Infinity;

  /** @returns whether there was some */
  take(now: number): boolean {
    // A clock that was set back must not keep it from filling.
    const elapsed = Math.max(0, now - this.#at);
    this.#credit = Math.min(MOST_CREDIT, this.#credit + elapsed / CREDIT_EVERY_MS);
    this.#at = now;
    if (this.#credit < 1) return false;
    this.#credit -= 1;
    return true;
  }
}
