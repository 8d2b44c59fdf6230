/** The demo's till: the form of a sale, and the last sales of the branch's own database. */
import { button, byId, fill, h, setText } from '/assets/elements.js';
import { plural } from '/assets/numbers.js';
import { getJson, messageOf, notice } from '/assets/server.js';
import { clockTime } from '/assets/times.js';

/** @import { Sale, TillOffice } from '../till.ts' */

const FIELDS = /** @type {const} */ ([
  'id',
  'product_id',
  'date',
  'region',
  'product_name',
  'quantity',
  'cost',
  'tax',
  'total_sales',
]);
const RIGHT = new Set(['product_id', 'quantity', 'cost', 'tax', 'total_sales']);
const SYNC_EVERY_MS = 1000;

const form = byId('sale', HTMLFormElement);

/** @param {string} name */
function field(name) {
  return byId(name, HTMLInputElement);
}

/** @returns {Sale} */
function sale() {
  return /** @type {Sale} */ (Object.fromEntries(FIELDS.map(name => [name, field(name).value.trim()])));
}

/** @param {Sale} chosen */
function choose(chosen) {
  for (const name of FIELDS) field(name).value = chosen[name];
  for (const row of document.querySelectorAll('#sales tr')) {
    row.classList.toggle('chosen', row instanceof HTMLElement && row.dataset.id === chosen.id);
  }
}

function clear() {
  const { value } = field('region');
  form.reset();
  field('region').value = value;
  for (const row of document.querySelectorAll('#sales tr')) row.classList.remove('chosen');
  field('product_id').focus();
}

async function refresh() {
  const { branch, region, sales } = /** @type {{ branch: string, region: string, sales: Sale[] }} */ (
    await getJson('/api/sales')
  );
  setText('branch', branch);
  document.title = `${branch} – till of the demo`;
  if (field('region').value === '') field('region').value = region;
  setText('sales-note', `${plural(sales.length, 'sale', 'sales')}, the newest first; choose one to change it`);
  fill(
    byId('sales'),
    ...sales.map(each => {
      const [, ...others] = FIELDS;
      const pick = button(each.id, `sale-${each.id}`, '', () => choose(each));
      pick.ariaLabel = `Choose sale ${each.id}`;
      const row = h('tr', '', [
        h('td', '', [pick]),
        ...others.map(name => h('td', `nowrap ${RIGHT.has(name) ? 'right' : ''}`, each[name])),
      ]);
      row.dataset.id = each.id;
      return row;
    }),
  );
}

/**
 * @param {string} path
 * @param {object} body
 * @returns {Promise<{ said: string }>}
 */
async function post(path, body) {
  const response = await fetch(path, {
    method: 'POST',
    signal: AbortSignal.timeout(10_000),
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  const answered = /** @type {unknown} */ (await response.json());
  const reply = /** @type {{ said: string, error?: { message: string } }} */ (answered);
  if (!response.ok) throw new Error(reply.error?.message ?? `The till answered ${response.status}.`);
  return reply;
}

/** @param {() => Promise<void>} work */
async function attempt(work) {
  try {
    await work();
  } catch (error) {
    notice('bad', messageOf(error));
  }
}

/** @param {'add' | 'update' | 'delete'} action */
function change(action) {
  return attempt(async () => {
    const { said } = await post(`/api/sales/${action}`, sale());
    await refresh();
    notice('good', said);
    if (action !== 'update') clear();
  });
}

/** Quantity, cost and tax make the total, as the shop's program has it; it can be written over. */
function addUp() {
  const [quantity, cost, tax] = ['quantity', 'cost', 'tax'].map(name => Number(field(name).value || NaN));
  const total = Number(quantity) * Number(cost) + Number(tax);
  if (Number.isFinite(total)) field('total_sales').value = total.toFixed(2);
}
for (const name of ['quantity', 'cost', 'tax']) field(name).addEventListener('input', addUp);

/** What the agent says, until its sync has ended. */
async function watchSync() {
  for (;;) {
    const { says, sync } = /** @type {TillOffice} */ (await getJson('/api/office'));
    const state = sync === 'running' ? 'The agent sends … ' : '';
    fill(byId('office'), state, ...says.map(part => (typeof part === 'string' ? part : clockTime(part.time))));
    if (sync !== 'running') return;
    await new Promise(resolve => setTimeout(resolve, SYNC_EVERY_MS));
  }
}

form.addEventListener('submit', event => {
  event.preventDefault();
  void change('add');
});
byId('update').addEventListener('click', () => void change('update'));
byId('delete').addEventListener('click', () => void change('delete'));
byId('clear').addEventListener('click', clear);
byId('refresh').addEventListener('click', () => void attempt(refresh));
byId('sync').addEventListener('click', () => {
  void attempt(async () => {
    await post('/api/sync', {});
    await watchSync();
  });
});
void attempt(refresh);
