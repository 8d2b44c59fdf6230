/**
 * Checks the values of a column of a batch against the form that batch.ts describes for each kind.
 *
 * The range of a value is not checked here, but by the server in strict mode.
 */
import { wireKind } from './column-type.ts';
import type { ColumnType } from './column-type.ts';
import { LongValue } from './long-value.ts';
import { isTypedJson, isWellTyped } from './typed-json.ts';

const INTEGER = /^-?[1-9]\d{15,19}$/;
const DECIMAL = /^-?\d{1,65}(\.\d{1,38})?$/;
const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/;
const DATE = /^\d{4}-\d\d-\d\d$/;
/** Patterns by the number of fractional digits. */
const TIMES = [0, 1, 2, 3, 4, 5, 6].map(f => new RegExp(`^-?\\d{2,3}:\\d\\d:\\d\\d${fraction(f)}$`));
const DATETIMES = [0, 1, 2, 3, 4, 5, 6].map(
  f => new RegExp(`^\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d${fraction(f)}$`),
);

function fraction(digits: number): string {
  return digits === 0 ? '' : `\\.\\d{${digits}}`;
}

/**
 * The index of the first value that is not of the type's wire kind; −1 if all are.
 * @param surrogates whether texts may hold lone surrogates and must be checked
 */
export function findBadValue(
  values: readonly unknown[],
  type: ColumnType,
  surrogates: boolean,
  nullable: boolean,
): number {
  switch (wireKind(type)) {
    case 'integer':
      // The server reads a YEAR between 1 and 99 as the short form of another year.
      if (type.base === 'year') return findBad(values, nullable, v => v === 0 || isIn(v, 1901, 2155));
      return findBad(values, nullable, v => Number.isSafeInteger(v) || (typeof v === 'string' && INTEGER.test(v)));
    case 'decimal':
      return findBad(values, nullable, v => typeof v === 'string' && DECIMAL.test(v));
    case 'float':
      // A number beyond the range of float32 would become infinity.
      return findBad(values, nullable, v => v === '-0' || (isReal(v) && Number.isFinite(Math.fround(v))));
    case 'double':
      return findBad(values, nullable, v => v === '-0' || isReal(v));
    case 'temporal': {
      const form = temporalForm(type);
      return findBad(values, nullable, v => typeof v === 'string' && form.test(v));
    }
    case 'bytes':
      return findBad(values, nullable, v =>
        typeof v === 'string' ? v.length % 4 === 0 && BASE64.test(v) : isLong(v, nullable, isBase64),
      );
    case 'json':
      return findBad(values, nullable, v =>
        typeof v === 'string'
          ? !(surrogates && !v.isWellFormed()) && (!isTypedJson(v) || isWellTyped(v))
          : isLong(v, nullable, isDocument),
      );
    case 'text': {
      const isText = (v: unknown): boolean => typeof v === 'string' || isLong(v, nullable, isWellFormed);
      if (surrogates) return findBad(values, nullable, v => isText(v) && (typeof v !== 'string' || v.isWellFormed()));
      return findBad(values, nullable, isText);
    }
  }
}

/** Whether a value is a long one outside the key, with valid pieces. */
function isLong(value: unknown, nullable: boolean, isGood: (pieces: Iterable<string>) => boolean): boolean {
  if (!(value instanceof LongValue) || !nullable) return false;
  try {
    return isGood(value.pieces());
  } catch (error) {
    // A JSON string with an unknown escape or invalid UTF-8.
    if (error instanceof SyntaxError) return false;
    throw error;
  }
}

function isBase64(pieces: Iterable<string>): boolean {
  let length = 0;
  let ended = false;
  for (const piece of pieces) {
    if (ended || !BASE64.test(piece)) return false;
    length += piece.length;
    ended = piece.endsWith('=');
  }
  return length % 4 === 0;
}

function isDocument(pieces: Iterable<string>): boolean {
  const whole: string[] = [];
  for (const piece of pieces) {
    if (!piece.isWellFormed()) return false;
    if (whole.length > 0 || isTypedJson(piece)) whole.push(piece);
  }
  return whole.length === 0 || isWellTyped(whole.join(''));
}

function isWellFormed(pieces: Iterable<string>): boolean {
  for (const piece of pieces) if (!piece.isWellFormed()) return false;
  return true;
}

/** −0 is written "-0". JSON.stringify would not have kept it as a number. */
function isReal(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value) && !Object.is(value, -0);
}

function isIn(value: unknown, low: number, high: number): boolean {
  return typeof value === 'number' && Number.isInteger(value) && value >= low && value <= high;
}

function temporalForm(type: ColumnType): RegExp {
  if (type.base === 'time') return TIMES[type.fraction]!;
  return type.base === 'datetime' || type.base === 'timestamp' ? DATETIMES[type.fraction]! : DATE;
}

function findBad(values: readonly unknown[], nullable: boolean, isGood: (value: unknown) => boolean): number {
  for (let i = 0; i < values.length; i += 1) {
    const value = values[i];
    if (value === null ? !nullable : !isGood(value)) return i;
  }
  return -1;
}
