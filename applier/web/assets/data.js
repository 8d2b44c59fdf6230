/**
 * The data: what is chosen of one consolidated table (branch, period, filters), and whether its rows or its totals are
 * shown. All of it is in the address (after #), so that a view can be kept and sent.
 */
import { showDetail } from '/assets/data-detail.js';
import { exportLink, listenToExport } from '/assets/data-export.js';
import { listenToKeys } from '/assets/data-keys.js';
import { clearRows, listenToRows, showRows } from '/assets/data-rows.js';
import { listenToTotals, showTotals, withdrawTotals } from '/assets/data-totals.js';
import { banner, byId, fill, h, setOptions } from '/assets/elements.js';
import { LANGUAGE } from '/assets/language.js';
import { patch } from '/assets/patch.js';
import { getJson, messageOf } from '/assets/server.js';
import { TEXTS } from '/assets/texts.js';

/** @import { ColumnSummary } from '../columns.ts' */
/** @import { RowsPage, TableSummary } from '../data.ts' */
/** @import { PeriodSaid } from '../selection.ts' */

/** @typedef {[column: string, operator: string, value: string]} Filter */

/**
 * What is chosen. Without a sort and a direction the server shows the newest rows first.
 * @typedef {{ table: string, branch: string, period: [column: string, preset: string] | null, sort: string,
 *   desc: boolean | null, filters: Filter[], after: string, before: string, show: 'rows' | 'totals',
 *   by: string, measure: string }} View
 */

const T = TEXTS.data;
const EVERY_MS = 4000;
const WITHOUT_VALUE = new Set(['null', 'not-null']);
const FIRST = { after: '', before: '' };
const NEWEST_FIRST = { sort: '', desc: null, ...FIRST };

const tableSelect = byId('table', HTMLSelectElement);
const branchSelect = byId('branch', HTMLSelectElement);
const periodSelect = byId('period', HTMLSelectElement);
const periodColumn = byId('period-column', HTMLSelectElement);
const columnSelect = byId('filter-column', HTMLSelectElement);
const operatorSelect = byId('filter-operator', HTMLSelectElement);
const valueInput = byId('filter-value', HTMLInputElement);
const live = byId('live', HTMLInputElement);

/** @type {View} */
const view = { table: '', branch: '', period: null, filters: [], show: 'rows', by: '', measure: '', ...NEWEST_FIRST };
/** @type {readonly ColumnSummary[]} */
let columns = [];
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;
let latest = 0;
let active = false;

function readAddress() {
  const given = new URLSearchParams(location.hash.split('?')[1] ?? '');
  const period = listOf(given.get('period') ?? '');
  Object.assign(view, {
    table: given.get('table') ?? view.table,
    branch: given.get('branch') ?? '',
    period: period === null ? null : [period[0] ?? '', period[1] ?? ''],
    sort: given.get('sort') ?? '',
    desc: given.has('desc') ? given.get('desc') === '1' : null,
    filters: given
      .getAll('filter')
      .map(listOf)
      .filter(filter => filter !== null),
    after: given.get('after') ?? '',
    before: given.get('before') ?? '',
    show: given.get('show') === 'totals' ? 'totals' : 'rows',
    by: given.get('by') ?? '',
    measure: given.get('measure') ?? '',
  });
}

/**
 * @param {string} text
 * @returns {string[] | null}
 */
function listOf(text) {
  try {
    /** @type {unknown} */
    const parts = JSON.parse(text);
    return Array.isArray(parts) ? [String(parts[0]), String(parts[1]), String(parts[2] ?? '')] : null;
  } catch {
    return null;
  }
}

/**
 * Which rows are chosen, as the server takes it.
 * @param {View} of
 */
function selection({ branch, period, filters }) {
  const given = new URLSearchParams();
  if (branch) given.set('branch', branch);
  if (period !== null) given.set('period', JSON.stringify(period));
  for (const filter of filters) given.append('filter', JSON.stringify(filter));
  return given;
}

/**
 * What the address and the questions to the server have in common.
 * @param {View} of
 */
function parameters(of) {
  const given = new URLSearchParams();
  const { sort, desc, after, before, branch } = of;
  if (branch) given.set('branch', branch);
  if (sort) given.set('sort', sort);
  if (desc !== null) given.set('desc', desc ? '1' : '0');
  for (const [name, value] of selection(of)) if (name !== 'branch') given.append(name, value);
  if (after) given.set('after', after);
  if (before) given.set('before', before);
  return given;
}

/**
 * @param {View} of
 * @throws {Error} what the server refuses
 */
async function askRows(of) {
  const path = `/api/tables/${encodeURIComponent(of.table)}/rows?${parameters(of).toString()}`;
  const answer = await getJson(path);
  return /** @type {RowsPage} */ (answer);
}

/** @param {Partial<View>} changes */
function change(changes) {
  Object.assign(view, changes);
  keepInAddress();
  void show();
}

function keepInAddress() {
  const given = parameters(view);
  given.set('table', view.table);
  if (view.show === 'totals') {
    given.set('show', 'totals');
    if (view.by) given.set('by', view.by);
    if (view.measure) given.set('measure', view.measure);
  }
  history.replaceState(null, '', `#/data?${given.toString()}`);
}

export function enterData() {
  active = true;
  readAddress();
  void show();
}

export function leaveData() {
  active = false;
  clearTimeout(timer);
  latest += 1;
  withdrawTotals();
}

async function showChoices() {
  const [first, second] = await Promise.all([getJson('/api/tables'), getJson('/api/branch-ids')]);
  const { tables } = /** @type {{ tables: TableSummary[] }} */ (first);
  const { branches } = /** @type {{ branches: string[] }} */ (second);
  const names = tables.map(table => table.name);
  if (!names.includes(view.table)) view.table = names[0] ?? '';
  setOptions(
    tableSelect,
    tables.map(table => [table.name, T.tableOption(table.name, table.estimatedRows)]),
    view.table,
  );
  const ids = branches.toSorted((a, b) => a.localeCompare(b, 'en', { numeric: true }));
  if (view.branch && !ids.includes(view.branch)) ids.push(view.branch);
  /** @type {[string, string][]} */
  const options = ids.map(id => [id, id]);
  setOptions(branchSelect, [['', T.allBranches], ...options], view.branch);
}

/**
 * A column's name with the mark of its zone.
 * @param {ColumnSummary} column
 */
const named = ({ name, utc }) => (utc ? `${name} (${T.utc})` : name);

/** What can be chosen depends on the columns. */
function showColumnChoices() {
  const chosen = columnSelect.value;
  setOptions(
    columnSelect,
    columns.map(({ name }) => [name, name]),
    columns.some(({ name }) => name === chosen) ? chosen : columns[0]?.name,
  );
  setOptions(operatorSelect, Object.entries(T.operators));
  showValueHint();
  const dated = columns.filter(column => column.dated);
  setOptions(periodSelect, [['', T.anyTime], ...Object.entries(T.presets)], view.period?.[1] ?? '');
  periodSelect.disabled = dated.length === 0;
  setOptions(
    periodColumn,
    dated.map(column => [column.name, named(column)]),
    view.period?.[0] ?? ownTime(dated),
  );
  periodColumn.hidden = view.period === null || dated.length < 2;
}

/**
 * The time that people mean: the branch's own before those of the head office.
 * @param {readonly ColumnSummary[]} dated
 */
function ownTime(dated) {
  return (dated.find(({ name }) => !name.startsWith('_')) ?? dated[0])?.name ?? '';
}

function showValueHint() {
  const column = columns.find(({ name }) => name === columnSelect.value);
  valueInput.placeholder = column?.dated !== true ? '' : column.utc ? T.utcValue : T.clockValue;
}

/** @param {PeriodSaid | null} said */
function showPeriod(said) {
  const place = byId('period-said');
  place.hidden = said === null;
  if (said === null) return;
  const moment = new Intl.DateTimeFormat(LANGUAGE, { dateStyle: 'medium', timeStyle: 'short', timeZone: 'UTC' });
  const text = (/** @type {string} */ wall) => moment.format(new Date(`${wall.replace(' ', 'T')}Z`));
  place.textContent = T.periodSaid(said.column, text(said.from), text(said.until), said.zone);
}

/** Whatever the server says of them, filters can be seen and removed. */
function showFilters() {
  patch(
    byId('filters'),
    view.filters,
    filter => JSON.stringify(filter),
    filter => {
      const [column, operator, value] = filter;
      const word = /** @type {Record<string, string>} */ (T.operators)[operator] ?? operator;
      const zone = columns.some(({ name, utc }) => name === column && utc) ? ` ${T.utc}` : '';
      const text = `${column} ${word}${WITHOUT_VALUE.has(operator) ? '' : ` ${value}${zone}`}`;
      const chip = h('button', 'chip', [text, h('span', 'remove', '✕')]);
      chip.type = 'button';
      chip.ariaLabel = T.removeFilter(text);
      chip.addEventListener('click', () => change({ filters: view.filters.filter(each => each !== filter), ...FIRST }));
      return chip;
    },
  );
}

function showWhich() {
  for (const each of /** @type {const} */ (['rows', 'totals'])) {
    byId(`show-${each}`).ariaPressed = String(view.show === each);
    byId(`data-${each}`).hidden = view.show !== each;
  }
  byId('newest').ariaPressed = String(view.sort === '' && view.desc === null);
}

async function show() {
  clearTimeout(timer);
  withdrawTotals();
  const turn = (latest += 1);
  const isLatest = () => turn === latest;
  showFilters();
  showWhich();
  try {
    await showChoices();
    // The address names the table, also when it was not chosen by hand.
    if (!isLatest()) return;
    if (active && view.table !== '') keepInAddress();
    if (view.table === '') {
      columns = [];
      clearRows();
    } else {
      await showChosen(isLatest);
    }
    if (isLatest()) fill(byId('data-error'));
  } catch (error) {
    if (isLatest()) showError(error);
  } finally {
    const every = document.hidden ? EVERY_MS * 5 : EVERY_MS;
    // Totals are asked for when something is chosen: they read many rows.
    const isLive = active && live.checked && view.show === 'rows';
    if (isLatest() && isLive) timer = setTimeout(() => void show(), every);
  }
}

/**
 * @param {() => boolean} isLatest something else may be chosen meanwhile: its own answer is coming
 * @throws {Error} what the server refuses
 */
async function showChosen(isLatest) {
  if (view.show === 'totals') {
    if (columns.length === 0 || tableOfColumns !== view.table)
      setColumns(await askRows({ ...view, ...NEWEST_FIRST, filters: [], period: null }));
    if (!isLatest()) return;
    const said = await showTotals(view, columns, selection(view), isLatest);
    if (isLatest()) showPeriod(said);
    return;
  }
  const answer = await askRows(view);
  if (!isLatest()) return;
  setColumns(answer);
  showRows(view, answer, parameters(view).toString());
  showPeriod(answer.period);
  exportLink(view.table);
}

let tableOfColumns = '';

/** @param {RowsPage} answer */
function setColumns(answer) {
  columns = answer.columns;
  tableOfColumns = view.table;
  showColumnChoices();
  showFilters();
}

/** @param {unknown} error */
function showError(error) {
  fill(byId('data-error'), banner('warn', T.failed, messageOf(error)));
}

/** Takes the filter only if the server understands it. Otherwise the typed text stays, to be corrected. */
async function addFilter() {
  const operator = operatorSelect.value;
  /** @type {Filter} */
  const filter = [columnSelect.value, operator, WITHOUT_VALUE.has(operator) ? '' : valueInput.value];
  const others = view.filters.filter(each => JSON.stringify(each) !== JSON.stringify(filter));
  const changes = { filters: [...others, filter], ...FIRST };
  try {
    await askRows({ ...view, ...changes });
  } catch (error) {
    clearTimeout(timer);
    showError(error);
    return;
  }
  valueInput.value = '';
  change(changes);
}

tableSelect.addEventListener('change', () =>
  change({ table: tableSelect.value, filters: [], period: null, by: '', measure: '', ...NEWEST_FIRST }),
);
branchSelect.addEventListener('change', () => change({ branch: branchSelect.value, ...FIRST }));
periodSelect.addEventListener('change', () =>
  change({ period: periodSelect.value === '' ? null : [periodColumn.value, periodSelect.value], ...FIRST }),
);
periodColumn.addEventListener('change', () => change({ period: [periodColumn.value, periodSelect.value], ...FIRST }));
columnSelect.addEventListener('change', showValueHint);
byId('newest').addEventListener('click', () => change(NEWEST_FIRST));
byId('show-rows').addEventListener('click', () => change({ show: 'rows' }));
byId('show-totals').addEventListener('click', () => change({ show: 'totals' }));
live.addEventListener('change', () => void show());
operatorSelect.addEventListener('change', () => {
  valueInput.disabled = WITHOUT_VALUE.has(operatorSelect.value);
});
byId('filter-form').addEventListener('submit', event => {
  event.preventDefault();
  void addFilter();
});
byId('data-form').addEventListener('submit', event => event.preventDefault());
listenToRows({ change, open: key => void showDetail(view.table, key) });
listenToTotals({
  change,
  // The rows of a group.
  showRows: filter => change({ show: 'rows', filters: [...view.filters, filter], ...FIRST }),
});
listenToKeys({ branch: () => view.branch, open: (table, key) => void showDetail(table, key) });
listenToExport(() => ({ table: view.table, query: parameters({ ...view, ...FIRST }) }));
