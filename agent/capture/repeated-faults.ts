/**
 * Faults that reading the same place again brings again, whatever was mended meanwhile: then the stream cannot be read on,
 * and only a new epoch helps. Met once, they may pass; met twice in the same way, they count.
 */
import { TributaryError } from '../../shared/errors.ts';
import type { ErrorCode } from '../../shared/errors.ts';

/**
 * Faults that stay in the binlog for good though a person has mended their cause: rows without their columns, rows
 * without a key.
 */
const LASTING_FAULTS: readonly ErrorCode[] = ['SOURCE_SETTING', 'SOURCE_TABLE'];
/** Not more often: an application that brings them about again and again is for a person to mend first. */
const LASTING_EPOCH_EVERY_MS = 10 * 60_000;
/** Times in a row after which what cannot be read is taken for another history. */
const MOST_UNREADABLE = 2;

export class RepeatedFaults {
  readonly #now: () => number;
  /** Times in a row that the last group taken could not even be read. */
  #unreadable = 0;
  /** The fault that the stream last stopped at though the server was set as it must be. */
  #stoppedAt: string | null = null;
  #lastingEpochAt = -Infinity;

  constructor(now: () => number) {
    this.#now = now;
  }

  /** Why the stream ended, as it is to be answered. @param verifying the last group taken was being read again */
  judge(fault: TributaryError, verifying: boolean): TributaryError {
    if (!verifying) this.#unreadable = 0;
    else if (fault.code === 'EVENT_MALFORMED') this.#unreadable += 1;
    if (this.#unreadable < MOST_UNREADABLE) return fault;
    // Another history can have anything at this offset, the middle of an event as well.
    this.#unreadable = 0;
    return new TributaryError(
      'SOURCE_POSITION_LOST',
      `no event begins where the last one taken was: ${fault.message}`,
      { cause: fault },
    );
  }

  /** Whether the stream stops at the same place as the last time. To be asked where the server itself is as it must be. */
  isLasting(fault: TributaryError): boolean {
    if (!LASTING_FAULTS.includes(fault.code)) return false;
    const again = this.#stoppedAt === fault.message;
    this.#stoppedAt = fault.message;
    if (!again || this.#now() - this.#lastingEpochAt < LASTING_EPOCH_EVERY_MS) return false;
    this.#lastingEpochAt = this.#now();
    this.#stoppedAt = null;
    return true;
  }
}
