/**
 * Reads the consolidated tables for the head office's page, on a connection of its own. Its session is read-only and
 * has a short time limit, so that a person who reads rows does not slow the applier down.
 *
 * Invariants: a table and a column are named only after information_schema has confirmed them; a page holds at most
 * PAGE_ROWS rows of cut values; a statement ends after QUERY_MS at the server; at most MAX_WAITING requests wait.
 */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { HttpError } from '../../shared/process/http.ts';
import { closeQuietly, mysqlErrno, mysqlError } from '../../shared/database/mysql.ts';
import { quoteString } from '../../shared/database/sql.ts';
import { isSortable, newestFirst, PAGE_ROWS, pageStatement, QUERY_MS, showValue } from './table-query.ts';
import type { Column, Cursor, RowsQuery } from './table-query.ts';
import { formatDuration } from '../../shared/units.ts';

const MAX_WAITING = 16;
/** How long the catalogue is cached: pages ask every few seconds. */
const CATALOGUE_MS = 3000;
const MAX_TABLES_KNOWN = 200;
/** Then the server is asked anew whether it has what the others have. */
const MAX_CONNECTION_AGE_MS = 30_000;

/** ER_QUERY_TIMEOUT: the statement took longer than max_execution_time. */
const ER_QUERY_TIMEOUT = 3024;
/** What a person has typed is not a date, time or number that the server understands. */
const ER_WRONG_VALUES = new Set([1292, 1411, 1525, 1690]);

export interface TableSummary {
  readonly name: string;
  /** The server's estimate. */
  readonly estimatedRows: number;
}

export interface ColumnSummary {
  readonly name: string;
  readonly type: string;
  /** Part of the row's identity. */
  readonly key: boolean;
  readonly sortable: boolean;
}

export interface RowsPage {
  readonly table: string;
  readonly columns: readonly ColumnSummary[];
  /** Text as the server prints it, bytes as 0x…, cut values ending in …; null is NULL. */
  readonly rows: readonly (readonly (string | null)[])[];
  /** Where the next and the previous page begin; null: there is none. */
  readonly next: Cursor | null;
  readonly previous: Cursor | null;
  readonly sort: string | null;
  readonly descending: boolean;
}

export interface TableBrowserOptions {
  readonly database: string;
  /** Opens a connection of the browser's own. */
  readonly connect: () => Promise<Connection>;
}

export class TableBrowser {
  readonly #database: string;
  readonly #connect: () => Promise<Connection>;
  #connection: Connection | null = null;
  #openedAt = 0;
  /** Requests take turns on the one connection. */
  #turn: Promise<unknown> = Promise.resolve();
  #waiting = 0;
  #closed = false;
  #list: { readonly at: number; readonly tables: TableSummary[] } | null = null;
  readonly #known = new Map<string, { readonly at: number; readonly columns: Column[] }>();

  constructor(options: TableBrowserOptions) {
    this.#database = options.database;
    this.#connect = options.connect;
  }

  /** The consolidated tables, in order of name. */
  async list(): Promise<TableSummary[]> {
    const now = performance.now();
    if (this.#list !== null && now - this.#list.at < CATALOGUE_MS) return this.#list.tables;
    const rows = await this.#query(
      `SELECT table_name AS name, table_rows AS estimate FROM information_schema.tables
       WHERE table_schema = ${quoteString(this.#database)} AND table_type = 'BASE TABLE'
         AND table_name NOT LIKE 'tributary\\_%' ORDER BY table_name LIMIT 5000`,
    );
    const tables = rows.map(row => ({ name: row[0] ?? '', estimatedRows: Number(row[1] ?? 0) }));
    this.#list = { at: now, tables };
    return tables;
  }

  /** One page of a table. @throws HttpError 404 for an unknown table, 400 for an unknown column, value or place */
  async rows(query: RowsQuery): Promise<RowsPage> {
    const columns = await this.#columns(query.table);
    const order = query.order ?? newestFirst(columns, await this.#estimatedRows(query.table));
    const { sql, reversed, cursorLength } = pageStatement(this.#database, columns, { ...query, order });
    const found = await this.#query(sql);
    const more = found.length > PAGE_ROWS;
    const page = found.slice(0, PAGE_ROWS);
    if (reversed) page.reverse();
    const cursorOf = (row: (string | null)[] | undefined): Cursor | null =>
      row === undefined || cursorLength === 0 ? null : row.slice(columns.length);
    const after = reversed || more;
    const before = reversed ? more : query.from !== null;
    return {
      table: query.table,
      columns: columns.map(column => ({
        name: column.name,
        type: column.type,
        key: column.key,
        sortable: isSortable(column),
      })),
      rows: page.map(row => columns.map(({ dataType }, i) => showValue(row[i] ?? null, dataType))),
      next: after ? cursorOf(page.at(-1)) : null,
      previous: before ? cursorOf(page[0]) : null,
      ...order,
    };
  }

  async #estimatedRows(table: string): Promise<number> {
    return (await this.list()).find(({ name }) => name === table)?.estimatedRows ?? 0;
  }

  /** Rows of one of our statements, as text, for other parts of the page. */
  read(sql: string): Promise<(string | null)[][]> {
    return this.#query(sql);
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#turn.catch(() => undefined);
    await closeQuietly(this.#connection);
    this.#connection = null;
  }

  async #columns(table: string): Promise<Column[]> {
    const now = performance.now();
    const known = this.#known.get(table);
    if (known !== undefined && now - known.at < CATALOGUE_MS) return known.columns;
    const unknown = new HttpError(404, 'NOT_FOUND', `There is no table ${table}.`);
    if (table.toLowerCase().startsWith('tributary_')) throw unknown;
    const rows = await this.#query(
      `SELECT column_name, column_type, data_type, column_key = 'PRI' FROM information_schema.columns
       WHERE table_schema = ${quoteString(this.#database)} AND BINARY table_name = ${quoteString(table)}
       ORDER BY ordinal_position LIMIT 5000`,
    );
    if (rows.length === 0) throw unknown;
    const columns = rows.map(([name, type, dataType, key]) => ({
      name: name ?? '',
      type: type ?? '',
      dataType: (dataType ?? '').toLowerCase(),
      key: key === '1',
    }));
    if (this.#known.size >= MAX_TABLES_KNOWN) this.#known.clear();
    this.#known.set(table, { at: now, columns });
    return columns;
  }

  /** Runs a statement in its turn; a broken connection is replaced at the next one. */
  async #query(sql: string): Promise<(string | null)[][]> {
    if (this.#closed) throw new HttpError(503, 'CLOSING', 'The applier is stopping.');
    if (this.#waiting >= MAX_WAITING) throw new HttpError(503, 'BUSY', 'Too many requests are waiting. Try again.');
    this.#waiting += 1;
    const run = this.#turn.then(() => this.#run(sql));
    this.#turn = run.catch(() => undefined);
    try {
      return await run;
    } finally {
      this.#waiting -= 1;
    }
  }

  async #run(sql: string): Promise<(string | null)[][]> {
    try {
      if (performance.now() - this.#openedAt > MAX_CONNECTION_AGE_MS) {
        this.#connection?.destroy();
        this.#connection = null;
      }
      this.#connection ??= await this.#open();
      const [rows] = await this.#connection.query<RowDataPacket[][]>({
        sql,
        rowsAsArray: true,
        typeCast: field => field.string(),
      });
      return rows.map(row => Array.from(row, (cell: unknown) => (typeof cell === 'string' ? cell : null)));
    } catch (error) {
      const errno = mysqlErrno(error);
      if (errno === ER_QUERY_TIMEOUT) {
        throw new HttpError(
          503,
          'TOO_SLOW',
          `This takes longer than ${formatDuration(QUERY_MS)}. Choose a branch, or sort by the key.`,
        );
      }
      if (errno !== null && ER_WRONG_VALUES.has(errno)) {
        throw new HttpError(
          400,
          'BAD_REQUEST',
          error instanceof Error ? error.message : 'The value does not fit the column.',
        );
      }
      this.#connection?.destroy();
      this.#connection = null;
      throw mysqlError(error, 'target', 'cannot read the consolidated tables');
    }
  }

  async #open(): Promise<Connection> {
    const connection = await this.#connect();
    this.#openedAt = performance.now();
    try {
      await connection.query(
        `SET SESSION transaction_read_only = ON, transaction_isolation = 'READ-COMMITTED',
           max_execution_time = ${QUERY_MS}, time_zone = '+00:00'`,
      );
    } catch (error) {
      connection.destroy();
      throw error;
    }
    return connection;
  }
}
