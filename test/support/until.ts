/**
 * How tests wait: for what must come, until it is there. How long that takes is the machine's business, so no test asserts
 * it (test/unit/no-elapsed-time.test.ts); the deadline only ends a test that would hang.
 */
import { setTimeout as sleep } from 'node:timers/promises';

/** Long enough for a very busy machine. */
export const PATIENCE_MS = 180_000;

/** From one look to the next: a look costs both programs something, so what takes long is looked at less often. */
const EVERY_MS = { least: 25, most: 100 } as const;
const SHARE_OF_WAIT = 1 / 20;

export interface UntilOptions {
  /** Pause between two looks, in milliseconds: for what passes again. Default: longer and longer ones. */
  readonly everyMs?: number;
  /** Told when it does not come. */
  readonly detail?: () => string | Promise<string>;
}

/** Resolves once the condition holds. @throws with the description, if it never does */
export async function until(
  what: string,
  holds: () => boolean | Promise<boolean>,
  { everyMs, detail }: UntilOptions = {},
): Promise<void> {
  const begin = Date.now();
  while (!(await holds())) {
    const waited = Date.now() - begin;
    if (waited > PATIENCE_MS) throw new Error(`waited in vain for ${what}: ${(await detail?.()) ?? ''}`);
    await sleep(everyMs ?? Math.min(Math.max(EVERY_MS.least, waited * SHARE_OF_WAIT), EVERY_MS.most));
  }
}
