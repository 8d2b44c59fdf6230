/**
 * The statements that keep a history. Each runs within the transaction that writes the branch's rows.
 *
 * `o` is a version that is open before the statement, `n` the one that follows it, `c` the row of the consolidated table.
 */
import type { Connection, ResultSetHeader, RowDataPacket } from 'mysql2/promise';
import { quoteName, quoteString, quoteTable } from '../../shared/database/sql.ts';
import type { ColumnType } from '../../shared/batch/column-type.ts';
import type { End } from './history-rows.ts';
import { historyName, OPEN_UNTIL, VERSION_KEY } from './history-table.ts';
import { isText } from './target-column.ts';
import type { TargetTable } from './target-table.ts';
import { checkPacket } from './upsert.ts';

const OPEN = `'${OPEN_UNTIL}'`;

/** Where versions are made: whose they are, and when they begin. */
export interface Moment {
  readonly branch: string;
  /** `_batch` of what is written. */
  readonly batchNumber: number;
  /** `_version` of what is written. */
  readonly version: number;
  /** A DATETIME(6) in UTC. */
  readonly at: string;
  /** The time is that of the branch's commit, not one by which the change must have been made. */
  readonly isCommit: boolean;
}

/** Reads by key. What the optimizer knows lags behind a table that grows: without this it reads all of it. */
const BY_KEY = 'FORCE INDEX (PRIMARY)';

/** A history, as SQL needs it. */
export interface HistorySql {
  readonly sql: string;
  /** Quoted names of the columns that identify a row of the branch, in key order. */
  readonly key: readonly string[];
}

/** A history as it is at the server; null: there is none. */
export async function findHistory(connection: Connection, database: string, table: string): Promise<HistorySql | null> {
  const name = historyName(table);
  const [rows] = await connection.query<RowDataPacket[]>(
    `SELECT COLUMN_NAME AS name FROM INFORMATION_SCHEMA.STATISTICS
      WHERE TABLE_SCHEMA = ${quoteString(database)} AND TABLE_NAME = ${quoteString(name)} AND INDEX_NAME = 'PRIMARY'
      ORDER BY SEQ_IN_INDEX`,
  );
  const [branch, ...others] = rows.map(row => String(row['name']));
  const key = others.slice(0, -VERSION_KEY.length);
  const isHistory =
    branch === '_branch' && key.length > 0 && VERSION_KEY.every((column, i) => others[key.length + i] === column);
  return isHistory ? { sql: quoteTable(database, name), key: key.map(quoteName) } : null;
}

/** The same of a table that was prepared for rows. */
export function sqlOf({ sql, key, columns }: TargetTable): HistorySql {
  return { sql, key: key.slice(0, -VERSION_KEY.length).map(index => columns[index]!.sql) };
}

/** `a.k = b.k AND …`, the branch included. */
function sameKey(key: readonly string[], a: string, b: string): string {
  return ['`_branch`', ...key].map(column => `${a}.${column} = ${b}.${column}`).join(' AND ');
}

/** Whether the history has any version of the branch. */
export async function hasVersions(connection: Connection, { sql }: HistorySql, branch: string): Promise<boolean> {
  const [rows] = await connection.query<RowDataPacket[]>(
    `SELECT 1 FROM ${sql} WHERE _branch = ${quoteString(branch)} LIMIT 1`,
  );
  return rows.length > 0;
}

/** The greatest value of the key's first column in the branch's versions, as text; null: it has none. */
export async function greatestKey(
  connection: Connection,
  { sql, key }: HistorySql,
  branch: string,
): Promise<string | null> {
  const [rows] = await connection.query<RowDataPacket[]>(
    `SELECT CAST(MAX(h.${key[0]!}) AS CHAR) AS greatest FROM ${sql} h WHERE h._branch = ${quoteString(branch)}`,
  );
  const greatest: unknown = rows[0]?.['greatest'];
  return typeof greatest === 'string' ? greatest : null;
}

/** What is known of the open versions of some keys. */
export interface OpenVersions {
  readonly count: number;
  /** How many of them are not those of deleted rows. */
  readonly live: number;
  /** The latest `_valid_from`, also of versions that are not counted; null: there is none. */
  readonly latest: string | null;
}

/**
 * @param where a condition that chooses the rows (`h`) by their keys
 * @param until when these versions end
 * @param below only versions with a lower number are counted
 */
export async function readOpen(
  connection: Connection,
  { sql }: HistorySql,
  where: string,
  until: readonly string[],
  below: number,
): Promise<OpenVersions> {
  const statement = `SELECT CAST(COALESCE(SUM(h._version < ${below}), 0) AS SIGNED) AS n,
    CAST(COALESCE(SUM(h._version < ${below} AND NOT h._deleted), 0) AS SIGNED) AS live,
    CAST(MAX(h._valid_from) AS CHAR) AS latest
    FROM ${sql} h ${BY_KEY} WHERE ${where} AND h._valid_until IN (${until.map(quoteString).join(', ')})`;
  checkPacket(connection, statement);
  const [rows] = await connection.query<RowDataPacket[]>(statement);
  const latest: unknown = rows[0]?.['latest'];
  return {
    count: Number(rows[0]?.['n']),
    live: Number(rows[0]?.['live']),
    latest: typeof latest === 'string' ? latest : null,
  };
}

/**
 * Ends open versions.
 * @param where a condition that chooses the rows (`o`) by their keys
 * @param until SQL of the time
 * @param below only versions with a lower number
 */
export function close(
  connection: Connection,
  { sql }: HistorySql,
  where: string,
  until: string,
  below: number,
): Promise<number> {
  return run(
    connection,
    `UPDATE ${sql} o ${BY_KEY} SET o._valid_until = ${until}
      WHERE ${where} AND o._valid_until = ${OPEN} AND o._version < ${below}`,
  );
}

/** Gives versions another end, because those that were to follow them are not there. @param where chooses a row (`o`) */
export async function moveEnds(
  connection: Connection,
  { sql }: HistorySql,
  where: string,
  ends: readonly End[],
): Promise<void> {
  for (const { version, had, until } of ends) {
    await run(
      connection,
      `UPDATE ${sql} o ${BY_KEY} SET o._valid_until = ${quoteString(until)}
        WHERE ${where} AND o._valid_until = ${quoteString(had)} AND o._version = ${version}`,
    );
  }
}

/** Deletes the open versions from this number on. @param where a condition that chooses the rows (`o`) by their keys */
export function undo(connection: Connection, { sql }: HistorySql, where: string, from: number): Promise<number> {
  return run(
    connection,
    `DELETE o FROM ${sql} o ${BY_KEY} WHERE ${where} AND o._valid_until = ${OPEN} AND o._version >= ${from}`,
  );
}

/**
 * Ends open versions where the next one begins, which was written before and is open too.
 * @param where a condition that chooses the rows (`o`)
 * @param below only versions with a lower number
 */
export function closeBefore(
  connection: Connection,
  { sql, key }: HistorySql,
  where: string,
  below: number,
): Promise<number> {
  return run(
    connection,
    `UPDATE ${sql} o ${BY_KEY} STRAIGHT_JOIN ${sql} n ${BY_KEY}
         ON ${sameKey(key, 'n', 'o')} AND n._valid_until = ${OPEN} AND n._version >= ${below}
       SET o._valid_until = n._valid_from
     WHERE ${where} AND o._valid_until = ${OPEN} AND o._version < ${below}`,
  );
}

/**
 * Rows are deleted: each gets a version that says so.
 * @param join what the open versions (`o`) are joined with; '' for nothing
 * @returns how many
 */
export async function bury(
  connection: Connection,
  { sql, key }: HistorySql,
  moment: Moment,
  where: string,
  join = '',
): Promise<number> {
  const { branch, version } = moment;
  const which = `o._branch = ${quoteString(branch)} AND o._valid_until = ${OPEN} AND NOT o._deleted
    AND o._version < ${version} AND ${where}`;
  const columns = ['`_branch`', ...key];
  const made = await run(
    connection,
    `INSERT INTO ${sql} (${columns.join(', ')}, ${OWN_COLUMNS}) SELECT ${columns.map(column => `o.${column}`).join(', ')},
       ${ownValues(moment, 'o._valid_from', 1)} FROM ${sql} o ${BY_KEY} ${join} WHERE ${which}`,
  );
  if (made > 0) {
    await run(
      connection,
      `UPDATE ${sql} o ${BY_KEY} ${join} SET o._valid_until = ${beginning(moment, 'o._valid_from')} WHERE ${which}`,
    );
  }
  return made;
}

const OWN_COLUMNS = '_valid_from, _valid_until, _version, _committed_at, _deleted, _batch, _changed_at';

/** A version never begins before the one that it follows, even if a clock was set back. */
function beginning({ at }: Moment, previous: string): string {
  const time = `CAST(${quoteString(at)} AS DATETIME(6))`;
  return `GREATEST(${time}, COALESCE(${previous}, ${time}))`;
}

function ownValues(moment: Moment, previous: string, deleted: 0 | 1): string {
  const committed = moment.isCommit ? quoteString(moment.at) : 'NULL';
  const { version, batchNumber } = moment;
  return `${beginning(moment, previous)}, ${OPEN}, ${version}, ${committed}, ${deleted}, ${batchNumber}, UTC_TIMESTAMP(6)`;
}

/**
 * Rows of the consolidated table that are not as their open version says get a new version.
 * @param where a condition that chooses rows (`c`)
 * @param limit the most rows; null: all
 * @returns how many
 */
export async function follow(
  connection: Connection,
  table: TargetTable,
  history: TargetTable,
  moment: Moment,
  where: string,
  limit: number | null = null,
): Promise<number> {
  const { sql, key } = sqlOf(history);
  const columns = ['`_branch`', ...table.columns.map(column => column.sql)];
  const differs = table.columns
    .map((column, index) => differ(column.sql, column.target, history.columns[index]!.target))
    .join(' OR ');
  const order = ['`_branch`', ...key].map(column => `c.${column}`).join(', ');
  const slice = limit === null ? '' : ` ORDER BY ${order} LIMIT ${limit}`;
  return run(
    connection,
    `INSERT INTO ${sql} (${columns.join(', ')}, ${OWN_COLUMNS})
     SELECT ${columns.map(column => `c.${column}`).join(', ')}, ${ownValues(moment, 'o._valid_from', 0)}
       FROM ${table.sql} c ${BY_KEY} LEFT JOIN ${sql} o ${BY_KEY} ON ${sameKey(key, 'o', 'c')} AND o._valid_until = ${OPEN}
      WHERE ${where} AND (o._branch IS NULL OR o._deleted OR ${differs})${slice}`,
  );
}

/** Whether two stored values differ, to the byte for text. A JSON document is compared as its text. */
function differ(column: string, row: ColumnType, version: ColumnType): string {
  const isJson = row.base === 'json' || version.base === 'json';
  const asBytes = isJson || isText(row) || isText(version);
  const isSpatial = row.base === 'geometry';
  const value = (alias: string): string => {
    const plain = `${alias}.${column}`;
    if (isSpatial) return `HEX(${plain})`;
    return asBytes ? `CAST(CAST(${plain} AS CHAR CHARACTER SET utf8mb4) AS BINARY)` : plain;
  };
  return `NOT (${value('c')} <=> ${value('o')})`;
}

export async function run(connection: Connection, sql: string): Promise<number> {
  checkPacket(connection, sql);
  const [result] = await connection.query<ResultSetHeader>(sql);
  return result.affectedRows;
}
