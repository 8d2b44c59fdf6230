/**
 * `tributary_approval`: branches whose pending change may rebuild large tables at the head office, because an operator
 * has approved it (`schema approve`).
 *
 * Invariant: an approval is for the batch that halted the branch, and for one attempt: taking it deletes it.
 */
import type { Connection, ResultSetHeader } from 'mysql2/promise';
import { TributaryError } from '../../shared/errors.ts';
import { clearHalt, lockBranch } from './branch-row.ts';

/**
 * Lets a branch that is halted by TARGET_SCHEMA retry and rebuild tables. Runs in the caller's transaction.
 * @returns why the branch was halted
 * @throws BRANCH_UNKNOWN; CONFIG_INVALID when there is nothing to approve
 */
export async function approveHalted(connection: Connection, branch: string): Promise<string> {
  const row = await lockBranch(connection, branch);
  if (row === null) throw new TributaryError('BRANCH_UNKNOWN', `There is no branch ${branch}.`);
  if (row.halt?.code !== 'TARGET_SCHEMA') {
    throw new TributaryError('CONFIG_INVALID', `The branch ${branch} does not wait for an approval.`, {
      hint: 'Only a branch that is halted by TARGET_SCHEMA needs one: see `tributary-applier branch show`.',
    });
  }
  await connection.execute(
    'REPLACE INTO tributary_approval (branch, seq, approved_at) VALUES (?, ?, UTC_TIMESTAMP(6))',
    [branch, row.halt.seq],
  );
  await clearHalt(connection, branch);
  return row.halt.reason;
}

/** Takes the approval of the branch's next change. @returns whether there was one */
export async function takeApproval(connection: Connection, branch: string): Promise<boolean> {
  const [result] = await connection.execute<ResultSetHeader>('DELETE FROM tributary_approval WHERE branch = ?', [
    branch,
  ]);
  return result.affectedRows > 0;
}
