/** The fleet: every branch in one table that can be searched, narrowed by state and sorted; trouble comes first. */
import {
  ago,
  bytes,
  clock,
  clockTime,
  count,
  duration,
  fill,
  h,
  patch,
  pill,
  plural,
  rate,
  setText,
} from '/assets/page.js';

export const STATES = {
  halted: { kind: 'bad', word: 'halted', chip: 'Halted' },
  waiting: { kind: 'warn', word: 'waiting', chip: 'Waiting' },
  overdue: { kind: 'warn', word: 'overdue', chip: 'Overdue' },
  'catching-up': { kind: 'busy', word: 'catching up', chip: 'Catching up' },
  current: { kind: 'good', word: 'current', chip: 'Current' },
  offline: { kind: 'idle', word: 'offline', chip: 'Offline' },
  'never-seen': { kind: 'none', word: 'never seen', chip: 'Never seen' },
};

/** What an agent says of itself that needs a person, or soon will. */
export function agentTrouble(report) {
  return (
    report !== null && (report.error !== null || ['stopped', 'failing', 'full', 'superseded'].includes(report.state))
  );
}

/** The more urgent, the lower. */
function urgency(branch) {
  if (branch.state === 'halted') return 0;
  if (branch.state === 'waiting') return 1;
  if (branch.state === 'overdue') return 2;
  if (agentTrouble(branch.report)) return 3;
  if (branch.incompleteSince !== null) return 4;
  return { 'catching-up': 5, current: 6, offline: 7, 'never-seen': 8 }[branch.state] ?? 9;
}

const isTrouble = branch => urgency(branch) < 5;

/** `of`: what is sorted by; unknown values come last either way. */
const COLUMNS = [
  { id: 'branch', title: 'Branch', of: ({ branch }) => branch },
  { id: 'state', title: 'State', of: urgency },
  { id: 'seen', title: 'Last seen', of: ({ lastSeenAt }) => lastSeenAt },
  { id: 'complete', title: 'Complete as of', of: ({ completeThrough }) => completeThrough },
  { id: 'backlog', title: 'Backlog', right: true, of: ({ backlogBatches }) => backlogBatches },
  { id: 'rate', title: 'Rate', right: true, of: ({ rowsPerSecond }) => rowsPerSecond },
  { id: 'left', title: 'Time left', right: true, of: ({ secondsLeft }) => secondsLeft },
  { id: 'room', title: 'At the branch', of: ({ report }) => report?.secondsUntilFull ?? null },
];

const choice = { state: '', search: '', sort: 'state', descending: false };
let latest = null;

function change(changes) {
  Object.assign(choice, changes);
  if (latest !== null) showFleet(latest);
}

document.getElementById('search').addEventListener('input', event => change({ search: event.target.value }));

function showHead() {
  const cells = COLUMNS.map(({ id, title, right }) => {
    const sorted = choice.sort === id;
    const button = h('button', '', [
      document.createTextNode(title),
      h('span', 'arrow', sorted ? (choice.descending ? '▼' : '▲') : ''),
    ]);
    button.type = 'button';
    button.dataset.focus = id;
    button.addEventListener('click', () => change({ sort: id, descending: sorted ? !choice.descending : false }));
    const cell = h('th', `${right ? 'right' : ''} ${sorted ? 'sorted' : ''}`, [button]);
    cell.scope = 'col';
    cell.ariaSort = sorted ? (choice.descending ? 'descending' : 'ascending') : 'none';
    return { id, cell };
  });
  patch(
    document.getElementById('fleet-head'),
    cells,
    ({ id }) => id,
    ({ cell }) => cell,
  );
}

function showChips(branches) {
  const tally = new Map(Object.keys(STATES).map(state => [state, 0]));
  for (const { state } of branches) tally.set(state, (tally.get(state) ?? 0) + 1);
  const troubled = branches.filter(isTrouble).length;
  const chips = [
    { state: '', title: 'All', kind: '', number: branches.length },
    { state: 'trouble', title: 'Needs a look', kind: troubled > 0 ? 'warn' : '', number: troubled },
    ...[...tally].map(([state, number]) => ({ state, title: STATES[state]?.chip ?? state, kind: '', number })),
  ];
  patch(
    document.getElementById('chips'),
    chips.map(chip => ({ ...chip, pressed: choice.state === chip.state })),
    ({ state }) => state,
    ({ state, title, kind, number, pressed }) => {
      const chip = h('button', `chip ${kind} ${number === 0 ? 'zero' : ''}`, [
        document.createTextNode(title),
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

/** Two lines of a cell: the second fainter. */
function lines(first, second) {
  const line = h('div', '', first instanceof Node ? [first] : first);
  return second === null || second === undefined || second === ''
    ? [line]
    : [line, h('div', 'second', second instanceof Node ? [second] : second)];
}

function expectedText({ state, expectedAt, overdueAt }, now) {
  if (expectedAt === null) return null;
  if (state === 'overdue') return `missed ${clock(overdueAt)}`;
  if (Date.parse(expectedAt) > Date.parse(now)) return `expected ${clock(expectedAt)}`;
  return `expected by ${clock(overdueAt)}`;
}

function backlogCell({ backlogBatches, report }) {
  if (backlogBatches === null) return blank();
  if (backlogBatches === 0) return lines(h('span', 'muted', 'none'));
  return lines(
    plural(backlogBatches, 'batch', 'batches'),
    report !== null && report.spoolBytes > 0 ? bytes(report.spoolBytes) : null,
  );
}

function atBranch({ report }) {
  if (report === null) return blank();
  const { snapshot, secondsUntilFull, windows } = report;
  const second = [];
  if (snapshot !== null) {
    const left = snapshot.secondsLeft === null ? '' : `, ${duration(snapshot.secondsLeft)} left`;
    second.push(`copying ${snapshot.tablesDone}/${count(snapshot.tables)} tables${left}`);
  }
  if (secondsUntilFull !== null) second.push(`room for ${duration(secondsUntilFull)}`);
  if (windows.length > 0 && second.length === 0) second.push(windows.join(', '));
  const cell = lines(report.state, second.join(' · '));
  if (windows.length > 0) cell.at(-1).title = `Link: ${windows.join(', ')} (${report.timeZone ?? 'time zone unknown'})`;
  return cell;
}

/** What is wrong with it, most urgent first: pairs of kind, text and cure. */
export function troublesOf({ state, halted, waiting, incompleteSince, report }) {
  const troubles = [];
  if (halted !== null)
    troubles.push({ kind: 'bad', title: halted.code, text: halted.reason, cure: halted.hint, since: halted.since });
  // A fault of a moment ago is none to be told of: it is tried again.
  if (waiting !== null && state === 'waiting')
    troubles.push({ kind: 'warn', title: waiting.code, text: waiting.reason, cure: waiting.hint, since: waiting.since });
  if (report?.error)
    troubles.push({ kind: 'warn', title: 'The branch says', text: report.error, cure: '', since: null });
  else if (agentTrouble(report)) {
    troubles.push({
      kind: 'warn',
      title: 'The branch says',
      text: `it is ${report.state}`,
      cure: 'Look at its own page.',
      since: null,
    });
  }
  if (incompleteSince !== null) {
    const text = 'rows of it may be missing here: something was left out or passed over';
    troubles.push({
      kind: 'warn',
      title: 'Incomplete',
      text,
      cure: 'A snapshot mends that once the branch is online.',
      since: incompleteSince,
    });
  }
  return troubles;
}

/** What a cell shows where there is nothing to show; narrow screens leave such cells out. */
const blank = () => [h('div', 'muted blank', '–')];

/** A cell that carries its column's name along, for narrow screens, where rows become cards. */
function labelled(label, className, content) {
  const cell = h('td', className, content);
  cell.dataset.label = label;
  return cell;
}

function completeCell({ completeThrough, lagSeconds }) {
  if (completeThrough === null) return lines(h('span', 'muted', 'not yet'));
  return lines(clockTime(completeThrough), lagSeconds > 60 ? `${duration(lagSeconds)} behind` : null);
}

export function branchLink(id) {
  const link = h('a', 'branch-name', id);
  link.href = `#/branch/${encodeURIComponent(id)}`;
  link.dataset.focus = 'name';
  return link;
}

function branchGroup({ branch, now }) {
  const { kind, word } = STATES[branch.state] ?? { kind: 'none', word: branch.state };
  const troubles = troublesOf(branch);
  const name = h('th', 'name', [branchLink(branch.branch)]);
  name.scope = 'row';
  const row = h('tr', 'branch', [
    name,
    h('td', 'state', [pill(kind, word)]),
    labelled('Last seen', '', lines(ago(branch.lastSeenAt), expectedText(branch, now))),
    labelled('Complete as of', '', completeCell(branch)),
    labelled('Backlog', 'right', backlogCell(branch)),
    labelled('Rate', 'right', branch.rowsPerSecond < 0.05 ? blank() : lines(rate(branch.rowsPerSecond, 'rows'))),
    labelled('Time left', 'right', branch.secondsLeft === null ? blank() : lines(duration(branch.secondsLeft))),
    labelled('At the branch', 'at-branch', atBranch(branch)),
  ]);
  const reasons = troubles.map(({ kind: tone, title, text, cure }) => {
    const cell = h('td', '', [
      h('strong', '', `${title}: `),
      h('span', '', text),
      cure ? h('div', 'cure', cure) : null,
    ]);
    cell.colSpan = COLUMNS.length;
    return h('tr', `reason ${tone}`, [cell]);
  });
  return h('tbody', troubles.length > 0 ? 'group trouble' : 'group', [row, ...reasons]);
}

function compare(a, b) {
  const column = COLUMNS.find(({ id }) => id === choice.sort) ?? COLUMNS[1];
  const [x, y] = [column.of(a), column.of(b)];
  const byName = a.branch.localeCompare(b.branch, 'en', { numeric: true });
  if (x === y) return byName;
  if (x === null) return 1;
  if (y === null) return -1;
  const order = typeof x === 'string' ? x.localeCompare(y, 'en', { numeric: true }) : x - y;
  return (choice.descending ? -order : order) || byName;
}

function isShown(branch) {
  const { state, search } = choice;
  if (state === 'trouble' ? !isTrouble(branch) : state !== '' && branch.state !== state) return false;
  return branch.branch.includes(search.trim().toLowerCase());
}

function emptyText({ branches }) {
  if (branches.length > 0) return ['No branch fits.', 'Clear the search, or choose “All”.'];
  return ['No branch yet.', 'Add the first one with: tributary-applier branch add ID --out FILE'];
}

export function showFleet(status) {
  latest = status;
  const { branches, now } = status;
  const shown = branches.filter(isShown).sort(compare);
  showHead();
  showChips(branches);
  const waiting = branches.reduce((sum, { report }) => sum + (report?.spoolBytes ?? 0), 0);
  const speed = rate(
    branches.reduce((sum, { rowsPerSecond }) => sum + rowsPerSecond, 0),
    'rows',
  );
  setText(
    'fleet-summary',
    [
      shown.length === branches.length
        ? plural(branches.length, 'branch', 'branches')
        : `${count(shown.length)} of ${plural(branches.length, 'branch', 'branches')}`,
      waiting > 0 ? `${bytes(waiting)} on their way` : 'nothing on its way',
      speed === null ? 'no rows just now' : `${speed} written`,
    ].join(' · '),
  );
  const table = document.querySelector('table.fleet');
  const empty = document.getElementById('fleet-empty');
  empty.hidden = shown.length > 0;
  if (shown.length === 0) {
    const [first, second] = emptyText(status);
    const cell = h('td', 'empty', [h('strong', '', first), h('div', '', second)]);
    cell.colSpan = COLUMNS.length;
    fill(empty, h('tr', '', [cell]));
  }
  patch(
    table,
    shown.map(branch => ({ branch, now })),
    ({ branch }) => branch.branch,
    branchGroup,
  );
}
