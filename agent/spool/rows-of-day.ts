/**
 * How many changed rows the branch committed in each quarter of an hour of the last two days, for the chart on its page.
 * Counted in the transaction that stores a batch, so that neither a crash nor a repeated read counts a row twice. Rows
 * that a snapshot copies do not count.
 */
import { integer } from './spool-file.ts';
import type { SpoolFile } from './spool-file.ts';

export const SLOT_SECONDS = 900;
const KEPT_SLOTS = (48 * 3600) / SLOT_SECONDS;

/** Changed rows of a batch, and when the last of them was committed. */
export interface CommittedRows {
  readonly rows: number;
  /** ISO. */
  readonly at: string;
}

/** Changed rows of one quarter of an hour. */
export interface RowsOfSlot {
  /** Its beginning, in seconds since 1970. */
  readonly from: number;
  readonly rows: number;
}

export class RowsOfDay {
  readonly #file: SpoolFile;
  #lastSlot = -Infinity;

  constructor(file: SpoolFile) {
    this.#file = file;
  }

  /** Must be called inside a transaction. A time that a session has made up counts as now, or not at all. */
  add({ rows, at }: CommittedRows, now: number): void {
    const present = slotOf(now);
    const committed = slotOf(Date.parse(at));
    const slot = Number.isNaN(committed) ? present : Math.min(present, committed);
    if (rows === 0 || slot <= present - KEPT_SLOTS) return;
    this.#file.run(
      'INSERT INTO rows_of_day (slot, changed) VALUES (?, ?) ON CONFLICT (slot) DO UPDATE SET changed = changed + excluded.changed',
      slot,
      rows,
    );
    if (present === this.#lastSlot) return;
    this.#lastSlot = present;
    // After the clock was set back, too, there are never more than these.
    this.#file.run('DELETE FROM rows_of_day WHERE slot <= ? OR slot > ?', present - KEPT_SLOTS, present);
  }

  /** The slots with rows, oldest first. */
  slots(): RowsOfSlot[] {
    return this.#file
      .all('SELECT slot, changed FROM rows_of_day ORDER BY slot')
      .map(row => ({ from: integer(row, 'slot') * SLOT_SECONDS, rows: integer(row, 'changed') }));
  }
}

function slotOf(ms: number): number {
  return Math.floor(ms / (SLOT_SECONDS * 1000));
}
