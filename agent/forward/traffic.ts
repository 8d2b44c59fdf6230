/**
 * Bytes on the line by day, as a metered contract counts them: what connections to the broker have sent and received, TLS
 * and failed attempts included, TCP and IP not. Days are those of the machine's clock.
 *
 * The days are kept in a file beside the spool. After a crash the last minute may be missing from it.
 */
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import type { WireMeter } from '../../shared/broker/wire-meter.ts';

const FILE = 'traffic.json';
/** The present month, the one before, and some days. */
const MOST_DAYS = 70;
const SAVE_EVERY_MS = 60_000;

/** Bytes, both ways. */
export interface Bytes {
  readonly sent: number;
  readonly received: number;
}

export interface TrafficStatus {
  readonly today: Bytes;
  readonly month: Bytes;
}

const count = z.number().int().min(0);
const fileSchema = z.object({
  days: z.record(z.string().regex(/^\d{4}-\d\d-\d\d$/), z.tuple([count, count])),
});

const NOTHING: Bytes = { sent: 0, received: 0 };

export class Traffic {
  readonly #file: string;
  readonly #meter: Pick<WireMeter, 'sent' | 'received'>;
  readonly #now: () => number;
  /** By day, in ascending order. */
  #days: ReadonlyMap<string, Bytes>;
  #seen: Bytes = NOTHING;
  #savedAt: number;
  #isSaved = true;

  /** @param directory the spool's */
  constructor(directory: string, meter: Pick<WireMeter, 'sent' | 'received'>, now: () => number) {
    this.#file = join(directory, FILE);
    this.#meter = meter;
    this.#now = now;
    this.#savedAt = now();
    this.#days = readDays(this.#file);
  }

  /** Counts what was transferred since the last call. Called every few seconds, so that it counts for the right day. */
  note(): void {
    const { sent, received } = this.#meter;
    const grown = { sent: sent - this.#seen.sent, received: received - this.#seen.received };
    this.#seen = { sent, received };
    if (grown.sent + grown.received > 0) {
      const today = dayOf(this.#now());
      const days = new Map(this.#days).set(today, sum([this.#days.get(today) ?? NOTHING, grown]));
      this.#days = new Map([...days].sort(([a], [b]) => (a < b ? -1 : 1)).slice(-MOST_DAYS));
      this.#isSaved = false;
    }
    if (Math.abs(this.#now() - this.#savedAt) >= SAVE_EVERY_MS) this.save();
  }

  /** Stores the days. If it cannot, the spool cannot either, and says so. */
  save(): void {
    this.#savedAt = this.#now();
    if (this.#isSaved) return;
    const days = Object.fromEntries([...this.#days].map(([day, { sent, received }]) => [day, [sent, received]]));
    try {
      writeThrough(`${this.#file}.new`, JSON.stringify({ days }));
      renameSync(`${this.#file}.new`, this.#file);
      this.#isSaved = true;
    } catch {
      // The next attempt follows in a minute.
    }
  }

  status(): TrafficStatus {
    this.note();
    const today = dayOf(this.#now());
    const month = [...this.#days].filter(([day]) => day.slice(0, 7) === today.slice(0, 7));
    return { today: this.#days.get(today) ?? NOTHING, month: sum(month.map(([, bytes]) => bytes)) };
  }
}

/** Writes a file that is on the disk on return, so that a rename after a power cut never names an empty one. */
function writeThrough(file: string, text: string): void {
  const handle = openSync(file, 'w', 0o600);
  try {
    writeFileSync(handle, text);
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}

function sum(all: readonly Bytes[]): Bytes {
  return all.reduce((a, b) => ({ sent: a.sent + b.sent, received: a.received + b.received }), NOTHING);
}

/** Counts that cannot be read are begun anew: nothing depends on them. */
function readDays(file: string): ReadonlyMap<string, Bytes> {
  try {
    const { days } = fileSchema.parse(JSON.parse(readFileSync(file, 'utf8')));
    return new Map(Object.entries(days).map(([day, [sent, received]]) => [day, { sent, received }]));
  } catch {
    return new Map();
  }
}

/** By the machine's own calendar: `2026-12-01`. */
function dayOf(at: number): string {
  const date = new Date(at);
  const two = (part: number): string => String(part).padStart(2, '0');
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}
