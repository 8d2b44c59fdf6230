/**
 * One action for several branches: those that fit a filter of the page of branches. First the server lists what would be
 * done for each and what it would refuse; then a person ticks, and confirms.
 */
import { banner, byId, fill, h, pill, setOptions, setText } from '/assets/elements.js';
import { count, plural } from '/assets/numbers.js';
import { patch } from '/assets/patch.js';
import { act, getJson, messageOf } from '/assets/server.js';

/** @import { BulkAction, BulkLine } from '../../branches/bulk.ts' */
/** @import { BulkAnswer } from '../bulk-routes.ts' */

/** Branches of one request. */
const AT_A_TIME = 50;
/** Bytes of what one request says, well below what the server takes. */
const MAX_BYTES = 48 * 1024;
const encoder = new TextEncoder();

/** @type {Record<BulkAction, { title: string, does: string }>} */
const ACTIONS = {
  verify: { title: 'Compare', does: 'Compare' },
  repair: { title: 'Repair what differs', does: 'Repair' },
  snapshot: { title: 'Copy all tables again', does: 'Copy again' },
  retry: { title: 'Retry what is halted or set aside', does: 'Retry' },
};

const form = byId('bulk-form', HTMLFormElement);
const chosenAction = byId('bulk-action', HTMLSelectElement);
const confirm = byId('bulk-do', HTMLButtonElement);

/** @type {string[]} */
let branches = [];
/** @type {BulkLine[]} */
let lines = [];
/** Ticked branches. @type {Set<string>} */
const ticked = new Set();
/** Branches for which it was done. @type {Set<string>} */
const done = new Set();
/** What is under way; '': nothing. */
let busy = '';
/** Counts what people choose: what was asked for an earlier choice is not taken. */
let turn = 0;
let listed = /** @type {BulkAction} */ ('verify');

function filterOfAddress() {
  return new URLSearchParams(location.hash.split('?')[1] ?? '');
}

export async function enterBulk() {
  const filter = filterOfAddress();
  const wanted = filter.get('action');
  setOptions(
    chosenAction,
    Object.entries(ACTIONS).map(([action, { title }]) => [action, title]),
    wanted !== null && wanted in ACTIONS ? wanted : 'verify',
  );
  forget();
  branches = [];
  show();
  const mine = turn;
  try {
    const fitting = new URLSearchParams();
    for (const name of ['state', 'search']) {
      const value = filter.get(name);
      if (value) fitting.set(name, value);
    }
    const answer = await getJson(`/api/branch-ids?${fitting}`);
    if (mine !== turn) return;
    branches = /** @type {{ branches: string[] }} */ (answer).branches;
    const which = [...fitting.values()].join(', ');
    setText('bulk-which', `${plural(branches.length, 'branch', 'branches')}${which === '' ? '' : `: ${which}`}`);
  } catch (error) {
    if (mine !== turn) return;
    showFault(error);
  }
  show();
}

export function leaveBulk() {
  forget();
}

/** Ends what is under way after the part that the server has. */
function forget() {
  turn += 1;
  busy = '';
  lines = [];
  ticked.clear();
  done.clear();
  fill(byId('bulk-error'));
}

/** @param {unknown} error */
function showFault(error) {
  fill(byId('bulk-error'), banner('bad', 'That did not work', messageOf(error)));
}

function show() {
  byId('bulk-list', HTMLButtonElement).disabled = busy !== '' || branches.length === 0;
  byId('bulk-result').hidden = lines.length === 0;
  const open = lines.filter(({ branch, does }) => does !== null && !done.has(branch));
  const chosen = open.filter(({ branch }) => ticked.has(branch));
  confirm.disabled = busy !== '' || chosen.length === 0;
  confirm.textContent =
    chosen.length === 0
      ? ACTIONS[listed].does
      : `${ACTIONS[listed].does} ${plural(chosen.length, 'branch', 'branches')}`;
  const refused = lines.filter(({ refused: reason }) => reason !== null).length;
  const summary = [
    open.length > 0 ? `${count(open.length)} can be done` : null,
    done.size > 0 ? `${count(done.size)} done` : null,
    refused > 0 ? `${count(refused)} refused` : null,
  ];
  setText('bulk-note', busy || summary.filter(part => part !== null).join(' · '));
  const all = byId('bulk-all', HTMLInputElement);
  all.checked = open.length > 0 && chosen.length === open.length;
  all.disabled = open.length === 0 || busy !== '';
  patch(
    byId('bulk-rows'),
    lines.map(line => ({ line, isTicked: ticked.has(line.branch), isDone: done.has(line.branch), busy })),
    ({ line }) => line.branch,
    row,
  );
}

/** @param {{ line: BulkLine, isTicked: boolean, isDone: boolean, busy: string }} item */
function row({ line: { branch, does, refused }, isTicked, isDone, busy: work }) {
  const box = h('input');
  box.type = 'checkbox';
  box.checked = isTicked;
  box.toggleAttribute('checked', isTicked);
  box.disabled = does === null || isDone || work !== '';
  box.ariaLabel = branch;
  box.dataset.focus = 'tick';
  box.addEventListener('change', () => {
    if (box.checked) ticked.add(branch);
    else ticked.delete(branch);
    show();
  });
  const link = h('a', 'branch-name', branch);
  link.href = `#/branch/${encodeURIComponent(branch)}`;
  const name = h('th', '', [link]);
  name.scope = 'row';
  const what =
    refused === null
      ? [h('div', '', does)]
      : [h('div', '', refused.reason), refused.hint ? h('div', 'second', refused.hint) : null];
  const standing = isDone
    ? pill('good', 'requested')
    : refused === null
      ? pill('none', 'ready')
      : pill('warn', 'refused');
  return h('tr', '', [h('td', '', [box]), name, h('td', '', [standing]), h('td', '', what)]);
}

/**
 * The next items that one request can hold, by their number and by the bytes of their JSON; at least one.
 * @template T
 * @param {readonly T[]} items
 * @param {number} from
 */
function partFrom(items, from) {
  let to = from;
  let bytes = 0;
  while (to < items.length && to - from < AT_A_TIME) {
    bytes += encoder.encode(JSON.stringify(items[to])).length + 1;
    if (bytes > MAX_BYTES && to > from) break;
    to += 1;
  }
  return items.slice(from, to);
}

/**
 * Asks the server part by part; nothing more once the person has cancelled or chosen something else, or one part has
 * failed.
 * @template T
 * @param {readonly T[]} items
 * @param {string} word
 * @param {(part: readonly T[]) => Promise<unknown>} ask
 * @param {(answer: BulkLine[]) => void} take
 */
async function partByPart(items, word, ask, take) {
  const mine = turn;
  fill(byId('bulk-error'));
  try {
    for (let from = 0; from < items.length;) {
      busy = `${word} ${count(from)} of ${plural(items.length, 'branch', 'branches')} …`;
      show();
      const part = partFrom(items, from);
      const answer = await ask(part);
      if (answer === null || mine !== turn) return;
      take([.../** @type {BulkAnswer} */ (answer).lines]);
      from += part.length;
    }
  } catch (error) {
    if (mine === turn) showFault(error);
  } finally {
    if (mine === turn) {
      busy = '';
      show();
    }
  }
}

async function list() {
  const action = /** @type {BulkAction} */ (chosenAction.value);
  forget();
  listed = action;
  await partByPart(
    branches,
    'listed',
    part => act('applier', '/api/bulk/list', 'operate', { action, branches: part }),
    answer => {
      lines.push(...answer);
      for (const { branch, does } of answer) if (does !== null) ticked.add(branch);
    },
  );
}

async function doTicked() {
  const action = listed;
  const confirmed = lines.flatMap(({ branch, does }) =>
    does !== null && ticked.has(branch) && !done.has(branch) ? [{ branch, does }] : [],
  );
  await partByPart(
    confirmed,
    'done',
    part => act('applier', '/api/bulk/do', 'operate', { action, lines: part }),
    answer => {
      const fresh = new Map(answer.map(line => [line.branch, line]));
      lines = lines.map(line => fresh.get(line.branch) ?? line);
      for (const { branch, does } of answer) {
        ticked.delete(branch);
        if (does !== null) done.add(branch);
      }
    },
  );
  document.dispatchEvent(new Event('tributary:changed'));
}

form.addEventListener('submit', event => {
  event.preventDefault();
  void list();
});
chosenAction.addEventListener('change', () => {
  forget();
  show();
});
confirm.addEventListener('click', () => void doTicked());
byId('bulk-all', HTMLInputElement).addEventListener('change', ({ target }) => {
  if (!(target instanceof HTMLInputElement)) return;
  ticked.clear();
  if (target.checked) for (const { branch, does } of lines) if (does !== null) ticked.add(branch);
  show();
});
/** The link of the page of branches to what is shown there. @param {string} query of the fleet's page */
export function linkToBulk(query) {
  byId('bulk-link', HTMLAnchorElement).href = `#/act${query}`;
}
