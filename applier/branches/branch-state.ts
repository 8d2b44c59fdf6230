/**
 * The states of a branch as people see them: on the page, in `status`, in `branch list`, in metrics. Several may hold at
 * once (a branch can be offline and different); the worst of them is the state that stands for the branch. Pure.
 */
import { storedHello } from '../../shared/broker/amqp-messages.ts';
import type { AgentReport } from '../../shared/protocol.ts';
import type { BranchRow } from '../store/branch-row.ts';
import type { ContactRow } from '../store/contacts.ts';
import { allowedLagSeconds, Expectations, offlineAfterMs } from './expectation.ts';
import type { Expectation } from './expectation.ts';

/**
 * Worst first:
 * - `halted`: a batch cannot be applied; a person decides
 * - `set-aside`: tables that the branch cannot carry, or this head office cannot take, are passed over; all else goes on
 * - `different`: a comparison found other rows here than at the branch; only another comparison ends it
 * - `incomplete`: rows may be missing here, until a snapshot has ended
 * - `quarantined`: rows that cannot be applied were left out, and all of them are listed
 * - `waiting`: the head office has failed for minutes, and no batch is the cause; it retries by itself
 * - `overdue`: a whole window of its link has passed without a hello (expectation.ts)
 * - `offline`: no hello came when it was due (within about a minute), and it is not overdue yet
 * - `never-seen`: added, but no agent has said hello yet
 * - `behind`: online, and batches are on their way, other than by its own `link.freshness`
 * - `current`: none of the others; everything that it had is applied
 */
export const BRANCH_STATES = [
  'halted',
  'set-aside',
  'different',
  'incomplete',
  'quarantined',
  'waiting',
  'overdue',
  'offline',
  'never-seen',
  'behind',
  'current',
] as const;
export type BranchState = (typeof BRANCH_STATES)[number];

/** A fault that lasts this long is shown: a person should look. */
const WAITING_SHOWN_MS = 3 * 60_000;

/** What is known of a branch. */
export interface KnownBranch {
  readonly row: BranchRow;
  readonly contact: ContactRow | null;
  /** Only the applier that applies it knows; null: it waits for nothing, or that is unknown. */
  readonly waiting: { readonly since: string } | null;
}

/** The present states of a branch. */
export interface Standing {
  /** Every state that holds, worst first. */
  readonly states: readonly [BranchState, ...BranchState[]];
  /** Batches that the branch has (or had, when last seen) and the head office has not applied; null: not known. */
  readonly backlogBatches: number | null;
  /** When a branch that is not online should be heard from; null: it is online, or was never seen. */
  readonly expected: Expectation | null;
  /** How far behind it may be by its own `link.freshness`. */
  readonly allowedLagSeconds: number;
  /** The last report of its agent. */
  readonly report: AgentReport | null;
}

/** @param now milliseconds since 1970 */
export function standingOf(known: KnownBranch, now: number, expectations = new Expectations()): Standing {
  const { row, contact, waiting } = known;
  const hello = storedHello(contact?.hello);
  const report = hello?.report ?? null;
  const lastSeen = contact?.lastSeen ? Date.parse(contact.lastSeen) : null;
  const isAway = lastSeen !== null && now - lastSeen > offlineAfterMs(hello);
  const expected = isAway ? expectations.of(row.branch, report, lastSeen) : null;
  const backlogBatches =
    hello === null || hello.epoch !== row.stream.epoch ? null : Math.max(0, hello.head.seq - row.stream.applied.seq);
  const allowed = allowedLagSeconds(hello);
  const through = contact?.completeness.through ?? null;
  const isAllowed = allowed > 0 && through !== null && now - Date.parse(through) <= allowed * 1_000;
  const holds: Record<Exclude<BranchState, 'current'>, boolean> = {
    halted: row.halt !== null,
    'set-aside': row.setAsideTables > 0 || (report?.setAside ?? []).length > 0,
    different: row.differentTables > 0,
    incomplete: row.incompleteSince !== null && (row.incompleteUntil === 'snapshot' || row.quarantined === 0),
    quarantined: row.quarantined > 0,
    waiting: waiting !== null && now - Date.parse(waiting.since) > WAITING_SHOWN_MS,
    overdue: expected !== null && now >= expected.overdueAt,
    offline: expected !== null && now < expected.overdueAt,
    'never-seen': lastSeen === null,
    behind: lastSeen !== null && !isAway && backlogBatches !== 0 && !isAllowed,
  };
  const [worst = 'current', ...others] = BRANCH_STATES.filter(state => state !== 'current' && holds[state]);
  return { states: [worst, ...others], backlogBatches, expected, allowedLagSeconds: allowed, report };
}
