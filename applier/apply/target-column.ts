/**
 * The head office's column for a column of a branch. Pure.
 *
 * Invariants: a target column holds every value of its source column exactly. ENUM and SET become VARCHAR, with room
 * for more members if the row has it. A VARCHAR that is too long for utf8mb4 or for the row becomes a TEXT
 * (row-fit.ts).
 */
import type { ColumnType } from '../../shared/batch/column-type.ts';
import { MYSQL_MAX_SCALE, formatColumnType, parseColumnType } from '../../shared/batch/column-type.ts';
import { CHARACTER_BYTES, TYPE_TABLE, factsOf } from '../../shared/batch/type-table.ts';

/** The most characters of a VARCHAR in utf8mb4: 65,535 bytes. */
export const MAX_VARCHAR = 16_383;
/** A member of an ENUM has at most 255 characters, so that a new member never needs a wider column. */
const ENUM_LENGTH = 255;

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
      // In UTC, as it travels. MariaDB's TIMESTAMP ends in 2106, MySQL's in 2038.
      return { base: 'datetime', fraction: source.fraction };
    default:
      return source;
  }
}

/** The type that a source type gets if there is room: with room for future members. */
export function roomyType(source: ColumnType): ColumnType {
  const type = targetType(source);
  if ((source.base !== 'enum' && source.base !== 'set') || type.base !== 'varchar') return type;
  const { length } = type;
  return varcharOf(length <= ENUM_LENGTH ? ENUM_LENGTH : 1024 * Math.ceil(length / 1024) - 1);
}

function varcharOf(length: number): ColumnType {
  return length <= MAX_VARCHAR ? { base: 'varchar', length } : asText({ base: 'varchar', length });
}

/** The TEXT or BLOB that holds what a VARCHAR or VARBINARY holds, outside the row. Other types stay the same. */
export function asText(type: ColumnType): ColumnType {
  if (type.base === 'varchar' || type.base === 'char') {
    return { base: type.length * CHARACTER_BYTES <= TYPE_TABLE.text.capacity ? 'text' : 'mediumtext' };
  }
  return type.base === 'varbinary' || type.base === 'binary' ? { base: 'blob' } : type;
}

/**
 * Bytes of the row's 65,535 that a column takes (MySQL manual, "Limits on Table Column Count and Row Size"), and of an
 * index's 3,072 if it is part of a key.
 */
export function rowBytes(type: ColumnType): number {
  const { rowBytes: bytesOf } = factsOf(type.base);
  if ('precision' in type) return bytesOf(type.precision, type.scale);
  return bytesOf('length' in type ? type.length : 'fraction' in type ? type.fraction : 0, 0);
}

/** Whether a column of this type can be part of a primary key as a whole. */
export function canBeKey(type: ColumnType): boolean {
  return factsOf(type.base).capacity === undefined;
}

/** Whether values are characters. */
export function isText(type: ColumnType): boolean {
  return factsOf(type.base).family === 'text';
}

/** SQL of a type. `binary`: texts compare by their bytes. */
export function typeSql(type: ColumnType, binary: boolean): string {
  const text = formatColumnType(type);
  return isText(type)
    ? `${text} CHARACTER SET utf8mb4 COLLATE ${binary ? 'utf8mb4_0900_bin' : 'utf8mb4_0900_ai_ci'}`
    : text;
}

/** Reads INFORMATION_SCHEMA.COLUMNS.COLUMN_TYPE; null for a type outside the grammar (a column that somebody added). */
export function parseServerType(columnType: string): ColumnType | null {
  let text = columnType.toLowerCase();
  // TINYINT(1) keeps its display width, and so do all types with ZEROFILL.
  text = text.replace(/^((?:tiny|small|medium|big)?int|year)\(\d+\)/, '$1').replace(/ zerofill$/, '');
  if (/^(time|datetime|timestamp)$/.test(text)) text += '(0)';
  if (/^(point|linestring|polygon|multi\w+|geomcollection|geometrycollection)$/.test(text)) text = 'geometry';
  try {
    return parseColumnType(text);
  } catch {
    return null;
  }
}
