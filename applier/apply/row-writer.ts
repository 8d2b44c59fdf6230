/**
 * Writes the rows of decoded batches to the head-office tables.
 *
 * The caller owns the transaction. It locks the branch's row, calls `apply`, moves the watermark and commits. If
 * `apply` throws, the caller rolls back. `prepare` creates and extends tables on a connection of its own. It must be
 * called before the transaction, because DDL would commit the transaction, or wait for its locks.
 */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import type { BatchBody, TableDescription } from '../../shared/batch/batch.ts';
import { assert, TributaryError } from '../../shared/errors.ts';
import { foldedName } from '../../shared/identifiers.ts';
import { quoteString, quoteTable } from '../../shared/database/sql.ts';
import { tableKey, tableText } from '../../shared/table-name.ts';
import type { TableName } from '../../shared/table-name.ts';
import { clearRows, deleteRows, rowsToSweep, sweepRows, truncateRows } from './delete.ts';
import { HistoryKeeper } from './history-keeper.ts';
import type { PreparedStep, UnitMoment } from './history-keeper.ts';
import { HistoryNames, tableOfHistory, VERSION_KEY } from './history-table.ts';
import { deleteRowsBut, upsertRowsBut } from './quarantine-rows.ts';
import type { QuarantineRow } from './quarantine-rows.ts';
import { loadRows } from './load-data.ts';
import { mergeBodies } from './merge.ts';
import type { RowSet, Run } from './merge.ts';
import { findRefusedRow, refusal } from './refusal.ts';
import { hasLongValues, keyHashOf, partTyped } from './row-text.ts';
import { TableStore } from './table-store.ts';
import type { SchemaChanges, TableStoreOptions } from './table-store.ts';
import { isRowFault, isSchemaFault, isTableChange, targetError } from './target-error.ts';
import { targetSession } from './target-session.ts';
import { OtherForm } from './target-table.ts';
import type { TargetTable } from './target-table.ts';
import { upsertRows } from './upsert.ts';
import { writeCopies } from './write-copies.ts';
import { nth } from '../../shared/nth.ts';

/** For fewer rows, a REPLACE is faster than LOAD DATA, which takes an extra round trip. */
const LOAD_FROM_ROWS = 64;

/** A snapshot marker, with its tables by name. The caller keeps the snapshot's state. */
export interface SnapshotMarker {
  readonly op: 'snapshot-start' | 'snapshot-end';
  readonly snapshot: string;
  readonly tables: readonly TableName[];
  /** The snapshot covers all of the branch: sweep `'all'`. */
  readonly whole: boolean;
  readonly requests: readonly string[];
}

/** A run and the table that it goes to. */
export interface Step {
  readonly run: Run;
  readonly table: TargetTable;
}

/** Batches merged and fitted to the tables, ready to be applied. May be applied again after a rollback. */
export interface Prepared {
  /** The markers of a body that holds some; such a body is prepared alone. */
  readonly markers: readonly SnapshotMarker[];
  /** The number of rows to write or delete after merging. */
  readonly rows: number;
  readonly steps: readonly Step[];
  /** What to write to the histories of tables. */
  readonly history: readonly PreparedStep[];
  /**
   * Tables that now exist at the head office as described: those with rows, and those that a snapshot has announced.
   */
  readonly made: readonly TableDescription[];
  /** Tables that do not fit, so that their changes are not among the steps. */
  readonly unfit: readonly UnfitTable[];
}

/** A table of a branch that does not fit the head office's table. */
export interface UnfitTable {
  readonly description: TableDescription;
  /** TARGET_SCHEMA */
  readonly error: TributaryError;
  /** The number of changes that are left out with it. */
  readonly changes: number;
}

export interface PrepareOptions {
  /** Also runs changes that rebuild a large table, or that wait for approval (`schema approve`). */
  readonly approveRebuild?: boolean;
  /**
   * Leaves out tables that do not fit, instead of throwing TARGET_SCHEMA. A table of another form (with or without a
   * key) still throws OtherForm, because it may be cleared; with `all` it is left out too.
   */
  readonly leaveOut?: 'none' | 'unfit' | 'all';
  /** Tables whose rows are written without a history, by their names in `history`. */
  readonly withoutHistory?: ReadonlySet<string> | 'all';
}

/** When rows were no more that a sweep deletes, and which tables' histories tell it. */
export interface SweptHistories {
  /** A DATETIME(6) in UTC. */
  readonly at: string;
  readonly batchNumber: number;
  /** By their names in `history`. */
  readonly kept: readonly string[];
}

export interface ApplyCounts {
  readonly upserts: number;
  readonly deletes: number;
  readonly truncates: number;
}

export interface RowWriterOptions {
  /** Opens a connection to the target for DDL, used once. It must survive a statement of minutes (a rebuild). */
  readonly connect: () => Promise<Connection>;
  readonly database: string;
  /** Default: wherever the server allows it. */
  readonly useLoadData?: boolean;
  /** Default: automatic. */
  readonly schemaChanges?: SchemaChanges;
  /** Tables whose history is kept, by their names at the head office. Default: none. */
  readonly history?: readonly string[];
  /** See TableStore. */
  readonly onChanged?: TableStoreOptions['onChanged'];
}

export class RowWriter {
  readonly #database: string;
  readonly #store: TableStore;
  readonly #useLoadData: boolean;
  /** Null: of no table. */
  readonly history: HistoryKeeper | null;

  constructor(options: RowWriterOptions) {
    this.#database = options.database;
    this.#store = new TableStore(options);
    this.#useLoadData = options.useLoadData ?? true;
    const { history = [], database } = options;
    const names = new HistoryNames(history);
    this.history = history.length === 0 ? null : new HistoryKeeper({ store: this.#store, database, names });
  }

  /**
   * Merges consecutive batches and creates or extends their tables. If all tables are known, this sends nothing to the
   * server. So a transaction larger than memory can be prepared once outside the transaction, and again piece by piece
   * inside it.
   * @param bodies in the order of the stream; one alone if it holds snapshot markers
   * @throws TributaryError TARGET_SCHEMA, TARGET_BUSY (retryable), TARGET_UNREACHABLE (retryable), TARGET_ACCESS_DENIED
   */
  async prepare(bodies: readonly BatchBody[], branch: string, options: PrepareOptions = {}): Promise<Prepared> {
    assert(branch !== '', 'A batch is prepared for no branch.');
    const markers = bodies.flatMap(markersOf);
    if (markers.length > 0 && bodies.length > 1) {
      throw new TributaryError('INTERNAL', 'A batch with snapshot markers is merged with others.');
    }
    const runs = mergeBodies(bodies);
    const withRows = runs.filter(run => rowsOf(run) > 0);
    // A snapshot's start names its tables, so that tables without rows are created too.
    const announced = markers.some(marker => marker.op === 'snapshot-start')
      ? bodies.flatMap(body => body.tables.filter(table => table.columns.length > 0))
      : [];
    const unfit = new Map<string, TributaryError>();
    await this.#fit(announced, options, unfit);
    const tables = await this.#fit(
      withRows.map(run => run.table),
      options,
      unfit,
    );
    const steps: Step[] = [];
    let rows = 0;
    for (const run of runs) {
      if (unfit.has(tableKey(run.table))) continue;
      const index = withRows.indexOf(run);
      const table = index >= 0 ? nth(tables, index) : run.truncate ? await this.#store.find(run.table) : null;
      if (table === null) continue;
      steps.push({ run, table });
      rows += rowsOf(run);
    }
    const made = [...announced, ...withRows.map(run => run.table)].filter(table => !unfit.has(tableKey(table)));
    const { withoutHistory = new Set<string>() } = options;
    const without = withoutHistory === 'all' ? null : new HistoryNames([...withoutHistory]);
    const isOut = (table: TableDescription): boolean =>
      unfit.has(tableKey(table)) || without === null || without.keeps(table.name);
    const history = (await this.history?.prepare(bodies, isOut, options.approveRebuild)) ?? [];
    return {
      markers,
      rows,
      steps,
      history,
      made,
      unfit: unfitOf(unfit, [...announced, ...runs.map(run => run.table)], runs),
    };
  }

  /** The tables at the head office, in order; null for those that are noted in `unfit`. */
  async #fit(
    descriptions: readonly TableDescription[],
    options: PrepareOptions,
    unfit: Map<string, TributaryError>,
  ): Promise<(TargetTable | null)[]> {
    if (descriptions.length === 0) return [];
    const prepare = async (some: readonly TableDescription[]): Promise<TargetTable[]> => {
      for (const table of some) this.history?.names.refuseClash(table);
      return this.#store.prepare(some, options.approveRebuild);
    };
    try {
      return await prepare(descriptions);
    } catch (error) {
      if ((options.leaveOut ?? 'none') === 'none' || !isSchemaFault(error)) throw error;
    }
    // One of them does not fit. Trying each alone shows which.
    const tables: (TargetTable | null)[] = [];
    for (const description of descriptions) {
      try {
        tables.push(...(await prepare([description])));
      } catch (error) {
        if (!isSchemaFault(error) || (error instanceof OtherForm && options.leaveOut !== 'all')) throw error;
        unfit.set(tableKey(description), error);
        tables.push(null);
      }
    }
    return tables;
  }

  /**
   * Writes prepared batches within the caller's open transaction.
   * @param connection prepared by `prepareTargetSession` (target-session.ts)
   * @param batchNumber the head office's own running number, stored in `_batch`
   * @param moment of the unit; needed if a history is written
   * @param leaveOut stores rows that the server refuses, which are then left out; null: such a row throws
   * @throws TributaryError BATCH_REFUSED (names table, key and the server's message), TARGET_BUSY (deadlock, lock
   *   timeout, a table changed meanwhile; retryable after `prepare`), TARGET_UNREACHABLE (retryable). The transaction
   *   must be rolled back.
   */
  async apply(
    connection: Connection,
    prepared: Prepared,
    branch: string,
    batchNumber: number,
    leaveOut: QuarantineRow | null = null,
    moment: UnitMoment | null = null,
  ): Promise<ApplyCounts> {
    assert(Number.isSafeInteger(batchNumber) && batchNumber >= 0, 'A batch number is not a count.');
    let upserts = 0;
    let deletes = 0;
    let truncates = 0;
    const histories = prepared.history.flatMap(({ tables }) => (tables === null ? [] : [tables.history]));
    const tables = prepared.steps.map(({ table }) => table);
    await this.#hold(connection, [...tables, ...histories]);
    const left = new Set<string>();
    const note: QuarantineRow | null =
      leaveOut === null
        ? null
        : async refused => {
            await leaveOut(refused);
            left.add(leftRow(refused.table.description, refused.keyHash));
          };
    for (const step of prepared.steps) {
      const { run } = step;
      const refused = await this.#write(connection, step, branch, batchNumber, note);
      upserts += run.upserts.rows + run.copies.changes.reduce((sum, { exact, rise }) => sum + (exact ?? rise), 0);
      upserts -= refused.upserts;
      deletes += run.deletes.rows + run.copies.changes.reduce((sum, { fall }) => sum + fall, 0) - refused.deletes;
      truncates += run.truncate ? 1 : 0;
    }
    await this.#writeHistory(connection, prepared, branch, batchNumber, leaveOut === null ? null : left, moment);
    return { upserts, deletes, truncates };
  }

  /** @param left rows that were left out of their tables: versions of them may be left out too; null: nothing may be */
  async #writeHistory(
    connection: Connection,
    { history }: Prepared,
    branch: string,
    batchNumber: number,
    left: ReadonlySet<string> | null,
    moment: UnitMoment | null,
  ): Promise<void> {
    if (history.length === 0) return;
    assert(this.history !== null && moment !== null, 'A history is written without a moment.');
    try {
      await this.history.apply(connection, history, branch, batchNumber, moment, async (table, rows) => {
        const refused = new Set<number>();
        const leave: QuarantineRow = ({ row, error }) => {
          if (left?.has(leftVersion(table, rows, row)) !== true) throw error;
          refused.add(row);
          return Promise.resolve();
        };
        await this.#writeRows(connection, table, rows, branch, batchNumber, left === null ? null : leave);
        return refused;
      });
    } catch (error) {
      this.#forgetIfChanged(error);
      throw targetError(error, 'Writing a history');
    }
  }

  /** Locks the tables as the rows were prepared for them, so that nobody changes them before the transaction ends. */
  async #hold(connection: Connection, tables: readonly TargetTable[]): Promise<void> {
    try {
      await this.#store.hold(connection, tables);
    } catch (error) {
      throw targetError(error, 'Holding the tables of the head office');
    }
  }

  /** Writes one run; returns how many of its rows were left out. */
  async #write(
    connection: Connection,
    { run, table }: Step,
    branch: string,
    batchNumber: number,
    leaveOut: QuarantineRow | null,
  ): Promise<{ readonly deletes: number; readonly upserts: number }> {
    let deletes = 0;
    let upserts = 0;
    await this.#remove(table, async () => {
      if (run.truncate) await truncateRows(connection, table, branch);
      if (leaveOut === null) await deleteRows(connection, table, run.deletes, branch);
      else deletes = await deleteRowsBut(connection, table, run.deletes, branch, leaveOut);
    });
    const write = async (rows: RowSet): Promise<void> => {
      upserts += await this.#writeRows(connection, table, rows, branch, batchNumber, leaveOut);
    };
    await write(run.upserts);
    await writeCopies(connection, table, run.copies, branch, { remove: work => this.#remove(table, work), write });
    return { deletes, upserts };
  }

  /** Runs deletes, and turns their errors into a TributaryError. */
  async #remove(table: TargetTable, work: () => Promise<void>): Promise<void> {
    const { schema, name } = table.description;
    try {
      await work();
    } catch (error) {
      this.#forgetIfChanged(error);
      // The error already names a row that may not be left out.
      if (error instanceof TributaryError && error.code === 'BATCH_REFUSED') throw error;
      throw isRowFault(error)
        ? refusal(table, null, error)
        : targetError(error, `Deleting from ${tableText({ schema, name })}`);
    }
  }

  /** Returns how many rows were left out. */
  async #writeRows(
    connection: Connection,
    table: TargetTable,
    rows: RowSet,
    branch: string,
    batchNumber: number,
    leaveOut: QuarantineRow | null,
  ): Promise<number> {
    const { schema, name } = table.description;
    const many = rows.rows >= LOAD_FROM_ROWS || hasLongValues(table, rows);
    const load = this.#useLoadData && many && targetSession(connection).localInfile;
    const loadAll = async (): Promise<void> => {
      const { plain, typed } = partTyped(table, rows);
      await loadRows(connection, table, plain, branch, batchNumber);
      await upsertRows(connection, table, typed, branch, batchNumber);
    };
    try {
      if (leaveOut !== null) {
        return await upsertRowsBut(connection, table, rows, branch, batchNumber, load ? loadAll : null, leaveOut);
      }
      if (load) await loadAll();
      else await upsertRows(connection, table, rows, branch, batchNumber);
      return 0;
    } catch (error) {
      this.#forgetIfChanged(error);
      if (!isRowFault(error)) throw targetError(error, `Writing to ${tableText({ schema, name })}`);
      if (leaveOut !== null) throw error;
      throw await findRefusedRow(connection, table, rows, branch, batchNumber, error);
    }
  }

  /**
   * Does one slice of a sweep within the caller's open transaction: deletes at most `limit` of the branch's rows whose
   * `_batch` is below `sinceBatch`. Call it again, in a new transaction, until `done`.
   * @param tables the snapshot's tables, or `'all'` for every table that holds branch rows (a whole snapshot)
   * @param history what the histories of tables tell of it; null: none is told
   * @returns `swept`: the tables in which nothing is left to delete, in their order
   */
  async sweep(
    connection: Connection,
    branch: string,
    tables: readonly Pick<TableName, 'name'>[] | 'all',
    sinceBatch: number,
    limit: number,
    history: SweptHistories | null = null,
  ): Promise<{ deleted: number; swept: string[]; done: boolean }> {
    assert(Number.isSafeInteger(sinceBatch) && sinceBatch >= 0, 'A batch number is not a count.');
    assert(Number.isSafeInteger(limit) && limit > 0, 'A slice of a sweep has no size.');
    try {
      const { foldsTables } = targetSession(connection);
      const there = await this.#branchTables(connection);
      const present = new Set(there.map(name => foldedName(name, foldsTables)));
      const names = tables === 'all' ? there : tables.map(table => table.name);
      const swept: string[] = [];
      let deleted = 0;
      for (const name of names) {
        const sql = quoteTable(this.#database, name);
        if (present.has(foldedName(name, foldsTables))) {
          const isKept = history !== null && new HistoryNames(history.kept).keeps(name);
          const order = isKept
            ? await this.#sweepHistory(connection, branch, name, sinceBatch, limit - deleted, history)
            : '';
          deleted += await sweepRows(connection, sql, branch, sinceBatch, limit - deleted, order);
        }
        if (deleted >= limit) return { deleted, swept, done: false };
        swept.push(name);
      }
      return { deleted, swept, done: true };
    } catch (error) {
      throw targetError(error, `Sweeping the tables of ${branch}`);
    }
  }

  /** @returns the order in which the rows must be deleted, so that they are those that the history tells of */
  async #sweepHistory(
    connection: Connection,
    branch: string,
    name: string,
    sinceBatch: number,
    limit: number,
    { at, batchNumber }: SweptHistories,
  ): Promise<string> {
    let order = '';
    await this.history?.sweep(connection, name, { branch, at, batchNumber }, key => {
      order = key.join(', ');
      return rowsToSweep(quoteTable(this.#database, name), branch, sinceBatch, limit, order);
    });
    return order;
  }

  /**
   * Deletes at most `limit` of the branch's rows of a table whose form differs from the branch's table, within the
   * caller's open transaction. The snapshot that follows the change at the branch brings the rows again. Deletes
   * nothing if other branches have rows in the table, because they need its form.
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

  /** The names of all tables that hold rows of branches. */
  async #branchTables(connection: Connection): Promise<string[]> {
    const [rows] = await connection.query<RowDataPacket[]>(
      `SELECT TABLE_NAME AS name FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_SCHEMA = ${quoteString(this.#database)}
       AND COLUMN_NAME IN ('_branch', '_batch', '_changed_at') GROUP BY TABLE_NAME HAVING COUNT(*) = 3 ORDER BY TABLE_NAME`,
    );
    return rows.map(row => String(row['name']));
  }

  /** Forgets the tables, so that they are read again: for use after somebody has changed them by hand. */
  forget(): void {
    this.#store.forget();
  }

  #forgetIfChanged(error: unknown): void {
    if (isTableChange(error)) this.#store.forget();
  }
}

/** Names a row that was left out of its table. */
function leftRow(table: TableDescription, keyHash: string): string {
  return `${keyHash} ${tableKey(table)}`;
}

/** The same of a version in the history of the table. */
function leftVersion({ description, key, columns }: TargetTable, rows: RowSet, row: number): string {
  const own = key.slice(0, -VERSION_KEY.length);
  const keys = { rows: rows.rows, columns: own.map(index => nth(rows.columns, index)) };
  const name = tableOfHistory(description.name) ?? '';
  return leftRow({ ...description, name }, keyHashOf({ key: own, columns }, keys, row));
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
      const { schema, name } = nth(body.tables, index);
      return { schema, name };
    });
    return [{ op, snapshot, tables, whole, requests }];
  });
}

function unfitOf(
  unfit: ReadonlyMap<string, TributaryError>,
  descriptions: readonly TableDescription[],
  runs: readonly Run[],
): UnfitTable[] {
  return [...unfit].map(([id, error]) => {
    const own = runs.filter(run => tableKey(run.table) === id);
    const changes = own.reduce((sum, run) => sum + rowsOf(run) + (run.truncate ? 1 : 0), 0);
    const description = descriptions.find(table => tableKey(table) === id);
    assert(description !== undefined, 'A table that does not fit has no description.');
    return { description, error, changes };
  });
}

/**
 * What the pipelines need of RowWriter. `prepare` runs before the transaction (its DDL commits by itself), the others
 * inside it. With this small interface, the order of lock, write, watermark and commit can be tested without a server.
 */
export type RowWriting = Pick<RowWriter, 'prepare' | 'apply' | 'sweep' | 'clearOtherForm'> &
  Partial<Pick<RowWriter, 'history'>>;
