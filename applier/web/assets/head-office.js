/** The head office's page: its views of one address (after #), and what stands above them all. */
import { banner, byId, fill, setPill } from '/assets/elements.js';
import { leaveBranch, showBranch } from '/assets/branch.js';
import { enterBulk, leaveBulk, linkToBulk } from '/assets/bulk.js';
import { enterData, leaveData } from '/assets/data.js';
import { enterEvents, leaveEvents } from '/assets/events.js';
import { enterFleet, fleetQuery, showFleet } from '/assets/fleet.js';
import { getJson, refresh } from '/assets/server.js';
import { fillTexts, TEXTS } from '/assets/texts.js';
import { enterTime, leaveTime } from '/assets/time.js';
import { serverTime } from '/assets/times.js';
import { showToday } from '/assets/today.js';

/** @import { ApplierStatus, DependencyStatus } from '../status.ts' */
/** @import { Today } from '../today.ts' */

const EVERY_MS = 3000;
/** @type {Record<string, string>} */
const TITLES = TEXTS.nav;

/**
 * `#/`, `#/branches?state=halted`, `#/branch/paris`, `#/data?table=sales`, `#/time?branch=paris`, `#/events?kind=halted`,
 * `#/act?state=different`
 * @param {string} hash
 */
function viewOf(hash) {
  const branch = /^#\/branch\/([^?]+)/.exec(hash)?.[1];
  if (branch !== undefined) return { name: 'branch', branch: decodeURIComponent(branch) };
  const name = /^#\/(act|branches|data|events|time)(?:\?|$)/.exec(hash)?.[1];
  // Before there was a page for today, this was the address of the branches.
  if (name === 'branches' || (name === undefined && hash.startsWith('#/?'))) return { name: 'fleet', branch: null };
  return { name: name ?? 'today', branch: null };
}

let view = viewOf(location.hash);

/** @param {DependencyStatus} dependency */
function showDependency({ name, up }) {
  setPill(name, up ? 'good' : 'bad', up ? name : `${name} down`);
}

/** @param {Pick<ApplierStatus, 'broker' | 'target'> | null} status */
function showErrors(status) {
  const failing = (status === null ? [] : [status.broker, status.target]).flatMap(({ name, error }) =>
    error === null ? [] : [{ name, error }],
  );
  const errors = byId('errors');
  const shown = JSON.stringify(failing);
  // A screen reader reads an alert out whenever it is made anew.
  if (errors.dataset.shown === shown) return;
  errors.dataset.shown = shown;
  fill(errors, ...failing.map(({ name, error }) => banner('bad', `${name}: ${error.code}`, error.message, error.hint)));
}

/**
 * @param {Pick<ApplierStatus, 'now' | 'broker' | 'target'>} status
 * @param {boolean} withErrors
 */
function showHead(status, withErrors) {
  serverTime(status.now);
  showDependency(status.broker);
  showDependency(status.target);
  showErrors(withErrors ? status : null);
}

fillTexts();

const showNow = refresh(EVERY_MS, async () => {
  const { name, branch } = view;
  if (name === 'today') {
    const today = /** @type {Today} */ (await getJson('/api/today'));
    // What is down stands among what needs a person there.
    showHead(today, false);
    await showToday(today);
    return;
  }
  const status = /** @type {ApplierStatus} */ (await getJson(`/api/status${name === 'fleet' ? fleetQuery() : ''}`));
  showHead(status, true);
  // What is chosen may have changed meanwhile: then the next answer follows at once.
  if (name === 'fleet') {
    showFleet(status);
    linkToBulk(fleetQuery());
  }
  if (branch !== null) await showBranch(branch, () => view.branch === branch);
});

function route() {
  view = viewOf(location.hash);
  for (const section of document.querySelectorAll('.view'))
    section.toggleAttribute('hidden', section.id !== `view-${view.name}`);
  for (const link of document.querySelectorAll('.tabs a')) {
    const here =
      link.getAttribute('data-view') === (view.name === 'branch' || view.name === 'act' ? 'fleet' : view.name);
    if (here) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  document.title = `${view.branch ?? TITLES[view.name] ?? ''} – Tributary`;
  if (view.name === 'fleet') enterFleet();
  if (view.name !== 'branch') leaveBranch();
  if (view.name === 'act') void enterBulk();
  else leaveBulk();
  if (view.name === 'data') enterData();
  else leaveData();
  if (view.name === 'events') enterEvents();
  else leaveEvents();
  if (view.name === 'time') enterTime();
  else leaveTime();
  void showNow();
}

addEventListener('hashchange', event => {
  const before = viewOf(new URL(event.oldURL).hash);
  route();
  if (view.name !== before.name || view.branch !== before.branch) scrollTo(0, 0);
});
document.addEventListener('tributary:changed', () => void showNow());
route();
