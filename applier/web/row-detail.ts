/** One row in full, where it came from, and its versions if they are kept. Reads through the page's connections. */
import { historyName } from '../apply/history-table.ts';
import { HttpError } from '../../shared/process/http.ts';
import { quoteName, quoteString, quoteTable } from '../../shared/database/sql.ts';
import { readColumn, showValue, SHOWN, summaryOf } from './columns.ts';
import type { Column, ColumnSummary, Cut } from './columns.ts';
import { QUERY_MS } from './read-pool.ts';
import type { Cells, ReadPool } from './read-pool.ts';
import { keyCondition } from './selection.ts';

/** Longest value of the row itself. */
const FULL: Cut = { characters: 64 * 1024, bytes: 16 * 1024 };
const MAX_VERSIONS = 50;
/** Columns of a version that say when and by whom, not what. */
const OF_VERSION = ['_valid_from', '_valid_until', '_version', '_committed_at', '_deleted', '_batch', '_changed_at'];

/** One version of a row, as its history has it. Times in UTC. */
export interface RowVersion {
  readonly validFrom: string;
  /** null: it is the present one. */
  readonly validUntil: string | null;
  /** When the branch committed it; null: a snapshot has found it. */
  readonly committedAt: string | null;
  /** From `validFrom` on the row did not exist. */
  readonly deleted: boolean;
  readonly batch: string;
  /** In the order of `versionColumns`. */
  readonly values: Cells;
}

export interface RowDetail {
  readonly table: string;
  readonly columns: readonly ColumnSummary[];
  /** Long ones cut with a mark. */
  readonly values: Cells;
  /** The branch's table that it came from; null: that is not known. */
  readonly source: { readonly branch: string; readonly schema: string; readonly name: string } | null;
  /** The running number of the batch that last wrote it, and when the head office did, in UTC. */
  readonly batch: string | null;
  readonly changedAt: string | null;
  /** The newest first, at most MAX_VERSIONS; null: no history of this table is kept. */
  readonly versions: readonly RowVersion[] | null;
  readonly versionColumns: readonly string[];
}

export interface RowPlace {
  readonly database: string;
  readonly table: string;
  /** Values of the key's columns, in their order. */
  readonly key: readonly string[];
}

/**
 * @param columnsOf null where there is no such table
 * @throws HttpError 404 where the row is not there (any more), 400 for another key
 */
export async function readRowDetail(
  pool: ReadPool,
  { database, table, key }: RowPlace,
  columnsOf: (table: string) => Promise<readonly Column[] | null>,
): Promise<RowDetail> {
  const columns = await columnsOf(table);
  if (columns === null) throw new HttpError(404, 'NOT_FOUND', `There is no table ${table}.`);
  const shown = columns.map(column => readColumn(column, FULL)).join(', ');
  const [cells] = await pool.read(
    `SELECT /*+ MAX_EXECUTION_TIME(${QUERY_MS}) */ ${shown} FROM ${quoteTable(database, table)} AS t
     WHERE ${keyCondition(columns, key)} LIMIT 1`,
  );
  if (cells === undefined) throw new HttpError(404, 'NOT_FOUND', `${table} does not have this row any more.`);
  const values = columns.map(({ dataType }, i) => showValue(cells[i] ?? null, dataType, FULL));
  const valueOf = (name: string): string | null => values[columns.findIndex(column => column.name === name)] ?? null;
  const branch = valueOf('_branch');
  const history = await columnsOf(historyName(table));
  return {
    table,
    columns: columns.map(summaryOf),
    values,
    source: branch === null ? null : await readSource(pool, branch, table),
    batch: valueOf('_batch'),
    changedAt: valueOf('_changed_at'),
    ...(history === null
      ? { versions: null, versionColumns: [] }
      : await readVersions(pool, { database, table, key }, columns, history)),
  };
}

async function readSource(pool: ReadPool, branch: string, table: string): Promise<RowDetail['source']> {
  const [found] = await pool.read(
    `SELECT source_schema, source_name FROM tributary_table
     WHERE branch = ${quoteString(branch)} AND table_name = ${quoteString(table)}`,
  );
  return found === undefined ? null : { branch, schema: found[0] ?? '', name: found[1] ?? '' };
}

async function readVersions(
  pool: ReadPool,
  { database, table, key }: RowPlace,
  columns: readonly Column[],
  history: readonly Column[],
): Promise<Pick<RowDetail, 'versions' | 'versionColumns'>> {
  const keys = columns.filter(column => column.key);
  const inHistory = keys.map(({ name }) => history.find(column => column.name === name));
  if (inHistory.some(column => column === undefined)) return { versions: null, versionColumns: [] };
  const ofRow = history.filter(({ name }) => !OF_VERSION.includes(name));
  const where = keyCondition(
    inHistory.flatMap(column => (column === undefined ? [] : [{ ...column, key: true }])),
    key,
  );
  const own = ['_valid_from', '_valid_until', '_committed_at', '_deleted', '_batch'].map(
    name => `t.${quoteName(name)}`,
  );
  const rows = await pool.read(
    `SELECT /*+ MAX_EXECUTION_TIME(${QUERY_MS}) */ CAST(${own[0]} AS CHAR), IF(YEAR(${own[1]}) = 9999, NULL, CAST(${own[1]} AS CHAR)),
       CAST(${own[2]} AS CHAR), ${own[3]} + 0, CAST(${own[4]} AS CHAR), ${ofRow.map(column => readColumn(column)).join(', ')}
     FROM ${quoteTable(database, historyName(table))} AS t WHERE ${where} ORDER BY t.${quoteName('_version')} DESC LIMIT ${MAX_VERSIONS}`,
  );
  return {
    versions: rows.map(([from = null, until = null, committed = null, deleted = null, batch = null, ...rest]) => ({
      validFrom: from ?? '',
      validUntil: until,
      committedAt: committed,
      deleted: deleted === '1',
      batch: batch ?? '',
      values: ofRow.map(({ dataType }, i) => showValue(rest[i] ?? null, dataType, SHOWN)),
    })),
    versionColumns: ofRow.map(({ name }) => name),
  };
}
