/**
 * How much a branch's batches become at the head office, against what came over the wire. A batch of 23 KiB may hold
 * 189 MiB of rows: left alone, a link as slow as a modem's would fill the head office's disk.
 *
 * Up to FREE_RATIO times what came over the wire is free, however much it is: agents' batches of sales become 16 times
 * as much, so a first copy of whatever size is not slowed by this. What is beyond, of rows that compress far better,
 * counts against the branch's quota of an hour, which may be spent at once. Pure; times are milliseconds of a clock
 * that does not go back.
 */
import type { BatchBody, Change, TableDescription } from '../../shared/batch/batch.ts';
import { sizeOf } from '../../shared/batch/decoder.ts';
import { columnType } from '../../shared/batch/column-type.ts';
import { TributaryError } from '../../shared/errors.ts';
import { formatBytes, formatDuration } from '../../shared/units.ts';

export const FREE_RATIO = 64;

/** What a row takes in InnoDB beside its columns: its header, the branch, the number of its batch, the time. */
const ROW_BYTES = 64;
/** What a value takes that is no text or bytes, at most; a DATETIME(6) takes so much. */
const VALUE_BYTES = 8;
const HOUR_MS = 3_600_000;

/** Bytes that a decoded body takes at the head office, about: its values, each copy of a row, and what a row takes besides. */
export function writtenBytes(body: BatchBody): number {
  const perRow = body.tables.map(rowBytes);
  const ofRows = (change: Change): number => {
    if (!('values' in change)) return 0;
    const rows = 'copies' in change ? change.copies.reduce((sum, copies) => sum + copies, 0) : change.rows;
    return rows * (perRow[change.table] ?? 0);
  };
  return body.changes.reduce((sum, change) => sum + ofRows(change), sizeOf(body).unpacked);
}

function rowBytes({ columns }: TableDescription): number {
  return columns.reduce((sum, { type }) => sum + fixedBytes(type), ROW_BYTES);
}

/** What every value of a type takes, however short it is on the wire. */
function fixedBytes(text: string): number {
  const type = columnType(text);
  if (type.base === 'decimal') return Math.ceil(type.precision / 2);
  return type.base === 'char' || type.base === 'binary' ? type.length : VALUE_BYTES;
}

/** One branch's account. */
export class Expansion {
  readonly #bytesPerHour: number;
  /** What was spent, and has not come back yet, then. */
  #spent = 0;
  #at = 0;

  /** @param bytesPerHour 0: no limit */
  constructor(bytesPerHour: number) {
    this.#bytesPerHour = bytesPerHour;
  }

  /** Counts what was written. */
  charge(nowMs: number, wireBytes: number, written: number): void {
    this.#spent = this.#spentAt(nowMs) + Math.max(0, written - FREE_RATIO * wireBytes);
    this.#at = nowMs;
  }

  /** Milliseconds until more may be written; 0: now. */
  dueInMs(nowMs: number): number {
    if (this.#bytesPerHour === 0) return 0;
    const over = this.#spentAt(nowMs) - this.#bytesPerHour;
    return over <= 0 ? 0 : Math.ceil((over * HOUR_MS) / this.#bytesPerHour);
  }

  /** @throws BRANCH_THROTTLED while the quota is spent */
  requireRoom(nowMs: number): void {
    const dueInMs = this.dueInMs(nowMs);
    if (dueInMs === 0) return;
    throw new TributaryError(
      'BRANCH_THROTTLED',
      `Its rows have taken its ${formatBytes(this.#bytesPerHour)} of an hour; it goes on in ${formatDuration(dueInMs)}.`,
    );
  }

  #spentAt(nowMs: number): number {
    return Math.max(0, this.#spent - ((nowMs - this.#at) * this.#bytesPerHour) / HOUR_MS);
  }
}
