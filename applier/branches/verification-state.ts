/**
 * The progress of a verification, and what it waits for, as `branch verify` shows them. Pure.
 *
 * A request is open until the branch has sent all of its sums; after that it waits for tables that are still counted here.
 * Requests of one branch are served one after the other (applier/consume/hello-handler.ts).
 */
import { storedHello } from '../../shared/broker/amqp-messages.ts';
import { TributaryError } from '../../shared/errors.ts';
import type { AgentReport } from '../../shared/protocol.ts';
import { tableText } from '../../shared/table-name.ts';
import type { TableName } from '../../shared/table-name.ts';
import { counted, formatDuration } from '../../shared/units.ts';
import type { ContactRow } from '../store/contacts.ts';
import { expectation, offlineAfterMs, reportedSchedule } from './expectation.ts';
import type { BranchRow } from '../store/branch-row.ts';
import type { VerifiedTable } from '../store/verifications.ts';

/** At most this many of the tables being compared are named. */
const NAMED_TABLES = 3;
/** In batches. A smaller backlog is applied in a moment, and is not mentioned. */
const MENTIONED_BACKLOG = 20;

/** A request for a comparison. */
export interface AskedVerification {
  readonly branch: string;
  readonly request: string;
  /** null: all. */
  readonly tables: readonly TableName[] | null;
  /** When it was asked for, ISO 8601, by the database's clock. */
  readonly at: string;
}

export interface VerificationState {
  readonly row: BranchRow;
  readonly contact: ContactRow | null;
  /** The branch has not answered yet; otherwise only the counting here is waited for. */
  readonly isOpen: boolean;
  /** The request that is served before this one; null: none. */
  readonly before: string | null;
  /** Comparisons that answer the request. */
  readonly tables: readonly VerifiedTable[];
}

/**
 * The comparisons that answer a request: its own and, once the branch has answered it, any that began after the
 * request. A later comparison may replace its own before the result is read; its result answers the request too.
 */
export function answering(
  { request, tables, at }: AskedVerification,
  isAnswered: boolean,
  verified: readonly VerifiedTable[],
): VerifiedTable[] {
  const isOf = ({ schema, name }: VerifiedTable): boolean =>
    tables?.some(table => table.schema === schema && table.name === name) ?? true;
  return verified.filter(table => table.request === request || (isAnswered && table.startedAt >= at && isOf(table)));
}

/** @throws BRANCH_UNKNOWN where the branch was removed */
export function requirePresent({ branch, state }: BranchRow): void {
  if (state === 'removed') throw new TributaryError('BRANCH_UNKNOWN', `Branch ${branch} was removed.`);
}

/** @throws BRANCH_UNKNOWN, BRANCH_HALTED if nothing of the branch is applied */
export function requireAtWork(row: BranchRow): void {
  requirePresent(row);
  const { branch, halt } = row;
  if (halt === null) return;
  const { code, reason, seq, since } = halt;
  throw new TributaryError(
    'BRANCH_HALTED',
    `Branch ${branch} is halted at batch ${seq} since ${toSecond(since)}. ${code}: ${reason}`,
  );
}

/** What a verification is doing, for people. */
export interface Stage {
  /** Changes when the person who waits should read the text at once. */
  readonly key: string;
  readonly text: string;
}

/** @param now milliseconds since 1970 */
export function stageOf({ branch }: AskedVerification, state: VerificationState, now: number): Stage {
  const { tables } = state;
  const awaited = state.isOpen ? whatIsAwaited(branch, state, now) : null;
  if (tables.length === 0) {
    return (
      awaited ?? { key: 'hello', text: `${branch} is online, and gets the request with the answer to its next hello` }
    );
  }
  const under = tables.filter(({ verdict }) => verdict === 'counting');
  const ended = `${tables.length - under.length} of ${counted(tables.length, 'table')} compared`;
  const begun = Math.min(now, ...under.map(({ startedAt }) => Date.parse(startedAt)));
  const progress =
    under.length === 0 ? ended : `${ended}; being compared for ${formatDuration(now - begun)}: ${namesOf(under)}`;
  if (awaited === null) return { key: ended, text: progress };
  return { key: `${ended}; ${awaited.key}`, text: `${progress}; ${awaited.text}` };
}

function namesOf(tables: readonly VerifiedTable[]): string {
  const names = tables.slice(0, NAMED_TABLES).map(tableText);
  return tables.length > NAMED_TABLES
    ? `${names.join(', ')} and ${tables.length - NAMED_TABLES} more`
    : names.join(', ');
}

/** What keeps the branch from answering; null: nothing known. */
function whatIsAwaited(branch: string, { row, contact, before }: VerificationState, now: number): Stage | null {
  const lastSeen = contact?.lastSeen ?? null;
  if (lastSeen === null) {
    return { key: 'never-seen', text: `${branch} was never seen: start its agent` };
  }
  const said = storedHello(contact?.hello);
  if (said === null) return null;
  if (row.stream.superseded.includes(said.epoch)) {
    return {
      key: 'superseded',
      text: `the agent that was last seen as ${branch} is superseded and does nothing: run \`tributary-agent status\` there`,
    };
  }
  const seen = Date.parse(lastSeen);
  if (now - seen > offlineAfterMs(said))
    return { key: 'offline', text: `${branch} is ${offline(said.report, seen, now)}` };
  if (before !== null) return { key: 'before', text: `verification ${before} comes first` };
  if (!said.report.capabilities.includes('verify')) {
    const { version } = said.report;
    return { key: 'old', text: `the agent at ${branch} (${version}) cannot compare tables: upgrade it` };
  }
  const fault = captureFault(said.report);
  if (fault !== null) return { key: 'fault', text: `${branch} does not capture now${fault}` };
  const { snapshot } = said.report;
  if (snapshot !== null) {
    const { tablesDone, tables, secondsLeft } = snapshot;
    const left = secondsLeft === null ? '' : `, ${formatDuration(secondsLeft * 1_000)} left`;
    return {
      key: 'snapshot',
      text: `a snapshot of ${branch} comes first: ${tablesDone} of ${counted(tables, 'table')} done${left}`,
    };
  }
  const backlog = said.epoch === row.stream.epoch ? said.head.seq - row.stream.applied.seq : 0;
  return backlog > MENTIONED_BACKLOG
    ? { key: 'backlog', text: `${backlog} batches of ${branch} must be applied first` }
    : null;
}

function offline(report: AgentReport, seen: number, now: number): string {
  const { expectedAt, overdueAt } = expectation(reportedSchedule(report), seen);
  const since = `last seen at ${iso(seen)}`;
  if (now >= overdueAt) return `overdue, ${since}: check its machine, its link, and whether the applier runs here`;
  return expectedAt > now ? `offline, ${since}; its link opens at ${iso(expectedAt)}` : `offline, ${since}`;
}

function captureFault({ state, error }: AgentReport): string | null {
  if (state === 'capturing') return null;
  return error === null ? ` (${state})` : `: ${error}`;
}

function iso(ms: number): string {
  return toSecond(new Date(ms).toISOString());
}

function toSecond(time: string): string {
  return time.replace(/\.\d+Z$/, 'Z');
}
