/**
 * The parts of the documents that come from the code, between markers `<!-- begin NAME -->` and `<!-- end NAME -->`.
 * `node test/support/documents/documents.ts` (`make docs`) writes them; test/unit/documents.test.ts holds them to it.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { agentCli } from '../../../agent/commands.ts';
import { exampleAgentConfig } from '../../../agent/config.ts';
import { applierCli } from '../../../applier/commands.ts';
import { exampleApplierConfig } from '../../../applier/config.ts';
import type { CliSpec } from '../../../shared/process/cli.ts';
import { ERRORS } from '../../../shared/errors.ts';
import { SUPPORTED_SERVERS } from '../../../shared/server-versions.ts';
import type { ServerRole } from '../../../shared/server-versions.ts';
import { metricsTable } from '../../../shared/process/metrics.ts';

const ROOT = resolve(import.meta.dirname, '../../..');

/** The generated parts of each document, by its path, by the name of their markers. */
export function generatedParts(): Record<string, Record<string, string>> {
  return {
    [join(ROOT, 'README.md')]: { servers: serversTable() },
    [join(ROOT, 'docs/servers.md')]: { matrix: matrixTable() },
    [join(ROOT, 'docs/reference.md')]: {
      commands: [agentCli(), applierCli()].map(commandsTable).join('\n\n'),
      'agent.yaml': fenced('yaml', exampleAgentConfig()),
      'applier.yaml': fenced('yaml', exampleApplierConfig()),
      metrics: metricsTable(),
      errors: errorsTable(),
    },
  };
}

/** The text with every part brought up to date. @throws where a part has no markers */
export function withParts(text: string, parts: Readonly<Record<string, string>>): string {
  let result = text;
  for (const [name, part] of Object.entries(parts)) {
    const begin = `<!-- begin ${name} -->\n`;
    const from = result.indexOf(begin);
    const to = result.indexOf(`\n<!-- end ${name} -->`);
    if (from < 0 || to < 0) throw new Error(`the document has no markers for ${name}`);
    result = result.slice(0, from + begin.length) + part + result.slice(to);
  }
  return result;
}

function commandsTable(cli: CliSpec): string {
  const rows = cli.commands.map(command => {
    const options = (command.options ?? []).map(({ flags }) => ` \`${flags}\``).join('');
    return `| \`${cli.name} ${command.usage}\`${options} | ${command.summary} |`;
  });
  return ['| command | does |', '|---|---|', ...rows].join('\n');
}

/** What the last `make test-servers` found, by the part that a server plays. */
const MATRIX = JSON.parse(readFileSync(join(ROOT, 'test/servers/matrix.json'), 'utf8')) as readonly {
  readonly role: string;
  readonly server: string;
  readonly result: string;
  readonly cases: readonly [number, number] | null;
}[];

function matrixTable(): string {
  const rows = MATRIX.map(({ role, server, result, cases }) => {
    const [of = 0, all = 0] = cases ?? [];
    const tried =
      cases === null ? '' : of === all ? `all ${all}` : `${of} of ${all}: the server refuses the others’ SQL`;
    return `| ${role} | ${server} | ${result} | ${tried} |`;
  });
  return ['| part | server | result | cases |', '|---|---|---|---|', ...rows].join('\n');
}

/** What each part needs, and what all tests ran with. */
function serversTable(): string {
  const needs = (role: ServerRole, more = ''): string =>
    SUPPORTED_SERVERS[role].map(({ product, oldest }) => `${product} ${oldest} or later${more}`).join('; ');
  const settings = ['log_bin', 'binlog_format=ROW', 'binlog_row_image=FULL'];
  const rows = [
    ['part', 'needs', 'tested with'],
    ['---', '---', '---'],
    [
      'branch database',
      needs('source'),
      'MySQL 9.7 with and without GTIDs, MariaDB 11.8; [older ones](docs/servers.md)',
    ],
    [
      'its settings',
      `${settings.map(name => `\`${name}\``).join(', ')}; better also \`binlog_row_metadata=FULL\`, where the server has it`,
      '`check` names the statement for whatever differs',
    ],
    [
      'its user',
      '`REPLICATION SLAVE`, `REPLICATION CLIENT` (MariaDB: `BINLOG MONITOR`), `SELECT` on the tables',
      '`check --grants` prints them',
    ],
    ['head-office database', needs('target'), 'MySQL 9.7'],
    ['broker', needs('broker', ', with the management plugin'), 'RabbitMQ 4.3'],
    ['machines', 'Linux on amd64 or arm64; each package but npm’s brings its own Node', 'Debian 12 and 13'],
  ];
  return rows
    .map(cells => `| ${cells.join(' | ')} |`)
    .join('\n')
    .replace('| --- | --- | --- |', '|---|---|---|');
}

function errorsTable(): string {
  const rows = Object.entries(ERRORS).map(
    ([code, { cause, hint, retryable }]) => `| \`${code}\` | ${cause} | ${hint} | ${retryable ? 'yes' : 'no'} |`,
  );
  return ['| code | cause | what to do | may pass by itself |', '|---|---|---|---|', ...rows].join('\n');
}

function fenced(language: string, text: string): string {
  return `\`\`\`${language}\n${text.trimEnd()}\n\`\`\``;
}

if (import.meta.main) {
  for (const [file, parts] of Object.entries(generatedParts())) {
    writeFileSync(file, withParts(readFileSync(file, 'utf8'), parts));
  }
  process.stdout.write('the documents are up to date\n');
}
