/**
 * What of the fleet a page shows: the branches that fit a search and a state, sorted, trouble first unless asked
 * otherwise, PAGE_SIZE at a time; and the sums over all of them. Pure.
 */
import { HttpError } from '../../shared/process/http.ts';
import { BRANCH_STATES } from '../branches/branch-state.ts';
import type { BranchState } from '../branches/branch-state.ts';
import type { BranchStatus, FleetSummary } from './status.ts';

const PAGE_SIZE = 100;
const MAX_SEARCH = 64;
const MAX_PAGE = 1_000_000;

/** States of an agent that need a person, now or soon. */
const AGENT_TROUBLE: readonly string[] = ['stopped', 'failing', 'full', 'superseded'];
/** The mildest state that needs a person. */
const MILDEST_TROUBLE = BRANCH_STATES.indexOf('overdue');

/** What a column is sorted by; what is not known comes last either way. */
const SORTS = {
  branch: each => each.branch,
  state: urgency,
  seen: each => each.lastSeenAt,
  complete: each => each.completeThrough,
  backlog: each => each.backlogBatches,
  rate: each => each.rowsPerSecond,
  left: each => each.secondsLeft,
  room: each => each.report?.secondsUntilFull ?? null,
} as const satisfies Record<string, (branch: BranchStatus) => string | number | null>;
type Sort = keyof typeof SORTS;

export interface FleetQuery {
  /** null: all. */
  readonly state: BranchState | 'trouble' | null;
  /** Part of the id. */
  readonly search: string;
  readonly sort: Sort;
  readonly descending: boolean;
  /** From 1; one that is too large is the last. */
  readonly page: number;
}

export interface FleetPart {
  readonly fleet: FleetSummary;
  readonly branches: readonly BranchStatus[];
}

/** Of the parameters `state`, `search`, `sort` (with `-`: descending) and `page`. @throws HttpError 400 */
export function readFleetQuery(given: URLSearchParams): FleetQuery {
  const wrong = (what: string): HttpError => new HttpError(400, 'BAD_REQUEST', what);
  const state = given.get('state') || null;
  const known = [...BRANCH_STATES, 'trouble' as const].find(each => each === state);
  if (state !== null && known === undefined) throw wrong('`state` must be the name of a state, or trouble.');
  const sorted = given.get('sort') ?? 'state';
  const sort = Object.keys(SORTS).find(each => each === sorted.replace(/^-/, '')) as Sort | undefined;
  if (sort === undefined) throw wrong(`\`sort\` must be one of ${Object.keys(SORTS).join(', ')}.`);
  const page = Number(given.get('page') ?? '1');
  if (!Number.isInteger(page) || page < 1 || page > MAX_PAGE) throw wrong('`page` must be a whole number from 1.');
  const search = (given.get('search') ?? '').trim().toLowerCase();
  if (search.length > MAX_SEARCH) throw wrong(`\`search\` has at most ${MAX_SEARCH} characters.`);
  return { state: known ?? null, search, sort, descending: sorted.startsWith('-'), page };
}

/** @param query null: all branches, in their order */
export function fleetPart(all: readonly BranchStatus[], query: FleetQuery | null): FleetPart {
  const fitting = query === null ? all : all.filter(branch => fits(branch, query)).sort(orderOf(query));
  const size = query === null ? Math.max(1, all.length) : PAGE_SIZE;
  const pages = Math.max(1, Math.ceil(fitting.length / size));
  const page = Math.min(query?.page ?? 1, pages);
  return {
    fleet: { ...summaryOf(all), fitting: fitting.length, page, pages },
    branches: fitting.slice((page - 1) * size, page * size),
  };
}

/** The ids of all branches that fit. */
export function fittingIds(all: readonly BranchStatus[], query: FleetQuery): string[] {
  return all.filter(branch => fits(branch, query)).map(({ branch }) => branch);
}

function summaryOf(all: readonly BranchStatus[]): Omit<FleetSummary, 'fitting' | 'page' | 'pages'> {
  const states = Object.fromEntries(
    BRANCH_STATES.map(state => [state, all.filter(({ states: held }) => held.includes(state)).length]),
  ) as Record<BranchState, number>;
  const through = all.map(({ completeThrough }) => completeThrough).filter(time => time !== null);
  return {
    branches: all.length,
    troubled: all.filter(isTrouble).length,
    states,
    completeThrough: through.sort()[0] ?? null,
    spoolBytes: all.reduce((sum, { report }) => sum + (report?.spoolBytes ?? 0), 0),
    rowsPerSecond: all.reduce((sum, { rowsPerSecond }) => sum + rowsPerSecond, 0),
  };
}

/** The more urgent, the lower. */
function urgency({ state, report }: BranchStatus): number {
  const rank = BRANCH_STATES.indexOf(state);
  const agent = report !== null && (report.error !== null || AGENT_TROUBLE.includes(report.state));
  return agent ? Math.min(rank, MILDEST_TROUBLE + 0.5) : rank;
}

function isTrouble(branch: BranchStatus): boolean {
  return urgency(branch) < MILDEST_TROUBLE + 1;
}

function fits(branch: BranchStatus, { state, search }: FleetQuery): boolean {
  if (state === 'trouble' ? !isTrouble(branch) : state !== null && !branch.states.includes(state)) return false;
  return branch.branch.includes(search);
}

function orderOf({ sort, descending }: FleetQuery): (a: BranchStatus, b: BranchStatus) => number {
  const names = new Intl.Collator('en', { numeric: true });
  const of: (branch: BranchStatus) => string | number | null = SORTS[sort];
  return (a, b) => {
    const [x, y] = [of(a), of(b)];
    const byName = names.compare(a.branch, b.branch);
    if (x === y) return byName;
    if (x === null) return 1;
    if (y === null) return -1;
    const order = typeof x === 'number' && typeof y === 'number' ? x - y : names.compare(String(x), String(y));
    return (descending ? -order : order) || byName;
  };
}
