/**
 * Versions of rows: for a table whose history the head office keeps, a batch says when each of its changes was
 * committed, and has the changes that later ones in the batch have replaced (`BatchBody.versions` and `replaced`).
 *
 * The batch's own changes stay as they are for every other table, each key once. Whoever keeps no history ignores the
 * rest. Changes of one commit and one key are one version: nobody has seen what was in between.
 */
import { assert } from '../errors.ts';

/** Tables of which a head office keeps a history. */
export const MAX_HISTORY_TABLES = 200;

/** Microseconds since 1970 of a time in ISO 8601 with up to six digits after the point. */
export function toMicroseconds(iso: string): number {
  const ms = Date.parse(`${iso.slice(0, 19)}Z`);
  assert(Number.isFinite(ms), `not a time: ${iso}`);
  const fraction = /\.(\d{1,6})/.exec(iso)?.[1] ?? '';
  return ms * 1000 + Number(fraction.padEnd(6, '0'));
}

/** The time as a DATETIME(6) in UTC. */
export function toDateTimeText(microseconds: number): string {
  const seconds = Math.floor(microseconds / 1_000_000);
  const fraction = String(microseconds - seconds * 1_000_000).padStart(6, '0');
  return `${new Date(seconds * 1000).toISOString().slice(0, 19).replace('T', ' ')}.${fraction}`;
}

/** The times of `commits`. */
export function timesOf(commits: readonly number[]): number[] {
  let time = 0;
  return commits.map(difference => (time += difference));
}
