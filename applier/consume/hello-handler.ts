/**
 * Answers one hello of one branch, under the lock on the branch's row.
 *
 * The queue that the hello came from and the user that the broker checked say which branch it is. The branch in the
 * payload must agree, and is trusted no further. A hello may register a new epoch (shared/protocol.ts). Then inbox,
 * parts and snapshots of the old one are deleted in the same transaction. Its halt is cleared, because its batch will
 * never come again. Only a halt by a malformed or too large batch stays (`outlivesEpochs`).
 */
import type { Connection } from 'mysql2/promise';
import { branchNames, completedHello, readAnyHello, storedHello } from '../../shared/broker/amqp-messages.ts';
import type { ReceivedMessage } from '../../shared/broker/amqp-messages.ts';
import type { BriefMessage } from '../../shared/broker/brief.ts';
import { TributaryError } from '../../shared/errors.ts';
import { MAX_REPORTED_TABLES, receiveHello, ROWS_CAPABILITY, sentStanding } from '../../shared/protocol.ts';
import type { Answer, BranchRequest, Hello, SentStanding } from '../../shared/protocol.ts';
import { noteApplied, noteCaptured, noteNewEpoch, notLaterThan } from '../store/completeness.ts';
import type { Completeness } from '../store/completeness.ts';
import { noteHello, readContact, updateCompleteness } from '../store/contacts.ts';
import { BY_AGENT } from '../store/event-kinds.ts';
import { noteEvent } from '../store/events.ts';
import { clearInbox, earlyEntries } from '../store/inbox.ts';
import type { EarlyEntries } from '../store/inbox.ts';
import { askForReturns, noteReported, readSetAside } from '../store/set-aside.ts';
import { namesFor } from '../store/differences.ts';
import { clearSnapshots, closeRequests, openRequests } from '../store/snapshots.ts';
import type { OpenRequest } from '../store/snapshots.ts';
import { clearHalt, lockBranch, markIncomplete, noteDoubt, readBranch, saveStream } from '../store/branch-row.ts';
import type { BranchRow } from '../store/branch-row.ts';
import { countedRequest, isCounting } from '../store/verifications.ts';
import { openDueComparison, UNSCHEDULED } from './comparisons.ts';
import type { ComparisonSchedule } from './comparisons.ts';
import type { TargetPool } from '../apply/connection-pool.ts';
import { outlivesEpochs } from '../transaction/fault-policy.ts';

export interface HelloResult {
  readonly hello: Hello;
  readonly answer: Answer;
  /** The row after the hello. */
  readonly row: BranchRow;
  readonly registered: boolean;
  /** Those that the answer has. One that is not served yet is open all the same, and the branch is woken for it. */
  readonly requests: readonly string[];
  readonly early: EarlyEntries;
  readonly completeness: Completeness;
}

/**
 * Reads a message from a branch's hello queue.
 * @throws MESSAGE_INVALID when it is malformed or not from this branch
 */
export function checkHello(branch: string, message: ReceivedMessage): Hello | BriefMessage {
  requireSender(branch, message);
  const said = readAnyHello(message.body);
  return 'since' in said ? said : ofBranch(branch, said);
}

/**
 * The hello that a brief one stands for.
 * @param last the last hello that was answered here; null: none was
 * @returns null: it builds on one that this head office does not have. The agent says everything when no answer comes
 * @throws MESSAGE_INVALID when it is malformed or not from this branch
 */
export async function completeHello(
  pool: TargetPool,
  branch: string,
  brief: BriefMessage,
  last: Hello | null,
): Promise<Hello | null> {
  const known =
    last?.nonce === brief.since ? last : storedHello((await pool.use(c => readContact(c, branch)))?.hello ?? null);
  return known?.nonce === brief.since ? ofBranch(branch, completedHello(known, brief)) : null;
}

function ofBranch(branch: string, hello: Hello): Hello {
  if (hello.branch === branch) return hello;
  throw new TributaryError('MESSAGE_INVALID', `A hello in the queue of ${branch} names branch ${hello.branch}.`);
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
 * @param history tables whose history is kept
 * @param dictionaries batches of the hello's epoch by which dictionaries were kept
 * @param queued messages in the branch's queue, and those that are unacknowledged in this process
 * @throws BRANCH_UNKNOWN when the branch was removed
 */
export async function takeHello(
  pool: TargetPool,
  hello: Hello,
  queued: number,
  history: readonly string[] = [],
  schedule: ComparisonSchedule = UNSCHEDULED,
  dictionaries: readonly number[] = [],
): Promise<HelloResult> {
  const { branch } = hello;
  const before = storedHello((await pool.use(connection => readContact(connection, branch)))?.hello);
  const upgrade = upgradeOf(before, hello);
  if (hasOtherChoice(before, hello)) await pool.transact(connection => askForSetAside(connection, hello));
  // It goes into another table, without the lock, so that it is visible even while a large batch is being applied.
  await pool.use(connection => noteHello(connection, branch, hello));
  if (upgrade !== null) await pool.use(connection => noteDoubt(connection, branch, upgrade));
  return pool.transact(async connection => {
    const row = await lockBranch(connection, branch);
    if (row === null || row.state === 'removed') {
      throw new TributaryError('BRANCH_UNKNOWN', `The branch ${branch} was removed.`);
    }
    const found = await earlyEntries(connection, branch, row.stream.received.seq);
    await openDueComparison(connection, row, hello, schedule, Date.now());
    const open = await openRequests(connection, branch);
    const requests = await requestsFor(connection, branch, hello, open);
    const outcome = receiveHello(row.stream, hello, {
      queued,
      firstEarly: found.seqs[0] ?? null,
      requests,
      halted: haltOf(row),
      history,
      dictionaries,
    });
    const { registered } = outcome;
    const isChanged = outcome.stream !== row.stream;
    if (isChanged) await saveStream(connection, branch, outcome.stream);
    if (registered) {
      await clearInbox(connection, branch);
      await clearSnapshots(connection, branch);
      if (row.halt !== null && !outlivesEpochs(row.halt.code)) await clearHalt(connection, branch);
      // The rows of the new epoch come with its snapshot. Until that has ended, rows of both epochs are mixed here.
      await markIncomplete(connection, branch);
      await noteEpoch(connection, row, hello);
    }
    if (outcome.answer.verdict === 'current') await noteSync(connection, branch, before, hello);
    const { setAside } = hello.report;
    const isTold =
      setAside !== undefined && setAside.length + row.setAsideTables > 0 && outcome.answer.verdict === 'current';
    if (isTold) {
      const isAtHead =
        !registered && hello.head.seq === row.stream.applied.seq && setAside.length < MAX_REPORTED_TABLES;
      // An older hello may name a table that has returned since.
      const isPresent = !registered && hello.head.seq >= row.stream.applied.seq;
      await noteReported(connection, branch, setAside, isAtHead, isPresent ? row.batchNumber : null);
    }
    const after = (isChanged || isTold ? await readBranch(connection, branch) : null) ?? row;
    const completeness = await updateCompleteness(connection, branch, state => {
      if (outcome.answer.verdict !== 'current') return state;
      const base = registered ? noteNewEpoch(state) : state;
      const noted = noteCaptured(base, notLaterThan(Date.now(), hello.capturedThrough), hello.head.seq);
      return noteApplied(noted, after.stream.applied.seq, after.incompleteSince !== null);
    });
    return {
      hello,
      answer: {
        ...outcome.answer,
        halted: haltOf(after),
        ...(outcome.answer.verdict === 'current' ? { standing: standingFor(after, completeness, Date.now()) } : {}),
      },
      row: after,
      registered,
      requests: requests.map(({ id }) => id),
      early: registered ? { seqs: [], bytes: 0 } : found,
      completeness,
    };
  });
}

/** What to say of an agent that has another version than before; null: it has the same, or was not known. */
function upgradeOf(before: Hello | null, { report: { version } }: Hello): string | null {
  const said = before?.report.version;
  return said === undefined || said === version
    ? null
    : `the agent was changed from ${said} to ${version}`.slice(0, 200);
}

function hasOtherChoice(before: Hello | null, { report: { choice } }: Hello): boolean {
  const said = before?.report.choice;
  return said !== undefined && choice !== undefined && said !== choice;
}

/**
 * The branch may not capture tables any more that are set aside here: the answer to a request shows it. A hello of another
 * epoch says nothing of it: an old one may be late, and with a new one a copy of all tables comes.
 */
async function askForSetAside(connection: Connection, { branch, epoch }: Hello): Promise<void> {
  const row = await lockBranch(connection, branch);
  if (row === null || row.setAsideTables === 0 || row.stream.epoch !== epoch) return;
  const marks = (await readSetAside(connection, branch)).filter(
    ({ by, state }) => by === 'head-office' && state === 'aside',
  );
  await askForReturns(connection, branch, marks, 'the branch captures other tables than before');
}

/** Somebody at the branch has asked it to sync. */
async function noteSync(connection: Connection, branch: string, before: Hello | null, hello: Hello): Promise<void> {
  const { sync } = hello.report;
  if (sync === undefined || before?.report.sync?.id === sync.id) return;
  await noteEvent(connection, branch, {
    kind: 'sync-requested',
    actor: sync.by,
    text: 'The branch was asked to send all that waits.',
    once: `sync/${sync.id}`,
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

function standingFor(row: BranchRow, { through }: Completeness, now: number): SentStanding {
  return sentStanding({
    at: new Date(now).toISOString(),
    completeThrough: through,
    incomplete: row.incompleteSince !== null,
    quarantined: row.quarantined,
    setAsideTables: row.setAsideTables,
    differentTables: row.differentTables,
  });
}

function haltOf({ halt }: BranchRow): Answer['halted'] {
  return halt === null ? null : { code: halt.code, reason: halt.reason };
}

/**
 * The open requests that the branch is to serve. Comparisons, and requests for rows, are served one at a time: one that
 * begins ends the one before, so each begins when that is over on both sides. An agent that does not know requests for
 * rows is not asked; `branch repair` then copies the table.
 */
async function requestsFor(
  connection: Connection,
  branch: string,
  { report }: Hello,
  open: readonly OpenRequest[],
): Promise<BranchRequest[]> {
  const knowsRows = report.capabilities.includes(ROWS_CAPABILITY);
  const unknown = knowsRows ? [] : open.filter(({ kind }) => kind === 'rows' || kind === 'repair');
  await closeRequests(
    connection,
    branch,
    unknown.map(({ id }) => id),
  );
  const served = open.filter(request => !unknown.includes(request));
  const snapshots = served
    .filter(({ kind }) => kind === 'snapshot')
    .map(({ id, kind, tables }) => ({ id, kind, tables }));
  const next = await nextComparison(
    connection,
    branch,
    served.filter(({ kind }) => kind !== 'snapshot'),
  );
  if (next === null) return snapshots;
  const { id, kind, tables } = next;
  if (kind === 'verify') return [...snapshots, { id, kind, tables, ...(knowsRows ? { sketch: true } : {}) }];
  const rows = await namesFor(connection, branch, tables?.[0]?.name ?? '', kind === 'repair');
  if (rows !== '') return [...snapshots, { id, kind, tables, rows }];
  // Another comparison has found the rows equal meanwhile.
  await closeRequests(connection, branch, [id]);
  return snapshots;
}

/** The request to serve next; null: there is none, or an earlier one is still being counted here. */
async function nextComparison(
  connection: Connection,
  branch: string,
  [first]: readonly OpenRequest[],
): Promise<OpenRequest | null> {
  if (first === undefined) return null;
  const counted = await countedRequest(connection, branch);
  if (counted !== null) return counted === first.id ? first : null;
  return (await isCounting(connection, branch)) ? null : first;
}
