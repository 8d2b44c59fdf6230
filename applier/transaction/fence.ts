/**
 * The fence around what is written for one branch: a transaction that begins with the lock on the branch's row and
 * moves the branch's watermark.
 *
 * Invariant: the locked row is compared with the row by which the work was chosen. If another applier has changed it
 * meanwhile, nothing is written and the caller chooses again. The caller acknowledges after the commit.
 */
import type { Connection } from 'mysql2/promise';
import { deleteInboxThrough } from '../store/inbox.ts';
import { advanceBranch, lockBranch, isUnchanged } from '../store/branch-row.ts';
import type { Advance, BranchRow } from '../store/branch-row.ts';
import { advanceHistories } from '../store/histories.ts';
import type { TargetPool } from '../apply/connection-pool.ts';
import { bodyOf, bytesOf, markOf } from './unit.ts';
import type { Arrival } from './unit.ts';

/** How many rows were written and deleted. */
export interface RowCounts {
  readonly upserts: number;
  readonly deletes: number;
}

export const NO_ROWS: RowCounts = { upserts: 0, deletes: 0 };

/** The unit is committed. `row` is the branch's row after that. */
export interface Written {
  readonly outcome: 'written';
  readonly row: BranchRow;
  readonly batches: number;
  readonly counts: RowCounts;
}

/** A slice of a sweep is committed, but the batch is not applied yet. Call again. */
export interface Slice {
  readonly outcome: 'slice';
  readonly row: BranchRow;
  readonly swept: number;
}

/** Another applier has changed the branch's row, which is `row`. Nothing was written. */
export interface Moved {
  readonly outcome: 'moved';
  readonly row: BranchRow | null;
}

export type WriteResult = Written | Slice | Moved;

export interface FenceOptions {
  readonly pool: TargetPool;
  /** The branch's row by which the work was chosen. */
  readonly row: BranchRow;
  /** Whether the inbox has entries up to the end of the work; they are deleted with it. */
  readonly inboxBelow: boolean;
  /** Tables whose history is kept; absent: none. */
  readonly history?: readonly string[];
  /** Called after a rollback: anything remembered from the transaction is no longer true. */
  readonly onRollback: () => void;
}

/** The fence of one unit of work. */
export class Fence {
  readonly row: BranchRow;
  readonly #options: FenceOptions;

  constructor(options: FenceOptions) {
    this.row = options.row;
    this.#options = options;
  }

  get branch(): string {
    return this.row.branch;
  }

  /**
   * Runs work in one transaction under the lock on the branch's row, unless the row has changed.
   * @throws the errors of `work`, after a rollback, and those of the pool
   */
  async transact<W extends WriteResult>(work: (connection: Connection) => Promise<W>): Promise<W | Moved> {
    const { pool, onRollback } = this.#options;
    try {
      return await pool.transact(async connection => {
        const locked = await lockBranch(connection, this.branch);
        if (locked === null || !isUnchanged(locked, this.row)) return { outcome: 'moved', row: locked };
        return work(connection);
      });
    } catch (error) {
      onRollback();
      throw error;
    }
  }

  /** Moves the watermark, within the transaction. */
  async advance(connection: Connection, advance: Advance, counts: RowCounts): Promise<Written> {
    const { row } = this;
    await advanceBranch(connection, row, advance, counts.upserts + counts.deletes);
    await advanceHistories(connection, row, advance.batchNumber, this.#options.history ?? []);
    const { received, applied, batchNumber, source } = advance;
    // Deletes early batches that are applied now, whether they came from the inbox or once more from the broker.
    if (this.#options.inboxBelow && applied.seq === received.seq) {
      await deleteInboxThrough(connection, this.branch, applied.seq);
    }
    const next: BranchRow = {
      ...row,
      stream: { ...row.stream, received, applied },
      batchNumber,
      position: source ?? row.position,
      capturedThrough: source?.committedAt ?? row.capturedThrough,
    };
    return { outcome: 'written', row: next, batches: applied.seq - row.stream.applied.seq, counts };
  }

  /** Moves the watermark past one batch that has no rows. */
  async advancePast(connection: Connection, arrival: Arrival, batchNumber: number): Promise<Written> {
    const mark = markOf(arrival);
    const { source } = bodyOf(arrival);
    const bytes = bytesOf(arrival);
    return this.advance(connection, { received: mark, applied: mark, batchNumber, source, bytes }, NO_ROWS);
  }
}

/** Reads the branch's row again, because this transaction has changed more of it than the watermark. */
export async function asStored(connection: Connection, done: Written): Promise<Written> {
  return { ...done, row: (await lockBranch(connection, done.row.branch)) ?? done.row };
}
