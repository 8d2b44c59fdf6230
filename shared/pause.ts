/** A pause that an abort ends early. */
import { setTimeout as sleep } from 'node:timers/promises';

/** Resolves after the time, or at once when aborted. The caller checks the signal. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await sleep(ms, undefined, { signal });
  } catch {
    // Only an abort ends it early.
  }
}
