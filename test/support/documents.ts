/**
 * The parts of README that come from the code, between markers `<!-- begin NAME -->` and `<!-- end NAME -->`.
 * `node test/support/documents.ts` (`make docs`) writes them; test/unit/documents.test.ts holds them to it.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { agentCli } from '../../agent/commands.ts';
import { exampleAgentConfig } from '../../agent/config.ts';
import { applierCli } from '../../applier/commands.ts';
import { exampleApplierConfig } from '../../applier/config.ts';
import type { CliSpec } from '../../shared/cli.ts';
import { ERRORS } from '../../shared/errors.ts';
import { metricsTable } from '../../shared/metrics.ts';

export const README = resolve(import.meta.dirname, '../../README.md');

/** Each generated part by the name of its markers. */
export function generatedParts(): Record<string, string> {
  return {
    commands: [agentCli(), applierCli()].map(commandsTable).join('\n\n'),
    'agent.yaml': fenced('yaml', exampleAgentConfig()),
    'applier.yaml': fenced('yaml', exampleApplierConfig()),
    metrics: metricsTable(),
    errors: errorsTable(),
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

function errorsTable(): string {
  const rows = Object.entries(ERRORS).map(
    ([code, { cause, cure, retryable }]) => `| \`${code}\` | ${cause} | ${cure} | ${retryable ? 'yes' : 'no'} |`,
  );
  return ['| code | cause | cure | tried again by itself |', '|---|---|---|---|', ...rows].join('\n');
}

function fenced(language: string, text: string): string {
  return `\`\`\`${language}\n${text.trimEnd()}\n\`\`\``;
}

if (import.meta.main) {
  writeFileSync(README, withParts(readFileSync(README, 'utf8'), generatedParts()));
  process.stdout.write('README.md is up to date\n');
}
