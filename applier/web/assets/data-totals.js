/** Totals of what is chosen in a table, and groups of it: a chart over time, or bars beside each value. */
import { byId, fill, h, setOptions } from '/assets/elements.js';
import { LANGUAGE } from '/assets/language.js';
import { count } from '/assets/numbers.js';
import { getJson } from '/assets/server.js';
import { TEXTS } from '/assets/texts.js';

/** @import { ColumnSummary } from '../columns.ts' */
/** @import { Group, Groups, MeasureKind, Unit } from '../group-query.ts' */
/** @import { PeriodSaid } from '../selection.ts' */
/** @import { Chart } from '/assets/chart.js' */
/** @import { Filter, View } from '/assets/data.js' */

const T = TEXTS.data;
const DAY_S = 86_400;
/** The total alone. */
const ALL = 'all';
/** More bars are not told apart. */
const MAX_BARS = 400;

const bySelect = byId('group-by', HTMLSelectElement);
const measureSelect = byId('measure', HTMLSelectElement);
/** @type {(changes: Partial<View>) => void} */
let change = () => undefined;
/** @type {(filter: Filter) => void} */
let showRowsOf = () => undefined;
/** @type {Chart | null} */
let chart = null;
/** Withdraws the question that was asked last. */
let asked = new AbortController();

/** Something else is chosen: the server need not count any more. */
export function withdrawTotals() {
  asked.abort();
}

/** @param {{ change: typeof change, showRows: typeof showRowsOf }} listeners */
export function listenToTotals(listeners) {
  change = listeners.change;
  showRowsOf = listeners.showRows;
}

bySelect.addEventListener('change', () => change({ by: bySelect.value }));
measureSelect.addEventListener('change', () => change({ measure: measureSelect.value }));
byId('totals-form').addEventListener('submit', event => event.preventDefault());
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => chart?.redraw());

/**
 * @param {View} view
 * @param {readonly ColumnSummary[]} columns
 * @param {URLSearchParams} selection
 * @param {() => boolean} isLatest
 * @returns {Promise<PeriodSaid | null>} what the period has meant
 * @throws {Error} what the server refuses
 */
export async function showTotals({ table, by, measure }, columns, selection, isLatest) {
  asked = new AbortController();
  showChoices(columns, by, measure);
  if (bySelect.value !== ALL) selection.set('by', bySelect.value);
  selection.set('measure', measureSelect.value);
  const waiting = setTimeout(() => fill(byId('totals'), h('p', 'muted', T.counting)), 300);
  try {
    const path = `/api/tables/${encodeURIComponent(table)}/groups?${selection}`;
    const groups = /** @type {Groups} */ (await getJson(path, 15_000, asked.signal));
    clearTimeout(waiting);
    if (!isLatest()) return null;
    showTotal(groups);
    showGroups(groups, columns);
    await showChart(groups);
    return groups.period;
  } catch (error) {
    clearTimeout(waiting);
    if (isLatest()) for (const id of ['totals', 'groups', 'totals-chart']) fill(byId(id));
    chart = null;
    throw error;
  }
}

/**
 * @param {readonly ColumnSummary[]} columns
 * @param {string} by
 * @param {string} measure
 */
function showChoices(columns, by, measure) {
  /** @param {string} column @param {Unit} unit @returns {[string, string]} */
  const unit = (column, unit) => [JSON.stringify([column, unit]), T.units[unit](column)];
  const dated = columns.filter(column => column.dated);
  const plain = columns.filter(column => column.groupable && !column.dated);
  /** @type {[string, string][]} */
  const options = [
    [ALL, T.noGroup],
    ...plain.filter(({ name }) => name === '_branch').map(({ name }) => unit(name, 'value')),
    ...dated.flatMap(({ name, type }) =>
      /** @type {Unit[]} */ (type === 'date' ? ['day', 'week', 'month'] : ['day', 'hour', 'week', 'month']).map(each =>
        unit(name, each),
      ),
    ),
    ...plain.filter(({ name }) => name !== '_branch').map(({ name }) => unit(name, 'value')),
  ];
  const isKnown = options.some(([value]) => value === by);
  setOptions(bySelect, options, isKnown ? by : (options[1]?.[0] ?? ''));
  /** @param {string} column @param {MeasureKind} kind @returns {[string, string]} */
  const of = (column, kind) => [JSON.stringify([kind, column]), T.measures[kind](column)];
  /** @type {[string, string][]} */
  const measures = [
    of('', 'rows'),
    ...columns
      .filter(({ summable, name }) => summable && name !== '_batch')
      .flatMap(({ name }) => /** @type {const} */ (['sum', 'average', 'least', 'most']).map(kind => of(name, kind))),
  ];
  setOptions(measureSelect, measures, measures.some(([value]) => value === measure) ? measure : measures[0]?.[0]);
}

/**
 * A figure as the server has it, however long, in the reader's way of writing.
 * @param {string | null} value
 */
function figure(value) {
  if (value === null) return T.nothing;
  if (!/^-?\d+(\.\d+)?$/.test(value)) return value;
  const digits = /\.(\d+)$/.exec(value)?.[1]?.length ?? 0;
  const format = new Intl.NumberFormat(LANGUAGE, {
    minimumFractionDigits: Math.min(digits, 30),
    maximumFractionDigits: 30,
  });
  return format.format(/** @type {`${number}`} */ (value));
}

/** @param {Groups} groups */
function measured({ measure }) {
  return T.measures[measure.kind](measure.column);
}

/** @param {Groups} groups */
function showTotal(groups) {
  const { total, measure } = groups;
  const isCount = measure.kind === 'rows';
  fill(
    byId('totals'),
    h('section', 'card total', [
      h('h2', '', `${T.total}: ${measured(groups)}`),
      h('p', 'number', isCount ? count(total.rows) : figure(total.value)),
      isCount ? null : h('p', 'muted', T.totalRows(total.rows)),
    ]),
  );
}

/**
 * @param {Groups} groups
 * @param {readonly ColumnSummary[]} columns
 */
function showGroups(groups, columns) {
  const { by, measure, groups: list, more, zone } = groups;
  if (by === null) {
    fill(byId('groups'));
    return;
  }
  const isCount = measure.kind === 'rows';
  const heads = [T.units[by.unit](by.column), ...(isCount ? [] : [T.groupRows]), measured(groups), ''];
  const cells = heads.map((text, i) => {
    const cell = h(text === '' ? 'td' : 'th', i === 0 ? '' : text === '' ? 'bar-cell' : 'right', text);
    if (cell instanceof HTMLTableCellElement && text !== '') cell.scope = 'col';
    return cell;
  });
  const most = Math.max(...list.map(group => Math.abs(valueOf(group, isCount) ?? 0)), 0);
  const isCut = by.unit !== 'value';
  const dated = columns.find(({ name }) => name === by.column)?.utc === true;
  const rows = list.map(group =>
    h('tr', '', [
      groupHead(group, groups),
      isCount ? null : h('td', 'right', count(group.rows)),
      h('td', 'right', isCount ? count(group.rows) : figure(group.value)),
      h('td', 'bar-cell', [barOf(valueOf(group, isCount), most)]),
    ]),
  );
  fill(
    byId('groups'),
    h('div', 'sheet groups', [h('table', '', [h('thead', '', [h('tr', '', cells)]), h('tbody', '', rows)])]),
    h('p', 'muted small', [more ? `${T.moreGroups(list.length)} ` : '', isCut ? T.groupZone(dated ? zone : null) : '']),
  );
}

/**
 * The value of a group; where its rows can be shown, a button does.
 * @param {Group} group
 * @param {Groups} groups
 */
function groupHead({ key }, { by }) {
  const text = key ?? T.nothing;
  const isOpenable = by !== null && by.unit === 'value' && !text.endsWith('…');
  const head = h('th', key === null ? 'null' : '', isOpenable ? null : text);
  head.scope = 'row';
  if (!isOpenable) return head;
  const button = h('button', 'row-open', text);
  button.type = 'button';
  button.ariaLabel = T.showGroup(text);
  button.addEventListener('click', () => {
    if (by.column === '_branch' && key !== null) change({ show: 'rows', branch: key, after: '', before: '' });
    else showRowsOf([by.column, key === null ? 'null' : '=', key ?? '']);
  });
  head.append(button);
  return head;
}

/**
 * @param {Group} group
 * @param {boolean} isCount
 */
function valueOf({ rows, value }, isCount) {
  if (isCount) return rows;
  return value === null ? null : Number(value);
}

/**
 * How large it is beside the largest.
 * @param {number | null} value
 * @param {number} most
 */
function barOf(value, most) {
  const bar = h('span', value !== null && value < 0 ? 'group-bar less' : 'group-bar');
  bar.style.inlineSize = `${most === 0 || value === null ? 0 : Math.max(0.5, (Math.abs(value) / most) * 100)}%`;
  return bar;
}

/** @param {Groups} groups */
async function showChart(groups) {
  const { by, groups: list, measure, more } = groups;
  const place = byId('totals-chart');
  const points =
    by === null || by.unit === 'value' ? [] : list.map(group => ({ group, span: spanOf(group.key, by.unit) }));
  const known = points.flatMap(({ group, span }) => (span === null ? [] : [{ group, ...span }])).reverse();
  place.hidden = known.length === 0;
  if (known.length === 0 || by === null) return;
  const { Chart: Kind } = await import('/assets/chart.js');
  if (chart === null) {
    chart = new Kind();
    fill(place, chart.element);
  }
  const shown = known.slice(-MAX_BARS);
  const isCount = measure.kind === 'rows';
  const keys = new Map(shown.map(({ until, group }) => [until, group.key ?? '']));
  chart.show(
    {
      title: measured(groups),
      note: more ? T.moreGroups(list.length) : T.units[by.unit](by.column),
      style: 'bars',
      lines: [
        {
          label: measured(groups),
          colour: '--accent',
          fill: true,
          values: shown.map(({ group }) => valueOf(group, isCount)),
        },
      ],
      format: value =>
        new Intl.NumberFormat(LANGUAGE, {
          maximumFractionDigits: 2,
          notation: value >= 1e6 ? 'compact' : 'standard',
        }).format(value),
    },
    {
      at: shown.map(({ until }) => until),
      from: shown[0]?.from ?? 0,
      to: shown.at(-1)?.until ?? 1,
      label: T.units[by.unit](by.column),
      text: at => keys.get(at) ?? '',
    },
  );
}

/**
 * From when until when a part of the calendar lasts, on this machine's clock, which is that of the chart.
 * @param {string | null} key
 * @param {Unit} unit
 * @returns {{ from: number, until: number } | null}
 */
function spanOf(key, unit) {
  const seconds = (/** @type {Date} */ date) => date.getTime() / 1000;
  const week = /^(\d{4})-W(\d\d)$/.exec(key ?? '');
  if (week !== null) {
    // The week with 4 January is the first (ISO 8601).
    const fourth = new Date(Number(week[1]), 0, 4);
    const monday = 4 - ((fourth.getDay() + 6) % 7) + (Number(week[2]) - 1) * 7;
    return {
      from: seconds(new Date(Number(week[1]), 0, monday)),
      until: seconds(new Date(Number(week[1]), 0, monday + 7)),
    };
  }
  const parts = /^(\d{4})-(\d\d)(?:-(\d\d)(?: (\d\d):00)?)?$/.exec(key ?? '');
  if (parts === null) return null;
  const [year = 0, month = 0, day = 1, hour = 0] = parts
    .slice(1)
    .map(Number)
    .map((part, i) => (Number.isNaN(part) ? (i === 3 ? 0 : 1) : part));
  if (month === 0 || day === 0) return null;
  if (unit === 'month')
    return { from: seconds(new Date(year, month - 1, 1)), until: seconds(new Date(year, month, 1)) };
  const from = seconds(new Date(year, month - 1, day, unit === 'hour' ? hour : 0));
  return { from, until: from + (unit === 'hour' ? 3_600 : DAY_S) };
}
