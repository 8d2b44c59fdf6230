/**
 * Every text of the views Today and Data, and of the navigation. Another language is another object of this shape. What
 * the programs say themselves (reasons, hints, refusals) comes from the server.
 */
import { count, plural } from '/assets/numbers.js';

/** @import { NeedKind } from '../today.ts' */
/** @import { MeasureKind, Unit } from '../group-query.ts' */
/** @import { Operator, Preset } from '../selection.ts' */

/**
 * @param {number} branches
 * @param {string} is of one
 * @param {string} are of several
 */
const say = (branches, is, are) => `${plural(branches, 'branch', 'branches')} ${branches === 1 ? is : are}`;

/** @type {Record<NeedKind, { title: (branches: number) => string, text: string }>} */
const NEEDS = {
  database: { title: () => 'The head office’s database is down', text: 'Branches keep everything until it is back.' },
  broker: { title: () => 'The broker is down', text: 'Branches keep everything until it is back.' },
  halted: {
    title: n => say(n, 'is halted', 'are halted'),
    text: 'A batch cannot be applied. Decide what to do with it.',
  },
  'set-aside': {
    title: n => say(n, 'has tables set aside', 'have tables set aside'),
    text: 'These tables stand still, and everything else goes on.',
  },
  different: {
    title: n => say(n, 'is different', 'are different'),
    text: 'A comparison found other rows here than at the branch. Repair them.',
  },
  waiting: { title: n => say(n, 'waits', 'wait'), text: 'The head office has failed for minutes.' },
  agent: { title: n => say(n, 'reports a fault', 'report a fault'), text: 'Look at the agent of the branch.' },
  quarantined: {
    title: n => say(n, 'has rows in quarantine', 'have rows in quarantine'),
    text: 'Rows that cannot be applied were left out. Correct them, then copy the tables again.',
  },
  overdue: {
    title: n => say(n, 'is overdue', 'are overdue'),
    text: 'Nothing was heard when it should have been. Call the shop: is the machine on, and the internet there?',
  },
};

/** @type {Record<Preset, string>} */
const PRESETS = {
  today: 'Today',
  yesterday: 'Yesterday',
  '7-days': 'Last 7 days',
  '30-days': 'Last 30 days',
  'this-month': 'This month',
  'last-month': 'Last month',
  'this-year': 'This year',
};

/** @type {Record<Operator, string>} */
const OPERATORS = {
  '=': '=',
  '!=': '≠',
  '<': '<',
  '<=': '≤',
  '>': '>',
  '>=': '≥',
  contains: 'contains',
  null: 'is NULL',
  'not-null': 'is not NULL',
};

/** @type {Record<Unit, (column: string) => string>} */
const UNITS = {
  value: column => column,
  hour: column => `hour of ${column}`,
  day: column => `day of ${column}`,
  week: column => `week of ${column}`,
  month: column => `month of ${column}`,
};

/** @type {Record<MeasureKind, (column: string) => string>} */
const MEASURES = {
  rows: () => 'number of rows',
  sum: column => `sum of ${column}`,
  average: column => `average of ${column}`,
  least: column => `least ${column}`,
  most: column => `most ${column}`,
};

export const TEXTS = {
  nav: {
    today: 'Today',
    fleet: 'Branches',
    time: 'Time',
    events: 'Events',
    data: 'Data',
    act: 'Act on several branches',
  },
  today: {
    /**
     * @param {number} complete
     * @param {number} branches
     */
    number: (complete, branches) => `${count(complete)} of ${count(branches)}`,
    complete: 'Complete to closing time',
    /**
     * @param {string} day
     * @param {string} time
     */
    closing: (day, time) =>
      time === '24:00' ? `branches complete to the end of ${day}` : `branches complete to closing time, ${day} ${time}`,
    today: 'today',
    yesterday: 'yesterday',
    /**
     * @param {string} moment
     * @param {string} zone
     */
    closingAt: (moment, zone) => `${moment}, ${zone}`,
    received: 'Received',
    lastDay: 'rows in the last 24 hours',
    /** @param {string} share */
    more: share => `${share} more than in the same hours a week before`,
    /** @param {string} share */
    fewer: share => `${share} fewer than in the same hours a week before`,
    same: 'as many as in the same hours a week before',
    noComparison: 'There are no figures of a week before yet.',
    needs: 'Needs a person',
    nothing: 'Nothing needs a person.',
    needKinds: NEEDS,
    /** @param {string} branch */
    open: branch => `Open ${branch}`,
    showThem: 'Show these branches',
    whatToDo: 'What to do',
    /** @param {number} more */
    moreNeeds: more => `and ${count(more)} more`,
    /** @param {readonly string[]} named @param {number} more */
    named: (named, more) => `${named.join(', ')}${more > 0 ? ` and ${count(more)} more` : ''}`,
    missing: 'Not complete to closing time',
    /** @param {number} more */
    moreMissing: more => `and ${count(more)} more`,
    allComplete: 'All branches are complete to closing time.',
    noBranch: 'No branch yet.',
    addBranch: 'Add the first one with: tributary-applier branch add ID --out FILE',
    heads: { branch: 'Branch', why: 'Why', complete: 'Complete as of', expected: 'Expected' },
    never: 'not yet',
    notKnown: 'not known',
    /** @param {string} at */
    opens: at => `from ${at}, when its link opens`,
    /** @param {string} at */
    closes: at => `by ${at}, when its link closes`,
    /** @param {string} at */
    usual: at => `usually by ${at}`,
    /** @param {string} at */
    rate: at => `about ${at}, at its present rate`,
    after: {
      halted: 'when somebody has decided',
      'set-aside': 'when its tables are back',
      different: 'when it is repaired',
      quarantined: 'when its rows are corrected',
      waiting: 'when the head office works again',
      'never-seen': 'when its agent is installed',
      incomplete: 'when its copy has ended',
      current: 'with its next hello',
    },
    byHour: 'Rows received by hour',
    byHourNote: 'beside the same hours a week before',
    thisWeek: 'Last 24 hours',
    weekBefore: 'A week before',
    hourUntil: 'Hour until',
  },
  data: {
    table: 'Table',
    branch: 'Branch',
    allBranches: 'all branches',
    period: 'Period',
    periodColumn: 'Time that the period is of',
    anyTime: 'any time',
    presets: PRESETS,
    /**
     * @param {string} column
     * @param {string} from
     * @param {string} until
     * @param {string | null} zone
     */
    periodSaid: (column, from, until, zone) =>
      `${column} from ${from} until before ${until}, ${zone ?? 'by the branch’s own clock'}`,
    show: 'Show',
    rows: 'Rows',
    totals: 'Totals',
    newest: 'Newest first',
    live: 'Live',
    first: 'First page',
    previous: 'Previous page',
    next: 'Next page',
    where: 'Where',
    column: 'Column',
    comparison: 'Comparison',
    value: 'Value',
    operators: OPERATORS,
    addFilter: 'Add filter',
    filters: 'Filters in force',
    /** @param {string} text */
    removeFilter: text => `Remove the filter ${text}`,
    utc: 'UTC',
    utcValue: '2026-12-01 08:00, UTC',
    clockValue: '2026-12-01 08:00, the branch’s clock',
    /**
     * @param {string} table
     * @param {number} rows
     */
    tableOption: (table, rows) => `${table} (about ${count(rows)})`,
    keyMark: 'key',
    /** @param {string} type */
    unsortable: type => `${type}: cannot be sorted`,
    noRows: 'No rows.',
    noMatch: 'No rows match.',
    noMatchHint: 'Remove a filter, or choose another branch or period.',
    noTable: 'No consolidated table yet.',
    noTableHint: 'It appears when a branch has sent its first rows.',
    byKey: 'This table is too large to sort by change, so the highest keys come first.',
    cut: 'Text beyond 200 characters and bytes beyond 32 are cut (…).',
    /** @param {string} zone */
    zones: zone =>
      `Columns marked UTC show times in UTC; other times are as the branch stored them, without a time zone. Periods and days of UTC columns are those of ${zone}.`,
    failed: 'Cannot show this',
    rowsOfTable: 'Rows',
    /** @param {string} row */
    openRow: row => `Details of row ${row}`,
    // Totals
    groupBy: 'Group by',
    noGroup: 'nothing: the total alone',
    units: UNITS,
    measure: 'Of each',
    measures: MEASURES,
    total: 'Total',
    /** @param {number} rows */
    totalRows: rows => plural(rows, 'row', 'rows'),
    groupRows: 'Rows',
    /** @param {number} groups */
    moreGroups: groups => `Only ${count(groups)} groups are listed. The total is of all.`,
    /** @param {string | null} zone */
    groupZone: zone =>
      zone === null ? 'By the branch’s own clock: the column has no time zone.' : `By the clock of ${zone}.`,
    /** @param {string} key */
    showGroup: key => `Show the rows of ${key}`,
    counting: 'counting …',
    nothing: 'NULL',
    // Export
    csv: 'CSV',
    xlsx: 'Excel',
    exportAs: 'Export',
    completeness: 'Completeness',
    completenessTitle: 'How complete each branch is, as CSV',
    cancel: 'Cancel',
    /** @param {string} size */
    exporting: size => `exporting, ${size} …`,
    exported: 'The export is in your downloads.',
    cancelled: 'The export was cancelled.',
    cutOff: 'The export was cut off by a fault. Nothing of it was kept: try again.',
    exportFailed: 'Cannot export this',
    // Keys
    findKey: 'Find a key',
    findKeyHint: 'Find a key in all tables',
    /**
     * @param {string} key
     * @param {number} found
     * @param {number} tables
     */
    foundKey: (key, found, tables) => `${key}: ${plural(found, 'row', 'rows')} in ${plural(tables, 'table', 'tables')}`,
    /**
     * @param {string} key
     * @param {number} searched
     */
    notFound: (key, searched) => `No row has the key ${key}. ${plural(searched, 'table was', 'tables were')} searched.`,
    /** @param {number} left */
    leftOut: left => `${plural(left, 'table was', 'tables were')} not searched: choose a branch.`,
    close: 'Close',
    // One row
    /** @param {string} table */
    rowOf: table => `One row of ${table}`,
    origin: 'Where it came from',
    fromTable: 'Table there',
    batch: 'Batch',
    committed: 'Committed at the branch',
    notKept: 'not kept: this table has no history',
    bySnapshot: 'not known: a snapshot brought it',
    written: 'Written here',
    values: 'Values',
    versions: 'Versions',
    validFrom: 'Valid from (UTC)',
    validUntil: 'Until (UTC)',
    committedAt: 'Committed (UTC)',
    changed: 'What changed',
    now: 'now',
    deleted: 'deleted',
    firstKept: 'the first that is kept',
    unchanged: 'nothing',
    loading: 'loading …',
  },
};

/**
 * The texts that stand in the page itself: `data-text` is its content, `data-label` its name for those who do not see it,
 * `data-hint` what stands in an empty field.
 */
export function fillTexts() {
  for (const [attribute, put] of PLACES) {
    for (const element of document.querySelectorAll(`[data-${attribute}]`)) {
      const [part = '', name = ''] = (element.getAttribute(`data-${attribute}`) ?? '').split('.');
      const texts = /** @type {Record<string, Record<string, unknown>>} */ (TEXTS)[part];
      const text = texts?.[name];
      put(element, typeof text === 'string' ? text : '');
    }
  }
}

/** @type {[string, (element: Element, text: string) => void][]} */
const PLACES = [
  ['text', (element, text) => (element.textContent = text)],
  ['name', (element, text) => (element.ariaLabel = text)],
  ['hint', (element, text) => element.setAttribute('placeholder', text)],
];
