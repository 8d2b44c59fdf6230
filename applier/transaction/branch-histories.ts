/**
 * The histories of a branch's tables. Before the branch's next batch, each table that is to have one is copied into it as
 * it is now. The same mends a history that was not kept for a while.
 *
 * A history that cannot be kept is stopped: the table's rows are written without it, and it begins again when the cause is
 * gone. What the table's definition causes is looked at every RETRY_MS, what a row causes after pauses that grow.
 *
 * Invariants: a slice runs under the lock on the branch's row, so that no batch comes in between. A crash leaves versions
 * that are true; what is missing is added when it begins again. That a history is stopped is committed before rows are
 * written without it.
 */
import type { TableDescription } from '../../shared/batch/batch.ts';
import type { TributaryError } from '../../shared/errors.ts';
import { tableText } from '../../shared/table-name.ts';
import type { HistoryKeeper } from '../apply/history-keeper.ts';
import { HistoryTrouble, refusesRow } from '../apply/history-table.ts';
import type { TargetPool } from '../apply/connection-pool.ts';
import { TableTrouble } from '../apply/table-trouble.ts';
import { isRowFault, isSchemaFault } from '../apply/target-error.ts';
import { takeApproval } from '../store/approvals.ts';
import { isUnchanged, lockBranch } from '../store/branch-row.ts';
import type { BranchRow } from '../store/branch-row.ts';
import { brokenHistories, describedTable, historyBegun, stopHistory } from '../store/histories.ts';
import type { StoppedHistory } from '../store/histories.ts';
import { readSetAside } from '../store/set-aside.ts';
import { momentOf } from './moment.ts';

type HistoryTables = Awaited<ReturnType<HistoryKeeper['tablesFor']>>;

/** Rows in one transaction: more than a sweep deletes, because a slice may search the table from its beginning. */
const SLICE_ROWS = 50_000;
/** How often to look whether a history that is stopped can begin again. */
const RETRY_MS = 60_000;
/** The longest pause, if a row was refused: a try may read all of the table. */
const LONGEST_RETRY_MS = 86_400_000;

/** When it was last found that a history cannot be kept, and how often in a row. */
export interface Tries {
  readonly at: number;
  readonly count: number;
  /** Since when it is whole again; null: it is not. */
  readonly wholeAt: number | null;
}

/** The pause after so many tries. Pure. */
export function pauseAfter(count: number): number {
  return Math.min(RETRY_MS * 2 ** (count - 1), LONGEST_RETRY_MS);
}

/** Another try has failed. After a history was whole for longer than its pause, counting begins again. Pure. */
export function triedAgain(before: Tries | undefined, now: number): Tries {
  const isOver = before === undefined || (before.wholeAt !== null && now - before.wholeAt > pauseAfter(before.count));
  return { at: now, count: isOver ? 1 : before.count + 1, wholeAt: null };
}

export interface BranchHistoriesOptions {
  readonly pool: TargetPool;
  /** Null: no table has a history. */
  readonly keeper: HistoryKeeper | null;
  /** Called when a history is stopped, and not each time that it cannot begin again. */
  readonly onStopped?: (trouble: HistoryTrouble) => void;
  readonly now?: () => number;
  readonly sliceRows?: number;
}

export class BranchHistories {
  readonly #o: BranchHistoriesOptions;
  readonly #now: () => number;
  #isWhole = false;
  /** The table that is being copied into a history without older versions; null: none is. */
  #fresh: string | null = null;
  /** Names of the tables whose history is stopped. */
  #stopped: ReadonlySet<string> = new Set();
  /** By the history's table. */
  readonly #tries = new Map<string, Tries>();
  #lookAt = Infinity;

  constructor(options: BranchHistoriesOptions) {
    this.#o = options;
    this.#now = options.now ?? (() => performance.now());
  }

  /** To be called after a rollback or another applier's work. */
  forget(): void {
    this.#fresh = null;
    this.#isWhole = false;
  }

  /** Tables whose history is kept at present. */
  get kept(): readonly string[] {
    return (this.#o.keeper?.names.all ?? []).filter(name => !this.#stopped.has(name));
  }

  /** Tables whose rows are written without a history, though it is configured. */
  get stopped(): ReadonlySet<string> {
    return this.#stopped;
  }

  /**
   * Does one slice, if a history is not whole.
   * @returns `done`: something was done, and it must be called again; `moved`: another applier has changed the row
   * @throws HistoryTrouble for a table that cannot have a history, see `stop`
   */
  async step(row: BranchRow): Promise<'whole' | 'done' | 'moved'> {
    const { keeper, pool } = this.#o;
    if (keeper === null || (this.#isWhole && this.#now() < this.#lookAt)) return 'whole';
    const { broken, stopped } = await pool.use(connection => brokenHistories(connection, row, keeper.names.all));
    this.#stopped = new Set(stopped.map(({ table }) => table));
    const due = stopped.filter(each => this.#dueAt(each) <= this.#now()).map(({ table }) => table);
    const [name] = [...broken, ...due];
    if (name === undefined) {
      this.#isWhole = true;
      this.#lookAt = Math.min(...stopped.map(each => this.#dueAt(each)));
      return 'whole';
    }
    this.#isWhole = false;
    const description = await pool.use(connection => describedTable(connection, row.branch, name));
    const tables = description === null ? null : await this.#tablesFor(keeper, row.branch, description);
    const at = momentOf(null, row);
    try {
      return await pool.transact(async connection => {
        const locked = await lockBranch(connection, row.branch);
        if (locked === null || !isUnchanged(locked, row)) return 'moved';
        const moment = { branch: row.branch, batchNumber: row.batchNumber, at };
        if (tables !== null) {
          const limit = this.#o.sliceRows ?? SLICE_ROWS;
          const slice = await keeper.begin(connection, tables, moment, limit, this.#fresh === name);
          this.#fresh = slice.isFresh ? name : null;
          if (!slice.isDone) return 'done';
        }
        this.#fresh = null;
        await historyBegun(connection, row, name, at);
        const count = this.#tries.get(name)?.count ?? 0;
        if (this.#stopped.has(name)) this.#tries.set(name, { at: -Infinity, count, wholeAt: this.#now() });
        return 'done';
      });
    } catch (error) {
      if (!isRowFault(error)) throw error;
      throw refusesRow(name, error);
    }
  }

  /** Stops the history of a table, or leaves it stopped. @returns whether the branch's row was still this one */
  async stop(row: BranchRow, trouble: HistoryTrouble): Promise<boolean> {
    const { keeper, pool, onStopped } = this.#o;
    this.forget();
    const table = keeper?.names.all.find(name => name.toLowerCase() === trouble.table.toLowerCase());
    if (table === undefined) throw trouble;
    const done = await pool.transact(async connection => {
      const locked = await lockBranch(connection, row.branch);
      if (locked === null || !isUnchanged(locked, row)) return 'moved';
      return (await stopHistory(connection, row, { table, ...reasonOf(trouble) })) ? 'stopped' : 'known';
    });
    if (done === 'stopped') onStopped?.(trouble);
    if (done !== 'moved') this.#tries.set(table, triedAgain(this.#tries.get(table), this.#now()));
    return done !== 'moved';
  }

  #dueAt({ table, code }: StoppedHistory): number {
    const tries = this.#tries.get(table);
    if (tries === undefined) return -Infinity;
    return tries.at + (code === 'TARGET_SCHEMA' ? RETRY_MS : pauseAfter(tries.count));
  }

  /**
   * @throws HistoryTrouble for a table that is set aside and does not fit: nobody can look which of its versions have
   * ended meanwhile. When the table fits again, its history begins again.
   */
  async #tablesFor(keeper: HistoryKeeper, branch: string, description: TableDescription): Promise<HistoryTables> {
    const { pool } = this.#o;
    try {
      return await keeper.tablesFor(description, false);
    } catch (error) {
      if (error instanceof TableTrouble) {
        const marks = await pool.use(connection => readSetAside(connection, branch));
        if (marks.some(({ name }) => name === description.name)) {
          const text = `${tableText(description)}: its table is set aside and does not fit.`;
          throw new HistoryTrouble(description.name, 'TARGET_SCHEMA', text, { hint: error.hint, cause: error });
        }
      }
      const mayBeApproved = isSchemaFault(error) && !(error instanceof TableTrouble || error instanceof HistoryTrouble);
      if (!mayBeApproved || !(await pool.use(connection => takeApproval(connection, branch)))) throw error;
      return keeper.tablesFor(description, true);
    }
  }
}

function reasonOf({ code, message, hint }: TributaryError): { readonly code: string; readonly reason: string } {
  return { code, reason: `${message} — ${hint}` };
}

/** What a unit is written with. */
export type KeptHistories = Pick<BranchHistories, 'kept' | 'stopped'>;
