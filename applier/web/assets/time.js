/**
 * Figures over time of one branch or of the fleet: five charts and the table of their values. Branch and range are in
 * the address (after #), so that a view can be kept and sent.
 */
import { banner, byId, fill, h } from '/assets/elements.js';
import { offerBranches } from '/assets/events.js';
import { LANGUAGE } from '/assets/language.js';
import { bytes, count, duration } from '/assets/numbers.js';
import { getJson, messageOf } from '/assets/server.js';

/** @import { Range, Series } from '../series.ts' */
/** @import { Chart, Figure } from '/assets/chart.js' */

const EVERY_MS = 60_000;
/** @type {[range: Range, label: string][]} */
const RANGES = [
  ['24h', '24 hours'],
  ['7d', '7 days'],
  ['30d', '30 days'],
];
const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
/** Marks of an axis of durations, in seconds. */
const DURATIONS = [
  1,
  5,
  15,
  30,
  MINUTE,
  5 * MINUTE,
  15 * MINUTE,
  30 * MINUTE,
  HOUR,
  2 * HOUR,
  3 * HOUR,
  6 * HOUR,
  12 * HOUR,
].concat([1, 2, 5, 10, 20, 50, 100, 200, 500].map(days => days * DAY));
/** Marks of an axis of whole numbers: 1, 2, 5, 10 and so on. */
const COUNTS = Array.from({ length: 14 }, (_, power) => [1, 2, 5].map(first => first * 10 ** power)).flat();
/** Marks of an axis of bytes: powers of two. */
const BYTES = Array.from({ length: 50 }, (_, power) => 2 ** power);

const branchInput = byId('time-branch', HTMLInputElement);
const values = byId('time-values', HTMLDetailsElement);
/** @type {{ branch: string, range: Range }} */
const choice = { branch: '', range: '24h' };
/** @type {Chart[]} */
let charts = [];
/** @type {Series | null} */
let shown = null;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;
let latest = 0;
let active = false;

export function enterTime() {
  active = true;
  const given = new URLSearchParams(location.hash.split('?')[1] ?? '');
  choice.branch = given.get('branch') ?? '';
  choice.range = RANGES.find(([range]) => range === given.get('range'))?.[0] ?? '24h';
  branchInput.value = choice.branch;
  offerBranches().catch(() => undefined);
  void show();
}

export function leaveTime() {
  active = false;
  clearTimeout(timer);
  latest += 1;
}

/** @param {Partial<typeof choice>} changes */
function change(changes) {
  Object.assign(choice, changes);
  const given = new URLSearchParams();
  if (choice.branch) given.set('branch', choice.branch);
  if (choice.range !== '24h') given.set('range', choice.range);
  history.replaceState(null, '', given.size === 0 ? '#/time' : `#/time?${given}`);
  void show();
}

branchInput.addEventListener('change', () => change({ branch: branchInput.value.trim().toLowerCase() }));
byId('time-form').addEventListener('submit', event => event.preventDefault());
values.addEventListener('toggle', () => showValues());
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => charts.forEach(chart => chart.redraw()));

function showRanges() {
  const group = byId('time-range');
  if (group.children.length === 0) {
    fill(
      group,
      ...RANGES.map(([range, label]) => {
        const chip = h('button', 'chip', label);
        chip.type = 'button';
        chip.dataset.range = range;
        chip.addEventListener('click', () => change({ range }));
        return chip;
      }),
    );
  }
  for (const chip of group.children) chip.ariaPressed = String(chip.getAttribute('data-range') === choice.range);
}

async function show() {
  clearTimeout(timer);
  latest += 1;
  const mine = latest;
  showRanges();
  const given = new URLSearchParams({ range: choice.range });
  if (choice.branch) given.set('branch', choice.branch);
  try {
    const series = /** @type {Series} */ (await getJson(`/api/series?${given}`));
    // Loaded with the first look only: other views need no charts.
    const { Chart } = await import('/assets/chart.js');
    if (mine !== latest) return;
    fill(byId('time-error'));
    showSeries(series, Chart);
  } catch (error) {
    if (mine !== latest) return;
    fill(byId('time-error'), banner('bad', 'These figures cannot be read', messageOf(error)));
  }
  if (active) timer = setTimeout(() => void show(), EVERY_MS);
}

/**
 * @param {Series} series
 * @param {typeof Chart} Kind
 */
function showSeries(series, Kind) {
  shown = series;
  const isEmpty = series.at.length === 0;
  const empty = byId('time-empty');
  empty.hidden = !isEmpty;
  empty.textContent = choice.branch
    ? `There are no figures of ${choice.branch} in this range. The first come within five minutes.`
    : 'There are no figures in this range. The first come within five minutes.';
  byId('charts').hidden = isEmpty;
  values.hidden = isEmpty;
  if (isEmpty) return;
  const figures = figuresOf(series);
  if (charts.length !== figures.length) {
    charts.forEach(chart => chart.close());
    charts = figures.map(() => new Kind());
    fill(byId('charts'), ...charts.map(({ element }) => element));
  }
  figures.forEach((figure, i) => charts[i]?.show(figure, series));
  showValues();
}

/**
 * @param {Series} series
 * @returns {Figure[]}
 */
function figuresOf({ branch, span, lag, medianLag, backlog, online, rows, bytes: received }) {
  const each = `each ${duration(span)}`;
  const isFleet = branch === null;
  return [
    {
      title: 'Lag',
      note: 'how far “complete as of” is behind',
      style: 'line',
      lines: [
        {
          label: isFleet ? 'Worst branch' : 'Lag',
          colour: isFleet ? '--warn' : '--accent',
          fill: !isFleet,
          values: lag,
        },
        ...(medianLag === null
          ? []
          : [{ label: 'Median', colour: /** @type {const} */ ('--accent'), fill: true, values: medianLag }]),
      ],
      format: lagText,
      steps: DURATIONS,
    },
    {
      title: 'Backlog',
      note: 'batches that are not applied',
      style: 'line',
      lines: [{ label: 'Batches', colour: '--accent', fill: true, values: backlog }],
      format: count,
      steps: COUNTS,
    },
    {
      title: 'Online',
      note: isFleet ? 'average of all branches' : 'part of the time',
      style: 'line',
      lines: [{ label: 'Online', colour: '--accent', fill: true, values: online }],
      format: shareText,
      steps: [0.25, 0.5],
      most: 1,
    },
    {
      title: 'Rows',
      note: `written and deleted, ${each}`,
      style: 'bars',
      lines: [{ label: 'Rows', colour: '--accent', fill: true, values: rows }],
      format: count,
      steps: COUNTS,
    },
    {
      title: 'Bytes',
      note: `received, ${each}`,
      style: 'bars',
      lines: [{ label: 'Bytes', colour: '--accent', fill: true, values: received }],
      format: bytes,
      steps: BYTES,
    },
  ];
}

/** @param {number} seconds */
function lagText(seconds) {
  return seconds === 0 ? '0 s' : duration(seconds);
}

/** @param {number} share 0 to 1 */
function shareText(share) {
  return `${Math.round(share * 1000) / 10} %`;
}

/** Fills the table of values while it is open: the newest first. */
function showValues() {
  if (!values.open || shown === null) return;
  const series = shown;
  const figures = figuresOf(series);
  const lines = figures.flatMap(({ lines: of, format, title }) => of.map(line => ({ ...line, format, title })));
  const heads = [
    'Until',
    ...lines.map(({ title, label }) => (title === label ? title : `${title}: ${label.toLowerCase()}`)),
  ];
  fill(
    byId('values-head'),
    h(
      'tr',
      '',
      heads.map((text, i) => {
        const cell = h('th', i === 0 ? '' : 'right', text);
        cell.scope = 'col';
        return cell;
      }),
    ),
  );
  const rows = series.at.map((at, i) =>
    h('tr', '', [
      h('td', 'nowrap', whole.format(new Date(at * 1000))),
      ...lines.map(({ values: of, format }) => {
        const value = of[i] ?? null;
        return h('td', 'right', value === null ? '–' : format(value));
      }),
    ]),
  );
  fill(byId('values-rows'), ...rows.reverse());
}

const whole = new Intl.DateTimeFormat(LANGUAGE, { dateStyle: 'medium', timeStyle: 'short' });
