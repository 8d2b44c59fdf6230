/**
 * Chooses the head office's column type for a column of a branch. Pure.
 *
 * Invariant: a target column holds every value of its source column exactly. ENUM and SET become VARCHAR, with room for
 * more members if the row has room. A VARCHAR that is too long for utf8mb4 or for the row becomes a TEXT (row-fit.ts).
 * TIMESTAMP becomes DATETIME, and a DECIMAL with too many decimals becomes text.
 */
import type { ColumnType } from '../../shared/batch/column-type.ts';
import { MYSQL_MAX_SCALE, formatColumnType, parseColumnType } from '../../shared/batch/column-type.ts';
import { CHARACTER_BYTES, TYPE_TABLE, factsOf } from '../../shared/batch/type-table.ts';

/** The most characters of a VARCHAR in utf8mb4: 65,535 bytes. */
export const MAX_VARCHAR = 16_383;
/** A member of an ENUM has at most 255 characters, so a column of this length has room for every new member. */
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
      // As text, which is its form on the wire. The 3 characters are sign, leading zero and point.
      return source.scale <= MYSQL_MAX_SCALE ? source : { base: 'varchar', length: source.precision + 3 };
    case 'timestamp':
      // In UTC, as on the wire. MariaDB's TIMESTAMP ends in 2106, MySQL's in 2038.
      return { base: 'datetime', fraction: source.fraction };
    default:
      return source;
  }
}

/** The type for a source type if the row has room: ENUM and SET get room for future members. */
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
 * The bytes that a column takes in a row (65,535 at most), or in an index (3,072 at most) if it is part of a key. See
 * the MySQL manual, "Limits on Table Column Count and Row Size".
 */
export function rowBytes(type: ColumnType): number {
  const { rowBytes: bytesOf } = factsOf(type.base);
  if ('precision' in type) return bytesOf(type.precision, type.scale);
  return bytesOf('length' in type ? type.length : 'fraction' in type ? type.fraction : 0, 0);
}

/** Whether a primary key can contain a column of this type as a whole, not only a prefix of it. */
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
