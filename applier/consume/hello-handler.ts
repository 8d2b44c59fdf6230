/**
 * Answers one hello of one branch, under the lock on the branch's row.
 *
 * The queue that the hello came from and the user that the broker checked say which branch it is. The branch in the
 * payload must agree, and is trusted no further. A hello may register a new epoch (shared/protocol.ts). Then inbox,
 * parts and snapshots of the old one are deleted in the same transaction. Its halt is cleared, because its batch will
 * never come again. Only a halt by a malformed or too large batch stays (`outlivesEpochs`).
 */
import { randomUUID } from 'node:crypto';
import type { Connection } from 'mysql2/promise';
import { branchNames, readHello } from '../../shared/broker/amqp-messages.ts';
import type { ReceivedMessage } from '../../shared/broker/amqp-messages.ts';
import { TributaryError } from '../../shared/errors.ts';
import { receiveHello } from '../../shared/protocol.ts';
import type { Answer, Hello } from '../../shared/protocol.ts';
import { noteApplied, noteCaptured, noteNewEpoch, notLaterThan } from '../store/completeness.ts';
import type { Completeness } from '../store/completeness.ts';
import { noteHello, updateCompleteness } from '../store/contacts.ts';
import { BY_AGENT } from '../store/event-kinds.ts';
import { noteEvent } from '../store/events.ts';
import { clearInbox, earlyEntries } from '../store/inbox.ts';
import type { EarlyEntries } from '../store/inbox.ts';
import { addRequest, clearSnapshots, openRequests } from '../store/snapshots.ts';
import type { OpenRequest } from '../store/snapshots.ts';
import { clearHalt, lockBranch, markIncomplete, readBranch, saveStream } from '../store/branch-row.ts';
import type { BranchRow } from '../store/branch-row.ts';
import { countedRequest, wasCompared } from '../store/verifications.ts';
import type { TargetPool } from '../apply/connection-pool.ts';
import { outlivesEpochs } from '../transaction/fault-policy.ts';

/** The time between two comparisons that the branch asks for itself. */
const LEAST_BETWEEN_COMPARISONS_S = 86_400;

export interface HelloResult {
  readonly hello: Hello;
  readonly answer: Answer;
  /** The row after the hello. */
  readonly row: BranchRow;
  readonly registered: boolean;
  readonly early: EarlyEntries;
  readonly completeness: Completeness;
}

/**
 * Reads a message from a branch's hello queue.
 * @throws MESSAGE_INVALID when it is malformed or not from this branch
 */
export function checkHello(branch: string, message: ReceivedMessage): Hello {
  requireSender(branch, message);
  const hello = readHello(message.body);
  if (hello.branch !== branch) {
    throw new TributaryError('MESSAGE_INVALID', `A hello in the queue of ${branch} names branch ${hello.branch}.`);
  }
  return hello;
}

/** @throws MESSAGE_INVALID unless the branch's own user has published the message, which the broker has checked */
export function requireSender(branch: string, message: ReceivedMessage): void {
  const { user } = branchNames(branch);
  if (message.userId === user) return;
  throw new TributaryError(
    'MESSAGE_INVALID',
    `A message in ${message.queue} was published by ${message.userId ?? 'a user that it does not name'}, not by ${user}.`,
    { hint: `Check who has write permission on ${message.exchange}: only ${user} may have it.` },
  );
}

/**
 * Judges the hello and stores the outcome.
 * @param queued messages in the branch's queue, and those that are unacknowledged in this process
 * @throws BRANCH_UNKNOWN when the branch was removed
 */
export async function takeHello(pool: TargetPool, hello: Hello, queued: number): Promise<HelloResult> {
  const { branch } = hello;
  // It goes into another table, without the lock, so that it is visible even while a large batch is being applied.
  await pool.use(connection => noteHello(connection, branch, hello));
  return pool.transact(async connection => {
    const row = await lockBranch(connection, branch);
    if (row === null || row.state === 'removed') {
      throw new TributaryError('BRANCH_UNKNOWN', `The branch ${branch} was removed.`);
    }
    const found = await earlyEntries(connection, branch, row.stream.received.seq);
    if (hello.compare === true && hello.epoch === row.stream.epoch) await openComparison(connection, branch);
    const open = await openRequests(connection, branch);
    const deferred = await deferredVerifications(connection, branch, open);
    const outcome = receiveHello(row.stream, hello, {
      queued,
      firstEarly: found.seqs[0] ?? null,
      requests: open
        .filter(request => !deferred.includes(request))
        .map(({ id, kind, tables }) => ({ id, kind, tables })),
      halted: haltOf(row),
    });
    const { registered } = outcome;
    if (outcome.stream !== row.stream) await saveStream(connection, branch, outcome.stream);
    if (registered) {
      await clearInbox(connection, branch);
      await clearSnapshots(connection, branch);
      if (row.halt !== null && !outlivesEpochs(row.halt.code)) await clearHalt(connection, branch);
      // The rows of the new epoch come with its snapshot. Until that has ended, rows of both epochs are mixed here.
      await markIncomplete(connection, branch);
      await noteEpoch(connection, row, hello);
    }
    const after = (await readBranch(connection, branch)) ?? row;
    const completeness = await updateCompleteness(connection, branch, state => {
      if (outcome.answer.verdict !== 'current') return state;
      const base = registered ? noteNewEpoch(state) : state;
      const noted = noteCaptured(base, notLaterThan(Date.now(), hello.capturedThrough), hello.head.seq);
      return noteApplied(noted, after.stream.applied.seq, after.incompleteSince !== null);
    });
    return {
      hello,
      answer: { ...outcome.answer, halted: haltOf(after) },
      row: after,
      registered,
      early: registered ? { seqs: [], bytes: 0 } : found,
      completeness,
    };
  });
}

/**
 * Opens a request for a comparison of all tables: the branch's server was started while the agent did not watch it.
 * Such a comparison reads all tables on both sides, and some branches are switched off each night. So there is one a
 * day at most, and the branch repeats that it wants one.
 */
async function openComparison(connection: Connection, branch: string): Promise<void> {
  const open = await openRequests(connection, branch);
  if (open.some(({ kind, tables }) => kind === 'verify' && tables === null)) return;
  if (await wasCompared(connection, branch, LEAST_BETWEEN_COMPARISONS_S)) return;
  await addRequest(connection, branch, {
    id: randomUUID(),
    kind: 'verify',
    reason: 'the branch database was started while the agent did not watch it',
  });
  await noteEvent(connection, branch, {
    kind: 'comparison-requested',
    actor: BY_AGENT,
    text: 'All tables are compared, because the branch database was started while the agent did not watch it.',
  });
}

/** @param row as it was before */
async function noteEpoch(connection: Connection, row: BranchRow, hello: Hello): Promise<void> {
  const { epoch, epochReason } = hello;
  const why = epochReason === undefined ? 'The agent did not say why.' : `Why: ${epochReason}`;
  const { halt, stream } = row;
  const isFirst = stream.epoch === null;
  const first = `The branch is heard from for the first time, with ${hello.report.source ?? 'a database that it does not name'}.`;
  const ended = halt === null || outlivesEpochs(halt.code) ? '' : ` It ends the halt at batch ${halt.seq}.`;
  await noteEvent(connection, row.branch, {
    kind: isFirst ? 'enrolled' : 'epoch',
    actor: BY_AGENT,
    text: isFirst ? first : `The branch begins again with a copy of all tables. ${why}${ended}`,
    facts: { epoch, replaces: stream.epoch },
  });
}

function haltOf({ halt }: BranchRow): Answer['halted'] {
  return halt === null ? null : { code: halt.code, reason: halt.reason };
}

/**
 * Verifications that must wait: one that begins ends the one before, so each begins when that is over on both sides.
 */
async function deferredVerifications(
  connection: Connection,
  branch: string,
  open: readonly OpenRequest[],
): Promise<readonly OpenRequest[]> {
  const [first, ...others] = open.filter(({ kind }) => kind === 'verify');
  if (first === undefined) return [];
  const counted = await countedRequest(connection, branch);
  return counted === null || counted === first.id ? others : [first, ...others];
}
