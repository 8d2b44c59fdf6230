/**
 * The branch database over an ordinary connection: its identity, its settings, the end of its binlog. Reads only.
 * After any failure the connection must be replaced by a new one.
 */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { TributaryError } from '../../shared/errors.ts';
import type { MysqlSettings } from '../../shared/config/link-settings.ts';
import { connectMysql, mysqlErrno, mysqlError, streamCells } from '../../shared/database/mysql.ts';
import { quoteTable } from '../../shared/database/sql.ts';
import { isAtLeast } from '../../shared/server-versions.ts';
import { tableKey, tableText } from '../../shared/table-name.ts';
import type { ServerRun } from '../spool/server-seen.ts';
import type { Cascade } from './cascades.ts';
import { MariadbGtidPosition } from '../binlog/gtid-set.ts';
import type { TableName } from '../../shared/table-name.ts';
import { rowsOfEach } from '../catalogue-query.ts';
import type { CatalogueRow } from '../catalogue-query.ts';
import { UnloggedWrites } from './unlogged-writes.ts';
import { restrictingForeignKeys } from './foreign-key-rules.ts';

const NO_SUCH_TABLE = 1146;
/** Rows of a stream that are read ahead. */
const STREAMED_ROWS = 256;

export type Flavor = 'mysql' | 'mariadb';

export interface SourceIdentity {
  readonly flavor: Flavor;
  readonly version: string;
  /** server_uuid (MySQL), or `mariadb-<server_id>`. */
  readonly server: string;
  /** MySQL with gtid_mode=ON: capture uses GTIDs. Otherwise it uses file and offset. */
  readonly gtids: boolean;
  /** lower_case_table_names is not 0: rows and catalogue have names in lower case, statements have them as typed. */
  readonly lowerCaseNames: boolean;
}

/** A place in the binlog. */
export interface BinlogPlace {
  readonly file: string;
  readonly offset: number;
}

/** The end of the binlog, and everything executed; `gtidSet` is '' without GTIDs. */
export interface BinlogEnd extends BinlogPlace {
  readonly gtidSet: string;
}

/**
 * Overrides all defaults of new sessions that could change the result of a query: values are unchanged (no padding, no
 * refused dates, times in UTC), all rows come in their order, each query has its own view unless a transaction was begun, and
 * hidden keys are shown. There are no time limits, except for waiting for an ALTER or LOCK TABLES of somebody else, because
 * that must be reported. Settings of one kind of server are in comments that the other one ignores.
 */
const SESSION = [
  `SET SESSION sql_mode = '', time_zone = '+00:00', autocommit = 1, completion_type = 0,
     sql_select_limit = 18446744073709551615, sql_big_selects = 1, max_sort_length = 16384, sort_buffer_size = 1048576,
     wait_timeout = 28800, lock_wait_timeout = 60, group_concat_max_len = 4294967295
     /*!50708 , max_execution_time = 0 */ /*!80030 , show_gipk_in_create_table_and_information_schema = 1 */
     /*M!100300 , max_statement_time = 0, idle_transaction_timeout = 0, idle_readonly_transaction_timeout = 0 */`,
  'SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ',
];

/** A row of a query, with all values as text. */
type TextRow = Record<string, string | null>;

export class SourceConnection {
  readonly #connection: Connection;
  #identity: SourceIdentity | null = null;

  private constructor(connection: Connection) {
    this.#connection = connection;
  }

  /**
   * @param name shown in the server's list of sessions
   * @param stallMs longest silence while a query is under way, if it is not the usual one
   */
  static async open(settings: MysqlSettings, name: string, stallMs?: number): Promise<SourceConnection> {
    return new SourceConnection(
      await connectMysql(settings, {
        side: 'source',
        name,
        session: SESSION,
        ...(stallMs === undefined ? {} : { stallMs }),
      }),
    );
  }

  /** Rows as text; @throws TributaryError SOURCE_ACCESS_DENIED or SOURCE_UNREACHABLE */
  async rows(sql: string, values: readonly (string | number)[] = []): Promise<TextRow[]> {
    try {
      const [rows] = await this.#connection.query<RowDataPacket[]>({
        sql,
        values: [...values],
        typeCast: field => field.string(),
      });
      return rows;
    } catch (error) {
      throw mysqlError(error, 'source', 'The branch database refuses a query');
    }
  }

  /** Rows as raw column bytes: cells[r][c]. The driver converts nothing. */
  async cells(sql: string): Promise<(Buffer | null)[][]> {
    try {
      const [rows] = await this.#connection.query<RowDataPacket[][]>({
        sql,
        rowsAsArray: true,
        typeCast: field => field.buffer(),
      });
      return rows as unknown[] as (Buffer | null)[][];
    } catch (error) {
      throw mysqlError(error, 'source', 'The branch database refuses a query');
    }
  }

  /** The same, row by row on demand. To stop early, the caller must destroy the connection. */
  async *stream(sql: string): AsyncGenerator<readonly (Buffer | null)[], void, undefined> {
    try {
      yield* streamCells(this.#connection, sql, STREAMED_ROWS);
    } catch (error) {
      throw mysqlError(error, 'source', 'The branch database refuses a query');
    }
  }

  async execute(sql: string): Promise<void> {
    await this.rows(sql);
  }

  async identity(): Promise<SourceIdentity> {
    if (this.#identity) return this.#identity;
    const [first] = await this.rows('SELECT VERSION() AS version, @@lower_case_table_names AS folding');
    const version = first?.['version'] ?? '';
    const lowerCaseNames = first?.['folding'] !== '0';
    if (/mariadb/i.test(version)) {
      const row = (await this.rows('SELECT @@server_id AS id'))[0];
      this.#identity = {
        flavor: 'mariadb',
        version,
        server: `mariadb-${row?.['id'] ?? '0'}`,
        gtids: false,
        lowerCaseNames,
      };
    } else {
      const row = (await this.rows('SELECT @@server_uuid AS uuid, @@gtid_mode AS gtids'))[0];
      const gtids = row?.['gtids'] === 'ON';
      this.#identity = { flavor: 'mysql', version, server: row?.['uuid'] ?? '', gtids, lowerCaseNames };
    }
    return this.#identity;
  }

  async variables(): Promise<Map<string, string>> {
    const rows = await this.rows('SHOW GLOBAL VARIABLES');
    return new Map(rows.map(row => [row['Variable_name'] ?? '', row['Value'] ?? '']));
  }

  /** How long this server keeps its binlogs; null: without a time limit. */
  async binlogRetentionSeconds(): Promise<number | null> {
    return binlogRetention(await this.variables());
  }

  /** The account's rights as GRANT statements, including those of its active roles. */
  async grants(): Promise<string[]> {
    // MariaDB includes roles by itself; MySQL 5.7 has none. MySQL returns the names quoted, as the statement needs them.
    const [row] = await this.rows("SELECT COALESCE(/*!80000 CURRENT_ROLE(), */ 'NONE') AS roles");
    const roles = row?.['roles'] ?? 'NONE';
    const using = roles === 'NONE' ? '' : ` FOR CURRENT_USER() USING ${roles}`;
    const rows = await this.rows(`SHOW GRANTS${using}`);
    return rows.map(row => Object.values(row)[0] ?? '');
  }

  /** The account as SQL names it, e.g. `'tributary'@'%'`. */
  async account(): Promise<string> {
    const account = (await this.rows('SELECT CURRENT_USER() AS account'))[0]?.['account'] ?? '';
    const at = account.lastIndexOf('@');
    return `'${account.slice(0, at)}'@'${account.slice(at + 1)}'`;
  }

  /** Where the binlog ends now. A commit may be here before it is visible to a SELECT. */
  async binlogEnd(): Promise<BinlogEnd> {
    const { gtids } = await this.identity();
    const row = await this.#binlogStatus();
    const gtidSet = gtids ? (row['Executed_Gtid_Set'] ?? '').replaceAll('\n', '') : '';
    return { file: row['File'] ?? '', offset: Number(row['Position']), gtidSet };
  }

  /** The server options that keep databases out of the binlog, with their values; empty: it has all databases. */
  async binlogFilters(): Promise<string[]> {
    const row = await this.#binlogStatus();
    const filters = { binlog_do_db: row['Binlog_Do_DB'], binlog_ignore_db: row['Binlog_Ignore_DB'] };
    return Object.entries(filters).flatMap(([option, value]) => (value ? [`${option}=${value}`] : []));
  }

  /** Whether this server replicates from another one. */
  async isReplica(): Promise<boolean> {
    return (await this.#replicaStatus()).length > 0;
  }

  /** A row for each server from which it replicates. */
  async #replicaStatus(): Promise<TextRow[]> {
    const { flavor, version } = await this.identity();
    if (flavor === 'mariadb') return this.rows('SHOW ALL SLAVES STATUS');
    return this.rows(isAtLeast(version, '8.0.22') ? 'SHOW REPLICA STATUS' : 'SHOW SLAVE STATUS');
  }

  async #binlogStatus(): Promise<TextRow> {
    const { flavor, version } = await this.identity();
    // SHOW MASTER STATUS went away in MySQL 8.4; its successor came with 8.2 and never to MariaDB.
    const modern = flavor === 'mysql' && isAtLeast(version, '8.2');
    const row = (await this.rows(modern ? 'SHOW BINARY LOG STATUS' : 'SHOW MASTER STATUS'))[0];
    const file = row?.['File'];
    if (row === undefined || file === undefined || file === null) {
      // This happens with log_bin=ON as well, if the server has closed its binlog after an error and goes on without it.
      throw new UnloggedWrites('The branch database writes no binlog.', {
        hint:
          'Look into its error log. Add log_bin = binlog below [mysqld] in my.cnf, and restart the server. ' +
          'Then all tables are copied again automatically.',
      });
    }
    return row;
  }

  /** This run of the server, from its start to its end. */
  async run(): Promise<ServerRun> {
    const { flavor, server } = await this.identity();
    const status = flavor === 'mariadb' ? 'information_schema.GLOBAL_STATUS' : 'performance_schema.global_status';
    // One statement, so that both times are the same.
    const [row] = await this.rows(
      `SELECT UNIX_TIMESTAMP() - VARIABLE_VALUE AS started, CONNECTION_ID() AS connection FROM ${status}
        WHERE VARIABLE_NAME = 'Uptime'`,
    );
    return { server, startedAt: Math.round(Number(row?.['started'])), connection: Number(row?.['connection']) };
  }

  /** The server's time, ISO 8601 UTC with six fractional digits. */
  async time(): Promise<string> {
    const [row] = await this.rows("SELECT DATE_FORMAT(UTC_TIMESTAMP(6), '%Y-%m-%dT%H:%i:%s.%fZ') AS now");
    return row?.['now'] ?? '';
  }

  /** Whether this server still has every transaction that is not in the set (MySQL with GTIDs). */
  async hasAllAfter(gtidSet: string): Promise<boolean> {
    const rows = await this.rows('SELECT GTID_SUBSET(@@GLOBAL.gtid_purged, ?) AS has', [gtidSet]);
    return rows[0]?.['has'] === '1';
  }

  /** Whether this server has executed all of the set, or does so within this many seconds. */
  async executes(gtidSet: string, seconds: number): Promise<boolean> {
    const rows = await this.rows('SELECT WAIT_FOR_EXECUTED_GTID_SET(?, ?) AS late', [gtidSet, seconds]);
    return rows[0]?.['late'] === '0';
  }

  /** MariaDB: the GTID of the last transaction of each domain in this server's binlog, or before `place`. */
  async mariadbGtids(place?: BinlogPlace): Promise<string> {
    const [row] =
      place === undefined
        ? await this.rows('SELECT @@GLOBAL.gtid_binlog_pos AS gtids')
        : await this.rows('SELECT BINLOG_GTID_POS(?, ?) AS gtids', [place.file, place.offset]);
    return row?.['gtids'] ?? '';
  }

  /** Whether this server is a replica that has received all of the set, and will have executed it in a while. */
  async willExecute(gtidSet: string): Promise<boolean> {
    const { flavor } = await this.identity();
    for (const row of await this.#replicaStatus()) {
      if ((row['Replica_SQL_Running'] ?? row['Slave_SQL_Running']) !== 'Yes') continue;
      if (flavor === 'mariadb') {
        const received = MariadbGtidPosition.parse(row['Gtid_IO_Pos'] ?? '');
        if (received.includes(MariadbGtidPosition.parse(gtidSet))) return true;
        continue;
      }
      const received = (row['Retrieved_Gtid_Set'] ?? '').replaceAll('\n', '');
      const [coming] = await this.rows('SELECT GTID_SUBSET(GTID_SUBTRACT(?, @@GLOBAL.gtid_executed), ?) AS comes', [
        gtidSet,
        received,
      ]);
      if (coming?.['comes'] === '1') return true;
    }
    return false;
  }

  /** MariaDB: the exact place in the binlog of this session's consistent snapshot. */
  async snapshotPlace(): Promise<BinlogPlace> {
    const rows = await this.rows("SHOW STATUS LIKE 'binlog_snapshot_%'");
    const status = new Map(rows.map(row => [(row['Variable_name'] ?? '').toLowerCase(), row['Value'] ?? '']));
    return {
      file: status.get('binlog_snapshot_file') ?? '',
      offset: Number(status.get('binlog_snapshot_position') ?? 0),
    };
  }

  /** Resolves when a SELECT on this server sees all of the set. @throws TributaryError SOURCE_UNREACHABLE after the deadline */
  async waitUntilVisible(gtidSet: string, deadlineSeconds: number): Promise<void> {
    const rows = await this.rows('SELECT WAIT_FOR_EXECUTED_GTID_SET(?, ?) AS late', [gtidSet, deadlineSeconds]);
    if (rows[0]?.['late'] !== '0') {
      throw new TributaryError('SOURCE_UNREACHABLE', `Transactions were not visible within ${deadlineSeconds} s.`);
    }
  }

  /** Resolves when the statements that change these tables, and are in the binlog by now, show in the catalogue. */
  async waitForStatements(tables: readonly TableName[]): Promise<void> {
    for (const { schema, name } of tables) {
      try {
        await this.rows(`SHOW CREATE TABLE ${quoteTable(schema, name)}`);
      } catch (error) {
        // It waited for the statement that dropped or renamed the table.
        if (!(error instanceof TributaryError) || mysqlErrno(error.cause) !== NO_SUCH_TABLE) throw error;
      }
    }
  }

  /**
   * Foreign keys whose cascades this server does not log, of these tables and of all tables that they refer to; null: it
   * logs all cascades.
   */
  async unloggedCascades(tables: readonly TableName[]): Promise<Cascade[] | null> {
    const { flavor, version } = await this.identity();
    if (flavor === 'mysql' && isAtLeast(version, '9.6')) {
      const native = (await this.variables()).get('innodb_native_foreign_keys');
      if (native === undefined || native === 'OFF' || native === '0') return null;
    }
    const parts = await this.#foreignKeys(tables);
    const cascades: Cascade[] = [];
    for (const [, foreignKeys] of Map.groupBy(parts, row => JSON.stringify([row['cs'], row['cn']]))) {
      const child = { schema: foreignKeys[0]?.['cs'] ?? '', name: foreignKeys[0]?.['cn'] ?? '' };
      // MariaDB's catalogue shows the rules only to users with more than SELECT [live]; this statement shows them to all.
      const [made] = await this.rows(`SHOW CREATE TABLE ${quoteTable(child.schema, child.name)}`);
      const restricting = restrictingForeignKeys(made?.['Create Table'] ?? '');
      for (const [name, columns] of Map.groupBy(foreignKeys, row => row['name'] ?? '')) {
        // A rule that is not found is treated as a cascade: an unnecessary copy costs less than a missing one.
        if (restricting.has(name)) continue;
        cascades.push({
          name: `${tableText(child)}.${name}`,
          parent: { schema: columns[0]?.['ps'] ?? '', name: columns[0]?.['pn'] ?? '' },
          child,
          columns: columns.map(row => row['part'] ?? ''),
        });
      }
    }
    return cascades;
  }

  /** Columns of the foreign keys of these tables, of the tables that they refer to, and so on. */
  async #foreignKeys(tables: readonly TableName[]): Promise<CatalogueRow[]> {
    const found: CatalogueRow[] = [];
    const asked = new Set<string>();
    for (let next = tables; next.length > 0;) {
      for (const { schema, name } of next) asked.add(tableKey({ schema, name }));
      const parts = await rowsOfEach(
        this,
        next,
        `SELECT TABLE_SCHEMA AS cs, TABLE_NAME AS cn, CONSTRAINT_NAME AS name, REFERENCED_COLUMN_NAME AS part,
                REFERENCED_TABLE_SCHEMA AS ps, REFERENCED_TABLE_NAME AS pn, ORDINAL_POSITION AS place
           FROM information_schema.KEY_COLUMN_USAGE WHERE REFERENCED_TABLE_NAME IS NOT NULL`,
      );
      found.push(...parts.sort((a, b) => Number(a['place']) - Number(b['place'])));
      const parents = parts.map(row => ({ schema: row['ps'] ?? '', name: row['pn'] ?? '' }));
      const byKey = new Map(parents.map(parent => [tableKey(parent), parent]));
      next = [...byKey].flatMap(([key, parent]) => (asked.has(key) ? [] : [parent]));
    }
    return found;
  }

  destroy(): void {
    this.#connection.destroy();
  }
}

/** How long a server with these variables keeps its binlogs, in seconds; null: without a time limit. */
export function binlogRetention(values: ReadonlyMap<string, string>): number | null {
  if (values.get('binlog_expire_logs_auto_purge') === 'OFF') return null;
  // MySQL 5.7 and MariaDB below 10.6 have days alone, MySQL 8.0 has both, and of these only one may be set.
  const days = Number(values.get('expire_logs_days') ?? 0);
  return Number(values.get('binlog_expire_logs_seconds') ?? 0) || Math.round(days * 86_400) || null;
}

/** Orders places: by the number at the end of the file's name, then by offset. */
export function comparePositions(a: BinlogPlace, b: BinlogPlace): number {
  return fileNumber(a.file) - fileNumber(b.file) || a.offset - b.offset;
}

function fileNumber(file: string): number {
  return Number(/\.(\d+)$/.exec(file)?.[1] ?? 0);
}
