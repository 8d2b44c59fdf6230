/** Looking for a key over all tables. */
import { banner, byId, fill, h } from '/assets/elements.js';
import { getJson, messageOf } from '/assets/server.js';
import { TEXTS } from '/assets/texts.js';

/** @import { KeyFound, KeySearch } from '../key-search.ts' */

const T = TEXTS.data;
const input = byId('key-value', HTMLInputElement);
const place = byId('key-found');
let latest = 0;

/** @param {{ branch: () => string, open: (table: string, key: readonly string[]) => void }} listeners */
export function listenToKeys({ branch, open }) {
  byId('key-form').addEventListener('submit', event => {
    event.preventDefault();
    void find(input.value.trim(), branch(), open);
  });
}

/**
 * @param {string} key
 * @param {string} branch
 * @param {(table: string, key: readonly string[]) => void} open
 */
async function find(key, branch, open) {
  const turn = (latest += 1);
  place.hidden = key === '';
  if (key === '') return;
  fill(place, h('p', 'muted', T.loading));
  const given = new URLSearchParams({ key });
  if (branch) given.set('branch', branch);
  try {
    const answer = /** @type {KeySearch} */ (await getJson(`/api/keys?${given}`, 15_000));
    if (turn === latest) showFound(key, answer, open);
  } catch (error) {
    if (turn === latest) fill(place, banner('warn', T.failed, messageOf(error)), closeButton());
  }
}

/**
 * @param {string} key
 * @param {KeySearch} answer
 * @param {(table: string, key: readonly string[]) => void} open
 */
function showFound(key, { found, searched, left }, open) {
  const tables = new Set(found.map(({ table }) => table)).size;
  const text = found.length === 0 ? T.notFound(key, searched) : T.foundKey(key, found.length, tables);
  const items = found.map(each => h('li', '', [openButton(each, open)]));
  fill(
    place,
    h('div', 'row-head', [h('h2', '', text), closeButton()]),
    items.length === 0 ? null : h('ul', 'found', items),
    left > 0 ? h('p', 'muted small', T.leftOut(left)) : null,
  );
}

/**
 * @param {KeyFound} found
 * @param {(table: string, key: readonly string[]) => void} open
 */
function openButton({ table, columns, key }, open) {
  const parts = columns.map((name, i) => (name === '_branch' ? key[i] : `${name} ${key[i]}`));
  const button = h('button', 'row-open', `${table}: ${parts.join(', ')}`);
  button.type = 'button';
  button.addEventListener('click', () => open(table, key));
  return button;
}

function closeButton() {
  const button = h('button', '', T.close);
  button.type = 'button';
  button.addEventListener('click', () => {
    place.hidden = true;
    input.focus();
  });
  return button;
}
