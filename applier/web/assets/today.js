/**
 * Today: which branches are complete to the last closing time, which are not and until when they are expected, how the
 * day went, and what needs a person.
 */
import { byId, fill, h, icon, pill } from '/assets/elements.js';
import { STATES } from '/assets/fleet.js';
import { LANGUAGE } from '/assets/language.js';
import { count } from '/assets/numbers.js';
import { patch } from '/assets/patch.js';
import { TEXTS } from '/assets/texts.js';
import { clock, clockTime } from '/assets/times.js';

/** @import { BranchState } from '../../branches/branch-state.ts' */
/** @import { Chart } from '/assets/chart.js' */
/** @import { MissingBranch, Need, Today } from '../today.ts' */

const T = TEXTS.today;
/** Where a person acts who must act on something of many branches. */
const RUNBOOKS = { database: '/runbook/TributaryDatabaseDown', broker: '/runbook/TributaryBrokerDown' };
/** Less is no change worth a word. */
const SAME = 0.005;

const view = byId('view-today');
const top = byId('today-top');
const lists = byId('today-lists');
const chartPlace = byId('today-chart');
/** @type {Chart | null} */
let chart = null;
/** The chart is drawn anew only when an hour has passed. */
let drawn = '';

matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => chart?.redraw());

/** @param {Today} today */
export async function showToday(today) {
  view.classList.toggle('no-branches', today.branches === 0);
  patch(
    top,
    [
      { key: 'complete', make: () => completeCard(today) },
      { key: 'received', make: () => receivedCard(today) },
    ],
    ({ key }) => key,
    ({ make }) => make(),
  );
  patch(
    lists,
    [
      { key: 'needs', make: () => needsPart(today) },
      { key: 'missing', make: () => missingPart(today) },
    ],
    ({ key }) => key,
    ({ make }) => make(),
  );
  await showChart(today);
}

/** @param {Today} today */
function completeCard({ complete, branches, closing, now }) {
  if (branches === 0) {
    return h('section', 'card today-complete', [
      h('h2', '', T.complete),
      h('p', 'number', T.noBranch),
      h('p', 'muted', T.addBranch),
    ]);
  }
  const isAll = complete === branches;
  const bar = h('progress', 'bar');
  bar.max = branches;
  bar.value = complete;
  bar.ariaLabel = T.complete;
  const day = dayWord(closing.at, now, closing.timeZone, closing.time);
  const moment = new Intl.DateTimeFormat(LANGUAGE, {
    weekday: 'long',
    day: 'numeric',
    month: 'long',
    hour: '2-digit',
    minute: '2-digit',
    timeZone: closing.timeZone,
  }).format(new Date(closing.at));
  return h('section', `card today-complete ${isAll ? 'good' : 'warn'}`, [
    h('h2', '', T.complete),
    h('p', 'number', [icon(isAll ? 'good' : 'warn'), T.number(complete, branches)]),
    h('p', 'today-sentence', T.closing(day, closing.time)),
    bar,
    h('p', 'muted small', T.closingAt(moment, closing.timeZone)),
  ]);
}

/**
 * `today`, `yesterday`: of the closing time by the clock of its zone. Midnight ends the day before.
 * @param {string} at
 * @param {string} now
 * @param {string} timeZone
 * @param {string} time
 */
function dayWord(at, now, timeZone, time) {
  const date = new Intl.DateTimeFormat('en-CA', { timeZone });
  const closed = date.format(new Date(Date.parse(at) - (time === '24:00' ? 60_000 : 0)));
  return closed === date.format(new Date(now)) ? T.today : T.yesterday;
}

/** @param {Today} today */
function receivedCard({ rows }) {
  const { total, change } = rows;
  const share = new Intl.NumberFormat(LANGUAGE, { style: 'percent', maximumFractionDigits: 0 });
  const text =
    change === null
      ? T.noComparison
      : Math.abs(change) < SAME
        ? T.same
        : change > 0
          ? T.more(share.format(change))
          : T.fewer(share.format(-change));
  return h('section', 'card', [
    h('h2', '', T.received),
    h('p', 'number', count(total)),
    h('p', 'today-sentence', T.lastDay),
    h('p', change === null ? 'muted' : '', text),
  ]);
}

/** @param {Today} today */
function needsPart({ needs, moreNeeds }) {
  const items = needs.map(need => needCard(need));
  const more = h('a', '', T.moreNeeds(moreNeeds));
  more.href = '#/branches?state=trouble';
  more.dataset.focus = 'more-needs';
  return h('section', 'today-part', [
    h('h2', 'today-title', T.needs),
    needs.length === 0 ? h('p', 'card today-well', [icon('good'), T.nothing]) : h('ul', 'needs', items),
    moreNeeds > 0 ? h('p', 'more', [more]) : null,
  ]);
}

/** @param {Need} need */
function needCard({ kind, code, branches, named, reason, hint }) {
  const { title, text } = T.needKinds[kind];
  const isBad = ['database', 'broker', 'halted', 'set-aside', 'different'].includes(kind);
  const action = h('a', 'action', actionText(kind, branches, named));
  action.href = actionAddress(kind, branches, named);
  action.dataset.focus = `${kind}-${code ?? ''}`;
  return h('li', `card need ${isBad ? 'bad' : 'warn'}`, [
    h('h3', '', [icon(isBad ? 'bad' : 'warn'), title(branches)]),
    named.length > 0 ? h('p', 'need-branches', T.named(named, branches - named.length)) : null,
    h('p', 'need-reason', [code === null || code === 'error' ? null : h('code', '', code), reason]),
    h('p', 'hint', hint || text),
    h('p', 'need-action', [action]),
  ]);
}

/**
 * @param {Need['kind']} kind
 * @param {number} branches
 * @param {readonly string[]} named
 */
function actionText(kind, branches, named) {
  if (kind === 'database' || kind === 'broker') return T.whatToDo;
  return branches === 1 ? T.open(named[0] ?? '') : T.showThem;
}

/**
 * @param {Need['kind']} kind
 * @param {number} branches
 * @param {readonly string[]} named
 */
function actionAddress(kind, branches, named) {
  if (kind === 'database' || kind === 'broker') return RUNBOOKS[kind];
  if (branches === 1) return `#/branch/${encodeURIComponent(named[0] ?? '')}`;
  return `#/branches?state=${kind === 'agent' ? 'trouble' : kind}`;
}

/** @param {Today} today */
function missingPart({ missing, branches, complete }) {
  const left = branches - complete - missing.length;
  const all = h('a', '', T.moreMissing(left));
  all.href = '#/branches?sort=complete';
  all.dataset.focus = 'more-missing';
  const heads = [T.heads.branch, T.heads.why, T.heads.complete, T.heads.expected].map(text => {
    const cell = h('th', '', text);
    cell.scope = 'col';
    return cell;
  });
  if (branches === 0) return h('section', 'today-part');
  const table = h('table', 'missing', [
    h('thead', '', [h('tr', '', heads)]),
    h(
      'tbody',
      '',
      missing.map(branch => missingRow(branch)),
    ),
  ]);
  return h('section', 'today-part', [
    h('h2', 'today-title', T.missing),
    missing.length === 0 ? h('p', 'card today-well', [icon('good'), T.allComplete]) : h('div', 'sheet', [table]),
    left > 0 ? h('p', 'more', [all]) : null,
  ]);
}

/** @param {MissingBranch} branch */
function missingRow(branch) {
  const { kind, word } = STATES[branch.why];
  const link = h('a', 'branch-name', branch.branch);
  link.href = `#/branch/${encodeURIComponent(branch.branch)}`;
  link.dataset.focus = branch.branch;
  const name = h('th', 'name', [link]);
  name.scope = 'row';
  const unknown = h('span', 'muted', branch.why === 'never-seen' ? T.never : T.notKnown);
  const complete = branch.completeThrough === null ? unknown : clockTime(branch.completeThrough);
  return h('tr', '', [
    name,
    h('td', 'why', [pill(kind, word)]),
    labelled(T.heads.complete, complete),
    labelled(T.heads.expected, expectedText(branch)),
  ]);
}

/**
 * A cell that carries its column's name, for narrow screens.
 * @param {string} label
 * @param {string | Node} content
 */
function labelled(label, content) {
  const cell = h('td', '', [h('span', '', [content])]);
  cell.dataset.label = label;
  return cell;
}

/** @param {MissingBranch} branch */
function expectedText({ expected, why }) {
  if (expected !== null) return T[expected.by](clock(expected.at));
  return h('span', 'muted', /** @type {Partial<Record<BranchState, string>>} */ (T.after)[why] ?? T.notKnown);
}

/** @param {Today} today */
async function showChart({ rows, branches }) {
  const shown = JSON.stringify(rows);
  chartPlace.hidden = branches === 0;
  if (shown === drawn || branches === 0) return;
  // Loaded with the first look only: other views need no charts.
  const { Chart: Kind } = await import('/assets/chart.js');
  drawn = shown;
  if (chart === null) {
    chart = new Kind();
    fill(chartPlace, chart.element);
  }
  const [first = 0, last = 1] = [rows.at[0], rows.at.at(-1)];
  chart.show(
    {
      title: T.byHour,
      note: T.byHourNote,
      style: 'bars',
      lines: [
        { label: T.thisWeek, colour: '--accent', fill: true, values: rows.rows },
        { label: T.weekBefore, colour: '--warn', fill: false, values: rows.before, style: 'line' },
      ],
      format: value => count(Math.round(value)),
      below: '',
    },
    { at: rows.at, from: first - 3_600, to: last, label: T.hourUntil },
  );
}
