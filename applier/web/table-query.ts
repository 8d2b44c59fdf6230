/**
 * One page of a consolidated table as a statement: filtered, in a total order, and continued from a row rather than
 * from a count. So the thousandth page costs as much as the first, and new rows do not shift the pages. Pure.
 *
 * Invariant: the values that rows are sorted by are exact (a rounded cursor would skip rows).
 */
import { HttpError } from '../../shared/process/http.ts';
import { quoteTable } from '../../shared/database/sql.ts';
import { bareColumn, exactText, isSortable, kindOf, literalOf, MAX_EXACT_VALUE, readColumn } from './columns.ts';
import type { Column } from './columns.ts';
import { QUERY_MS } from './read-pool.ts';
import { conditionOf } from './selection.ts';
import type { Calendar, PeriodSaid, Selection } from './selection.ts';

export const PAGE_ROWS = 50;
/** Rows are sorted by this much of a text or binary value that is not in the key. */
const SORTED_LENGTH = 100;
/** A table of this many rows is sorted within a second without an index. */
const MAX_SORTED_ROWS = 300_000;
const CHANGED_AT = '_changed_at';

/** A row's place in the order: the values that it is sorted by. */
export type Cursor = readonly (string | null)[];

export interface Order {
  /** null: by the key. */
  readonly sort: string | null;
  readonly descending: boolean;
}

export interface RowsQuery extends Selection {
  /** null: the newest rows first. */
  readonly order: Order | null;
  /** null: the first page. */
  readonly from: { readonly side: 'after' | 'before'; readonly cursor: Cursor } | null;
}

/** A query whose order is decided. */
export interface OrderedQuery extends RowsQuery {
  readonly order: Order;
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
function orderTerms(columns: readonly Column[], query: Selection & { readonly order: Order }): OrderTerm[] {
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
  const bare = bareColumn(column);
  const kind = kindOf(column);
  const common = { nullable: !column.key, literal: (value: string) => literalOf(column, value, MAX_EXACT_VALUE) };
  switch (kind) {
    case 'float':
      // A FLOAT of 0.1 is not 0.1: as a double it is exact.
      return { ...common, expression: `(${bare} + 0e0)`, asText: exactText(column) };
    case 'bit':
      return { ...common, expression: `(${bare} + 0)`, asText: exactText(column) };
    case 'bytes': {
      const expression = column.key ? bare : `LEFT(${bare}, ${SORTED_LENGTH})`;
      return { ...common, expression, asText: `CONCAT('0x', HEX(${expression}))` };
    }
    case 'text': {
      const expression = column.key ? bare : `LEFT(${bare}, ${SORTED_LENGTH})`;
      return { ...common, expression, asText: `CAST(${expression} AS CHAR)` };
    }
    default:
      return { ...common, expression: bare, asText: exactText(column) };
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

/** What follows ORDER BY; '' for a table without a key that is not sorted. */
export function orderSql(columns: readonly Column[], query: Selection & { readonly order: Order }): string {
  return orderTerms(columns, query)
    .map(({ expression }) => `${expression}${query.order.descending ? ' DESC' : ''}`)
    .join(', ');
}

export interface PageStatement {
  readonly sql: string;
  /** The rows come in the opposite order of that asked for: the page before a place is read backwards. */
  readonly reversed: boolean;
  /** How many values after the columns make a row's cursor; 0: the table has no key, and no second page. */
  readonly cursorLength: number;
  readonly period: PeriodSaid | null;
}

/**
 * The statement that reads one page, and one row more to know whether another follows. Each row: the columns as text,
 * then its cursor, then its key.
 * @throws HttpError 400
 */
export function pageStatement(
  database: string,
  columns: readonly Column[],
  query: OrderedQuery,
  calendar: Calendar,
): PageStatement {
  const terms = orderTerms(columns, query);
  const keys = columns.filter(({ key }) => key);
  const reversed = query.from?.side === 'before';
  const descending = query.order.descending !== reversed;
  const condition = conditionOf(columns, query, calendar);
  const where = condition.sql === '' ? [] : [condition.sql];
  if (query.from !== null) where.push(beyond(terms, query.from.cursor, !descending));
  const shown = [
    ...columns.map(column => readColumn(column)),
    ...(keys.length > 0 ? terms.map(({ asText }) => asText) : []),
    ...keys.map(exactText),
  ].join(', ');
  const order = terms.map(({ expression }) => `${expression}${descending ? ' DESC' : ''}`).join(', ');
  return {
    sql:
      `SELECT /*+ MAX_EXECUTION_TIME(${QUERY_MS}) */ ${shown} FROM ${quoteTable(database, query.table)} AS t` +
      (where.length === 0 ? '' : ` WHERE ${where.join(' AND ')}`) +
      `${order === '' ? '' : ` ORDER BY ${order}`} LIMIT ${PAGE_ROWS + 1}`,
    reversed,
    cursorLength: keys.length > 0 ? terms.length : 0,
    period: condition.period,
  };
}
