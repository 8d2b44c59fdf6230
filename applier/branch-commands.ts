/** `branch …` and `schema approve`. Each command hands over to BranchAdmin (applier/branches/branch-admin.ts). */
import { mkdir, readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { formatEnrolment } from '../shared/config/enrolment.ts';
import type { Enrolment } from '../shared/config/enrolment.ts';
import { TributaryError } from '../shared/errors.ts';
import type { CommandCall, CommandSpec } from '../shared/process/cli.ts';
import { oneLined } from '../shared/process/terminal-text.ts';
import { tableText, tableTexts } from '../shared/table-name.ts';
import { counted, formatAgo } from '../shared/units.ts';
import { branchTable, problemsOf, STATE_COLOURS, waitingLines } from './branch-table.ts';
import type { BranchLine } from './branch-table.ts';
import type { BranchDetails, BranchSummary } from './branches/branch-admin.ts';
import { readBranchList } from './branches/branch-list.ts';
import { BRANCH_STATES, standingOf } from './branches/branch-state.ts';
import type { BranchState } from './branches/branch-state.ts';
import { Expectations } from './branches/expectation.ts';
import { branchPermissions } from './broker/permissions.ts';
import { waitingBranches } from './running-applier.ts';
import type { QuarantineEntry } from './store/quarantined-rows.ts';
import type { SetAsideMark } from './store/set-aside.ts';
import type { OpenRequest } from './store/snapshots.ts';
import { renderVerified } from './verify-commands.ts';
import type { WaitingStatus } from './web/status.ts';
import { withBranchAdmin } from './with-branch-admin.ts';

/** As a file to write: standard output. */
const STDOUT = '-';
/** Branches of a list that are added at the same time. */
const ADDED_AT_A_TIME = 4;
/** Branches that a summary names. */
const NAMED_BRANCHES = 20;

export const BRANCH_COMMANDS: readonly CommandSpec[] = [
  {
    usage: 'branch add [id]',
    summary: 'add a branch and write its enrolment file, or add all branches of a list',
    options: [
      {
        flags: '--out <path>',
        description:
          'the enrolment file to write (mode 0600; -: standard output); with --from the folder for the files',
        required: true,
      },
      {
        flags: '--from <file>',
        description: 'CSV file of branches: the ids are in the column `branch`, or in the first',
      },
    ],
    examples: [
      'branch add paris --out paris.enrolment',
      "branch add paris --out - | ssh paris 'umask 077; cat > paris.enrolment'",
      'branch add --from branches.csv --out enrolments',
    ],
    json: true,
    run: branchAdd,
  },
  {
    usage: 'branch list',
    summary: 'list the branches, worst first',
    options: [
      { flags: '--state <states>', description: `only those in these states: ${BRANCH_STATES.join(', ')}`, list: true },
    ],
    examples: ['branch list', 'branch list --state halted,waiting,overdue', 'branch list --json'],
    json: true,
    run: branchList,
  },
  {
    usage: 'branch show <id>',
    summary: 'show one branch: state, stream, times, tables, permissions',
    examples: ['branch show paris'],
    json: true,
    run: branchShow,
  },
  {
    usage: 'branch remove <id>',
    summary: 'take away a branch’s access; its rows stay, unless --delete-data is given',
    options: [
      { flags: '--delete-data', description: 'delete its rows at the head office too; asks for confirmation' },
      { flags: '--yes', description: 'do not ask for confirmation' },
    ],
    examples: ['branch remove paris', 'branch remove paris --delete-data', 'branch remove paris --delete-data --yes'],
    json: true,
    run: branchRemove,
  },
  {
    usage: 'branch rotate <id>',
    summary: 'give a branch a new password in a new enrolment file',
    options: [
      {
        flags: '--out <file>',
        description: 'the enrolment file to write (mode 0600; -: standard output)',
        required: true,
      },
    ],
    examples: ['branch rotate paris --out paris-2.enrolment'],
    json: true,
    run: branchRotate,
  },
  {
    usage: 'branch resume-table <id> [tables...]',
    summary: 'ask a branch for tables that are set aside (none given: all of them), once the cause is gone',
    examples: ['branch resume-table paris', 'branch resume-table paris orders shop.customers'],
    json: true,
    run: branchResumeTable,
  },
  {
    usage: 'branch retry <id>',
    summary: 'let a halted branch retry its batch; or ask for the tables that the head office has set aside',
    examples: ['branch retry paris'],
    run: branchRetry,
  },
  {
    usage: 'branch quarantine <id>',
    summary:
      'let a halted branch go on without the rows of its batch that cannot be applied; they are kept in quarantine',
    options: [{ flags: '--whole', description: 'skip the whole batch, even the rows that could be applied' }],
    examples: ['branch quarantine paris', 'branch quarantine paris --whole'],
    json: true,
    run: branchQuarantine,
  },
  {
    usage: 'schema approve <id>',
    summary: 'allow the change of tables that a branch is halted by, even where it rebuilds large tables',
    examples: ['schema approve paris'],
    json: true,
    run: schemaApprove,
  },
  {
    usage: 'branch snapshot <id>',
    summary: 'ask a branch to copy all its tables again; changes go on meanwhile',
    examples: ['branch snapshot paris'],
    json: true,
    run: branchSnapshot,
  },
];

async function branchAdd(call: CommandCall): Promise<undefined> {
  const [branch] = call.args;
  const out = String(call.options['out']);
  const from = call.options['from'];
  if ((branch === undefined) === (from === undefined)) {
    throw new TributaryError('CONFIG_INVALID', '`branch add` takes either one id or --from FILE.', {
      hint: 'For example: `tributary-applier branch add paris --out paris.enrolment`.',
    });
  }
  if (branch === undefined) return addMany(call, String(from), out);
  const enrolment = await withBranchAdmin(call, admin => admin.add(branch, fileOf(out)));
  printEnrolment(call, enrolment, out, `Branch ${branch} was added.`);
  return undefined;
}

function fileOf(out: string): string | null {
  return out === STDOUT ? null : out;
}

/** Says what to do with a new enrolment; where it goes to standard output, the message goes to stderr. */
function printEnrolment(call: CommandCall, enrolment: Enrolment, out: string, done: string): void {
  const { branch } = enrolment;
  const file = fileOf(out);
  const message = `${done} At the branch: \`tributary-agent enroll ${file ?? 'FILE'}\`.`;
  if (file !== null) {
    call.print({ branch, file: resolve(file) }, message);
    return;
  }
  call.print(enrolment, formatEnrolment(enrolment).trimEnd());
  call.note(message);
}

/** Adds the branches of a list. Can be repeated: branches that exist are left as they are. */
async function addMany(call: CommandCall, list: string, folder: string): Promise<undefined> {
  if (folder === STDOUT) {
    throw new TributaryError('CONFIG_INVALID', '--from writes several files, so --out must be a folder.', {
      hint: 'For example: `tributary-applier branch add --from branches.csv --out enrolments`.',
    });
  }
  const branches = readBranchList(await readText(list), list);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const added = new Map<string, { branch: string; file: string }>();
  const existing: string[] = [];
  const elsewhere: string[] = [];
  await withBranchAdmin(call, async admin => {
    const known = new Set((await admin.list()).filter(isPresent).map(({ row }) => row.branch));
    existing.push(...branches.filter(branch => known.has(branch)));
    elsewhere.push(...branches.filter(branch => !known.has(branch) && !admin.isAssigned(branch)));
    const missing = branches.filter(branch => !known.has(branch) && admin.isAssigned(branch));
    const left = missing.values();
    // Each takes the next one. After a failure the others end with the branch that they have begun.
    let failed = false;
    const lane = async (): Promise<void> => {
      for (const branch of left) {
        if (failed) return;
        const file = join(resolve(folder), `${branch}.enrolment`);
        try {
          await admin.add(branch, file);
        } catch (error) {
          failed = true;
          throw error;
        }
        added.set(branch, { branch, file });
        call.note(`${added.size} of ${missing.length}: ${branch}`);
      }
    };
    const ended = await Promise.allSettled(Array.from({ length: ADDED_AT_A_TIME }, lane));
    for (const lane of ended) if (lane.status === 'rejected') throw lane.reason;
  });
  const skipped = existing.length === 0 ? '' : `, already there ${existing.length}: ${namesOf(existing)}`;
  const others = elsewhere.length === 0 ? '' : `, of other head offices ${elsewhere.length}: ${namesOf(elsewhere)}`;
  const files = added.size === 0 ? '' : `\nThe enrolment files are in ${folder}.`;
  // In the order of the list, whichever was done first.
  const told = branches.flatMap(branch => added.get(branch) ?? []);
  call.print({ added: told, existing, elsewhere }, `Added ${added.size}${skipped}${others}.${files}`);
  return undefined;
}

function namesOf(branches: readonly string[]): string {
  const named = branches.slice(0, NAMED_BRANCHES).join(', ');
  return branches.length > NAMED_BRANCHES ? `${named} and ${branches.length - NAMED_BRANCHES} more` : named;
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    throw new TributaryError('CONFIG_UNREADABLE', `The list ${file} cannot be read.`, { cause });
  }
}

async function branchRotate(call: CommandCall): Promise<undefined> {
  const branch = call.args[0] ?? '';
  const out = String(call.options['out']);
  const enrolment = await withBranchAdmin(call, admin => admin.rotate(branch, fileOf(out)));
  printEnrolment(call, enrolment, out, `Branch ${branch} has a new password.`);
  return undefined;
}

function isPresent({ row }: BranchSummary): boolean {
  return row.state !== 'removed';
}

async function branchList(call: CommandCall): Promise<undefined> {
  const states = statesOf(call.options['state']);
  const summaries = (await withBranchAdmin(call, admin => admin.list())).filter(isPresent);
  const waiting = await waitingBranches(call);
  const now = Date.now();
  const expectations = new Expectations();
  const all = summaries.map(summary => {
    const line = lineOf(summary, waiting.get(summary.row.branch) ?? null, expectations, now);
    return { line, summary };
  });
  const shown = states === null ? all : all.filter(({ line }) => states.includes(line.state));
  const none = all.length === 0 ? 'No branches yet.' : `No branch is ${(states ?? []).join(' or ')}.`;
  call.print(
    shown.map(({ line, summary }) => dataOf(line, summary)),
    shown.length === 0 ? none : branchTable(oneLined(shown.map(({ line }) => line)), now),
    STATE_COLOURS,
  );
  return undefined;
}

/** The states of --state; null: all. @throws CONFIG_INVALID */
function statesOf(option: unknown): BranchState[] | null {
  if (!Array.isArray(option)) return null;
  return option.map((word: unknown) => {
    const state = BRANCH_STATES.find(each => each === word);
    if (state !== undefined) return state;
    throw new TributaryError('CONFIG_INVALID', `${String(word)} is not a state of a branch.`, {
      hint: `The states are ${BRANCH_STATES.join(', ')}.`,
    });
  });
}

function lineOf(
  { row, contact }: BranchSummary,
  waiting: WaitingStatus | null,
  expectations: Expectations,
  now: number,
): BranchLine {
  const { states, backlogBatches, report } = standingOf({ row, contact, waiting }, now, expectations);
  const { branch, halt, incompleteSince, quarantined, differentTables, setAsideTables, stoppedHistories } = row;
  return {
    branch,
    state: states[0],
    states,
    lastSeenAt: contact?.lastSeen ?? null,
    completeThrough: contact?.completeness.through ?? null,
    backlogBatches,
    halted: halt,
    waiting,
    incompleteSince,
    quarantined,
    setAsideTables,
    stoppedHistories,
    differentTables,
    report,
  };
}

/** A branch in the JSON of `branch list` and `branch show`. */
function dataOf(line: BranchLine, { row }: BranchSummary) {
  return {
    branch: line.branch,
    state: row.state === 'removed' ? row.state : line.state,
    epoch: row.stream.epoch,
    received: row.stream.received.seq,
    applied: row.stream.applied.seq,
    backlog: line.backlogBatches,
    lastSeen: line.lastSeenAt,
    completeThrough: line.completeThrough,
    halt: row.halt,
    waiting: line.waiting,
    incompleteSince: line.incompleteSince,
    quarantined: line.quarantined,
    setAsideTables: line.setAsideTables,
    stoppedHistories: line.stoppedHistories,
    differentTables: line.differentTables,
  };
}

async function branchShow(call: CommandCall): Promise<undefined> {
  const details = await withBranchAdmin(call, admin => admin.show(call.args[0] ?? ''));
  const { row, tables, requests, quarantine, verified, setAside, stoppedHistories } = details;
  const now = Date.now();
  const waiting = (await waitingBranches(call)).get(row.branch) ?? null;
  const line = lineOf(details, waiting, new Expectations(), now);
  const permissions = branchPermissions(row.branch);
  call.print(
    {
      ...dataOf(line, details),
      tables,
      requests,
      permissions,
      quarantine,
      verified,
      setAside,
      histories: { stopped: stoppedHistories },
    },
    renderDetails(oneLined(details), oneLined(line), now),
    STATE_COLOURS,
  );
  return undefined;
}

function renderDetails(details: BranchDetails, line: BranchLine, now: number): string {
  const { row, tables, requests, quarantine, verified, setAside, stoppedHistories } = details;
  const { configure, write, read } = branchPermissions(row.branch);
  const { received, applied, epoch } = row.stream;
  return [
    `${row.branch}: ${row.state === 'removed' ? row.state : line.state}`,
    ...(line.waiting === null ? [] : waitingLines(line.waiting, now)),
    ...problemsOf({ ...line, waiting: null }).map(problem => `  ${problem}`),
    `complete as of: ${timeText(line.completeThrough, now)}`,
    `last seen: ${timeText(line.lastSeenAt, now)}`,
    `batches: received ${received.seq}, applied ${applied.seq}, backlog ${line.backlogBatches ?? '?'}`,
    `epoch: ${epoch ?? 'none yet'}`,
    `tables: ${tableTexts(tables) || 'none yet'}`,
    `permissions at the broker: configure ${configure} · write ${write} · read ${read}`,
    ...setAside.map(mark => `set aside: ${renderSetAside(mark)}`),
    ...stoppedHistories.map(
      ({ table, since, code, reason }) => `history stopped: ${table}, since ${since}\n    ${code}: ${reason}`,
    ),
    ...requests.map(request => `open request: ${renderRequest(request)}`),
    ...verified.map(table => `compared: ${renderVerified(table)}`),
    ...(row.quarantined === 0 ? [] : [`in quarantine: ${row.quarantined}`, ...quarantine.map(renderEntry)]),
  ].join('\n');
}

function timeText(time: string | null, now: number): string {
  return time === null ? 'never' : `${formatAgo(time, now)} (${time})`;
}

function renderRequest({ id, kind, tables }: OpenRequest): string {
  return `${kind} of ${tables === null ? 'all tables' : tableTexts(tables)} (${id})`;
}

function renderSetAside({ schema, name, by, state, since, code, reason }: SetAsideMark): string {
  const who = by === 'branch' ? 'the branch' : 'the head office';
  const how = state === 'aside' ? '' : ', being copied again';
  return `${tableText({ schema, name })}, by ${who}, since ${since}${how}\n    ${code ?? ''}: ${reason ?? 'the branch says why soon'}`;
}

function renderEntry({ schema, table, op, key, reason, seq, lastAt, leftOut }: QuarantineEntry): string {
  const what =
    op === 'table' ? `the whole table, ${counted(leftOut, 'change')} so far` : `${op} ${JSON.stringify(key)}`;
  return `  ${tableText({ schema, name: table })}: ${what}\n    ${reason} (batch ${seq}, ${lastAt})`;
}

async function branchRemove(call: CommandCall): Promise<undefined> {
  const branch = call.args[0] ?? '';
  const deleteData = call.options['deleteData'] === true;
  if (deleteData && call.options['yes'] !== true) await confirmDeletion(call, branch);
  const { deletedRows } = await withBranchAdmin(call, admin => admin.remove(branch, deleteData));
  const rows = deleteData ? `${counted(deletedRows, 'row')} deleted` : 'its rows stay';
  call.print({ branch, deletedRows }, `Branch ${branch} was removed; ${rows}.`);
  return undefined;
}

/** @throws CONFIG_INVALID unless a person types the branch's id */
async function confirmDeletion(call: CommandCall, branch: string): Promise<void> {
  const answer = await call.ask(
    `This deletes all rows of branch ${branch} at the head office. Type the branch’s id to go on: `,
  );
  if (answer?.trim() === branch) return;
  throw new TributaryError(
    'CONFIG_INVALID',
    answer === null
      ? '--delete-data asks for confirmation, and there is no terminal to ask at. Nothing was removed.'
      : `The answer was not ${branch}. Nothing was removed.`,
    { hint: 'Give --yes as well to delete the rows without being asked.' },
  );
}

async function schemaApprove(call: CommandCall): Promise<undefined> {
  const branch = call.args[0] ?? '';
  const reason = await withBranchAdmin(call, admin => admin.approve(branch));
  call.print({ branch, reason }, `Branch ${branch} retries and may rebuild tables: ${oneLined(reason)}`);
  return undefined;
}

async function branchRetry(call: CommandCall): Promise<undefined> {
  const branch = call.args[0] ?? '';
  const asked = await withBranchAdmin(call, admin => admin.retry(branch));
  call.print(
    null,
    'batch' in asked
      ? `Branch ${branch} retries its batch.`
      : `Branch ${branch} is asked for ${tableTexts(asked.tables)}.`,
  );
  return undefined;
}

async function branchResumeTable(call: CommandCall): Promise<undefined> {
  const [branch = '', ...names] = call.args;
  const { request, tables } = await withBranchAdmin(call, admin => admin.resumeTables(branch, names));
  call.print(
    { branch, request, tables },
    `Branch ${branch} is asked for ${tableTexts(tables)}. They are back when their snapshot has ended: ` +
      `\`tributary-applier branch show ${branch}\`.`,
  );
  return undefined;
}

async function branchQuarantine(call: CommandCall): Promise<undefined> {
  const branch = call.args[0] ?? '';
  const whole = call.options['whole'] === true;
  const request = await withBranchAdmin(call, admin => admin.quarantine(branch, whole));
  const what = whole ? 'the batch' : 'the rows of the batch that cannot be applied';
  call.print(
    { branch, request, whole },
    `Branch ${branch} goes on without ${what}: see \`tributary-applier branch show ${branch}\`.\n` +
      `Where rows are missing, snapshot ${request} is requested.`,
  );
  return undefined;
}

async function branchSnapshot(call: CommandCall): Promise<undefined> {
  const branch = call.args[0] ?? '';
  const request = await withBranchAdmin(call, admin => admin.snapshot(branch, 'asked for by hand'));
  call.print(
    { branch, request },
    `Snapshot ${request} of branch ${branch} is requested. \`tributary-applier branch show ${branch}\` lists it until it ends.`,
  );
  return undefined;
}
