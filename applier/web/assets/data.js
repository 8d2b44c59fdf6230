/**
 * The data: one page of one consolidated table, read again every few seconds. What is chosen stands in the address
 * (after #), so that a view can be kept and sent.
 */
import { banner, count, fill, getJson, h, patch } from '/assets/page.js';

const EVERY_MS = 4000;
/** The head office's own columns, shown fainter. */
const OWN = new Set(['_branch', '_batch', '_changed_at', '_key']);
const NUMERIC = /^(tinyint|smallint|mediumint|int|bigint|decimal|float|double|year)/;
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

const el = id => document.getElementById(id);
const tableSelect = el('table');
const branchSelect = el('branch');

const FIRST = { after: '', before: '' };
const view = { table: '', branch: '', sort: '', desc: false, filters: [], ...FIRST };
let columns = [];
let seen = new Set();
let shownView = '';
let timer;
let latest = 0;
let active = false;
let page = null;

function readAddress() {
  const given = new URLSearchParams(location.hash.split('?')[1] ?? '');
  Object.assign(view, {
    table: given.get('table') ?? view.table,
    branch: given.get('branch') ?? '',
    sort: given.get('sort') ?? '',
    desc: given.get('desc') === '1',
    filters: given
      .getAll('filter')
      .map(parseFilter)
      .filter(filter => filter !== null),
    after: given.get('after') ?? '',
    before: given.get('before') ?? '',
  });
}

function parseFilter(text) {
  try {
    const [column, operator, value] = JSON.parse(text);
    return [String(column), String(operator), String(value)];
  } catch {
    return null;
  }
}

/** What the address and the question to the server have in common. */
function parameters() {
  const given = new URLSearchParams();
  if (view.branch) given.set('branch', view.branch);
  if (view.sort) given.set('sort', view.sort);
  if (view.desc) given.set('desc', '1');
  for (const filter of view.filters) given.append('filter', JSON.stringify(filter));
  if (view.after) given.set('after', view.after);
  if (view.before) given.set('before', view.before);
  return given;
}

function change(changes) {
  Object.assign(view, changes);
  const given = parameters();
  given.set('table', view.table);
  history.replaceState(null, '', `#/data?${given}`);
  void show();
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

/** Options of a select, keeping the choice; nothing is touched while they are the same. */
function setOptions(select, options, chosen) {
  const wanted = JSON.stringify(options);
  if (select.dataset.options !== wanted) {
    select.dataset.options = wanted;
    fill(
      select,
      ...options.map(([value, label]) => {
        const option = h('option', '', label);
        option.value = value;
        return option;
      }),
    );
  }
  if (chosen !== undefined) select.value = chosen;
}

async function showChoices() {
  const [{ tables }, { branches }] = await Promise.all([getJson('/api/tables'), getJson('/api/branches')]);
  const names = tables.map(table => table.name);
  if (!names.includes(view.table)) view.table = names[0] ?? '';
  setOptions(
    tableSelect,
    tables.map(table => [table.name, `${table.name} (about ${count(table.estimatedRows)})`]),
    view.table,
  );
  const ids = branches.map(({ branch }) => branch).sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
  if (view.branch && !ids.includes(view.branch)) ids.push(view.branch);
  setOptions(branchSelect, [['', 'all branches'], ...ids.map(id => [id, id])], view.branch);
}

function showFilters() {
  const chosen = el('filter-column').value;
  const names = columns.map(({ name }) => [name, name]);
  setOptions(el('filter-column'), names, columns.some(({ name }) => name === chosen) ? chosen : names[0]?.[0]);
  setOptions(el('filter-operator'), OPERATORS);
  patch(
    el('filters'),
    view.filters.map((filter, i) => ({ filter, i })),
    ({ filter }) => JSON.stringify(filter),
    ({ filter: [column, operator, value], i }) => {
      const word = OPERATORS.find(([name]) => name === operator)?.[1] ?? operator;
      const chip = h('button', 'chip', [
        document.createTextNode(`${column} ${word}${WITHOUT_VALUE.has(operator) ? '' : ` ${value}`}`),
        h('span', 'remove', '✕'),
      ]);
      chip.type = 'button';
      chip.ariaLabel = `Remove the filter ${column} ${word} ${value}`;
      chip.addEventListener('click', () => change({ filters: view.filters.filter((_, j) => j !== i), ...FIRST }));
      return chip;
    },
  );
}

function showHead() {
  const cells = columns.map(({ name, type, key, sortable }) => {
    const sorted = page.sort === name;
    const label = [
      document.createTextNode(name),
      key ? h('span', 'key', 'key') : null,
      h('span', 'arrow', sorted ? (page.descending ? '▼' : '▲') : ''),
    ];
    const content = h(sortable ? 'button' : 'span', 'column', label);
    content.title = sortable ? type : `${type}: has no order`;
    if (sortable) {
      content.type = 'button';
      content.dataset.focus = name;
      content.addEventListener('click', () => change({ sort: name, desc: sorted && !page.descending, ...FIRST }));
    }
    const cell = h('th', `${sorted ? 'sorted ' : ''}${NUMERIC.test(type) ? 'right' : ''}`, [content]);
    cell.scope = 'col';
    cell.ariaSort = sorted ? (page.descending ? 'descending' : 'ascending') : 'none';
    return { name, cell };
  });
  let row = el('columns').firstElementChild;
  if (row === null) el('columns').append((row = h('tr', '')));
  patch(
    row,
    cells,
    ({ name }) => name,
    ({ cell }) => cell,
  );
}

function showRows() {
  const here = JSON.stringify([view.table, parameters().toString()]);
  const first = here !== shownView;
  shownView = here;
  const keys = columns.map(({ key }, i) => (key ? i : -1)).filter(i => i >= 0);
  const before = seen;
  seen = new Set();
  const items = page.rows.map((row, place) => {
    const key = keys.length === 0 ? `row ${place}` : JSON.stringify(keys.map(i => row[i]));
    const content = JSON.stringify(row);
    seen.add(key + content);
    return { key, row, fresh: !first && !before.has(key + content) };
  });
  patch(
    el('rows'),
    items,
    ({ key }) => key,
    ({ row, fresh }) => {
      const cells = row.map((value, i) => {
        const { name, type } = columns[i];
        const classes = [value === null ? 'null' : '', OWN.has(name) ? 'own' : '', NUMERIC.test(type) ? 'right' : ''];
        const cell = h('td', classes.filter(Boolean).join(' '), value === null ? 'NULL' : value);
        if (value !== null && value.length > 30) cell.title = value;
        return cell;
      });
      return h('tr', fresh ? 'new' : '', cells);
    },
  );
  if (items.length === 0) {
    const lines =
      view.filters.length > 0 || view.branch
        ? ['No rows fit.', 'Remove a filter, or choose another branch.']
        : ['No rows.', ''];
    emptyRow(...lines);
  }
}

function emptyRow(first, second) {
  const cell = h('td', 'empty', [h('strong', '', first), h('div', '', second)]);
  cell.colSpan = Math.max(1, columns.length);
  fill('rows', h('tr', '', [cell]));
}

function showPager() {
  el('first').disabled = !view.after && !view.before;
  el('previous').disabled = page.previous === null;
  el('next').disabled = page.next === null;
  el('latest').ariaPressed = String(view.sort === '_changed_at' && view.desc);
}

async function show() {
  clearTimeout(timer);
  const turn = (latest += 1);
  try {
    await showChoices();
    if (view.table === '') {
      columns = [];
      fill('columns');
      emptyRow('No consolidated table yet.', 'It appears when a branch has sent its first rows.');
    } else {
      const answer = await getJson(`/api/tables/${encodeURIComponent(view.table)}/rows?${parameters()}`);
      // Something else was chosen meanwhile: its own answer is coming.
      if (turn !== latest) return;
      page = answer;
      columns = answer.columns;
      if (el('rows').firstElementChild?.dataset.key === undefined) fill('rows');
      showHead();
      showRows();
      showFilters();
      showPager();
      el('data-note').textContent =
        'Text beyond 200 characters and bytes beyond 32 are cut (…). Times are as the head office stores them: UTC for TIMESTAMP.';
    }
    fill('data-error');
  } catch (error) {
    if (turn === latest) fill('data-error', banner('warn', 'Cannot show this', error.message));
  } finally {
    const every = document.hidden ? EVERY_MS * 5 : EVERY_MS;
    if (turn === latest && active && el('live').checked) timer = setTimeout(show, every);
  }
}

tableSelect.addEventListener('change', () =>
  change({ table: tableSelect.value, sort: '', desc: false, filters: [], ...FIRST }),
);
branchSelect.addEventListener('change', () => change({ branch: branchSelect.value, ...FIRST }));
el('first').addEventListener('click', () => change(FIRST));
el('previous').addEventListener('click', () => change({ after: '', before: JSON.stringify(page.previous) }));
el('next').addEventListener('click', () => change({ after: JSON.stringify(page.next), before: '' }));
el('latest').addEventListener('click', () => {
  const on = view.sort === '_changed_at' && view.desc;
  change({ sort: on ? '' : '_changed_at', desc: !on, ...FIRST });
});
el('live').addEventListener('change', () => void show());
el('filter-operator').addEventListener('change', event => {
  el('filter-value').disabled = WITHOUT_VALUE.has(event.target.value);
});
el('filter-form').addEventListener('submit', event => {
  event.preventDefault();
  const operator = el('filter-operator').value;
  const filter = [el('filter-column').value, operator, WITHOUT_VALUE.has(operator) ? '' : el('filter-value').value];
  el('filter-value').value = '';
  change({
    filters: [...view.filters.filter(each => JSON.stringify(each) !== JSON.stringify(filter)), filter],
    ...FIRST,
  });
});
el('data-form').addEventListener('submit', event => event.preventDefault());
