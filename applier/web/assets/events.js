/**
 * Events: what happened to branches and who did it, the newest first. The selection is in the address (after #), so that
 * a view can be kept and sent.
 */
import { banner, byId, fill, h, pill, setOptions } from '/assets/elements.js';
import { patch } from '/assets/patch.js';
import { getJson, messageOf } from '/assets/server.js';
import { clockTime } from '/assets/times.js';

/** @import { BranchEvent } from '../../store/events.ts' */
/** @import { EventKindFacts } from '../../store/event-kinds.ts' */
/** @import { EventsPage } from '../events.ts' */
/** @import { Child } from '/assets/elements.js' */

const EVERY_MS = 10_000;
/** @type {[days: string, label: string][]} */
const AGES = [
  ['1', '24 hours'],
  ['7', '7 days'],
  ['30', '30 days'],
  ['90', '90 days'],
];
const DEFAULT_AGE = '7';
const DAY_MS = 86_400_000;

const branchInput = byId('events-branch', HTMLInputElement);
const kindSelect = byId('events-kind', HTMLSelectElement);
const ageSelect = byId('events-since', HTMLSelectElement);
const older = byId('events-older', HTMLButtonElement);

/** `days`: how far back. `before`: where each page after the first begins. */
const choice = { branch: '', kind: '', days: DEFAULT_AGE, before: /** @type {number[]} */ ([]) };
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;
let latest = 0;
let active = false;

/**
 * @param {{ branch?: string, kind?: string, since?: string, before?: number | undefined, limit?: number }} query
 * @throws {Error} what the server refuses
 */
export async function askEvents(query) {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value) given.set(name, String(value));
  const page = await getJson(`/api/events?${given}`);
  return /** @type {EventsPage} */ (page);
}

/** Fills the list from which a branch's name can be chosen. */
export async function offerBranches() {
  const { names } = /** @type {{ names: string[] }} */ (await getJson('/api/branch-names'));
  const list = byId('branch-names');
  const wanted = names.join('\n');
  if (list.dataset.names === wanted) return;
  list.dataset.names = wanted;
  fill(
    list,
    ...names.map(name => {
      const option = h('option');
      option.value = name;
      return option;
    }),
  );
}

export function enterEvents() {
  active = true;
  const given = new URLSearchParams(location.hash.split('?')[1] ?? '');
  const days = given.get('days') ?? DEFAULT_AGE;
  Object.assign(choice, {
    branch: given.get('branch') ?? '',
    kind: given.get('kind') ?? '',
    days: AGES.some(([age]) => age === days) ? days : DEFAULT_AGE,
    before: [],
  });
  branchInput.value = choice.branch;
  setOptions(ageSelect, AGES, choice.days);
  offerBranches().catch(() => undefined);
  void show();
}

export function leaveEvents() {
  active = false;
  clearTimeout(timer);
  latest += 1;
}

/** @param {Partial<typeof choice>} changes */
function change(changes) {
  Object.assign(choice, { before: [] }, changes);
  const given = new URLSearchParams();
  if (choice.branch) given.set('branch', choice.branch);
  if (choice.kind) given.set('kind', choice.kind);
  if (choice.days !== DEFAULT_AGE) given.set('days', choice.days);
  history.replaceState(null, '', given.size === 0 ? '#/events' : `#/events?${given}`);
  void show();
}

branchInput.addEventListener('change', () => change({ branch: branchInput.value.trim().toLowerCase() }));
kindSelect.addEventListener('change', () => change({ kind: kindSelect.value }));
ageSelect.addEventListener('change', () => change({ days: ageSelect.value }));
byId('events-form').addEventListener('submit', event => event.preventDefault());
older.addEventListener('click', () => {
  const next = Number(older.dataset.next);
  if (next > 0) choice.before.push(next);
  void show();
});

/** Reads all pages that are shown, and shows them. */
async function show() {
  clearTimeout(timer);
  latest += 1;
  const mine = latest;
  const since = new Date(Date.now() - Number(choice.days) * DAY_MS).toISOString();
  try {
    const pages = [];
    for (const before of [undefined, ...choice.before])
      pages.push(await askEvents({ branch: choice.branch, kind: choice.kind, since, before }));
    if (mine !== latest) return;
    fill(byId('events-error'));
    showPages(pages);
  } catch (error) {
    if (mine !== latest) return;
    fill(byId('events-error'), banner('bad', 'These events cannot be read', messageOf(error)));
  }
  if (active) timer = setTimeout(() => void show(), EVERY_MS);
}

/** @param {EventsPage[]} pages */
function showPages(pages) {
  /** @type {Readonly<Record<string, EventKindFacts>>} */
  const kinds = pages[0]?.kinds ?? {};
  /** @type {[string, string][]} */
  const options = Object.entries(kinds).map(([kind, { title }]) => [kind, title]);
  options.sort(([, a], [, b]) => a.localeCompare(b));
  setOptions(kindSelect, [['', 'all events'], ...options], choice.kind);
  const heads = ['When', 'Branch', 'Event', 'What', 'Who'].map(text => {
    const cell = h('th', '', text);
    cell.scope = 'col';
    return cell;
  });
  fill(byId('events-head'), h('tr', '', heads));
  const events = pages.flatMap(page => page.events);
  const body = byId('events-rows');
  patch(
    body,
    events,
    ({ id }) => String(id),
    event => eventRow(event, kinds, true),
  );
  body.querySelector('.nothing')?.remove();
  if (events.length === 0) {
    const cell = h('td', 'empty', 'Nothing has happened.');
    cell.colSpan = heads.length;
    body.append(h('tr', 'nothing', [cell]));
  }
  const next = pages.at(-1)?.next ?? null;
  older.hidden = next === null;
  older.dataset.next = next === null ? '' : String(next);
}

/**
 * One event as a row of a table.
 * @param {BranchEvent} event
 * @param {Partial<Readonly<Record<string, EventKindFacts>>>} kinds
 * @param {boolean} named with its branch
 */
export function eventRow({ id, at, branch, kind, text, code, actor }, kinds, named) {
  const { title, tone, runbook } = kinds[kind] ?? { title: kind, tone: 'none', runbook: null };
  /** @type {Child[]} */
  const links = [];
  if (code !== null) links.push(pageLink(`/errors/${encodeURIComponent(code)}`, code, `${id}-code`));
  if (runbook !== null) links.push(pageLink(`/runbook/${encodeURIComponent(runbook)}`, 'Runbook', `${id}-runbook`));
  const name = h('a', 'branch-name', branch);
  name.href = `#/branch/${encodeURIComponent(branch)}`;
  name.dataset.focus = `${id}-branch`;
  return h('tr', '', [
    h('td', 'when', [clockTime(at)]),
    named ? h('td', 'of-branch', [name]) : null,
    h('td', '', [pill(tone, title)]),
    h('td', 'wrap', [text, links.length > 0 ? h('div', 'links', links) : null]),
    h('td', 'who', actor),
  ]);
}

/**
 * @param {string} address
 * @param {string} text
 * @param {string} focus
 */
function pageLink(address, text, focus) {
  const link = h('a', '', text);
  link.href = address;
  link.dataset.focus = focus;
  return link;
}
