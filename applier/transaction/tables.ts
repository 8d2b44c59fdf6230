/**
 * The head-office tables of one branch's units. They are checked, created and extended before a unit's transaction,
 * because DDL commits by itself. They are claimed within it. If the server cannot store a table's rows, or its name
 * belongs to another source table, the table does not fit. Then its error is thrown or, if a policy allows it, the
 * table is left out.
 */
import type { Connection } from 'mysql2/promise';
import { isVerifyMark } from '../../shared/batch/batch.ts';
import type { BatchBody, TableDescription } from '../../shared/batch/batch.ts';
import { TributaryError } from '../../shared/errors.ts';
import { nth } from '../../shared/nth.ts';
import { tableKey } from '../../shared/table-name.ts';
import type { TableName } from '../../shared/table-name.ts';
import { HistoryTrouble } from '../apply/history-table.ts';
import type { Prepared, PrepareOptions, UnfitTable } from '../apply/row-writer.ts';
import { isSchemaFault } from '../apply/target-error.ts';
import { takeApproval } from '../store/approvals.ts';
import { countSetAside, endSetAside } from '../store/set-aside.ts';
import { TableClaims } from '../store/table-claims.ts';
import type { KeptHistories } from './branch-histories.ts';
import { without } from './set-aside.ts';
import type { SetAsideTables } from './set-aside.ts';
import type { RowWriting } from '../apply/row-writer.ts';
import type { TargetPool } from '../apply/connection-pool.ts';

/** A unit's bodies, fitted to the tables of the head office. */
export interface UnitPrepared extends Prepared {
  /** Tables that were set aside and are empty at the branch now. */
  readonly emptied: readonly TableName[];
}

/** Which tables may be left out; see `PrepareOptions`. */
export type QuarantinedTables = NonNullable<PrepareOptions['leaveOut']>;

export class UnitTables {
  readonly #branch: string;
  readonly #pool: TargetPool;
  readonly #rows: Pick<RowWriting, 'prepare'>;
  readonly #claims: TableClaims;
  readonly #asides: SetAsideTables;
  readonly #histories: KeptHistories;

  /** @param maxTables head-office tables that the branch may have */
  constructor(
    branch: string,
    pool: TargetPool,
    rows: Pick<RowWriting, 'prepare'>,
    maxTables: number,
    asides: SetAsideTables,
    histories: KeptHistories = { kept: [], stopped: new Set() },
  ) {
    this.#asides = asides;
    this.#histories = histories;
    this.#branch = branch;
    this.#pool = pool;
    this.#rows = rows;
    this.#claims = new TableClaims(branch, maxTables);
  }

  /** To be called after a rollback, or if another applier was at work: a cached claim may be gone. */
  forget(): void {
    this.#claims.forget();
  }

  /**
   * Creates the tables of bodies, unless one of them belongs to another source table. Call it outside a transaction.
   * Changes of tables that are set aside are passed over.
   * @throws TARGET_SCHEMA for a table that does not fit and may not be left out; OtherForm; see RowWriter.prepare
   */
  async prepare(all: readonly BatchBody[], leaveOut: QuarantinedTables): Promise<UnitPrepared> {
    const { bodies, emptied } = this.#asides.passOver(all);
    const contested = await this.#contested(bodies, leaveOut);
    const rest = contested.length === 0 ? bodies : bodies.map(body => withoutThese(body, contested));
    let prepared = await this.#prepareFitting(rest, { leaveOut, approveRebuild: false });
    // An approval is for the table: a history that cannot be kept is stopped instead, and must not use it up.
    const isStuck =
      prepared instanceof TributaryError ? !(prepared instanceof HistoryTrouble) : prepared.unfit.length > 0;
    if (isStuck && (await this.#pool.use(connection => takeApproval(connection, this.#branch)))) {
      prepared = await this.#prepareFitting(rest, { leaveOut, approveRebuild: true });
    }
    if (prepared instanceof TributaryError) throw prepared;
    return { ...prepared, emptied, unfit: [...contested, ...prepared.unfit] };
  }

  /** Whether the head office or the branch has set the table aside, so that its rows stay as they are. */
  isSetAside(table: TableName): boolean {
    return this.#asides.marks.has(tableKey(table));
  }

  /** Ends the marks of tables that the unit has emptied. @returns whether there were any */
  async endEmptied(connection: Connection, { emptied }: Pick<UnitPrepared, 'emptied'>): Promise<boolean> {
    if (emptied.length === 0) return false;
    await endSetAside(connection, this.#branch, emptied);
    await countSetAside(connection, this.#branch);
    return true;
  }

  /**
   * Claims the tables that were created for rows. A table that was only truncated may not exist, and has no rows to
   * lose.
   * @throws TARGET_SCHEMA for the second claimant of a name
   */
  async claim(connection: Connection, { made }: Prepared): Promise<void> {
    await this.#claims.claim(connection, made);
  }

  /** Returns TARGET_SCHEMA instead of throwing it, because a rebuild may have been approved. */
  async #prepareFitting(bodies: readonly BatchBody[], options: PrepareOptions): Promise<Prepared | TributaryError> {
    try {
      return await this.#rows.prepare(bodies, this.#branch, { ...options, withoutHistory: this.#histories.stopped });
    } catch (error) {
      if (isSchemaFault(error)) return error;
      throw error;
    }
  }

  /** The tables whose names belong to other source tables. @throws TARGET_SCHEMA unless they may be left out */
  async #contested(bodies: readonly BatchBody[], leaveOut: QuarantinedTables): Promise<UnfitTable[]> {
    const tables = bodies.flatMap(body => body.tables);
    const check = async (some: readonly TableDescription[]): Promise<void> => {
      if (this.#claims.knows(some)) await this.#claims.check(null, some);
      else await this.#pool.transact(connection => this.#claims.check(connection, some));
    };
    try {
      await check(tables);
      return [];
    } catch (error) {
      if (leaveOut === 'none' || !isSchemaFault(error)) throw error;
    }
    const contested = new Map<string, UnfitTable>();
    for (const table of tables) {
      try {
        await check([table]);
      } catch (error) {
        if (!isSchemaFault(error)) throw error;
        const changes = bodies.reduce((sum, body) => sum + changesOf(body, table), 0);
        contested.set(tableKey(table), { description: table, error, changes });
      }
    }
    return [...contested.values()];
  }
}

function idsOf(unfit: readonly UnfitTable[]): Set<string> {
  return new Set(unfit.map(({ description }) => tableKey(description)));
}

function withoutThese(body: BatchBody, unfit: readonly UnfitTable[]): BatchBody {
  const out = idsOf(unfit);
  return without(body, table => out.has(tableKey(table)));
}

function changesOf(body: BatchBody, table: TableDescription): number {
  return body.changes.reduce((sum, change) => {
    if (isVerifyMark(change) || 'tables' in change) return sum;
    if (tableKey(nth(body.tables, change.table)) !== tableKey(table)) return sum;
    return sum + ('rows' in change ? change.rows : 1);
  }, 0);
}
