/**
 * Decodes the batches that come next while the database writes those before them. Otherwise the database would wait for
 * the next rows after each transaction, for as long as it takes to decode them.
 *
 * Nothing is decided here: whether a batch may be applied, and what is wrong with it, shows when its turn comes.
 */
import { setImmediate as yieldToEventLoop } from 'node:timers/promises';
import { decodeBatch, sizeOf } from '../../shared/batch/decoder.ts';
import { bytesOf, rowsOf } from './unit.ts';
import type { Arrival, MergeLimits, Unit } from './unit.ts';

/** A larger body, one with a long value, is decoded in its turn, because much memory is in use until it is written. */
const MOST_BODY_BYTES = 1024 * 1024;

/**
 * Decodes batches for the unit after this one, within the same limits. The bodies of both together take no more memory
 * than one unit may.
 * @param next the batches after the unit, in order
 * @param isWanted false once the unit is written
 */
export async function decodeAhead(
  unit: Unit,
  next: readonly Arrival[],
  limits: MergeLimits,
  isWanted: () => boolean,
): Promise<void> {
  let memory = unit.arrivals.reduce((sum, { decoded }) => sum + (decoded === null ? 0 : sizeOf(decoded).held), 0);
  let rows = 0;
  let bytes = 0;
  for (const arrival of next.slice(0, limits.batches)) {
    await yieldToEventLoop();
    bytes += bytesOf(arrival);
    if (!isWanted() || bytesOf(arrival) > MOST_BODY_BYTES || bytes > limits.bytes || rows >= limits.rows) return;
    if (arrival.decoded === null) {
      try {
        arrival.decoded = decodeBatch(arrival.body);
      } catch {
        // It is decoded again in its turn, and refused then.
        return;
      }
    }
    memory += sizeOf(arrival.decoded).held;
    rows += rowsOf(arrival.decoded);
    if (memory > limits.memoryBytes) {
      arrival.decoded = null;
      return;
    }
  }
}
