/**
 * How tests wait: for what must come, until it is there. How long that takes is the machine's business, so no test asserts
 * it (test/unit/no-elapsed-time.test.ts); the deadline only ends a test that would hang.
 */
import { setTimeout as sleep } from 'node:timers/promises';

/** Long enough for a very busy machine. */
export const PATIENCE_MS = 180_000;

export interface UntilOptions {
  /** Pause between two looks, in milliseconds. */
  readonly everyMs?: number;
  /** Told when it does not come. */
  readonly detail?: () => string | Promise<string>;
}

/** Resolves once the condition holds. @throws with the description, if it never does */
export async function until(
  what: string,
  holds: () => boolean | Promise<boolean>,
  { everyMs = 25, detail }: UntilOptions = {},
): Promise<void> {
  const end = Date.now() + PATIENCE_MS;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`waited in vain for ${what}: ${(await detail?.()) ?? ''}`);
    await sleep(everyMs);
  }
}
