/** The branches as people see them in `status` and `branch list`: one line a branch, worst first. Pure. */
import type { Colour } from '../shared/process/cli.ts';
import { textTable } from '../shared/process/text-table.ts';
import { counted, formatAgo, formatDuration } from '../shared/units.ts';
import { BRANCH_STATES } from './branches/branch-state.ts';
import type { BranchStatus, WaitingStatus } from './web/status.ts';

/** Characters of the problems in a line; `branch show` has all of them. */
const MAX_PROBLEM = 100;
/** States of an agent that need a person, or soon will. */
const AGENT_TROUBLE = ['stopped', 'failing', 'full', 'superseded'];

export type BranchLine = Pick<
  BranchStatus,
  | 'branch'
  | 'state'
  | 'states'
  | 'lastSeenAt'
  | 'completeThrough'
  | 'backlogBatches'
  | 'waiting'
  | 'incompleteSince'
  | 'quarantined'
  | 'setAsideTables'
  | 'stoppedHistories'
  | 'differentTables'
  | 'report'
> & { readonly halted: { readonly code: string; readonly reason: string } | null };

/** The states where they stand in a table's second column, or behind `branch: `. */
export const STATE_COLOURS: readonly Colour[] = [
  { pattern: /(?<=^[a-z0-9][a-z0-9-]*(?:: | +))(?:halted|set-aside|different)\b/gm, format: 'red' },
  { pattern: /(?<=^[a-z0-9][a-z0-9-]*(?:: | +))(?:incomplete|quarantined|waiting|overdue)\b/gm, format: 'yellow' },
  { pattern: /(?<=^[a-z0-9][a-z0-9-]*(?:: | +))current\b/gm, format: 'green' },
];

/** @param now milliseconds since 1970 */
export function branchTable(branches: readonly BranchLine[], now: number): string {
  const columns = [
    { title: 'BRANCH' },
    { title: 'STATE' },
    { title: 'COMPLETE AS OF' },
    { title: 'LAST SEEN' },
    { title: 'BACKLOG', right: true },
    { title: 'PROBLEM' },
  ];
  const rows = worstFirst(branches).map(each => [
    each.branch,
    each.state,
    formatAgo(each.completeThrough, now),
    formatAgo(each.lastSeenAt, now),
    String(each.backlogBatches ?? '?'),
    shortened(problemsOf(each).join('; ')),
  ]);
  return textTable(columns, rows);
}

export function worstFirst<Branch extends BranchLine>(branches: readonly Branch[]): Branch[] {
  const byName = new Intl.Collator('en', { numeric: true });
  return branches.toSorted((a, b) => urgencyOf(a) - urgencyOf(b) || byName.compare(a.branch, b.branch));
}

/** The more urgent, the lower. A branch with a problem comes right behind those in a bad state. */
function urgencyOf(branch: BranchLine): number {
  const place = BRANCH_STATES.indexOf(branch.state);
  const firstGood = BRANCH_STATES.indexOf('behind');
  return place >= firstGood && problemsOf(branch).length > 0 ? firstGood - 0.5 : place;
}

/** What is wrong with a branch, worst first. */
export function problemsOf(branch: BranchLine): string[] {
  const { halted, waiting, report, incompleteSince, setAsideTables, stoppedHistories, differentTables, quarantined } =
    branch;
  const problems: string[] = [];
  if (halted !== null) problems.push(`${halted.code}: ${halted.reason}`);
  if (waiting !== null) problems.push(`${waiting.code}: ${waiting.reason}`);
  if (report !== null && report.error !== null) problems.push(`its agent: ${report.error}`);
  else if (report !== null && AGENT_TROUBLE.includes(report.state)) problems.push(`its agent is ${report.state}`);
  if (incompleteSince !== null) problems.push(`rows may be missing since ${incompleteSince}`);
  if (setAsideTables > 0) problems.push(`${counted(setAsideTables, 'table')} set aside`);
  if (stoppedHistories > 0)
    problems.push(`${stoppedHistories === 1 ? 'a history is' : `${stoppedHistories} histories are`} stopped`);
  if (differentTables > 0) problems.push(`${counted(differentTables, 'table')} different when last compared`);
  if (quarantined > 0) problems.push(`${quarantined} in quarantine`);
  return problems;
}

/** The whole of a fault that is retried, below the branch's line. @param now milliseconds since 1970 */
export function waitingLines({ code, reason, hint, since, tries }: WaitingStatus, now: number): string[] {
  const waited = formatDuration(Math.max(0, now - Date.parse(since)));
  return [`  waiting for ${waited}, tried ${counted(tries, 'time')}: ${code}: ${reason}`, `  → ${hint}`];
}

function shortened(text: string): string {
  return text.length <= MAX_PROBLEM ? text : `${text.slice(0, MAX_PROBLEM - 1)}…`;
}
