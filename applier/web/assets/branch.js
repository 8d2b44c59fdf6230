/** One branch in detail: its state, and its data here. */
import { head, troubles } from '/assets/branch-actions.js';
import { byId, facts, fill, h, pill, sparkline } from '/assets/elements.js';
import { askEvents, eventRow } from '/assets/events.js';
import { bytes, count, duration, plural, rate, tableText } from '/assets/numbers.js';
import { patch } from '/assets/patch.js';
import { getJson, ServerError } from '/assets/server.js';
import { ago, clock, clockTime } from '/assets/times.js';

/** @import { VerifiedTable } from '../../store/verifications.ts' */
/** @import { EventsPage } from '../events.ts' */
/** @import { QuarantinePage } from '../quarantine.ts' */
/** @import { BranchDetail, BranchStatus } from '../status.ts' */
/** @import { Child, Kind } from '/assets/elements.js' */

/** @type {[string][]} */
const EVENT_HEADS = [['When'], ['Event'], ['What'], ['Who']];
const LATEST_EVENTS = 6;
const view = byId('branch-view');
/** @type {string | null} */
let shown = null;

export function leaveBranch() {
  shown = null;
  fill(view);
}

/**
 * @param {string} id
 * @param {() => boolean} wanted whether the person still looks at this branch when its answer comes
 */
export async function showBranch(id, wanted) {
  if (shown !== id) {
    shown = id;
    fill(view, h('p', 'muted', 'loading …'));
  }
  const address = `/api/branches/${encodeURIComponent(id)}`;
  let detail, leftOut, events;
  try {
    // A person who reads many rows may hold them up. The branch is shown without them then.
    const asked = askEvents({ branch: id, limit: LATEST_EVENTS }).catch(() => null);
    detail = /** @type {BranchDetail} */ (await getJson(address));
    leftOut = detail.status.quarantined === 0 ? null : await getJson(`${address}/quarantine`);
    events = await asked;
  } catch (error) {
    if (!(error instanceof ServerError) || error.code !== 'BRANCH_UNKNOWN') throw error;
    if (wanted()) fill(view, h('p', 'empty', `There is no branch ${id}.`));
    return;
  }
  if (!wanted()) return;
  const first = view.firstElementChild;
  if (first instanceof HTMLElement && first.dataset.key === undefined) fill(view);
  patch(
    view,
    sectionsOf(detail, /** @type {QuarantinePage | null} */ (leftOut), events),
    ({ key }) => key,
    ({ make }) => make(),
  );
}

/**
 * @param {BranchDetail} detail
 * @param {QuarantinePage | null} left
 * @param {EventsPage | null} events
 */
function sectionsOf(detail, left, events) {
  /** @type {[key: string, make: (() => HTMLElement) | null][]} */
  const sections = [
    ['head', () => head(detail)],
    ['troubles', () => troubles(detail)],
    ['cards', () => cards(detail)],
    ['events', events === null ? null : () => latestEvents(detail, events)],
    ['snapshots', detail.snapshots.length + detail.requests.length > 0 ? () => snapshots(detail) : null],
    ['left-out', left === null ? null : () => leftOut(left)],
    ['quarantine', detail.quarantined.length > 0 ? () => quarantine(detail) : null],
    ['set-aside', detail.setAside.length > 0 ? () => setAside(detail) : null],
    ['histories', detail.stoppedHistories.length > 0 ? () => stoppedHistories(detail) : null],
    ['verified', detail.verified.length > 0 ? () => verified(detail) : null],
    ['tables', () => tables(detail)],
  ];
  return sections.flatMap(([key, make]) => (make === null ? [] : [{ key, make }]));
}

/**
 * @param {string} title
 * @param {string} number
 * @param {string} unit
 * @param {Child[]} rest
 */
function card(title, number, unit, rest) {
  return h('section', 'card', [
    h('h3', '', title),
    h('p', 'number', [number, unit ? h('small', '', ` ${unit}`) : null]),
    ...rest,
  ]);
}

/** @param {Parameters<typeof facts>[0]} pairs */
function list(pairs) {
  return h('dl', 'facts', facts(pairs));
}

/** @param {BranchDetail} detail */
function cards(detail) {
  const { status } = detail;
  return h('div', 'cards', [completeCard(detail), backlogCard(detail), agentCard(status), streamCard(detail)]);
}

/** @param {BranchDetail} detail */
function completeCard({ status, connectedSince, addedAt }) {
  const { completeThrough, lagSeconds, allowedLagSeconds, lastSeenAt, expectedAt, overdueAt, states } = status;
  const isBehind = lagSeconds !== null && lagSeconds >= 60 + allowedLagSeconds;
  const behind = lagSeconds === null ? '–' : isBehind ? duration(lagSeconds) : 'up to date';
  const expected =
    expectedAt === null || overdueAt === null
      ? null
      : states.includes('overdue')
        ? `missed ${clock(overdueAt)}`
        : `${clock(expectedAt)}, at the latest ${clock(overdueAt)}`;
  return card('Complete as of', behind, isBehind ? 'behind' : '', [
    list([
      ['Holds all until', completeThrough === null ? 'not yet' : clockTime(completeThrough)],
      ['May be behind', allowedLagSeconds === 0 ? null : `${duration(allowedLagSeconds)}, by its freshness`],
      ['Last seen', ago(lastSeenAt)],
      ['Online since', expectedAt !== null || connectedSince === null ? null : clockTime(connectedSince)],
      ['Expected', expected],
      ['Added', clockTime(addedAt)],
    ]),
  ]);
}

/** @param {BranchDetail} detail */
function backlogCard({ status, backlog }) {
  const { backlogBatches, rowsPerSecond, batchesPerSecond, secondsLeft, report, rowsWritten } = status;
  const { values, everySeconds } = backlog;
  const span = duration(values.length * everySeconds);
  const text = `Backlog over the last ${span}: at most ${count(Math.max(0, ...values))}, now ${count(values.at(-1) ?? 0)} batches`;
  const number = backlogBatches === null ? '–' : backlogBatches === 0 ? 'none' : count(backlogBatches);
  return card('Backlog', number, backlogBatches ? (backlogBatches === 1 ? 'batch' : 'batches') : '', [
    values.length > 1 ? sparkline(values, text) : null,
    list([
      ['At the branch', report === null ? null : bytes(report.spoolBytes)],
      ['Rate', rate(rowsPerSecond, 'rows') ?? 'nothing at the moment'],
      ['', batchesPerSecond < 0.05 ? null : rate(batchesPerSecond, 'batches')],
      ['Time left', secondsLeft === null ? null : duration(secondsLeft)],
      ['Rows written', `${count(rowsWritten)} since the applier began`],
    ]),
  ]);
}

/** @param {BranchStatus} status */
function agentCard({ report, expectedAt }) {
  if (report === null) {
    return card('At the branch', '–', 'never seen', [
      h('p', 'muted small', 'Run at the branch: tributary-agent enroll FILE, then check, then start the service.'),
    ]);
  }
  const { snapshot, windows, timeZone, source, version, secondsUntilFull, captureLagSeconds, traffic } = report;
  const copying =
    snapshot === null
      ? null
      : `${snapshot.tablesDone} of ${plural(snapshot.tables, 'table', 'tables')}, ${count(snapshot.rows)} rows` +
        (snapshot.secondsLeft === null ? '' : `, ${duration(snapshot.secondsLeft)} left`);
  return card('At the branch', expectedAt === null ? report.state : 'not connected', '', [
    list([
      ['It said last', expectedAt === null ? null : report.state],
      ['Database', source],
      ['Capture', captureLagSeconds === null ? null : `${duration(captureLagSeconds)} behind`],
      ['Copying', copying],
      ['Room for', secondsUntilFull === null ? 'no limit in sight' : duration(secondsUntilFull)],
      ['Link', windows.length === 0 ? 'always open' : `${windows.join(', ')} (${timeZone})`],
      ['On the line', traffic ? `${bytes(traffic.today)} today, ${bytes(traffic.month)} this month` : null],
      ['Agent', version],
    ]),
  ]);
}

/** @param {BranchDetail} detail */
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

/**
 * @param {string} title
 * @param {string} note
 * @param {HTMLElement} content
 */
function section(title, note, content) {
  return h('section', 'section', [
    h('div', 'section-head', [h('h3', '', title), note ? h('span', 'muted small', note) : null]),
    content,
  ]);
}

/**
 * @param {string} label what a screen reader calls the part that may scroll sideways
 * @param {[text: string, right?: boolean][]} heads
 * @param {HTMLElement[]} rows
 */
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

/**
 * @param {BranchDetail} detail
 * @param {EventsPage} events
 */
function latestEvents({ status: { branch } }, events) {
  /** @type {(view: string, text: string) => HTMLElement} */
  const link = (view, text) => {
    const element = h('a', '', text);
    element.href = `#/${view}?${new URLSearchParams({ branch })}`;
    element.dataset.focus = view;
    return element;
  };
  const rows = events.events.map(event => eventRow(event, events.kinds, false));
  const list = rows.length === 0 ? h('p', 'empty sheet', 'Nothing yet.') : table('Latest events', EVENT_HEADS, rows);
  return section(
    'Latest events',
    '',
    h('div', 'latest', [
      list,
      h('p', 'links', [link('events', 'All its events'), link('time', 'Its figures over time')]),
    ]),
  );
}

/** @param {BranchDetail} detail */
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
          `${each.sweptTables} of ${plural(each.tables, 'table', 'tables')} swept, ${plural(each.sweptRows, 'row', 'rows')} deleted`,
        ),
      ]),
    ),
    ...requests.map(each =>
      h('tr', '', [
        h('td', '', [pill('none', REQUESTS[each.kind] ?? 'snapshot requested')]),
        h('td', '', each.tables === null ? 'all tables' : plural(each.tables, 'table', 'tables')),
        h('td', '', [ago(each.createdAt)]),
        h('td', '', each.reason),
      ]),
    ),
  ];
  const left = status.report?.snapshot?.secondsLeft ?? null;
  return section(
    'Snapshots and requests',
    left === null ? '' : `about ${duration(left)} left`,
    table('Snapshots and requests', [['State'], ['Covers'], ['Since'], ['Progress or reason']], rows),
  );
}

/**
 * Values by column as one line.
 * @param {Record<string, unknown>} values
 */
function byColumn(values) {
  return Object.entries(values)
    .map(
      ([name, value]) =>
        `${name} = ${value === null ? 'NULL' : typeof value === 'string' ? value : JSON.stringify(value)}`,
    )
    .join(', ');
}

/** @param {QuarantinePage} page */
function leftOut({ items, total }) {
  const rows = items.map(({ schema, table: name, op, key, reason, lastAt }) => {
    const values = /** @type {Record<string, unknown> | null} */ (key);
    const row = values === null ? 'the whole table' : `${op === 'delete' ? 'delete of ' : ''}${byColumn(values)}`;
    return h('tr', '', [
      h('td', '', tableText({ schema, name })),
      h('td', 'wrap', row),
      h('td', 'wrap', reason),
      h('td', '', [ago(lastAt)]),
    ]);
  });
  const note = 'An entry goes when a later version of the row is applied, or a later snapshot has ended.';
  return section(
    total > items.length
      ? `Rows in quarantine: the latest ${count(items.length)} of ${count(total)}`
      : 'Rows in quarantine',
    note,
    table('Rows in quarantine', [['Table'], ['Row'], ['Reason'], ['Last']], rows),
  );
}

/** @type {Record<VerifiedTable['verdict'], [Kind, string]>} */
const VERDICTS = {
  equal: ['good', 'equal'],
  different: ['bad', 'different'],
  'not-comparable': ['warn', 'not comparable'],
  interrupted: ['none', 'interrupted'],
  counting: ['busy', 'being compared'],
};

/** @type {Record<string, string>} */
const REQUESTS = { verify: 'comparison requested', rows: 'rows requested', repair: 'repair requested' };
/** Rows that differ, listed for each table. */
const SHOWN_ROWS = 20;

/**
 * The rows that differ, under the reason.
 * @param {VerifiedTable} table
 */
function differences({ rows }) {
  if (rows.length === 0) return [];
  const lines = rows.slice(0, SHOWN_ROWS).map(each => {
    const values = each.key ?? each.here ?? each.there;
    const which =
      values === null
        ? each.row
        : Object.entries(values)
            .map(([name, value]) => `${name}=${shortText(value)}`)
            .join(', ');
    const what = {
      changed:
        each.columns.length > 0 ? each.columns.join(', ') : `${each.copiesThere} times there, ${each.copiesHere} here`,
      missing: 'missing here',
      extra: 'only here',
      unnamed: 'not read yet',
    }[each.kind];
    return h('li', '', [
      h('span', 'key', which),
      h('span', 'muted', ` ${what}${each.quarantined ? ', in quarantine' : ''}`),
    ]);
  });
  if (rows.length > SHOWN_ROWS) lines.push(h('li', 'muted', 'more are in tributary_difference'));
  return [h('ul', 'columns', lines)];
}

/** @param {unknown} value */
function shortText(value) {
  const text = value === null ? 'NULL' : typeof value === 'string' ? value : JSON.stringify(value);
  return text.length <= 40 ? text : `${text.slice(0, 40)}…`;
}

/** @param {BranchDetail} detail */
function setAside({ setAside: marks }) {
  const rows = marks.map(({ schema, name, by, state, since, through, code, reason }) =>
    h('tr', '', [
      h('td', '', tableText({ schema, name })),
      h('td', '', by === 'branch' ? 'the branch cannot carry it' : 'the head office cannot take it'),
      h('td', '', state === 'aside' ? [ago(since)] : 'is copied again'),
      h('td', '', [through === null ? 'never' : clockTime(through)]),
      h('td', 'wrap', code === null ? 'The branch says why with its next hello.' : `${code}: ${reason ?? ''}`),
    ]),
  );
  const note = 'Their rows here stay as they are, and everything else goes on.';
  /** @type {[string, boolean?][]} */
  const heads = [['Table'], ['Because'], ['Since'], ['Complete as of'], ['Cause']];
  return section('Tables that are set aside', note, table('Tables that are set aside', heads, rows));
}

/** @param {BranchDetail} detail */
function stoppedHistories({ stoppedHistories: stopped }) {
  const rows = stopped.map(({ table: name, since, code, reason }) =>
    h('tr', '', [h('td', '', name), h('td', '', [ago(since)]), h('td', 'wrap', `${code}: ${reason}`)]),
  );
  const note = 'Rows of these tables go on without it.';
  /** @type {[string, boolean?][]} */
  const heads = [['Table'], ['Since'], ['Cause']];
  return section('Histories that are stopped', note, table('Histories that are stopped', heads, rows));
}

/** @param {BranchDetail} detail */
function verified({ verified: compared }) {
  const rows = compared.map(each => {
    const [kind, word] = VERDICTS[each.verdict];
    const difference =
      each.verdict === 'different' && each.differingBuckets !== null
        ? `in ${count(each.differingBuckets)} of ${plural(each.buckets, 'bucket', 'buckets')} `
        : '';
    const before =
      each.different && each.verdict !== 'different' ? '; different in the last comparison that ended' : '';
    const repair = each.different && each.repair !== null ? '; repair requested since' : '';
    return h('tr', '', [
      h('td', '', tableText(each)),
      h('td', '', [pill(kind, word)]),
      h('td', 'right', each.branchRows === null ? '–' : count(each.branchRows)),
      h('td', 'right', each.rowsHere === null ? '–' : count(each.rowsHere)),
      h('td', 'wrap', [`${difference}${each.reason ?? ''}${before}${repair}`, ...differences(each)]),
      h('td', '', [ago(each.endedAt ?? each.startedAt)]),
    ]);
  });
  const note = 'The rows of both sides at the same place of the stream.';
  /** @type {[string, boolean?][]} */
  const heads = [['Table'], ['Verdict'], ['Rows there', true], ['Rows here', true], ['Why'], ['When']];
  return section('Compared with the branch', note, table('Compared with the branch', heads, rows));
}

/** @param {BranchDetail} detail */
function quarantine({ quarantined }) {
  const rows = quarantined.map(each =>
    h('tr', '', [
      h('td', 'right', count(each.seq)),
      h('td', '', [ago(each.quarantinedAt)]),
      h('td', 'wrap', each.reason),
    ]),
  );
  const note = 'A snapshot that began later replaces what they held.';
  return section(
    'Batches in quarantine',
    note,
    table('Batches in quarantine', [['Batch', true], ['Since'], ['Reason']], rows),
  );
}

/** @param {BranchDetail} detail */
function tables({ tables: found, status }) {
  if (found.length === 0) {
    return section('Tables', '', h('p', 'empty sheet', 'This branch has sent no table yet.'));
  }
  const rows = found.map(each => {
    const link = h('a', '', each.name);
    link.href = `#/data?${new URLSearchParams({ table: each.name, branch: status.branch }).toString()}`;
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
  /** @type {[string][]} */
  const heads = [['At the head office'], ['Schema at the branch'], ['Key'], ['Columns'], ['This version since']];
  return section('Tables', plural(found.length, 'table', 'tables'), table('Tables', heads, rows));
}

/**
 * Tables whose columns are unfolded: they stay so while the page refreshes.
 * @type {Set<string>}
 */
const open = new Set();
