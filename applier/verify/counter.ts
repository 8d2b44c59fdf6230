/**
 * The head office's side of verifications: sums up the rows that it held of a branch's tables at one place of the
 * stream, while the stream continues.
 *
 * The view begins while the caller holds the lock on the branch's row. So it contains everything of the branch before
 * that place and nothing after it. It is then read in the background, over a connection of its own.
 *
 * Bounds: at most COUNTINGS at a time in this process, and one for each branch. Only sums are kept in memory, not rows.
 * Reading takes at most half of the time. If a counting ends early, its tables are interrupted; the stream is not.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import type { TableDescription } from '../../shared/batch/batch.ts';
import { columnType } from '../../shared/batch/column-type.ts';
import { TributaryError, describeError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/process/logging.ts';
import { mysqlErrno, streamCells } from '../../shared/database/mysql.ts';
import { markRow } from '../../shared/batch/row-sums.ts';
import type { RowSums } from '../../shared/batch/row-sums.ts';
import { emptySums } from '../../shared/batch/row-sketch.ts';
import { quoteString, quoteTable } from '../../shared/database/sql.ts';
import type { TableName } from '../../shared/table-name.ts';
import { readServerTable } from '../apply/server-table.ts';
import { keyOf } from '../apply/target-table.ts';
import { isSchemaFault } from '../apply/target-error.ts';
import { prepareTargetSession } from '../apply/target-session.ts';
import { lockBranch } from '../store/branch-row.ts';
import {
  countingLock,
  endAs,
  forgetTables,
  interrupt,
  noteOutcome,
  saveExtraTable,
  saveSumsHere,
} from '../store/verifications.ts';
import type { Comparison } from '../store/verifications.ts';
import type { TargetPool } from '../apply/connection-pool.ts';
import { cellReader, readBackQuery } from './read-back.ts';
import { searchRows } from './row-search.ts';
import type { SentRows } from './row-search.ts';
import type { Difference } from '../store/differences.ts';

const COUNTINGS = 4;
/** How long to wait until an earlier counting of the branch has ended. */
const LOCK_WAIT_S = 3;
/** Reading pauses often, and the session must survive the pauses. */
const SESSION_SECONDS = 3_600;
/** Rows that are read ahead. A row may have 64 MiB. */
const STREAMED_ROWS = 16;
const ROWS_A_TURN = 2_000;
const MOST_REST_MS = 1_000;
/** How often to try to store a result. */
const STORE_ATTEMPTS = 5;
const RETRY_MS = 500;

/** A table to sum up. A table without columns is not summed up. */
export interface TableToCount {
  readonly description: TableDescription;
  readonly buckets: number;
  readonly sketch: boolean;
}

export interface CounterOptions {
  /** Opens a connection with the head-office database selected. */
  readonly connect: () => Promise<Connection>;
  /** For storing the results. */
  readonly pool: TargetPool;
  readonly logger: Logger;
}

/** A view that has begun. */
export interface Counting {
  /** Begins to read. Call this once the place of the view is committed. */
  run(): void;
  /** Ends the view, because its place was not committed. */
  abandon(): void;
}

export class Counter {
  readonly #o: CounterOptions;
  readonly #running = new Map<string, Counting>();

  constructor(options: CounterOptions) {
    this.#o = options;
  }

  /**
   * Begins a view of the rows that are committed now.
   * @param known all tables here that may hold rows of the branch; null: only those of the list matter
   * @returns the view, or why there is none
   */
  async begin(
    comparison: Comparison,
    tables: readonly TableToCount[],
    known: readonly TableName[] | null,
  ): Promise<Counting | string> {
    return this.#open(
      comparison.branch,
      (connection, database, ended) => new CountingRun(this.#o, connection, database, comparison, tables, known, ended),
    );
  }

  /**
   * Begins a view of the rows that are committed now, to compare those that a branch has sent.
   * @param save stores the result, in a transaction under the lock on the branch's row; null: there is none, because of
   *   the reason
   * @returns the view, or why there is none
   */
  async search(branch: string, sent: SentRows, save: SaveSearch): Promise<Counting | string> {
    return this.#open(
      branch,
      (connection, database, ended) => new SearchRun(this.#o, connection, database, branch, sent, save, ended),
    );
  }

  async #open(
    branch: string,
    makeRun: (connection: Connection, database: string, ended: () => void) => Counting,
  ): Promise<Counting | string> {
    this.#running.get(branch)?.abandon();
    if (this.#running.size >= COUNTINGS) return 'the head office is comparing other branches: ask again';
    let connection: Connection | null = null;
    try {
      connection = await this.#o.connect();
      await prepareTargetSession(connection);
      const settings = ['wait_timeout', 'net_read_timeout', 'net_write_timeout'];
      await connection.query(`SET ${settings.map(name => `SESSION ${name} = ${SESSION_SECONDS}`).join(', ')}`);
      await connection.query(`SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ`);
      const [rows] = await connection.query<RowDataPacket[]>(
        `SELECT GET_LOCK(${countingLock(branch)}, ${LOCK_WAIT_S}) AS got, DATABASE() AS name`,
      );
      if (Number(rows[0]?.['got']) !== 1) {
        connection.destroy();
        return 'another applier is comparing the branch: ask again';
      }
      await connection.query('START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY');
      const database = String(rows[0]?.['name']);
      const run = makeRun(connection, database, () => {
        if (this.#running.get(branch) === run) this.#running.delete(branch);
      });
      this.#running.set(branch, run);
      return run;
    } catch (error) {
      connection?.destroy();
      this.#o.logger.warn({ branch, err: error }, 'A verification could not open a connection.');
      return describeError(error);
    }
  }

  /** Interrupts all countings. */
  stop(): void {
    for (const run of this.#running.values()) run.abandon();
  }
}

class CountingRun implements Counting {
  readonly #o: CounterOptions;
  readonly #connection: Connection;
  readonly #database: string;
  readonly #comparison: Comparison;
  readonly #tables: readonly TableToCount[];
  readonly #known: readonly TableName[] | null;
  readonly #ended: () => void;
  #abandoned = false;

  constructor(
    options: CounterOptions,
    connection: Connection,
    database: string,
    comparison: Comparison,
    tables: readonly TableToCount[],
    known: readonly TableName[] | null,
    ended: () => void,
  ) {
    this.#o = options;
    this.#connection = connection;
    this.#database = database;
    this.#comparison = comparison;
    this.#tables = tables;
    this.#known = known;
    this.#ended = ended;
  }

  abandon(): void {
    this.#abandoned = true;
    this.#connection.destroy();
    this.#ended();
  }

  run(): void {
    void this.#run();
  }

  async #run(): Promise<void> {
    const { branch, verification } = this.#comparison;
    try {
      for (const table of this.#tables) if (table.description.columns.length > 0) await this.#count(table);
      await this.#countOthers();
      // From now on the branch's side writes the outcome, if its end is still to come.
      await this.#connection.query('DO RELEASE_ALL_LOCKS()');
      await this.#store(connection => noteOutcome(connection, branch, verification, true));
    } catch (error) {
      if (this.#abandoned) return;
      this.#o.logger.warn({ branch, err: error }, 'A verification was interrupted.');
      const reason = `${describeError(error)}: ask again`;
      await this.#store(async connection => {
        await interrupt(connection, branch, verification, reason);
        await noteOutcome(connection, branch, verification, true);
      }).catch((fault: unknown) =>
        this.#o.logger.warn({ branch, err: fault }, 'The result of a verification could not be stored.'),
      );
    } finally {
      this.#connection.destroy();
      this.#ended();
    }
  }

  async #count({ description, buckets, sketch }: TableToCount): Promise<void> {
    const { branch, verification } = this.#comparison;
    const counted = { branch, verification, name: description.name };
    let sums: RowSums;
    try {
      sums = await this.#sum(description, buckets, sketch);
    } catch (error) {
      // The table was altered in the meantime, or does not fit the branch's. Other tables are not affected.
      const isOfTable = isSchemaFault(error) || mysqlErrno(error) !== null;
      if (this.#abandoned || !isOfTable) throw error;
      const verdict = isSchemaFault(error) ? 'not-comparable' : 'interrupted';
      await this.#store(connection => endAs(connection, counted, verdict, describeError(error)));
      return;
    }
    await this.#store(connection => saveSumsHere(connection, counted, sums));
  }

  async #sum(description: TableDescription, buckets: number, sketch: boolean): Promise<RowSums> {
    const sums = emptySums(buckets, sketch, this.#comparison.verification);
    const server = await readServerTable(this.#connection, this.#database, description.name);
    // Without the table, the head office has none of its rows.
    if (server === null) return sums;
    if (server.primaryKey[0] !== '_branch') {
      throw new TributaryError('TARGET_SCHEMA', 'the head office has a table of this name that Tributary did not make');
    }
    const types = description.columns.map(({ type }) => columnType(type));
    const readers = types.map(cellReader);
    const shape = { types, key: keyOf(description) };
    const query = readBackQuery(
      quoteTable(this.#database, description.name),
      description,
      server,
      this.#comparison.branch,
    );
    let rows = 0;
    let startedAt = performance.now();
    await this.#connection.query('SAVEPOINT table_read');
    for await (const cells of streamCells(this.#connection, query, STREAMED_ROWS)) {
      const values = readers.map((read, index) => read(cells[index] ?? null));
      sums.add(markRow(shape, values, buckets, sketch));
      rows += 1;
      if (rows % ROWS_A_TURN > 0) continue;
      await sleep(Math.min(MOST_REST_MS, performance.now() - startedAt));
      startedAt = performance.now();
    }
    // This keeps the view and releases the lock on the table, so that others can alter it.
    await this.#connection.query('ROLLBACK TO SAVEPOINT table_read');
    return sums;
  }

  /** Counts the branch's rows in tables that the branch does not have. There must be none. */
  async #countOthers(): Promise<void> {
    if (this.#known === null) return;
    const { branch } = this.#comparison;
    const compared = new Set(this.#tables.map(({ description }) => description.name));
    const others = this.#known.filter(({ name }) => !compared.has(name));
    const empty: string[] = [];
    for (const other of others) {
      const rows = await this.#rowsOf(other.name);
      if (rows === 0) empty.push(other.name);
      else await this.#store(connection => saveExtraTable(connection, this.#comparison, other, rows));
    }
    await this.#store(connection => forgetTables(connection, branch, empty));
  }

  async #rowsOf(name: string): Promise<number> {
    if ((await readServerTable(this.#connection, this.#database, name)) === null) return 0;
    await this.#connection.query('SAVEPOINT table_read');
    const [rows] = await this.#connection.query<RowDataPacket[]>(
      `SELECT COUNT(*) AS n FROM ${quoteTable(this.#database, name)} WHERE \`_branch\` = ${quoteString(this.#comparison.branch)}`,
    );
    await this.#connection.query('ROLLBACK TO SAVEPOINT table_read');
    return Number(rows[0]?.['n']);
  }

  #store(work: (connection: Connection) => Promise<void>): Promise<void> {
    return store(this.#o.pool, this.#comparison.branch, () => this.#abandoned, work);
  }
}

/** Stores what a search has found, or why it has found nothing. */
export type SaveSearch = (connection: Connection, found: readonly Difference[] | string) => Promise<void>;

/** Compares rows that a branch has sent, in the background. */
class SearchRun implements Counting {
  readonly #o: CounterOptions;
  readonly #connection: Connection;
  readonly #database: string;
  readonly #branch: string;
  readonly #sent: SentRows;
  readonly #save: SaveSearch;
  readonly #ended: () => void;
  #abandoned = false;

  constructor(
    options: CounterOptions,
    connection: Connection,
    database: string,
    branch: string,
    sent: SentRows,
    save: SaveSearch,
    ended: () => void,
  ) {
    this.#o = options;
    this.#connection = connection;
    this.#database = database;
    this.#branch = branch;
    this.#sent = sent;
    this.#save = save;
    this.#ended = ended;
  }

  abandon(): void {
    this.#abandoned = true;
    this.#connection.destroy();
    this.#ended();
  }

  run(): void {
    void this.#run();
  }

  async #run(): Promise<void> {
    const [pool, branch] = [this.#o.pool, this.#branch];
    let found: readonly Difference[] | string;
    try {
      const searched = await searchRows(this.#connection, this.#database, branch, this.#sent);
      found = searched ?? 'one of them has too many copies to name them: a repair copies the table';
    } catch (error) {
      if (this.#abandoned) return;
      this.#o.logger.warn({ branch, err: error }, 'The rows that differ could not be read.');
      found = `they could not be read: ${describeError(error)}`;
    }
    try {
      await store(
        pool,
        branch,
        () => this.#abandoned,
        connection => this.#save(connection, found),
      );
    } catch (error) {
      this.#o.logger.warn({ branch, err: error }, 'The rows that differ could not be stored.');
    } finally {
      this.#connection.destroy();
      this.#ended();
    }
  }
}

/** Works under the lock on the branch's row, and retries when the server is busy. */
async function store(
  pool: TargetPool,
  branch: string,
  isAbandoned: () => boolean,
  work: (connection: Connection) => Promise<void>,
): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await pool.transact(async connection => {
        await lockBranch(connection, branch);
        await work(connection);
      });
      return;
    } catch (error) {
      if (isAbandoned() || attempt >= STORE_ATTEMPTS) throw error;
      await sleep(RETRY_MS * attempt);
    }
  }
}
