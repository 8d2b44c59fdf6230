/** What differs between the two packages; all else is the same for both. */
import { agentCli } from '../../agent/commands.ts';
import { exampleAgentConfig } from '../../agent/config.ts';
import { applierCli } from '../../applier/commands.ts';
import { exampleApplierConfig } from '../../applier/config.ts';
import type { CliSpec } from '../../shared/process/cli.ts';

export type Program = 'agent' | 'applier';

export interface ProgramFacts {
  readonly program: Program;
  /** Name of the package, the command, the user and the unit. */
  readonly name: string;
  readonly cli: CliSpec;
  /** The configuration file with every key and every line commented out. */
  readonly configuration: string;
  /** Password files in the program's folder below /etc, which a person or `enroll` writes. */
  readonly secrets: readonly string[];
  /** Unit files, in deploy/systemd. The first is enabled at installation. */
  readonly units: readonly string[];
  /** Folders that go beside the documents: what watches it. */
  readonly examples: readonly string[];
  readonly synopsis: string;
  readonly description: readonly string[];
}

export const PROGRAMS: readonly ProgramFacts[] = [
  {
    program: 'agent',
    name: 'tributary-agent',
    cli: agentCli(),
    configuration: commentedOut(exampleAgentConfig()),
    secrets: ['source.password', 'broker.password'],
    units: ['tributary-agent.service', 'tributary-agent@.service'],
    examples: [],
    synopsis: 'captures a branch office’s MySQL and forwards it to the head office',
    description: [
      'The branch side of Tributary. It reads the row-based binary log of a',
      'MySQL or MariaDB server into a durable spool and forwards it to the head',
      'office’s RabbitMQ whenever there is a link. A change is forgotten only when',
      'the head office has committed it.',
    ],
  },
  {
    program: 'applier',
    name: 'tributary-applier',
    cli: applierCli(),
    configuration: commentedOut(exampleApplierConfig()),
    secrets: ['target.password', 'broker.password'],
    units: ['tributary-applier.service'],
    examples: ['deploy/prometheus', 'deploy/grafana', 'deploy/runbook', 'deploy/ansible', 'deploy/proxy'],
    synopsis: 'writes what branch offices send into the head office’s MySQL',
    description: [
      'The head-office side of Tributary. It takes what agents at branches have',
      'captured from RabbitMQ, writes it into one MySQL database keyed by branch',
      'and row, exactly once and whole transactions at a time, and answers what it',
      'has committed.',
    ],
  },
];

/** An example with every key commented, also those that have no default: it configures nothing. */
export function commentedOut(example: string): string {
  return example
    .split('\n')
    .map(line => line.replace(/^( *)(?=[^#\s])/, '$1#'))
    .join('\n');
}
