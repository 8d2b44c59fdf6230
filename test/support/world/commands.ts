/** What documents and playbooks may call: the programs' commands with their arguments and options. */
import { agentCli } from '../../../agent/commands.ts';
import { applierCli } from '../../../applier/commands.ts';

interface Known {
  /** `tributary-applier branch add` */
  readonly words: readonly string[];
  readonly flags: readonly string[];
}

const KNOWN: readonly Known[] = [agentCli(), applierCli()].flatMap(cli =>
  cli.commands.map(({ usage, options = [], json = false }) => ({
    words: `${cli.name} ${usage.replaceAll(/ [<[].*/g, '')}`.split(' '),
    flags: [
      '--config',
      '--help',
      '--version',
      ...(json ? ['--json'] : []),
      ...options.map(({ flags }) => flags.split(' ')[0] ?? ''),
    ],
  })),
);

/** What is wrong with a command, given as words; null: nothing. */
export function commandFault(words: readonly string[]): string | null {
  const known = KNOWN.find(each => each.words.every((word, index) => words[index] === word));
  if (known === undefined) return 'there is no such command';
  const wrong = words.filter(word => word.startsWith('--') && !known.flags.includes(word));
  return wrong.length === 0 ? null : `it has no ${wrong.join(', ')}`;
}
