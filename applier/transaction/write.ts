/**
 * Writes one unit of work of one branch: rows, bookkeeping and watermark in one transaction.
 *
 * Invariants: every transaction runs under the fence (fence.ts). Tables are prepared before it, because DDL commits by
 * itself. Rows that are left out of a unit (quarantine.ts) are put into quarantine, and requested again, in the same
 * transaction. Changes of tables that are set aside (set-aside.ts) are passed over. Markers are applied by
 * snapshot-markers.ts and verify-markers.ts. skip-batch.ts skips batches.
 */
import type { Connection } from 'mysql2/promise';
import type { BatchBody } from '../../shared/batch/batch.ts';
import { decodeBatch } from '../../shared/batch/decoder.ts';
import { assert, TributaryError } from '../../shared/errors.ts';
import type { Prepared, UnfitTable } from '../apply/row-writer.ts';
import type { RefusedRow } from '../apply/quarantine-rows.ts';
import { OtherForm } from '../apply/target-table.ts';
import { deleteInboxThrough, partBytes, putInbox, readInbox } from '../store/inbox.ts';
import type { Decision } from '../store/quarantined-batches.ts';
import type { BranchRow } from '../store/branch-row.ts';
import type { Counter } from '../verify/counter.ts';
import { asStored, Fence, NO_ROWS } from './fence.ts';
import type { RowCounts, WriteResult } from './fence.ts';
import { beginQuarantine } from './quarantine.ts';
import type { QuarantinePolicy, QuarantineRecorder, QuarantineOptions } from './quarantine.ts';
import type { SetAsideTables } from './set-aside.ts';
import { skipBatch } from './skip-batch.ts';
import type { KeptHistories } from './branch-histories.ts';
import type { Quotas } from './quotas.ts';
import type { RowWriting } from '../apply/row-writer.ts';
import { RowMarks } from './row-marks.ts';
import { SnapshotMarkers, SWEEP_SLICE } from './snapshot-markers.ts';
import type { TargetPool } from '../apply/connection-pool.ts';
import { UnitTables } from './tables.ts';
import { VerifyMarkers } from './verify-markers.ts';
import { momentOf } from './moment.ts';
import type { UnitMoment } from '../apply/history-keeper.ts';
import { bodyOf, bytesOf, markOf } from './unit.ts';
import type { Arrival, Unit } from './unit.ts';

/** How to write a unit. */
export interface WriteChoices {
  /** Whether the inbox has entries up to the end of the unit; they are deleted with it. */
  readonly inboxBelow: boolean;
  /** What may be left out; null: nothing. */
  readonly policy: QuarantinePolicy | null;
  /** A person's decision about the unit's only batch; null: there is none. */
  readonly decision: Decision | null;
}

export interface UnitWriterOptions {
  readonly branch: string;
  readonly pool: TargetPool;
  readonly rows: RowWriting;
  readonly counter: Pick<Counter, 'begin' | 'search'>;
  readonly quotas: Quotas;
  readonly asides: SetAsideTables;
  /** Absent: no table has a history. */
  readonly histories?: KeptHistories;
}

export class UnitWriter {
  readonly #branch: string;
  readonly #pool: TargetPool;
  readonly #rows: RowWriting;
  readonly #quotas: Quotas;
  readonly #histories: KeptHistories;
  readonly #tables: UnitTables;
  readonly #snapshots: SnapshotMarkers;
  readonly #verifications: VerifyMarkers;
  /** The compressed bytes of the parts in the inbox; null: they must be read. */
  #partBytes: number | null = null;
  /** Whether the tables of the parts in the inbox were created, and nothing has failed since. */
  #partsPrepared = false;

  constructor({ branch, pool, rows, counter, quotas, asides, histories }: UnitWriterOptions) {
    this.#branch = branch;
    this.#pool = pool;
    this.#rows = rows;
    this.#quotas = quotas;
    this.#histories = histories ?? { kept: [], stopped: new Set() };
    this.#tables = new UnitTables(branch, pool, rows, quotas.tables, asides, this.#histories);
    this.#snapshots = new SnapshotMarkers(this.#tables, rows, asides, SWEEP_SLICE, this.#histories);
    this.#verifications = new VerifyMarkers(counter, new RowMarks({ pool, counter, tables: this.#tables, rows }));
  }

  /** To be called after a rollback, a new epoch or another applier's work: what is remembered may no longer be true. */
  forget(): void {
    this.#tables.forget();
    this.#partBytes = null;
    this.#partsPrepared = false;
  }

  /** Writes the unit that was chosen for `row`. @throws the fault; then nothing is written */
  async write(row: BranchRow, unit: Unit, { inboxBelow, policy, decision }: WriteChoices): Promise<WriteResult> {
    // A rollback undoes the claims, and the parts that were kept.
    const history = this.#histories.kept;
    const fence = new Fence({ pool: this.#pool, row, inboxBelow, history, onRollback: () => this.forget() });
    try {
      return await this.#write(fence, unit, { policy, decision, tables: policy === null ? 'none' : 'unfit' });
    } catch (error) {
      if (!(error instanceof OtherForm)) throw error;
      const mayClear = error.mayClear === 'always' || truncates(unit, error.table);
      const cleared = mayClear ? await this.#clearOtherForm(fence, error) : null;
      if (cleared !== null) return cleared;
      if (policy === null) throw error;
      return this.#write(fence, unit, { policy, decision, tables: 'all' });
    }
  }

  async #write(fence: Fence, unit: Unit, options: QuarantineOptions): Promise<WriteResult> {
    switch (unit.kind) {
      case 'plain':
        return this.#writePlain(fence, unit.arrivals, options);
      case 'parts':
        return this.#keepParts(fence, unit.arrivals, options);
      case 'last-part':
        return this.#writeParts(fence, only(unit), options);
      case 'snapshot-start':
        return this.#snapshots.start(fence, only(unit), options);
      case 'snapshot-end':
        return this.#snapshots.end(fence, only(unit), options.decision);
      case 'verify':
        return this.#verifications.write(fence, only(unit));
      case 'skipped':
        return this.#skip(fence, only(unit), options.decision);
    }
  }

  async #writePlain(fence: Fence, arrivals: readonly Arrival[], options: QuarantineOptions): Promise<WriteResult> {
    const bodies = arrivals.map(bodyOf);
    const prepared = await this.#tables.prepare(bodies, options.tables);
    return fence.transact(async connection => {
      const batchNumber = fence.row.batchNumber + 1;
      const last = lastOf(arrivals);
      const quarantine = beginQuarantine(connection, this.#branch, options);
      const source = bodies.at(-1)?.source ?? null;
      const moment = { at: momentOf(source, fence.row), isContinued: false };
      const counts = await this.#apply(connection, quarantine, prepared, last, batchNumber, moment);
      const mark = markOf(last);
      const advance = { received: mark, applied: mark, batchNumber, source, bytes: bytesOfAll(arrivals) };
      const done = await fence.advance(connection, advance, counts);
      const hasEnded = await this.#tables.endEmptied(connection, prepared);
      if (quarantine !== null) return quarantine.finish(done, last.header);
      return hasEnded ? asStored(connection, done) : done;
    });
  }

  /** Claims the prepared tables and writes their rows, except those in quarantine. */
  async #apply(
    connection: Connection,
    quarantine: QuarantineRecorder | null,
    prepared: Prepared,
    { header }: Arrival,
    batchNumber: number,
    moment: UnitMoment,
  ): Promise<RowCounts> {
    await this.#tables.claim(connection, prepared);
    if (quarantine === null) return this.#rows.apply(connection, prepared, this.#branch, batchNumber, null, moment);
    const at = { epoch: header.epoch, seq: header.seq, batchNumber };
    quarantine.noteTables(prepared, at);
    const leaveOut = (refused: RefusedRow): Promise<void> => quarantine.addRow(refused, at);
    const counts = await this.#rows.apply(connection, prepared, this.#branch, batchNumber, leaveOut, moment);
    quarantine.noteApplied(prepared);
    return counts;
  }

  /**
   * Commits parts before the last one to the inbox, so that they count as received. Their tables are created before
   * that.
   */
  async #keepParts(fence: Fence, arrivals: readonly Arrival[], options: QuarantineOptions): Promise<WriteResult> {
    const unfit: UnfitTable[] = [];
    for (const arrival of arrivals) {
      unfit.push(...(await this.#tables.prepare([bodyOf(arrival)], options.tables)).unfit);
    }
    return fence.transact(async connection => {
      const before = this.#partBytes ?? (await partBytes(connection, this.#branch));
      const bytes = bytesOfAll(arrivals);
      this.#partBytes = before + bytes;
      if (this.#partBytes > this.#quotas.openPartBytes) {
        throw new TributaryError(
          'BATCH_REFUSED',
          `The parts of one transaction have ${this.#partBytes} bytes. A branch’s quota is ${this.#quotas.openPartBytes}.`,
          {
            hint: 'Split the transaction, or enroll the branch again (`tributary-agent enroll`) so that it copies its tables.',
          },
        );
      }
      const last = lastOf(arrivals);
      const { batchNumber, stream } = fence.row;
      const quarantine = beginQuarantine(connection, this.#branch, options);
      // The changes are counted with the last part, when they are left out.
      const at = { epoch: last.header.epoch, seq: last.header.seq, batchNumber };
      quarantine?.noteTables({ unfit: unfit.map(table => ({ ...table, changes: 0 })), steps: [] }, at);
      for (const arrival of arrivals) await putInbox(connection, 'part', arrival.header, arrival.body);
      const advance = { received: markOf(last), applied: stream.applied, batchNumber, source: null, bytes };
      const done = await fence.advance(connection, advance, NO_ROWS);
      return quarantine === null ? done : quarantine.finish(done, last.header);
    });
  }

  /** Writes the last part and all before it, which are read one at a time from the inbox, in one transaction. */
  async #writeParts(fence: Fence, last: Arrival, options: QuarantineOptions): Promise<WriteResult> {
    const { applied, received } = fence.row.stream;
    const lastBody = bodyOf(last);
    const lastPrepared = await this.#tables.prepare([lastBody], options.tables);
    if (options.policy !== null || !this.#partsPrepared) {
      await this.#preparePartsAgain(applied.seq + 1, received.seq, options);
    }
    const result = await fence.transact(async connection => {
      const batchNumber = fence.row.batchNumber + 1;
      const quarantine = beginQuarantine(connection, this.#branch, options);
      let upserts = 0;
      let deletes = 0;
      let number: number | null = null;
      let earlierSteps = 0;
      const apply = async (body: BatchBody, prepared: Prepared): Promise<void> => {
        assert(body.part !== null, 'a part without its number');
        if (number !== null && body.part.number !== number + 1) {
          throw new TributaryError('BATCH_INVALID', `Part ${body.part.number} follows part ${number}.`);
        }
        const moment = { at: momentOf(lastBody.source, fence.row), isContinued: number !== null, earlierSteps };
        number = body.part.number;
        for (const { step } of prepared.history)
          if (step.do !== 'versions') earlierSteps = Math.max(earlierSteps, moment.earlierSteps + step.number);
        const counts = await this.#apply(connection, quarantine, prepared, last, batchNumber, moment);
        upserts += counts.upserts;
        deletes += counts.deletes;
      };
      let hasEnded = false;
      for (let seq = applied.seq + 1; seq <= received.seq; seq += 1) {
        const body = await this.#readPart(connection, seq);
        // The tables exist since the part was kept, so this runs no DDL, which would wait for the locks of this
        // transaction.
        const prepared = await this.#tables.prepare([body], options.tables);
        await apply(body, prepared);
        if (await this.#tables.endEmptied(connection, prepared)) hasEnded = true;
      }
      await apply(lastBody, lastPrepared);
      if (await this.#tables.endEmptied(connection, lastPrepared)) hasEnded = true;
      await deleteInboxThrough(connection, this.#branch, last.header.seq);
      this.#partBytes = null;
      const mark = markOf(last);
      const bytes = bytesOf(last);
      const advance = { received: mark, applied: mark, batchNumber, source: lastBody.source, bytes };
      const done = await fence.advance(connection, advance, { upserts, deletes });
      if (quarantine !== null) return quarantine.finish(done, last.header);
      return hasEnded ? asStored(connection, done) : done;
    });
    return result.outcome === 'written' ? { ...result, batches: last.header.seq - applied.seq } : result;
  }

  /**
   * Prepares the tables of kept parts again, because a table may have changed since then, or may fit by now. It may run
   * DDL, so call it before the transaction.
   */
  async #preparePartsAgain(from: number, to: number, options: QuarantineOptions): Promise<void> {
    for (let seq = from; seq <= to; seq += 1) {
      const body = await this.#pool.use(connection => this.#readPart(connection, seq));
      await this.#tables.prepare([body], options.tables);
    }
    this.#partsPrepared = true;
  }

  async #readPart(connection: Connection, seq: number): Promise<BatchBody> {
    const entry = await readInbox(connection, this.#branch, seq);
    assert(entry?.kind === 'part', `part ${seq} of ${this.#branch} is not in the inbox`);
    return decodeBatch(entry.body);
  }

  async #skip(fence: Fence, arrival: Arrival, decision: Decision | null): Promise<WriteResult> {
    const result = await skipBatch(fence, arrival, decision);
    // The parts that the batch ends were deleted with it.
    if (result.outcome === 'written') this.#partBytes = null;
    return result;
  }

  /**
   * The branch's table has changed so that its new rows do not fit here: deletes a slice of its old rows; null: there
   * are none.
   */
  async #clearOtherForm(fence: Fence, { table }: OtherForm): Promise<WriteResult | null> {
    const slice = await fence.transact<WriteResult>(async connection => {
      const swept = await this.#rows.clearOtherForm(connection, this.#branch, table, SWEEP_SLICE.rows);
      return { outcome: 'slice', row: fence.row, swept };
    });
    return slice.outcome === 'slice' && slice.swept === 0 ? null : slice;
  }
}

/** Whether the unit truncates a table: then its rows here may be deleted. */
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

function bytesOfAll(arrivals: readonly Arrival[]): number {
  return arrivals.reduce((sum, arrival) => sum + bytesOf(arrival), 0);
}

function lastOf(arrivals: readonly Arrival[]): Arrival {
  const last = arrivals.at(-1);
  assert(last !== undefined, 'a unit without batches');
  return last;
}
