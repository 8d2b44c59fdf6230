/** One branch in detail: how it stands, what is wrong with what can be done about it, and what it has here. */
import {
  act,
  ago,
  banner,
  bytes,
  clock,
  clockTime,
  confirmAction,
  count,
  duration,
  facts,
  fill,
  getJson,
  h,
  notice,
  patch,
  pill,
  plural,
  rate,
  sparkline,
  tableText,
} from '/assets/page.js';
import { STATES, troublesOf } from '/assets/fleet.js';

const view = document.getElementById('branch-view');
let shown = null;

export function leaveBranch() {
  shown = null;
  fill(view);
}

/** @param wanted whether this branch is still the one that is looked at when its answer comes */
export async function showBranch(id, wanted) {
  if (shown !== id) {
    shown = id;
    fill(view, h('p', 'muted', 'loading …'));
  }
  const address = `/api/branches/${encodeURIComponent(id)}`;
  let detail;
  try {
    detail = await getJson(address);
    detail.leftOut = detail.status.quarantined > 0 ? await getJson(`${address}/quarantine`) : null;
  } catch (error) {
    if (error.code !== 'BRANCH_UNKNOWN') throw error;
    if (wanted()) fill(view, h('p', 'empty', `There is no branch ${id}.`));
    return;
  }
  if (!wanted()) return;
  if (view.firstElementChild?.dataset.key === undefined) fill(view);
  patch(
    view,
    sectionsOf(detail),
    ({ key }) => key,
    ({ make }) => make(),
  );
}

function sectionsOf(detail) {
  const sections = [
    { key: 'head', make: () => head(detail) },
    { key: 'troubles', make: () => troubles(detail) },
    { key: 'cards', make: () => cards(detail) },
  ];
  if (detail.snapshots.length > 0 || detail.requests.length > 0) {
    sections.push({ key: 'snapshots', make: () => snapshots(detail) });
  }
  if (detail.leftOut !== null) sections.push({ key: 'left-out', make: () => leftOut(detail.leftOut) });
  if (detail.quarantined.length > 0) sections.push({ key: 'quarantine', make: () => quarantine(detail) });
  if (detail.verified.length > 0) sections.push({ key: 'verified', make: () => verified(detail) });
  sections.push({ key: 'tables', make: () => tables(detail) });
  return sections;
}

function button(text, focus, className, onClick) {
  const element = h('button', className, text);
  element.type = 'button';
  element.dataset.focus = focus;
  element.addEventListener('click', onClick);
  return element;
}

async function run(branch, action, body) {
  try {
    const answer = await act('applier', `/api/branches/${encodeURIComponent(branch)}/${action}`, body);
    if (answer === null) return;
    notice('good', answer.said);
    document.dispatchEvent(new Event('tributary:changed'));
  } catch (error) {
    notice('bad', error.message);
  }
}

function head({ status }) {
  const { branch, state } = status;
  const { kind, word } = STATES[state] ?? { kind: 'none', word: state };
  const snapshot = button('Copy all tables again', 'snapshot', '', async () => {
    const sure = await confirmAction(
      `Copy all tables of ${branch} again?`,
      [
        'The branch reads all its rows once more and sends them, while changes go on. That costs its link the size of its tables.',
      ],
      'Copy again',
    );
    if (sure) await run(branch, 'snapshot');
  });
  return h('div', 'branch-head', [h('h2', 'branch-title', branch), pill(kind, word), h('span', 'spacer'), snapshot]);
}

function troubles(detail) {
  const { status } = detail;
  return h(
    'div',
    'troubles',
    troublesOf(status).map((trouble, i) => {
      const isHalt = i === 0 && status.halted !== null;
      return banner(trouble.kind, trouble.title, trouble.text, trouble.cure, isHalt ? haltActions(status) : null);
    }),
  );
}

function haltActions({ branch, halted }) {
  const retry = button('Try again', 'retry', 'primary', () => run(branch, 'retry'));
  const approve = button('Allow the change', 'approve', '', async () => {
    const sure = await confirmAction(
      'Allow the change?',
      [
        halted.reason,
        'Tables at the head office may be made, changed and rebuilt for it. Large ones take their time; other branches that write to them wait meanwhile.',
      ],
      'Allow it',
    );
    if (sure) await run(branch, 'approve');
  });
  const leave = button('Go on without what is refused', 'quarantine', '', async () => {
    const sure = await confirmAction(
      `Go on without what is refused of batch ${count(halted.seq)}?`,
      [
        `The rows that the head office refuses go into quarantine; everything else of the batch is applied, and ${branch} goes on. A batch that cannot be read is passed over whole, and kept.`,
        `${branch} counts as incomplete until a snapshot has mended what is missing. It is asked for at once.`,
      ],
      'Go on',
    );
    if (sure) await run(branch, 'quarantine', { seq: halted.seq });
  });
  const since = h('span', 'muted small', [
    document.createTextNode(`batch ${count(halted.seq)}, halted `),
    ago(halted.since),
  ]);
  return h('div', 'actions', [retry, halted.code === 'TARGET_SCHEMA' ? approve : null, leave, since]);
}

function card(title, number, unit, rest) {
  return h('section', 'card', [
    h('h3', '', title),
    h('p', 'number', [document.createTextNode(number), unit ? h('small', '', ` ${unit}`) : null]),
    ...rest,
  ]);
}

function list(pairs) {
  return h('dl', 'facts', facts(pairs));
}

function cards(detail) {
  const { status } = detail;
  return h('div', 'cards', [completeCard(detail), backlogCard(detail), agentCard(status), streamCard(detail)]);
}

function completeCard({ status, connectedSince, addedAt }) {
  const { completeThrough, lagSeconds, lastSeenAt, expectedAt, overdueAt, state } = status;
  const behind = lagSeconds === null ? '–' : lagSeconds < 60 ? 'up to date' : duration(lagSeconds);
  const expected =
    expectedAt === null
      ? null
      : state === 'overdue'
        ? `missed ${clock(overdueAt)}`
        : `${clock(expectedAt)}, at the latest ${clock(overdueAt)}`;
  return card('Complete as of', behind, lagSeconds !== null && lagSeconds >= 60 ? 'behind' : '', [
    list([
      ['Holds all until', completeThrough === null ? 'not yet' : clockTime(completeThrough)],
      ['Last seen', ago(lastSeenAt)],
      [
        'Online since',
        state === 'offline' || state === 'overdue' || connectedSince === null ? null : clockTime(connectedSince),
      ],
      ['Expected', expected],
      ['Added', clockTime(addedAt)],
    ]),
  ]);
}

function backlogCard({ status, backlog }) {
  const { backlogBatches, rowsPerSecond, batchesPerSecond, secondsLeft, report, rowsWritten } = status;
  const { values, everySeconds } = backlog;
  const span = duration(values.length * everySeconds);
  const text = `Backlog over the last ${span}: at most ${count(Math.max(0, ...values))}, now ${count(values.at(-1) ?? 0)} batches`;
  const number = backlogBatches === null ? '–' : backlogBatches === 0 ? 'none' : count(backlogBatches);
  return card('Backlog', number, backlogBatches > 0 ? (backlogBatches === 1 ? 'batch' : 'batches') : '', [
    values.length > 1 ? sparkline(values, text) : null,
    list([
      ['At the branch', report === null ? null : bytes(report.spoolBytes)],
      ['Rate', rate(rowsPerSecond, 'rows') ?? 'nothing just now'],
      ['', batchesPerSecond < 0.05 ? null : rate(batchesPerSecond, 'batches')],
      ['Time left', secondsLeft === null ? null : duration(secondsLeft)],
      ['Rows written', `${count(rowsWritten)} since the applier began`],
    ]),
  ]);
}

function agentCard({ report }) {
  if (report === null) {
    return card('At the branch', '–', 'not heard from', [
      h('p', 'muted small', 'At the branch: tributary-agent enroll FILE, check, then run.'),
    ]);
  }
  const { snapshot, windows, timeZone, source, version, secondsUntilFull, captureLagSeconds } = report;
  const copying =
    snapshot === null
      ? null
      : `${snapshot.tablesDone} of ${plural(snapshot.tables, 'table', 'tables')}, ${count(snapshot.rows)} rows` +
        (snapshot.secondsLeft === null ? '' : `, ${duration(snapshot.secondsLeft)} left`);
  return card('At the branch', report.state, '', [
    list([
      ['Database', source],
      ['Capture', captureLagSeconds === null ? null : `${duration(captureLagSeconds)} behind`],
      ['Copying', copying],
      ['Room for', secondsUntilFull === null ? 'no end in sight' : duration(secondsUntilFull)],
      [
        'Link',
        windows.length === 0 ? 'always open' : `${windows.join(', ')}${timeZone === null ? '' : ` (${timeZone})`}`,
      ],
      ['Agent', version],
    ]),
  ]);
}

function streamCard({ status, epoch }) {
  const name = h('span', 'mono', epoch === null ? '–' : epoch.slice(0, 8));
  if (epoch !== null) name.title = epoch;
  return card('Stream', count(status.appliedSeq), 'batches applied', [
    list([
      ['Received', count(status.receivedSeq)],
      ['Epoch', name],
    ]),
  ]);
}

function section(title, note, content) {
  return h('section', 'section', [
    h('div', 'section-head', [h('h3', '', title), note ? h('span', 'muted small', note) : null]),
    content,
  ]);
}

/** @param label what a screen reader calls the part that may scroll sideways */
function table(label, heads, rows) {
  const cells = heads.map(([text, right]) => {
    const cell = h('th', right ? 'right' : '', text);
    cell.scope = 'col';
    return cell;
  });
  const sheet = h('div', 'sheet', [h('table', '', [h('thead', '', [h('tr', '', cells)]), h('tbody', '', rows)])]);
  sheet.role = 'region';
  sheet.ariaLabel = label;
  sheet.tabIndex = 0;
  return sheet;
}

function snapshots({ snapshots: running, requests, status }) {
  const rows = [
    ...running.map(each =>
      h('tr', '', [
        h('td', '', [pill('busy', each.sweptTables > 0 ? 'sweeping' : 'copying')]),
        h('td', '', each.whole ? 'all tables' : plural(each.tables, 'table', 'tables')),
        h('td', '', [ago(each.startedAt)]),
        h(
          'td',
          '',
          `${each.sweptTables} of ${plural(each.tables, 'table', 'tables')} swept, ${count(each.sweptRows)} rows gone`,
        ),
      ]),
    ),
    ...requests.map(each =>
      h('tr', '', [
        h('td', '', [pill('none', each.kind === 'verify' ? 'comparison asked for' : 'asked for')]),
        h('td', '', each.tables === null ? 'all tables' : plural(each.tables, 'table', 'tables')),
        h('td', '', [ago(each.createdAt)]),
        h('td', '', each.reason),
      ]),
    ),
  ];
  const left = status.report?.snapshot?.secondsLeft ?? null;
  return section(
    'Snapshots',
    left === null ? '' : `about ${duration(left)} left`,
    table('Snapshots', [['State'], ['Covers'], ['Since'], ['How far, or why']], rows),
  );
}

/** Values by column as one line. */
function byColumn(values) {
  return Object.entries(values)
    .map(([name, value]) => `${name} = ${value === null ? 'NULL' : String(value)}`)
    .join(', ');
}

function leftOut({ items, total }) {
  const rows = items.map(({ schema, table: name, op, key, reason, lastAt }) =>
    h('tr', '', [
      h('td', '', tableText({ schema, name })),
      h('td', 'wrap', key === null ? 'the whole table' : `${op === 'delete' ? 'delete of ' : ''}${byColumn(key)}`),
      h('td', 'wrap', reason),
      h('td', '', [ago(lastAt)]),
    ]),
  );
  const note = 'A later good version of a row, or a snapshot that began later, clears its entry.';
  return section(
    total > items.length ? `The latest ${count(items.length)} of ${count(total)} rows left out` : 'Rows left out',
    note,
    table('Rows left out', [['Table'], ['Row'], ['Reason'], ['Last']], rows),
  );
}

const VERDICTS = {
  equal: ['good', 'equal'],
  different: ['bad', 'different'],
  'not-comparable': ['warn', 'not comparable'],
  interrupted: ['none', 'interrupted'],
  counting: ['busy', 'being compared'],
};

function verified({ verified: compared, status }) {
  const rows = compared.map(each => {
    const [kind, word] = VERDICTS[each.verdict] ?? ['none', each.verdict];
    const difference =
      each.verdict === 'different' && each.differingBuckets !== null
        ? `in ${count(each.differingBuckets)} of ${plural(each.buckets, 'bucket', 'buckets')} `
        : '';
    const before = each.different && each.verdict !== 'different' ? '; different when it was last compared' : '';
    const repair = each.different && each.repair !== null ? '; asked for again since' : '';
    return h('tr', '', [
      h('td', '', tableText(each)),
      h('td', '', [pill(kind, word)]),
      h('td', 'right', each.branchRows === null ? '–' : count(each.branchRows)),
      h('td', 'right', each.rowsHere === null ? '–' : count(each.rowsHere)),
      h('td', 'wrap', `${difference}${each.reason ?? ''}${before}${repair}`),
      h('td', '', [ago(each.endedAt ?? each.startedAt)]),
    ]);
  });
  const note =
    status.differentTables === 0
      ? 'Rows of both sides at one place of the stream.'
      : `tributary-applier branch repair ${status.branch} copies again what differs.`;
  const heads = [['Table'], ['Verdict'], ['Rows there', true], ['Rows here', true], ['Why'], ['When']];
  return section('Compared with the branch', note, table('Compared with the branch', heads, rows));
}

function quarantine({ quarantined }) {
  const rows = quarantined.map(each =>
    h('tr', '', [
      h('td', 'right', count(each.seq)),
      h('td', '', [ago(each.quarantinedAt)]),
      h('td', 'wrap', each.reason),
    ]),
  );
  const note = 'A snapshot that began later has mended what they held, or will.';
  return section(
    'Batches decided about',
    note,
    table('Batches decided about', [['Batch', true], ['Since'], ['Reason']], rows),
  );
}

function tables({ tables: found, status }) {
  if (found.length === 0) {
    return section('Tables', '', h('p', 'empty sheet', 'No table of this branch has come yet.'));
  }
  const rows = found.map(each => {
    const link = h('a', '', each.name);
    link.href = `#/data?${new URLSearchParams({ table: each.name, branch: status.branch })}`;
    const keys = each.columns.filter(({ key }) => key).map(({ name }) => name);
    const columns = h('details', '', [
      h('summary', '', plural(each.columns.length, 'column', 'columns')),
      h(
        'ul',
        'columns',
        each.columns.map(({ name, type, key }) =>
          h('li', '', [h('span', key ? 'key' : '', name), h('span', 'muted', ` ${type}${key ? ', key' : ''}`)]),
        ),
      ),
    ]);
    columns.dataset.table = each.name;
    columns.open = open.has(each.name);
    columns.addEventListener('toggle', () => open[columns.open ? 'add' : 'delete'](each.name));
    return h('tr', '', [
      h('td', '', [link]),
      h('td', '', each.sourceSchema),
      h('td', '', keys.join(', ')),
      h('td', '', [columns]),
      h('td', '', [ago(each.changedAt)]),
    ]);
  });
  const heads = [['At the head office'], ['Schema at the branch'], ['Key'], ['Columns'], ['This version since']];
  return section('Tables', plural(found.length, 'table', 'tables'), table('Tables', heads, rows));
}

/** Tables whose columns are unfolded: they stay so while the page refreshes. */
const open = new Set();
