/**
 * Applies the two markers of a snapshot. The start is stored with the tables that the snapshot covers. The end sweeps:
 * it deletes the rows that neither the snapshot nor the stream has written since the start.
 *
 * Invariant: a sweep is done in slices, each in a transaction of its own under the fence. The end marker is applied
 * only when nothing is left to sweep. Then the requests that the snapshot answers are closed, and tables that it
 * completes are no longer incomplete.
 */
import type { Connection } from 'mysql2/promise';
import type { BatchBody, Change, TableDescription } from '../../shared/batch/batch.ts';
import { assert } from '../../shared/errors.ts';
import { nth } from '../../shared/nth.ts';
import { nameText, tableKey, tableTexts } from '../../shared/table-name.ts';
import type { TableName } from '../../shared/table-name.ts';
import { counted } from '../../shared/units.ts';
import { BY_AGENT } from '../store/event-kinds.ts';
import { noteEvent } from '../store/events.ts';
import { saveOutcome } from '../store/quarantined-batches.ts';
import type { Decision } from '../store/quarantined-batches.ts';
import { clearOlder, readQuarantinedKeys } from '../store/quarantined-rows.ts';
import {
  closeRequests,
  endSnapshot,
  openRequests,
  readSnapshot,
  saveSweep,
  skipSweep,
  startSnapshot,
} from '../store/snapshots.ts';
import type { SnapshotRow } from '../store/snapshots.ts';
import { countQuarantined, clearIncomplete } from '../store/branch-row.ts';
import type { BranchRow } from '../store/branch-row.ts';
import { beginReturn, countSetAside, endSetAside, outlast, putSetAside, readSetAside } from '../store/set-aside.ts';
import { tablesOfBranch } from '../store/table-claims.ts';
import { repairedTables } from '../store/verifications.ts';
import { asStored } from './fence.ts';
import type { Fence, WriteResult } from './fence.ts';
import { beginQuarantine } from './quarantine.ts';
import type { QuarantineOptions } from './quarantine.ts';
import type { RowWriting } from '../apply/row-writer.ts';
import { momentOf } from './moment.ts';
import type { KeptHistories } from './branch-histories.ts';
import type { SetAsideTables } from './set-aside.ts';
import type { UnitTables } from './tables.ts';
import { bodyOf } from './unit.ts';
import type { Arrival } from './unit.ts';

/** Tables that an event names. */
const NAMED_TABLES = 10;
/** The most rows that a sweep deletes, and tables that it searches, in one transaction. */
export const SWEEP_SLICE = { rows: 5_000, tables: 100 } as const;

export class SnapshotMarkers {
  readonly #tables: UnitTables;
  readonly #rows: Pick<RowWriting, 'sweep'>;
  readonly #asides: SetAsideTables;
  readonly #histories: Pick<KeptHistories, 'kept'>;
  readonly #slice: { readonly rows: number; readonly tables: number };

  constructor(
    tables: UnitTables,
    rows: Pick<RowWriting, 'sweep'>,
    asides: SetAsideTables,
    slice: { readonly rows: number; readonly tables: number } = SWEEP_SLICE,
    histories: Pick<KeptHistories, 'kept'> = { kept: [] },
  ) {
    this.#tables = tables;
    this.#rows = rows;
    this.#asides = asides;
    this.#histories = histories;
    this.#slice = slice;
  }

  /**
   * Creates the tables that the snapshot covers, and stores that it began. Tables without columns are set aside by the
   * branch from here on; a snapshot that has no others was begun only to say so.
   * @throws like UnitTables.prepare and claim
   */
  async start(fence: Fence, arrival: Arrival, leaving: QuarantineOptions): Promise<WriteResult> {
    const body = bodyOf(arrival);
    const marker = markerOf(body, 'snapshot-start');
    const prepared = await this.#tables.prepare([body], leaving.tables);
    return fence.transact(async connection => {
      const batchNumber = fence.row.batchNumber + 1;
      const quarantine = beginQuarantine(connection, fence.branch, leaving);
      await this.#tables.claim(connection, prepared);
      quarantine?.noteTables(prepared, { epoch: arrival.header.epoch, seq: arrival.header.seq, batchNumber });
      const tables = marker.tables.map(index => nth(body.tables, index));
      const covered = tables.filter(table => table.columns.length > 0 && !this.#asides.isRefusedNow(table));
      const names = covered.map(({ name }) => name);
      const onlyTells = tables.length > 0 && covered.length === 0 && !marker.whole && marker.requests.length === 0;
      if (!onlyTells) {
        await startSnapshot(connection, fence.branch, {
          snapshot: marker.snapshot,
          whole: marker.whole,
          tables: names,
          requests: marker.requests,
          startBatch: batchNumber,
        });
        await noteEvent(connection, fence.branch, {
          kind: 'snapshot-begun',
          actor: BY_AGENT,
          text: `A copy of ${coverText(marker.whole, names)} begins.`,
          facts: { snapshot: marker.snapshot, tables: names.length },
        });
      }
      await this.#noteSetAside(connection, fence.branch, { tables, covered, batchNumber });
      const done = await fence.advancePast(connection, arrival, batchNumber);
      return quarantine === null ? asStored(connection, done) : quarantine.finish(done, arrival.header);
    });
  }

  /** Sets aside, and begins to bring back, what the start of a snapshot says. */
  async #noteSetAside(
    connection: Connection,
    branch: string,
    {
      tables,
      covered,
      batchNumber,
    }: {
      readonly tables: readonly TableDescription[];
      readonly covered: readonly TableDescription[];
      readonly batchNumber: number;
    },
  ): Promise<void> {
    const left = tables.filter(table => !covered.includes(table));
    for (const table of left) {
      const isOfBranch = table.columns.length === 0;
      const mark = { by: 'branch', code: null, reason: null, batch: batchNumber } as const;
      if (isOfBranch) await putSetAside(connection, branch, table, mark);
      else await outlast(connection, branch, table.name, batchNumber);
      await skipSweep(connection, branch, table.name);
    }
    const returning = covered.filter(table => this.#asides.marks.has(tableKey(table)));
    for (const { name } of returning) await beginReturn(connection, branch, name);
    if (left.length > 0) await countSetAside(connection, branch);
  }

  /** Does one slice of the sweep or, when nothing is left to sweep, ends the snapshot. */
  async end(fence: Fence, arrival: Arrival, decision: Decision | null): Promise<WriteResult> {
    const { branch, row } = fence;
    const body = bodyOf(arrival);
    const marker = markerOf(body, 'snapshot-end');
    return fence.transact<WriteResult>(async connection => {
      const snapshot = await readSnapshot(connection, branch, marker.snapshot);
      if (snapshot !== null) {
        const whole = snapshot.whole && marker.whole;
        const covered = namesOf(body, marker.tables).filter(name => whole || snapshot.tables.includes(name));
        const known = await tablesOfBranch(connection, branch);
        const tables = whole ? known : known.filter(table => covered.includes(table.name));
        const done = new Set(snapshot.swept);
        const left = tables.filter(({ name }) => !done.has(name)).slice(0, this.#slice.tables);
        if (left.length > 0) {
          const { kept } = this.#histories;
          const moment = { at: momentOf(body.source, row), batchNumber: row.batchNumber + 1, kept };
          const slice = await this.#rows.sweep(connection, branch, left, snapshot.startBatch, this.#slice.rows, moment);
          const swept = [...snapshot.swept, ...slice.swept];
          await saveSweep(connection, branch, marker.snapshot, swept, slice.deleted);
          return { outcome: 'slice', row, swept: slice.deleted };
        }
        await finish(connection, fence, snapshot, tables);
      }
      const done = await fence.advancePast(connection, arrival, row.batchNumber + 1);
      if (decision !== null) await saveOutcome(connection, arrival.header, 'applied');
      return asStored(connection, done);
    });
  }
}

/**
 * Closes the requests that the snapshot answers, and marks as complete what it completes.
 * @param covered the tables that the snapshot covers
 */
async function finish(
  connection: Connection,
  { branch, row }: Fence,
  snapshot: SnapshotRow,
  covered: readonly TableName[],
): Promise<void> {
  if (row.quarantined > 0) {
    const quarantined = await readQuarantinedKeys(connection, branch);
    for (const table of covered) {
      if (quarantined.tables.has(tableKey(table))) continue;
      await clearOlder(connection, branch, table, snapshot.startBatch);
    }
  }
  const open = await openRequests(connection, branch);
  const answered = open.filter(request => snapshot.requests.includes(request.id));
  if (row.setAsideTables > 0) {
    // What the branch has set aside itself, its hello says.
    const marks = (await readSetAside(connection, branch)).filter(({ by }) => by === 'head-office');
    const asked = new Set(answered.flatMap(({ tables }) => tables ?? []).map(tableKey));
    const ended = [...covered, ...marks.filter(mark => asked.has(tableKey(mark)))];
    await endSetAside(connection, branch, ended, snapshot.startBatch);
    await countSetAside(connection, branch);
  }
  const others = open.filter(request => request.completes && !answered.includes(request));
  // If rows are missing only in some tables, the branch is complete when each of these was copied.
  const completes = snapshot.whole || (answered.some(request => request.completes) && others.length === 0);
  if (completes && row.incompleteSince !== null && bringsMissingRows(snapshot, row))
    await clearIncomplete(connection, branch);
  if (row.quarantined > 0) await countQuarantined(connection, branch);
  await closeRequests(connection, branch, snapshot.requests);
  await endSnapshot(connection, branch, snapshot.snapshot);
  const { whole, tables, sweptRows } = snapshot;
  await noteEvent(connection, branch, {
    kind: 'snapshot-ended',
    actor: BY_AGENT,
    text: `The copy of ${coverText(whole, tables)} has ended. ${counted(sweptRows, 'row')} that the branch does not have ${sweptRows === 1 ? 'was' : 'were'} deleted.`,
    facts: { snapshot: snapshot.snapshot, tables: tables.length, deletedRows: sweptRows },
  });
  const repaired = await repairedTables(connection, branch, snapshot.requests);
  if (repaired.length === 0) return;
  await noteEvent(connection, branch, {
    kind: 'repaired',
    actor: BY_AGENT,
    text: `Tables that were different were copied again: ${tableTexts(repaired)}. Compare them again to prove it.`,
    facts: { snapshot: snapshot.snapshot, tables: repaired.length },
  });
}

/** What a snapshot covers, in words. */
function coverText(whole: boolean, tables: readonly string[]): string {
  if (whole) return `all ${counted(tables.length, 'table')}`;
  const named = tables.slice(0, NAMED_TABLES).map(nameText).join(', ');
  return tables.length <= NAMED_TABLES ? named : `${named} and ${tables.length - NAMED_TABLES} more`;
}

/**
 * Whether a snapshot brings the missing rows. It does only if it began after the last row was left out, and its own
 * start left out no table.
 */
export function bringsMissingRows(
  { startBatch }: Pick<SnapshotRow, 'startBatch'>,
  { incompleteBatch }: Pick<BranchRow, 'incompleteBatch'>,
): boolean {
  return startBatch > incompleteBatch;
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
    assert(table !== undefined, `a marker names table ${index}, which the batch does not have`);
    return table.name;
  });
}
