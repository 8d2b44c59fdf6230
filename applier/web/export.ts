/**
 * Exports of what a person has selected in a consolidated table, as CSV or XLSX, with the completeness of each branch at
 * the same moment. Rows are written while they come.
 *
 * Bounds: MAX_EXPORTS at a time (read-pool.ts); rows by format; MAX_BYTES; EXPORT_MS, however slowly it is taken. A file that a bound or a fault has
 * ended says NOT COMPLETE in its last row. A caller that goes away ends the statement at the server.
 */
import { describeError } from '../../shared/errors.ts';
import { mysqlErrno } from '../../shared/database/mysql.ts';
import { quoteString, quoteTable } from '../../shared/database/sql.ts';
import { formatDuration } from '../../shared/units.ts';
import { cellFormat, cellValue, csvCell, dateOf, MAX_CELL_CHARACTERS } from './cell-value.ts';
import type { CellValue } from './cell-value.ts';
import { isUtc, mayBeLong, readColumn, showValue } from './columns.ts';
import type { Column, Cut } from './columns.ts';
import type { TableBrowser } from './data.ts';
import { refusalOf, tooSlow } from './read-pool.ts';
import type { Cells, ReadSession } from './read-pool.ts';
import { conditionOf } from './selection.ts';
import type { PeriodSaid, Selection } from './selection.ts';
import { orderSql } from './table-query.ts';
import type { Order } from './table-query.ts';
import { dateTimeText } from './zone-time.ts';

export const FORMATS = ['csv', 'xlsx'] as const;
export type Format = (typeof FORMATS)[number];

const EXPORT_MS = 5 * 60_000;
/** Until then the first row must have come: later nobody could be told why there is none. */
const FIRST_ROW_MS = 15_000;
/** A spreadsheet is work of this thread. */
const MAX_ROWS: Readonly<Record<Format, number>> = { csv: 2_000_000, xlsx: 200_000 };
const MAX_BYTES = 256 * 1024 * 1024;
const CHUNK_CHARACTERS = 64 * 1024;
/** Rows that are read ahead where all values are short. */
const ROWS_AHEAD = 500;
const VALUES: Cut = { characters: MAX_CELL_CHARACTERS - 1, bytes: 8 * 1024 };
const TYPES: Readonly<Record<Format, string>> = {
  csv: 'text/csv; charset=utf-8',
  xlsx: 'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet',
};
/** ER_NO_SUCH_TABLE: the views are missing. */
const NO_SUCH_TABLE = 1146;
/** Without it spreadsheets take UTF-8 for something else. */
const BYTE_ORDER_MARK = '\u{feff}';

export interface ExportQuery extends Selection {
  /** null: by the key, which needs no sorting. */
  readonly order: Order | null;
  readonly format: Format;
}

/** A file that is written while it is read. */
export interface ExportFile {
  readonly name: string;
  readonly contentType: string;
  readonly bytes: AsyncIterable<Uint8Array>;
}

/** How complete a branch was at the moment of the export. Times in UTC. */
interface BranchCompleteness {
  readonly branch: string;
  readonly branchState: string;
  /** null: it has no such table. */
  readonly tableState: string | null;
  /** Everything that was committed in the table until then is here; null: rows may be missing or different. */
  readonly completeAsOf: string | null;
  readonly lastSeen: string | null;
}

/** What an export needs of the tables. */
type ExportTables = Pick<TableBrowser, 'database' | 'calendar' | 'columns'> & {
  readonly pool: Pick<TableBrowser['pool'], 'session'>;
};

/**
 * @param limitMs after which it ends
 * @throws HttpError 404, 400; 503 while others run, or where no row comes in time
 */
export async function openExport(
  tables: ExportTables,
  query: ExportQuery,
  signal: AbortSignal,
  limitMs = EXPORT_MS,
): Promise<ExportFile> {
  const columns = await tables.columns(query.table);
  const calendar = tables.calendar();
  const { sql: where, period } = conditionOf(columns, query, calendar);
  const order = orderSql(columns, { ...query, order: query.order ?? { sort: null, descending: false } });
  const maxRows = MAX_ROWS[query.format];
  const sql =
    `SELECT /*+ MAX_EXECUTION_TIME(${limitMs}) */ ${columns.map(column => readColumn(column, VALUES)).join(', ')} ` +
    `FROM ${quoteTable(tables.database, query.table)} AS t${where === '' ? '' : ` WHERE ${where}`}` +
    `${order === '' ? '' : ` ORDER BY ${order}`} LIMIT ${maxRows + 1}`;
  const session = await tables.pool.session(signal);
  try {
    const branches = await readCompleteness(session, query);
    const rows = new ExportRows(session, session.rows(sql, rowsAhead(columns)), { columns, maxRows, limitMs });
    session.closeAfter(limitMs, () => rows.endByLimit());
    await rows.first();
    const at = new Date(calendar.now);
    const about = { query, period, at, columns, branches, rows };
    return {
      name: `${fileName(query.table)}-${at.toISOString().slice(0, 16).replace(/[:T]/g, '-')}.${query.format}`,
      contentType: TYPES[query.format],
      bytes: counted(query.format === 'csv' ? csvBytes(about) : xlsxBytes(about), rows, session),
    };
  } catch (error) {
    session.close();
    throw refusalOf(error, limitMs) ?? error;
  }
}

/** Wide rows are held in memory by their width. */
function rowsAhead(columns: readonly Column[]): number {
  return Math.max(1, Math.floor(ROWS_AHEAD / (1 + columns.filter(mayBeLong).length)));
}

/** The completeness of each branch as a file of its own. @throws HttpError 404 */
export async function completenessCsv(tables: TableBrowser, table: string): Promise<string> {
  await tables.columns(table);
  const rows = await tables.read(completenessSql({ table, branch: null }));
  const lines = [COMPLETENESS_TITLES, ...rows].map(row => row.map(cell => csvCell(null, cell)).join(','));
  return `${BYTE_ORDER_MARK}${lines.join('\r\n')}\r\n`;
}

const COMPLETENESS_TITLES = [
  'branch',
  'state of the branch',
  'state of the table',
  'complete as of (UTC)',
  'last seen (UTC)',
];

function completenessSql({ table, branch }: Pick<Selection, 'table' | 'branch'>): string {
  const of = branch === null ? '' : ` WHERE f.branch = ${quoteString(branch)}`;
  return `SELECT f.branch, f.state, t.state, CAST(t.complete_as_of AS CHAR), CAST(f.last_seen AS CHAR)
    FROM tributary_fleet f LEFT JOIN tributary_freshness t ON t.branch = f.branch AND t.table_name = ${quoteString(table)}${of}
    ORDER BY f.branch`;
}

/** null: the views for reports are missing, so it is not known. */
async function readCompleteness(session: ReadSession, query: ExportQuery): Promise<BranchCompleteness[] | null> {
  try {
    const rows = await session.read(completenessSql(query));
    return rows.map(([branch = null, branchState = null, tableState = null, completeAsOf = null, lastSeen = null]) => ({
      branch: branch ?? '',
      branchState: branchState ?? '',
      tableState,
      completeAsOf,
      lastSeen,
    }));
  } catch (error) {
    if (mysqlErrno(error) === NO_SUCH_TABLE) return null;
    throw error;
  }
}

/** The rows of one export, and how they have ended. */
class ExportRows {
  readonly #session: ReadSession;
  readonly #source: AsyncGenerator<Cells, void, undefined>;
  readonly #columns: readonly Column[];
  readonly #maxRows: number;
  readonly #limitMs: number;
  #ahead: IteratorResult<Cells, void> | null = null;
  #taken = 0;
  /** Why the rows end before the last; null: they do not. */
  #why: string | null = null;
  #stopWaiting: () => void = () => undefined;

  constructor(
    session: ReadSession,
    source: AsyncGenerator<Cells, void, undefined>,
    { columns, maxRows, limitMs }: { columns: readonly Column[]; maxRows: number; limitMs: number },
  ) {
    this.#session = session;
    this.#source = source;
    this.#columns = columns;
    this.#maxRows = maxRows;
    this.#limitMs = limitMs;
  }

  get taken(): number {
    return this.#taken;
  }

  get why(): string | null {
    return this.#why;
  }

  /** No row comes after this. */
  end(why: string): void {
    this.#why ??= why;
    this.#stopWaiting();
  }

  endByLimit(): void {
    this.end(`it took longer than ${formatDuration(this.#limitMs)}. Select fewer rows`);
  }

  /** Waits for the first row. @throws HttpError 503 where none comes in time */
  async first(): Promise<void> {
    const { promise, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(() => reject(tooSlow(FIRST_ROW_MS)), FIRST_ROW_MS);
    try {
      const next = this.#source.next();
      next.catch(() => undefined);
      this.#ahead = await Promise.race([next, promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<(string | null)[], void, undefined> {
    try {
      for (;;) {
        const next = await this.#next();
        if (next === null || next.done === true) return;
        if (this.#taken >= this.#maxRows) {
          this.end(`it ends after ${this.#maxRows.toLocaleString('en-GB')} rows. Select fewer`);
          return;
        }
        this.#taken += 1;
        yield this.#columns.map(({ dataType }, i) => showValue(next.value[i] ?? null, dataType, VALUES));
      }
    } catch (error) {
      if (refusalOf(error, this.#limitMs)?.code === 'TOO_SLOW') this.endByLimit();
      else this.end(describeError(error));
    } finally {
      this.#session.close();
    }
  }

  /** null: the rows have been ended, maybe while the next one was awaited. */
  async #next(): Promise<IteratorResult<Cells, void> | null> {
    if (this.#why !== null) return null;
    const ahead = this.#ahead;
    this.#ahead = null;
    if (ahead !== null) return ahead;
    const { promise, resolve, reject } = Promise.withResolvers<IteratorResult<Cells, void> | null>();
    this.#stopWaiting = () => resolve(null);
    this.#source.next().then(resolve, reject);
    return promise;
  }
}

interface About {
  readonly query: ExportQuery;
  readonly period: PeriodSaid | null;
  readonly at: Date;
  readonly columns: readonly Column[];
  readonly branches: readonly BranchCompleteness[] | null;
  readonly rows: ExportRows;
}

/** Counts the bytes, and closes the session whatever happens. */
async function* counted(
  bytes: AsyncIterable<Uint8Array>,
  rows: ExportRows,
  session: ReadSession,
): AsyncGenerator<Uint8Array, void, undefined> {
  let size = 0;
  try {
    for await (const chunk of bytes) {
      size += chunk.length;
      if (size > MAX_BYTES) rows.end(`it ends after ${MAX_BYTES / 1024 / 1024} MiB. Select fewer rows`);
      yield chunk;
    }
  } finally {
    session.close();
  }
}

function titleOf(column: Column): string {
  return isUtc(column) ? `${column.name} (UTC)` : column.name;
}

const NOT_COMPLETE = 'NOT COMPLETE: ';

async function* csvBytes({ columns, branches, rows }: About): AsyncGenerator<Uint8Array, void, undefined> {
  const branchAt = columns.findIndex(({ name }) => name === '_branch');
  const complete = new Map(branches?.map(({ branch, completeAsOf }) => [branch, completeAsOf]));
  const isKnown = branches !== null && branchAt >= 0;
  const titles = [...columns.map(titleOf), ...(isKnown ? ['complete as of (UTC)'] : [])];
  let text = `${BYTE_ORDER_MARK}${titles.map(title => csvCell(null, title)).join(',')}\r\n`;
  for await (const row of rows) {
    const cells = row.map((value, i) => csvCell(columns[i] ?? null, value));
    if (isKnown) cells.push(csvCell(null, complete.get(row[branchAt] ?? '') ?? null));
    text += `${cells.join(',')}\r\n`;
    if (text.length < CHUNK_CHARACTERS) continue;
    yield Buffer.from(text);
    text = '';
  }
  if (rows.why !== null) text += `${csvCell(null, `${NOT_COMPLETE}${rows.why}.`)}\r\n`;
  yield Buffer.from(text);
}

async function* xlsxBytes(about: About): AsyncGenerator<Uint8Array, void, undefined> {
  const { columns, rows } = about;
  async function* data(): AsyncGenerator<CellValue[], void, undefined> {
    for await (const row of rows) yield columns.map((column, i) => cellValue(column, row[i] ?? null));
    if (rows.why !== null) yield [`${NOT_COMPLETE}${rows.why}.`];
  }
  // Loaded with the first spreadsheet only.
  const { workbookBytes } = await import('./xlsx.ts');
  yield* workbookBytes([
    {
      name: 'Rows',
      columns: columns.map(column => ({ title: titleOf(column), format: cellFormat(column) })),
      rows: data(),
    },
    { name: 'Completeness', columns: [], rows: completenessRows(about) },
  ]);
}

/** Read after the rows were written: it says whether all of them are there. */
function* completenessRows({ query, period, at, branches, rows }: About): Generator<CellValue[], void, undefined> {
  const filters = [
    ...(query.branch === null ? [] : [`branch ${query.branch}`]),
    ...(period === null
      ? []
      : [
          `${period.column} from ${period.from} until before ${period.until}, ${period.zone ?? 'by the branch’s clock'}`,
        ]),
    ...query.filters.map(({ column, operator, value }) => `${column} ${operator} ${value}`.trim()),
  ];
  yield ['Table', query.table];
  yield ['Selected', filters.length === 0 ? 'all rows' : filters.join('; ').slice(0, MAX_CELL_CHARACTERS)];
  yield ['As of (UTC)', dateTimeText(at.getTime())];
  yield ['Rows', rows.taken];
  yield ['This file', rows.why === null ? 'has all rows that were selected' : `${NOT_COMPLETE}${rows.why}.`];
  yield [];
  if (branches === null) {
    yield ['How complete the branches are is not known: the views for reports are missing (tributary-applier check).'];
    return;
  }
  yield COMPLETENESS_TITLES;
  for (const { branch, branchState, tableState, completeAsOf, lastSeen } of branches) {
    yield [
      branch,
      branchState,
      tableState ?? 'no such table',
      completeAsOf === null ? 'not known' : (dateOf(completeAsOf) ?? completeAsOf),
      lastSeen === null ? 'never' : (dateOf(lastSeen) ?? lastSeen),
    ];
  }
}

/** A name that every file system takes. */
function fileName(table: string): string {
  return table.replace(/[^\w-]+/g, '_').slice(0, 60) || 'table';
}
