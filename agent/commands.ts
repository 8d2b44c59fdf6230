/** The command line of tributary-agent. Each command reads its configuration and calls the rest; nothing is decided here. */
import { resolve } from 'node:path';
import { errorLines, EXIT_FAILED, EXIT_OK } from '../shared/process/cli.ts';
import type { CliSpec, CommandCall } from '../shared/process/cli.ts';
import { callDaemon } from '../shared/process/control.ts';
import { runDaemon } from '../shared/process/daemon.ts';
import type { DaemonStatus } from '../shared/process/daemon.ts';
import { tokenCommand } from '../shared/process/token-command.ts';
import { TributaryError } from '../shared/errors.ts';
import { renderFindings } from '../shared/process/findings.ts';
import { grantsHost, GRANTS_OPTION, renderGrants } from '../shared/process/grants.ts';
import { serviceOf } from '../shared/config/service.ts';
import { createLogger } from '../shared/process/logging.ts';
import { parseTable, tableText } from '../shared/table-name.ts';
import { oneLined } from '../shared/process/terminal-text.ts';
import { formatBytes, formatDuration } from '../shared/units.ts';
import { VERSION } from '../shared/version.ts';
import { Agent } from './agent.ts';
import { checkAgent } from './check.ts';
import { loadAgentConfig } from './config.ts';
import { enroll } from './enroll.ts';
import { agentGrants } from './grants.ts';
import type { QueuedTable } from './spool/snapshot-progress.ts';
import { agentAssets, agentRoutes } from './web/pages.ts';
import type { AgentStatus, SyncStatus } from './web/status.ts';

/** How long `sync --wait` waits while nothing gets through. */
const SYNC_TIMEOUT_MS = 60_000;

export function agentCli(): CliSpec {
  return {
    name: 'tributary-agent',
    description: 'Captures what a branch’s MySQL commits and forwards it to the head office.',
    version: VERSION,
    defaultConfig: '/etc/tributary-agent/agent.yaml',
    commands: [
      { usage: 'run', summary: 'capture and forward until stopped (what systemd starts)', run },
      {
        usage: 'check',
        summary: 'check everything that capture needs, and print what to do about each fault',
        options: [GRANTS_OPTION],
        json: true,
        run: check,
      },
      {
        usage: 'enroll <file>',
        summary: 'make this machine the branch that an enrolment file names',
        options: [
          { flags: '--source-host <host>', description: 'host of the branch’s database' },
          { flags: '--source-port <port>', description: 'its port' },
          { flags: '--source-user <user>', description: 'its user' },
          {
            flags: '--source-password-file <file>',
            description: 'file with the password; it is copied with mode 0600',
          },
          { flags: '--include <tables...>', description: 'tables to capture, such as shop.*' },
        ],
        json: true,
        run: enrollCommand,
      },
      { usage: 'status', summary: 'show what the running agent does', json: true, run: status },
      tokenCommand(call => placeOf(loadAgentConfig(call.configFile, { readSecrets: false }).spool.directory)),
      {
        usage: 'sync',
        summary: 'open the link now, even outside its windows, until the spool is empty',
        options: [{ flags: '--wait', description: 'return when everything is at the head office' }],
        run: sync,
      },
      {
        usage: 'snapshot [tables...]',
        summary: 'copy tables (schema.table; none: all) to the head office again, while changes continue',
        run: snapshot,
      },
    ],
  };
}

function placeOf(spoolDirectory: string) {
  return { program: 'agent', key: spoolDirectory } as const;
}

async function run(call: CommandCall): Promise<undefined> {
  const config = loadAgentConfig(call.configFile);
  const logger = createLogger({ level: config.log.level, name: 'tributary-agent' });
  const agent = new Agent(config, VERSION, logger);
  await runDaemon({
    name: 'tributary-agent',
    version: VERSION,
    work: agent,
    place: placeOf(config.spool.directory),
    commands: {
      sync: async (args, { signal, progress }) => {
        if (args === 'wait') await agent.sync(progress, { signal, timeoutMs: SYNC_TIMEOUT_MS });
        else agent.startSync();
        return agent.status();
      },
      snapshot: args => {
        agent.requestSnapshot(tablesOf(args));
        return Promise.resolve(null);
      },
    },
    http: config.http,
    routes: agentRoutes({ startSync: () => agent.startSync() }),
    assets: agentAssets,
    logger,
    signal: call.signal,
  });
  return undefined;
}

async function check(call: CommandCall): Promise<number> {
  const host = grantsHost(call.options['grants']);
  if (host !== null) {
    const { source, tables } = loadAgentConfig(call.configFile, { readSecrets: false });
    const grants = agentGrants(source.user, tables.include, host);
    call.print(grants, renderGrants(grants));
    return EXIT_OK;
  }
  const service = serviceOf('agent', call.configFile);
  const findings = await checkAgent(loadAgentConfig(call.configFile, { service }), service);
  const faults = findings.filter(finding => finding.level === 'fault').length;
  const verdict =
    faults === 0 ? 'ready: check found no fault' : `not ready: check found ${faults} fault${faults === 1 ? '' : 's'}`;
  call.print({ ready: faults === 0, findings }, `${renderFindings(oneLined(findings))}\n${verdict}`);
  return faults === 0 ? EXIT_OK : EXIT_FAILED;
}

async function enrollCommand(call: CommandCall): Promise<undefined> {
  const { sourceHost, sourcePort, sourceUser, sourcePasswordFile, include } = call.options;
  const done = await enroll(resolve(call.args[0] ?? ''), call.configFile, {
    host: textOption(sourceHost),
    port: sourcePort === undefined ? null : Number(sourcePort),
    user: textOption(sourceUser),
    passwordFile: textOption(sourcePasswordFile),
    include: Array.isArray(include) ? include.map(String) : null,
  });
  const lines = [
    `branch ${done.branch} of ${done.headOffice}`,
    ...done.files.map(file => `wrote ${file}`),
    ...(done.newLife ? ['the spool was superseded: a new epoch begins with a snapshot'] : []),
    ...done.missing.map(step => `still to do: ${step}`),
    'then: tributary-agent check',
  ];
  call.print(done, lines.join('\n'));
  return undefined;
}

function textOption(value: unknown): string | null {
  return typeof value === 'string' ? value : null;
}

async function status(call: CommandCall): Promise<undefined> {
  const answer = (await ask(call, 'status')) as DaemonStatus<AgentStatus>;
  call.print(answer, renderStatus(oneLined(answer)));
  return undefined;
}

async function sync(call: CommandCall): Promise<undefined> {
  const wait = call.options['wait'] === true;
  let last = '';
  await ask(call, 'sync', wait ? 'wait' : null, line => {
    const text = renderSync(line as SyncStatus);
    if (text !== last) call.note(text);
    last = text;
  });
  call.print(null, wait ? 'the spool is empty' : 'the link is open until the spool is empty');
  return undefined;
}

function renderSync({ doneBatches, totalBatches, waitingBytes, bytesPerSecond, secondsLeft }: SyncStatus): string {
  const left = secondsLeft === null ? '' : `, ${formatDuration(secondsLeft * 1_000)} left`;
  return (
    `${doneBatches} of ${totalBatches} batches at the head office, ${formatBytes(waitingBytes)} wait, ` +
    `${formatBytes(Math.round(bytesPerSecond))}/s${left}`
  );
}

async function snapshot(call: CommandCall): Promise<undefined> {
  await ask(call, 'snapshot', call.args);
  call.print(
    null,
    call.args.length === 0 ? 'all tables will be copied again' : `${call.args.length} tables will be copied again`,
  );
  return undefined;
}

function ask(call: CommandCall, command: string, args: unknown = null, onProgress?: (line: unknown) => void) {
  const config = loadAgentConfig(call.configFile);
  return callDaemon({
    place: placeOf(config.spool.directory),
    command,
    args,
    signal: call.signal,
    ...(onProgress === undefined ? {} : { onProgress }),
  });
}

const TABLE_EXAMPLE = "For example: shop.orders. Put a name that contains a dot into backquotes: '`my.shop`.orders'.";

function tablesOf(args: unknown): QueuedTable[] {
  if (!Array.isArray(args)) return [];
  return args.map((text: unknown) => {
    const table = parseTable(String(text));
    if (table !== null) return table;
    throw new TributaryError('CONFIG_INVALID', `${String(text)} is not of the form schema.table.`, {
      hint: TABLE_EXAMPLE,
    });
  });
}

function renderStatus(status: DaemonStatus<AgentStatus>): string {
  const { capture, spool, stream, link, page } = status;
  const online = link.up ? 'online' : link.windowOpen ? 'offline' : 'outside the link windows';
  const lines = [
    `branch ${status.branch}: ${status.state}, ${online}`,
    ...errorLines(status.error),
    `captured through ${capture.capturedThrough ?? 'unknown'} from ${capture.source ?? 'no server yet'}`,
    `spool: ${spool.waitingBatches} batches (${formatBytes(spool.waitingBytes)}) wait; limit ${formatBytes(spool.maxBytes)}`,
    `link: ${link.up ? 'up' : 'down'}${link.windowOpen ? '' : `, windows closed until ${link.opensAt ?? 'further notice'}`}`,
    ...errorLines(link.error),
    ...(page.error === null ? [] : ['page: not served', ...errorLines(page.error)]),
    `stream: head ${stream.head}, confirmed ${stream.confirmed}, received ${stream.received ?? '?'}, applied ${stream.applied ?? '?'}`,
  ];
  for (const table of status.snapshot?.tables ?? []) {
    if (table.state !== 'done') lines.push(`snapshot: ${tableText(table)} ${table.state}, ${table.rows} rows`);
  }
  return lines.join('\n');
}
