/**
 * One page of a consolidated table as a statement: filtered, in a total order, and continued from a row rather than
 * from a count. So the thousandth page costs as much as the first, and new rows do not shift the pages. Pure.
 *
 * Invariants: columns are named only as information_schema has named them; a value reaches the statement only as a
 * literal of its column's kind; the values that rows are sorted by are exact (a rounded cursor would skip rows).
 */
import { HttpError } from '../../shared/process/http.ts';
import { quoteName, quoteString, quoteTable } from '../../shared/database/sql.ts';

export const PAGE_ROWS = 50;
export const QUERY_MS = 3000;
const MAX_FILTERS = 8;
const MAX_VALUE = 1000;
/** Longest value shown: characters of text, bytes of binary. */
const MAX_CHARACTERS = 200;
const MAX_BYTES = 32;
/** Rows are sorted by this much of a text or binary value that is not in the key. */
const SORTED_LENGTH = 100;
const CUT_MARK = '…';
/** A table of this many rows is sorted within a second without an index. */
const MAX_SORTED_ROWS = 300_000;
const CHANGED_AT = '_changed_at';

const GEOMETRIES = new Set(
  'geometry geomcollection geometrycollection point linestring polygon multipoint multilinestring multipolygon'.split(
    ' ',
  ),
);

export interface Column {
  readonly name: string;
  /** As the server prints it: `varchar(40)`. */
  readonly type: string;
  /** The same without its parentheses, in lower case. */
  readonly dataType: string;
  /** Part of the row's identity. */
  readonly key: boolean;
}

export const OPERATORS = ['=', '!=', '<', '<=', '>', '>=', 'contains', 'null', 'not-null'] as const;
export type Operator = (typeof OPERATORS)[number];

export interface Filter {
  readonly column: string;
  readonly operator: Operator;
  /** '' for `null` and `not-null`. */
  readonly value: string;
}

/** A row's place in the order: the values that it is sorted by. */
export type Cursor = readonly (string | null)[];

export interface Order {
  /** null: by the key. */
  readonly sort: string | null;
  readonly descending: boolean;
}

export interface RowsQuery {
  readonly table: string;
  readonly branch: string | null;
  readonly filters: readonly Filter[];
  /** null: the newest rows first. */
  readonly order: Order | null;
  /** null: the first page. */
  readonly from: { readonly side: 'after' | 'before'; readonly cursor: Cursor } | null;
}

/** A query whose order is decided. */
export interface OrderedQuery extends RowsQuery {
  readonly order: Order;
}

type Kind = 'number' | 'float' | 'time' | 'text' | 'bytes' | 'bit' | 'opaque';

function kindOf({ dataType }: Pick<Column, 'dataType'>): Kind {
  if (/^(?:tinyint|smallint|mediumint|int|bigint|decimal|year)$/.test(dataType)) return 'number';
  if (dataType === 'float' || dataType === 'double') return 'float';
  if (/^(?:date|datetime|timestamp|time)$/.test(dataType)) return 'time';
  if (/(?:binary|blob)$/.test(dataType)) return 'bytes';
  if (dataType === 'bit') return 'bit';
  if (dataType === 'json' || dataType === 'vector' || GEOMETRIES.has(dataType)) return 'opaque';
  return 'text';
}

/** Whether a page may be ordered by it. */
export function isSortable(column: Column): boolean {
  return kindOf(column) !== 'opaque';
}

interface OrderTerm {
  /** What is ordered by and compared. */
  readonly expression: string;
  /** The same as text, to come back in a cursor. */
  readonly asText: string;
  readonly nullable: boolean;
  readonly literal: (value: string) => string;
}

/**
 * The newest rows first: by the time of their change. There is no index on it, so of a large table those with the
 * highest keys come first.
 */
export function newestFirst(columns: readonly Column[], estimatedRows: number): Order {
  const isTimed = estimatedRows <= MAX_SORTED_ROWS && columns.some(({ name }) => name === CHANGED_AT);
  return { sort: isTimed ? CHANGED_AT : null, descending: true };
}

/** The terms of a total order: what is sorted by, then the key. */
function orderTerms(columns: readonly Column[], query: OrderedQuery): OrderTerm[] {
  const keys = columns.filter(({ key, name }) => key && !(query.branch !== null && name === '_branch'));
  const { sort } = query.order;
  const sorted = sort === null ? undefined : columns.find(({ name }) => name === sort);
  if (sort !== null && (sorted === undefined || !isSortable(sorted))) {
    const why = sorted === undefined ? 'has no column' : 'cannot be sorted by';
    throw new HttpError(400, 'BAD_REQUEST', `${query.table} ${why} ${sort}.`);
  }
  return [...(sorted === undefined ? [] : [sorted]), ...keys.filter(column => column !== sorted)].map(orderTerm);
}

function orderTerm(column: Column): OrderTerm {
  const bare = `t.${quoteName(column.name)}`;
  const kind = kindOf(column);
  const common = { nullable: !column.key, literal: (value: string) => literalOf(column, value) };
  switch (kind) {
    case 'float':
      // A FLOAT of 0.1 is not 0.1: as a double it is exact.
      return { ...common, expression: `(${bare} + 0e0)`, asText: `CAST(${bare} + 0e0 AS CHAR)` };
    case 'bit':
      return { ...common, expression: `(${bare} + 0)`, asText: `CAST(${bare} + 0 AS CHAR)` };
    case 'bytes': {
      const expression = column.key ? bare : `LEFT(${bare}, ${SORTED_LENGTH})`;
      return { ...common, expression, asText: `CONCAT('0x', HEX(${expression}))` };
    }
    case 'text': {
      const expression = column.key ? bare : `LEFT(${bare}, ${SORTED_LENGTH})`;
      return { ...common, expression, asText: `CAST(${expression} AS CHAR)` };
    }
    default:
      return { ...common, expression: bare, asText: `CAST(${bare} AS CHAR)` };
  }
}

/** A value as a literal of its column's kind. @throws HttpError 400 */
function literalOf(column: Column, value: string): string {
  const kind = kindOf(column);
  const refuse = (form: string): never => {
    throw new HttpError(400, 'BAD_REQUEST', `${column.name} can only be compared with ${form}.`);
  };
  if (value.length > MAX_VALUE) refuse(`at most ${MAX_VALUE} characters`);
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

function condition(columns: readonly Column[], table: string, { column: name, operator, value }: Filter): string {
  const column = columns.find(candidate => candidate.name === name);
  if (column === undefined) throw new HttpError(400, 'BAD_REQUEST', `${table} has no column ${name}.`);
  const bare = `t.${quoteName(column.name)}`;
  switch (operator) {
    case 'null':
      return `${bare} IS NULL`;
    case 'not-null':
      return `${bare} IS NOT NULL`;
    case 'contains': {
      if (value.length > MAX_VALUE)
        throw new HttpError(400, 'BAD_REQUEST', `A value has at most ${MAX_VALUE} characters.`);
      const kind = kindOf(column);
      if (kind === 'bytes' || (kind === 'opaque' && column.dataType !== 'json')) {
        throw new HttpError(400, 'BAD_REQUEST', `${name} has no text to search.`);
      }
      // People look for "paris" and mean "Paris".
      const pattern = quoteString(`%${value.replace(/[\\%_]/g, '\\$&')}%`);
      return `CONVERT(${bare} USING utf8mb4) COLLATE utf8mb4_0900_ai_ci LIKE ${pattern}`;
    }
    default: {
      if (kindOf(column) === 'opaque')
        throw new HttpError(400, 'BAD_REQUEST', `${name} can only be searched with “contains”.`);
      const literal = literalOf(column, value);
      if (column.dataType === 'float') return `${bare} ${operator} CAST(${literal} AS FLOAT)`;
      return `${kindOf(column) === 'bit' ? `(${bare} + 0)` : bare} ${operator} ${literal}`;
    }
  }
}

/** The rows beyond a place in the order. `forwards`: towards greater values. */
function beyond(terms: readonly OrderTerm[], cursor: Cursor, forwards: boolean): string {
  if (cursor.length !== terms.length)
    throw new HttpError(400, 'BAD_REQUEST', 'The place belongs to a page in another order.');
  const literals = terms.map(({ literal }, i) => {
    const value = cursor[i] ?? null;
    return value === null ? null : literal(value);
  });
  const alternatives = terms.map((term, i) => {
    const equal = terms.slice(0, i).map(({ expression }, j) => {
      const literal = literals[j] ?? null;
      return literal === null ? `${expression} IS NULL` : `${expression} = ${literal}`;
    });
    return [...equal, strictlyBeyond(term, literals[i] ?? null, forwards)].join(' AND ');
  });
  // The first term alone bounds the rows that are read where an index begins with it.
  const first = terms[0];
  const literal = literals[0] ?? null;
  const bound =
    first === undefined || first.nullable || literal === null
      ? ''
      : `${first.expression} ${forwards ? '>=' : '<='} ${literal} AND `;
  return `${bound}(${alternatives.map(text => `(${text})`).join(' OR ')})`;
}

/** NULL comes before every value. */
function strictlyBeyond({ expression, nullable }: OrderTerm, literal: string | null, forwards: boolean): string {
  if (forwards) return literal === null ? `${expression} IS NOT NULL` : `${expression} > ${literal}`;
  if (literal === null) return 'FALSE';
  return nullable ? `(${expression} < ${literal} OR ${expression} IS NULL)` : `${expression} < ${literal}`;
}

export interface PageStatement {
  readonly sql: string;
  /** The rows come in the opposite order of that asked for: the page before a place is read backwards. */
  readonly reversed: boolean;
  /** How many values at the end of each row make its cursor; 0: the table has no key, and no second page. */
  readonly cursorLength: number;
}

/**
 * The statement that reads one page, and one row more to know whether another follows. Each row: the columns as text,
 * then its cursor.
 * @throws HttpError 400
 */
export function pageStatement(database: string, columns: readonly Column[], query: OrderedQuery): PageStatement {
  if (query.filters.length > MAX_FILTERS)
    throw new HttpError(400, 'BAD_REQUEST', `At most ${MAX_FILTERS} filters are possible.`);
  const terms = orderTerms(columns, query);
  const keyed = columns.some(({ key }) => key);
  const reversed = query.from?.side === 'before';
  const descending = query.order.descending !== reversed;
  const where = query.filters.map(filter => condition(columns, query.table, filter));
  if (query.branch !== null && columns.some(({ name }) => name === '_branch')) {
    where.unshift(`t.\`_branch\` = ${quoteString(query.branch)}`);
  }
  if (query.from !== null) where.push(beyond(terms, query.from.cursor, !descending));
  const shown = [...columns.map(readColumn), ...(keyed ? terms.map(({ asText }) => asText) : [])].join(', ');
  const order = terms.map(({ expression }) => `${expression}${descending ? ' DESC' : ''}`).join(', ');
  return {
    sql:
      `SELECT /*+ MAX_EXECUTION_TIME(${QUERY_MS}) */ ${shown} FROM ${quoteTable(database, query.table)} AS t` +
      (where.length === 0 ? '' : ` WHERE ${where.join(' AND ')}`) +
      `${order === '' ? '' : ` ORDER BY ${order}`} LIMIT ${PAGE_ROWS + 1}`,
    reversed,
    cursorLength: keyed ? terms.length : 0,
  };
}

/** A column as text, one character or byte longer than what is shown, so that cutting shows. */
function readColumn({ name, dataType }: Column): string {
  const column = `t.${quoteName(name)}`;
  const value = GEOMETRIES.has(dataType) ? `CAST(${column} AS BINARY)` : column;
  switch (shapeOf(dataType)) {
    case 'bytes':
      // LEFT takes no VECTOR (MySQL manual, "Vector Functions"), HEX does.
      if (dataType === 'vector') return `LEFT(HEX(${value}), ${(MAX_BYTES + 1) * 2})`;
      return `HEX(LEFT(${value}, ${MAX_BYTES + 1}))`;
    case 'text':
      return `LEFT(CAST(${value} AS CHAR), ${MAX_CHARACTERS + 1})`;
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
export function showValue(value: string | null, dataType: string): string | null {
  if (value === null) return null;
  switch (shapeOf(dataType)) {
    case 'bytes':
      return value.length > MAX_BYTES * 2 ? `0x${value.slice(0, MAX_BYTES * 2)}${CUT_MARK}` : `0x${value}`;
    case 'text': {
      const characters = Array.from(value);
      return characters.length > MAX_CHARACTERS ? characters.slice(0, MAX_CHARACTERS).join('') + CUT_MARK : value;
    }
    case 'plain':
      return value;
  }
}
