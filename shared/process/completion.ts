/** `completion`: scripts that complete the command line in bash, zsh and fish, made from the specs of the commands. */
import { TributaryError } from '../errors.ts';
import type { CliSpec, CommandSpec } from './cli.ts';

export function completionCommand(specOf: () => CliSpec): CommandSpec {
  return {
    usage: 'completion <shell>',
    summary: 'print a script for bash, zsh or fish that completes commands and options',
    examples: ['completion bash', 'completion zsh', 'completion fish'],
    run: call => {
      call.print(null, completionScript(specOf(), call.args[0] ?? ''));
      return Promise.resolve(undefined);
    },
  };
}

/** @throws CONFIG_INVALID for another shell */
export function completionScript(spec: CliSpec, shell: string): string {
  switch (shell) {
    case 'bash':
      return bashScript(spec.name, placesOf(spec));
    case 'zsh':
      return zshScript(spec.name, placesOf(spec));
    case 'fish':
      return fishScript(spec.name, placesOf(spec));
    default:
      throw new TributaryError('CONFIG_INVALID', `There is no completion for ${shell || 'no shell'}.`, {
        hint: 'The shells are bash, zsh and fish.',
      });
  }
}

interface Choice {
  /** A command's word, or an option: `--out`. */
  readonly word: string;
  readonly summary: string;
  /** Whether a value follows it, which may be a file. */
  readonly takesValue: boolean;
}

interface Place {
  /** The words typed so far, without options: ``, `branch`, `branch add`. */
  readonly path: string;
  readonly choices: readonly Choice[];
}

function placesOf({ commands, groups = {} }: CliSpec): Place[] {
  const places = new Map<string, Choice[]>([['', []]]);
  const top = places.get('') ?? [];
  for (const command of commands) {
    const path = command.usage.split(' ').filter(word => /^[\w-]/.test(word));
    const [group = ''] = path;
    if (path.length > 1 && !places.has(group)) {
      places.set(group, []);
      top.push({ word: group, summary: groups[group] ?? '', takesValue: false });
    }
    const parent = path.length > 1 ? (places.get(group) ?? []) : top;
    parent.push({ word: path.at(-1) ?? '', summary: command.summary, takesValue: false });
    places.set(path.join(' '), optionsOf(command));
  }
  top.push({ word: 'help', summary: 'show the help of a command', takesValue: false });
  return [...places].map(([path, choices]) => ({ path, choices }));
}

function optionsOf({ options = [], json = false }: CommandSpec): Choice[] {
  return [
    ...options.map(({ flags, description }) => ({
      word: flags.split(' ')[0] ?? '',
      summary: description,
      takesValue: /</.test(flags),
    })),
    { word: '--config', summary: 'configuration file', takesValue: true },
    ...(json ? [{ word: '--json', summary: 'print JSON', takesValue: false }] : []),
    { word: '--help', summary: 'show the help', takesValue: false },
  ];
}

/** The case pattern by which bash and zsh recognise the commands typed so far. */
function placeCases(places: readonly Place[]): string {
  return places
    .filter(({ path }) => path !== '')
    .map(({ path }) => `'${path}'`)
    .join(' | ');
}

function bashScript(name: string, places: readonly Place[]): string {
  const withValue = new Set(places.flatMap(({ choices }) => choices.filter(each => each.takesValue)).map(e => e.word));
  const cases = places.map(({ path, choices }) => `    '${path}') words='${choices.map(e => e.word).join(' ')}' ;;`);
  return `# bash completion of ${name}
${functionName(name)}() {
  local current=\${COMP_WORDS[COMP_CWORD]} place='' words='' word
  COMPREPLY=()
  case \${COMP_WORDS[COMP_CWORD - 1]} in ${[...withValue].join(' | ')}) return ;; esac
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "\${place:+$place }$word" in ${placeCases(places)}) place="\${place:+$place }$word" ;; esac
  done
  case $place in
${cases.join('\n')}
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
complete -o default -F ${functionName(name)} ${name}`;
}

function zshScript(name: string, places: readonly Place[]): string {
  const cases = places.map(({ path, choices }) => {
    const described = choices.map(({ word, summary }) => quoted(`${word}:${summary}`));
    return `    '${path}') choices=(${described.join(' ')}) ;;`;
  });
  return `#compdef ${name}
${functionName(name)}() {
  local place='' word
  local -a choices
  for word in \${words[2,CURRENT-1]}; do
    case "\${place:+$place }$word" in ${placeCases(places).replaceAll(' | ', '|')}) place="\${place:+$place }$word" ;; esac
  done
  case $place in
${cases.join('\n')}
  esac
  _describe '${name}' choices
  _files
}
if [ "$funcstack[1]" = ${functionName(name)} ]; then ${functionName(name)} "$@"; else compdef ${functionName(name)} ${name}; fi`;
}

function fishScript(name: string, places: readonly Place[]): string {
  const lines = places.flatMap(({ path, choices }) => {
    const words = path.split(' ').filter(Boolean);
    const below = choices.filter(({ word }) => !word.startsWith('-')).map(({ word }) => word);
    const conditions = [
      ...words.map(word => `__fish_seen_subcommand_from ${word}`),
      ...(below.length === 0 ? [] : [`not __fish_seen_subcommand_from ${below.join(' ')}`]),
    ];
    return choices.map(({ word, summary, takesValue }) => {
      const what = word.startsWith('--') ? `-l ${word.slice(2)}${takesValue ? ' -r' : ''}` : `-f -a ${word}`;
      return `complete -c ${name} -n ${quoted(conditions.join('; and '))} ${what} -d ${quoted(summary)}`;
    });
  });
  return [`# fish completion of ${name}`, ...lines].join('\n');
}

function functionName(name: string): string {
  return `_${name.replaceAll('-', '_')}`;
}

/** One word of these shells, quoted so that all three read it alike. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", '’')}'`;
}
