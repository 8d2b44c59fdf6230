/** A pause that an abort ends early. */
import { setTimeout as sleep } from 'node:timers/promises';

/** Resolves after the time, or at once when aborted: the caller looks at the signal. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await sleep(ms, undefined, { signal });
  } catch {
    // Nothing else ends it early.
  }
}
