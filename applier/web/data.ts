/**
 * Reads the consolidated tables for the head office's page: their rows, totals, single rows and keys. Through
 * connections of the page's own (read-pool.ts), so that a person who reads does not slow the applier down.
 *
 * Invariants: a table and a column are named only after information_schema has confirmed them; a page holds at most
 * PAGE_ROWS rows of cut values.
 */
import type { Connection } from 'mysql2/promise';
import { HttpError } from '../../shared/process/http.ts';
import { quoteString } from '../../shared/database/sql.ts';
import { tableOfHistory } from '../apply/history-table.ts';
import { showValue, summaryOf } from './columns.ts';
import type { Column, ColumnSummary } from './columns.ts';
import { GROUPS_MS, groupsOf, groupsStatement } from './group-query.ts';
import type { Groups, GroupsQuery } from './group-query.ts';
import { searchKey } from './key-search.ts';
import type { KeyedTable, KeySearch } from './key-search.ts';
import { ReadPool } from './read-pool.ts';
import type { Cells, ReadOptions } from './read-pool.ts';
import { readRowDetail } from './row-detail.ts';
import type { RowDetail } from './row-detail.ts';
import type { Calendar, PeriodSaid } from './selection.ts';
import { newestFirst, PAGE_ROWS, pageStatement } from './table-query.ts';
import type { Cursor, RowsQuery } from './table-query.ts';

/** How long the catalogue is cached: pages ask every few seconds. */
const CATALOGUE_MS = 3_000;
const MAX_TABLES_KNOWN = 400;
/** Columns of all tables that a search for a key reads at once. */
const MAX_CATALOGUE = 100_000;

export interface TableSummary {
  readonly name: string;
  /** The server's estimate. */
  readonly estimatedRows: number;
}

export interface RowsPage {
  readonly table: string;
  readonly columns: readonly ColumnSummary[];
  /** Text as the server prints it, bytes as 0x…, cut values ending in …; null is NULL. */
  readonly rows: readonly Cells[];
  /** The exact key of each row; none where the table has no key. */
  readonly keys: readonly Cells[];
  /** Where the next and the previous page begin; null: there is none. */
  readonly next: Cursor | null;
  readonly previous: Cursor | null;
  readonly sort: string | null;
  readonly descending: boolean;
  readonly period: PeriodSaid | null;
  /** By which periods and days of times in UTC are cut. */
  readonly zone: string;
}

export interface TableBrowserOptions {
  readonly database: string;
  /** Opens a connection of the browser's own. */
  readonly connect: () => Promise<Connection>;
  /** By which days are cut: an IANA name. Default: UTC. */
  readonly zone?: string;
  /** Milliseconds since 1970. Default: this machine's clock. */
  readonly now?: () => number;
}

export class TableBrowser {
  readonly database: string;
  readonly pool: ReadPool;
  readonly #zone: string;
  readonly #now: () => number;
  #list: { readonly at: number; readonly tables: TableSummary[] } | null = null;
  readonly #known = new Map<string, { readonly at: number; readonly columns: Column[] | null }>();

  constructor({ database, connect, zone = 'UTC', now = Date.now }: TableBrowserOptions) {
    this.database = database;
    this.pool = new ReadPool(connect);
    this.#zone = zone;
    this.#now = now;
  }

  /** By which calendar periods and days are cut, as of now. */
  calendar(): Calendar {
    return { zone: this.#zone, now: this.#now() };
  }

  /** The consolidated tables, in order of name: those that say of which branch a row is. */
  async list(): Promise<TableSummary[]> {
    const now = performance.now();
    if (this.#list !== null && now - this.#list.at < CATALOGUE_MS) return this.#list.tables;
    const rows = await this.pool.read(
      `SELECT table_name AS name, table_rows AS estimate FROM information_schema.tables
       WHERE table_schema = ${quoteString(this.database)} AND table_type = 'BASE TABLE'
         AND table_name NOT LIKE 'tributary\\_%' AND table_name IN (
           SELECT table_name FROM information_schema.columns
           WHERE table_schema = ${quoteString(this.database)} AND column_name = '_branch')
       ORDER BY table_name LIMIT 5000`,
    );
    const tables = rows.map(row => ({ name: row[0] ?? '', estimatedRows: Number(row[1] ?? 0) }));
    this.#list = { at: now, tables };
    return tables;
  }

  /** One page of a table. @throws HttpError 404 for an unknown table, 400 for an unknown column, value or place */
  async rows(query: RowsQuery, options: ReadOptions = {}): Promise<RowsPage> {
    const columns = await this.columns(query.table);
    const order = query.order ?? newestFirst(columns, await this.#estimatedRows(query.table));
    const ordered = { ...query, order };
    const { sql, reversed, cursorLength, period } = pageStatement(this.database, columns, ordered, this.calendar());
    const found = await this.pool.read(sql, options);
    const more = found.length > PAGE_ROWS;
    const page = found.slice(0, PAGE_ROWS);
    if (reversed) page.reverse();
    const keysAt = columns.length + cursorLength;
    const cursorOf = (row: Cells | undefined): Cursor | null =>
      row === undefined || cursorLength === 0 ? null : row.slice(columns.length, keysAt);
    const after = reversed || more;
    const before = reversed ? more : query.from !== null;
    return {
      table: query.table,
      columns: columns.map(summaryOf),
      rows: page.map(row => columns.map(({ dataType }, i) => showValue(row[i] ?? null, dataType))),
      keys: cursorLength === 0 ? [] : page.map(row => row.slice(keysAt)),
      next: after ? cursorOf(page.at(-1)) : null,
      previous: before ? cursorOf(page[0]) : null,
      ...order,
      period,
      zone: this.#zone,
    };
  }

  /** Totals and groups. @throws HttpError 404, 400, 503 when it takes longer than a person waits */
  async groups(query: GroupsQuery, signal: AbortSignal): Promise<Groups> {
    const columns = await this.columns(query.table);
    const statement = groupsStatement(this.database, columns, query, this.calendar());
    return groupsOf(query, statement, await this.pool.read(statement.sql, { signal, limitMs: GROUPS_MS }));
  }

  /** One row in full. @throws HttpError 404, 400 */
  row(table: string, key: readonly string[]): Promise<RowDetail> {
    return readRowDetail(this.pool, { database: this.database, table, key }, name => this.#columnsOf(name));
  }

  /** The rows of a key, over all tables. @throws HttpError 400 */
  async find(value: string, branch: string | null, signal: AbortSignal): Promise<KeySearch> {
    const { database } = this;
    return searchKey(this.pool, await this.#catalogue(), { database, value, branch, signal });
  }

  /** The columns of a table. @throws HttpError 404 */
  async columns(table: string): Promise<Column[]> {
    const columns = await this.#columnsOf(table);
    if (columns === null) throw new HttpError(404, 'NOT_FOUND', `There is no table ${table}.`);
    return columns;
  }

  /** Rows of one of our statements, as text, for other parts of the page. */
  read(sql: string, options?: ReadOptions): Promise<Cells[]> {
    return this.pool.read(sql, options);
  }

  close(): Promise<void> {
    return this.pool.close();
  }

  async #estimatedRows(table: string): Promise<number> {
    return (await this.list()).find(({ name }) => name === table)?.estimatedRows ?? 0;
  }

  /** null: there is no such table. */
  async #columnsOf(table: string): Promise<Column[] | null> {
    const now = performance.now();
    const known = this.#known.get(table);
    if (known !== undefined && now - known.at < CATALOGUE_MS) return known.columns;
    if (table.toLowerCase().startsWith('tributary_')) return null;
    const rows = await this.pool.read(`${this.#columnsSql()} AND BINARY table_name = ${quoteString(table)}
       ORDER BY ordinal_position LIMIT 5000`);
    const columns = rows.length === 0 ? null : rows.map(columnOf);
    if (this.#known.size >= MAX_TABLES_KNOWN) this.#known.clear();
    this.#known.set(table, { at: now, columns });
    return columns;
  }

  /** Every table with its columns. */
  async #catalogue(): Promise<KeyedTable[]> {
    const rows = await this.pool.read(
      `${this.#columnsSql()} AND table_name NOT LIKE 'tributary\\_%' ORDER BY table_name, ordinal_position LIMIT ${MAX_CATALOGUE}`,
    );
    const leads = await this.pool.read(
      `SELECT s.table_name, s.column_name FROM information_schema.statistics s JOIN information_schema.statistics f
         ON f.table_schema = s.table_schema AND f.table_name = s.table_name AND f.index_name = s.index_name AND f.seq_in_index = 1
       WHERE s.table_schema = ${quoteString(this.database)} AND s.index_name = 'PRIMARY' AND s.seq_in_index = 2
         AND f.column_name = '_branch' LIMIT ${MAX_CATALOGUE}`,
    );
    const leadOf = new Map(leads.map(([table = null, column = null]) => [table, column]));
    const tables = new Map<string, Column[]>();
    for (const row of rows) {
      const name = row[4] ?? '';
      const columns = tables.get(name);
      if (columns === undefined) tables.set(name, [columnOf(row)]);
      else columns.push(columnOf(row));
    }
    const isHistory = (name: string): boolean => tables.has(tableOfHistory(name) ?? '');
    return [...tables]
      .filter(([name]) => !isHistory(name))
      .map(([name, columns]) => ({ name, columns, lead: leadOf.get(name) ?? null }));
  }

  #columnsSql(): string {
    return `SELECT column_name, column_type, data_type, column_key = 'PRI', table_name FROM information_schema.columns
       WHERE table_schema = ${quoteString(this.database)}`;
  }
}

function columnOf([name = null, type = null, dataType = null, key = null]: Cells): Column {
  return { name: name ?? '', type: type ?? '', dataType: (dataType ?? '').toLowerCase(), key: key === '1' };
}
