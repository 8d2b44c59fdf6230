/**
 * What both command lines share: `--config`, `--json`, `--help`, `--version`, exit codes and how a fault is shown.
 *
 * Exit 0: done. 1: failed. 2: wrong usage or configuration. The first SIGINT or SIGTERM aborts the command's signal;
 * the command then has five seconds; a second signal ends the process at once.
 */
import { Command, CommanderError, Option } from 'commander';
import { ConfigError } from '../config/load.ts';
import { terminalText } from './terminal-text.ts';
import { assert, describeError, TributaryError } from '../errors.ts';

export const EXIT_OK = 0;
export const EXIT_FAILED = 1;
export const EXIT_USAGE = 2;

const SHUTDOWN_LIMIT_MS = 5000;

/** Where a command writes; tests give their own. */
export interface CliStreams {
  out(text: string): void;
  err(text: string): void;
}

/** What a command is run with. */
export interface CommandCall {
  /** The configuration file. */
  readonly configFile: string;
  /** Whether data is to be printed as JSON. */
  readonly json: boolean;
  readonly signal: AbortSignal;
  /** Positional arguments, variadic ones spread. */
  readonly args: readonly string[];
  /** Values of the command's own options, by long name in camel case. */
  readonly options: Readonly<Record<string, unknown>>;
  /** Prints the answer: JSON with --json, else the text. */
  print(data: unknown, text: string): void;
  /** Prints a line of progress to stderr. */
  note(text: string): void;
}

export interface CommandSpec {
  /** `sync`, or with arguments `enroll <file>`, `snapshot [tables...]`; a space-free group prefix as `branch add <id>`. */
  readonly usage: string;
  readonly summary: string;
  /** Flags and descriptions, e.g. `['--wait', 'until all is sent']`. A flag marked required must be given. */
  readonly options?: readonly CommandOption[];
  /** Whether the command prints data, so takes --json. */
  readonly json?: boolean;
  /** May return an exit code; otherwise 0. */
  run(call: CommandCall): Promise<number | undefined>;
}

export interface CommandOption {
  readonly flags: string;
  readonly description: string;
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
  err: text => process.stderr.write(text),
};

/** Runs a command line to its end and gives the exit code. Never rejects. */
export async function runCli(
  spec: CliSpec,
  argv: readonly string[],
  signal: AbortSignal,
  terminal: CliStreams = PROCESS_STREAMS,
): Promise<number> {
  // Whatever a command, an error or the help says goes through here.
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
    if (signal.aborted && error === signal.reason) return EXIT_FAILED;
    streams.err(`${formatError(error)}\n`);
    return exitCodeOf(error);
  }
}

/**
 * The main function of a program: runs the command line under signal handling and ends the process.
 * Nothing after it runs.
 */
export async function main(spec: CliSpec): Promise<never> {
  const aborter = new AbortController();
  let signalled = false;
  const onSignal = (name: NodeJS.Signals): void => {
    const status = name === 'SIGINT' ? 130 : 143;
    if (signalled) process.exit(status);
    signalled = true;
    aborter.abort(new Error(`stopped by ${name}`));
    setTimeout(() => {
      process.stderr.write(`${spec.name}: did not stop within ${SHUTDOWN_LIMIT_MS / 1000} s; ends now\n`);
      process.exit(EXIT_FAILED);
    }, SHUTDOWN_LIMIT_MS).unref();
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  // `tributary-agent status | head` closes our stdout early: that is no fault.
  process.stdout.on('error', () => process.exit(EXIT_OK));
  process.exit(await runCli(spec, process.argv.slice(2), aborter.signal));
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

/** 2 where a person must correct usage or configuration, else 1. */
export function exitCodeOf(error: unknown): number {
  if (!(error instanceof TributaryError)) return EXIT_FAILED;
  return error.code === 'CONFIG_INVALID' || error.code === 'CONFIG_UNREADABLE' ? EXIT_USAGE : EXIT_FAILED;
}

/** A fault for people: code and message, all faults of a configuration, the cure on a line of its own. */
export function formatError(error: unknown): string {
  if (error instanceof ConfigError) return `${error.code}: ${error.message}`;
  if (error instanceof TributaryError) return `${error.code}: ${error.message}\n  → ${error.hint}`;
  // Anything else is a fault of the program: its stack is what a report needs.
  if (error instanceof Error) return error.stack ?? describeError(error);
  return describeError(error);
}
