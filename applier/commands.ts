/** The command line of tributary-applier. Each command reads its configuration and hands over; nothing is decided here. */
import { mkdir, readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { errorLines, EXIT_FAILED, EXIT_OK } from '../shared/process/cli.ts';
import type { CliSpec, CommandCall } from '../shared/process/cli.ts';
import { callDaemon } from '../shared/process/control.ts';
import type { DaemonStatus } from '../shared/process/daemon.ts';
import { tokenCommand } from '../shared/process/token-command.ts';
import { TributaryError } from '../shared/errors.ts';
import { renderFindings } from '../shared/process/findings.ts';
import { grantsHost, GRANTS_OPTION, renderGrants } from '../shared/process/grants.ts';
import { tableText, tableTexts } from '../shared/table-name.ts';
import { VERSION } from '../shared/version.ts';
import { readBranchList } from './branches/branch-list.ts';
import { branchPermissions } from './broker/permissions.ts';
import type { BranchDetails, BranchSummary } from './branches/branch-admin.ts';
import type { QuarantineEntry } from './store/quarantined-rows.ts';
import type { OpenRequest } from './store/snapshots.ts';
import { checkApplier } from './check.ts';
import { loadApplierConfig } from './config.ts';
import { applierGrants } from './grants.ts';
import { placeOf, runApplier } from './run.ts';
import { renderVerified, VERIFY_COMMANDS } from './verify-commands.ts';
import type { ApplierStatus, BranchStatus, WaitingStatus } from './web/status.ts';
import { serviceOf } from '../shared/config/service.ts';
import { oneLined } from '../shared/process/terminal-text.ts';
import { withBranchAdmin } from './with-branch-admin.ts';

export function applierCli(): CliSpec {
  return {
    name: 'tributary-applier',
    description: 'Applies what branches send to the head office’s MySQL, and answers them.',
    version: VERSION,
    defaultConfig: '/etc/tributary-applier/applier.yaml',
    groups: { branch: 'add, look at and remove branches', schema: 'let changes of tables through' },
    commands: [
      { usage: 'run', summary: 'apply until stopped (what systemd starts)', run: runApplier },
      {
        usage: 'check',
        summary: 'look at everything that applying depends on, and say what to do about each fault',
        options: [GRANTS_OPTION],
        json: true,
        run: check,
      },
      { usage: 'status', summary: 'what the running applier sees', json: true, run: status },
      tokenCommand(call => placeOf(call.configFile)),
      {
        usage: 'branch add [id]',
        summary: 'make what a branch needs at the broker, and write its enrolment file; or all branches of a list',
        options: [
          {
            flags: '--out <path>',
            description: 'the enrolment file to write (mode 0600); with --from the folder for them',
            required: true,
          },
          { flags: '--from <file>', description: 'CSV of branches, in its column `branch` or the first' },
        ],
        json: true,
        run: branchAdd,
      },
      { usage: 'branch list', summary: 'all branches', json: true, run: branchList },
      {
        usage: 'branch show <id>',
        summary: 'one branch: stream, times, tables, permissions',
        json: true,
        run: branchShow,
      },
      {
        usage: 'branch remove <id>',
        summary: 'take a branch’s access away; its rows stay unless told otherwise',
        options: [{ flags: '--delete-data', description: 'delete its rows at the head office too' }],
        json: true,
        run: branchRemove,
      },
      {
        usage: 'branch rotate <id>',
        summary: 'give a branch a new password in a new enrolment file',
        options: [{ flags: '--out <file>', description: 'the enrolment file to write (mode 0600)', required: true }],
        json: true,
        run: branchRotate,
      },
      { usage: 'branch retry <id>', summary: 'let a halted branch try its batch again', run: branchRetry },
      {
        usage: 'branch quarantine <id>',
        summary:
          'go on without the rows of the present batch that cannot be applied; they are kept aside, and asked for again',
        options: [{ flags: '--whole', description: 'pass over all of the batch, whatever of it could be applied' }],
        json: true,
        run: branchQuarantine,
      },
      {
        usage: 'schema approve <id>',
        summary: 'allow the change of tables at which a branch stands still, rebuilds of large ones included',
        json: true,
        run: schemaApprove,
      },
      {
        usage: 'branch snapshot <id>',
        summary: 'ask a branch to copy all its tables again, while changes go on',
        json: true,
        run: branchSnapshot,
      },
      ...VERIFY_COMMANDS,
    ],
  };
}

async function check(call: CommandCall): Promise<number> {
  const host = grantsHost(call.options['grants']);
  if (host !== null) {
    const grants = applierGrants(loadApplierConfig(call.configFile, { readSecrets: false }), host);
    call.print(grants, renderGrants(grants));
    return EXIT_OK;
  }
  const findings = await checkApplier(
    loadApplierConfig(call.configFile, { service: serviceOf('applier', call.configFile) }),
  );
  const faults = findings.filter(finding => finding.level === 'fault').length;
  const verdict =
    faults === 0 ? 'ready: check found no fault' : `not ready: check found ${faults} fault${faults === 1 ? '' : 's'}`;
  call.print({ ready: faults === 0, findings }, `${renderFindings(oneLined(findings))}\n${verdict}`);
  return faults === 0 ? EXIT_OK : EXIT_FAILED;
}

async function status(call: CommandCall): Promise<undefined> {
  loadApplierConfig(call.configFile);
  const answer = (await callDaemon({
    place: placeOf(call.configFile),
    command: 'status',
    signal: call.signal,
  })) as DaemonStatus<ApplierStatus>;
  const { target, broker, page, branches } = oneLined(answer);
  const head = [target, broker].flatMap(({ name, up, error }) => [
    `${name}: ${up ? 'up' : 'down'}`,
    ...errorLines(error),
  ]);
  if (page.error !== null) head.push('page: not served', ...errorLines(page.error));
  call.print(answer, [...head, ...branches.map(renderBranch)].join('\n'));
  return undefined;
}

function renderBranch(branch: BranchStatus): string {
  const { halted: halt, waiting } = branch;
  const halted = halt === null ? renderWaiting(waiting) : `\n  ${halt.code}: ${halt.reason}\n  → ${halt.hint}`;
  return (
    `${branch.branch}: ${branch.state}, complete through ${branch.completeThrough ?? 'never'}, ` +
    `last seen ${branch.lastSeenAt ?? 'never'}, backlog ${branch.backlogBatches ?? '?'} batches${halted}`
  );
}

/** A fault that is waited for, below the branch's line. */
function renderWaiting(waiting: WaitingStatus | null): string {
  if (waiting === null) return '';
  const { code, reason, hint, since, tries } = waiting;
  return `\n  waits since ${since}, tried ${tries} times: ${code}: ${reason}\n  → ${hint}`;
}

/**
 * What the running applier waits for, by branch: the database does not know it. Nothing where none runs here, or it does
 * not answer.
 */
async function waitingBranches(call: CommandCall): Promise<ReadonlyMap<string, WaitingStatus>> {
  try {
    const { configFile, signal } = call;
    const answer = (await callDaemon({ place: placeOf(configFile), command: 'status', signal })) as ApplierStatus;
    return new Map(answer.branches.flatMap(({ branch, waiting }) => (waiting === null ? [] : [[branch, waiting]])));
  } catch (error) {
    if (error instanceof TributaryError && error.code === 'DAEMON_UNREACHABLE') return new Map();
    throw error;
  }
}

async function branchAdd(call: CommandCall): Promise<undefined> {
  const [branch] = call.args;
  const out = String(call.options['out']);
  const from = call.options['from'];
  if ((branch === undefined) === (from === undefined)) {
    throw new TributaryError('CONFIG_INVALID', 'branch add takes one id, or --from FILE', {
      hint: 'For example: branch add paris --out paris.enrolment; or branch add --from branches.csv --out enrolments.',
    });
  }
  if (branch === undefined) return addMany(call, String(from), out);
  await withBranchAdmin(call, registry => registry.add(branch, out));
  call.print({ branch, file: resolve(out) }, `branch ${branch} is ready; at the branch: tributary-agent enroll ${out}`);
  return undefined;
}

/** Adds what the list names. Repeatable: an enrolment file that is there already stays valid. */
async function addMany(call: CommandCall, list: string, folder: string): Promise<undefined> {
  const branches = readBranchList(await readText(list), list);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const added = await withBranchAdmin(call, async registry => {
    const files: { branch: string; file: string }[] = [];
    for (const branch of branches) {
      const file = join(resolve(folder), `${branch}.enrolment`);
      await registry.add(branch, file);
      files.push({ branch, file });
      call.note(`${files.length} of ${branches.length}: ${branch}`);
    }
    return files;
  });
  call.print(added, `${added.length} branches are ready; their enrolment files are in ${folder}`);
  return undefined;
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    throw new TributaryError('CONFIG_UNREADABLE', `the list ${file} cannot be read`, { cause });
  }
}

async function branchRotate(call: CommandCall): Promise<undefined> {
  const branch = call.args[0] ?? '';
  const out = String(call.options['out']);
  await withBranchAdmin(call, registry => registry.rotate(branch, out));
  call.print(
    { branch, file: resolve(out) },
    `${branch} has a new password; at the branch: tributary-agent enroll ${out}`,
  );
  return undefined;
}

async function branchList(call: CommandCall): Promise<undefined> {
  const branches = await withBranchAdmin(call, registry => registry.list());
  const waiting = await waitingBranches(call);
  const present = branches.filter(({ row }) => row.state !== 'removed');
  const data = present.map(summary => ({ ...summaryOf(summary), waiting: waiting.get(summary.row.branch) ?? null }));
  const lines = oneLined(present).map(
    summary => renderSummary(summary) + renderWaiting(oneLined(waiting.get(summary.row.branch) ?? null)),
  );
  call.print(data, present.length === 0 ? 'no branches yet' : lines.join('\n'));
  return undefined;
}

function summaryOf({ row, contact }: BranchSummary) {
  return {
    branch: row.branch,
    state: row.state,
    epoch: row.stream.epoch,
    received: row.stream.received.seq,
    applied: row.stream.applied.seq,
    lastSeen: contact?.lastSeen ?? null,
    completeThrough: contact?.completeness.through ?? null,
    halt: row.halt,
  };
}

function renderSummary(summary: BranchSummary): string {
  const { branch, state, applied, received, lastSeen, completeThrough, halt } = summaryOf(summary);
  const reason = halt === null ? '' : ` (${halt.code}: ${halt.reason})`;
  return `${branch}: ${state}${reason}, received ${received}, applied ${applied}, last seen ${lastSeen ?? 'never'}, complete through ${completeThrough ?? 'never'}`;
}

async function branchShow(call: CommandCall): Promise<undefined> {
  const details = await withBranchAdmin(call, registry => registry.show(call.args[0] ?? ''));
  const permissions = branchPermissions(details.row.branch);
  const { row, tables, requests, quarantine, verified } = details;
  const waiting = (await waitingBranches(call)).get(row.branch) ?? null;
  const data = {
    ...summaryOf(details),
    waiting,
    tables,
    requests,
    permissions,
    incompleteSince: row.incompleteSince,
    quarantined: row.quarantined,
    quarantine,
    verified,
  };
  call.print(data, renderDetails(oneLined(details), oneLined(waiting)));
  return undefined;
}

function renderDetails(details: BranchDetails, waiting: WaitingStatus | null): string {
  const { row, tables, requests, quarantine, verified } = details;
  const permissions = branchPermissions(row.branch);
  return [
    renderSummary(details) + renderWaiting(waiting),
    `tables: ${tableTexts(tables) || 'none yet'}`,
    `permissions at the broker: configure ${permissions.configure} · write ${permissions.write} · read ${permissions.read}`,
    ...(row.incompleteSince === null ? [] : [`incomplete since ${row.incompleteSince}`]),
    ...requests.map(request => `asked for: ${renderRequest(request)}`),
    ...verified.map(table => `compared: ${renderVerified(table)}`),
    ...(row.quarantined === 0 ? [] : [`in quarantine: ${row.quarantined}`, ...quarantine.map(renderEntry)]),
  ].join('\n');
}

function renderRequest({ id, kind, tables }: OpenRequest): string {
  const of = tables === null ? 'everything' : tableTexts(tables);
  return `${kind} of ${of} (${id})`;
}

function renderEntry({ schema, table, op, key, reason, seq, lastAt, leftOut }: QuarantineEntry): string {
  const what = op === 'table' ? `all of it, ${leftOut} changes so far` : `${op} ${JSON.stringify(key)}`;
  return `  ${tableText({ schema, name: table })}: ${what}\n    ${reason} (batch ${seq}, ${lastAt})`;
}

async function branchRemove(call: CommandCall): Promise<undefined> {
  const branch = call.args[0] ?? '';
  const deleteData = call.options['deleteData'] === true;
  const { deletedRows } = await withBranchAdmin(call, registry => registry.remove(branch, deleteData));
  const rest = deleteData ? `${deletedRows} rows deleted` : 'its rows stay';
  call.print({ branch, deletedRows }, `branch ${branch} is removed; ${rest}`);
  return undefined;
}

async function schemaApprove(call: CommandCall): Promise<undefined> {
  const branch = call.args[0] ?? '';
  const reason = await withBranchAdmin(call, registry => registry.approve(branch));
  call.print({ branch, reason }, `${branch} tries again and may rebuild tables: ${reason}`);
  return undefined;
}

async function branchRetry(call: CommandCall): Promise<undefined> {
  const branch = call.args[0] ?? '';
  await withBranchAdmin(call, registry => registry.retry(branch));
  call.print(null, `${branch} tries again`);
  return undefined;
}

async function branchQuarantine(call: CommandCall): Promise<undefined> {
  const branch = call.args[0] ?? '';
  const whole = call.options['whole'] === true;
  const request = await withBranchAdmin(call, registry => registry.quarantine(branch, whole));
  const what = whole ? 'the batch' : 'what cannot be applied of the batch';
  call.print(
    { branch, request, whole },
    `${branch} goes on without ${what}; branch show ${branch} lists it. Snapshot ${request} is asked for where rows are missing`,
  );
  return undefined;
}

async function branchSnapshot(call: CommandCall): Promise<undefined> {
  const branch = call.args[0] ?? '';
  const request = await withBranchAdmin(call, registry => registry.snapshot(branch, 'asked for by hand'));
  call.print(
    { branch, request },
    `${branch} is asked for snapshot ${request}; branch show ${branch} lists it until it has ended`,
  );
  return undefined;
}
