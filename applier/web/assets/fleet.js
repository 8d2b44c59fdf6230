/**
 * The fleet: the branches in one table that can be searched, filtered by state and sorted, the worst first, a page at a
 * time. The server selects them. What is chosen is in the address (after #), so that a view can be kept and sent.
 */
import { byId, fill, h, pill, setText } from '/assets/elements.js';
import { bytes, count, duration, plural, rate } from '/assets/numbers.js';
import { patch } from '/assets/patch.js';
import { ago, clock, clockTime } from '/assets/times.js';

/** @import { AgentReport } from '../../../shared/protocol.ts' */
/** @import { BranchState } from '../../branches/branch-state.ts' */
/** @import { ApplierStatus, BranchStatus, FleetSummary } from '../status.ts' */
/** @import { Child, Kind } from '/assets/elements.js' */

/**
 * Worst first, as the server has them.
 * @type {Record<BranchState, { kind: Kind, word: string }>}
 */
export const STATES = {
  halted: { kind: 'bad', word: 'halted' },
  'set-aside': { kind: 'bad', word: 'tables set aside' },
  different: { kind: 'bad', word: 'different' },
  incomplete: { kind: 'warn', word: 'incomplete' },
  quarantined: { kind: 'warn', word: 'quarantined' },
  waiting: { kind: 'warn', word: 'waiting' },
  overdue: { kind: 'warn', word: 'overdue' },
  offline: { kind: 'idle', word: 'offline' },
  'never-seen': { kind: 'none', word: 'never seen' },
  behind: { kind: 'busy', word: 'behind' },
  current: { kind: 'good', word: 'current' },
};

/**
 * What an agent reports that needs a person, now or soon.
 * @param {AgentReport | null} report
 */
function agentTrouble(report) {
  return (
    report !== null && (report.error !== null || ['stopped', 'failing', 'full', 'superseded'].includes(report.state))
  );
}

/** @type {{ id: string, title: string, right?: boolean }[]} */
const COLUMNS = [
  { id: 'branch', title: 'Branch' },
  { id: 'state', title: 'State' },
  { id: 'seen', title: 'Last seen' },
  { id: 'complete', title: 'Complete as of' },
  { id: 'backlog', title: 'Backlog', right: true },
  { id: 'rate', title: 'Rate', right: true },
  { id: 'left', title: 'Time left', right: true },
  { id: 'room', title: 'At the branch' },
];

/** `state`: a state, `trouble`, or '' for all. */
const choice = { state: '', search: '', sort: 'state', descending: false, page: 1 };
const search = byId('search', HTMLInputElement);

/** Takes what is chosen from the address. */
export function enterFleet() {
  const given = new URLSearchParams(location.hash.split('?')[1] ?? '');
  const sort = given.get('sort') ?? 'state';
  Object.assign(choice, {
    state: given.get('state') ?? '',
    search: given.get('search') ?? '',
    sort: sort.replace(/^-/, ''),
    descending: sort.startsWith('-'),
    page: Number(given.get('page') ?? 1),
  });
  search.value = choice.search;
}

/** What is chosen, as the server takes it too. */
export function fleetQuery() {
  const given = new URLSearchParams();
  if (choice.state) given.set('state', choice.state);
  if (choice.search) given.set('search', choice.search);
  const sort = `${choice.descending ? '-' : ''}${choice.sort}`;
  if (sort !== 'state') given.set('sort', sort);
  if (choice.page > 1) given.set('page', String(choice.page));
  return given.size === 0 ? '' : `?${given}`;
}

/** @param {Partial<typeof choice>} changes */
function change(changes) {
  Object.assign(choice, { page: 1 }, changes);
  history.replaceState(null, '', `#/branches${fleetQuery()}`);
  document.dispatchEvent(new Event('tributary:changed'));
}

search.addEventListener('input', () => change({ search: search.value }));

function showHead() {
  const cells = COLUMNS.map(({ id, title, right }) => {
    const sorted = choice.sort === id;
    const button = h('button', '', [title, h('span', 'arrow', sorted ? (choice.descending ? '▼' : '▲') : '')]);
    button.type = 'button';
    button.dataset.focus = id;
    button.addEventListener('click', () => change({ sort: id, descending: sorted && !choice.descending }));
    const cell = h('th', `${right ? 'right' : ''} ${sorted ? 'sorted' : ''}`, [button]);
    cell.scope = 'col';
    cell.ariaSort = sorted ? (choice.descending ? 'descending' : 'ascending') : 'none';
    return { id, cell };
  });
  patch(
    byId('fleet-head'),
    cells,
    ({ id }) => id,
    ({ cell }) => cell,
  );
}

/** @param {FleetSummary} summary */
function showChips({ branches, troubled, states }) {
  const chips = [
    { state: '', title: 'All', kind: '', number: branches },
    { state: 'trouble', title: 'Needs a look', kind: troubled > 0 ? 'warn' : '', number: troubled },
    ...Object.entries(STATES).map(([state, { word }]) => ({
      state,
      title: word.charAt(0).toUpperCase() + word.slice(1),
      kind: '',
      number: states[/** @type {BranchState} */ (state)],
    })),
  ];
  patch(
    byId('chips'),
    chips.map(chip => ({ ...chip, pressed: choice.state === chip.state })),
    ({ state }) => state,
    ({ state, title, kind, number, pressed }) => {
      const chip = h('button', `chip ${kind} ${number === 0 ? 'zero' : ''}`, [
        title,
        h('span', 'chip-number', count(number)),
      ]);
      chip.type = 'button';
      chip.dataset.focus = 'chip';
      chip.ariaPressed = String(pressed);
      chip.addEventListener('click', () => change({ state: pressed ? '' : state }));
      return chip;
    },
  );
}

/**
 * Two lines of a cell, the second fainter.
 * @param {Node | string | null} first
 * @param {Node | string | null} [second]
 */
function lines(first, second) {
  const line = h('div', '', [first]);
  return second ? [line, h('div', 'second', [second])] : [line];
}

/** What a cell shows where there is nothing to show; narrow screens leave such cells out. */
const blank = () => [h('div', 'muted blank', '–')];

/**
 * The worst of a branch's states, and the others.
 * @param {Pick<BranchStatus, 'state' | 'states'>} branch
 */
export function statePills({ state, states }) {
  const { kind, word } = STATES[state];
  const others = states.slice(1).map(each => STATES[each].word);
  return lines(pill(kind, word), others.join(', '));
}

/**
 * @param {BranchStatus} branch
 * @param {string} now
 */
function expectedText({ states, expectedAt, overdueAt }, now) {
  if (expectedAt === null || overdueAt === null) return null;
  if (states.includes('overdue')) return `missed ${clock(overdueAt)}`;
  if (Date.parse(expectedAt) > Date.parse(now)) return `expected ${clock(expectedAt)}`;
  return `expected by ${clock(overdueAt)}`;
}

/** @param {BranchStatus} branch */
function backlogCell({ backlogBatches, report }) {
  if (backlogBatches === null) return blank();
  if (backlogBatches === 0) return lines(h('span', 'muted', 'none'));
  return lines(
    plural(backlogBatches, 'batch', 'batches'),
    report !== null && report.spoolBytes > 0 ? bytes(report.spoolBytes) : null,
  );
}

/**
 * What the agent reports about itself or, if the branch is offline, its last report.
 * @param {BranchStatus} branch
 */
function agentCell({ report, expectedAt }) {
  if (report === null) return blank();
  const { snapshot, secondsUntilFull, windows, state } = report;
  const second = [];
  if (expectedAt !== null) second.push(`last said: ${state}`);
  if (snapshot !== null) {
    const left = snapshot.secondsLeft === null ? '' : `, ${duration(snapshot.secondsLeft)} left`;
    second.push(`copying ${snapshot.tablesDone}/${count(snapshot.tables)} tables${left}`);
  }
  if (secondsUntilFull !== null) second.push(`room for ${duration(secondsUntilFull)}`);
  if (windows.length > 0 && second.length === 0) second.push(windows.join(', '));
  const cell = lines(expectedAt === null ? state : h('span', 'muted', 'not connected'), second.join(' · '));
  const last = cell.at(-1);
  if (windows.length > 0 && last) last.title = `Link: ${windows.join(', ')} (${report.timeZone})`;
  return cell;
}

/** @typedef {{ kind: 'bad' | 'warn', title: string, text: string, hint: string }} Trouble */

/**
 * What is wrong with a branch, worst first.
 * @param {BranchStatus} branch
 */
export function troublesOf(branch) {
  const { states, halted, waiting, setAsideTables, stoppedHistories, differentTables } = branch;
  const { quarantined, expectedAt, report } = branch;
  /** @type {Trouble[]} */
  const troubles = [];
  if (halted !== null) troubles.push({ kind: 'bad', title: halted.code, text: halted.reason, hint: halted.hint });
  if (states.includes('set-aside')) {
    const named = report?.setAside ?? [];
    troubles.push({
      kind: 'bad',
      title: 'Set aside',
      text: `${plural(Math.max(setAsideTables, named.length), 'table is', 'tables are')} passed over, and everything else goes on.`,
      hint: named.length > 0 ? named.map(({ reason }) => reason).join(' · ') : 'The branch’s page says why.',
    });
  }
  if (stoppedHistories > 0) {
    troubles.push({
      kind: 'bad',
      title: 'History stopped',
      text: `Rows of ${plural(stoppedHistories, 'table', 'tables')} go on without their history.`,
      hint: 'The branch’s page says why.',
    });
  }
  if (states.includes('different')) {
    troubles.push({
      kind: 'bad',
      title: 'Different',
      text: `A comparison found other rows here than at the branch, in ${plural(differentTables, 'table', 'tables')}.`,
      hint: 'Repair on the branch’s page copies these tables again. When that has ended, compare again.',
    });
  }
  if (states.includes('incomplete')) {
    troubles.push({
      kind: 'warn',
      title: 'Incomplete',
      text: 'Rows may be missing here until a snapshot has ended.',
      hint: 'Wait: the branch copies its tables as soon as it is online.',
    });
  }
  if (states.includes('quarantined')) {
    troubles.push({
      kind: 'warn',
      title: 'Quarantined',
      text: `The head office cannot apply ${plural(quarantined, 'row or table', 'rows or tables')}, and goes on without.`,
      hint: 'The branch’s page lists them with their reasons. Correct these, then copy the tables again.',
    });
  }
  // A fault of a moment ago is not shown: the applier retries.
  if (waiting !== null && states.includes('waiting')) {
    troubles.push({ kind: 'warn', title: waiting.code, text: waiting.reason, hint: waiting.hint });
  }
  if (report !== null && agentTrouble(report)) {
    troubles.push({
      kind: 'warn',
      title: expectedAt === null ? 'The agent says' : 'The agent last said',
      text: report.error ?? `It is ${report.state}.`,
      hint: report.error === null ? 'Look at the page of the agent.' : '',
    });
  }
  return troubles;
}

/**
 * A cell that carries its column's name, for narrow screens, where rows become cards.
 * @param {string} label
 * @param {string} className
 * @param {Child[]} content
 */
function labelled(label, className, content) {
  const cell = h('td', className, content);
  cell.dataset.label = label;
  return cell;
}

/** @param {BranchStatus} branch */
function completeCell({ completeThrough, lagSeconds, allowedLagSeconds }) {
  if (completeThrough === null) return lines(h('span', 'muted', 'not yet'));
  const isBehind = lagSeconds !== null && lagSeconds > 60 + allowedLagSeconds;
  const behind = isBehind ? `${duration(lagSeconds)} behind` : null;
  return lines(clockTime(completeThrough), behind);
}

/** @param {{ branch: BranchStatus, now: string }} item */
function branchGroup({ branch, now }) {
  const troubles = troublesOf(branch);
  const link = h('a', 'branch-name', branch.branch);
  link.href = `#/branch/${encodeURIComponent(branch.branch)}`;
  link.dataset.focus = 'name';
  const name = h('th', 'name', [link]);
  name.scope = 'row';
  const row = h('tr', 'branch', [
    name,
    h('td', 'state', statePills(branch)),
    labelled('Last seen', '', lines(ago(branch.lastSeenAt), expectedText(branch, now))),
    labelled('Complete as of', '', completeCell(branch)),
    labelled('Backlog', 'right', backlogCell(branch)),
    labelled('Rate', 'right', branch.rowsPerSecond < 0.05 ? blank() : lines(rate(branch.rowsPerSecond, 'rows'))),
    labelled('Time left', 'right', branch.secondsLeft === null ? blank() : lines(duration(branch.secondsLeft))),
    labelled('At the branch', 'at-branch', agentCell(branch)),
  ]);
  const reasons = troubles.map(({ kind, title, text, hint }) => {
    const cell = h('td', '', [h('strong', '', `${title}: `), text, hint ? h('div', 'hint', hint) : null]);
    cell.colSpan = COLUMNS.length;
    return h('tr', `reason ${kind}`, [cell]);
  });
  return h('tbody', troubles.length > 0 ? 'group trouble' : 'group', [row, ...reasons]);
}

const fleet = byId('fleet', HTMLTableElement);

// A click anywhere in a branch's rows opens it, unless it ends the selection of text.
fleet.addEventListener('click', ({ target }) => {
  if (!(target instanceof Element) || target.closest('a, button') || getSelection()?.isCollapsed === false) return;
  const link = target.closest('.group')?.querySelector('a');
  if (link) location.hash = link.hash;
});

/** @param {FleetSummary} summary */
function emptyText({ branches }) {
  if (branches > 0) return ['No branch matches.', 'Clear the search, or choose “All”.'];
  return ['No branch yet.', 'Add the first one with: tributary-applier branch add ID --out FILE'];
}

/** @param {FleetSummary} summary */
function summaryText({ branches, fitting, completeThrough, spoolBytes, rowsPerSecond }) {
  const all = plural(branches, 'branch', 'branches');
  return [
    fitting === branches ? all : `${count(fitting)} of ${all}`,
    completeThrough === null ? null : `oldest “complete as of”: ${clock(completeThrough)}`,
    spoolBytes > 0 ? `${bytes(spoolBytes)} on the way` : 'nothing on the way',
    rate(rowsPerSecond, 'rows') ?? 'no rows at the moment',
  ]
    .filter(part => part !== null)
    .join(' · ');
}

const previous = byId('fleet-previous', HTMLButtonElement);
const next = byId('fleet-next', HTMLButtonElement);
previous.addEventListener('click', () => change({ page: choice.page - 1 }));
next.addEventListener('click', () => change({ page: choice.page + 1 }));

/** @param {FleetSummary} summary */
function showPager({ page, pages }) {
  byId('fleet-pager').hidden = pages === 1;
  setText('fleet-page', `page ${count(page)} of ${count(pages)}`);
  previous.disabled = page === 1;
  next.disabled = page === pages;
}

/** @param {ApplierStatus} status */
export function showFleet({ fleet: summary, branches, now }) {
  // There are fewer pages than before.
  if (summary.page < choice.page) choice.page = summary.page;
  showHead();
  showChips(summary);
  showPager(summary);
  setText('fleet-summary', summaryText(summary));
  const empty = byId('fleet-empty');
  empty.hidden = branches.length > 0;
  if (branches.length === 0) {
    const [first = '', second = ''] = emptyText(summary);
    const cell = h('td', 'empty', [h('strong', '', first), h('div', '', second)]);
    cell.colSpan = COLUMNS.length;
    fill(empty, h('tr', '', [cell]));
  }
  patch(
    fleet,
    branches.map(branch => ({ branch, now })),
    ({ branch }) => branch.branch,
    branchGroup,
  );
}
