/**
 * The one type that holds every value of two types exactly: for tables whose branches do not agree, and for columns whose
 * type a branch has changed. Pure.
 *
 * Invariant: `widen(have, want)` holds all that either holds, as the value is, or is null. Numbers go to numbers, times to
 * times, and what has no type in common to a text, where the print of each is its value: not FLOAT, DOUBLE and BIT. All
 * pairs of types are written and read back by test/integration/widening.test.ts.
 */
import type { ColumnType } from '../../shared/batch/column-type.ts';
import { MYSQL_MAX_SCALE, formatColumnType } from '../../shared/batch/column-type.ts';
import { BLOBS, CAPACITY, CHARACTER_BYTES, MAX_VARCHAR, TEXTS, isOneOf } from './target-column.ts';
import type { BlobBase, TextBase } from './target-column.ts';

const INTEGERS = ['tinyint', 'smallint', 'mediumint', 'int', 'bigint'] as const;
const INTEGER_BITS: Readonly<Record<(typeof INTEGERS)[number], number>> = {
  tinyint: 8,
  smallint: 16,
  mediumint: 24,
  int: 32,
  bigint: 64,
};
/** Of 0 and 1901 to 2155. */
const YEAR_BITS = 12;
const MAX_PRECISION = 65;
/** Whole numbers that a DOUBLE holds each exactly: 53 bits, and so 15 digits. */
const DOUBLE_BITS = 53;
const DOUBLE_DIGITS = 15;

type Family = 'text' | 'bytes' | 'whole' | 'decimal' | 'real' | 'vector' | 'geometry' | 'json' | 'time' | 'date';

function familyOf(type: ColumnType): Family {
  switch (type.base) {
    case 'tinyint':
    case 'smallint':
    case 'mediumint':
    case 'int':
    case 'bigint':
    case 'bit':
    case 'year':
      return 'whole';
    case 'float':
    case 'double':
      return 'real';
    case 'date':
    case 'datetime':
    case 'timestamp':
      return 'date';
    case 'decimal':
    case 'vector':
    case 'geometry':
    case 'json':
    case 'time':
      return type.base;
    case 'binary':
    case 'varbinary':
    case 'tinyblob':
    case 'blob':
    case 'mediumblob':
    case 'longblob':
      return 'bytes';
    default:
      return 'text';
  }
}

/** Whether a column of type `have` holds every value of type `want` exactly. */
export function holds(have: ColumnType, want: ColumnType): boolean {
  const wider = widen(have, want);
  return wider !== null && formatColumnType(wider) === formatColumnType(have);
}

/** The smallest type that holds all that either holds; null where there is none. Of types at the head office. */
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
  if (both('whole')) return widenWhole(wholeOf(have)!, wholeOf(want)!);
  if (both('whole', 'decimal')) return widenDecimal(decimalOf(have)!, decimalOf(want)!);
  if (both('whole', 'decimal', 'real')) return fitsDouble(have) && fitsDouble(want) ? { base: 'double' } : null;
  if (both('time') || both('date')) return widenTime(have, want);
  if (both('text')) return widenString(have, want, 'text');
  if (both('bytes')) return widenString(have, want, 'bytes');
  // A geometry is its bytes, as they travel.
  if (both('bytes', 'geometry')) return { base: 'longblob' };
  // A text is its bytes in utf8mb4; the other branch's are of a character set of its own (`tables.columns: bytes`).
  return both('bytes', 'text') ? widenString(bytesOf(have), bytesOf(want), 'bytes') : null;
}

/** The type that holds the bytes of a text; a type of bytes as it is. */
function bytesOf(type: ColumnType): ColumnType {
  if (familyOf(type) !== 'text') return type;
  if ('length' in type) return { base: 'varbinary', length: type.length * CHARACTER_BYTES };
  return { base: BLOBS[TEXTS.indexOf(type.base as TextBase)]! };
}

interface Whole {
  readonly bits: number;
  readonly signed: boolean;
}

function wholeOf(type: ColumnType): Whole | null {
  if (type.base === 'bit') return { bits: type.length, signed: false };
  if (type.base === 'year') return { bits: YEAR_BITS, signed: false };
  return 'unsigned' in type ? { bits: INTEGER_BITS[type.base], signed: !type.unsigned } : null;
}

function widenWhole(a: Whole, b: Whole): ColumnType {
  const signed = a.signed || b.signed;
  // Beside a signed type, an unsigned one needs a bit more.
  const bits = Math.max(...[a, b].map(type => type.bits + (signed && !type.signed ? 1 : 0)));
  const base = INTEGERS.find(name => INTEGER_BITS[name] >= bits);
  return base === undefined ? { base: 'decimal', precision: 20, scale: 0 } : { base, unsigned: !signed };
}

interface Digits {
  readonly whole: number;
  readonly scale: number;
}

function decimalOf(type: ColumnType): Digits | null {
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

/** A text that holds what the server prints of each, which is also how the values travel. */
function widenToText(have: ColumnType, want: ColumnType): ColumnType | null {
  const texts = [have, want].map(printed);
  const [first, second] = texts;
  if (first === null || first === undefined || second === null || second === undefined) return null;
  return formatColumnType(first) === formatColumnType(second) ? first : widenString(first, second, 'text');
}

/** The text that holds the print of a type; null where the print is not the value. */
function printed(type: ColumnType): ColumnType | null {
  switch (familyOf(type)) {
    case 'text':
      return type;
    case 'whole':
      return type.base === 'bit' ? null : { base: 'varchar', length: 20 };
    case 'decimal':
      return { base: 'varchar', length: ('precision' in type ? type.precision : 0) + 3 };
    case 'time':
      return { base: 'varchar', length: 17 };
    case 'date':
      return { base: 'varchar', length: 26 };
    case 'json':
      return { base: 'longtext' };
    default:
      return null;
  }
}

function widenString(have: ColumnType, want: ColumnType, family: 'text' | 'bytes'): ColumnType | null {
  const large: readonly (TextBase | BlobBase)[] = family === 'text' ? TEXTS : BLOBS;
  const unit = family === 'text' ? CHARACTER_BYTES : 1;
  if ('length' in have && 'length' in want) {
    const length = Math.max(have.length, want.length);
    if (family === 'text' && length > MAX_VARCHAR) return { base: 'mediumtext' };
    // CHAR drops spaces at the end and BINARY adds zeroes: only a value of the very same type survives them.
    const isChar = have.base === 'char' && want.base === 'char';
    return { base: isChar ? 'char' : family === 'text' ? 'varchar' : 'varbinary', length };
  }
  const bytes = [have, want].map(type => ('length' in type ? type.length * unit : capacityOf(type)));
  const needed = Math.max(...bytes);
  const base = large.find(name => CAPACITY[name] >= needed);
  return base === undefined ? null : { base };
}

function capacityOf(type: ColumnType): number {
  return isOneOf(TEXTS, type.base) || isOneOf(BLOBS, type.base) ? CAPACITY[type.base] : Infinity;
}

/** Whether MODIFY from one type to the other only touches the dictionary: a VARCHAR within its class of length bytes. */
export function isCheapWidening(have: ColumnType, wider: ColumnType): boolean {
  if (have.base !== wider.base || !('length' in have) || !('length' in wider)) return false;
  if (have.base !== 'varchar' && have.base !== 'varbinary') return false;
  const unit = have.base === 'varchar' ? CHARACTER_BYTES : 1;
  return have.length * unit > 255 === wider.length * unit > 255;
}
