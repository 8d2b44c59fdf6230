/**
 * `tributary_quarantined_batch`: batches of which a person has said that they are to be got past. A set, never a mere
 * "skip the next": a decision counts only for the seq and digest that halted the branch. What comes of it is stored
 * with it: the batch was `applied` after all, its refused rows are in `tributary_quarantine` (quarantined-rows.ts), or,
 * where it could not be read, it was `passed-over`, and its body is kept for a person to look at.
 *
 * Invariant: leaving something out is never silent: the branch counts as incomplete, and a snapshot is asked for, in
 * the transaction that leaves it out.
 */
import { randomUUID } from 'node:crypto';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import type { BatchHeader, StreamMark } from '../../shared/batch/batch.ts';
import { TributaryError } from '../../shared/errors.ts';
import { readCount, readText } from './sql-values.ts';
import { clearHalt, lockBranch } from './branch-row.ts';

/** Bodies kept of one branch; of older ones only the decision stays. */
const MAX_KEPT_BODIES = 32;

export type QuarantineOutcome = 'applied' | 'rows-left-out' | 'passed-over';

export interface Decision {
  /** Pass the batch over, whatever of it could be applied. */
  readonly whole: boolean;
  /** Id of the snapshot request that is opened when something is left out. */
  readonly request: string;
}

/**
 * Decides that the branch is to get past the batch that halted it, and lets it go on. In the caller's transaction.
 * @returns the id of the snapshot request that will be opened if something is left out
 * @throws BRANCH_UNKNOWN; CONFIG_INVALID when the branch is not halted
 */
export async function quarantineHalted(connection: Connection, branch: string, whole: boolean): Promise<string> {
  const row = await lockBranch(connection, branch);
  if (row === null) throw new TributaryError('BRANCH_UNKNOWN', `There is no branch ${branch}.`);
  const { halt, stream } = row;
  if (halt === null || stream.epoch === null) {
    throw new TributaryError('CONFIG_INVALID', `${branch} is not halted.`, {
      hint: 'Only the batch at which a branch stands still can be quarantined; see `branch show`.',
    });
  }
  const request = randomUUID();
  await connection.execute(
    `REPLACE INTO tributary_quarantined_batch (branch, epoch, seq, digest, reason, whole, request)
     VALUES (?, ?, ?, ?, ?, ?, ?)`,
    [branch, stream.epoch, halt.seq, halt.digest, `${halt.code}: ${halt.reason}`, whole ? 1 : 0, request],
  );
  await clearHalt(connection, branch);
  return request;
}

/** What a person has said of this batch; null: nothing. */
export async function findDecision(connection: Connection, header: BatchHeader): Promise<Decision | null> {
  const [rows] = await connection.execute<RowDataPacket[]>(
    `SELECT whole, request FROM tributary_quarantined_batch WHERE branch = ? AND epoch = ? AND seq = ? AND digest = ?`,
    [header.branch, header.epoch, header.seq, header.digest],
  );
  const row = rows[0];
  return row === undefined ? null : { whole: readCount(row, 'whole') === 1, request: readText(row, 'request') };
}

export async function saveOutcome(
  connection: Connection,
  header: BatchHeader,
  outcome: QuarantineOutcome,
): Promise<void> {
  await connection.execute(
    'UPDATE tributary_quarantined_batch SET outcome = ? WHERE branch = ? AND epoch = ? AND seq = ?',
    [outcome, header.branch, header.epoch, header.seq],
  );
}

/** Keeps the body of a batch that is being passed over, and forgets the oldest of those kept before. */
export async function keepBody(connection: Connection, header: BatchHeader, body: Buffer): Promise<void> {
  const { branch, epoch, seq } = header;
  await connection.execute(
    'UPDATE tributary_quarantined_batch SET body = ? WHERE branch = ? AND epoch = ? AND seq = ?',
    [body, branch, epoch, seq],
  );
  const [old] = await connection.execute<RowDataPacket[]>(
    `SELECT epoch, seq FROM tributary_quarantined_batch WHERE branch = ? AND body IS NOT NULL
     ORDER BY quarantined_at DESC LIMIT ${MAX_KEPT_BODIES}, 100`,
    [branch],
  );
  for (const row of old) {
    await connection.execute(
      'UPDATE tributary_quarantined_batch SET body = NULL WHERE branch = ? AND epoch = ? AND seq = ?',
      [branch, readText(row, 'epoch'), readCount(row, 'seq')],
    );
  }
}

/** Records a batch that nobody decided about as passed over: it belongs to a transaction of which another part was. */
export async function recordOrphan(connection: Connection, header: BatchHeader): Promise<void> {
  await connection.execute(
    `REPLACE INTO tributary_quarantined_batch (branch, epoch, seq, digest, reason, whole, request, outcome)
     VALUES (?, ?, ?, ?, 'an earlier part of its transaction was passed over', TRUE, '', 'passed-over')`,
    [header.branch, header.epoch, header.seq, header.digest],
  );
}

/** Whether the batch at this mark was passed over. */
export async function wasSkipped(
  connection: Connection,
  branch: string,
  epoch: string,
  mark: StreamMark,
): Promise<boolean> {
  const [rows] = await connection.execute<RowDataPacket[]>(
    `SELECT 1 FROM tributary_quarantined_batch
     WHERE branch = ? AND epoch = ? AND seq = ? AND digest = ? AND outcome = 'passed-over'`,
    [branch, epoch, mark.seq, mark.digest],
  );
  return rows.length > 0;
}

/** Whether decisions wait for batches from `seq` on: lets the pipeline skip a question for each batch. */
export async function decisionsFrom(connection: Connection, branch: string, seq: number): Promise<boolean> {
  const [rows] = await connection.execute<RowDataPacket[]>(
    'SELECT 1 FROM tributary_quarantined_batch WHERE branch = ? AND seq >= ? LIMIT 1',
    [branch, seq],
  );
  return rows.length > 0;
}
