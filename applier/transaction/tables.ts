/**
 * The head-office tables of one branch's units. They are checked, made and extended before a unit's transaction,
 * because DDL commits by itself, and claimed within it. A table may not fit: the server cannot store its rows, or its
 * name belongs to another source table. Then its error is thrown or, where a policy allows it, the table is left out.
 */
import type { Connection } from 'mysql2/promise';
import { isVerifyMark } from '../../shared/batch/batch.ts';
import type { BatchBody, Change, TableDescription } from '../../shared/batch/batch.ts';
import { TributaryError } from '../../shared/errors.ts';
import { nth } from '../../shared/nth.ts';
import { tableKey } from '../../shared/table-name.ts';
import type { Prepared, PrepareOptions, UnfitTable } from '../apply/row-writer.ts';
import { isSchemaFault } from '../apply/target-error.ts';
import { takeApproval } from '../store/approvals.ts';
import { TableClaims } from '../store/table-claims.ts';
import type { RowWriting } from '../apply/row-writer.ts';
import type { TargetPool } from '../apply/connection-pool.ts';

/** Which tables may be left out; see `PrepareOptions`. */
export type QuarantinedTables = NonNullable<PrepareOptions['leaveOut']>;

export class UnitTables {
  readonly #branch: string;
  readonly #pool: TargetPool;
  readonly #rows: Pick<RowWriting, 'prepare'>;
  readonly #claims: TableClaims;

  /** @param maxTables head-office tables that the branch may have */
  constructor(branch: string, pool: TargetPool, rows: Pick<RowWriting, 'prepare'>, maxTables: number) {
    this.#branch = branch;
    this.#pool = pool;
    this.#rows = rows;
    this.#claims = new TableClaims(branch, maxTables);
  }

  /** A cached claim may be gone after a rollback, or when another applier was at work. */
  forget(): void {
    this.#claims.forget();
  }

  /**
   * Makes the tables of bodies, unless one of them belongs to another source table. Call it outside a transaction.
   * @throws TARGET_SCHEMA for what does not fit and may not be left out; OtherForm; see Applier.prepare
   */
  async prepare(bodies: readonly BatchBody[], leaveOut: QuarantinedTables): Promise<Prepared> {
    const contested = await this.#contested(bodies, leaveOut);
    const rest = contested.length === 0 ? bodies : bodies.map(body => without(body, contested));
    let prepared = await this.#prepareFitting(rest, { leaveOut, approveRebuild: false });
    const isStuck = prepared instanceof TributaryError || prepared.unfit.length > 0;
    if (isStuck && (await this.#pool.use(connection => takeApproval(connection, this.#branch)))) {
      prepared = await this.#prepareFitting(rest, { leaveOut, approveRebuild: true });
    }
    if (prepared instanceof TributaryError) throw prepared;
    return contested.length === 0 ? prepared : { ...prepared, unfit: [...contested, ...prepared.unfit] };
  }

  /**
   * Claims the tables that were made for rows. A table that was only truncated may not exist, and has no rows to lose.
   * @throws TARGET_SCHEMA for the second claimant of a name
   */
  async claim(connection: Connection, { made }: Prepared): Promise<void> {
    await this.#claims.claim(connection, made);
  }

  /** TARGET_SCHEMA is returned, not thrown: a rebuild may have been approved. */
  async #prepareFitting(bodies: readonly BatchBody[], options: PrepareOptions): Promise<Prepared | TributaryError> {
    try {
      return await this.#rows.prepare(bodies, this.#branch, options);
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
      else await this.#pool.use(connection => this.#claims.check(connection, some));
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

/** The body without the changes of these tables. The indexes of the others stay. */
function without(body: BatchBody, unfit: readonly UnfitTable[]): BatchBody {
  const out = idsOf(unfit);
  const isOut = (index: number): boolean => out.has(tableKey(nth(body.tables, index)));
  return {
    ...body,
    tables: body.tables.map((table, index) => (isOut(index) ? { ...table, columns: [] } : table)),
    changes: body.changes.flatMap((change): Change[] => {
      if (isVerifyMark(change)) return [change];
      if ('tables' in change) return [{ ...change, tables: change.tables.filter(index => !isOut(index)) }];
      return isOut(change.table) ? [] : [change];
    }),
  };
}

function changesOf(body: BatchBody, table: TableDescription): number {
  return body.changes.reduce((sum, change) => {
    if (isVerifyMark(change) || 'tables' in change) return sum;
    if (tableKey(nth(body.tables, change.table)) !== tableKey(table)) return sum;
    return sum + ('rows' in change ? change.rows : 1);
  }, 0);
}
