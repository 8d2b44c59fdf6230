/**
 * What a column of a branch becomes at the head office, and what an existing column there can hold.
 *
 * Invariants: a target column holds every value of its source column exactly. `widen` never gives a type that holds less than
 * the present one. ENUM and SET become VARCHAR, wide enough that members can be added; a VARCHAR that utf8mb4 or the row
 * size has no room for becomes a TEXT.
 */
import type { ColumnType } from '../../shared/column-type.ts';
import { MYSQL_MAX_SCALE, formatColumnType, parseColumnType } from '../../shared/column-type.ts';

/** Bytes a character takes at most in utf8mb4. */
const CHARACTER_BYTES = 4;
/** Characters of a VARCHAR in utf8mb4 that MySQL takes: 65,535 bytes. */
const MAX_VARCHAR = 16_383;
/** An ENUM's member has at most 255 characters; so a new member never needs a wider column. */
const ENUM_LENGTH = 255;

const TEXTS = ['tinytext', 'text', 'mediumtext', 'longtext'] as const;
const BLOBS = ['tinyblob', 'blob', 'mediumblob', 'longblob'] as const;
type TextBase = (typeof TEXTS)[number];
type BlobBase = (typeof BLOBS)[number];
const CAPACITY: Record<TextBase | BlobBase, number> = {
  tinytext: 255,
  text: 65_535,
  mediumtext: 16_777_215,
  longtext: 4_294_967_295,
  tinyblob: 255,
  blob: 65_535,
  mediumblob: 16_777_215,
  longblob: 4_294_967_295,
};

/** The type at the head office for a source type. */
export function targetType(source: ColumnType): ColumnType {
  switch (source.base) {
    case 'enum':
      return { base: 'varchar', length: ENUM_LENGTH };
    case 'set': {
      const length = source.members.reduce((sum, member) => sum + member.length + 1, 0);
      return varcharOf(length <= ENUM_LENGTH ? ENUM_LENGTH : 1024 * Math.ceil(length / 1024) - 1);
    }
    case 'varchar':
      return varcharOf(source.length);
    case 'decimal':
      // As text, which is how it travels.
      return source.scale <= MYSQL_MAX_SCALE ? source : { base: 'varchar', length: source.precision + 3 };
    case 'timestamp':
      // In UTC, as it travels. MariaDB's TIMESTAMP goes on until 2106, MySQL's ends in 2038.
      return { base: 'datetime', fraction: source.fraction };
    default:
      return source;
  }
}

function varcharOf(length: number): ColumnType {
  return length <= MAX_VARCHAR ? { base: 'varchar', length } : asText({ base: 'varchar', length });
}

/** The TEXT or BLOB that holds what a VARCHAR or VARBINARY holds, stored outside the row. Others as they are. */
export function asText(type: ColumnType): ColumnType {
  if (type.base === 'varchar' || type.base === 'char') {
    return { base: type.length * CHARACTER_BYTES <= CAPACITY.text ? 'text' : 'mediumtext' };
  }
  return type.base === 'varbinary' || type.base === 'binary' ? { base: 'blob' } : type;
}

/**
 * Bytes of the row's 65,535 that a column takes (MySQL manual, "Limits on Table Column Count and Row Size"), and of an
 * index's 3,072 if `asKey`.
 */
export function rowBytes(type: ColumnType): number {
  switch (type.base) {
    case 'tinyint':
    case 'year':
      return 1;
    case 'smallint':
      return 2;
    case 'mediumint':
    case 'date':
      return 3;
    case 'int':
    case 'float':
      return 4;
    case 'bigint':
    case 'double':
      return 8;
    case 'time':
      return 3 + Math.ceil(type.fraction / 2);
    case 'timestamp':
      return 4 + Math.ceil(type.fraction / 2);
    case 'datetime':
      return 5 + Math.ceil(type.fraction / 2);
    case 'decimal':
      return digitBytes(type.precision - type.scale) + digitBytes(type.scale);
    case 'bit':
      return Math.ceil(type.length / 8);
    case 'char':
      return type.length * CHARACTER_BYTES;
    case 'varchar':
      return type.length * CHARACTER_BYTES + (type.length * CHARACTER_BYTES > 255 ? 2 : 1);
    case 'binary':
      return type.length;
    case 'varbinary':
      return type.length + (type.length > 255 ? 2 : 1);
    default:
      // TEXT, BLOB, JSON, GEOMETRY, VECTOR: a length and a pointer.
      return 12;
  }
}

function digitBytes(digits: number): number {
  return 4 * Math.floor(digits / 9) + Math.ceil((digits % 9) / 2);
}

const OFF_ROW = new Set<string>([...TEXTS, ...BLOBS, 'json', 'geometry', 'vector']);

/** Whether a column of this type can be part of a primary key whole. */
export function canBeKey(type: ColumnType): boolean {
  return !OFF_ROW.has(type.base);
}

/** SQL of a type. `binary`: texts compare by their bytes. */
export function typeSql(type: ColumnType, binary: boolean): string {
  const text = formatColumnType(type);
  const isText = type.base === 'char' || type.base === 'varchar' || isOneOf(TEXTS, type.base);
  return isText ? `${text} CHARACTER SET utf8mb4 COLLATE ${binary ? 'utf8mb4_0900_bin' : 'utf8mb4_0900_ai_ci'}` : text;
}

/** Reads INFORMATION_SCHEMA.COLUMNS.COLUMN_TYPE; null for a type outside the grammar (somebody's own column). */
export function parseServerType(columnType: string): ColumnType | null {
  let text = columnType.toLowerCase();
  // TINYINT(1) keeps its display width, ZEROFILL all of them.
  text = text.replace(/^((?:tiny|small|medium|big)?int|year)\(\d+\)/, '$1').replace(/ zerofill$/, '');
  if (/^(time|datetime|timestamp)$/.test(text)) text += '(0)';
  if (/^(point|linestring|polygon|multi\w+|geomcollection|geometrycollection)$/.test(text)) text = 'geometry';
  try {
    return parseColumnType(text);
  } catch {
    return null;
  }
}

const INTEGER_BYTES: Readonly<Record<string, number>> = { tinyint: 1, smallint: 2, mediumint: 3, int: 4, bigint: 8 };

type Family = 'text' | 'bytes' | 'integer' | 'decimal' | 'bit' | 'vector' | 'time' | 'other';

function familyOf(type: ColumnType): Family {
  if (type.base === 'char' || type.base === 'varchar' || isOneOf(TEXTS, type.base)) return 'text';
  if (type.base === 'binary' || type.base === 'varbinary' || isOneOf(BLOBS, type.base)) return 'bytes';
  if (Object.hasOwn(INTEGER_BYTES, type.base)) return 'integer';
  if (type.base === 'decimal' || type.base === 'bit' || type.base === 'vector') return type.base;
  return type.base === 'time' || type.base === 'datetime' || type.base === 'timestamp' ? 'time' : 'other';
}

/** Whether a column of type `have` holds every value of type `want` exactly. */
export function holds(have: ColumnType, want: ColumnType): boolean {
  const wider = widen(have, want);
  return wider !== null && formatColumnType(wider) === formatColumnType(have);
}

/** The smallest type that holds all that either holds; null where there is none. */
export function widen(have: ColumnType, want: ColumnType): ColumnType | null {
  if (formatColumnType(have) === formatColumnType(want)) return have;
  if (familyOf(have) !== familyOf(want)) return widenToBytes(have, want) ?? widenToText(have, want);
  if (have.base === 'decimal' && want.base === 'decimal') {
    const scale = Math.max(have.scale, want.scale);
    const whole = Math.max(have.precision - have.scale, want.precision - want.scale);
    return whole + scale <= 65 ? { base: 'decimal', precision: whole + scale, scale } : null;
  }
  if ((have.base === 'bit' && want.base === 'bit') || (have.base === 'vector' && want.base === 'vector')) {
    return have.length >= want.length ? have : want;
  }
  if ('fraction' in have && 'fraction' in want) {
    const fraction = Math.max(have.fraction, want.fraction);
    if (have.base === want.base) return { base: have.base, fraction };
    // A DATETIME holds all that a TIMESTAMP does.
    return have.base === 'time' || want.base === 'time' ? null : { base: 'datetime', fraction };
  }
  if ('unsigned' in have && 'unsigned' in want) return widenInteger(have, want);
  const family = familyOf(have);
  return family === 'text' || family === 'bytes' ? widenString(have, want, family) : null;
}

/**
 * Bytes beside a geometry or a text: a column of bytes holds both as they are. A MariaDB branch's geometry is bytes, and so
 * is a text whose branch says so.
 */
function widenToBytes(have: ColumnType, want: ColumnType): ColumnType | null {
  const [bytes, other] = familyOf(have) === 'bytes' ? [have, want] : [want, have];
  if (familyOf(bytes) !== 'bytes') return null;
  if (other.base === 'geometry') return { base: 'longblob' };
  if (familyOf(other) !== 'text') return null;
  const stored: ColumnType =
    'length' in other
      ? { base: 'varbinary', length: other.length * CHARACTER_BYTES }
      : { base: BLOBS[TEXTS.indexOf(other.base as TextBase)]! };
  return widenString(bytes, stored, 'bytes');
}

/**
 * A number or a time beside a text: a text that holds what the server prints, which is also how the value travels.
 * Not for FLOAT and DOUBLE, whose print is not the value, and not for YEAR and BIT.
 */
function widenToText(have: ColumnType, want: ColumnType): ColumnType | null {
  const [text, other] = familyOf(have) === 'text' ? [have, want] : [want, have];
  const length = printedLength(other);
  return familyOf(text) === 'text' && length !== null ? widenString(text, { base: 'varchar', length }, 'text') : null;
}

/** Characters of the longest print of a value; null where the print is not the value. */
function printedLength(type: ColumnType): number | null {
  switch (type.base) {
    case 'tinyint':
    case 'smallint':
    case 'mediumint':
    case 'int':
    case 'bigint':
      return 20;
    case 'decimal':
      return type.precision + 3;
    case 'date':
      return 10;
    case 'time':
      return 17;
    case 'datetime':
    case 'timestamp':
      return 26;
    default:
      return null;
  }
}

type IntegerType = Extract<ColumnType, { readonly unsigned: boolean }>;

function widenInteger(have: IntegerType, want: IntegerType): ColumnType | null {
  const unsigned = have.unsigned && want.unsigned;
  // An unsigned type needs one step more to fit a signed one.
  const bytes = [have, want].map(type => INTEGER_BYTES[type.base]! + (type.unsigned && !unsigned ? 0.5 : 0));
  const needed = Math.max(...bytes);
  const base = (['tinyint', 'smallint', 'mediumint', 'int', 'bigint'] as const).find(b => INTEGER_BYTES[b]! >= needed);
  return base === undefined ? null : { base, unsigned };
}

function widenString(have: ColumnType, want: ColumnType, family: 'text' | 'bytes'): ColumnType | null {
  const large: readonly (TextBase | BlobBase)[] = family === 'text' ? TEXTS : BLOBS;
  const fixed = family === 'text' ? 'char' : 'binary';
  const variable = family === 'text' ? 'varchar' : 'varbinary';
  const unit = family === 'text' ? CHARACTER_BYTES : 1;
  if ('length' in have && 'length' in want) {
    const length = Math.max(have.length, want.length);
    // CHAR drops spaces at the end and BINARY adds zeroes: only a value of the very same type survives them.
    const base = have.base === fixed && want.base === fixed && family === 'text' ? fixed : variable;
    return { base, length };
  }
  const bytes = [have, want].map(type => ('length' in type ? type.length * unit : CAPACITY[type.base as TextBase]));
  const needed = Math.max(...bytes);
  const base = large.find(name => CAPACITY[name] >= needed);
  return base === undefined ? null : { base };
}

/** Whether MODIFY from one type to the other only touches the dictionary: a VARCHAR within its class of length bytes. */
export function isCheapWidening(have: ColumnType, wider: ColumnType): boolean {
  if (have.base !== wider.base || !('length' in have) || !('length' in wider)) return false;
  if (have.base !== 'varchar' && have.base !== 'varbinary') return false;
  const unit = have.base === 'varchar' ? CHARACTER_BYTES : 1;
  return have.length * unit > 255 === wider.length * unit > 255;
}

function isOneOf<T extends string>(names: readonly T[], name: string): name is T {
  return (names as readonly string[]).includes(name);
}
