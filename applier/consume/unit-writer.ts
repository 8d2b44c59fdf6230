/**
 * Writes one unit of work of one branch: rows, bookkeeping and watermark in one transaction.
 *
 * Invariants: every transaction first locks the branch's row and compares it with the row that the unit was chosen
 * by; if another applier has moved it meanwhile nothing is written and the caller chooses again. Acknowledging is the
 * caller's, after the commit. Tables are prepared before the transaction, since DDL commits by itself. What is left
 * out of a unit (left-out.ts) is in quarantine, and asked for again, in the unit's own transaction.
 */
import { randomUUID } from 'node:crypto';
import type { Connection } from 'mysql2/promise';
import { isVerifyMark } from '../../shared/batch.ts';
import type { BatchBody, Change, StreamMark, TableDescription, VerifyMark } from '../../shared/batch.ts';
import { decodeBatch } from '../../shared/batch-codec.ts';
import { assert, TributaryError } from '../../shared/errors.ts';
import { TableSums } from '../../shared/row-sums.ts';
import { tableId } from '../apply/applier.ts';
import type { Prepared, PrepareOptions, TableName, UnfitTable } from '../apply/applier.ts';
import { OtherForm } from '../apply/table-store.ts';
import { takeApproval } from '../branches/approval-store.ts';
import { deleteInboxThrough, partBytes, putInbox, readInbox } from '../branches/inbox.ts';
import { keepBody, recordOrphan, saveOutcome } from '../branches/quarantine-store.ts';
import type { Decision } from '../branches/quarantine-store.ts';
import { clearOlder, readKnown } from '../branches/quarantined-rows.ts';
import {
  addRequest,
  closeRequests,
  endSnapshot,
  openRequests,
  readSnapshot,
  saveSweep,
  skipSweep,
  startSnapshot,
} from '../branches/snapshot-store.ts';
import type { SnapshotRow } from '../branches/snapshot-store.ts';
import {
  advanceBranch,
  countQuarantined,
  lockBranch,
  markIncomplete,
  mendIncomplete,
  samePlace,
} from '../branches/stream-store.ts';
import type { Advance, BranchRow } from '../branches/stream-store.ts';
import { TableClaims, tablesOfBranch } from '../branches/table-claims.ts';
import { interrupt, saveBranchSums, startVerification } from '../branches/verify-store.ts';
import type { Counter, Counting } from '../verify/counter.ts';
import { LeftOut } from './left-out.ts';
import type { LeavePolicy } from './left-out.ts';
import type { Quotas } from './quotas.ts';
import type { RowWriter } from './row-writer.ts';
import type { TargetPool } from './target-pool.ts';
import { bytesOf } from './work-unit.ts';
import type { Arrival, Unit } from './work-unit.ts';

/** Rows deleted, and tables looked through, in one transaction of a sweep. */
const SWEEP_SLICE_ROWS = 5_000;
const SWEEP_SLICE_TABLES = 100;

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

/** How to write a unit. */
export interface WriteChoices {
  /** The inbox has entries up to the end of the unit, to be deleted with it. */
  readonly inboxBelow: boolean;
  /** What may be left out; null: nothing. */
  readonly leave: LeavePolicy | null;
  /** What a person has said of the unit's only batch; null: nothing. */
  readonly decision: Decision | null;
}

type Done = Extract<Written, { outcome: 'written' }>;

const NO_ROWS: RowCounts = { upserts: 0, deletes: 0 };

export interface UnitWriterOptions {
  readonly branch: string;
  readonly pool: TargetPool;
  readonly rows: RowWriter;
  readonly counter: Pick<Counter, 'begin'>;
  readonly quotas: Quotas;
}

export class UnitWriter {
  readonly #branch: string;
  readonly #pool: TargetPool;
  readonly #rows: RowWriter;
  readonly #counter: UnitWriterOptions['counter'];
  readonly #claims: TableClaims;
  #leaveOut: NonNullable<PrepareOptions['leaveOut']> = 'none';
  #choices: WriteChoices = { inboxBelow: false, leave: null, decision: null };
  readonly #quotas: Quotas;
  /** Bytes of the parts in the inbox; null: to be looked up. */
  #partBytes: number | null = null;

  constructor(options: UnitWriterOptions) {
    this.#branch = options.branch;
    this.#pool = options.pool;
    this.#rows = options.rows;
    this.#counter = options.counter;
    this.#claims = new TableClaims(options.branch, options.quotas.tables);
    this.#quotas = options.quotas;
  }

  /** A new epoch or a new owner: nothing that was remembered holds. */
  forget(): void {
    this.#claims.forget();
    this.#partBytes = null;
  }

  /** Writes the unit, which was chosen by `row`. Throws what went wrong; nothing is written then. */
  async write(row: BranchRow, unit: Unit, choices: WriteChoices): Promise<Written> {
    this.#choices = choices;
    this.#leaveOut = choices.leave === null ? 'none' : 'unfit';
    try {
      return await this.#writeUnit(row, unit);
    } catch (error) {
      if (!(error instanceof OtherForm)) throw error;
      const cleared = await this.#clearOtherForm(row, error);
      if (cleared !== null) return cleared;
      if (choices.leave === null) throw error;
      this.#leaveOut = 'all';
      return this.#writeUnit(row, unit);
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
      case 'verify':
        return this.#verify(row, only(unit));
      case 'quarantined':
        return this.#passOver(row, only(unit));
    }
  }

  async #writePlain(row: BranchRow, arrivals: readonly Arrival[]): Promise<Written> {
    const bodies = arrivals.map(bodyOf);
    const prepared = await this.#prepare(bodies);
    return this.#fenced(row, async connection => {
      const batchNumber = row.batchNumber + 1;
      const last = arrivals.at(-1)!;
      const left = this.#leftOut(connection);
      const counts = await this.#apply(connection, left, bodies, prepared, last, batchNumber);
      const mark = markOf(last);
      const source = bodies.at(-1)?.source ?? null;
      const done = await this.#advance(connection, row, { received: mark, applied: mark, batchNumber, source }, counts);
      return this.#settle(connection, done, left, last);
    });
  }

  /** Claims the tables of bodies and writes their rows, those in quarantine left out. */
  async #apply(
    connection: Connection,
    left: LeftOut | null,
    bodies: readonly BatchBody[],
    prepared: Prepared,
    { header }: Arrival,
    batchNumber: number,
  ): Promise<RowCounts> {
    await this.#claims.claim(connection, fitting(bodies, prepared.unfit));
    if (left === null) return this.#rows.apply(connection, prepared, this.#branch, batchNumber);
    const at = { epoch: header.epoch, seq: header.seq, batchNumber };
    left.tables(prepared, at);
    const leaveOut = left.row.bind(left);
    const counts = await this.#rows.apply(connection, prepared, this.#branch, batchNumber, refused =>
      leaveOut(refused, at),
    );
    left.applied(prepared);
    return counts;
  }

  #leftOut(connection: Connection): LeftOut | null {
    const { leave } = this.#choices;
    return leave === null ? null : new LeftOut(connection, this.#branch, leave);
  }

  /** Stores what was left out, and what follows from it: the branch is incomplete, and is asked for the tables again. */
  async #settle(connection: Connection, done: Done, left: LeftOut | null, { header }: Arrival): Promise<Done> {
    if (left === null) return done;
    const { decision } = this.#choices;
    await left.save();
    for (const { name } of left.unfit) await skipSweep(connection, this.#branch, name);
    const { toCopy } = left;
    if (decision !== null) await saveOutcome(connection, header, toCopy.length > 0 ? 'rows-left-out' : 'applied');
    if (toCopy.length > 0) {
      await markIncomplete(connection, this.#branch);
      await addRequest(connection, this.#branch, {
        id: decision?.request || randomUUID(),
        tables: toCopy,
        mends: true,
        reason: decision === null ? 'a table fits again' : `rows of batch ${header.seq} are in quarantine`,
      });
    }
    if (left.changesEntries) await countQuarantined(connection, this.#branch);
    return this.#asStored(connection, done);
  }

  /** With the branch's row as this transaction leaves it. */
  async #asStored(connection: Connection, done: Done): Promise<Done> {
    return { ...done, row: (await lockBranch(connection, this.#branch)) ?? done.row };
  }

  /** Parts that are not the last: committed to the inbox, so received. Their tables are made now, outside. */
  async #keepParts(row: BranchRow, arrivals: readonly Arrival[]): Promise<Written> {
    const unfit: UnfitTable[] = [];
    for (const arrival of arrivals) unfit.push(...(await this.#prepare([bodyOf(arrival)])).unfit);
    return this.#fenced(row, async connection => {
      const before = this.#partBytes ?? (await partBytes(connection, this.#branch));
      this.#partBytes = arrivals.reduce((sum, arrival) => sum + bytesOf(arrival), before);
      if (this.#partBytes > this.#quotas.openPartBytes) {
        throw new TributaryError(
          'BATCH_REFUSED',
          `The parts of one transaction are ${this.#partBytes} bytes, more than ${this.#quotas.openPartBytes}, which is a branch’s quota.`,
          { hint: 'Let the branch copy its tables anew: `tributary-agent enroll` again, or split the transaction.' },
        );
      }
      const last = arrivals.at(-1)!;
      const { batchNumber } = row;
      const left = this.#leftOut(connection);
      // Their changes are counted when they are left out in fact: with the last part.
      const at = { epoch: last.header.epoch, seq: last.header.seq, batchNumber };
      left?.tables({ unfit: unfit.map(table => ({ ...table, changes: 0 })), steps: [] }, at);
      for (const arrival of arrivals) await putInbox(connection, 'part', arrival.header, arrival.body);
      const { applied } = row.stream;
      const advance = { received: markOf(last), applied, batchNumber, source: null };
      return this.#settle(connection, await this.#advance(connection, row, advance, NO_ROWS), left, last);
    });
  }

  /** The last part: all of them, read one at a time from the inbox, in one transaction. */
  async #writeParts(row: BranchRow, last: Arrival): Promise<Written> {
    const { applied, received } = row.stream;
    const lastBody = bodyOf(last);
    const lastPrepared = await this.#prepare([lastBody]);
    if (this.#choices.leave !== null) await this.#preparePartsAgain(applied.seq + 1, received.seq);
    const written = await this.#fenced(row, async connection => {
      const batchNumber = row.batchNumber + 1;
      const left = this.#leftOut(connection);
      let upserts = 0;
      let deletes = 0;
      let number: number | null = null;
      const apply = async (body: BatchBody, prepared: Prepared): Promise<void> => {
        assert(body.part !== null, 'a part without its mark');
        if (number !== null && body.part.number !== number + 1) {
          throw new TributaryError('BATCH_INVALID', `Part ${body.part.number} follows part ${number}.`);
        }
        number = body.part.number;
        const counts = await this.#apply(connection, left, [body], prepared, last, batchNumber);
        upserts += counts.upserts;
        deletes += counts.deletes;
      };
      for (let seq = applied.seq + 1; seq <= received.seq; seq += 1) {
        const body = await this.#readPart(connection, seq);
        // Its tables were made before the part was kept, so that no DDL is left to be done here, where it would wait
        // for locks of this very transaction.
        await apply(body, await this.#prepare([body]));
      }
      await apply(lastBody, lastPrepared);
      await deleteInboxThrough(connection, this.#branch, last.header.seq);
      this.#partBytes = null;
      const mark = markOf(last);
      const advance = { received: mark, applied: mark, batchNumber, source: lastBody.source };
      const done = await this.#advance(connection, row, advance, { upserts, deletes });
      return this.#settle(connection, done, left, last);
    });
    return written.outcome === 'written' ? { ...written, batches: last.header.seq - applied.seq } : written;
  }

  /** A table that did not fit when its part was kept may fit by now, with DDL: outside of the transaction. */
  async #preparePartsAgain(from: number, to: number): Promise<void> {
    for (let seq = from; seq <= to; seq += 1) {
      await this.#prepare([await this.#pool.use(connection => this.#readPart(connection, seq))]);
    }
  }

  async #readPart(connection: Connection, seq: number): Promise<BatchBody> {
    const entry = await readInbox(connection, this.#branch, seq);
    assert(entry?.kind === 'part', `part ${seq} of ${this.#branch} is not in the inbox`);
    return decodeBatch(entry.body);
  }

  async #startSnapshot(row: BranchRow, arrival: Arrival): Promise<Written> {
    const body = bodyOf(arrival);
    const marker = markerOf(body, 'snapshot-start');
    const prepared = await this.#prepare([body]);
    return this.#fenced(row, async connection => {
      const batchNumber = row.batchNumber + 1;
      const left = this.#leftOut(connection);
      await this.#claims.claim(connection, fitting([body], prepared.unfit));
      left?.tables(prepared, { epoch: arrival.header.epoch, seq: arrival.header.seq, batchNumber });
      await startSnapshot(connection, this.#branch, {
        snapshot: marker.snapshot,
        whole: marker.whole,
        tables: namesOf(body, marker.tables),
        requests: marker.requests,
        startBatch: batchNumber,
      });
      const done = await this.#advanceAlone(connection, row, arrival, body, batchNumber);
      return this.#settle(connection, done, left, arrival);
    });
  }

  /** One slice of the sweep, or, when nothing is left to sweep, the end of the snapshot. */
  async #endSnapshot(row: BranchRow, arrival: Arrival): Promise<Written> {
    const body = bodyOf(arrival);
    const marker = markerOf(body, 'snapshot-end');
    return this.#fenced<Written>(row, async connection => {
      const snapshot = await readSnapshot(connection, this.#branch, marker.snapshot);
      if (snapshot !== null) {
        const whole = snapshot.whole && marker.whole;
        const covered = namesOf(body, marker.tables).filter(name => whole || snapshot.tables.includes(name));
        const known = await tablesOfBranch(connection, this.#branch);
        const tables = whole ? known : known.filter(table => covered.includes(table.name));
        const done = new Set(snapshot.swept);
        const left = tables.filter(({ name }) => !done.has(name)).slice(0, SWEEP_SLICE_TABLES);
        if (left.length > 0) {
          const since = snapshot.startBatch;
          const slice = await this.#rows.sweep(connection, this.#branch, left, since, SWEEP_SLICE_ROWS);
          const swept = [...snapshot.swept, ...slice.swept];
          await saveSweep(connection, this.#branch, marker.snapshot, swept, slice.deleted);
          return { outcome: 'slice', row, swept: slice.deleted };
        }
        await this.#finishSnapshot(connection, row, snapshot, tables);
      }
      const done = await this.#advanceAlone(connection, row, arrival, body, row.batchNumber + 1);
      const { decision } = this.#choices;
      if (decision !== null) await saveOutcome(connection, arrival.header, 'applied');
      return this.#asStored(connection, done);
    });
  }

  /** Closes what the snapshot served, and clears what it has mended. @param covered swept, but for those left out */
  async #finishSnapshot(
    connection: Connection,
    row: BranchRow,
    snapshot: SnapshotRow,
    covered: readonly TableName[],
  ): Promise<void> {
    if (row.quarantined > 0) {
      const known = await readKnown(connection, this.#branch);
      for (const table of covered) {
        if (known.tables.has(tableId(table))) continue;
        await clearOlder(connection, this.#branch, table, snapshot.startBatch);
      }
    }
    const open = await openRequests(connection, this.#branch);
    const served = open.filter(request => snapshot.requests.includes(request.id));
    const others = open.filter(request => request.mends && !served.includes(request));
    // What is missing in a few tables only is mended when each of them was copied.
    const serves = snapshot.whole || (served.some(request => request.mends) && others.length === 0);
    if (serves && snapshot.startBatch > row.incompleteBatch && row.incompleteSince !== null) {
      await mendIncomplete(connection, this.#branch);
    }
    if (row.quarantined > 0) await countQuarantined(connection, this.#branch);
    await closeRequests(connection, this.#branch, snapshot.requests);
    await endSnapshot(connection, this.#branch, snapshot.snapshot);
  }

  /** A mark of a verification. No row changes: what begins here is counted in the background. */
  async #verify(row: BranchRow, arrival: Arrival): Promise<Written> {
    const body = bodyOf(arrival);
    const mark = body.changes.find(isVerifyMark);
    assert(mark !== undefined, 'a verification without its mark');
    const begun: Counting[] = [];
    try {
      const written = await this.#fenced<Written>(row, async connection => {
        if (mark.op === 'verify-start') begun.push(...(await this.#beginVerification(connection, arrival, mark)));
        if (mark.op === 'verify-sums') {
          const table = { branch: this.#branch, verification: mark.verification, name: body.tables[mark.table]!.name };
          const sums = mark.problem === null ? TableSums.fromBytes(Buffer.from(mark.sums, 'base64')) : null;
          await saveBranchSums(connection, table, sums, mark.problem);
        }
        if (mark.op === 'verify-end' && (await this.#hasAsked(connection, mark.request))) {
          await closeRequests(connection, this.#branch, [mark.request]);
        }
        return this.#asStored(connection, await this.#advanceAlone(connection, row, arrival, body, row.batchNumber));
      });
      for (const counting of begun) {
        if (written.outcome === 'written') counting.run();
        else counting.abandon();
      }
      return written;
    } catch (error) {
      for (const counting of begun) counting.abandon();
      throw error;
    }
  }

  /** Under the lock on the branch's row all before the mark is committed and nothing behind it: that is the place. */
  async #beginVerification(
    connection: Connection,
    { header, decoded }: Arrival,
    mark: Extract<VerifyMark, { op: 'verify-start' }>,
  ): Promise<Counting[]> {
    assert(decoded !== null, 'a mark is not decoded');
    const { verification, request, whole } = mark;
    // Counting costs: only what a person has asked for, and once it was answered, no more.
    if (!(await this.#hasAsked(connection, request))) return [];
    const { epoch, seq } = header;
    const comparison = { branch: this.#branch, verification, request, epoch, seq, source: decoded.source };
    const tables = mark.tables.map((index, at) => ({
      description: decoded.tables[index]!,
      buckets: mark.buckets[at]!,
    }));
    const rows = tables.map(({ description: { schema, name }, buckets }) => ({ schema, name, buckets }));
    await startVerification(connection, comparison, rows);
    const known = whole ? await tablesOfBranch(connection, this.#branch) : null;
    const counting = await this.#counter.begin(comparison, tables, known);
    if (typeof counting !== 'string') return [counting];
    await interrupt(connection, this.#branch, verification, counting);
    return [];
  }

  async #hasAsked(connection: Connection, request: string): Promise<boolean> {
    const open = await openRequests(connection, this.#branch);
    return open.some(({ id, kind }) => id === request && kind === 'verify');
  }

  /** The branch's table has a key now, or has none any more: one slice of its rows of before; null: there are none. */
  async #clearOtherForm(row: BranchRow, { table }: OtherForm): Promise<Written | null> {
    const slice = await this.#fenced<Written>(row, async connection => {
      const swept = await this.#rows.clearOtherForm(connection, this.#branch, table, SWEEP_SLICE_ROWS);
      return { outcome: 'slice', row, swept };
    });
    return slice.outcome === 'slice' && slice.swept === 0 ? null : slice;
  }

  /**
   * Passes a batch over: it cannot be read, or a person wants it so. Its rows are not written, and neither are those of
   * the parts that it ends; nobody knows which they are, so everything is asked for again.
   */
  async #passOver(row: BranchRow, arrival: Arrival): Promise<Written> {
    const { decision } = this.#choices;
    return this.#fenced(row, async connection => {
      await deleteInboxThrough(connection, this.#branch, arrival.header.seq);
      this.#partBytes = null;
      if (decision === null) await recordOrphan(connection, arrival.header);
      else {
        await saveOutcome(connection, arrival.header, 'passed-over');
        await keepBody(connection, arrival.header, Buffer.concat(arrival.body));
        // It may have been a marker that serves the open requests; the agent counts them as served then, and they would
        // stay open for ever. The new one asks for the same.
        const open = await openRequests(connection, this.#branch);
        const ids = open.map(({ id }) => id);
        await closeRequests(connection, this.#branch, ids);
        const { seq } = arrival.header;
        const reason = `batch ${seq} was passed over`;
        await addRequest(connection, this.#branch, { id: decision.request || randomUUID(), reason, mends: true });
      }
      const mark = markOf(arrival);
      const advance = { received: mark, applied: mark, batchNumber: row.batchNumber, source: null };
      const done = await this.#advance(connection, row, advance, NO_ROWS);
      await markIncomplete(connection, this.#branch);
      return this.#asStored(connection, done);
    });
  }

  /**
   * Makes the tables of bodies, unless one of them belongs to another source table. Outside of any transaction. What
   * does not fit is thrown, or left out where something may be.
   */
  async #prepare(bodies: readonly BatchBody[]): Promise<Prepared> {
    const contested = await this.#contested(bodies);
    const rest = contested.length === 0 ? bodies : bodies.map(body => without(body, contested));
    let prepared = await this.#prepareFitting(rest, false);
    const isStuck = prepared instanceof TributaryError || prepared.unfit.length > 0;
    if (isStuck && (await this.#pool.use(connection => takeApproval(connection, this.#branch)))) {
      prepared = await this.#prepareFitting(rest, true);
    }
    if (prepared instanceof TributaryError) throw prepared;
    return contested.length === 0 ? prepared : { ...prepared, unfit: [...contested, ...prepared.unfit] };
  }

  /** TARGET_SCHEMA is returned, not thrown: a rebuild may have been approved. */
  async #prepareFitting(bodies: readonly BatchBody[], approveRebuild: boolean): Promise<Prepared | TributaryError> {
    try {
      return await this.#rows.prepare(bodies, this.#branch, { leaveOut: this.#leaveOut, approveRebuild });
    } catch (error) {
      if (isSchemaFault(error)) return error;
      throw error;
    }
  }

  /** The tables whose names at the head office belong to others. @throws TARGET_SCHEMA unless they may be left out */
  async #contested(bodies: readonly BatchBody[]): Promise<UnfitTable[]> {
    const tables = bodies.flatMap(body => body.tables);
    const verify = async (some: readonly TableDescription[]): Promise<void> => {
      if (this.#claims.knows(some)) await this.#claims.verify(null, some);
      else await this.#pool.use(connection => this.#claims.verify(connection, some));
    };
    try {
      await verify(tables);
      return [];
    } catch (error) {
      if (this.#choices.leave === null || !isSchemaFault(error)) throw error;
    }
    const contested = new Map<string, UnfitTable>();
    for (const table of tables) {
      try {
        await verify([table]);
      } catch (error) {
        if (!isSchemaFault(error)) throw error;
        const changes = bodies.reduce((sum, body) => sum + changesOf(body, table), 0);
        contested.set(tableId(table), { description: table, error, changes });
      }
    }
    return [...contested.values()];
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
      // What was claimed and kept in the transaction is rolled back with it.
      this.forget();
      throw error;
    }
  }

  async #advanceAlone(
    connection: Connection,
    row: BranchRow,
    arrival: Arrival,
    body: BatchBody,
    batchNumber: number,
  ): Promise<Done> {
    const mark = markOf(arrival);
    const advance = { received: mark, applied: mark, batchNumber, source: body.source };
    return this.#advance(connection, row, advance, NO_ROWS);
  }

  async #advance(connection: Connection, row: BranchRow, advance: Advance, counts: RowCounts): Promise<Done> {
    await advanceBranch(connection, row, advance);
    const { received, applied, batchNumber, source } = advance;
    // What was early and has now had its turn, from the inbox or as a second copy from the broker.
    if (this.#choices.inboxBelow && applied.seq === received.seq) {
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

function isSchemaFault(error: unknown): error is TributaryError {
  return error instanceof TributaryError && error.code === 'TARGET_SCHEMA';
}

/** The tables of bodies that are not left out. */
function fitting(bodies: readonly BatchBody[], unfit: readonly UnfitTable[]): TableDescription[] {
  const out = new Set(unfit.map(({ description }) => tableId(description)));
  return bodies.flatMap(body => body.tables.filter(table => !out.has(tableId(table))));
}

/** The body without what it says of these tables; indexes of the others stay. */
function without(body: BatchBody, left: readonly UnfitTable[]): BatchBody {
  const out = new Set(left.map(({ description }) => tableId(description)));
  const isOut = (index: number): boolean => out.has(tableId(body.tables[index]!));
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
    if (isVerifyMark(change) || 'tables' in change || tableId(body.tables[change.table]!) !== tableId(table))
      return sum;
    return sum + ('rows' in change ? change.rows : 1);
  }, 0);
}
