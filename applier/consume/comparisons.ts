/**
 * Opens comparisons by itself, when a branch says hello: each branch every so often, and after what makes doubt
 * reasonable. So a comparison begins only while the branch's link is open.
 *
 * A comparison reads all tables on both sides. So there is at most one a day after doubts, some branches being switched
 * off each night. With a schedule, all of these begin only within its hours, and at most so many run at a time. A branch
 * that was never compared has its first turn at a time that its name decides. So the fleet is spread over the interval,
 * and stays so.
 */
import { createHash, randomUUID } from 'node:crypto';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { BY_HEAD_OFFICE } from '../store/event-kinds.ts';
import { noteEvent } from '../store/events.ts';
import { linkState } from '../../shared/config/link-schedule.ts';
import type { LinkSchedule } from '../../shared/config/link-schedule.ts';
import type { Hello } from '../../shared/protocol.ts';
import { addRequest, openRequests } from '../store/snapshots.ts';
import { clearDoubt, readDoubt } from '../store/branch-row.ts';
import type { BranchRow } from '../store/branch-row.ts';
import { readCount } from '../store/sql-values.ts';
import { comparedBefore, wasCompared } from '../store/verifications.ts';

/** The time between two comparisons after doubts. */
const LEAST_BETWEEN_DOUBTS_S = 86_400;
/** A branch without a hello for this long takes no place from the others. */
const AWAY_AFTER_S = 300;
/** Nor does one that does not get on: it is halted, does not capture, or its applier stopped while it counted. */
const STUCK_AFTER_S = 6 * 3_600;

/** When branches are compared without anybody asking. */
export interface ComparisonSchedule {
  /** Each branch is compared so often; null: only after doubts. */
  readonly everySeconds: number | null;
  /** The hours, on the head office's clock. */
  readonly within: LinkSchedule;
  /** The most branches that are compared at a time. */
  readonly atOnce: number;
}

/** No schedule: comparisons after doubts begin at once. */
export const UNSCHEDULED: ComparisonSchedule = {
  everySeconds: null,
  within: { windows: [], timeZone: 'UTC' },
  atOnce: Infinity,
};

/**
 * Opens a request for a comparison of all tables if one is due, under the lock on the branch's row.
 * @param now milliseconds since 1970
 */
export async function openDueComparison(
  connection: Connection,
  row: BranchRow,
  hello: Hello,
  schedule: ComparisonSchedule,
  now: number,
): Promise<void> {
  const { branch, stream, halt } = row;
  const { capabilities, snapshot } = hello.report;
  const knows = hello.compare === true || capabilities.includes('verify');
  if (hello.epoch !== stream.epoch || halt !== null || !knows) return;
  const reason = await whyDue(connection, row, hello, schedule, now);
  if (reason === null || !linkState(schedule.within, now).open) return;
  // The rows that a snapshot brings are compared after it.
  if (snapshot !== null) return;
  const open = await openRequests(connection, branch);
  if (open.some(({ kind, tables }) => kind === 'verify' && tables === null)) return;
  if (Number.isFinite(schedule.atOnce) && (await othersAtWork(connection, branch)) >= schedule.atOnce) return;
  await addRequest(connection, branch, { id: randomUUID(), kind: 'verify', reason });
  await noteEvent(connection, branch, {
    kind: 'comparison-requested',
    actor: BY_HEAD_OFFICE,
    text: `The branch is asked to compare all tables. Why: ${reason}.`,
  });
  await clearDoubt(connection, branch);
}

/** Why a comparison is due; null: none is. */
async function whyDue(
  connection: Connection,
  { branch, createdAt }: BranchRow,
  hello: Hello,
  { everySeconds }: ComparisonSchedule,
  now: number,
): Promise<string | null> {
  const doubt = hello.compare === true ? 'the agent has a doubt' : await readDoubt(connection, branch);
  if (doubt !== null && !(await wasCompared(connection, branch, LEAST_BETWEEN_DOUBTS_S))) return doubt;
  if (everySeconds === null) return null;
  const before = await comparedBefore(connection, branch);
  const due =
    before === null
      ? Date.parse(createdAt) + shareOf(branch) * everySeconds * 1_000
      : Date.parse(before) + everySeconds * 1_000;
  return now >= due ? 'scheduled' : null;
}

/** A number from 0 to 1 that the branch's name decides. */
export function shareOf(branch: string): number {
  return createHash('sha256').update(branch).digest().readUInt32BE() / 2 ** 32;
}

/** How many other branches are online and asked for a comparison, or are being counted. */
async function othersAtWork(connection: Connection, branch: string): Promise<number> {
  // Two appliers, or two branches of one, must not both take the last place.
  await connection.query('SELECT version FROM tributary_schema WHERE one = 1 FOR UPDATE');
  const [rows] = await connection.execute<RowDataPacket[]>(
    `SELECT COUNT(DISTINCT w.branch) AS n FROM (
       SELECT r.branch FROM tributary_request r JOIN tributary_branch b ON b.branch = r.branch AND b.state = 'active'
        WHERE r.kind = 'verify' AND r.created_at > UTC_TIMESTAMP(6) - INTERVAL ${STUCK_AFTER_S} SECOND
       UNION SELECT v.branch FROM tributary_verify v
        WHERE v.verdict = 'counting' AND v.started_at > UTC_TIMESTAMP(6) - INTERVAL ${STUCK_AFTER_S} SECOND) w
     JOIN tributary_contact c ON c.branch = w.branch AND c.last_seen > UTC_TIMESTAMP(6) - INTERVAL ${AWAY_AFTER_S} SECOND
     WHERE w.branch <> ?`,
    [branch],
  );
  return rows[0] === undefined ? 0 : readCount(rows[0], 'n');
}
