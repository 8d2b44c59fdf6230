/** How long the spool's room lasts at today's rate. Pure. */

const BUCKET_MS = 60_000;
const DAY_MS = 86_400_000;

/** Bytes written in each minute of the last day: at most 1,441 numbers. */
export class RateOfDay {
  readonly #buckets = new Map<number, number>();
  readonly #startedAt: number;

  constructor(now: number) {
    this.#startedAt = now;
  }

  add(bytes: number, now: number): void {
    const bucket = Math.floor(now / BUCKET_MS);
    this.#buckets.set(bucket, (this.#buckets.get(bucket) ?? 0) + bytes);
    for (const old of this.#buckets.keys()) {
      if ((bucket - old) * BUCKET_MS <= DAY_MS) break;
      this.#buckets.delete(old);
    }
  }

  /** Bytes per second over the last day or since the start, but over a minute at least. */
  bytesPerSecond(now: number): number {
    const since = Math.max(this.#startedAt, now - DAY_MS);
    let bytes = 0;
    for (const [bucket, sum] of this.#buckets) if ((bucket + 1) * BUCKET_MS > since) bytes += sum;
    return (bytes * 1000) / Math.max(BUCKET_MS, now - since);
  }
}

/** Seconds until the room is used up; null: nothing is written, or it takes more than a year. */
export function secondsUntilFull(roomBytes: number, bytesPerSecond: number): number | null {
  if (bytesPerSecond <= 0) return null;
  const seconds = Math.max(0, roomBytes) / bytesPerSecond;
  return seconds > 365 * 86_400 ? null : Math.round(seconds);
}
