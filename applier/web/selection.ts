/**
 * Which rows of a table a person wants: of one branch, of a period, and those that fit filters; as the condition of a
 * statement. Rows, totals and exports share it. Pure.
 *
 * A period is days of a calendar. Of a column in UTC they are the days of the zone of reports. Other times have no zone:
 * they are compared as the branch stored them. The answer says which it was.
 */
import { HttpError } from '../../shared/process/http.ts';
import { quoteString } from '../../shared/database/sql.ts';
import { bareColumn, columnNamed, isDated, isExactly, isUtc, kindOf, literalOf, MAX_VALUE } from './columns.ts';
import type { Column } from './columns.ts';
import { dateTimeText, DAY_MS, dayOf, momentOf, wallOf } from './zone-time.ts';

const MAX_FILTERS = 8;

export const OPERATORS = ['=', '!=', '<', '<=', '>', '>=', 'contains', 'null', 'not-null'] as const;
export type Operator = (typeof OPERATORS)[number];

export interface Filter {
  readonly column: string;
  readonly operator: Operator;
  /** '' for `null` and `not-null`. */
  readonly value: string;
}

export const PRESETS = ['today', 'yesterday', '7-days', '30-days', 'this-month', 'last-month', 'this-year'] as const;
export type Preset = (typeof PRESETS)[number];

export interface Period {
  /** One with days. */
  readonly column: string;
  readonly preset: Preset;
}

export interface Selection {
  readonly table: string;
  readonly branch: string | null;
  readonly filters: readonly Filter[];
  readonly period: Period | null;
}

/** By which calendar days are counted. */
export interface Calendar {
  /** IANA name. */
  readonly zone: string;
  /** Milliseconds since 1970. */
  readonly now: number;
}

/** What a period has meant. */
export interface PeriodSaid {
  readonly column: string;
  /** `2026-11-30 00:00:00`, by the clock of `zone`; `until` does not belong to it. */
  readonly from: string;
  readonly until: string;
  /** null: by the branch's own clock, as the column has no zone. */
  readonly zone: string | null;
}

export interface Condition {
  /** What follows WHERE; '' where all rows fit. */
  readonly sql: string;
  readonly period: PeriodSaid | null;
}

/** @throws HttpError 400 */
export function conditionOf(columns: readonly Column[], selection: Selection, calendar: Calendar): Condition {
  const { table, branch, filters, period } = selection;
  if (filters.length > MAX_FILTERS)
    throw new HttpError(400, 'BAD_REQUEST', `At most ${MAX_FILTERS} filters are possible.`);
  const parts = filters.map(filter => filterSql(columns, table, filter));
  if (branch !== null) {
    // Else the rows of all would be taken for those of one.
    if (!columns.some(({ name }) => name === '_branch'))
      throw new HttpError(400, 'BAD_REQUEST', `${table} does not say of which branch a row is.`);
    parts.unshift(`t.\`_branch\` = ${quoteString(branch)}`);
  }
  if (period === null) return { sql: parts.join(' AND '), period: null };
  const column = columnNamed(columns, table, period.column);
  if (!isDated(column)) throw new HttpError(400, 'BAD_REQUEST', `${column.name} has no days.`);
  const wall = boundsOf(period.preset, wallOf(calendar.zone, calendar.now));
  const utc = isUtc(column);
  const literal = (at: number): string =>
    literalOf(
      column,
      dateTimeText(utc ? momentOf(calendar.zone, at) : at).slice(0, column.dataType === 'date' ? 10 : 19),
    );
  parts.push(`${bareColumn(column)} >= ${literal(wall.from)}`, `${bareColumn(column)} < ${literal(wall.until)}`);
  return {
    sql: parts.join(' AND '),
    period: {
      column: column.name,
      from: dateTimeText(wall.from),
      until: dateTimeText(wall.until),
      zone: utc ? calendar.zone : null,
    },
  };
}

/** The days of a preset as wall times; the second does not belong to it. */
export function boundsOf(preset: Preset, wallNow: number): { readonly from: number; readonly until: number } {
  const today = dayOf(wallNow);
  const date = new Date(today);
  const month = (ahead: number): number => Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + ahead, 1);
  switch (preset) {
    case 'today':
      return { from: today, until: today + DAY_MS };
    case 'yesterday':
      return { from: today - DAY_MS, until: today };
    case '7-days':
      return { from: today - 6 * DAY_MS, until: today + DAY_MS };
    case '30-days':
      return { from: today - 29 * DAY_MS, until: today + DAY_MS };
    case 'this-month':
      return { from: month(0), until: month(1) };
    case 'last-month':
      return { from: month(-1), until: month(0) };
    case 'this-year':
      return { from: Date.UTC(date.getUTCFullYear(), 0, 1), until: Date.UTC(date.getUTCFullYear() + 1, 0, 1) };
  }
}

function filterSql(columns: readonly Column[], table: string, { column: name, operator, value }: Filter): string {
  const column = columnNamed(columns, table, name);
  const bare = bareColumn(column);
  const kind = kindOf(column);
  switch (operator) {
    case 'null':
      return `${bare} IS NULL`;
    case 'not-null':
      return `${bare} IS NOT NULL`;
    case 'contains': {
      if (value.length > MAX_VALUE)
        throw new HttpError(400, 'BAD_REQUEST', `A value has at most ${MAX_VALUE} characters.`);
      if (kind === 'bytes' || (kind === 'opaque' && column.dataType !== 'json')) {
        throw new HttpError(400, 'BAD_REQUEST', `${name} has no text to search.`);
      }
      // People look for "paris" and mean "Paris".
      const pattern = quoteString(`%${value.replace(/[\\%_]/g, '\\$&')}%`);
      return `CONVERT(${bare} USING utf8mb4) COLLATE utf8mb4_0900_ai_ci LIKE ${pattern}`;
    }
    default: {
      if (kind === 'opaque') throw new HttpError(400, 'BAD_REQUEST', `${name} can only be searched with “contains”.`);
      const literal = literalOf(column, value);
      if (column.dataType === 'float') return `${bare} ${operator} CAST(${literal} AS FLOAT)`;
      return `${kind === 'bit' ? `(${bare} + 0)` : bare} ${operator} ${literal}`;
    }
  }
}

/** The row with exactly this key, in the order of the key's columns. @throws HttpError 400 */
export function keyCondition(columns: readonly Column[], key: readonly string[]): string {
  const keys = columns.filter(column => column.key);
  if (keys.length === 0 || keys.length !== key.length)
    throw new HttpError(400, 'BAD_REQUEST', 'The key does not have the parts of the table’s key.');
  return keys.map((column, i) => isExactly(column, key[i] ?? '')).join(' AND ');
}
