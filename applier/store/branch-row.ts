/**
 * A branch's row in `tributary_branch`: its stream, its running batch number, its state.
 *
 * Invariants: every write holds the row's lock (`lockBranch`), so that a second applier waits, or sees the change; the
 * batch number never goes back; `applied` ≤ `received`.
 *
 * States: active → halted (a batch cannot be applied) → active (`retry`, `quarantine`, or a new epoch);
 * active or halted → removed (`branch remove`) → active (`branch add` again).
 */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import type { SourceMark, StreamMark } from '../../shared/batch/batch.ts';
import { assert } from '../../shared/errors.ts';
import type { HeadOfficeStream } from '../../shared/protocol.ts';
import { isoColumn, readCount, readJson, readNames, readText, readTextOrNull, toDateTime } from './sql-values.ts';
import type { Row } from './sql-values.ts';

export type BranchState = 'active' | 'halted' | 'removed';

/** Why a branch is halted, and at which batch. */
export interface Halt {
  readonly code: string;
  readonly reason: string;
  readonly seq: number;
  readonly digest: string;
  /** ISO 8601, UTC. */
  readonly since: string;
}

export interface BranchRow {
  readonly branch: string;
  readonly stream: HeadOfficeStream;
  /** The head office's own running number of the transaction that last wrote rows of this branch. */
  readonly batchNumber: number;
  readonly state: BranchState;
  readonly halt: Halt | null;
  /** The position in the source up to which rows are applied; for people. */
  readonly position: unknown;
  /** Commit time of the last applied batch, ISO 8601; null: not known. */
  readonly capturedThrough: string | null;
  /** Rows may be missing since then, until a snapshot that started later has ended. */
  readonly incompleteSince: string | null;
  readonly incompleteBatch: number;
  /** What makes the branch complete: a snapshot that starts after `incompleteBatch`, or an empty quarantine. */
  readonly incompleteUntil: 'snapshot' | 'rows';
  /** Entries in quarantine. */
  readonly quarantined: number;
  /** When a table was last compared with the branch's; null: never. */
  readonly verifiedAt: string | null;
  /** Tables whose last comparison found a difference. */
  readonly differentTables: number;
  /** Tables that are set aside. */
  readonly setAsideTables: number;
  /** Tables whose rows are written without their history. */
  readonly stoppedHistories: number;
  readonly createdAt: string;
}

/** The digest of a branch that has no epoch yet. */
const NO_DIGEST = '0'.repeat(64);

/** How many superseded epochs are kept. Older ones belong to spools that do not exist any more. */
const MAX_SUPERSEDED = 1_000;

const SELECT = `SELECT branch, epoch, superseded, instance, received_seq, received_digest, applied_seq, applied_digest,
  batch_number, state, halt_code, halt_reason, halt_seq, halt_digest, ${isoColumn('halted_at')}, position,
  ${isoColumn('captured_through')}, ${isoColumn('incomplete_since')}, incomplete_batch, incomplete_until,
  quarantined, ${isoColumn('verified_at')}, different_tables, set_aside_tables, ${isoColumn('created_at')},
  (SELECT COUNT(*) FROM tributary_history h WHERE h.branch = tributary_branch.branch AND h.stopped_since IS NOT NULL)
    AS stopped_histories
  FROM tributary_branch`;

/** Creates the branch's row if there is none, or makes a removed branch active again. */
export async function addBranch(connection: Connection, branch: string): Promise<void> {
  await connection.execute(
    `INSERT INTO tributary_branch (branch, superseded, received_digest, applied_digest) VALUES (?, '[]', ?, ?)
     ON DUPLICATE KEY UPDATE state = IF(state = 'removed', 'active', state)`,
    [branch, NO_DIGEST, NO_DIGEST],
  );
}

export async function listBranches(connection: Connection): Promise<BranchRow[]> {
  const [rows] = await connection.execute<RowDataPacket[]>(`${SELECT} ORDER BY branch`);
  return rows.map(toBranchRow);
}

/** The row as last committed; null: there is no such branch. */
export async function readBranch(connection: Connection, branch: string): Promise<BranchRow | null> {
  const [rows] = await connection.execute<RowDataPacket[]>(`${SELECT} WHERE branch = ?`, [branch]);
  return rows[0] === undefined ? null : toBranchRow(rows[0]);
}

/** The row, locked until the caller's transaction ends. */
export async function lockBranch(connection: Connection, branch: string): Promise<BranchRow | null> {
  const [rows] = await connection.execute<RowDataPacket[]>(`${SELECT} WHERE branch = ? FOR UPDATE`, [branch]);
  return rows[0] === undefined ? null : toBranchRow(rows[0]);
}

/** Notes why the branch's tables should be compared, unless there is a reason already. */
export async function noteDoubt(connection: Connection, branch: string, why: string): Promise<void> {
  await connection.execute('UPDATE tributary_branch SET doubt = COALESCE(doubt, ?) WHERE branch = ?', [why, branch]);
}

/** Why the branch's tables should be compared; null: nothing gives reason. */
export async function readDoubt(connection: Connection, branch: string): Promise<string | null> {
  const [rows] = await connection.execute<RowDataPacket[]>('SELECT doubt FROM tributary_branch WHERE branch = ?', [
    branch,
  ]);
  return rows[0] === undefined ? null : readTextOrNull(rows[0], 'doubt');
}

/** The comparison is requested. */
export async function clearDoubt(connection: Connection, branch: string): Promise<void> {
  await connection.execute('UPDATE tributary_branch SET doubt = NULL WHERE branch = ?', [branch]);
}

/** Stores epoch, superseded epochs, instance and both marks. */
export async function saveStream(connection: Connection, branch: string, stream: HeadOfficeStream): Promise<void> {
  await connection.execute(
    `UPDATE tributary_branch SET epoch = ?, superseded = ?, instance = ?, received_seq = ?, received_digest = ?,
       applied_seq = ?, applied_digest = ? WHERE branch = ?`,
    [
      stream.epoch,
      JSON.stringify(stream.superseded.slice(-MAX_SUPERSEDED)),
      stream.instance,
      stream.received.seq,
      stream.received.digest,
      stream.applied.seq,
      stream.applied.digest,
      branch,
    ],
  );
}

/** What a transaction that applies batches changes in the row. */
export interface Advance {
  readonly received: StreamMark;
  readonly applied: StreamMark;
  readonly batchNumber: number;
  /** Source mark of the last applied batch; null: nothing was applied. */
  readonly source: SourceMark | null;
  /** Compressed bytes of the batches that count as received with it. */
  readonly bytes: number;
}

/**
 * Moves the watermark. The caller's transaction has locked the row and read it as `row`.
 * @param rows how many rows the transaction writes and deletes
 */
export async function advanceBranch(
  connection: Connection,
  row: BranchRow,
  advance: Advance,
  rows: number,
): Promise<void> {
  const { received, applied, batchNumber, source, bytes } = advance;
  assert(received.seq >= row.stream.received.seq, `${row.branch}: received would go back to ${received.seq}`);
  assert(applied.seq <= received.seq, `${row.branch}: applied ${applied.seq} is beyond received ${received.seq}`);
  assert(batchNumber >= row.batchNumber, `${row.branch}: the batch number would go back to ${batchNumber}`);
  await connection.execute(
    `UPDATE tributary_branch SET received_seq = ?, received_digest = ?, applied_seq = ?, applied_digest = ?,
       batch_number = ?, position = COALESCE(?, position), captured_through = COALESCE(?, captured_through),
       rows_written = rows_written + ?, bytes_received = bytes_received + ?
     WHERE branch = ?`,
    [
      received.seq,
      received.digest,
      applied.seq,
      applied.digest,
      batchNumber,
      source === null ? null : JSON.stringify(source),
      source === null ? null : toDateTime(source.committedAt),
      rows,
      bytes,
      row.branch,
    ],
  );
}

export async function haltBranch(
  connection: Connection,
  branch: string,
  halt: { code: string; reason: string; seq: number; digest: string },
): Promise<void> {
  await connection.execute(
    `UPDATE tributary_branch SET state = 'halted', halt_code = ?, halt_reason = ?, halt_seq = ?, halt_digest = ?,
       halted_at = UTC_TIMESTAMP(6) WHERE branch = ? AND state = 'active'`,
    [halt.code, halt.reason.slice(0, 4_000), halt.seq, halt.digest, branch],
  );
}

/** Halted → active. */
export async function clearHalt(connection: Connection, branch: string): Promise<void> {
  await connection.execute(
    `UPDATE tributary_branch SET state = 'active', halt_code = NULL, halt_reason = NULL, halt_seq = NULL,
       halt_digest = NULL, halted_at = NULL WHERE branch = ? AND state = 'halted'`,
    [branch],
  );
}

export async function markRemoved(connection: Connection, branch: string): Promise<void> {
  await clearHalt(connection, branch);
  await connection.execute(`UPDATE tributary_branch SET state = 'removed' WHERE branch = ?`, [branch]);
}

/** Rows may be missing from now on, until a snapshot has ended that starts after the row's present batch number. */
export async function markIncomplete(connection: Connection, branch: string): Promise<void> {
  await connection.execute(
    `UPDATE tributary_branch SET incomplete_since = COALESCE(incomplete_since, UTC_TIMESTAMP(6)),
       incomplete_batch = batch_number, incomplete_until = 'snapshot' WHERE branch = ?`,
    [branch],
  );
}

/** A snapshot has brought all rows except those in quarantine: the branch is complete when there are none. */
export async function clearIncomplete(connection: Connection, branch: string): Promise<void> {
  await connection.execute(
    `UPDATE tributary_branch SET incomplete_since = IF(quarantined = 0, NULL, incomplete_since),
       incomplete_until = 'rows' WHERE branch = ?`,
    [branch],
  );
}

/** Counts the entries in quarantine. Without any, the branch is complete if only those rows were missing. */
export async function countQuarantined(connection: Connection, branch: string): Promise<void> {
  await connection.execute(
    `UPDATE tributary_branch SET quarantined = (SELECT COUNT(*) FROM tributary_quarantine q WHERE q.branch = ?)
     WHERE branch = ?`,
    [branch, branch],
  );
  await connection.execute(
    `UPDATE tributary_branch SET incomplete_since = NULL
     WHERE branch = ? AND quarantined = 0 AND incomplete_until = 'rows'`,
    [branch],
  );
}

/** Whether two reads of a row have the same epoch, marks and state, so that a plan by one is still right. */
export function isUnchanged(a: BranchRow, b: BranchRow): boolean {
  return (
    a.state === b.state &&
    a.batchNumber === b.batchNumber &&
    // Any applier may note that rows are missing.
    a.incompleteSince === b.incompleteSince &&
    a.incompleteBatch === b.incompleteBatch &&
    a.setAsideTables === b.setAsideTables &&
    a.stream.epoch === b.stream.epoch &&
    sameMark(a.stream.received, b.stream.received) &&
    sameMark(a.stream.applied, b.stream.applied)
  );
}

function sameMark(a: StreamMark, b: StreamMark): boolean {
  return a.seq === b.seq && a.digest === b.digest;
}

function toBranchRow(row: Row): BranchRow {
  const state = readText(row, 'state');
  assert(state === 'active' || state === 'halted' || state === 'removed', `unknown branch state ${state}`);
  return {
    branch: readText(row, 'branch'),
    stream: {
      epoch: readTextOrNull(row, 'epoch'),
      superseded: readNames(row, 'superseded'),
      instance: readTextOrNull(row, 'instance'),
      received: { seq: readCount(row, 'received_seq'), digest: readText(row, 'received_digest') },
      applied: { seq: readCount(row, 'applied_seq'), digest: readText(row, 'applied_digest') },
    },
    batchNumber: readCount(row, 'batch_number'),
    state,
    halt:
      row['halt_code'] === null
        ? null
        : {
            code: readText(row, 'halt_code'),
            reason: readText(row, 'halt_reason'),
            seq: readCount(row, 'halt_seq'),
            digest: readText(row, 'halt_digest'),
            since: readText(row, 'halted_at'),
          },
    position: readJson(row, 'position'),
    capturedThrough: readTextOrNull(row, 'captured_through'),
    incompleteSince: readTextOrNull(row, 'incomplete_since'),
    incompleteBatch: readCount(row, 'incomplete_batch'),
    incompleteUntil: readText(row, 'incomplete_until') === 'rows' ? 'rows' : 'snapshot',
    quarantined: readCount(row, 'quarantined'),
    verifiedAt: readTextOrNull(row, 'verified_at'),
    differentTables: readCount(row, 'different_tables'),
    setAsideTables: readCount(row, 'set_aside_tables'),
    stoppedHistories: readCount(row, 'stopped_histories'),
    createdAt: readText(row, 'created_at'),
  };
}
