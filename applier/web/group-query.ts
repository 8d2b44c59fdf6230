/**
 * Totals and groups of a consolidated table as one statement: how many rows, and the sum, average, least or most of a
 * column, by branch, by day, or by any column whose values can be counted together. Pure.
 *
 * The first row that the statement gives is that of all rows (ROLLUP), so that totals cost no second reading.
 */
import { HttpError } from '../../shared/process/http.ts';
import { quoteTable } from '../../shared/database/sql.ts';
import { bareColumn, columnNamed, isDated, isGroupable, isSummable, isUtc, kindOf } from './columns.ts';
import type { Column } from './columns.ts';
import type { Cells } from './read-pool.ts';
import { conditionOf } from './selection.ts';
import type { Calendar, PeriodSaid, Selection } from './selection.ts';
import { changesBetween, changesOf, dateTimeText, DAY_MS, offsetOf } from './zone-time.ts';

/** How long a person waits for totals. */
export const GROUPS_MS = 10_000;
export const MAX_GROUPS = 500;
const MAX_KEY_CHARACTERS = 200;

export const UNITS = ['value', 'hour', 'day', 'week', 'month'] as const;
export type Unit = (typeof UNITS)[number];
export const MEASURES = ['rows', 'sum', 'average', 'least', 'most'] as const;
export type MeasureKind = (typeof MEASURES)[number];

export interface GroupBy {
  readonly column: string;
  /** `value`: equal values; else parts of the calendar. */
  readonly unit: Unit;
}

export interface Measure {
  readonly kind: MeasureKind;
  /** '' for rows. */
  readonly column: string;
}

export interface GroupsQuery extends Selection {
  /** null: totals alone. */
  readonly by: GroupBy | null;
  readonly measure: Measure;
}

export interface Group {
  /** The value, or `2026-11-30 18:00`, `2026-11-30`, `2026-W48`, `2026-11`; null is NULL. */
  readonly key: string | null;
  readonly rows: number;
  /** Of the measure, exactly as the server has it; null: there are only NULLs. */
  readonly value: string | null;
}

export interface Groups {
  readonly by: GroupBy | null;
  readonly measure: Measure;
  /** Of all rows that fit, also of groups that are not listed. */
  readonly total: Group;
  /** Parts of the calendar with the newest first, all else with the largest measure first. */
  readonly groups: readonly Group[];
  /** There are more than MAX_GROUPS. */
  readonly more: boolean;
  readonly period: PeriodSaid | null;
  /** By which calendar hours, days, weeks and months were cut; null: by the branch's own clock, or not at all. */
  readonly zone: string | null;
}

export interface GroupsStatement {
  readonly sql: string;
  readonly period: PeriodSaid | null;
  readonly zone: string | null;
}

/** @throws HttpError 400 */
export function groupsStatement(
  database: string,
  columns: readonly Column[],
  query: GroupsQuery,
  calendar: Calendar,
): GroupsStatement {
  const { by, measure, table } = query;
  const condition = conditionOf(columns, query, calendar);
  const from = `FROM ${quoteTable(database, table)} AS t` + (condition.sql === '' ? '' : ` WHERE ${condition.sql}`);
  const value = measureColumn(columns, table, measure);
  const read = value === null ? '1 AS v' : `${bareColumn(value)} AS v`;
  const figures = `COUNT(*) AS n, ${measureSql(measure.kind)} AS m`;
  const hint = `/*+ MAX_EXECUTION_TIME(${GROUPS_MS}) */`;
  if (by === null) {
    const sql = `SELECT ${hint} NULL, 1, d.n, CAST(d.m AS CHAR) FROM (SELECT ${figures} FROM (SELECT ${read} ${from}) AS e) AS d`;
    return { sql, period: condition.period, zone: null };
  }
  const column = columnNamed(columns, table, by.column);
  const isCalendar = by.unit !== 'value';
  if (isCalendar ? !isDated(column) : !isGroupable(column))
    throw new HttpError(
      400,
      'BAD_REQUEST',
      `${table} cannot be grouped by ${isCalendar ? `the ${by.unit} of ` : ''}${column.name}.`,
    );
  const key = isCalendar ? calendarSql(column, by.unit, condition.period, calendar) : valueSql(column);
  const order = isCalendar ? 'd.g DESC' : `d.m DESC, d.n DESC, d.g`;
  return {
    sql:
      `SELECT ${hint} LEFT(CAST(d.g AS CHAR), ${MAX_KEY_CHARACTERS + 1}), d.total, d.n, CAST(d.m AS CHAR) FROM ` +
      `(SELECT e.g AS g, GROUPING(e.g) AS total, ${figures} FROM (SELECT ${key} AS g, ${read} ${from}) AS e ` +
      `GROUP BY e.g WITH ROLLUP) AS d ORDER BY d.total DESC, ${order} LIMIT ${MAX_GROUPS + 2}`,
    period: condition.period,
    zone: isCalendar && isUtc(column) ? calendar.zone : null,
  };
}

/** What the statement has given. */
export function groupsOf(query: GroupsQuery, { period, zone }: GroupsStatement, rows: readonly Cells[]): Groups {
  const all = rows.map(([key = null, total = null, n = null, value = null]) => ({
    isTotal: total === '1',
    group: { key: cutKey(key), rows: Number(n ?? 0), value: query.measure.kind === 'rows' ? null : value },
  }));
  const groups = all.filter(({ isTotal }) => !isTotal).map(({ group }) => group);
  return {
    by: query.by,
    measure: query.measure,
    total: all.find(({ isTotal }) => isTotal)?.group ?? { key: null, rows: 0, value: null },
    groups: groups.slice(0, MAX_GROUPS),
    more: groups.length > MAX_GROUPS,
    period,
    zone,
  };
}

function cutKey(key: string | null): string | null {
  if (key === null) return null;
  const characters = Array.from(key);
  return characters.length > MAX_KEY_CHARACTERS ? `${characters.slice(0, MAX_KEY_CHARACTERS).join('')}…` : key;
}

function measureColumn(columns: readonly Column[], table: string, { kind, column: name }: Measure): Column | null {
  if (kind === 'rows') return null;
  const column = columnNamed(columns, table, name);
  if (!isSummable(column)) throw new HttpError(400, 'BAD_REQUEST', `${name} has no sums.`);
  return column;
}

function measureSql(kind: MeasureKind): string {
  switch (kind) {
    case 'rows':
      return 'COUNT(*)';
    case 'sum':
      return 'SUM(e.v)';
    case 'average':
      return 'AVG(e.v)';
    case 'least':
      return 'MIN(e.v)';
    case 'most':
      return 'MAX(e.v)';
  }
}

function valueSql(column: Column): string {
  return kindOf(column) === 'bit' ? `(${bareColumn(column)} + 0)` : bareColumn(column);
}

const FORMATS: Readonly<Record<Exclude<Unit, 'value'>, string>> = {
  hour: '%Y-%m-%d %H:00',
  day: '%Y-%m-%d',
  week: '%x-W%v',
  month: '%Y-%m',
};

/** The part of the calendar as text: that is also what a date that does not exist, such as 30 February, has. */
function calendarSql(
  column: Column,
  unit: Exclude<Unit, 'value'>,
  period: PeriodSaid | null,
  calendar: Calendar,
): string {
  return `DATE_FORMAT(${isUtc(column) ? wallSql(column, period, calendar) : bareColumn(column)}, '${FORMATS[unit]}')`;
}

/**
 * A time in UTC by the clock of a zone. The server need not know zones: the changes of the clock stand in the statement,
 * those within the period, the newest first. Times may lie in the future, so without a period all changes do.
 */
function wallSql(column: Column, period: PeriodSaid | null, { zone }: Calendar): string {
  const bare = bareColumn(column);
  const within = period?.column === column.name && period.zone === zone ? period : null;
  const moment = (text: string): number => Date.parse(`${text.replace(' ', 'T')}Z`);
  const from = within === null ? 0 : moment(within.from) - DAY_MS;
  const changes = within === null ? changesOf(zone) : changesBetween(zone, from, moment(within.until) + DAY_MS);
  const first = offsetOf(zone, from) / 1_000;
  if (changes.length === 0) return first === 0 ? bare : `(${bare} + INTERVAL ${first} SECOND)`;
  const cases = changes
    .toReversed()
    .map(({ at, offset }) => `WHEN ${bare} >= '${dateTimeText(at)}' THEN ${offset / 1_000}`);
  return `(${bare} + INTERVAL CASE ${cases.join(' ')} ELSE ${first} END SECOND)`;
}
