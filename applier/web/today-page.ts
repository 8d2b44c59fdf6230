/**
 * The page Today: the status of all branches, with what samples say of the last hours and of the usual ones. Samples
 * change every five minutes, so what is read of them is kept for a minute, for all who look. The page answers without them
 * where the database does not: that is when people need it most.
 */
import { quoteString } from '../../shared/database/sql.ts';
import type { ReportSettings } from '../config.ts';
import { FLEET, sampleOf, samplesStatement, SPANS } from '../store/samples.ts';
import type { Sample } from '../store/samples.ts';
import type { TableBrowser } from './data.ts';
import type { ApplierStatus } from './status.ts';
import { isCompleteTo, isWithoutWindow, todayOf } from './today.ts';
import type { Today } from './today.ts';
import { NEEDED_SECONDS, rowsByHour } from './today-rows.ts';
import { usuallyBackAt } from './usual-hours.ts';
import { lastClosing } from './zone-time.ts';

const KEPT_MS = 60_000;
/** The rest of the page waits so long for samples. */
const WAIT_MS = 2_000;
const HOUR_S = SPANS[1].seconds;
/** Branches whose usual hours are looked up. */
const MAX_USUAL = 100;

type Timed = Sample & { readonly at: number };

interface Kept {
  readonly at: number;
  readonly fleet: readonly Timed[];
  /** By branch: those that were away. */
  readonly away: ReadonlyMap<string, readonly Timed[]>;
}

export class TodayPage {
  readonly #tables: Pick<TableBrowser, 'read'>;
  readonly #reports: ReportSettings;
  readonly #now: () => number;
  readonly #waitMs: number;
  #kept: Kept | null = null;
  #reading: Promise<Kept | null> | null = null;

  constructor(
    tables: Pick<TableBrowser, 'read'>,
    reports: ReportSettings,
    now: () => number = Date.now,
    waitMs = WAIT_MS,
  ) {
    this.#tables = tables;
    this.#reports = reports;
    this.#now = now;
    this.#waitMs = waitMs;
  }

  /** @param status of all branches */
  async read(status: ApplierStatus): Promise<Today> {
    const now = this.#now();
    const { timeZone, closingMinutes } = this.#reports;
    const closingAt = lastClosing(timeZone, closingMinutes, now);
    const { fleet, away } = await this.#samples(status, closingAt);
    const two = (value: number): string => String(value).padStart(2, '0');
    return todayOf({
      status,
      closing: {
        at: new Date(closingAt).toISOString(),
        time: `${two(Math.floor(closingMinutes / 60))}:${two(closingMinutes % 60)}`,
        timeZone,
      },
      usual: branch => usuallyBackAt(away.get(branch) ?? [], now),
      rows: rowsByHour(fleet, now, timeZone),
    });
  }

  async #samples(status: ApplierStatus, closingAt: number): Promise<Kept> {
    if (this.#kept !== null && this.#now() - this.#kept.at < KEPT_MS) return this.#kept;
    // Many pages ask at once, and the database is asked once.
    this.#reading ??= this.#readSamples(status, closingAt)
      .then(read => (this.#kept = read))
      .catch(() => null)
      .finally(() => (this.#reading = null));
    const read = await within(this.#waitMs, this.#reading);
    // What is not known is said so.
    return read ?? this.#kept ?? { at: this.#now(), fleet: [], away: new Map() };
  }

  async #readSamples({ branches }: ApplierStatus, closingAt: number): Promise<Kept> {
    const now = this.#now();
    const from = Math.floor(now / 1_000) - NEEDED_SECONDS;
    const fleet = (await this.#tables.read(samplesStatement(FLEET, HOUR_S, from))).map(sampleOf);
    const asked = branches
      .filter(branch => isWithoutWindow(branch) && !isCompleteTo(branch, closingAt))
      .slice(0, MAX_USUAL)
      .map(({ branch }) => branch);
    const away = new Map<string, Timed[]>();
    if (asked.length > 0) {
      const rows = await this.#tables.read(
        `SELECT branch, at, online_ms FROM tributary_sample
         WHERE branch IN (${asked.map(quoteString).join(', ')}) AND span = ${HOUR_S} AND at > ${from} ORDER BY at`,
      );
      for (const [branch = null, at = null, online = null] of rows) {
        const known = away.get(branch ?? '') ?? [];
        away.set(branch ?? '', known);
        known.push(sampleOf([at, null, null, null, online, '0', '0', '1']));
      }
    }
    return { at: now, fleet, away };
  }
}

/** What the work gives; null where that takes longer. */
async function within<T>(ms: number, work: Promise<T>): Promise<T | null> {
  const { promise, resolve } = Promise.withResolvers<null>();
  const timer = setTimeout(() => resolve(null), ms);
  try {
    return await Promise.race([work, promise]);
  } finally {
    clearTimeout(timer);
  }
}
