/**
 * The data: one page of one consolidated table, read again every few seconds. The selection is in the address (after
 * #), so that a view can be kept and sent.
 */
import { banner, byId, fill, h, setOptions } from '/assets/elements.js';
import { count } from '/assets/numbers.js';
import { patch } from '/assets/patch.js';
import { getJson, messageOf } from '/assets/server.js';

/** @import { ColumnSummary, RowsPage, TableSummary } from '../data.ts' */

/** @typedef {[column: string, operator: string, value: string]} Filter */

const EVERY_MS = 4000;
/** The head office's own columns, shown fainter. */
const OWN = new Set(['_branch', '_batch', '_changed_at', '_key']);
const NUMERIC = /^(tinyint|smallint|mediumint|int|bigint|decimal|float|double|year)/;
/** @type {[operator: string, label: string][]} */
const OPERATORS = [
  ['=', '='],
  ['!=', '≠'],
  ['<', '<'],
  ['<=', '≤'],
  ['>', '>'],
  ['>=', '≥'],
  ['contains', 'contains'],
  ['null', 'is NULL'],
  ['not-null', 'is not NULL'],
];
const WITHOUT_VALUE = new Set(['null', 'not-null']);

const tableSelect = byId('table', HTMLSelectElement);
const branchSelect = byId('branch', HTMLSelectElement);
const columnSelect = byId('filter-column', HTMLSelectElement);
const operatorSelect = byId('filter-operator', HTMLSelectElement);
const valueInput = byId('filter-value', HTMLInputElement);
const live = byId('live', HTMLInputElement);
const rowsBody = byId('rows');

const FIRST = { after: '', before: '' };
const NEWEST_FIRST = { sort: '', desc: null, ...FIRST };
/**
 * What is chosen. Without a sort and a direction the server shows the newest rows first.
 * @typedef {{ table: string, branch: string, sort: string, desc: boolean | null, filters: Filter[],
 *   after: string, before: string }} View
 * @type {View}
 */
const view = { table: '', branch: '', filters: [], ...NEWEST_FIRST };
/** @type {readonly ColumnSummary[]} */
let columns = [];
/** @type {Set<string>} */
let seen = new Set();
let shownView = '';
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;
let latest = 0;
let active = false;
/** @type {RowsPage | null} */
let page = null;

function readAddress() {
  const given = new URLSearchParams(location.hash.split('?')[1] ?? '');
  Object.assign(view, {
    table: given.get('table') ?? view.table,
    branch: given.get('branch') ?? '',
    sort: given.get('sort') ?? '',
    desc: given.has('desc') ? given.get('desc') === '1' : null,
    filters: given
      .getAll('filter')
      .map(parseFilter)
      .filter(filter => filter !== null),
    after: given.get('after') ?? '',
    before: given.get('before') ?? '',
  });
}

/**
 * @param {string} text
 * @returns {Filter | null}
 */
function parseFilter(text) {
  try {
    /** @type {unknown} */
    const parts = JSON.parse(text);
    return Array.isArray(parts) ? [String(parts[0]), String(parts[1]), String(parts[2])] : null;
  } catch {
    return null;
  }
}

/**
 * What the address and the question to the server have in common.
 * @param {View} of
 */
function parameters({ branch, sort, desc, filters, after, before }) {
  const given = new URLSearchParams();
  if (branch) given.set('branch', branch);
  if (sort) given.set('sort', sort);
  if (desc !== null) given.set('desc', desc ? '1' : '0');
  for (const filter of filters) given.append('filter', JSON.stringify(filter));
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
}

async function showChoices() {
  const [first, second] = await Promise.all([getJson('/api/tables'), getJson('/api/branch-ids')]);
  const { tables } = /** @type {{ tables: TableSummary[] }} */ (first);
  const { branches } = /** @type {{ branches: string[] }} */ (second);
  const names = tables.map(table => table.name);
  if (!names.includes(view.table)) view.table = names[0] ?? '';
  setOptions(
    tableSelect,
    tables.map(table => [table.name, `${table.name} (about ${count(table.estimatedRows)})`]),
    view.table,
  );
  const ids = branches.toSorted((a, b) => a.localeCompare(b, 'en', { numeric: true }));
  if (view.branch && !ids.includes(view.branch)) ids.push(view.branch);
  /** @type {[string, string][]} */
  const options = ids.map(id => [id, id]);
  setOptions(branchSelect, [['', 'all branches'], ...options], view.branch);
}

/** Whatever the server says of them, filters can be seen and removed. */
function showFilters() {
  patch(
    byId('filters'),
    view.filters,
    filter => JSON.stringify(filter),
    filter => {
      const [column, operator, value] = filter;
      const word = OPERATORS.find(([name]) => name === operator)?.[1] ?? operator;
      const text = `${column} ${word}${WITHOUT_VALUE.has(operator) ? '' : ` ${value}`}`;
      const chip = h('button', 'chip', [text, h('span', 'remove', '✕')]);
      chip.type = 'button';
      chip.ariaLabel = `Remove the filter ${text}`;
      chip.addEventListener('click', () => change({ filters: view.filters.filter(each => each !== filter), ...FIRST }));
      return chip;
    },
  );
}

function showColumnChoice() {
  const chosen = columnSelect.value;
  setOptions(
    columnSelect,
    columns.map(({ name }) => [name, name]),
    columns.some(({ name }) => name === chosen) ? chosen : columns[0]?.name,
  );
  setOptions(operatorSelect, OPERATORS);
}

/**
 * The zone of a column's times, where one is known.
 * @param {ColumnSummary} column
 */
const zoneOf = ({ name, type }) => (type.startsWith('timestamp') || name === '_changed_at' ? 'UTC' : null);

/** @param {RowsPage} shown */
function showHead({ sort, descending }) {
  const cells = columns.map(column => {
    const { name, type, key, sortable } = column;
    const sorted = sort === name;
    const zone = zoneOf(column);
    const content = h(sortable ? 'button' : 'span', 'column', [
      name,
      key ? h('span', 'key', 'key') : null,
      zone === null ? null : h('span', 'key', zone),
      h('span', 'arrow', sorted ? (descending ? '▼' : '▲') : ''),
    ]);
    content.title = sortable ? type : `${type}: cannot be sorted`;
    if (content instanceof HTMLButtonElement) {
      content.type = 'button';
      content.dataset.focus = name;
      content.addEventListener('click', () => change({ sort: name, desc: sorted && !descending, ...FIRST }));
    }
    const cell = h('th', `${sorted ? 'sorted ' : ''}${NUMERIC.test(type) ? 'right' : ''}`, [content]);
    cell.scope = 'col';
    cell.ariaSort = sorted ? (descending ? 'descending' : 'ascending') : 'none';
    return { name, cell };
  });
  const head = byId('columns');
  const row = head.firstElementChild ?? head.appendChild(h('tr'));
  patch(
    row,
    cells,
    ({ name }) => name,
    ({ cell }) => cell,
  );
}

/** @param {RowsPage} shown */
function showRows({ rows }) {
  const here = JSON.stringify([view.table, parameters(view).toString()]);
  const first = here !== shownView;
  shownView = here;
  const keys = columns.map(({ key }, i) => (key ? i : -1)).filter(i => i >= 0);
  const before = seen;
  seen = new Set();
  const items = rows.map((row, place) => {
    const key = keys.length === 0 ? `row ${place}` : JSON.stringify(keys.map(i => row[i]));
    const content = JSON.stringify(row);
    seen.add(key + content);
    return { key, row, fresh: !first && !before.has(key + content) };
  });
  const [top] = rowsBody.children;
  if (top instanceof HTMLElement && top.dataset.key === undefined) fill(rowsBody);
  patch(
    rowsBody,
    items,
    ({ key }) => key,
    ({ row, fresh }) =>
      h(
        'tr',
        fresh ? 'new' : '',
        columns.map((column, i) => cellOf(column, row[i] ?? null)),
      ),
  );
  if (items.length > 0) return;
  if (view.filters.length > 0 || view.branch) emptyRow('No rows match.', 'Remove a filter, or choose another branch.');
  else emptyRow('No rows.', '');
}

/**
 * @param {ColumnSummary} column
 * @param {string | null} value
 */
function cellOf({ name, type }, value) {
  const classes = [value === null ? 'null' : '', OWN.has(name) ? 'own' : '', NUMERIC.test(type) ? 'right' : ''];
  const cell = h('td', classes.filter(Boolean).join(' '), value ?? 'NULL');
  if (value !== null && value.length > 30) cell.title = value;
  return cell;
}

/**
 * @param {string} first
 * @param {string} second
 */
function emptyRow(first, second) {
  const cell = h('td', 'empty', [h('strong', '', first), h('div', '', second)]);
  cell.colSpan = Math.max(1, columns.length);
  fill(rowsBody, h('tr', '', [cell]));
}

/**
 * @param {string} id
 * @param {(shown: RowsPage) => Partial<View> | null} to null: there is nothing
 */
function pagerButton(id, to) {
  const button = byId(id, HTMLButtonElement);
  button.addEventListener('click', () => {
    const changes = page === null ? null : to(page);
    if (changes !== null) change(changes);
  });
  return (/** @type {RowsPage} */ shown) => (button.disabled = to(shown) === null);
}

/**
 * A place is one of an order, so the order goes with it.
 * @param {RowsPage} shown
 */
const orderOf = ({ sort, descending }) => ({ sort: sort ?? '', desc: descending });

const pager = [
  pagerButton('first', () => (view.after || view.before ? FIRST : null)),
  pagerButton('previous', shown =>
    shown.previous === null ? null : { ...orderOf(shown), after: '', before: JSON.stringify(shown.previous) },
  ),
  pagerButton('next', shown =>
    shown.next === null ? null : { ...orderOf(shown), after: JSON.stringify(shown.next), before: '' },
  ),
];

/** @param {RowsPage} shown */
function noteOf({ sort, descending }) {
  const isByKey = view.sort === '' && view.desc === null && sort === null && descending;
  return [
    isByKey ? 'This table is too large to sort by change, so the highest keys come first.' : '',
    'Text beyond 200 characters and bytes beyond 32 are cut (…).',
    'Columns marked UTC show times in UTC; other times are as the branch stored them, without a time zone.',
  ].join(' ');
}

async function show() {
  clearTimeout(timer);
  const turn = (latest += 1);
  showFilters();
  const newest = byId('newest');
  newest.ariaPressed = String(view.sort === '' && view.desc === null);
  try {
    await showChoices();
    // The address names the table, also when it was not chosen by hand.
    if (turn !== latest) return;
    if (active && view.table !== '') keepInAddress();
    if (view.table === '') {
      columns = [];
      fill(byId('columns'));
      emptyRow('No consolidated table yet.', 'It appears when a branch has sent its first rows.');
    } else {
      const answer = await askRows(view);
      // Something else was chosen meanwhile: its own answer is coming.
      if (turn !== latest) return;
      page = answer;
      columns = answer.columns;
      showHead(answer);
      showRows(answer);
      showColumnChoice();
      for (const each of pager) each(answer);
      byId('data-note').textContent = noteOf(answer);
    }
    fill(byId('data-error'));
  } catch (error) {
    if (turn === latest) showError(error);
  } finally {
    const every = document.hidden ? EVERY_MS * 5 : EVERY_MS;
    if (turn === latest && active && live.checked) timer = setTimeout(() => void show(), every);
  }
}

/** @param {unknown} error */
function showError(error) {
  fill(byId('data-error'), banner('warn', 'Cannot show this', messageOf(error)));
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

tableSelect.addEventListener('change', () => change({ table: tableSelect.value, filters: [], ...NEWEST_FIRST }));
branchSelect.addEventListener('change', () => change({ branch: branchSelect.value, ...FIRST }));
byId('newest').addEventListener('click', () => change(NEWEST_FIRST));
live.addEventListener('change', () => void show());
operatorSelect.addEventListener('change', () => {
  valueInput.disabled = WITHOUT_VALUE.has(operatorSelect.value);
});
byId('filter-form').addEventListener('submit', event => {
  event.preventDefault();
  void addFilter();
});
byId('data-form').addEventListener('submit', event => event.preventDefault());
