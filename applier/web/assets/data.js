/**
 * The data: one page of one consolidated table, read again every few seconds. What is chosen stands in the address
 * (after #), so that a view can be kept and sent.
 */
import { banner, count, fill, getJson, h } from '/assets/page.js';

const EVERY_MS = 4000;
/** The head office's own columns, shown fainter. */
const OWN = new Set(['_branch', '_batch', '_changed_at', '_key']);
const NUMERIC = /^(tinyint|smallint|mediumint|int|bigint|decimal|float|double|year)/;

const tableSelect = document.getElementById('table');
const branchSelect = document.getElementById('branch');
const previous = document.getElementById('previous');
const next = document.getElementById('next');

const view = { table: '', branch: '', page: 1, sort: '', desc: false, ...fromAddress() };
let seen = new Set();
let timer;
let latest = 0;

function fromAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const page = Number(given.get('page') ?? '1');
  return {
    table: given.get('table') ?? '',
    branch: given.get('branch') ?? '',
    page: Number.isInteger(page) && page > 0 ? page : 1,
    sort: given.get('sort') ?? '',
    desc: given.get('desc') === '1',
  };
}

function toAddress() {
  const given = new URLSearchParams({ table: view.table });
  if (view.branch) given.set('branch', view.branch);
  if (view.page > 1) given.set('page', String(view.page));
  if (view.sort) given.set('sort', view.sort);
  if (view.desc) given.set('desc', '1');
  history.replaceState(null, '', `#${given}`);
}

function change(changes) {
  Object.assign(view, changes);
  seen = new Set();
  toAddress();
  void show();
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
  select.value = chosen;
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
  const ids = branches.map(({ branch }) => branch).sort();
  if (view.branch && !ids.includes(view.branch)) ids.push(view.branch);
  setOptions(branchSelect, [['', 'all'], ...ids.map(id => [id, id])], view.branch);
}

function showHead(page) {
  const cells = page.columns.map(({ name, type, key }) => {
    const sorted = page.sort === name;
    const button = h('button', '', [
      document.createTextNode(name),
      key ? h('span', 'key', ' key') : null,
      document.createTextNode(sorted ? (page.descending ? ' ↓' : ' ↑') : ''),
    ]);
    button.type = 'button';
    button.title = `${type}; sorts by ${name}`;
    button.addEventListener('click', () => change({ sort: name, desc: sorted && !page.descending, page: 1 }));
    const cell = h('th', `${sorted ? 'sorted ' : ''}${NUMERIC.test(type) ? 'right' : ''}`, [button]);
    cell.ariaSort = sorted ? (page.descending ? 'descending' : 'ascending') : 'none';
    return cell;
  });
  // A focused heading would lose its focus if it were made anew each time.
  const shape = JSON.stringify([page.columns, page.sort, page.descending]);
  const head = document.getElementById('columns');
  if (head.dataset.shape === shape) return;
  head.dataset.shape = shape;
  fill(head, h('tr', '', cells));
}

function showRows(page) {
  const first = seen.size === 0;
  const now = new Set();
  const rows = page.rows.map(row => {
    const identity = JSON.stringify(row);
    now.add(identity);
    const cells = row.map((value, i) => {
      const { name, type } = page.columns[i];
      const classes = [value === null ? 'null' : '', OWN.has(name) ? 'own' : '', NUMERIC.test(type) ? 'right' : ''];
      const cell = h('td', classes.filter(Boolean).join(' '), value === null ? 'NULL' : value);
      if (value !== null && value.length > 30) cell.title = value;
      return cell;
    });
    return h('tr', !first && !seen.has(identity) ? 'new' : '', cells);
  });
  seen = now;
  if (rows.length === 0) {
    const cell = h('td', 'empty', view.page > 1 ? 'No rows on this page.' : 'No rows.');
    cell.colSpan = Math.max(1, page.columns.length);
    rows.push(h('tr', '', [cell]));
  }
  fill('rows', ...rows);
}

async function show() {
  clearTimeout(timer);
  const turn = (latest += 1);
  try {
    await showChoices();
    if (view.table === '') {
      fill('columns');
      fill('rows', h('tr', '', [h('td', 'empty', 'No consolidated table yet.')]));
    } else {
      const query = new URLSearchParams({ page: String(view.page), desc: view.desc ? '1' : '0' });
      if (view.branch) query.set('branch', view.branch);
      if (view.sort) query.set('sort', view.sort);
      const page = await getJson(`/api/tables/${encodeURIComponent(view.table)}/rows?${query}`);
      // Something else was chosen meanwhile: its own answer is coming.
      if (turn !== latest) return;
      showHead(page);
      showRows(page);
      previous.disabled = page.page <= 1;
      next.disabled = !page.more;
      document.getElementById('page-number').textContent = `page ${page.page}`;
      document.getElementById('data-note').textContent =
        'Text beyond 200 characters and bytes beyond 32 are cut (…). Times are UTC as the head office stores them.';
    }
    fill('data-error');
  } catch (error) {
    if (turn === latest) fill('data-error', banner('warn', 'Cannot show this', error.message));
  } finally {
    if (turn === latest) timer = setTimeout(show, document.hidden ? EVERY_MS * 5 : EVERY_MS);
  }
}

tableSelect.addEventListener('change', () => change({ table: tableSelect.value, page: 1, sort: '', desc: false }));
branchSelect.addEventListener('change', () => change({ branch: branchSelect.value, page: 1 }));
previous.addEventListener('click', () => change({ page: view.page - 1 }));
next.addEventListener('click', () => change({ page: view.page + 1 }));
void show();
