/**
 * Writes one unit of work of one branch: rows, bookkeeping and watermark in one transaction.
 *
 * Invariants: every transaction runs under the fence (fence.ts). Tables are prepared before it, since DDL commits by
 * itself. What is left out of a unit (quarantine.ts) is in quarantine, and asked for again, in the unit's own
 * transaction. Of batches that carry no rows, the markers of snapshots are written by snapshot-markers.ts, the marks of
 * verifications by verify-markers.ts, and what is not to be applied at all by skip-batch.ts.
 */
import type { Connection } from 'mysql2/promise';
import type { BatchBody } from '../../shared/batch/batch.ts';
import { decodeBatch } from '../../shared/batch/decoder.ts';
import { assert, TributaryError } from '../../shared/errors.ts';
import type { Prepared, UnfitTable } from '../apply/row-writer.ts';
import { OtherForm } from '../apply/target-table.ts';
import { deleteInboxThrough, partBytes, putInbox, readInbox } from '../store/inbox.ts';
import type { Decision } from '../store/quarantined-batches.ts';
import type { BranchRow } from '../store/branch-row.ts';
import type { Counter } from '../verify/counter.ts';
import { Fence, NO_ROWS } from './fence.ts';
import type { RowCounts, Written } from './fence.ts';
import { beginQuarantine } from './quarantine.ts';
import type { QuarantinePolicy, QuarantineRecorder, QuarantineOptions } from './quarantine.ts';
import { skipBatch } from './skip-batch.ts';
import type { Quotas } from './quotas.ts';
import type { RowWriting } from '../apply/row-writer.ts';
import { SnapshotMarkers, SWEEP_SLICE } from './snapshot-markers.ts';
import type { TargetPool } from '../apply/connection-pool.ts';
import { UnitTables } from './tables.ts';
import { VerifyMarkers } from './verify-markers.ts';
import { bodyOf, bytesOf, markOf } from './unit.ts';
import type { Arrival, Unit } from './unit.ts';

/** How to write a unit. */
export interface WriteChoices {
  /** The inbox has entries up to the end of the unit, to be deleted with it. */
  readonly inboxBelow: boolean;
  /** What may be left out; null: nothing. */
  readonly policy: QuarantinePolicy | null;
  /** What a person has said of the unit's only batch; null: nothing. */
  readonly decision: Decision | null;
}

export interface UnitWriterOptions {
  readonly branch: string;
  readonly pool: TargetPool;
  readonly rows: RowWriting;
  readonly counter: Pick<Counter, 'begin'>;
  readonly quotas: Quotas;
}

export class UnitWriter {
  readonly #branch: string;
  readonly #pool: TargetPool;
  readonly #rows: RowWriting;
  readonly #quotas: Quotas;
  readonly #tables: UnitTables;
  readonly #snapshots: SnapshotMarkers;
  readonly #verifications: VerifyMarkers;
  /** Bytes of the parts in the inbox; null: to be looked up. */
  #partBytes: number | null = null;
  /** Whether nothing has gone wrong since the tables of the parts in the inbox were made. */
  #partsPrepared = false;

  constructor({ branch, pool, rows, counter, quotas }: UnitWriterOptions) {
    this.#branch = branch;
    this.#pool = pool;
    this.#rows = rows;
    this.#quotas = quotas;
    this.#tables = new UnitTables(branch, pool, rows, quotas.tables);
    this.#snapshots = new SnapshotMarkers(this.#tables, rows);
    this.#verifications = new VerifyMarkers(counter);
  }

  /** A rollback, a new epoch or a new owner: nothing that was remembered holds. */
  forget(): void {
    this.#tables.forget();
    this.#partBytes = null;
    this.#partsPrepared = false;
  }

  /** Writes the unit, which was chosen by `row`. Throws what went wrong; nothing is written then. */
  async write(row: BranchRow, unit: Unit, { inboxBelow, policy: leave, decision }: WriteChoices): Promise<Written> {
    // What was claimed and kept in a transaction is rolled back with it.
    const fence = new Fence({ pool: this.#pool, row, inboxBelow, onRollback: () => this.forget() });
    try {
      return await this.#write(fence, unit, { policy: leave, decision, tables: leave === null ? 'none' : 'unfit' });
    } catch (error) {
      if (!(error instanceof OtherForm)) throw error;
      const mayClear = error.mayClear === 'always' || truncates(unit, error.table);
      const cleared = mayClear ? await this.#clearOtherForm(fence, error) : null;
      if (cleared !== null) return cleared;
      if (leave === null) throw error;
      return this.#write(fence, unit, { policy: leave, decision, tables: 'all' });
    }
  }

  async #write(fence: Fence, unit: Unit, leaving: QuarantineOptions): Promise<Written> {
    switch (unit.kind) {
      case 'plain':
        return this.#writePlain(fence, unit.arrivals, leaving);
      case 'parts':
        return this.#keepParts(fence, unit.arrivals, leaving);
      case 'last-part':
        return this.#writeParts(fence, only(unit), leaving);
      case 'snapshot-start':
        return this.#snapshots.start(fence, only(unit), leaving);
      case 'snapshot-end':
        return this.#snapshots.end(fence, only(unit), leaving.decision);
      case 'verify':
        return this.#verifications.write(fence, only(unit));
      case 'quarantined':
        return this.#skip(fence, only(unit), leaving.decision);
    }
  }

  async #writePlain(fence: Fence, arrivals: readonly Arrival[], leaving: QuarantineOptions): Promise<Written> {
    const bodies = arrivals.map(bodyOf);
    const prepared = await this.#tables.prepare(bodies, leaving.tables);
    return fence.transact(async connection => {
      const batchNumber = fence.row.batchNumber + 1;
      const last = lastOf(arrivals);
      const left = beginQuarantine(connection, this.#branch, leaving);
      const counts = await this.#apply(connection, left, prepared, last, batchNumber);
      const mark = markOf(last);
      const source = bodies.at(-1)?.source ?? null;
      const done = await fence.advance(connection, { received: mark, applied: mark, batchNumber, source }, counts);
      return left === null ? done : left.finish(done, last.header);
    });
  }

  /** Claims the tables of what was prepared and writes its rows, those in quarantine left out. */
  async #apply(
    connection: Connection,
    left: QuarantineRecorder | null,
    prepared: Prepared,
    { header }: Arrival,
    batchNumber: number,
  ): Promise<RowCounts> {
    await this.#tables.claim(connection, prepared);
    if (left === null) return this.#rows.apply(connection, prepared, this.#branch, batchNumber);
    const at = { epoch: header.epoch, seq: header.seq, batchNumber };
    left.noteTables(prepared, at);
    const leaveOut = left.addRow.bind(left);
    const counts = await this.#rows.apply(connection, prepared, this.#branch, batchNumber, refused =>
      leaveOut(refused, at),
    );
    left.noteApplied(prepared);
    return counts;
  }

  /** Parts that are not the last: committed to the inbox, so received. Their tables are made now, outside. */
  async #keepParts(fence: Fence, arrivals: readonly Arrival[], leaving: QuarantineOptions): Promise<Written> {
    const unfit: UnfitTable[] = [];
    for (const arrival of arrivals) {
      unfit.push(...(await this.#tables.prepare([bodyOf(arrival)], leaving.tables)).unfit);
    }
    return fence.transact(async connection => {
      const before = this.#partBytes ?? (await partBytes(connection, this.#branch));
      this.#partBytes = arrivals.reduce((sum, arrival) => sum + bytesOf(arrival), before);
      if (this.#partBytes > this.#quotas.openPartBytes) {
        throw new TributaryError(
          'BATCH_REFUSED',
          `The parts of one transaction are ${this.#partBytes} bytes, more than ${this.#quotas.openPartBytes}, which is a branch’s quota.`,
          { hint: 'Let the branch copy its tables anew: `tributary-agent enroll` again, or split the transaction.' },
        );
      }
      const last = lastOf(arrivals);
      const { batchNumber, stream } = fence.row;
      const left = beginQuarantine(connection, this.#branch, leaving);
      // Their changes are counted when they are left out in fact: with the last part.
      const at = { epoch: last.header.epoch, seq: last.header.seq, batchNumber };
      left?.noteTables({ unfit: unfit.map(table => ({ ...table, changes: 0 })), steps: [] }, at);
      for (const arrival of arrivals) await putInbox(connection, 'part', arrival.header, arrival.body);
      const advance = { received: markOf(last), applied: stream.applied, batchNumber, source: null };
      const done = await fence.advance(connection, advance, NO_ROWS);
      return left === null ? done : left.finish(done, last.header);
    });
  }

  /** The last part: all of them, read one at a time from the inbox, in one transaction. */
  async #writeParts(fence: Fence, last: Arrival, leaving: QuarantineOptions): Promise<Written> {
    const { applied, received } = fence.row.stream;
    const lastBody = bodyOf(last);
    const lastPrepared = await this.#tables.prepare([lastBody], leaving.tables);
    if (leaving.policy !== null || !this.#partsPrepared) {
      await this.#preparePartsAgain(applied.seq + 1, received.seq, leaving);
    }
    const written = await fence.transact(async connection => {
      const batchNumber = fence.row.batchNumber + 1;
      const left = beginQuarantine(connection, this.#branch, leaving);
      let upserts = 0;
      let deletes = 0;
      let number: number | null = null;
      const apply = async (body: BatchBody, prepared: Prepared): Promise<void> => {
        assert(body.part !== null, 'a part without its mark');
        if (number !== null && body.part.number !== number + 1) {
          throw new TributaryError('BATCH_INVALID', `Part ${body.part.number} follows part ${number}.`);
        }
        number = body.part.number;
        const counts = await this.#apply(connection, left, prepared, last, batchNumber);
        upserts += counts.upserts;
        deletes += counts.deletes;
      };
      for (let seq = applied.seq + 1; seq <= received.seq; seq += 1) {
        const body = await this.#readPart(connection, seq);
        // Its tables were made before the part was kept, so that no DDL is left to be done here, where it would wait
        // for locks of this very transaction.
        await apply(body, await this.#tables.prepare([body], leaving.tables));
      }
      await apply(lastBody, lastPrepared);
      await deleteInboxThrough(connection, this.#branch, last.header.seq);
      this.#partBytes = null;
      const mark = markOf(last);
      const advance = { received: mark, applied: mark, batchNumber, source: lastBody.source };
      const done = await fence.advance(connection, advance, { upserts, deletes });
      return left === null ? done : left.finish(done, last.header);
    });
    return written.outcome === 'written' ? { ...written, batches: last.header.seq - applied.seq } : written;
  }

  /** A table may have been changed since its part was kept, or may fit by now, with DDL: outside of the transaction. */
  async #preparePartsAgain(from: number, to: number, leaving: QuarantineOptions): Promise<void> {
    for (let seq = from; seq <= to; seq += 1) {
      const body = await this.#pool.use(connection => this.#readPart(connection, seq));
      await this.#tables.prepare([body], leaving.tables);
    }
    this.#partsPrepared = true;
  }

  async #readPart(connection: Connection, seq: number): Promise<BatchBody> {
    const entry = await readInbox(connection, this.#branch, seq);
    assert(entry?.kind === 'part', `part ${seq} of ${this.#branch} is not in the inbox`);
    return decodeBatch(entry.body);
  }

  async #skip(fence: Fence, arrival: Arrival, decision: Decision | null): Promise<Written> {
    const written = await skipBatch(fence, arrival, decision);
    // The parts that it ends went with it.
    if (written.outcome === 'written') this.#partBytes = null;
    return written;
  }

  /** The branch's table is another one now, whose rows do not fit here: one slice of its rows of before; null: there are none. */
  async #clearOtherForm(fence: Fence, { table }: OtherForm): Promise<Written | null> {
    const slice = await fence.transact<Written>(async connection => {
      const swept = await this.#rows.clearOtherForm(connection, this.#branch, table, SWEEP_SLICE.rows);
      return { outcome: 'slice', row: fence.row, swept };
    });
    return slice.outcome === 'slice' && slice.swept === 0 ? null : slice;
  }
}

/** Whether the unit deletes all rows of a table: those that are here are to go with it. */
function truncates(unit: Unit, table: string): boolean {
  return unit.arrivals.some(arrival => {
    const { tables, changes } = bodyOf(arrival);
    return changes.some(change => change.op === 'truncate' && tables[change.table]?.name === table);
  });
}

function only(unit: Unit): Arrival {
  const [arrival, second] = unit.arrivals;
  assert(arrival !== undefined && second === undefined, `a unit ${unit.kind} of ${unit.arrivals.length} batches`);
  return arrival;
}

function lastOf(arrivals: readonly Arrival[]): Arrival {
  const last = arrivals.at(-1);
  assert(last !== undefined, 'a unit without batches');
  return last;
}
