/**
 * How hard a batch is compressed. A branch writes some rows a second and its line is poor: there is time to spend on
 * fewer bytes. Behind a backlog of the binlog, or in a snapshot, there is none: batches follow one another at once.
 *
 * Of sales, level 8 makes an eighth fewer bytes than level 3 and takes some 1.2 µs more a row, 20 ms for a full batch;
 * level 9 brings nothing more, 19 another fifth for 25 µs a row. Pure: times are passed in.
 */

const HURRIED = 3;
const UNHURRIED = 8;
/** JSON that a branch writes a millisecond, up to which it is unhurried: the effort is then below 2 % of one processor. */
const UNHURRIED_BYTES_PER_MS = 1_500;

export class CompressionLevel {
  #at: number;

  constructor(now: number) {
    this.#at = now;
  }

  /** Of zstd, for a batch of about so much JSON that is complete now. */
  level(jsonBytes: number, now: number): number {
    // A clock that was set back is no reason to hurry for long: the next batch is measured from here.
    const sinceMs = now - this.#at;
    this.#at = now;
    return sinceMs * UNHURRIED_BYTES_PER_MS >= jsonBytes ? UNHURRIED : HURRIED;
  }
}
