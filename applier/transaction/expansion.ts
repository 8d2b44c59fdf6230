/**
 * Limits how much larger a branch's batches may be at the head office than on the wire. A batch of 23 KiB can hold 189
 * MiB of rows. Without a limit, even a slow link could fill the head office's disk.
 *
 * Up to FREE_RATIO times the bytes on the wire are free. Batches of sales become 16 times as large, so this never slows
 * a first snapshot. Bytes beyond that count against the branch's hourly quota, which may be used at once. Pure: times
 * are milliseconds of a monotonic clock.
 */
import type { BatchBody, Change, TableDescription } from '../../shared/batch/batch.ts';
import { sizeOf } from '../../shared/batch/decoder.ts';
import { columnType } from '../../shared/batch/column-type.ts';
import { TributaryError } from '../../shared/errors.ts';
import { formatBytes, formatDuration } from '../../shared/units.ts';

export const FREE_RATIO = 64;

/** The bytes of a row in InnoDB besides the branch's columns: header, branch, batch number and time. */
const ROW_BYTES = 64;
/** The most bytes of a value that is neither text nor bytes; a DATETIME(6) has this size. */
const VALUE_BYTES = 8;
const HOUR_MS = 3_600_000;

/** The approximate bytes that a decoded body takes at the head office, with every copy of a row and the overhead. */
export function writtenBytes(body: BatchBody): number {
  const perRow = body.tables.map(rowBytes);
  const ofRows = (change: Change): number => {
    if (!('values' in change)) return 0;
    const rows = 'copies' in change ? change.copies.reduce((sum, copies) => sum + copies, 0) : change.rows;
    return rows * (perRow[change.table] ?? 0);
  };
  // A history takes as much again, and what was replaced.
  const kept = new Set(body.versions?.map(({ table }) => table));
  const versions = body.changes.filter(change => 'values' in change && kept.has(change.table));
  const all = [...body.changes, ...versions, ...(body.replaced ?? [])];
  return all.reduce((sum, change) => sum + ofRows(change), sizeOf(body).unpacked);
}

function rowBytes({ columns }: TableDescription): number {
  return columns.reduce((sum, { type }) => sum + fixedBytes(type), ROW_BYTES);
}

/** The bytes that every value of a type takes, however short it is on the wire. */
function fixedBytes(text: string): number {
  const type = columnType(text);
  if (type.base === 'decimal') return Math.ceil(type.precision / 2);
  return type.base === 'char' || type.base === 'binary' ? type.length : VALUE_BYTES;
}

/** The quota of one branch. */
export class Expansion {
  readonly #bytesPerHour: number;
  /** The used part of the quota at the time `#at`. */
  #spent = 0;
  #at = 0;

  /** @param bytesPerHour 0: no limit */
  constructor(bytesPerHour: number) {
    this.#bytesPerHour = bytesPerHour;
  }

  /** Counts bytes that were written. */
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

  /** @throws BRANCH_THROTTLED while the quota is used up */
  requireRoom(nowMs: number): void {
    const dueInMs = this.dueInMs(nowMs);
    if (dueInMs === 0) return;
    throw new TributaryError(
      'BRANCH_THROTTLED',
      `The branch's rows have used up its quota of ${formatBytes(this.#bytesPerHour)} an hour. It goes on in ${formatDuration(dueInMs)}.`,
    );
  }

  #spentAt(nowMs: number): number {
    return Math.max(0, this.#spent - ((nowMs - this.#at) * this.#bytesPerHour) / HOUR_MS);
  }
}
