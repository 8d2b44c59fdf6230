/**
 * `tributary_quarantined_batch`: people's decisions to go on without what the head office refuses of a batch. A
 * decision is never "skip the next batch": it counts only for the seq and digest that halted the branch. Its outcome is
 * stored with it. The batch was `applied` after all, or its refused rows are in `tributary_quarantine`
 * (quarantined-rows.ts). Or the batch could not be read and was `skipped`; its body is then kept for people to look at.
 *
 * Invariant: nothing is left out silently. The transaction that leaves something out makes the branch incomplete and
 * requests a snapshot.
 */
import { randomUUID } from 'node:crypto';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import type { BatchHeader, StreamMark } from '../../shared/batch/batch.ts';
import { TributaryError } from '../../shared/errors.ts';
import { readCount, readText } from './sql-values.ts';
import { clearHalt, lockBranch } from './branch-row.ts';

/** How many bodies are kept for one branch. For older batches only the decision is kept. */
const MAX_KEPT_BODIES = 32;

export type QuarantineOutcome = 'applied' | 'rows-left-out' | 'skipped';

export interface Decision {
  /** Skip the whole batch, even what of it could be applied. */
  readonly whole: boolean;
  /** Id of the request for a snapshot that is added when something is left out. */
  readonly request: string;
}

/**
 * Stores the decision about the batch that halted the branch, and lets the branch go on. Runs in the caller's
 * transaction.
 * @param seq of the batch that the person has seen; null: whichever it is
 * @returns the id of the request for a snapshot that is added if something is left out
 * @throws BRANCH_UNKNOWN; CONFIG_INVALID when the branch is not halted, or by another batch
 */
export async function quarantineHalted(
  connection: Connection,
  branch: string,
  { whole, seq }: { readonly whole: boolean; readonly seq: number | null },
): Promise<string> {
  const row = await lockBranch(connection, branch);
  if (row === null) throw new TributaryError('BRANCH_UNKNOWN', `There is no branch ${branch}.`);
  const { halt, stream } = row;
  if (halt === null || stream.epoch === null) {
    throw new TributaryError('CONFIG_INVALID', `The branch ${branch} is not halted.`, {
      hint: 'Only the batch that has halted a branch can be quarantined: see `tributary-applier branch show`.',
    });
  }
  if (seq !== null && halt.seq !== seq) {
    throw new TributaryError('CONFIG_INVALID', `The branch ${branch} is halted at batch ${halt.seq}, not ${seq}.`, {
      hint: 'Look at why that batch is refused, and decide about it.',
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

/** A person's decision about this batch; null: there is none. */
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

/** Keeps the body of a batch that is skipped, and deletes the oldest bodies. */
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

/** Records that a batch was skipped without a decision, because an earlier part of its transaction was. */
export async function recordOrphan(connection: Connection, header: BatchHeader): Promise<void> {
  await connection.execute(
    `REPLACE INTO tributary_quarantined_batch (branch, epoch, seq, digest, reason, whole, request, outcome)
     VALUES (?, ?, ?, ?, 'an earlier part of its transaction was skipped', TRUE, '', 'skipped')`,
    [header.branch, header.epoch, header.seq, header.digest],
  );
}

/** Whether the batch at this mark was skipped. */
export async function wasSkipped(
  connection: Connection,
  branch: string,
  epoch: string,
  mark: StreamMark,
): Promise<boolean> {
  const [rows] = await connection.execute<RowDataPacket[]>(
    `SELECT 1 FROM tributary_quarantined_batch
     WHERE branch = ? AND epoch = ? AND seq = ? AND digest = ? AND outcome = 'skipped'`,
    [branch, epoch, mark.seq, mark.digest],
  );
  return rows.length > 0;
}

/**
 * Whether there are decisions about batches from `seq` on. If not, the pipeline need not look for one at each batch.
 */
export async function decisionsFrom(connection: Connection, branch: string, seq: number): Promise<boolean> {
  const [rows] = await connection.execute<RowDataPacket[]>(
    'SELECT 1 FROM tributary_quarantined_batch WHERE branch = ? AND seq >= ? LIMIT 1',
    [branch, seq],
  );
  return rows.length > 0;
}
