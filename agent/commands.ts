/** The command line of tributary-agent. Each command reads its configuration and hands over; nothing is decided here. */
import { resolve } from 'node:path';
import { checkCommand } from '../shared/process/check-command.ts';
import { errorLines } from '../shared/process/cli.ts';
import type { CliSpec, Colour, CommandCall } from '../shared/process/cli.ts';
import { completionCommand } from '../shared/process/completion.ts';
import { callDaemon } from '../shared/process/control.ts';
import { tokenCommand } from '../shared/process/token-command.ts';
import { TributaryError } from '../shared/errors.ts';
import { createLogger } from '../shared/process/logging.ts';
import { runDaemon } from '../shared/process/daemon.ts';
import type { DaemonStatus } from '../shared/process/daemon.ts';
import { parseTable, tableKey, tableText, tableTexts } from '../shared/table-name.ts';
import { oneLined } from '../shared/process/terminal-text.ts';
import type { TableName } from '../shared/table-name.ts';
import { counted, formatAgo, formatBytes, formatDuration } from '../shared/units.ts';
import { VERSION } from '../shared/version.ts';
import { Agent } from './agent.ts';
import { checkAgent } from './check.ts';
import { loadAgentConfig } from './config.ts';
import type { AgentConfig } from './config.ts';
import { enroll } from './enroll.ts';
import { agentGrants } from './grants.ts';
import { SourceConnection } from './source/connection.ts';
import { createTableFilter } from './source/table-filter.ts';
import { capturedNames } from './source/table-names.ts';
import type { QueuedTable } from './spool/snapshot-progress.ts';
import { AGENT_ROLES, agentAssets, agentRoutes } from './web/pages.ts';
import { partsText } from './web/sentence.ts';
import type { AgentStatus, SyncStatus } from './web/status.ts';

/** How long `sync --wait` waits while nothing gets through. */
const SYNC_TIMEOUT_MS = 60_000;
/** Who asks by a command, for the head office. */
const BY_COMMAND = 'command line of the branch';

export function agentCli(): CliSpec {
  return {
    name: 'tributary-agent',
    description: 'Captures what a branch’s MySQL or MariaDB commits, and forwards it to the head office.',
    version: VERSION,
    defaultConfig: '/etc/tributary-agent/agent.yaml',
    commands: [
      { usage: 'run', summary: 'capture and forward until it is stopped (systemd starts this)', run },
      checkCommand({
        program: 'agent',
        load: loadAgentConfig,
        check: checkAgent,
        grants: ({ source, tables }, host) => agentGrants(source.user, tables.include, host),
      }),
      {
        usage: 'enroll <file>',
        summary: 'make this machine the branch that an enrolment file names',
        options: [
          { flags: '--source-host <host>', description: 'host of the branch’s database' },
          { flags: '--source-port <port>', description: 'its port' },
          { flags: '--source-user <user>', description: 'its user' },
          {
            flags: '--source-password-file <file>',
            description: 'file that holds the password; it is copied, mode 0600',
          },
          {
            flags: '--include <pattern>',
            description: 'tables to capture, for example shop.*; repeat it, or separate patterns with commas',
            list: true,
          },
        ],
        examples: [
          'enroll paris.enrolment',
          "enroll --include 'shop.*' --include crm.customer paris.enrolment",
          'enroll --source-user tributary --source-password-file password paris.enrolment',
        ],
        json: true,
        run: enrollCommand,
      },
      { usage: 'status', summary: 'show what the running agent does', json: true, run: status },
      tokenCommand(
        call => placeOf(loadAgentConfig(call.configFile, { readSecrets: false }).spool.directory),
        AGENT_ROLES,
      ),
      {
        usage: 'sync',
        summary: 'open the link now, even outside its windows, until the spool is empty',
        options: [{ flags: '--wait', description: 'return only when everything is at the head office' }],
        examples: ['sync', 'sync --wait'],
        run: sync,
      },
      {
        usage: 'snapshot [tables...]',
        summary: 'copy tables (none given: all) to the head office again; changes go on meanwhile',
        examples: ['snapshot', 'snapshot shop.orders shop.customers', "snapshot '`my.shop`.orders'"],
        run: snapshot,
      },
      completionCommand(agentCli),
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
        if (args === 'wait') await agent.sync(BY_COMMAND, progress, { signal, timeoutMs: SYNC_TIMEOUT_MS });
        else agent.startSync(BY_COMMAND);
        return agent.status();
      },
      snapshot: args => {
        agent.requestSnapshot(tablesOf(args));
        return Promise.resolve(null);
      },
    },
    http: config.http,
    roles: AGENT_ROLES,
    routes: agentRoutes({ startSync: by => agent.startSync(`${by}, page of the branch`) }),
    assets: agentAssets,
    logger,
    signal: call.signal,
  });
  return undefined;
}

async function enrollCommand(call: CommandCall): Promise<undefined> {
  const { sourceHost, sourcePort, sourceUser, sourcePasswordFile, include } = call.options;
  const done = await enroll(resolve(call.args[0] ?? ''), call.configFile, {
    host: textOption(sourceHost),
    port: portOption(sourcePort),
    user: textOption(sourceUser),
    passwordFile: textOption(sourcePasswordFile),
    include: Array.isArray(include) ? include.map(String) : null,
  });
  const lines = [
    `This machine is branch ${done.branch} of ${done.headOffice}.`,
    ...done.files.map(file => `Wrote ${file}.`),
    ...(done.newLife ? ['The spool was superseded: a new epoch begins with a snapshot.'] : []),
    ...done.missing.map(step => `Still to do: ${step}`),
    'Next: `tributary-agent check`.',
  ];
  call.print(done, lines.join('\n'));
  return undefined;
}

/** @throws CONFIG_INVALID for what is no port */
function portOption(value: unknown): number | null {
  if (value === undefined) return null;
  const port = Number(value);
  if (Number.isInteger(port) && port >= 1 && port <= 65_535) return port;
  throw new TributaryError('CONFIG_INVALID', `--source-port ${textOption(value) ?? ''} is not a port.`, {
    hint: 'A port is a number from 1 to 65535; MySQL and MariaDB listen on 3306 unless they are told otherwise.',
  });
}

function textOption(value: unknown): string | null {
  return typeof value === 'string' ? value : null;
}

async function status(call: CommandCall): Promise<undefined> {
  const answer = (await ask(call, 'status')) as DaemonStatus<AgentStatus>;
  call.print(answer, renderStatus(oneLined(answer)), STATE_COLOURS);
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
  call.print(null, wait ? 'The spool is empty.' : 'The link is open until the spool is empty.');
  return undefined;
}

function renderSync({ doneBatches, totalBatches, waitingBytes, bytesPerSecond, secondsLeft }: SyncStatus): string {
  const left = secondsLeft === null ? '' : `, ${formatDuration(secondsLeft * 1_000)} left`;
  return (
    `${doneBatches} of ${counted(totalBatches, 'batch', 'batches')} at the head office, ${formatBytes(waitingBytes)} waiting, ` +
    `${formatBytes(Math.round(bytesPerSecond))}/s${left}`
  );
}

async function snapshot(call: CommandCall): Promise<undefined> {
  const tables = tablesOf(call.args);
  if (tables.length > 0) await requireCaptured(loadAgentConfig(call.configFile), tables);
  await ask(call, 'snapshot', call.args);
  call.print(null, `${tables.length === 0 ? 'All tables' : tableTexts(tables)} will be copied again.`);
  return undefined;
}

/** @throws CONFIG_INVALID that names the tables which are not there, or are not captured; SOURCE_… */
async function requireCaptured(config: AgentConfig, tables: readonly TableName[]): Promise<void> {
  const tableFilter = createTableFilter(config.tables, config.tables.hashKey?.reveal() ?? null);
  const source = await SourceConnection.open(config.source, `tributary-agent ${config.branch} snapshot`);
  const captured = await capturedNames(source, tableFilter).finally(() => source.destroy());
  const keys = new Set(captured.map(tableKey));
  const others = tables.filter(table => !keys.has(tableKey(table)));
  if (others.length === 0) return;
  const reasons = others.map(table =>
    tableFilter.captures(table.schema, table.name)
      ? `there is no table ${tableText(table)}`
      : `${tableText(table)} is not captured (tables.include and tables.exclude)`,
  );
  throw new TributaryError('CONFIG_INVALID', `No snapshot was requested: ${reasons.join('; ')}.`, {
    hint: `Captured are: ${tableTexts(captured).slice(0, 1_000) || 'no tables'}.`,
  });
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

const TABLE_EXAMPLE = "For example: shop.orders. Put a name that has a dot in backquotes: '`my.shop`.orders'.";

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

const STATE_COLOURS: readonly Colour[] = [
  { pattern: /(?<=^branch [a-z0-9-]+: )(?:stopped|failing|superseded|set-aside)(?=,)/m, format: 'red' },
  { pattern: /(?<=^branch [a-z0-9-]+: )(?:starting|full)(?=,)/m, format: 'yellow' },
  { pattern: /(?<=^branch [a-z0-9-]+: )capturing(?=,)/m, format: 'green' },
];

function renderStatus(status: DaemonStatus<AgentStatus>): string {
  const { branch, state, error, now, capture, spool, stream, link, page, snapshot, setAside, sentence } = status;
  const online = link.up ? 'online' : link.windowOpen ? 'offline' : 'outside the link windows';
  const at = Date.parse(now);
  const batches = counted(spool.waitingBatches, 'batch', 'batches');
  return [
    `branch ${branch}: ${state}, ${online}`,
    partsText(sentence.says, time => formatAgo(time, at)),
    ...errorLines(error),
    `captured through: ${formatAgo(capture.capturedThrough, at)}, from ${capture.source ?? 'no server yet'}`,
    `spool: ${batches} (${formatBytes(spool.waitingBytes)}) waiting, of ${formatBytes(spool.maxBytes)}`,
    `link: ${link.up ? 'up' : 'down'}${link.windowOpen ? '' : `, ${windowText(link.opensAt, at)}`}`,
    ...errorLines(link.error),
    ...(page.error === null ? [] : ['page: not served', ...errorLines(page.error)]),
    `stream: head ${stream.head}, confirmed ${stream.confirmed}, received ${stream.received ?? '?'}, applied ${stream.applied ?? '?'}`,
    ...setAside.flatMap(({ schema, name, state, ...cause }) => [
      `set aside: ${tableText({ schema, name })}${state === 'aside' ? '' : ', being copied again'}`,
      ...errorLines(cause),
    ]),
    ...(snapshot?.tables ?? [])
      .filter(table => table.state !== 'done')
      .map(table => `snapshot: ${tableText(table)} ${table.state}, ${counted(table.rows, 'row')}`),
  ].join('\n');
}

function windowText(opensAt: string | null, now: number): string {
  return opensAt === null
    ? 'window closed'
    : `window opens in ${formatDuration(Math.max(0, Date.parse(opensAt) - now))}`;
}
