/**
 * Logs: one JSON object a line, as journald and every collector read it. A daemon logs to stdout; a command whose
 * stdout is its answer logs to stderr. Writes are synchronous, so that the last line before an exit is not lost.
 *
 * Secrets do not reach a log by two ways: `Secret` prints as [secret], and fields named like one are redacted.
 */
import { pino } from 'pino';
import type { DestinationStream } from 'pino';
import type { LogLevel } from '../config/fields.ts';
import { TributaryError } from '../errors.ts';
import { terminalText } from './terminal-text.ts';

/** What the parts of Tributary use of a logger: an object of facts first, then a sentence. Errors go in `err`. */
export interface Logger {
  trace(facts: object, message: string): void;
  debug(facts: object, message: string): void;
  info(facts: object, message: string): void;
  warn(facts: object, message: string): void;
  error(facts: object, message: string): void;
  fatal(facts: object, message: string): void;
  /** The same logger with facts that stand on each of its lines. */
  child(facts: Record<string, unknown>): Logger;
}

export interface LoggerOptions {
  readonly level: LogLevel;
  /** Which program: `tributary-agent`, `tributary-applier`. */
  readonly name: string;
  /** Default stdout. A stream is for tests. */
  readonly destination?: 'stdout' | 'stderr' | DestinationStream;
}

const SECRET_FIELDS = ['password', 'secret', 'token', 'passphrase', 'privateKey', 'authorization'];
const REDACTED_PATHS = SECRET_FIELDS.flatMap(field => [field, `*.${field}`, `*.*.${field}`]);
const MAX_CAUSES = 5;

/** An error as plain data, with its causes; bounded, because a chain of causes may be a ring. */
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
  const { destination = 'stdout' } = options;
  const lines =
    destination === 'stdout' || destination === 'stderr'
      ? pino.destination({ dest: destination === 'stdout' ? 1 : 2, sync: true })
      : destination;
  // JSON leaves some characters as they are that a terminal obeys; whoever parses the line has them back.
  const stream: DestinationStream = { write: line => lines.write(terminalText(line)) };
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

/** A logger that says nothing, for tests and for library use. */
export function silentLogger(): Logger {
  return pino({ level: 'silent' });
}
