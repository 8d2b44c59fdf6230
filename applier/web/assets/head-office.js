/** The head office's page: three views of one address (after #), and what stands above them all. */
import { banner, fill, getJson, refresh, serverTime, setPill } from '/assets/page.js';
import { leaveBranch, showBranch } from '/assets/branch.js';
import { enterData, leaveData } from '/assets/data.js';
import { showFleet } from '/assets/fleet.js';

const EVERY_MS = 3000;

/** `#/`, `#/branch/paris`, `#/data?table=sales` */
function viewOf(hash) {
  const branch = /^#\/branch\/([^?]+)/.exec(hash);
  if (branch !== null) return { name: 'branch', branch: decodeURIComponent(branch[1]) };
  return { name: hash.startsWith('#/data') ? 'data' : 'fleet', branch: null };
}

let view = viewOf(location.hash);

function dependency(id, { name, up }) {
  setPill(id, up ? 'good' : 'bad', up ? name : `${name} down`);
}

function showErrors(status) {
  const failing = [status.broker, status.target].filter(({ error }) => error !== null);
  const errors = document.getElementById('errors');
  const shown = JSON.stringify(failing);
  // An alert that is made anew is read out anew.
  if (errors.dataset.shown === shown) return;
  errors.dataset.shown = shown;
  fill(errors, ...failing.map(({ name, error }) => banner('bad', `${name}: ${error.code}`, error.message, error.hint)));
}

const showNow = refresh(EVERY_MS, async () => {
  const { name, branch } = view;
  const status = await getJson('/api/status');
  serverTime(status.now);
  dependency('broker', status.broker);
  dependency('target', status.target);
  showErrors(status);
  if (name === 'fleet') showFleet(status);
  if (name === 'branch') await showBranch(branch, () => view.branch === branch);
});

function route() {
  view = viewOf(location.hash);
  for (const section of document.querySelectorAll('.view')) section.hidden = section.id !== `view-${view.name}`;
  for (const link of document.querySelectorAll('.tabs a')) {
    const here = link.dataset.view === (view.name === 'branch' ? 'fleet' : view.name);
    if (here) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  document.title = `${view.branch ?? (view.name === 'data' ? 'Data' : 'Head office')} – Tributary`;
  if (view.name !== 'branch') leaveBranch();
  if (view.name === 'data') enterData();
  else leaveData();
  void showNow();
}

addEventListener('hashchange', event => {
  const before = viewOf(new URL(event.oldURL).hash);
  route();
  if (view.name !== before.name || view.branch !== before.branch) scrollTo(0, 0);
});
document.addEventListener('tributary:changed', () => void showNow());
route();
