/**
 * Looks into the consolidated tables for the head office's page. Reads only, on a connection of its own whose session
 * is read-only and short of patience, so that a curious person cannot slow the applier down.
 *
 * Invariants: a table and a column are named only after information_schema has confirmed them; a page holds at most
 * PAGE_ROWS rows of cut values; a statement ends after QUERY_MS at the server; at most MAX_WAITING requests wait.
 */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { HttpError } from '../../shared/http.ts';
import { closeQuietly, mysqlErrno, mysqlError } from '../../shared/mysql.ts';
import { quoteName, quoteString, quoteTable } from '../../shared/sql.ts';

const PAGE_ROWS = 50;
/** Deeper pages cost the server as much as reading everything before them. */
const MAX_PAGE = 2000;
const QUERY_MS = 3000;
const MAX_WAITING = 16;
/** Longest value shown: characters of text, bytes of binary. */
const MAX_CHARACTERS = 200;
const MAX_BYTES = 32;
const CUT_MARK = '…';
const GEOMETRIES = new Set(
  'geometry geomcollection geometrycollection point linestring polygon multipoint multilinestring multipolygon'.split(
    ' ',
  ),
);

/** ER_QUERY_TIMEOUT: the statement took longer than max_execution_time. */
const ER_QUERY_TIMEOUT = 3024;

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
}

export interface RowsQuery {
  readonly table: string;
  readonly branch: string | null;
  /** From 1. */
  readonly page: number;
  /** null: in key order. */
  readonly sort: string | null;
  readonly descending: boolean;
}

export interface RowsPage {
  readonly table: string;
  readonly columns: readonly ColumnSummary[];
  /** Text as the server prints it, bytes as 0x…, cut values ending in …; null is NULL. */
  readonly rows: readonly (readonly (string | null)[])[];
  readonly page: number;
  readonly more: boolean;
  readonly sort: string | null;
  readonly descending: boolean;
}

interface Column extends ColumnSummary {
  readonly dataType: string;
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
  /** Requests take turns on the one connection. */
  #turn: Promise<unknown> = Promise.resolve();
  #waiting = 0;
  #closed = false;

  constructor(options: TableBrowserOptions) {
    this.#database = options.database;
    this.#connect = options.connect;
  }

  /** The consolidated tables, in order of name. */
  async list(): Promise<TableSummary[]> {
    const rows = await this.#query(
      `SELECT table_name AS name, table_rows AS estimate FROM information_schema.tables
       WHERE table_schema = ${quoteString(this.#database)} AND table_type = 'BASE TABLE'
         AND table_name NOT LIKE 'tributary\\_%' ORDER BY table_name LIMIT 5000`,
    );
    return rows.map(row => ({ name: row[0] ?? '', estimatedRows: Number(row[1] ?? 0) }));
  }

  /** One page of a table. @throws HttpError 404 for an unknown table, 400 for an unknown column or page */
  async rows(query: RowsQuery): Promise<RowsPage> {
    if (query.page > MAX_PAGE)
      throw new HttpError(400, 'BAD_REQUEST', `there are at most ${MAX_PAGE} pages: filter or sort`);
    const columns = await this.#columns(query.table);
    if (query.sort !== null && !columns.some(column => column.name === query.sort)) {
      throw new HttpError(400, 'BAD_REQUEST', `${query.table} has no column ${query.sort}`);
    }
    const rows = await this.#query(selectPage(this.#database, columns, query));
    return {
      table: query.table,
      columns: columns.map(({ name, type, key }) => ({ name, type, key })),
      rows: rows.slice(0, PAGE_ROWS).map(row => columns.map(({ dataType }, i) => showValue(row[i] ?? null, dataType))),
      page: query.page,
      more: rows.length > PAGE_ROWS && query.page < MAX_PAGE,
      sort: query.sort,
      descending: query.descending,
    };
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#turn.catch(() => undefined);
    await closeQuietly(this.#connection);
    this.#connection = null;
  }

  async #columns(table: string): Promise<Column[]> {
    const unknown = new HttpError(404, 'NOT_FOUND', `there is no table ${table}`);
    if (table.toLowerCase().startsWith('tributary_')) throw unknown;
    const rows = await this.#query(
      `SELECT column_name, column_type, data_type, column_key = 'PRI' FROM information_schema.columns
       WHERE table_schema = ${quoteString(this.#database)} AND BINARY table_name = ${quoteString(table)}
       ORDER BY ordinal_position LIMIT 5000`,
    );
    if (rows.length === 0) throw unknown;
    return rows.map(([name, type, dataType, key]) => ({
      name: name ?? '',
      type: type ?? '',
      dataType: (dataType ?? '').toLowerCase(),
      key: key === '1',
    }));
  }

  /** Runs a statement in its turn; a broken connection is replaced at the next one. */
  async #query(sql: string): Promise<(string | null)[][]> {
    if (this.#closed) throw new HttpError(503, 'CLOSING', 'the applier is stopping');
    if (this.#waiting >= MAX_WAITING) throw new HttpError(503, 'BUSY', 'too many requests wait: try again');
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
      this.#connection ??= await this.#open();
      const [rows] = await this.#connection.query<RowDataPacket[][]>({
        sql,
        rowsAsArray: true,
        typeCast: field => field.string(),
      });
      return rows.map(row => Array.from(row, (cell: unknown) => (typeof cell === 'string' ? cell : null)));
    } catch (error) {
      if (mysqlErrno(error) === ER_QUERY_TIMEOUT) {
        throw new HttpError(503, 'TOO_SLOW', 'this order takes too long on a table of this size: filter by branch');
      }
      this.#connection?.destroy();
      this.#connection = null;
      throw mysqlError(error, 'target', 'cannot read the consolidated tables');
    }
  }

  async #open(): Promise<Connection> {
    const connection = await this.#connect();
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

/** The statement that reads one page, and one row more to know whether another follows. Pure. */
export function selectPage(database: string, columns: readonly Column[], query: RowsQuery): string {
  const shown = columns.map(readColumn).join(', ');
  const labelled = columns.some(({ name }) => name === '_branch');
  const where = query.branch === null || !labelled ? '' : ` WHERE t.\`_branch\` = ${quoteString(query.branch)}`;
  const keys = columns.filter(({ key }) => key).map(({ name }) => name);
  // The key at the end makes the order total, so that no row is on two pages or on none.
  const order = query.sort === null ? keys : [query.sort, ...keys.filter(name => name !== query.sort)];
  const direction = query.descending ? ' DESC' : '';
  const orderBy =
    order.length === 0 ? '' : ` ORDER BY ${order.map(name => `t.${quoteName(name)}${direction}`).join(', ')}`;
  const offset = (query.page - 1) * PAGE_ROWS;
  return (
    `SELECT /*+ MAX_EXECUTION_TIME(${QUERY_MS}) */ ${shown} FROM ${quoteTable(database, query.table)} AS t` +
    `${where}${orderBy} LIMIT ${PAGE_ROWS + 1} OFFSET ${offset}`
  );
}

type Shape = 'text' | 'bytes' | 'plain';

function shapeOf(dataType: string): Shape {
  if (/(?:binary|blob)$|^(?:vector|bit)$/.test(dataType) || GEOMETRIES.has(dataType)) return 'bytes';
  return /(?:char|text)$|^json$/.test(dataType) ? 'text' : 'plain';
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
