/**
 * Recognises faults that come again whenever the same place is read again, whatever was repaired meanwhile. The stream
 * cannot be read any further then, and only a new epoch helps. A fault that comes once may pass; if the same fault comes
 * twice, it is one of these.
 */
import { TributaryError } from '../../shared/errors.ts';
import type { ErrorCode } from '../../shared/errors.ts';

/** Faults that stay in the binlog although a person has repaired their cause: rows without all columns or without a key. */
const LASTING_FAULTS: readonly ErrorCode[] = ['SOURCE_SETTING', 'SOURCE_TABLE'];
/** The shortest time between two such epochs: if an application keeps causing the faults, a person must repair it first. */
const MIN_LASTING_EPOCH_MS = 10 * 60_000;
/** If the last group cannot be read this many times in a row, the binlog is treated as another history. */
const MAX_UNREADABLE = 2;

export class RepeatedFaults {
  readonly #now: () => number;
  /** How many times in a row the last group taken could not be read at all. */
  #unreadable = 0;
  /** The fault at which the stream last stopped although the settings of the server were right. */
  #stoppedAt: string | null = null;
  #lastingEpochAt = -Infinity;

  constructor(now: () => number) {
    this.#now = now;
  }

  /** @param resuming whether the last group taken was being read again @returns the fault that capture must handle */
  judge(fault: TributaryError, resuming: boolean): TributaryError {
    if (!resuming) this.#unreadable = 0;
    else if (fault.code === 'EVENT_MALFORMED') this.#unreadable += 1;
    if (this.#unreadable < MAX_UNREADABLE) return fault;
    // Another history can have anything at this offset, even the middle of an event.
    this.#unreadable = 0;
    return new TributaryError(
      'SOURCE_POSITION_LOST',
      `No event begins where the last group taken was. ${fault.message}`,
      { cause: fault },
    );
  }

  /** Whether the stream stops at the same place as the last time. Must be asked only if the settings of the server are right. */
  isLasting(fault: TributaryError): boolean {
    if (!LASTING_FAULTS.includes(fault.code)) return false;
    const again = this.#stoppedAt === fault.message;
    this.#stoppedAt = fault.message;
    if (!again || this.#now() - this.#lastingEpochAt < MIN_LASTING_EPOCH_MS) return false;
    this.#lastingEpochAt = this.#now();
    this.#stoppedAt = null;
    return true;
  }
}
