/**
 * How hard a batch is compressed. A branch usually writes a few rows a second over a poor link, so there is time to save
 * bytes. With a backlog of the binlog, or in a snapshot, there is none: one batch follows another at once.
 *
 * For sales rows, level 8 makes an eighth fewer bytes than level 3 and takes about 1.2 µs more a row, 20 ms for a full
 * batch. Level 9 saves nothing more; level 19 saves another fifth for 25 µs a row. Pure: times are passed in.
 */

const FAST = 3;
const THOROUGH = 8;
/** Up to this much JSON a millisecond, compression is thorough: it then takes less than 2 % of one processor. */
const THOROUGH_BYTES_PER_MS = 1_500;

export class CompressionLevel {
  #at: number;

  constructor(now: number) {
    this.#at = now;
  }

  /** The zstd level for a batch with about this much JSON that is complete now. */
  level(jsonBytes: number, now: number): number {
    // If the clock was set back, only this batch is compressed fast: the next one is measured from here.
    const sinceMs = now - this.#at;
    this.#at = now;
    return sinceMs * THOROUGH_BYTES_PER_MS >= jsonBytes ? THOROUGH : FAST;
  }
}
