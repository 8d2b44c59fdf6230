/**
 * What both command lines share: `--config`, `--json`, `--help`, `--version`, exit codes and how an error is shown.
 *
 * Exit 0: done. 1: failed. 2: wrong usage or configuration. The first SIGINT, SIGTERM or SIGHUP aborts the command's
 * signal, and the command has five seconds to end. A second signal ends the process at once. SIGHUP is a stop too:
 * systemd restarts the daemon, which then reads its configuration again, and a closed terminal ends what it started.
 */
import { createInterface } from 'node:readline';
import { styleText } from 'node:util';
import { Command, CommanderError, Option } from 'commander';
import * as z from 'zod';
import { shellWord } from './shell-word.ts';
import { ConfigError } from '../config/load.ts';
import { ERROR_PRIORITY, isJournal } from './journal.ts';
import { terminalText } from './terminal-text.ts';
import { asTributaryError, assert, describeError, TributaryError } from '../errors.ts';
import { formatDuration } from '../units.ts';

export const EXIT_OK = 0;
export const EXIT_FAILED = 1;
export const EXIT_USAGE = 2;

const SHUTDOWN_LIMIT_MS = 5000;

/** Exit status of a process that a signal ends, as shells report it. */
const SIGNAL_STATUS = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;

/** Where a command writes. Tests pass their own. */
export interface CliStreams {
  out(text: string): void;
  err(text: string): void;
  /** Whether what `out` is given may have colours. */
  readonly colours?: boolean;
  /** Asks the person at the terminal for one line; absent: there is no terminal. */
  ask?(question: string): Promise<string>;
}

/** A part of a command's text that has a colour on a terminal. */
export interface Colour {
  readonly pattern: RegExp;
  readonly format: 'red' | 'yellow' | 'green';
}

/** What a command gets. */
export interface CommandCall {
  /** The configuration file. */
  readonly configFile: string;
  /** Whether to print data as JSON. */
  readonly json: boolean;
  readonly signal: AbortSignal;
  /** Positional arguments; variadic ones are spread. */
  readonly args: readonly string[];
  /** Values of the command's own options, by their long names in camel case. */
  readonly options: Readonly<Record<string, unknown>>;
  /** Prints the answer: JSON with --json, otherwise the text. */
  print(data: unknown, text: string, colours?: readonly Colour[]): void;
  /** Prints one of many: its text or, with --json, a line of JSON. */
  printLine(data: unknown, text: string): void;
  /** Prints a line of progress to stderr. */
  note(text: string): void;
  /** Asks the person at the terminal for one line; null: there is no terminal. */
  ask(question: string): Promise<string | null>;
}

export interface CommandSpec {
  /** `sync`; with arguments `enroll <file>`, `snapshot [tables...]`; in a group `branch add <id>`. */
  readonly usage: string;
  readonly summary: string;
  readonly options?: readonly CommandOption[];
  /** Command lines for the help, without the program's name: `branch add paris --out paris.enrolment`. */
  readonly examples?: readonly string[];
  /** Whether the command prints data and therefore takes --json. */
  readonly json?: boolean;
  /** Returns an exit code, or undefined for 0. */
  run(call: CommandCall): Promise<number | undefined>;
}

export interface CommandOption {
  readonly flags: string;
  readonly description: string;
  /** Whether the command refuses to run without it. */
  readonly required?: boolean;
  /** The value is a list: the option may be repeated, and one value may hold several, separated by commas. */
  readonly list?: boolean;
}

export interface CliSpec {
  readonly name: string;
  readonly description: string;
  readonly version: string;
  readonly defaultConfig: string;
  readonly commands: readonly CommandSpec[];
  /** Descriptions of groups such as `branch`. */
  readonly groups?: Readonly<Record<string, string>>;
}

const PROCESS_STREAMS: CliStreams = {
  out: text => process.stdout.write(text),
  err: text => process.stderr.write(isJournal(2) ? text.replace(/^(?=.)/gm, ERROR_PRIORITY) : text),
  colours: process.stdout.isTTY && process.stdout.hasColors(),
  ...(process.stdin.isTTY && process.stderr.isTTY ? { ask } : {}),
};

/** An input that is closed counts as an empty line. */
function ask(question: string): Promise<string> {
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  return new Promise(resolve => {
    terminal.once('close', () => resolve(''));
    terminal.question(question, answer => {
      resolve(answer);
      terminal.close();
    });
  });
}

/** Runs a command line to its end and returns the exit code. Rejects only for a command that is declared wrongly. */
export async function runCli(
  spec: CliSpec,
  argv: readonly string[],
  signal: AbortSignal,
  terminal: CliStreams = PROCESS_STREAMS,
): Promise<number> {
  // Everything that a command, an error or the help prints goes through here.
  const streams: CliStreams = {
    ...terminal,
    out: text => terminal.out(terminalText(text)),
    err: text => terminal.err(terminalText(text)),
  };
  let code = EXIT_OK;
  let repeated: RepeatConfig = text => text;
  const program = buildProgram(spec, streams, async (command, { givenConfig, ...call }) => {
    repeated = text => withConfig(text, spec, givenConfig);
    code = (await command.run(callOf(call, { terminal, streams, signal, repeated }))) ?? EXIT_OK;
  });
  try {
    await program.parseAsync(withHelpOption(spec, argv), { from: 'user' });
    return code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT_OK : EXIT_USAGE;
    if (isInterruption(error, signal)) {
      streams.err(`${spec.name}: ${describeError(signal.reason)}\n`);
      return EXIT_FAILED;
    }
    streams.err(`${repeated(formatError(error))}\n`);
    return exitCodeOf(error);
  }
}

/** Whether a command ended with this error because a signal stopped it. */
function isInterruption(error: unknown, signal: AbortSignal): boolean {
  return signal.aborted && (error === signal.reason || (error instanceof Error && error.name === 'AbortError'));
}

type RepeatConfig = (text: string) => string;

/** Adds the given --config to the commands of this program that the text names (in backquotes). */
function withConfig(text: string, { name, commands }: CliSpec, givenConfig: string | null): string {
  if (givenConfig === null) return text;
  const known = commands.map(({ usage }) => usage.replace(/ [<[].*/, '')).join('|');
  return text.replace(new RegExp(`\`(?:${name} )?(?:${known})(?![\\w-])[^\`\\n]*(?=\`)`, 'g'), command =>
    command.includes(' --config') ? command : `${command} --config ${shellWord(givenConfig)}`,
  );
}

/** `help branch add` and `branch help add` as `branch add --help`; what names no command stays, and is an error. */
function withHelpOption({ commands, groups = {} }: CliSpec, argv: readonly string[]): string[] {
  const place = argv[0] === 'help' ? 0 : argv[1] === 'help' && Object.hasOwn(groups, argv[0] ?? '') ? 1 : null;
  if (place === null) return [...argv];
  const words = argv.toSpliced(place, 1);
  const named = commands.some(({ usage }) => `${usage} `.startsWith([...words, ''].join(' ')));
  return named ? [...words, '--help'] : words;
}

interface CallSurroundings {
  readonly terminal: CliStreams;
  /** The same, for text whose control characters are to be shown. */
  readonly streams: CliStreams;
  readonly signal: AbortSignal;
  readonly repeated: RepeatConfig;
}

function callOf(parsed: ParsedCall, { terminal, streams, signal, repeated }: CallSurroundings): CommandCall {
  return {
    ...parsed,
    signal,
    print: (data, text, colours = []) => {
      if (parsed.json) streams.out(`${JSON.stringify(data, null, 2)}\n`);
      // Colours come last: they are control characters themselves.
      else terminal.out(coloured(`${terminalText(repeated(text))}\n`, terminal.colours === true ? colours : []));
    },
    printLine: (data, text) => streams.out(`${parsed.json ? JSON.stringify(data) : text}\n`),
    note: text => streams.err(`${repeated(text)}\n`),
    ask: async question => (await terminal.ask?.(terminalText(question))) ?? null,
  };
}

function coloured(text: string, colours: readonly Colour[]): string {
  return colours.reduce(
    (done, { pattern, format }) => done.replace(pattern, found => styleText(format, found, { validateStream: false })),
    text,
  );
}

/**
 * The main function of a program: runs the command line with signal handling and ends the process.
 * Nothing after it runs.
 */
export async function main(spec: CliSpec): Promise<never> {
  const args = process.argv.slice(2);
  // Otherwise ps and top show Node's name for its main thread.
  process.title = [spec.name, ...args].join(' ');
  const aborter = new AbortController();
  let signalled = false;
  const onSignal = (name: keyof typeof SIGNAL_STATUS): void => {
    if (signalled) process.exit(SIGNAL_STATUS[name]);
    signalled = true;
    aborter.abort(new Error(`Stopped by ${name}.`));
    setTimeout(() => {
      process.stderr.write(`${spec.name}: It did not stop within ${formatDuration(SHUTDOWN_LIMIT_MS)} and ends now.\n`);
      process.exit(EXIT_FAILED);
    }, SHUTDOWN_LIMIT_MS).unref();
  };
  for (const name of ['SIGHUP', 'SIGINT', 'SIGTERM'] as const) process.on(name, () => onSignal(name));
  // `tributary-agent status | head` closes our stdout early. That is not an error.
  process.stdout.on('error', () => process.exit(EXIT_OK));
  const code = await runCli(spec, args, aborter.signal);
  await Promise.all([drained(process.stdout), drained(process.stderr)]);
  process.exit(code);
}

/** Resolves when a stream has written everything: `process.exit` would cut off what a slow pipe has not yet taken. */
function drained(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise(resolve => stream.write('', () => resolve()));
}

type ParsedCall = Pick<CommandCall, 'configFile' | 'json' | 'args' | 'options'>;
/** `givenConfig`: the value of --config as it was given; null: it was not. */
type RunCommand = (command: CommandSpec, call: ParsedCall & { givenConfig: string | null }) => Promise<void>;

const HELP_COMMAND = 'help [command...]';

function buildProgram(spec: CliSpec, streams: CliStreams, run: RunCommand): Command {
  const program = configure(new Command(spec.name), streams)
    .description(spec.description)
    .version(spec.version, '--version', 'print the version')
    .helpCommand(HELP_COMMAND, 'show the help of a command');
  const groups = new Map<string, Command>();
  for (const command of spec.commands) {
    const [first = '', ...rest] = command.usage.split(' ');
    const description = spec.groups?.[first];
    if (description === undefined) {
      // Commander would take the second word for an argument, and the argument's value with it.
      assert(
        rest.every(word => /^[<[]/.test(word)),
        `the command ${command.usage} has no group`,
      );
      addCommand(program, command, [first, ...rest].join(' '), spec, streams, run);
      continue;
    }
    let group = groups.get(first);
    if (group === undefined) {
      group = configure(program.command(first), streams)
        .description(description)
        .helpCommand(HELP_COMMAND, 'show the help of a command');
      groups.set(first, group);
    }
    addCommand(group, command, rest.join(' '), spec, streams, run);
  }
  return program;
}

function configure(command: Command, streams: CliStreams): Command {
  return command
    .exitOverride()
    .showHelpAfterError('(--help lists the commands and options)')
    .configureOutput({ writeOut: text => streams.out(text), writeErr: text => streams.err(text) })
    .helpOption('-h, --help', 'show this help');
}

function addCommand(
  parent: Command,
  spec: CommandSpec,
  usage: string,
  cli: CliSpec,
  streams: CliStreams,
  run: RunCommand,
): void {
  const command = configure(parent.command(usage), streams)
    .description(spec.summary)
    .option('--config <file>', 'configuration file', cli.defaultConfig);
  if (spec.json === true) command.option('--json', 'print JSON');
  for (const { flags, description, required, list } of spec.options ?? []) {
    const option = new Option(flags, description).makeOptionMandatory(required === true);
    command.addOption(list === true ? option.argParser(addToList) : option);
  }
  if (spec.examples !== undefined) {
    const lines = spec.examples.map(example => `  ${cli.name} ${example}`);
    command.addHelpText('after', `\nExamples:\n${lines.join('\n')}`);
  }
  command.action(async () => {
    const { config, json, ...options } = command.opts<Record<string, unknown>>();
    const configFile = String(config);
    const givenConfig = command.getOptionValueSource('config') === 'cli' ? configFile : null;
    await run(spec, { configFile, givenConfig, json: json === true, options, args: command.args });
  });
}

/** A comma inside backquotes is part of a name. */
function addToList(value: string, before: readonly string[] = []): string[] {
  const found = value.match(/(?:`[^`]*`|[^,])+/g) ?? [];
  return [...before, ...found.map(each => each.trim()).filter(each => each !== '')];
}

/** 2 where a person must correct usage or configuration, otherwise 1. */
export function exitCodeOf(error: unknown): number {
  if (!(error instanceof TributaryError)) return EXIT_FAILED;
  return error.code === 'CONFIG_INVALID' || error.code === 'CONFIG_UNREADABLE' ? EXIT_USAGE : EXIT_FAILED;
}

/**
 * Any error for people: code and message, then the hint on a line of its own; all faults of a configuration. The one
 * place where a command's error becomes text, so that no stack and no text of a library reaches a person.
 */
export function formatError(error: unknown): string {
  if (error instanceof ConfigError) return `${error.code}: ${error.message}`;
  const { code, message, hint } = namedError(error);
  return `${code}: ${message}\n  → ${hint}`;
}

/** What is wrong with a part, below the line about it; no lines for null. */
export function errorLines(
  error: { readonly code: string; readonly message: string; readonly hint: string } | null,
): string[] {
  return error === null ? [] : [`  ${error.code}: ${error.message}`, `  → ${error.hint}`];
}

/** An error of ours as it is; any other one is a bug, and the report of it needs the place. */
function namedError(error: unknown): TributaryError {
  if (error instanceof TributaryError) return error;
  if (error instanceof z.core.$ZodError) {
    const faults = error.issues.map(({ path, message }) => `${path.join('.') || 'all of it'}: ${message}`);
    return new TributaryError('INTERNAL', `Data does not have the expected form (${faults.join('; ')}).`, {
      hint: 'If the running daemon has another version than this command, restart it. Otherwise report this.',
    });
  }
  const place = error instanceof Error ? /[^/\\(\s]+\.[cm]?[jt]s:\d+/.exec(error.stack ?? '')?.[0] : undefined;
  const { message } = asTributaryError(error);
  return new TributaryError('INTERNAL', place === undefined ? message : `${message} (${place})`, {
    hint: 'Report this with the command and its version.',
  });
}
