/**
 * Values of the `tributary_*` tables, to and from TypeScript. Every value is checked when it is read: a wrong one is a
 * broken invariant, and the program does not guess.
 */
import { assert } from '../../shared/errors.ts';

/** A row of a result, with its columns by name. */
export type Row = Readonly<Record<string, unknown>>;

export function readText(row: Row, column: string): string {
  const value = row[column];
  assert(typeof value === 'string', `${column} is not text`);
  return value;
}

export function readTextOrNull(row: Row, column: string): string | null {
  return row[column] === null ? null : readText(row, column);
}

/** An integer that fits a JavaScript number. The driver may return large ones as strings. */
export function readCount(row: Row, column: string): number {
  const value = row[column];
  assert(typeof value === 'number' || typeof value === 'string', `${column} is not a number`);
  const count = Number(value);
  assert(Number.isSafeInteger(count) && count >= 0, `${column} is not a count: ${count}`);
  return count;
}

export function readBytes(row: Row, column: string): Buffer {
  const value = row[column];
  assert(value instanceof Buffer, `${column} is not bytes`);
  return value;
}

/** A JSON column; the driver may or may not have parsed it. */
export function readJson(row: Row, column: string): unknown {
  const value = row[column];
  if (typeof value !== 'string') return value;
  const parsed: unknown = JSON.parse(value);
  return parsed;
}

/** A JSON column that holds a list of strings. */
export function readNames(row: Row, column: string): string[] {
  const value = readJson(row, column);
  assert(Array.isArray(value), `${column} is not a list`);
  return value.map(item => {
    assert(typeof item === 'string', `${column} holds something else than text`);
    return item;
  });
}

/** SQL for a DATETIME(6) column in UTC as ISO 8601 text, whatever the driver does with dates. `column` is ours. */
export function isoColumn(column: string): string {
  return `DATE_FORMAT(${column}, '%Y-%m-%dT%H:%i:%s.%fZ') AS ${column}`;
}

const ISO_TIME = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(\.\d{1,6})?\d*Z$/;

/** An ISO 8601 time in UTC as MySQL writes a DATETIME(6); null when it is not one. */
export function toDateTime(iso: string | null): string | null {
  const match = iso === null ? null : ISO_TIME.exec(iso);
  if (iso === null || match === null) return null;
  const time = Date.parse(iso);
  // Date reads the 31st of February as the 3rd of March; MySQL refuses it.
  if (Number.isNaN(time) || !new Date(time).toISOString().startsWith(iso.slice(0, 10))) return null;
  return `${match[1] ?? ''} ${match[2] ?? ''}${match[3] ?? ''}`;
}
