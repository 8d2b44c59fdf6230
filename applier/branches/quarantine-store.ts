/**
 * `tributary_quarantine`: batches that an operator chose to pass over. A set, never a mere "skip the next": a batch is
 * passed over only when seq and digest are the ones that halted the branch.
 *
 * Invariant: passing over is never silent: the branch counts as incomplete, and a snapshot is asked for, in the
 * transaction that puts the batch here.
 */
import { randomUUID } from 'node:crypto';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import type { BatchHeader } from '../../shared/batch.ts';
import { TributaryError } from '../../shared/errors.ts';
import { addRequest, closeRequests, openRequests } from './snapshot-store.ts';
import { clearHalt, lockBranch, markIncomplete } from './stream-store.ts';

/**
 * Puts the batch that halted the branch into quarantine and lets the branch go on. In the caller's transaction.
 * @returns the id of the snapshot request
 * @throws BRANCH_UNKNOWN; CONFIG_INVALID when the branch is not halted
 */
export async function quarantineHalted(connection: Connection, branch: string): Promise<string> {
  const row = await lockBranch(connection, branch);
  if (row === null) throw new TributaryError('BRANCH_UNKNOWN', `There is no branch ${branch}.`);
  const { halt, stream } = row;
  if (halt === null || stream.epoch === null) {
    throw new TributaryError('CONFIG_INVALID', `${branch} is not halted.`, {
      hint: 'Only the batch at which a branch stands still can be quarantined; see `branch show`.',
    });
  }
  await connection.execute(
    'INSERT IGNORE INTO tributary_quarantine (branch, epoch, seq, digest, reason) VALUES (?, ?, ?, ?, ?)',
    [branch, stream.epoch, halt.seq, halt.digest, `${halt.code}: ${halt.reason}`],
  );
  await markIncomplete(connection, branch);
  // The quarantined batch may have been a marker of the snapshot that serves the open requests; the agent counts them
  // as served then, and they would stay open for ever. The new one asks for the same.
  await closeRequests(connection, branch, await openRequests(connection, branch));
  const request = randomUUID();
  await addRequest(connection, branch, request, `batch ${halt.seq} was quarantined`);
  await clearHalt(connection, branch);
  return request;
}

export async function isQuarantined(connection: Connection, header: BatchHeader): Promise<boolean> {
  const [rows] = await connection.execute<RowDataPacket[]>(
    'SELECT 1 FROM tributary_quarantine WHERE branch = ? AND epoch = ? AND seq = ? AND digest = ?',
    [header.branch, header.epoch, header.seq, header.digest],
  );
  return rows.length > 0;
}

/** Keeps the body of a batch that is being passed over, for a person to look at. */
export async function keepQuarantined(connection: Connection, header: BatchHeader, body: Buffer): Promise<void> {
  await connection.execute('UPDATE tributary_quarantine SET body = ? WHERE branch = ? AND epoch = ? AND seq = ?', [
    body,
    header.branch,
    header.epoch,
    header.seq,
  ]);
}

/** Whether any batch of the branch waits in quarantine: lets the pipeline skip a question for each batch. */
export async function quarantinedFrom(connection: Connection, branch: string, seq: number): Promise<boolean> {
  const [rows] = await connection.execute<RowDataPacket[]>(
    'SELECT 1 FROM tributary_quarantine WHERE branch = ? AND seq >= ? LIMIT 1',
    [branch, seq],
  );
  return rows.length > 0;
}
