/** The command line of tributary-applier. Each command reads its configuration and hands over; nothing is decided here. */
import { errorLines } from '../shared/process/cli.ts';
import type { CliSpec, CommandCall } from '../shared/process/cli.ts';
import { checkCommand } from '../shared/process/check-command.ts';
import { completionCommand } from '../shared/process/completion.ts';
import { tokenCommand } from '../shared/process/token-command.ts';
import { oneLined } from '../shared/process/terminal-text.ts';
import { VERSION } from '../shared/version.ts';
import { BRANCH_COMMANDS } from './branch-commands.ts';
import { branchTable, STATE_COLOURS, waitingLines, worstFirst } from './branch-table.ts';
import { checkApplier, grantsOfReader } from './check.ts';
import { loadApplierConfig } from './config.ts';
import { applierGrants } from './grants.ts';
import { EVENTS_COMMAND } from './event-commands.ts';
import { placeOf, runApplier } from './run.ts';
import { statusOfApplier } from './running-applier.ts';
import { APPLIER_ROLES } from './web/pages.ts';
import { VERIFY_COMMANDS } from './verify-commands.ts';
import type { DaemonStatus } from '../shared/process/daemon.ts';
import type { ApplierStatus } from './web/status.ts';

export function applierCli(): CliSpec {
  return {
    name: 'tributary-applier',
    description: 'Writes the rows that branches send into the head office’s MySQL.',
    version: VERSION,
    defaultConfig: '/etc/tributary-applier/applier.yaml',
    groups: { branch: 'add, inspect and remove branches', schema: 'approve changes of tables' },
    commands: [
      { usage: 'run', summary: 'run the applier until it is stopped (systemd starts this)', run: runApplier },
      checkCommand({
        program: 'applier',
        load: loadApplierConfig,
        check: checkApplier,
        grants: applierGrants,
        readerGrants: grantsOfReader,
      }),
      {
        usage: 'status',
        summary: 'show the state of the running applier and of all branches',
        json: true,
        run: status,
      },
      tokenCommand(call => placeOf(call.configFile), APPLIER_ROLES),
      ...BRANCH_COMMANDS,
      ...VERIFY_COMMANDS,
      EVENTS_COMMAND,
      completionCommand(applierCli),
    ],
  };
}

async function status(call: CommandCall): Promise<undefined> {
  loadApplierConfig(call.configFile);
  const answer = await statusOfApplier(call);
  call.print(answer, renderStatus(oneLined(answer)), STATE_COLOURS);
  return undefined;
}

function renderStatus({ target, broker, page, branches, now }: DaemonStatus<ApplierStatus>): string {
  const at = Date.parse(now);
  const details = worstFirst(branches).flatMap(({ branch, halted, waiting }) => {
    if (halted !== null) return [`${branch}: ${halted.code}: ${halted.reason}`, `  → ${halted.hint}`];
    return waiting === null ? [] : [`${branch}:`, ...waitingLines(waiting, at)];
  });
  return [
    ...[target, broker].flatMap(({ name, up, error }) => [`${name}: ${up ? 'up' : 'down'}`, ...errorLines(error)]),
    ...(page.error === null ? [] : ['page: not served', ...errorLines(page.error)]),
    branches.length === 0 ? 'No branches yet.' : branchTable(branches, at),
    ...details,
  ].join('\n');
}
