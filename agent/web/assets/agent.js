/**
 * The branch's page: shows /api/status every two seconds, and posts Sync now. First what a shop's manager wants to know,
 * in the words of sentence.ts; below that what a technician asks.
 */
import { showDay } from '/assets/day.js';
import { banner, byId, facts, fill, h, icon, pill, setPill, setText, sparkline } from '/assets/elements.js';
import { bytes, count, duration, plural, rate, tableText } from '/assets/numbers.js';
import { patch } from '/assets/patch.js';
import { act, getJson, messageOf, notice, refresh } from '/assets/server.js';
import { ago, clock, clockTime, serverTime } from '/assets/times.js';
import { trafficFacts } from '/assets/traffic.js';

/** @import { AgentState, AgentStatus, Part, Sentence, SnapshotTableStatus } from '../status.ts' */
/** @import { Kind } from '/assets/elements.js' */

/** @type {Record<AgentState, [Kind, string]>} */
const STATES = {
  starting: ['busy', 'starting'],
  capturing: ['good', 'capturing'],
  'set-aside': ['bad', 'capturing, without some tables'],
  full: ['warn', 'waiting for room'],
  failing: ['warn', 'retrying'],
  stopped: ['bad', 'stopped'],
  superseded: ['bad', 'superseded'],
};

const syncButton = byId('sync', HTMLButtonElement);
let syncPosted = false;

/**
 * @param {string} id
 * @param {string} value
 * @param {string} [unit]
 */
function showNumber(id, value, unit) {
  fill(byId(id), value, unit ? h('small', '', ` ${unit}`) : null);
}

/**
 * @param {string} id
 * @param {readonly Part[]} parts
 */
function showParts(id, parts) {
  const element = byId(id);
  // Only what has changed is replaced: somebody may be selecting the text.
  const made = h(
    'p',
    '',
    parts.map(part => (typeof part === 'string' ? part : clockTime(part.time))),
  );
  if (element.innerHTML !== made.innerHTML) element.replaceChildren(...made.childNodes);
}

/** @param {Sentence} sentence */
function showSentence({ kind, says, later, reasons, syncHelps }) {
  const place = byId('sentence-icon');
  if (place.dataset.kind !== kind) {
    place.dataset.kind = kind;
    fill(place, icon(kind));
    byId('sentence-card').className = `card sentence ${kind}`;
  }
  showParts('sentence', says);
  showParts('later', later);
  syncButton.classList.toggle('primary', syncHelps);
  patch(
    byId('errors'),
    reasons,
    ({ code, title, text }) => `${code} ${title} ${text}`,
    ({ kind, title, text, cure, code, since }) => {
      const notes = [since === null ? '' : `since ${clock(since)}`, code ?? ''].filter(note => note !== '').join(' · ');
      return banner(kind, title, text, cure, notes === '' ? null : h('p', 'small muted', notes));
    },
  );
}

/** @param {AgentStatus} status */
function showCapture({ capture, state }) {
  const { lagSeconds } = capture;
  if (lagSeconds === null) showNumber('lag', '–', 'not known yet');
  else showNumber('lag', duration(lagSeconds), 'behind');
  const { position } = capture;
  const place = h('span', 'mono', position === null ? '' : `${position.file} ${position.offset}`);
  place.title = position?.gtidSet ?? '';
  fill(
    byId('capture'),
    ...facts([
      ['Captured until', capture.capturedThrough === null ? null : ago(capture.capturedThrough)],
      ['Database', capture.source ?? (state === 'starting' ? 'connecting' : 'not connected')],
      ['Position', position === null ? null : place],
      ['Transactions', count(capture.transactions)],
    ]),
  );
}

/** @param {AgentStatus} status */
function showSpool({ spool, link }) {
  showNumber('waiting', count(spool.waitingBatches), spool.waitingBatches === 1 ? 'batch' : 'batches');
  const bar = byId('fullness', HTMLProgressElement);
  const share = spool.maxBytes > 0 ? spool.totalBytes / spool.maxBytes : 0;
  bar.value = Math.min(1, share);
  bar.classList.toggle('high', share > 0.85);
  bar.title = `${bytes(spool.totalBytes)} of ${bytes(spool.maxBytes)}`;
  const { values, everySeconds } = spool.history;
  const span = duration(values.length * everySeconds);
  const curve = `Waiting over the last ${span}: at most ${bytes(Math.max(0, ...values))}, now ${bytes(values.at(-1) ?? 0)}`;
  fill(byId('history'), values.length > 1 ? sparkline(values, curve) : null);
  fill(
    byId('spool'),
    ...facts([
      ['To be sent', bytes(spool.waitingBytes)],
      ['Merged away', spool.collapsed.changes === 0 ? null : `${count(spool.collapsed.changes)} changes`],
      ['Oldest', spool.oldestWaitingAt === null ? 'nothing waits' : ago(spool.oldestWaitingAt)],
      ['Spool', `${bytes(spool.totalBytes)} of ${bytes(spool.maxBytes)}`],
      ['Time left', link.secondsLeft === null ? null : `${duration(link.secondsLeft)} at this rate`],
      ['Room for', spool.secondsUntilFull === null ? 'no limit in sight' : duration(spool.secondsUntilFull)],
    ]),
  );
}

/** @param {AgentStatus} status */
function showLink({ link }) {
  const word = link.up ? 'connected' : link.windowOpen ? 'no connection' : 'closed';
  showNumber('link', word, '');
  const window = link.windowOpen
    ? link.closesAt === null
      ? 'always open'
      : `open until ${clock(link.closesAt)}`
    : link.opensAt === null
      ? 'closed'
      : `opens ${clock(link.opensAt)}`;
  const windows = h('span', '', window);
  if (link.windows.length > 0) windows.title = `${link.windows.join(', ')} (${link.timeZone})`;
  fill(
    byId('link-facts'),
    ...facts([
      ['Window', windows],
      ['Sent', bytes(link.sentBytes)],
      ['Rate', rate(link.bytesPerSecond / 1024, 'KiB')],
      ['On its way', bytes(link.unconfirmedBytes)],
      ...trafficFacts(link.traffic),
      ['Freshness', link.freshnessSeconds > 0 ? `sent when ${duration(link.freshnessSeconds)} old` : null],
      ['Limit', link.maxBytesPerSecond > 0 ? `${bytes(link.maxBytesPerSecond)}/s` : null],
      ['Broker', link.broker],
    ]),
  );
}

/** @param {AgentStatus} status */
function showSync({ sync }) {
  const bar = byId('sync-bar', HTMLProgressElement);
  const running = sync?.state === 'running';
  if (running) syncPosted = false;
  syncButton.disabled = running || syncPosted;
  bar.hidden = !running;
  if (running) {
    bar.max = Math.max(1, sync.totalBatches);
    bar.value = sync.doneBatches;
    const left = sync.secondsLeft === null ? '' : `, ${duration(sync.secondsLeft)} left`;
    const pace = sync.bytesPerSecond < 1 ? '' : `, ${bytes(sync.bytesPerSecond)}/s`;
    setText(
      'sync-text',
      `${count(sync.doneBatches)} of ${plural(sync.totalBatches, 'batch', 'batches')}${pace}${left}`,
    );
  } else if (syncPosted) {
    setText('sync-text', 'starting …');
  } else if (sync?.state === 'done') {
    const arrived = `done: ${plural(sync.doneBatches, 'batch', 'batches')} at the head office`;
    setText('sync-text', sync.doneBatches === 0 ? 'done: nothing waited' : arrived);
  } else if (sync?.state === 'failed') {
    setText('sync-text', 'failed');
  } else {
    setText('sync-text', '');
  }
}

/** @param {AgentStatus} status */
function showOffice({ stream, link }) {
  const missing = stream.applied === null ? null : stream.head - stream.applied;
  if (missing === null) showNumber('applied', '–', 'not heard from yet');
  else if (missing <= 0) showNumber('applied', 'up to date', '');
  else showNumber('applied', count(missing), missing === 1 ? 'batch to go' : 'batches to go');
  const epoch = h('span', 'mono', stream.epoch.slice(0, 8));
  epoch.title = stream.epoch;
  fill(
    byId('office'),
    ...facts([
      ['Last answer', ago(link.lastAnswerAt)],
      ['Captured', count(stream.head)],
      ['Sent', count(stream.confirmed)],
      ['Received', count(stream.received)],
      ['Applied', count(stream.applied)],
      ['Epoch', epoch],
    ]),
  );
}

/** @type {Record<SnapshotTableStatus['state'], [Kind, string]>} */
const TABLE_STATES = { waiting: ['none', 'waiting'], copying: ['busy', 'copying'], done: ['good', 'done'] };

/** @param {AgentStatus} status */
function showSnapshot({ snapshot }) {
  byId('snapshot').hidden = snapshot === null;
  if (snapshot === null) return;
  const done = snapshot.tables.filter(table => table.state === 'done').length;
  const left = snapshot.secondsLeft === null ? '' : `, about ${duration(snapshot.secondsLeft)} left`;
  setText('snapshot-note', `${done} of ${plural(snapshot.tables.length, 'table', 'tables')}${left}`);
  patch(byId('snapshot-rows'), snapshot.tables, tableText, showSnapshotTable);
}

/** @param {SnapshotTableStatus} table */
function showSnapshotTable(table) {
  const bar = h('progress', 'bar');
  bar.max = 1;
  bar.ariaLabel = `Copied of ${tableText(table)}`;
  bar.value = table.state === 'done' ? 1 : table.estimatedRows ? Math.min(0.99, table.rows / table.estimatedRows) : 0;
  const rows =
    table.estimatedRows === null ? count(table.rows) : `${count(table.rows)} of about ${count(table.estimatedRows)}`;
  return h('tr', '', [
    h('td', '', tableText(table)),
    h('td', '', [pill(...TABLE_STATES[table.state])]),
    h('td', 'right nowrap', table.state === 'done' ? count(table.rows) : rows),
    h('td', 'progress', [bar]),
  ]);
}

/** @param {AgentStatus} status */
function showTables({ capture, startedAt }) {
  const { tables } = capture;
  const total = tables.reduce((sum, table) => sum + table.rows, 0);
  const note = `${plural(tables.length, 'table', 'tables')}, ${plural(total, 'changed row', 'changed rows')} read since `;
  fill(byId('tables-note'), note, clockTime(startedAt));
  byId('tables-empty').hidden = tables.length > 0;
  patch(byId('tables'), tables, tableText, ({ schema, name, target, rows }) => {
    const heading = h('th', '', tableText({ schema, name }));
    heading.scope = 'row';
    return h('tr', '', [heading, h('td', target === name ? 'muted' : '', target), h('td', 'right', count(rows))]);
  });
}

async function show() {
  const status = /** @type {AgentStatus} */ (await getJson('/api/status'));
  serverTime(status.now);
  document.title = `${status.branch} – Tributary`;
  setText('branch', status.branch);
  setPill('state', ...STATES[status.state]);
  showSentence(status.sentence);
  showDay(status, new Date(status.now));
  showCapture(status);
  showSpool(status);
  showLink(status);
  showSync(status);
  showOffice(status);
  showSnapshot(status);
  showTables(status);
}

const showNow = refresh(2000, show);

async function syncNow() {
  syncPosted = true;
  syncButton.disabled = true;
  setText('sync-text', 'starting …');
  try {
    const answer = await act('agent', '/api/sync', 'sync');
    if (answer === null) setText('sync-text', '');
  } catch (error) {
    setText('sync-text', '');
    notice('bad', messageOf(error));
  }
  syncPosted = false;
  syncButton.disabled = false;
  void showNow();
}
syncButton.addEventListener('click', () => void syncNow());
