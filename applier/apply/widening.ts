/**
 * Finds the type that holds every value of two types exactly. It is needed if branches have different types, or if a
 * branch changes a type. Pure.
 *
 * Invariant: `widen(have, want)` holds every value of both types exactly, or is null. Two numeric types become a
 * numeric type, and two temporal types a temporal one. Types without a common type become a text, if the printed text
 * of each is its exact value. That is not so for FLOAT, DOUBLE and BIT. test/integration/widening.test.ts writes and
 * reads back all pairs of types.
 */
import type { ColumnType } from '../../shared/batch/column-type.ts';
import { MAX_PRECISION, MYSQL_MAX_SCALE, formatColumnType } from '../../shared/batch/column-type.ts';
import {
  BLOB_OF,
  BLOBS,
  CHARACTER_BYTES,
  INTEGERS,
  TEXTS,
  TYPE_TABLE,
  factsOf,
  isLargeText,
} from '../../shared/batch/type-table.ts';
import type { Family } from '../../shared/batch/type-table.ts';
import { MAX_VARCHAR } from './target-column.ts';

/** YEAR holds 0 and 1901 to 2155. */
const YEAR_BITS = 12;
/** Whole numbers that a DOUBLE holds exactly: 53 bits, and so 15 digits. */
const DOUBLE_BITS = 53;
const DOUBLE_DIGITS = 15;

function familyOf(type: ColumnType): Family {
  return factsOf(type.base).family;
}

/** Whether a column of type `have` holds every value of type `want` exactly. */
export function holds(have: ColumnType, want: ColumnType): boolean {
  const wider = widen(have, want);
  return wider !== null && formatColumnType(wider) === formatColumnType(have);
}

/** The smallest type that holds every value of both; null if there is none. All are types at the head office. */
export function widen(have: ColumnType, want: ColumnType): ColumnType | null {
  if (formatColumnType(have) === formatColumnType(want)) return have;
  return widenInKind(have, want) ?? widenToText(have, want);
}

function widenInKind(have: ColumnType, want: ColumnType): ColumnType | null {
  const families = new Set([familyOf(have), familyOf(want)]);
  const both = (...some: readonly Family[]): boolean => [...families].every(family => some.includes(family));
  if ((have.base === 'bit' && want.base === 'bit') || (have.base === 'vector' && want.base === 'vector')) {
    return have.length >= want.length ? have : want;
  }
  const [a, b] = [wholeOf(have), wholeOf(want)];
  if (a !== null && b !== null) return widenWhole(a, b);
  const [c, d] = [digitsOf(have), digitsOf(want)];
  if (c !== null && d !== null) return widenDecimal(c, d);
  if (both('whole', 'decimal', 'real')) return fitsDouble(have) && fitsDouble(want) ? { base: 'double' } : null;
  if (both('time') || both('date')) return widenTime(have, want);
  if (both('text')) return widenString(have, want, 'text');
  if (both('bytes')) return widenString(have, want, 'bytes');
  // A geometry is sent as its bytes.
  if (both('bytes', 'geometry')) return { base: 'longblob' };
  // The text becomes its bytes in utf8mb4. The other branch sends the bytes of another character set (`tables.columns:
  // bytes`).
  return both('bytes', 'text') ? widenString(bytesOf(have), bytesOf(want), 'bytes') : null;
}

/** The type that holds the bytes of a text; a type of bytes stays the same. */
function bytesOf(type: ColumnType): ColumnType {
  if (familyOf(type) !== 'text') return type;
  if ('length' in type) return { base: 'varbinary', length: type.length * CHARACTER_BYTES };
  return { base: isLargeText(type.base) ? BLOB_OF[type.base] : 'longblob' };
}

interface Whole {
  readonly bits: number;
  readonly signed: boolean;
}

function wholeOf(type: ColumnType): Whole | null {
  if (type.base === 'bit') return { bits: type.length, signed: false };
  if (type.base === 'year') return { bits: YEAR_BITS, signed: false };
  return 'unsigned' in type ? { bits: bitsOf(type.base), signed: !type.unsigned } : null;
}

function bitsOf(base: (typeof INTEGERS)[number]): number {
  return 8 * TYPE_TABLE[base].rowBytes();
}

function widenWhole(a: Whole, b: Whole): ColumnType {
  const signed = a.signed || b.signed;
  // To be combined with a signed type, an unsigned one needs one more bit.
  const bits = Math.max(...[a, b].map(type => type.bits + (signed && !type.signed ? 1 : 0)));
  const base = INTEGERS.find(name => bitsOf(name) >= bits);
  return base === undefined ? { base: 'decimal', precision: 20, scale: 0 } : { base, unsigned: !signed };
}

interface Digits {
  readonly whole: number;
  readonly scale: number;
}

function digitsOf(type: ColumnType): Digits | null {
  if (type.base === 'decimal') return { whole: type.precision - type.scale, scale: type.scale };
  const whole = wholeOf(type);
  if (whole === null) return null;
  return { whole: Math.floor((whole.bits - (whole.signed ? 1 : 0)) * Math.log10(2)) + 1, scale: 0 };
}

function widenDecimal(a: Digits, b: Digits): ColumnType | null {
  const scale = Math.max(a.scale, b.scale);
  const precision = Math.max(a.whole, b.whole) + scale;
  return precision <= MAX_PRECISION && scale <= MYSQL_MAX_SCALE ? { base: 'decimal', precision, scale } : null;
}

function fitsDouble(type: ColumnType): boolean {
  if (type.base === 'decimal') return type.scale === 0 && type.precision <= DOUBLE_DIGITS;
  const whole = wholeOf(type);
  return whole === null || whole.bits <= DOUBLE_BITS;
}

/** A DATETIME holds all that a TIMESTAMP does, and a DATE as its midnight. */
function widenTime(have: ColumnType, want: ColumnType): ColumnType | null {
  const fraction = Math.max(...[have, want].map(type => ('fraction' in type ? type.fraction : 0)));
  if (have.base === 'time' && want.base === 'time') return { base: 'time', fraction };
  if (have.base === 'timestamp' && want.base === 'timestamp') return { base: 'timestamp', fraction };
  return { base: 'datetime', fraction };
}

/** The text that holds what the server prints of both types, which is also how their values travel. */
function widenToText(have: ColumnType, want: ColumnType): ColumnType | null {
  const [first, second] = [printedType(have), printedType(want)];
  if (first === null || second === null) return null;
  return formatColumnType(first) === formatColumnType(second) ? first : widenString(first, second, 'text');
}

/** The text that holds what the server prints of a type; null if that is not the exact value. */
function printedType(type: ColumnType): ColumnType | null {
  if (familyOf(type) === 'text') return type;
  const length = factsOf(type.base).printed?.('precision' in type ? type.precision : 0);
  if (length === undefined) return null;
  return length <= MAX_VARCHAR ? { base: 'varchar', length } : { base: 'longtext' };
}

function widenString(have: ColumnType, want: ColumnType, family: 'text' | 'bytes'): ColumnType | null {
  const large = family === 'text' ? TEXTS : BLOBS;
  const unit = family === 'text' ? CHARACTER_BYTES : 1;
  if ('length' in have && 'length' in want) {
    const length = Math.max(have.length, want.length);
    if (family === 'text' && length > MAX_VARCHAR) return { base: 'mediumtext' };
    // CHAR drops trailing spaces and BINARY adds zeros. Only two CHARs together keep every value.
    const isChar = have.base === 'char' && want.base === 'char';
    return { base: isChar ? 'char' : family === 'text' ? 'varchar' : 'varbinary', length };
  }
  const bytes = [have, want].map(type =>
    'length' in type ? type.length * unit : (factsOf(type.base).capacity ?? Infinity),
  );
  const needed = Math.max(...bytes);
  const base = large.find(name => TYPE_TABLE[name].capacity >= needed);
  return base === undefined ? null : { base };
}

/** Whether MODIFY only changes the dictionary: a VARCHAR whose length keeps its number of bytes. */
export function isCheapWidening(have: ColumnType, wider: ColumnType): boolean {
  if (have.base !== wider.base || !('length' in have) || !('length' in wider)) return false;
  if (have.base !== 'varchar' && have.base !== 'varbinary') return false;
  const unit = have.base === 'varchar' ? CHARACTER_BYTES : 1;
  return have.length * unit > 255 === wider.length * unit > 255;
}
