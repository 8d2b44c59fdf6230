/**
 * Logs: one JSON object on each line, to stdout. Writes are synchronous, so that the last line before an exit is not
 * lost. Where stdout is systemd's journal, each line begins with its priority (sd-daemon(3)), such as `<4>`. journald
 * removes and stores the priority. So `journalctl -p warning` finds the line and shows plain JSON.
 *
 * Two things keep secrets out of a log: `Secret` prints as [secret], and fields that are named like a secret are redacted.
 */
import { pino } from 'pino';
import type { DestinationStream } from 'pino';
import type { LogLevel } from '../config/fields.ts';
import { TributaryError } from '../errors.ts';
import { isJournal, priorityOf } from './journal.ts';
import { terminalText } from './terminal-text.ts';

/** The logger that all parts use: an object of facts first, then a sentence. Errors go in `err`. */
export interface Logger {
  trace(facts: object, message: string): void;
  debug(facts: object, message: string): void;
  info(facts: object, message: string): void;
  warn(facts: object, message: string): void;
  error(facts: object, message: string): void;
  fatal(facts: object, message: string): void;
  /** The same logger with facts that each of its lines has. */
  child(facts: Record<string, unknown>): Logger;
}

export interface LoggerOptions {
  readonly level: LogLevel;
  /** The program: `tributary-agent`, `tributary-applier`. */
  readonly name: string;
  /** Default: stdout. Tests pass their own. */
  readonly destination?: DestinationStream;
  /** Whether lines begin with their priority. Default: whether stdout is systemd's journal. */
  readonly priorities?: boolean;
}

const SECRET_FIELDS = ['password', 'secret', 'token', 'passphrase', 'privateKey', 'authorization'];
const REDACTED_PATHS = SECRET_FIELDS.flatMap(field => [field, `*.${field}`, `*.*.${field}`]);
const MAX_CAUSES = 5;

/** An error as plain data, with its causes. Bounded, because a chain of causes may be a ring. */
export function errorFacts(error: unknown, depth = 0): Record<string, unknown> {
  if (!(error instanceof Error)) return { message: String(error) };
  const facts: Record<string, unknown> = { type: error.name, message: error.message };
  if (error instanceof TributaryError) {
    facts['code'] = error.code;
    facts['hint'] = error.hint;
    facts['retryable'] = error.retryable;
  } else if ('code' in error && (typeof error.code === 'string' || typeof error.code === 'number')) {
    facts['code'] = error.code;
  }
  if (error.stack !== undefined && depth === 0) facts['stack'] = error.stack;
  if (error.cause !== undefined && depth < MAX_CAUSES) facts['cause'] = errorFacts(error.cause, depth + 1);
  return facts;
}

export function createLogger(options: LoggerOptions): Logger {
  const { destination = pino.destination({ dest: 1, sync: true }), priorities = isJournal(1) } = options;
  // JSON keeps some characters that a terminal obeys. Whoever parses the line gets them back.
  const stream: DestinationStream = {
    write: line => destination.write((priorities ? priorityOf(line) : '') + terminalText(line)),
  };
  return pino(
    {
      name: options.name,
      level: options.level,
      base: { pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: label => ({ level: label }) },
      redact: { paths: REDACTED_PATHS, censor: '[secret]' },
      serializers: { err: (error: unknown) => errorFacts(error) },
    },
    stream,
  );
}
