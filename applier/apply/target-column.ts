/**
 * What a column of a branch becomes at the head office, and what an existing column there can hold.
 *
 * Invariants: a target column holds every value of its source column exactly. ENUM and SET become VARCHAR, if there is
 * room wide enough that members can be added; a VARCHAR that utf8mb4 or the row has no room for becomes a TEXT (row-fit.ts).
 */
import type { ColumnType } from '../../shared/batch/column-type.ts';
import { MYSQL_MAX_SCALE, formatColumnType, parseColumnType } from '../../shared/batch/column-type.ts';

/** Bytes a character takes at most in utf8mb4. */
export const CHARACTER_BYTES = 4;
/** Characters of a VARCHAR in utf8mb4 that MySQL takes: 65,535 bytes. */
export const MAX_VARCHAR = 16_383;
/** An ENUM's member has at most 255 characters; so a new member never needs a wider column. */
const ENUM_LENGTH = 255;

export const TEXTS = ['tinytext', 'text', 'mediumtext', 'longtext'] as const;
export const BLOBS = ['tinyblob', 'blob', 'mediumblob', 'longblob'] as const;
export type TextBase = (typeof TEXTS)[number];
export type BlobBase = (typeof BLOBS)[number];
/** Bytes. */
export const CAPACITY: Record<TextBase | BlobBase, number> = {
  tinytext: 255,
  text: 65_535,
  mediumtext: 16_777_215,
  longtext: 4_294_967_295,
  tinyblob: 255,
  blob: 65_535,
  mediumblob: 16_777_215,
  longblob: 4_294_967_295,
};

/** The smallest type at the head office that holds a source type. */
export function targetType(source: ColumnType): ColumnType {
  switch (source.base) {
    case 'enum':
      return varcharOf(source.members.reduce((longest, member) => Math.max(longest, member.length), 1));
    case 'set':
      return varcharOf(source.members.reduce((sum, member) => sum + member.length + 1, 1));
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

/** The type that a source type gets where there is room: with room for members to come. */
export function roomyType(source: ColumnType): ColumnType {
  const type = targetType(source);
  if ((source.base !== 'enum' && source.base !== 'set') || type.base !== 'varchar') return type;
  const { length } = type;
  return varcharOf(length <= ENUM_LENGTH ? ENUM_LENGTH : 1024 * Math.ceil(length / 1024) - 1);
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

/** Whether values are characters. */
export function isText(type: ColumnType): boolean {
  return type.base === 'char' || type.base === 'varchar' || isOneOf(TEXTS, type.base);
}

/** SQL of a type. `binary`: texts compare by their bytes. */
export function typeSql(type: ColumnType, binary: boolean): string {
  const text = formatColumnType(type);
  return isText(type)
    ? `${text} CHARACTER SET utf8mb4 COLLATE ${binary ? 'utf8mb4_0900_bin' : 'utf8mb4_0900_ai_ci'}`
    : text;
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

/** Whether a name is one of a list's. */
export function isOneOf<T extends string>(names: readonly T[], name: string): name is T {
  return (names as readonly string[]).includes(name);
}
