/**
 * What a person wants to know in the morning: which branches are complete to the last closing time, which are not, why,
 * and until when they are expected; and what needs a person. Pure.
 */
import type { BranchState } from '../branches/branch-state.ts';
import type { AgentReport } from '../../shared/protocol.ts';
import type { RowsByHour } from './today-rows.ts';
import type { ApplierStatus, BranchStatus, DependencyStatus } from './status.ts';

/** Branches that are listed; the page of branches has the rest. */
const MAX_MISSING = 20;
/** What a person can take in at once. */
const MAX_NEEDS = 3;
/** Branches that one need names. */
const MAX_NAMED = 3;
/** States of an agent that need a person. */
const AGENT_TROUBLE: readonly string[] = ['stopped', 'failing', 'full', 'superseded'];

/** From where it is known when a branch is expected: its link opens, or closes, then; it usually is back by then; at its rate. */
export type ExpectedBy = 'opens' | 'closes' | 'usual' | 'rate';

export interface MissingBranch {
  readonly branch: string;
  /** The worst that keeps it from being complete. */
  readonly why: BranchState;
  /** Times in ISO 8601, UTC; null: not known. */
  readonly completeThrough: string | null;
  readonly lastSeenAt: string | null;
  readonly backlogBatches: number | null;
  readonly expected: { readonly at: string; readonly by: ExpectedBy } | null;
}

export const NEED_KINDS = [
  'database',
  'broker',
  'halted',
  'set-aside',
  'different',
  'waiting',
  'agent',
  'quarantined',
  'overdue',
] as const;
export type NeedKind = (typeof NEED_KINDS)[number];

/** Something that a person must do, for one branch or many. */
export interface Need {
  readonly kind: NeedKind;
  /** The error, or the state of the agent; null: there is none. */
  readonly code: string | null;
  /** 0: it concerns the head office. */
  readonly branches: number;
  /** Some of them. */
  readonly named: readonly string[];
  /** Of the first of them, as the program said it; '' where the kind says it all. */
  readonly reason: string;
  readonly hint: string;
}

export interface Closing {
  /** ISO 8601, UTC. */
  readonly at: string;
  /** `20:00` */
  readonly time: string;
  readonly timeZone: string;
}

export interface Today extends Pick<ApplierStatus, 'now' | 'target' | 'broker'> {
  readonly closing: Closing;
  readonly branches: number;
  readonly complete: number;
  /** Those that are not complete, the longest behind first; at most MAX_MISSING. */
  readonly missing: readonly MissingBranch[];
  /** The worst first, at most MAX_NEEDS. */
  readonly needs: readonly Need[];
  /** How many there are beyond these. */
  readonly moreNeeds: number;
  readonly rows: RowsByHour;
}

/** Rows may be missing or different: then nobody knows until when it is complete. */
function isDoubtful({ states, quarantined, differentTables }: BranchStatus): boolean {
  return states.includes('incomplete') || quarantined > 0 || differentTables > 0;
}

/** Whether the head office has everything that the branch had committed until then: as `complete_as_of` of its view. */
export function isCompleteTo(branch: BranchStatus, at: number): boolean {
  const { completeThrough } = branch;
  if (isDoubtful(branch)) return false;
  return completeThrough !== null && Date.parse(completeThrough) >= at;
}

/** What keeps a branch from being complete: what only a person or time mends comes before where it is. */
const WHY: readonly BranchState[] = [
  'halted',
  'set-aside',
  'different',
  'quarantined',
  'waiting',
  'never-seen',
  'overdue',
  'offline',
  'incomplete',
  'behind',
  'current',
];

/** After all times: who was never complete is new. */
const NEVER = '9999';

/**
 * The branches that are not complete, the longest behind first.
 * @param usual when a branch without windows is usually back, milliseconds since 1970
 */
export function missingAt(
  branches: readonly BranchStatus[],
  closingAt: number,
  now: number,
  usual: (branch: string) => number | null,
): MissingBranch[] {
  return branches
    .filter(branch => !isCompleteTo(branch, closingAt))
    .sort(
      (a, b) =>
        (a.completeThrough ?? NEVER).localeCompare(b.completeThrough ?? NEVER) || a.branch.localeCompare(b.branch),
    )
    .map(branch => {
      const { completeThrough, lastSeenAt, backlogBatches, states } = branch;
      const why = WHY.find(state => states.includes(state)) ?? branch.state;
      const expected = expectedOf(branch, why, now, usual);
      return {
        branch: branch.branch,
        why,
        completeThrough: isDoubtful(branch) ? null : completeThrough,
        lastSeenAt,
        backlogBatches,
        expected: expected === null ? null : { at: new Date(expected.at).toISOString(), by: expected.by },
      };
    });
}

function expectedOf(
  { branch, expectedAt, overdueAt, report, secondsLeft }: BranchStatus,
  why: BranchState,
  now: number,
  usual: (branch: string) => number | null,
): { at: number; by: ExpectedBy } | null {
  if (why === 'behind') return secondsLeft === null ? null : { at: now + secondsLeft * 1_000, by: 'rate' };
  if (why !== 'offline' || expectedAt === null || overdueAt === null) return null;
  if ((report?.windows ?? []).length === 0) {
    const at = usual(branch);
    return at === null ? null : { at, by: 'usual' };
  }
  // Within its window it may come at any moment, at the latest when the window closes.
  const opens = Date.parse(expectedAt);
  return opens > now ? { at: opens, by: 'opens' } : { at: Date.parse(overdueAt), by: 'closes' };
}

/** Whether it matters when it is usually online: it is away, and no window says when it comes. */
export function isWithoutWindow({ states, report }: BranchStatus): boolean {
  return states.includes('offline') && (report?.windows ?? []).length === 0;
}

function agentTrouble(report: AgentReport | null): string | null {
  if (report === null) return null;
  if (AGENT_TROUBLE.includes(report.state)) return report.state;
  return report.error === null ? null : 'error';
}

interface Trouble {
  readonly kind: NeedKind;
  readonly code: string | null;
  readonly reason: string;
  readonly hint: string;
}

/** What of a branch needs a person. */
function troublesOf({ states, halted, waiting, report }: BranchStatus): Trouble[] {
  const agent = agentTrouble(report);
  const plain = (kind: NeedKind): Trouble => ({ kind, code: null, reason: '', hint: '' });
  return [
    ...(halted === null ? [] : [{ kind: 'halted' as const, ...halted }]),
    ...(states.includes('set-aside') ? [{ ...plain('set-aside'), reason: report?.setAside?.[0]?.reason ?? '' }] : []),
    ...(states.includes('different') ? [plain('different')] : []),
    ...(waiting !== null && states.includes('waiting') ? [{ kind: 'waiting' as const, ...waiting }] : []),
    ...(agent === null ? [] : [{ kind: 'agent' as const, code: agent, reason: report?.error ?? '', hint: '' }]),
    ...(states.includes('quarantined') ? [plain('quarantined')] : []),
    ...(states.includes('overdue') ? [plain('overdue')] : []),
  ];
}

/** All that needs a person, the worst first: what many branches have in common is one thing. */
export function needsOf(branches: readonly BranchStatus[], dependencies: readonly DependencyStatus[]): Need[] {
  const office = dependencies.flatMap(({ name, error }): Need[] =>
    error === null
      ? []
      : [
          {
            kind: name === 'broker' ? 'broker' : 'database',
            code: error.code,
            branches: 0,
            named: [],
            reason: error.message,
            hint: error.hint,
          },
        ],
  );
  const groups = new Map<string, Need & { named: string[] }>();
  for (const status of branches) {
    for (const { kind, code, reason, hint } of troublesOf(status)) {
      const key = `${kind} ${code ?? ''}`;
      const known = groups.get(key) ?? { kind, code, branches: 0, named: [], reason, hint };
      if (known.named.length < MAX_NAMED) known.named.push(status.branch);
      groups.set(key, { ...known, branches: known.branches + 1 });
    }
  }
  const rank = ({ kind }: Need): number => NEED_KINDS.indexOf(kind);
  return [...office, ...[...groups.values()].sort((a, b) => rank(a) - rank(b) || b.branches - a.branches)];
}

export interface TodayFacts {
  readonly status: ApplierStatus;
  readonly closing: Closing;
  readonly usual: (branch: string) => number | null;
  readonly rows: RowsByHour;
}

export function todayOf({ status, closing, usual, rows }: TodayFacts): Today {
  const { now, target, broker, branches } = status;
  const missing = missingAt(branches, Date.parse(closing.at), Date.parse(now), usual);
  const needs = needsOf(branches, [target, broker]);
  return {
    now,
    target,
    broker,
    closing,
    branches: branches.length,
    complete: branches.length - missing.length,
    missing: missing.slice(0, MAX_MISSING),
    needs: needs.slice(0, MAX_NEEDS),
    moreNeeds: Math.max(0, needs.length - MAX_NEEDS),
    rows,
  };
}
