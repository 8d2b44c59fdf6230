/** The fleet: shows /api/status every three seconds. */
import {
  ago,
  banner,
  bytes,
  count,
  duration,
  fill,
  fullTime,
  getJson,
  h,
  pill,
  plural,
  refresh,
  setPill,
  setText,
} from '/assets/page.js';

const STATES = {
  halted: ['bad', 'halted'],
  offline: ['warn', 'offline'],
  'never-seen': ['', 'never seen'],
  'catching-up': ['busy', 'catching up'],
  current: ['good', 'current'],
};
/** What needs a person comes first. */
const ORDER = Object.keys(STATES);
const COLUMNS = 7;

function dependency(id, { name, up }) {
  setPill(id, up ? 'good' : 'bad', name);
}

function showErrors(status) {
  const failing = [status.broker, status.target].filter(({ error }) => error !== null);
  fill(
    'errors',
    ...failing.map(({ name, error }) =>
      banner('', `${name}: ${error.code}`, error.message, `What to do: ${error.hint}`),
    ),
  );
}

function tile(label, value, kind) {
  return h('div', `card ${value === 0 ? 'zero' : kind}`, [h('h2', '', label), h('p', 'number', count(value))]);
}

function showTiles(branches) {
  const tally = state => branches.filter(branch => branch.state === state).length;
  fill(
    'tiles',
    tile('Current', tally('current'), ''),
    tile('Catching up', tally('catching-up'), ''),
    tile('Offline', tally('offline'), 'warn'),
    tile('Halted', tally('halted'), 'bad'),
    tile('Never seen', tally('never-seen'), ''),
  );
}

function backlog({ backlogBatches, report }) {
  if (backlogBatches === null) return [h('span', 'muted', '–')];
  const size = report !== null && report.spoolBytes > 0 ? h('div', 'muted small', bytes(report.spoolBytes)) : null;
  return [h('span', '', backlogBatches === 0 ? 'none' : plural(backlogBatches, 'batch', 'batches')), size];
}

function complete({ completeThrough, lagSeconds }) {
  if (completeThrough === null) return [h('span', 'muted', 'not yet')];
  const lag = lagSeconds === null ? null : h('div', 'muted small', `${duration(lagSeconds)} behind`);
  return [h('span', 'nowrap', fullTime(completeThrough)), lagSeconds > 60 ? lag : null];
}

function atBranch({ report }) {
  if (report === null) return [h('span', 'muted', '–')];
  const lines = [h('span', '', report.state)];
  if (report.snapshot !== null) {
    const { tablesDone, tables, rows } = report.snapshot;
    lines.push(
      h('div', 'muted small', `copying ${tablesDone} of ${plural(tables, 'table', 'tables')}, ${count(rows)} rows`),
    );
  }
  if (report.secondsUntilFull !== null) {
    lines.push(h('div', 'muted small', `room for ${duration(report.secondsUntilFull)}`));
  }
  if (report.windows.length > 0) lines.push(h('div', 'muted small', report.windows.join(', ')));
  return lines;
}

function troubles(branch, now) {
  const lines = [];
  const { halted, incompleteSince, report } = branch;
  if (halted !== null) {
    lines.push(reason('', `${halted.code}: ${halted.reason}`, halted.hint));
  }
  if (incompleteSince !== null) {
    const text = 'Rows of it may be missing here since ';
    lines.push(
      reason(
        'soft',
        text,
        `A snapshot mends that: tributary-applier branch snapshot ${branch.branch}`,
        ago(incompleteSince, now),
      ),
    );
  }
  if (report?.error) lines.push(reason('soft', `The branch says: ${report.error}`, null));
  return lines;
}

function reason(kind, text, cure, more) {
  const cell = h('td', 'small', [h('span', '', text), more ?? null, cure ? h('div', 'cure', cure) : null]);
  cell.colSpan = COLUMNS;
  return h('tr', `reason ${kind}`, [cell]);
}

/** A cell that carries its column's name along, for narrow screens, where rows become cards. */
function labelled(label, className, content) {
  const cell = h('td', className, content);
  cell.dataset.label = label;
  return cell;
}

function showBranch(branch, now) {
  const [kind, word] = STATES[branch.state] ?? ['', branch.state];
  const below = troubles(branch, now);
  const row = h('tr', below.length > 0 ? 'branch trouble' : 'branch', [
    h('td', 'name', [h('span', 'branch-name', branch.branch)]),
    h('td', '', [pill(kind, word)]),
    labelled('Last seen', '', [ago(branch.lastSeenAt, now)]),
    labelled('Complete as of', '', complete(branch)),
    labelled('Backlog', 'right', backlog(branch)),
    labelled('Rows written', 'right', count(branch.rowsWritten)),
    labelled('At the branch', '', atBranch(branch)),
  ]);
  below.at(-1)?.classList.add('last');
  return [row, ...below];
}

function showBranches({ branches, now }) {
  const sorted = [...branches].sort(
    (a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state) || a.branch.localeCompare(b.branch),
  );
  setText('branches-note', plural(branches.length, 'branch', 'branches'));
  if (sorted.length > 0) {
    fill('branches', ...sorted.flatMap(branch => showBranch(branch, now)));
    return;
  }
  const cell = h('td', 'empty', 'No branch yet. Add one with: tributary-applier branch add ID --out FILE');
  cell.colSpan = COLUMNS;
  fill('branches', h('tr', '', [cell]));
}

refresh(3000, async () => {
  const status = await getJson('/api/status');
  dependency('broker', status.broker);
  dependency('target', status.target);
  showErrors(status);
  showTiles(status.branches);
  showBranches(status);
});
