/**
 * Writes one unit of work of one branch: rows, bookkeeping and watermark in one transaction.
 *
 * Invariants: every transaction first locks the branch's row and compares it with the row that the unit was chosen
 * by; if another applier has moved it meanwhile nothing is written and the caller chooses again. Acknowledging is the
 * caller's, after the commit. Tables are prepared before the transaction, since DDL commits by itself.
 */
import type { Connection } from 'mysql2/promise';
import type { BatchBody, Change, StreamMark } from '../../shared/batch.ts';
import { decodeBatch } from '../../shared/batch-codec.ts';
import { assert, TributaryError } from '../../shared/errors.ts';
import type { Prepared } from '../apply/applier.ts';
import { OtherForm } from '../apply/table-store.ts';
import { takeApproval } from '../branches/approval-store.ts';
import { deleteInboxThrough, putInbox, readInbox } from '../branches/inbox.ts';
import { keepQuarantined } from '../branches/quarantine-store.ts';
import {
  closeRequests,
  endSnapshot,
  openRequests,
  readSnapshot,
  saveSweep,
  startSnapshot,
} from '../branches/snapshot-store.ts';
import type { SnapshotRow } from '../branches/snapshot-store.ts';
import { advanceBranch, clearIncomplete, lockBranch, samePlace } from '../branches/stream-store.ts';
import type { Advance, BranchRow } from '../branches/stream-store.ts';
import { TableClaims, tablesOfBranch } from '../branches/table-claims.ts';
import type { RowWriter } from './row-writer.ts';
import type { TargetPool } from './target-pool.ts';
import type { Arrival, Unit } from './work-unit.ts';

/** Rows deleted in one transaction of a sweep. */
const SWEEP_SLICE_ROWS = 5_000;

/** Rows written, by what was done with them. */
export interface RowCounts {
  readonly upserts: number;
  readonly deletes: number;
}

/** `moved`: another applier was here; nothing was written, `row` is what it left. */
export type Written =
  | { readonly outcome: 'written'; readonly row: BranchRow; readonly batches: number; readonly counts: RowCounts }
  /** A slice of a sweep is done, the batch is not: call again. */
  | { readonly outcome: 'slice'; readonly row: BranchRow; readonly swept: number }
  | { readonly outcome: 'moved'; readonly row: BranchRow | null };

const NO_ROWS: RowCounts = { upserts: 0, deletes: 0 };

export interface UnitWriterOptions {
  readonly branch: string;
  readonly pool: TargetPool;
  readonly rows: RowWriter;
}

export class UnitWriter {
  readonly #branch: string;
  readonly #pool: TargetPool;
  readonly #rows: RowWriter;
  readonly #claims: TableClaims;
  #inboxBelow = false;

  constructor(options: UnitWriterOptions) {
    this.#branch = options.branch;
    this.#pool = options.pool;
    this.#rows = options.rows;
    this.#claims = new TableClaims(options.branch);
  }

  /** A new epoch or a new owner: nothing that was remembered holds. */
  forget(): void {
    this.#claims.forget();
  }

  /**
   * Writes the unit, which was chosen by `row`. Throws what went wrong; nothing is written then.
   * @param inboxBelow the inbox has entries up to the end of the unit, to be deleted with it
   */
  async write(row: BranchRow, unit: Unit, inboxBelow: boolean): Promise<Written> {
    this.#inboxBelow = inboxBelow;
    try {
      return await this.#writeUnit(row, unit);
    } catch (error) {
      if (!(error instanceof OtherForm)) throw error;
      return this.#clearOtherForm(row, error);
    }
  }

  async #writeUnit(row: BranchRow, unit: Unit): Promise<Written> {
    switch (unit.kind) {
      case 'plain':
        return this.#writePlain(row, unit.arrivals);
      case 'parts':
        return this.#keepParts(row, unit.arrivals);
      case 'last-part':
        return this.#writeParts(row, only(unit));
      case 'snapshot-start':
        return this.#startSnapshot(row, only(unit));
      case 'snapshot-end':
        return this.#endSnapshot(row, only(unit));
      case 'quarantined':
        return this.#passOver(row, only(unit));
    }
  }

  async #writePlain(row: BranchRow, arrivals: readonly Arrival[]): Promise<Written> {
    const bodies = arrivals.map(bodyOf);
    const tables = bodies.flatMap(body => body.tables);
    const prepared = await this.#prepare(bodies);
    return this.#fenced(row, async connection => {
      await this.#claims.claim(connection, tables);
      const batchNumber = row.batchNumber + 1;
      const counts = await this.#rows.apply(connection, prepared, this.#branch, batchNumber);
      const mark = markOf(arrivals.at(-1));
      const source = bodies.at(-1)?.source ?? null;
      return this.#advance(connection, row, { received: mark, applied: mark, batchNumber, source }, counts);
    });
  }

  /** Parts that are not the last: committed to the inbox, so received. Their tables are made now, outside. */
  async #keepParts(row: BranchRow, arrivals: readonly Arrival[]): Promise<Written> {
    for (const arrival of arrivals) await this.#prepare([bodyOf(arrival)]);
    return this.#fenced(row, async connection => {
      for (const arrival of arrivals) await putInbox(connection, 'part', arrival.header, arrival.body);
      const { applied } = row.stream;
      const advance = { received: markOf(arrivals.at(-1)), applied, batchNumber: row.batchNumber, source: null };
      return this.#advance(connection, row, advance, NO_ROWS);
    });
  }

  /** The last part: all of them, read one at a time from the inbox, in one transaction. */
  async #writeParts(row: BranchRow, last: Arrival): Promise<Written> {
    const { applied, received } = row.stream;
    const lastBody = bodyOf(last);
    const lastPrepared = await this.#prepare([lastBody]);
    const written = await this.#fenced(row, async connection => {
      const batchNumber = row.batchNumber + 1;
      let upserts = 0;
      let deletes = 0;
      let number: number | null = null;
      const apply = async (body: BatchBody, prepared: Prepared): Promise<void> => {
        assert(body.part !== null, 'a part without its mark');
        if (number !== null && body.part.number !== number + 1) {
          throw new TributaryError('BATCH_INVALID', `Part ${body.part.number} follows part ${number}.`);
        }
        number = body.part.number;
        await this.#claims.claim(connection, body.tables);
        const counts = await this.#rows.apply(connection, prepared, this.#branch, batchNumber);
        upserts += counts.upserts;
        deletes += counts.deletes;
      };
      for (let seq = applied.seq + 1; seq <= received.seq; seq += 1) {
        const entry = await readInbox(connection, this.#branch, seq);
        assert(entry?.kind === 'part', `part ${seq} of ${this.#branch} is not in the inbox`);
        const body = decodeBatch(entry.body);
        // Its tables were made before the part was kept, so that no DDL is left to be done here, where it would wait
        // for locks of this very transaction.
        await apply(body, await this.#rows.prepare([body], this.#branch));
      }
      await apply(lastBody, lastPrepared);
      await deleteInboxThrough(connection, this.#branch, last.header.seq);
      const mark = markOf(last);
      const advance = { received: mark, applied: mark, batchNumber, source: lastBody.source };
      return this.#advance(connection, row, advance, { upserts, deletes });
    });
    return written.outcome === 'written' ? { ...written, batches: last.header.seq - applied.seq } : written;
  }

  async #startSnapshot(row: BranchRow, arrival: Arrival): Promise<Written> {
    const body = bodyOf(arrival);
    const marker = markerOf(body, 'snapshot-start');
    await this.#prepare([body]);
    return this.#fenced(row, async connection => {
      await this.#claims.claim(connection, body.tables);
      const batchNumber = row.batchNumber + 1;
      await startSnapshot(connection, this.#branch, {
        snapshot: marker.snapshot,
        whole: marker.whole,
        tables: namesOf(body, marker.tables),
        requests: marker.requests,
        startBatch: batchNumber,
      });
      return this.#advanceAlone(connection, row, arrival, body, batchNumber);
    });
  }

  /** One slice of the sweep, or, when nothing is left to sweep, the end of the snapshot. */
  async #endSnapshot(row: BranchRow, arrival: Arrival): Promise<Written> {
    const body = bodyOf(arrival);
    const marker = markerOf(body, 'snapshot-end');
    return this.#fenced<Written>(row, async connection => {
      const snapshot = await readSnapshot(connection, this.#branch, marker.snapshot);
      let left = row;
      if (snapshot !== null) {
        const whole = snapshot.whole && marker.whole;
        const covered = namesOf(body, marker.tables).filter(name => whole || snapshot.tables.includes(name));
        const known = await tablesOfBranch(connection, this.#branch);
        const tables = whole ? known : known.filter(table => covered.includes(table.name));
        const table = tables.find(candidate => !snapshot.swept.includes(candidate.name));
        if (table !== undefined) {
          const since = snapshot.startBatch;
          const slice = await this.#rows.sweep(connection, this.#branch, [table], since, SWEEP_SLICE_ROWS);
          const swept = slice.done ? [...snapshot.swept, table.name] : snapshot.swept;
          await saveSweep(connection, this.#branch, marker.snapshot, swept, slice.deleted);
          return { outcome: 'slice', row, swept: slice.deleted };
        }
        left = await this.#finishSnapshot(connection, row, snapshot);
      }
      return this.#advanceAlone(connection, left, arrival, body, row.batchNumber + 1);
    });
  }

  /** Closes what the snapshot served; returns the row as it leaves it. */
  async #finishSnapshot(connection: Connection, row: BranchRow, snapshot: SnapshotRow): Promise<BranchRow> {
    const open = await openRequests(connection, this.#branch);
    const serves = snapshot.whole || snapshot.requests.some(request => open.includes(request));
    const mended = serves && snapshot.startBatch > row.incompleteBatch;
    if (mended && row.incompleteSince !== null) await clearIncomplete(connection, this.#branch);
    await closeRequests(connection, this.#branch, snapshot.requests);
    await endSnapshot(connection, this.#branch, snapshot.snapshot);
    return mended ? { ...row, incompleteSince: null } : row;
  }

  /** The branch's table has a key now, or has none any more: one slice of its rows of before. */
  async #clearOtherForm(row: BranchRow, fault: OtherForm): Promise<Written> {
    return this.#fenced<Written>(row, async connection => {
      const swept = await this.#rows.clearOtherForm(connection, this.#branch, fault.table, SWEEP_SLICE_ROWS);
      if (swept === 0) throw fault;
      return { outcome: 'slice', row, swept };
    });
  }

  /** A quarantined batch: its rows are not written, and neither are those of the parts that it ends. */
  async #passOver(row: BranchRow, arrival: Arrival): Promise<Written> {
    return this.#fenced(row, async connection => {
      await keepQuarantined(connection, arrival.header, Buffer.concat(arrival.body));
      await deleteInboxThrough(connection, this.#branch, arrival.header.seq);
      const mark = markOf(arrival);
      const advance = { received: mark, applied: mark, batchNumber: row.batchNumber, source: null };
      return this.#advance(connection, row, advance, NO_ROWS);
    });
  }

  /** Makes the tables of bodies, unless one of them belongs to another source table. Outside of any transaction. */
  async #prepare(bodies: readonly BatchBody[]): Promise<Prepared> {
    const tables = bodies.flatMap(body => body.tables);
    if (this.#claims.knows(tables)) await this.#claims.verify(null, tables);
    else await this.#pool.use(connection => this.#claims.verify(connection, tables));
    try {
      return await this.#rows.prepare(bodies, this.#branch);
    } catch (error) {
      if (!(error instanceof TributaryError) || error.code !== 'TARGET_SCHEMA') throw error;
      if (!(await this.#pool.use(connection => takeApproval(connection, this.#branch)))) throw error;
      return this.#rows.prepare(bodies, this.#branch, { approveRebuild: true });
    }
  }

  /** A transaction that begins with the lock on the branch's row and ends early when the row is not as planned. */
  async #fenced<W extends Written>(
    row: BranchRow,
    work: (connection: Connection) => Promise<W>,
  ): Promise<W | Extract<Written, { outcome: 'moved' }>> {
    try {
      return await this.#pool.transact(async connection => {
        const locked = await lockBranch(connection, this.#branch);
        if (locked === null || !samePlace(locked, row)) return { outcome: 'moved', row: locked };
        return work(connection);
      });
    } catch (error) {
      // What was claimed in the transaction is rolled back with it.
      this.#claims.forget();
      throw error;
    }
  }

  async #advanceAlone(
    connection: Connection,
    row: BranchRow,
    arrival: Arrival,
    body: BatchBody,
    batchNumber: number,
  ): Promise<Extract<Written, { outcome: 'written' }>> {
    const mark = markOf(arrival);
    const advance = { received: mark, applied: mark, batchNumber, source: body.source };
    return this.#advance(connection, row, advance, NO_ROWS);
  }

  async #advance(
    connection: Connection,
    row: BranchRow,
    advance: Advance,
    counts: RowCounts,
  ): Promise<Extract<Written, { outcome: 'written' }>> {
    await advanceBranch(connection, row, advance);
    const { received, applied, batchNumber, source } = advance;
    // What was early and has now had its turn, from the inbox or as a second copy from the broker.
    if (this.#inboxBelow && applied.seq === received.seq) {
      await deleteInboxThrough(connection, this.#branch, applied.seq);
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
}

function bodyOf(arrival: Arrival): BatchBody {
  assert(arrival.decoded !== null, `batch ${arrival.header.seq} is not decoded`);
  return arrival.decoded;
}

function only(unit: Unit): Arrival {
  const [arrival, second] = unit.arrivals;
  assert(arrival !== undefined && second === undefined, `a unit ${unit.kind} of ${unit.arrivals.length} batches`);
  return arrival;
}

function markOf(arrival: Arrival | undefined): StreamMark {
  assert(arrival !== undefined, 'a unit without batches');
  return { seq: arrival.header.seq, digest: arrival.header.digest };
}

type Marker<Op> = Extract<Change, { op: Op }>;

function markerOf<Op extends 'snapshot-start' | 'snapshot-end'>(body: BatchBody, op: Op): Marker<Op> {
  const found = body.changes.find((change): change is Marker<Op> => change.op === op);
  assert(found !== undefined, `a batch without its ${op}`);
  return found;
}

function namesOf(body: BatchBody, tables: readonly number[]): string[] {
  return tables.map(index => {
    const table = body.tables[index];
    assert(table !== undefined, `marker names table ${index}, which the batch does not have`);
    return table.name;
  });
}
