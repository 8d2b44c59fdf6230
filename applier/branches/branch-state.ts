/** The state of a branch, worked out in one place for the page, the commands, the JSON and the metrics. Pure. */
import { storedHello } from '../../shared/broker/amqp-messages.ts';
import type { AgentReport } from '../../shared/protocol.ts';
import type { BranchRow } from '../store/branch-row.ts';
import type { ContactRow } from '../store/contacts.ts';
import { OFFLINE_AFTER_MS } from './expectation.ts';
import type { Expectation, Expectations } from './expectation.ts';

/**
 * Worst first:
 * - `halted`: a batch cannot be applied; a person decides
 * - `waiting`: the head office has failed for minutes for a reason that is not in the batch; it retries by itself
 * - `overdue`: not heard from for a whole window of its link (applier/branches/expectation.ts)
 * - `catching-up`: seen lately, batches are on their way
 * - `current`: seen lately, and everything that it had is applied
 * - `offline`: not seen for a while, and not overdue yet
 * - `never-seen`: added, but no agent has said hello yet
 */
export const BRANCH_STATES = [
  'halted',
  'waiting',
  'overdue',
  'catching-up',
  'current',
  'offline',
  'never-seen',
] as const;

export type BranchState = (typeof BRANCH_STATES)[number];

/** How long a fault that passes by itself may last before the branch counts as waiting: most pass in seconds. */
const WAITING_AFTER_MS = 3 * 60_000;

export interface BranchFacts {
  readonly row: BranchRow;
  readonly contact: ContactRow | null;
  /** Since when the running applier has retried without success; null: it does not, or none runs. */
  readonly waitingSince: string | null;
}

export interface BranchSituation {
  readonly state: BranchState;
  /** Batches that the branch has (or had, when last seen) and the head office has not applied; null: not known. */
  readonly backlogBatches: number | null;
  /** When it should be heard from; null: it is online, or was never seen. */
  readonly expected: Expectation | null;
  /** What its agent last said of itself. */
  readonly report: AgentReport | null;
}

/** @param now milliseconds since 1970 */
export function situationOf(
  { row, contact, waitingSince }: BranchFacts,
  expectations: Expectations,
  now: number,
): BranchSituation {
  const said = storedHello(contact?.hello);
  const report = said?.report ?? null;
  const { epoch, applied } = row.stream;
  const backlogBatches = said === null || said.epoch !== epoch ? null : Math.max(0, said.head.seq - applied.seq);
  const lastSeen = contact === null || contact.lastSeen === null ? null : Date.parse(contact.lastSeen);
  const away = lastSeen !== null && now - lastSeen > OFFLINE_AFTER_MS;
  const expected = away ? expectations.of(row.branch, report, lastSeen) : null;
  let state: BranchState = backlogBatches === 0 ? 'current' : 'catching-up';
  if (lastSeen === null) state = 'never-seen';
  else if (expected !== null) state = now >= expected.overdueAt ? 'overdue' : 'offline';
  if (waitingSince !== null && now - Date.parse(waitingSince) > WAITING_AFTER_MS) state = 'waiting';
  if (row.halt !== null) state = 'halted';
  return { state, backlogBatches, expected, report };
}
