/** The command line of tributary-applier. Each command reads its configuration and hands over; nothing is decided here. */
import type { CliSpec, CommandCall } from '../shared/process/cli.ts';
import { checkCommand } from '../shared/process/check-command.ts';
import { completionCommand } from '../shared/process/completion.ts';
import { startControlServer } from '../shared/process/control.ts';
import { pageOf, tokenCommand } from '../shared/process/token-command.ts';
import { pageToken } from '../shared/process/page-token.ts';
import { startHttpServer } from '../shared/process/http.ts';
import { createLogger } from '../shared/process/logging.ts';
import { startServiceNotices } from '../shared/process/systemd.ts';
import { oneLined } from '../shared/process/terminal-text.ts';
import { VERSION } from '../shared/version.ts';
import { BRANCH_COMMANDS } from './branch-commands.ts';
import { branchTable, STATE_COLOURS, waitingLines, worstFirst } from './branch-table.ts';
import { checkApplier } from './check.ts';
import { loadApplierConfig } from './config.ts';
import { applierGrants } from './grants.ts';
import { Applier } from './applier.ts';
import { placeOf, statusOfApplier } from './running-applier.ts';
import { VERIFY_COMMANDS } from './verify-commands.ts';
import { applierAssets, applierRoutes } from './web/pages.ts';
import type { ApplierStatus } from './web/status.ts';

export function applierCli(): CliSpec {
  return {
    name: 'tributary-applier',
    description: 'Writes the rows that branches send into the head office’s MySQL.',
    version: VERSION,
    defaultConfig: '/etc/tributary/applier.yaml',
    groups: { branch: 'add, inspect and remove branches', schema: 'approve changes of tables' },
    commands: [
      { usage: 'run', summary: 'run the applier until it is stopped (systemd starts this)', run },
      checkCommand({ load: loadApplierConfig, check: checkApplier, grants: applierGrants }),
      {
        usage: 'status',
        summary: 'show the state of the running applier and of all branches',
        json: true,
        run: status,
      },
      tokenCommand(call => placeOf(call.configFile)),
      ...BRANCH_COMMANDS,
      ...VERIFY_COMMANDS,
      completionCommand(applierCli),
    ],
  };
}

async function run(call: CommandCall): Promise<undefined> {
  const config = loadApplierConfig(call.configFile);
  const logger = createLogger({ level: config.log.level, name: 'tributary-applier' });
  const office = new Applier(config, VERSION, logger);
  await office.start();
  const control = await startControlServer({
    place: placeOf(call.configFile),
    logger,
    commands: {
      status: () => Promise.resolve(office.status()),
      token: () => Promise.resolve({ token, page: pageOf(http) }),
    },
  });
  const token = pageToken(control.tokenFile);
  const http = await startHttpServer({
    ...config.http,
    token,
    registry: office.registry,
    beforeScrape: () => office.updateMetrics(),
    ready: () => office.readiness(),
    status: () => office.status(),
    routes: applierRoutes({
      status: () => office.status(),
      detail: branch => office.detail(branch),
      actions: office.branches,
      changed: () => office.refresh(),
      tables: office.tables,
      branchMetrics: () => office.branchMetrics(),
    }),
    assets: applierAssets(),
    logger,
  });
  logger.info({ version: VERSION, page: pageOf(http) }, 'tributary-applier runs');
  const notices = startServiceNotices({
    status: () => office.summary(),
    stalled: () => office.stalled(),
    logger,
  });
  await new Promise<void>(done => {
    if (call.signal.aborted) done();
    call.signal.addEventListener('abort', () => done(), { once: true });
  });
  notices.stop();
  await Promise.all([control.close(), http.close(), office.stop()]);
  logger.info({}, 'stopped; nothing is lost');
  return undefined;
}

async function status(call: CommandCall): Promise<undefined> {
  loadApplierConfig(call.configFile);
  const answer = await statusOfApplier(call);
  call.print(answer, renderStatus(oneLined(answer)), STATE_COLOURS);
  return undefined;
}

function renderStatus({ target, broker, branches, now }: ApplierStatus): string {
  const at = Date.parse(now);
  const details = worstFirst(branches).flatMap(({ branch, halted, waiting }) => {
    if (halted !== null) return [`${branch}: ${halted.code}: ${halted.reason}`, `  → ${halted.hint}`];
    return waiting === null ? [] : [`${branch}:`, ...waitingLines(waiting, at)];
  });
  return [
    ...[target, broker].map(({ name, error }) => `${name}: ${error === null ? 'up' : error.message}`),
    branches.length === 0 ? 'No branches yet.' : branchTable(branches, at),
    ...details,
  ].join('\n');
}
