/**
 * Begins the histories of a branch's tables: before the branch's next batch, each table that is to have one is copied
 * into it as it is now. The same mends a history that was not kept for a while.
 *
 * Invariant: a slice runs under the lock on the branch's row, so that no batch comes in between. A crash leaves versions
 * that are true; what is missing is added when it begins again.
 */
import type { TableDescription } from '../../shared/batch/batch.ts';
import type { HistoryKeeper } from '../apply/history-keeper.ts';
import type { TargetPool } from '../apply/connection-pool.ts';
import { TableTrouble } from '../apply/table-trouble.ts';
import { isUnchanged, lockBranch } from '../store/branch-row.ts';
import type { BranchRow } from '../store/branch-row.ts';
import { describedTable, histories, historyBegun } from '../store/histories.ts';
import { readSetAside } from '../store/set-aside.ts';
import { momentOf } from './moment.ts';

type HistoryTables = Awaited<ReturnType<HistoryKeeper['tablesFor']>>;

/** Rows in one transaction: more than a sweep deletes, because a slice may search the table from its beginning. */
const SLICE_ROWS = 50_000;

export class HistoryBegin {
  readonly #pool: TargetPool;
  readonly #keeper: HistoryKeeper | null;
  readonly #sliceRows: number;
  #isWhole = false;
  /** The table that is being copied into a history without older versions; null: none is. */
  #fresh: string | null = null;

  constructor(pool: TargetPool, keeper: HistoryKeeper | null, sliceRows = SLICE_ROWS) {
    this.#pool = pool;
    this.#keeper = keeper;
    this.#sliceRows = sliceRows;
  }

  /** To be called after a rollback or another applier's work. */
  forget(): void {
    this.#fresh = null;
    this.#isWhole = false;
  }

  /**
   * Does one slice, if a history is not whole.
   * @returns `done`: something was done, and it must be called again; `moved`: another applier has changed the row
   * @throws TARGET_SCHEMA for a table that cannot have a history
   */
  async step(row: BranchRow): Promise<'whole' | 'done' | 'moved'> {
    const keeper = this.#keeper;
    if (keeper === null || this.#isWhole) return 'whole';
    const [name] = await this.#pool.use(connection => histories(connection, row, keeper.names.all));
    if (name === undefined) {
      this.#isWhole = true;
      return 'whole';
    }
    const description = await this.#pool.use(connection => describedTable(connection, row.branch, name));
    const tables = description === null ? null : await this.#tablesFor(keeper, row.branch, description);
    const at = momentOf(null, row);
    return this.#pool.transact(async connection => {
      const locked = await lockBranch(connection, row.branch);
      if (locked === null || !isUnchanged(locked, row)) return 'moved';
      const moment = { branch: row.branch, batchNumber: row.batchNumber, at };
      if (tables !== null) {
        const slice = await keeper.begin(connection, tables, moment, this.#sliceRows, this.#fresh === name);
        this.#fresh = slice.isFresh ? name : null;
        if (!slice.isDone) return 'done';
      }
      this.#fresh = null;
      await historyBegun(connection, row, name, at);
      return 'done';
    });
  }

  /** null: the table is set aside and does not fit. Its rows stay as they are, and its return brings them. */
  async #tablesFor(
    keeper: HistoryKeeper,
    branch: string,
    description: TableDescription,
  ): Promise<HistoryTables | null> {
    try {
      return await keeper.tablesFor(description, false);
    } catch (error) {
      if (!(error instanceof TableTrouble) || error.description.name !== description.name) throw error;
      const marks = await this.#pool.use(connection => readSetAside(connection, branch));
      if (!marks.some(({ name }) => name === description.name)) throw error;
      return null;
    }
  }
}
