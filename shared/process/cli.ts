/**
 * What both command lines share: `--config`, `--json`, `--help`, `--version`, exit codes and how an error is shown.
 *
 * Exit 0: done. 1: failed. 2: wrong usage or configuration. The first SIGINT, SIGTERM or SIGHUP aborts the command's
 * signal, and the command has five seconds to end. A second signal ends the process at once. SIGHUP is a stop too:
 * systemd restarts the daemon, which then reads its configuration again, and a closed terminal ends what it started.
 */
import { Command, CommanderError, Option } from 'commander';
import * as z from 'zod';
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
  print(data: unknown, text: string): void;
  /** Prints a line of progress to stderr. */
  note(text: string): void;
}

export interface CommandSpec {
  /** `sync`; with arguments `enroll <file>`, `snapshot [tables...]`; in a group `branch add <id>`. */
  readonly usage: string;
  readonly summary: string;
  readonly options?: readonly CommandOption[];
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
};

/** Runs a command line to its end and returns the exit code. Rejects only for a command that is declared wrongly. */
export async function runCli(
  spec: CliSpec,
  argv: readonly string[],
  signal: AbortSignal,
  terminal: CliStreams = PROCESS_STREAMS,
): Promise<number> {
  // Everything that a command, an error or the help prints goes through here.
  const streams: CliStreams = {
    out: text => terminal.out(terminalText(text)),
    err: text => terminal.err(terminalText(text)),
  };
  let code = EXIT_OK;
  const program = buildProgram(spec, streams, async (command, call) => {
    code = (await command.run({ ...call, signal })) ?? EXIT_OK;
  });
  try {
    await program.parseAsync([...argv], { from: 'user' });
    return code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT_OK : EXIT_USAGE;
    if (isInterruption(error, signal)) {
      streams.err(`${spec.name}: ${describeError(signal.reason)}\n`);
      return EXIT_FAILED;
    }
    streams.err(`${formatError(error)}\n`);
    return exitCodeOf(error);
  }
}

/** Whether a command ended with this error because a signal stopped it. */
function isInterruption(error: unknown, signal: AbortSignal): boolean {
  return signal.aborted && (error === signal.reason || (error instanceof Error && error.name === 'AbortError'));
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

type RunCommand = (command: CommandSpec, call: Omit<CommandCall, 'signal'>) => Promise<void>;

function buildProgram(spec: CliSpec, streams: CliStreams, run: RunCommand): Command {
  const program = configure(new Command(spec.name), streams)
    .description(spec.description)
    .version(spec.version, '--version', 'print the version')
    .helpCommand(false);
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
      group = configure(program.command(first), streams).description(description).helpCommand(false);
      groups.set(first, group);
    }
    addCommand(group, command, rest.join(' '), spec, streams, run);
  }
  return program;
}

function configure(command: Command, streams: CliStreams): Command {
  return command
    .exitOverride()
    .showHelpAfterError('(--help shows what is possible)')
    .configureOutput({ writeOut: text => streams.out(text), writeErr: text => streams.err(text) })
    .helpOption('--help', 'show this help');
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
  for (const { flags, description, required } of spec.options ?? []) {
    command.addOption(new Option(flags, description).makeOptionMandatory(required === true));
  }
  command.action(async () => {
    const { config, json, ...options } = command.opts<Record<string, unknown>>();
    const asJson = json === true;
    await run(spec, {
      configFile: String(config),
      json: asJson,
      options,
      args: command.args,
      print: (data, text) => streams.out(asJson ? `${JSON.stringify(data, null, 2)}\n` : `${text}\n`),
      note: text => streams.err(`${text}\n`),
    });
  });
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
