/**
 * Applies decoded batches to the head-office tables.
 *
 * The caller owns the transaction: it locks the branch's row, calls `apply`, moves the watermark and commits. Whatever
 * `apply` throws, the caller rolls back. `prepare` makes and extends tables on a connection of its own and must be
 * called before the transaction begins (DDL would commit it, and would wait for locks that it holds).
 */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import type { BatchBody } from '../../shared/batch.ts';
import { assert, TributaryError } from '../../shared/errors.ts';
import { quoteString, quoteTable } from '../../shared/sql.ts';
import { clearRows, deleteRows, sweepRows, truncateRows } from './delete.ts';
import { loadRows } from './load-data.ts';
import { mergeBodies } from './merge.ts';
import type { RowSet, Run } from './merge.ts';
import { findRefusedRow, refusal } from './refusal.ts';
import { hasLongValues } from './row-text.ts';
import { TableStore } from './table-store.ts';
import { isRowFault, isTableChange, targetError } from './target-error.ts';
import { targetSession } from './target-session.ts';
import type { TargetTable } from './target-table.ts';
import { upsertRows } from './upsert.ts';
import { writeCopies } from './write-copies.ts';

/** Below this, one statement of text is faster than LOAD DATA's extra round trip. */
const LOAD_FROM_ROWS = 64;

/** A table as a branch names it. At the head office it is `name` in the target database. */
export interface TableName {
  readonly schema: string;
  readonly name: string;
}

/** A snapshot marker, its tables by name. The caller keeps the snapshot's state. */
export interface SnapshotMarker {
  readonly op: 'snapshot-start' | 'snapshot-end';
  readonly snapshot: string;
  readonly tables: readonly TableName[];
  /** The snapshot covers all of the branch: sweep `'all'`. */
  readonly whole: boolean;
  readonly requests: readonly string[];
}

/** A run and the table that it goes to. */
interface Step {
  readonly run: Run;
  readonly table: TargetTable;
}

/** Batches merged and fitted to the tables, ready to be applied. May be applied again after a rollback. */
export interface Prepared {
  /** Of a body that holds markers; such a body stands alone. */
  readonly markers: readonly SnapshotMarker[];
  /** Rows to be written or deleted after merging. */
  readonly rows: number;
  readonly steps: readonly Step[];
}

export interface ApplyCounts {
  readonly upserts: number;
  readonly deletes: number;
  readonly truncates: number;
}

export interface ApplierOptions {
  /** Opens a connection to the target for DDL, used once and closed. It must bear a statement of minutes (a rebuild). */
  readonly connect: () => Promise<Connection>;
  readonly database: string;
  /** Default: wherever the server allows it. */
  readonly useLoadData?: boolean;
}

export class Applier {
  readonly #database: string;
  readonly #store: TableStore;
  readonly #useLoadData: boolean;

  constructor(options: ApplierOptions) {
    this.#database = options.database;
    this.#store = new TableStore(options);
    this.#useLoadData = options.useLoadData ?? true;
  }

  /**
   * Merges neighbouring batches and makes or extends their tables. Where all tables are known it does not touch the
   * server, so a transaction larger than memory may be prepared once outside the transaction, and again piece by piece
   * within.
   * @param bodies in the order of the stream; one alone if it holds snapshot markers
   * @param options.approveRebuild also makes changes that rebuild a large table (`schema approve`)
   * @throws TributaryError TARGET_SCHEMA, TARGET_BUSY (retryable), TARGET_UNREACHABLE (retryable), TARGET_ACCESS_DENIED
   */
  async prepare(
    bodies: readonly BatchBody[],
    branch: string,
    options: { readonly approveRebuild?: boolean } = {},
  ): Promise<Prepared> {
    assert(branch !== '', 'A batch is prepared for no branch.');
    const markers = bodies.flatMap(markersOf);
    if (markers.length > 0 && bodies.length > 1) {
      throw new TributaryError('INTERNAL', 'A batch with snapshot markers is merged with others.');
    }
    const runs = mergeBodies(bodies);
    const withRows = runs.filter(run => rowsOf(run) > 0);
    // A snapshot's start names its tables, so that those without rows come into being too.
    const announced = markers.some(marker => marker.op === 'snapshot-start')
      ? bodies.flatMap(body => body.tables.filter(table => table.columns.length > 0))
      : [];
    if (announced.length > 0) await this.#store.prepare(announced, options.approveRebuild);
    const tables = await this.#store.prepare(
      withRows.map(run => run.table),
      options.approveRebuild,
    );
    const steps: Step[] = [];
    for (const run of runs) {
      const index = withRows.indexOf(run);
      const table = index >= 0 ? tables[index]! : run.truncate ? await this.#store.find(run.table) : null;
      if (table !== null) steps.push({ run, table });
    }
    const rows = withRows.reduce((sum, run) => sum + rowsOf(run), 0);
    return { markers, rows, steps };
  }

  /**
   * Writes prepared batches within the caller's open transaction.
   * @param connection prepared by `prepareTargetSession` (target-session.ts)
   * @param batchNumber the head office's own running number, stored in `_batch`
   * @throws TributaryError BATCH_REFUSED (names table, key and the server's message), TARGET_BUSY (deadlock, lock
   *   timeout, a table changed meanwhile; retryable after `prepare`), TARGET_UNREACHABLE (retryable). The transaction
   *   must be rolled back.
   */
  async apply(connection: Connection, prepared: Prepared, branch: string, batchNumber: number): Promise<ApplyCounts> {
    assert(Number.isSafeInteger(batchNumber) && batchNumber >= 0, 'A batch number is not a count.');
    let upserts = 0;
    let deletes = 0;
    let truncates = 0;
    for (const step of prepared.steps) {
      const { run } = step;
      await this.#write(connection, step, branch, batchNumber);
      upserts += run.upserts.rows + run.copies.changes.reduce((sum, { exact, rise }) => sum + (exact ?? rise), 0);
      deletes += run.deletes.rows + run.copies.changes.reduce((sum, { fall }) => sum + fall, 0);
      truncates += run.truncate ? 1 : 0;
    }
    return { upserts, deletes, truncates };
  }

  async #write(connection: Connection, { run, table }: Step, branch: string, batchNumber: number): Promise<void> {
    await this.#remove(table, async () => {
      if (run.truncate) await truncateRows(connection, table, branch);
      await deleteRows(connection, table, run.deletes, branch);
    });
    const write = (rows: RowSet): Promise<void> => this.#writeRows(connection, table, rows, branch, batchNumber);
    await write(run.upserts);
    await writeCopies(connection, table, run.copies, branch, { remove: work => this.#remove(table, work), write });
  }

  /** Runs deletes; what they fail with becomes an error of ours. */
  async #remove(table: TargetTable, work: () => Promise<void>): Promise<void> {
    const { schema, name } = table.description;
    try {
      await work();
    } catch (error) {
      this.#forgetIfChanged(error);
      throw isRowFault(error) ? refusal(table, null, error) : targetError(error, `Deleting from ${schema}.${name}`);
    }
  }

  async #writeRows(
    connection: Connection,
    table: TargetTable,
    rows: RowSet,
    branch: string,
    batchNumber: number,
  ): Promise<void> {
    const { schema, name } = table.description;
    const many = rows.rows >= LOAD_FROM_ROWS || hasLongValues(table, rows);
    const load = this.#useLoadData && many && targetSession(connection).localInfile;
    try {
      if (load) await loadRows(connection, table, rows, branch, batchNumber);
      else await upsertRows(connection, table, rows, branch, batchNumber);
    } catch (error) {
      this.#forgetIfChanged(error);
      if (!isRowFault(error)) throw targetError(error, `Writing to ${schema}.${name}`);
      throw await findRefusedRow(connection, table, rows, branch, batchNumber, error);
    }
  }

  /**
   * One slice of a sweep: deletes at most `limit` of the branch's rows whose `_batch` is below `sinceBatch`, within the
   * caller's open transaction. Call again, in a new transaction, until `done`.
   * @param tables the snapshot's tables, or `'all'` for every table that holds branch rows (a whole snapshot)
   */
  async sweep(
    connection: Connection,
    branch: string,
    tables: readonly Pick<TableName, 'name'>[] | 'all',
    sinceBatch: number,
    limit: number,
  ): Promise<{ deleted: number; done: boolean }> {
    assert(Number.isSafeInteger(sinceBatch) && sinceBatch >= 0, 'A batch number is not a count.');
    assert(Number.isSafeInteger(limit) && limit > 0, 'A slice of a sweep has no size.');
    try {
      const present = await this.#branchTables(connection);
      const names = tables === 'all' ? present : tables.map(table => table.name).filter(name => present.includes(name));
      let deleted = 0;
      for (const name of names) {
        const sql = quoteTable(this.#database, name);
        deleted += await sweepRows(connection, sql, branch, sinceBatch, limit - deleted);
        if (deleted >= limit) return { deleted, done: false };
      }
      return { deleted, done: true };
    } catch (error) {
      throw targetError(error, `Sweeping the tables of ${branch}`);
    }
  }

  /**
   * Deletes at most `limit` rows of a table that has another form than the branch's table now has, within the caller's open
   * transaction; the snapshot that follows the change at the branch brings the rows again. Nothing where other branches
   * have rows in it: the form is theirs as well.
   * @returns how many were deleted
   */
  async clearOtherForm(connection: Connection, branch: string, name: string, limit: number): Promise<number> {
    const table = quoteTable(this.#database, name);
    const own = quoteString(branch);
    try {
      const sql = `SELECT 1 FROM ${table} WHERE \`_branch\` < ${own} OR \`_branch\` > ${own} LIMIT 1`;
      const [others] = await connection.query<RowDataPacket[]>(sql);
      return others.length > 0 ? 0 : await clearRows(connection, table, branch, limit);
    } catch (error) {
      throw targetError(error, `Clearing ${name}`);
    }
  }

  /** The names of all tables here that hold rows of branches. */
  async #branchTables(connection: Connection): Promise<string[]> {
    const [rows] = await connection.query<RowDataPacket[]>(
      `SELECT TABLE_NAME AS name FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_SCHEMA = ${quoteString(this.#database)}
       AND COLUMN_NAME IN ('_branch', '_batch', '_changed_at') GROUP BY TABLE_NAME HAVING COUNT(*) = 3 ORDER BY TABLE_NAME`,
    );
    return rows.map(row => String(row['name']));
  }

  /** Tables are looked at again when next needed: after somebody has changed them by hand. */
  forget(): void {
    this.#store.forget();
  }

  #forgetIfChanged(error: unknown): void {
    if (isTableChange(error)) this.#store.forget();
  }
}

function rowsOf({ deletes, upserts, copies }: Run): number {
  return (
    deletes.rows +
    upserts.rows +
    copies.changes.reduce((sum, change) => sum + (change.exact ?? change.fall + change.rise), 0)
  );
}

function markersOf(body: BatchBody): SnapshotMarker[] {
  return body.changes.flatMap(change => {
    if (change.op !== 'snapshot-start' && change.op !== 'snapshot-end') return [];
    const { op, snapshot, whole, requests } = change;
    const tables = change.tables.map(index => {
      const { schema, name } = body.tables[index]!;
      return { schema, name };
    });
    return [{ op, snapshot, tables, whole, requests }];
  });
}
