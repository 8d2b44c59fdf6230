/**
 * Columns of consolidated tables: what kind of value each holds, how such a value stands in a statement, and how it is
 * read and shown. Pure.
 *
 * Invariants: columns are named only as information_schema has named them; a value reaches a statement only as a literal
 * of its column's kind.
 */
import { HttpError } from '../../shared/process/http.ts';
import { quoteName, quoteString } from '../../shared/database/sql.ts';

export const MAX_VALUE = 1_000;
/** Of values that the page has got from here: the bytes of a long key are two characters each, and more as text. */
export const MAX_EXACT_VALUE = 8_192;
/** Longest value shown: characters of text, bytes of binary. */
const MAX_CHARACTERS = 200;
const MAX_BYTES = 32;
/** Characters or bytes of a value that is short for sure. */
const SHORT_VALUE = 255;
const CUT_MARK = '…';

const GEOMETRIES = new Set(
  'geometry geomcollection geometrycollection point linestring polygon multipoint multilinestring multipolygon'.split(
    ' ',
  ),
);
/** The head office writes these in UTC. */
const UTC_COLUMNS = new Set(['_changed_at', '_valid_from', '_valid_until', '_committed_at']);

export interface Column {
  readonly name: string;
  /** As the server prints it: `varchar(40)`. */
  readonly type: string;
  /** The same without its parentheses, in lower case. */
  readonly dataType: string;
  /** Part of the row's identity. */
  readonly key: boolean;
}

export interface ColumnSummary {
  readonly name: string;
  readonly type: string;
  /** Part of the row's identity. */
  readonly key: boolean;
  readonly sortable: boolean;
  /** Equal values can be counted together. */
  readonly groupable: boolean;
  /** It has sums and averages. */
  readonly summable: boolean;
  /** It has days. */
  readonly dated: boolean;
  /** Times of it are in UTC; else they are as the branch stored them, without a time zone. */
  readonly utc: boolean;
}

export type Kind = 'number' | 'float' | 'time' | 'text' | 'bytes' | 'bit' | 'opaque';

export function kindOf({ dataType }: Pick<Column, 'dataType'>): Kind {
  if (/^(?:tinyint|smallint|mediumint|int|bigint|decimal|year)$/.test(dataType)) return 'number';
  if (dataType === 'float' || dataType === 'double') return 'float';
  if (/^(?:date|datetime|timestamp|time)$/.test(dataType)) return 'time';
  if (/(?:binary|blob)$/.test(dataType)) return 'bytes';
  if (dataType === 'bit') return 'bit';
  if (dataType === 'json' || dataType === 'vector' || GEOMETRIES.has(dataType)) return 'opaque';
  return 'text';
}

/** Whether rows may be ordered by it. */
export function isSortable(column: Column): boolean {
  return kindOf(column) !== 'opaque';
}

/** Whether equal values of it can be counted together: of a FLOAT none are equal for sure. */
export function isGroupable(column: Column): boolean {
  return ['number', 'time', 'text', 'bit'].includes(kindOf(column));
}

/** Whether it has sums and averages: those of years say nothing. */
export function isSummable(column: Column): boolean {
  return ['number', 'float'].includes(kindOf(column)) && column.dataType !== 'year';
}

/** Whether it has days. */
export function isDated({ dataType }: Pick<Column, 'dataType'>): boolean {
  return dataType === 'date' || dataType === 'datetime' || dataType === 'timestamp';
}

/** Whether its times are known to be in UTC: the session is. */
export function isUtc({ name, dataType }: Pick<Column, 'name' | 'dataType'>): boolean {
  return dataType === 'timestamp' || (dataType === 'datetime' && UTC_COLUMNS.has(name));
}

export function summaryOf(column: Column): ColumnSummary {
  const { name, type, key } = column;
  return {
    name,
    type,
    key,
    sortable: isSortable(column),
    groupable: isGroupable(column),
    summable: isSummable(column),
    dated: isDated(column),
    utc: isUtc(column),
  };
}

/** @throws HttpError 400 where the table has no such column */
export function columnNamed(columns: readonly Column[], table: string, name: string): Column {
  const column = columns.find(candidate => candidate.name === name);
  if (column === undefined) throw new HttpError(400, 'BAD_REQUEST', `${table} has no column ${name}.`);
  return column;
}

/** A column of the table that is read. */
export function bareColumn({ name }: Pick<Column, 'name'>): string {
  return `t.${quoteName(name)}`;
}

/** A value as a literal of its column's kind. @throws HttpError 400 */
export function literalOf(column: Column, value: string, most = MAX_VALUE): string {
  const kind = kindOf(column);
  const refuse = (form: string): never => {
    throw new HttpError(400, 'BAD_REQUEST', `${column.name} can only be compared with ${form}.`);
  };
  if (value.length > most) refuse(`at most ${most} characters`);
  switch (kind) {
    case 'number':
      return /^-?\d{1,80}(?:\.\d{1,40})?$/.test(value) ? value : refuse('a number');
    case 'float':
      return /^-?\d{1,40}(?:\.\d{1,40})?(?:e[+-]?\d{1,4})?$/i.test(value)
        ? `${value}${/e/i.test(value) ? '' : 'e0'}`
        : refuse('a number');
    case 'bit':
      return /^\d{1,20}$/.test(value) ? value : refuse('a whole number');
    case 'time':
      return /^-?[\d:. -]{1,40}$/.test(value) ? quoteString(value) : refuse('a time, such as 2026-01-31 12:00:00');
    case 'bytes':
      return /^0x(?:[0-9a-f]{2})*$/i.test(value) ? `X'${value.slice(2)}'` : refuse('bytes, such as 0x00FF');
    case 'text':
    case 'opaque':
      return quoteString(value);
  }
}

/** Whether a value may be as long as what is read of it: most names and codes are declared to be short. */
export function mayBeLong({ dataType, type }: Pick<Column, 'dataType' | 'type'>): boolean {
  return shapeOf(dataType) !== 'plain' && Number(/\((\d+)\)/.exec(type)?.[1] ?? Infinity) > SHORT_VALUE;
}

/** How much of a value is read: characters of text, bytes of binary. */
export interface Cut {
  readonly characters: number;
  readonly bytes: number;
}

/** What a table on the page shows. */
export const SHOWN: Cut = { characters: MAX_CHARACTERS, bytes: MAX_BYTES };

/** A column as text, one character or byte longer than what is shown, so that cutting shows. */
export function readColumn(column: Column, { characters, bytes }: Cut = SHOWN): string {
  const { dataType } = column;
  const bare = bareColumn(column);
  const value = GEOMETRIES.has(dataType) ? `CAST(${bare} AS BINARY)` : bare;
  switch (shapeOf(dataType)) {
    case 'bytes':
      // LEFT takes no VECTOR (MySQL manual, "Vector Functions"), HEX does.
      if (dataType === 'vector') return `LEFT(HEX(${value}), ${(bytes + 1) * 2})`;
      return `HEX(LEFT(${value}, ${bytes + 1}))`;
    case 'text':
      return `LEFT(CAST(${value} AS CHAR), ${characters + 1})`;
    case 'plain':
      return `CAST(${value} AS CHAR)`;
  }
}

type Shape = 'text' | 'bytes' | 'plain';

function shapeOf(dataType: string): Shape {
  if (/(?:binary|blob)$|^(?:vector|bit)$/.test(dataType) || GEOMETRIES.has(dataType)) return 'bytes';
  return /(?:char|text)$|^json$/.test(dataType) ? 'text' : 'plain';
}

/** A value as it is shown: bytes marked as such, what is too long cut with a mark. */
export function showValue(value: string | null, dataType: string, { characters, bytes }: Cut = SHOWN): string | null {
  if (value === null) return null;
  switch (shapeOf(dataType)) {
    case 'bytes':
      return value.length > bytes * 2 ? `0x${value.slice(0, bytes * 2)}${CUT_MARK}` : `0x${value}`;
    case 'text': {
      // No more code units than characters: most values need no look at each.
      if (value.length <= characters) return value;
      const all = Array.from(value);
      return all.length > characters ? all.slice(0, characters).join('') + CUT_MARK : value;
    }
    case 'plain':
      return value;
  }
}

/** A column exactly, as `literalOf` takes it back. */
export function exactText(column: Column): string {
  const bare = bareColumn(column);
  switch (kindOf(column)) {
    case 'float':
      // A FLOAT of 0.1 is not 0.1: as a double it is exact.
      return `CAST(${bare} + 0e0 AS CHAR)`;
    case 'bit':
      return `CAST(${bare} + 0 AS CHAR)`;
    case 'bytes':
      return `CONCAT('0x', HEX(${bare}))`;
    default:
      return `CAST(${bare} AS CHAR)`;
  }
}

/** A condition that a column has exactly this value. @throws HttpError 400 */
export function isExactly(column: Column, value: string): string {
  const bare = bareColumn(column);
  const literal = literalOf(column, value, MAX_EXACT_VALUE);
  if (kindOf(column) === 'bit') return `(${bare} + 0) = ${literal}`;
  return column.dataType === 'float' ? `(${bare} + 0e0) = ${literal}` : `${bare} = ${literal}`;
}
