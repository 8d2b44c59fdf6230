/** The rows of a table, a page at a time: their heads, which sort, and the rows, each of which opens in full. */
import { byId, fill, h } from '/assets/elements.js';
import { patch } from '/assets/patch.js';
import { TEXTS } from '/assets/texts.js';

/** @import { ColumnSummary } from '../columns.ts' */
/** @import { RowsPage } from '../data.ts' */
/** @import { View } from '/assets/data.js' */

const T = TEXTS.data;
/** The head office's own columns, shown fainter. */
const OWN = new Set(['_branch', '_batch', '_changed_at', '_key']);
export const NUMERIC = /^(tinyint|smallint|mediumint|int|bigint|decimal|float|double|year)/;
const FIRST = { after: '', before: '' };

const rowsBody = byId('rows');
/** @type {(changes: Partial<View>) => void} */
let change = () => undefined;
/** @type {(key: readonly string[]) => void} */
let open = () => undefined;
/** @type {RowsPage | null} */
let page = null;
/** @type {Set<string>} */
let seen = new Set();
let shownView = '';

/** @param {{ change: typeof change, open: typeof open }} listeners */
export function listenToRows(listeners) {
  ({ change, open } = listeners);
}

/** There is no table. */
export function clearRows() {
  page = null;
  fill(byId('columns'));
  emptyRow(T.noTable, T.noTableHint, 1);
}

/**
 * @param {View} view
 * @param {RowsPage} answer
 * @param {string} what is chosen: rows of the same that come later are new
 */
export function showRows(view, answer, what) {
  page = answer;
  showHead(answer);
  fillRows(view, answer, JSON.stringify([view.table, what]));
  for (const each of pager) each(answer);
  byId('data-note').textContent = noteOf(view, answer);
}

/** @param {RowsPage} shown */
function showHead({ columns, sort, descending }) {
  const cells = columns.map(column => {
    const { name, type, key, sortable, utc } = column;
    const sorted = sort === name;
    const content = h(sortable ? 'button' : 'span', 'column', [
      name,
      key ? h('span', 'key', T.keyMark) : null,
      utc ? h('span', 'key', T.utc) : null,
      h('span', 'arrow', sorted ? (descending ? '▼' : '▲') : ''),
    ]);
    content.title = sortable ? type : T.unsortable(type);
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

/**
 * @param {View} view
 * @param {RowsPage} shown
 * @param {string} here
 */
function fillRows(view, { columns, rows, keys }, here) {
  const first = here !== shownView;
  shownView = here;
  const before = seen;
  seen = new Set();
  const items = rows.map((row, place) => {
    const exact = keys[place]?.map(part => part ?? '') ?? null;
    const key = exact === null ? `row ${place}` : JSON.stringify(exact);
    const content = JSON.stringify(row);
    seen.add(key + content);
    return { key, exact, row, fresh: !first && !before.has(key + content) };
  });
  const [top] = rowsBody.children;
  if (top instanceof HTMLElement && top.dataset.key === undefined) fill(rowsBody);
  patch(
    rowsBody,
    items,
    ({ key }) => key,
    ({ row, exact, fresh }) =>
      h(
        'tr',
        `${fresh ? 'new' : ''} ${exact === null ? '' : 'openable'}`.trim(),
        columns.map((column, i) => cellOf(column, row[i] ?? null, i === 0 ? exact : null)),
      ),
  );
  if (items.length > 0) return;
  const isNarrowed = view.filters.length > 0 || view.branch !== '' || view.period !== null;
  if (isNarrowed) emptyRow(T.noMatch, T.noMatchHint, columns.length);
  else emptyRow(T.noRows, '', columns.length);
}

/**
 * @param {ColumnSummary} column
 * @param {string | null} value
 * @param {readonly string[] | null} key of the row, in its first cell: a button opens it
 */
function cellOf({ name, type }, value, key) {
  const classes = [value === null ? 'null' : '', OWN.has(name) ? 'own' : '', NUMERIC.test(type) ? 'right' : ''];
  const cell = h('td', classes.filter(Boolean).join(' '), key === null ? (value ?? T.nothing) : null);
  if (value !== null && value.length > 30) cell.title = value;
  if (key === null) return cell;
  const button = h('button', 'row-open', value ?? T.nothing);
  button.type = 'button';
  button.ariaLabel = T.openRow(key.join(', '));
  button.dataset.focus = 'open';
  cell.append(button);
  return cell;
}

// A click anywhere in a row opens it, unless it ends the selection of text.
rowsBody.addEventListener('click', ({ target }) => {
  if (!(target instanceof Element) || getSelection()?.isCollapsed === false) return;
  const row = target.closest('tr');
  const key = row instanceof HTMLElement ? (row.dataset.key ?? '') : '';
  if (!key.startsWith('[')) return;
  /** @type {unknown} */
  const parts = JSON.parse(key);
  if (Array.isArray(parts)) open(parts.map(String));
});

/**
 * @param {string} first
 * @param {string} second
 * @param {number} columns
 */
function emptyRow(first, second, columns) {
  const cell = h('td', 'empty', [h('strong', '', first), h('div', '', second)]);
  cell.colSpan = Math.max(1, columns);
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
  pagerButton('first', shown => (shown.previous === null ? null : FIRST)),
  pagerButton('previous', shown =>
    shown.previous === null ? null : { ...orderOf(shown), after: '', before: JSON.stringify(shown.previous) },
  ),
  pagerButton('next', shown =>
    shown.next === null ? null : { ...orderOf(shown), after: JSON.stringify(shown.next), before: '' },
  ),
];

/**
 * @param {View} view
 * @param {RowsPage} shown
 */
function noteOf({ sort: chosen, desc }, { sort, descending, zone }) {
  const isByKey = chosen === '' && desc === null && sort === null && descending;
  return [isByKey ? T.byKey : '', T.cut, T.zones(zone)].filter(Boolean).join(' ');
}
