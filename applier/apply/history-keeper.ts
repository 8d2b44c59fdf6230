/**
 * Keeps the history of tables: what row-writer.ts writes to a table, this writes to its history, in the same
 * transaction.
 *
 * Invariants: all versions of a unit have numbers above those of earlier units, so that a version of this unit is
 * recognised by its number. A version begins when its commit was made, but never before the version that it follows. So
 * versions do not overlap, even if the branch's clock was set back.
 */
import type { Connection } from 'mysql2/promise';
import type { BatchBody, TableDescription } from '../../shared/batch/batch.ts';
import { assert } from '../../shared/errors.ts';
import { quoteString } from '../../shared/database/sql.ts';
import {
  bury,
  close,
  closeBefore,
  findHistory,
  follow,
  greatestKey,
  hasVersions,
  moveEnds,
  readOpen,
  sqlOf,
  undo,
} from './history-sql.ts';
import type { Moment } from './history-sql.ts';
import { HistoryRows, KeyLiterals, NUMBERS } from './history-rows.ts';
import type { Settled } from './history-rows.ts';
import {
  describeHistory,
  HistoryNames,
  historyTrouble,
  HistoryTrouble,
  OPEN_UNTIL,
  refusesRow,
  requireOwnKey,
  VERSION_KEY,
} from './history-table.ts';
import { isRowFault } from './target-error.ts';
import type { RowSet } from './merge.ts';
import type { TableStore } from './table-store.ts';
import type { TargetTable } from './target-table.ts';
import { comparedTables, versionSteps } from './version-steps.ts';
import type { Chain, VersionStep } from './version-steps.ts';

/** A step with the tables that it needs. Those of a truncate are looked up when it runs. */
export interface PreparedStep {
  readonly step: VersionStep;
  readonly tables: { readonly table: TargetTable; readonly history: TargetTable } | null;
}

/** How the rows of a unit came. */
export interface UnitMoment {
  /** The commit time of the unit's last transaction, as a DATETIME(6) in UTC. */
  readonly at: string;
  /** The unit is one transaction of the branch, and this body is not its first part. */
  readonly isContinued: boolean;
  /** Numbers that comparisons in earlier parts of the transaction have used. */
  readonly earlierSteps?: number;
}

/** Writes rows to a history, as to any table. @returns the places of those that were refused and may be left out */
type WriteRows = (history: TargetTable, rows: RowSet) => Promise<ReadonlySet<number>>;

export interface HistoryKeeperOptions {
  readonly store: TableStore;
  readonly database: string;
  readonly names: HistoryNames;
}

export class HistoryKeeper {
  readonly names: HistoryNames;
  readonly #store: TableStore;
  readonly #database: string;

  constructor({ store, database, names }: HistoryKeeperOptions) {
    this.names = names;
    this.#store = store;
    this.#database = database;
  }

  /** See `comparedTables`. */
  compared(body: BatchBody): string {
    return comparedTables(body, this.names);
  }

  /**
   * Creates and extends the histories of what bodies change.
   * @param isOut whether a table is left out
   * @throws HistoryTrouble, and what TableStore.prepare throws
   */
  async prepare(
    bodies: readonly BatchBody[],
    isOut: (table: TableDescription) => boolean,
    approved: boolean | undefined,
  ): Promise<PreparedStep[]> {
    for (const table of bodies.flatMap(body => body.tables)) {
      // Refuses a table without a key, whose changes make no steps.
      if (table.columns.length > 0 && this.names.keeps(table.name) && !isOut(table)) describeHistory(table);
    }
    const steps = versionSteps(bodies, this.names).filter(({ table }) => !isOut(table));
    const prepared: PreparedStep[] = [];
    for (const step of steps) {
      const tables = step.do === 'truncate' ? null : await this.tablesFor(step.table, approved);
      prepared.push({ step, tables });
    }
    return prepared;
  }

  /** A table and its history, made or extended to hold rows of this description. @throws TARGET_SCHEMA, HistoryTrouble */
  async tablesFor(
    description: TableDescription,
    approved: boolean | undefined,
  ): Promise<{ readonly table: TargetTable; readonly history: TargetTable }> {
    const [table] = await this.#store.prepare([description], approved);
    const own = describeHistory(description);
    try {
      const [history] = await this.#store.prepare([own], approved);
      assert(table !== undefined && history !== undefined, 'a table was prepared, and is not there');
      requireOwnKey(description, history);
      return { table, history };
    } catch (error) {
      throw historyTrouble(description, error);
    }
  }

  /**
   * Writes the versions of a unit, after its rows.
   * @param write writes rows to a history
   * @throws HistoryTrouble if the history refuses a row
   */
  async apply(
    connection: Connection,
    steps: readonly PreparedStep[],
    branch: string,
    batchNumber: number,
    moment: UnitMoment,
    write: WriteRows,
  ): Promise<void> {
    for (const prepared of steps) {
      try {
        await this.#applyStep(connection, prepared, branch, batchNumber, moment, write);
      } catch (error) {
        throw isRowFault(error) && !(error instanceof HistoryTrouble)
          ? refusesRow(prepared.step.table.name, error)
          : error;
      }
    }
  }

  async #applyStep(
    connection: Connection,
    { step, tables }: PreparedStep,
    branch: string,
    batchNumber: number,
    moment: UnitMoment,
    write: WriteRows,
  ): Promise<void> {
    const first = batchNumber * NUMBERS;
    if (step.do === 'versions') {
      assert(tables !== null, 'versions without a table');
      await this.#writeChains(connection, tables.history, step.chains, { branch, first, moment, write });
      return;
    }
    const number = step.number + (moment.earlierSteps ?? 0);
    assert(number < NUMBERS, 'a unit has more commits than there are numbers');
    const at: Moment = {
      branch,
      batchNumber,
      version: first + number,
      at: moment.at,
      isCommit: step.do === 'truncate',
    };
    if (step.do === 'truncate') {
      const history = await findHistory(connection, this.#database, step.table.name);
      if (history !== null) await bury(connection, history, at, 'TRUE');
    } else if (tables !== null) {
      await this.#compare(connection, tables, step, at);
    }
  }

  /**
   * Of the rows that a sweep is about to delete, notes in the history that they are gone.
   * @param rows SQL of a derived table with the keys of these rows
   */
  async sweep(
    connection: Connection,
    table: string,
    moment: Omit<Moment, 'version' | 'isCommit'>,
    rows: (key: readonly string[]) => string,
  ): Promise<void> {
    const history = await findHistory(connection, this.#database, table);
    if (history === null) return;
    const on = history.key.map(column => `d.${column} = o.${column}`).join(' AND ');
    const at: Moment = { ...moment, version: moment.batchNumber * NUMBERS, isCommit: false };
    await bury(connection, history, at, 'TRUE', `JOIN (${rows(history.key)}) d ON ${on}`);
  }

  /**
   * Begins a history, or makes it follow the table again: one slice of it, within the caller's transaction.
   * @param wasFresh what the slice before has returned as `isFresh`; false for the first
   */
  async begin(
    connection: Connection,
    { table, history }: { readonly table: TargetTable; readonly history: TargetTable },
    { branch, batchNumber, at }: Omit<Moment, 'version' | 'isCommit'>,
    limit: number,
    wasFresh: boolean,
  ): Promise<{ readonly isDone: boolean; readonly isFresh: boolean }> {
    const moment: Moment = { branch, batchNumber, version: batchNumber * NUMBERS + NUMBERS - 1, at, isCommit: false };
    const own = sqlOf(history);
    const [first] = own.key;
    const ofBranch = (alias: string): string => `${alias}._branch = ${quoteString(branch)}`;
    const isEmpty = !(await hasVersions(connection, own, branch));
    const isFresh = wasFresh || isEmpty;
    // Without older versions, rows are copied in the order of their keys, and the search goes on behind the last one.
    const behind = `c.${first!} >= (SELECT MAX(f.${first!}) FROM ${own.sql} f WHERE ${ofBranch('f')})`;
    const where = isFresh && !isEmpty ? `${ofBranch('c')} AND ${behind}` : ofBranch('c');
    const made = await follow(connection, table, history, moment, where, limit);
    if (made > 0 && !isFresh) await closeBefore(connection, own, ofBranch('o'), moment.version);
    if (made >= limit) return { isDone: false, isFresh };
    const gone = own.key.map(column => `c.${column} = o.${column}`).join(' AND ');
    const join = `LEFT JOIN ${table.sql} c ON c._branch = o._branch AND ${gone}`;
    if (!isFresh) await bury(connection, own, moment, 'c._branch IS NULL', join);
    return { isDone: true, isFresh };
  }

  /** The history follows the table, for the keys of these changes. */
  async #compare(
    connection: Connection,
    { table, history }: { readonly table: TargetTable; readonly history: TargetTable },
    { changes }: Extract<VersionStep, { do: 'compare' }>,
    moment: Moment,
  ): Promise<void> {
    const own = sqlOf(history);
    const keys = new KeyLiterals(history, moment.branch);
    for (const change of changes) {
      const deleted = change.op === 'delete';
      const places = history.key.slice(0, -VERSION_KEY.length);
      const columns = deleted ? change.keys : places.map(index => change.values[index]!);
      for (const list of keys.lists(change.rows, row => keys.of(columns, row))) {
        if (deleted) {
          await bury(connection, own, moment, keys.in('o', list));
          continue;
        }
        const made = await follow(connection, table, history, moment, keys.in('c', list));
        if (made > 0) await closeBefore(connection, own, keys.in('o', list), moment.version);
      }
    }
  }

  async #writeChains(
    connection: Connection,
    history: TargetTable,
    chains: readonly Chain[],
    { branch, first, moment, write }: ChainContext,
  ): Promise<void> {
    const own = sqlOf(history);
    const keys = new KeyLiterals(history, branch);
    const settled: Settled[] = [];
    // A table that grows has new keys at its end: nobody needs to ask about them.
    const greatest = await greatestKey(connection, own, branch);
    const known = chains.filter(chain => {
      if (!keys.isBeyond(chain[0]!, greatest)) return true;
      settled.push({ chain, follows: false, isLive: false, latest: null });
      return false;
    });
    const lowest = first + chains.reduce((least, chain) => Math.min(least, chain[0]!.number), NUMBERS);
    // Deletes apart, because only they need to know whether there is a row to delete.
    for (const deleted of [false, true]) {
      const some = known.filter(([version]) => version!.deleted === deleted);
      for (const [from, to] of keys.spans(some.length, at => keys.ofVersion(some[at]![0]!))) {
        settled.push(...(await this.#settle(connection, history, keys, some.slice(from, to), first, moment)));
      }
    }
    const rows = new HistoryRows(history, first);
    const spans = settled.map(each => rows.add(each));
    const refused = await write(history, rows.set());
    const ended: { readonly key: string; readonly from: string }[] = [];
    const undone: string[] = [];
    for (const [index, { chain, follows }] of settled.entries()) {
      const span = spans[index] ?? null;
      if (span === null) {
        // It was inserted by an earlier part of the same transaction, so nobody has seen it.
        if (moment.isContinued) undone.push(keys.ofVersion(chain[0]!));
        continue;
      }
      const { from, ends } = rows.without(span, refused);
      if (ends.length > 0) await moveEnds(connection, own, keys.in('o', [keys.ofVersion(chain[0]!)]), ends);
      if (follows && from !== null) ended.push({ key: keys.ofVersion(chain[0]!), from });
    }
    for (const [at, end] of keys.spans(ended.length, index => ended[index]!.key)) {
      const some = ended.slice(at, end);
      const list = some.map(({ key }) => key);
      const until = keys.choose(
        'o',
        list,
        some.map(({ from }) => quoteString(from)),
      );
      await close(connection, own, keys.in('o', list), until, lowest);
    }
    for (const [at, end] of keys.spans(undone.length, index => undone[index]!)) {
      await undo(connection, own, keys.in('o', undone.slice(at, end)), first);
    }
  }

  /**
   * What the first version of each chain follows. One query answers for many keys, unless clocks were set back or some
   * of the rows to delete are not there: then for fewer of them.
   */
  async #settle(
    connection: Connection,
    history: TargetTable,
    keys: KeyLiterals,
    chains: readonly Chain[],
    first: number,
    moment: UnitMoment,
  ): Promise<Settled[]> {
    const own = sqlOf(history);
    const until = moment.isContinued ? [OPEN_UNTIL, moment.at] : [OPEN_UNTIL];
    const where = keys.in(
      'h',
      chains.map(([version]) => keys.ofVersion(version!)),
    );
    // An earlier part of the same transaction has made versions that nobody has seen.
    const below = moment.isContinued ? first : first + NUMBERS;
    let found = await readOpen(connection, own, where, until, below);
    const { latest } = found;
    const isDelete = chains[0]![0]!.deleted;
    const isInOrder = latest === null || chains.every(([version]) => version!.committedAt >= latest);
    // Where a clock was set back, the earlier part has ended the version before it later than at the commit.
    if (moment.isContinued && !isInOrder && chains.length === 1)
      found = { ...(await readOpen(connection, own, where, [...until, latest], below)), latest };
    const { count, live } = found;
    const isSure = !isDelete || live === 0 || live === chains.length;
    if (chains.length === 1 || (isInOrder && isSure)) {
      return chains.map(chain => ({ chain, follows: count > 0, isLive: live > 0, latest: isInOrder ? null : latest }));
    }
    const middle = chains.length >> 1;
    const half = (some: readonly Chain[]): Promise<Settled[]> =>
      this.#settle(connection, history, keys, some, first, moment);
    return [...(await half(chains.slice(0, middle))), ...(await half(chains.slice(middle)))];
  }
}

interface ChainContext {
  readonly branch: string;
  readonly first: number;
  readonly moment: UnitMoment;
  readonly write: WriteRows;
}
