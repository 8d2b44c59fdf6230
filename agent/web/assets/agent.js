/** The agent's page: shows /api/status every two seconds, and posts Sync now. */
import {
  ago,
  banner,
  bytes,
  clock,
  count,
  duration,
  facts,
  fill,
  getJson,
  h,
  pill,
  plural,
  postJson,
  refresh,
  setPill,
  setText,
} from '/assets/page.js';

const STATES = {
  starting: ['busy', 'starting'],
  capturing: ['good', 'capturing'],
  full: ['warn', 'waits for room'],
  failing: ['warn', 'trying again'],
  stopped: ['bad', 'stopped'],
  superseded: ['bad', 'superseded'],
};

const syncButton = document.getElementById('sync');
let syncPosted = false;

function showNumber(id, value, unit) {
  fill(id, document.createTextNode(value), unit ? h('small', '', ` ${unit}`) : null);
}

function showErrors(status) {
  const shown = [
    ['', status.error],
    ['', status.link.error],
    ['', status.sync?.error],
  ];
  const seen = new Set();
  const banners = [];
  for (const [kind, error] of shown) {
    if (!error || seen.has(error.code + error.message)) continue;
    seen.add(error.code + error.message);
    const soft = status.state !== 'stopped' && status.state !== 'superseded';
    banners.push(banner(soft ? `warn ${kind}` : kind, error.code, error.message, `What to do: ${error.hint}`));
  }
  fill('errors', ...banners);
}

function showCapture({ capture, now, state }) {
  const { lagSeconds } = capture;
  if (lagSeconds === null) showNumber('lag', '–', 'not known yet');
  else showNumber('lag', duration(lagSeconds), 'behind');
  const { position } = capture;
  const place = position === null ? null : h('span', 'mono', `${position.file} ${position.offset}`);
  if (place !== null && position.gtidSet) place.title = position.gtidSet;
  fill(
    'capture',
    ...facts([
      ['Complete to', capture.capturedThrough === null ? null : ago(capture.capturedThrough, now)],
      ['Database', capture.source ?? (state === 'starting' ? 'connecting' : 'not connected')],
      ['Position', place],
      ['Transactions', count(capture.transactions)],
    ]),
  );
}

function showSpool({ spool, now }) {
  showNumber('waiting', count(spool.waitingBatches), spool.waitingBatches === 1 ? 'batch' : 'batches');
  const bar = document.getElementById('fullness');
  const share = spool.maxBytes > 0 ? spool.totalBytes / spool.maxBytes : 0;
  bar.value = Math.min(1, share);
  bar.classList.toggle('high', share > 0.85);
  bar.title = `${bytes(spool.totalBytes)} of ${bytes(spool.maxBytes)}`;
  fill(
    'spool',
    ...facts([
      ['To be sent', bytes(spool.waitingBytes)],
      ['Oldest', spool.oldestWaitingAt === null ? 'nothing waits' : ago(spool.oldestWaitingAt, now)],
      ['Spool', `${bytes(spool.totalBytes)} of ${bytes(spool.maxBytes)}`],
      ['Room for', spool.secondsUntilFull === null ? 'no end in sight' : duration(spool.secondsUntilFull)],
    ]),
  );
}

function showLink({ link, now }) {
  const word = link.up ? 'connected' : link.windowOpen ? 'no connection' : 'closed';
  showNumber('link', word, '');
  const window = link.windowOpen
    ? link.closesAt === null
      ? 'always open'
      : `open until ${clock(link.closesAt, now)}`
    : link.opensAt === null
      ? 'closed'
      : `opens ${clock(link.opensAt, now)}`;
  const windows = h('span', '', window);
  if (link.windows.length > 0) windows.title = `${link.windows.join(', ')} (${link.timeZone})`;
  fill(
    'link-facts',
    ...facts([
      ['Window', windows],
      ['Sent', bytes(link.sentBytes)],
      ['On its way', bytes(link.unconfirmedBytes)],
      ['Limit', link.maxBytesPerSecond > 0 ? `${bytes(link.maxBytesPerSecond)}/s` : null],
      ['Broker', link.broker],
    ]),
  );
}

function showSync({ sync, spool }) {
  const bar = document.getElementById('sync-bar');
  const running = sync?.state === 'running';
  if (running) syncPosted = false;
  syncButton.disabled = running || syncPosted;
  bar.hidden = !running;
  if (running) {
    bar.max = Math.max(1, sync.totalBatches);
    bar.value = sync.doneBatches;
    setText('sync-text', `${count(sync.doneBatches)} of ${plural(sync.totalBatches, 'batch', 'batches')}`);
  } else if (syncPosted) {
    setText('sync-text', 'asking …');
  } else if (sync?.state === 'done') {
    setText('sync-text', `done: ${plural(sync.doneBatches, 'batch', 'batches')} at the head office`);
  } else if (sync?.state === 'failed') {
    setText('sync-text', 'did not get through');
  } else {
    setText('sync-text', spool.waitingBatches === 0 ? 'nothing waits' : '');
  }
}

function showOffice({ stream, link, now }) {
  const missing = stream.applied === null ? null : stream.head - stream.applied;
  if (missing === null) showNumber('applied', '–', 'not heard from yet');
  else if (missing <= 0) showNumber('applied', 'up to date', '');
  else showNumber('applied', count(missing), missing === 1 ? 'batch to go' : 'batches to go');
  const epoch = h('span', 'mono', stream.epoch.slice(0, 8));
  epoch.title = stream.epoch;
  fill(
    'office',
    ...facts([
      ['Last answer', ago(link.lastAnswerAt, now)],
      ['Captured', count(stream.head)],
      ['Sent', count(stream.confirmed)],
      ['Received', count(stream.received)],
      ['Applied', count(stream.applied)],
      ['Epoch', epoch],
    ]),
  );
}

const TABLE_STATES = { waiting: ['', 'waiting'], copying: ['busy', 'copying'], done: ['good', 'done'] };

function showSnapshot({ snapshot }) {
  document.getElementById('snapshot').hidden = snapshot === null;
  if (snapshot === null) return;
  const done = snapshot.tables.filter(table => table.state === 'done').length;
  const left = snapshot.secondsLeft === null ? '' : `, about ${duration(snapshot.secondsLeft)} left`;
  setText('snapshot-note', `${done} of ${plural(snapshot.tables.length, 'table', 'tables')}${left}`);
  fill('snapshot-rows', ...snapshot.tables.map(showSnapshotTable));
}

function showSnapshotTable(table) {
  const bar = h('progress', 'bar');
  bar.max = 1;
  bar.value = table.state === 'done' ? 1 : table.estimatedRows ? Math.min(0.99, table.rows / table.estimatedRows) : 0;
  const rows =
    table.estimatedRows === null ? count(table.rows) : `${count(table.rows)} of about ${count(table.estimatedRows)}`;
  return h('tr', '', [
    h('td', '', `${table.schema}.${table.name}`),
    h('td', '', [pill(...TABLE_STATES[table.state])]),
    h('td', 'right nowrap', table.state === 'done' ? count(table.rows) : rows),
    h('td', 'progress', [bar]),
  ]);
}

function showTables({ capture, startedAt, now }) {
  const { tables } = capture;
  const total = tables.reduce((sum, table) => sum + table.rows, 0);
  fill(
    'tables-note',
    document.createTextNode(
      `${plural(tables.length, 'table', 'tables')}, ${plural(total, 'changed row', 'changed rows')} read; started `,
    ),
    ago(startedAt, now),
  );
  const rows = tables.map(table =>
    h('tr', '', [
      h('td', '', `${table.schema}.${table.name}`),
      h('td', table.target === table.name ? 'muted' : '', table.target),
      h('td', 'right', count(table.rows)),
    ]),
  );
  if (rows.length === 0) {
    const cell = h('td', 'empty', 'No change of a captured table has been read yet.');
    cell.colSpan = 3;
    rows.push(h('tr', '', [cell]));
  }
  fill('tables', ...rows);
}

async function show() {
  const status = await getJson('/api/status');
  document.title = `${status.branch} – Tributary`;
  setText('branch', status.branch);
  const [kind, word] = STATES[status.state] ?? ['', status.state];
  setPill('state', kind, word);
  showErrors(status);
  showCapture(status);
  showSpool(status);
  showLink(status);
  showSync(status);
  showOffice(status);
  showSnapshot(status);
  showTables(status);
}

const showNow = refresh(2000, show);

syncButton.addEventListener('click', async () => {
  syncPosted = true;
  syncButton.disabled = true;
  setText('sync-text', 'asking …');
  try {
    await postJson('/api/sync');
  } catch (error) {
    setText('sync-text', error.message);
    syncButton.disabled = false;
    syncPosted = false;
    return;
  }
  syncPosted = false;
  void showNow();
});
