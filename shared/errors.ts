/**
 * Every error code, in one table. docs/reference.md lists the codes from this table. Code decides by `code` and
 * `retryable`, never by message text.
 */

interface ErrorEntry {
  /** What has happened: a sentence without names. */
  readonly cause: string;
  /** What a person can do about it. */
  readonly hint: string;
  /** Whether an unchanged retry can succeed later. */
  readonly retryable: boolean;
}

/** One row for each code. Keep them alphabetical within a group. */
export const ERRORS = {
  // Configuration and command line
  CONFIG_INVALID: {
    cause: 'The configuration has faults.',
    hint: 'Correct the fields that are listed. The list is complete.',
    retryable: false,
  },
  CONFIG_UNREADABLE: {
    cause: 'A configuration or secret file cannot be read.',
    hint: 'Create the file, or correct its path, owner or mode.',
    retryable: false,
  },
  DAEMON_UNREACHABLE: {
    cause: 'No running daemon answers on its control socket.',
    hint: 'Start it (systemctl start, or the run command), or give the same --config that it runs with.',
    retryable: true,
  },
  ALREADY_RUNNING: {
    cause: 'Another process uses this spool or this control socket.',
    hint: 'Stop the other process. Only one agent can use a spool.',
    retryable: false,
  },
  PAGE_UNAVAILABLE: {
    cause: 'The page cannot be served. Everything else works on.',
    hint: 'Stop the program that uses the address, or correct http.listen and restart. The page is tried again by itself.',
    retryable: true,
  },

  // Source database
  SOURCE_UNREACHABLE: {
    cause: 'The branch database does not answer.',
    hint: 'Start it, or correct source.host and source.port.',
    retryable: true,
  },
  SOURCE_ACCESS_DENIED: {
    cause: 'The branch database refuses the user, or the user lacks a right.',
    hint: 'Correct the password file, or run what `tributary-agent check --grants` prints at the database.',
    retryable: false,
  },
  SOURCE_SETTING: {
    cause: 'A setting of the branch database makes exact capture impossible.',
    hint: 'Run the statement and add the my.cnf line that `tributary-agent check` shows.',
    retryable: false,
  },
  SOURCE_TABLE: {
    cause: 'A table cannot be captured as it is.',
    hint: 'Rename the table, or exclude it with a pattern in tables.exclude.',
    retryable: false,
  },
  SOURCE_POSITION_LOST: {
    cause: 'The binlog no longer holds the position where capture stopped, or holds another history there.',
    hint: 'Nothing to do: a new epoch begins with a snapshot. A larger binlog_expire_logs_seconds prevents it.',
    retryable: true,
  },
  STREAM_ENDED: {
    cause: 'The binlog stream ended or went silent.',
    hint: 'Nothing to do: capture resumes from the last durable position.',
    retryable: true,
  },
  EVENT_UNSUPPORTED: {
    cause: 'The binlog holds an event that Tributary does not support.',
    hint: 'Upgrade the agent. Or stop it and move the files out of spool.directory: a new epoch then begins with a snapshot. Capture stops here so that nothing is skipped.',
    retryable: false,
  },
  EVENT_MALFORMED: {
    cause: 'A binlog event is malformed, or its checksum is wrong.',
    hint: 'If the message names a table, check that its rows can be read and run `tributary-agent snapshot SCHEMA.TABLE`. Otherwise check disk and memory of the branch. Capture retries from the last durable position.',
    retryable: true,
  },
  VALUE_UNSUPPORTED: {
    cause: 'A column type or value cannot be carried exactly.',
    hint: 'Exclude the table (tables.exclude), or change the column and run `tributary-agent snapshot`.',
    retryable: false,
  },

  // Spool
  SPOOL_CORRUPT: {
    cause: 'A stored batch does not match its digest, or the spool file is damaged.',
    hint: 'Check the disk. After a damaged batch a new epoch begins with a snapshot by itself. If the process ends again and again, move the files out of spool.directory and start it.',
    retryable: false,
  },
  SPOOL_FORMAT: {
    cause: 'The spool belongs to another branch or to a newer version, or it is not a spool.',
    hint: 'Correct spool.directory, or upgrade the agent. Never share a spool between branches.',
    retryable: false,
  },
  SPOOL_FULL: {
    cause: 'The spool has reached its limit, or the disk has reached spool.minFree.',
    hint: 'Restore the link so that the spool drains, raise spool.maxBytes, or free disk space. Nothing is lost meanwhile.',
    retryable: true,
  },
  SPOOL_IO: {
    cause: 'The disk under the spool failed, or the spool directory is gone.',
    hint: 'Check the disk. The process ends, and the next one resumes from the last durable state.',
    retryable: true,
  },

  // Broker
  BROKER_BLOCKED: {
    cause: 'RabbitMQ has a memory or disk alarm and holds publishers back.',
    hint: 'Free memory or disk space at RabbitMQ. `rabbitmq-diagnostics alarms` lists the alarms. Sending goes on by itself.',
    retryable: true,
  },
  BROKER_UNREACHABLE: {
    cause: 'RabbitMQ does not answer.',
    hint: 'Check the network, broker.url and RabbitMQ itself.',
    retryable: true,
  },
  BROKER_REFUSED: {
    cause: 'RabbitMQ refuses the user, the virtual host or an operation.',
    hint: 'At a branch, enrol again with a file from `tributary-applier branch rotate`. At the head office, run the commands that `tributary-applier check` shows.',
    retryable: true,
  },
  BROKER_REJECTED: {
    cause: 'RabbitMQ did not take a message: the queue is full, or its disk failed.',
    hint: 'Start the applier, or let it catch up. The agent waits and retries with one batch.',
    retryable: true,
  },
  BROKER_SETUP: {
    cause: 'The broker has an exchange, queue or policy that does not fit, or lacks one.',
    hint: 'Run `tributary-applier check`. It also names a policy that drops messages.',
    retryable: false,
  },
  BROKER_UNCONFIRMED: {
    cause: 'RabbitMQ is connected, but confirms nothing: usually a cluster that has lost the majority of its nodes.',
    hint: 'At the head office, start the nodes that are down: `rabbitmqctl cluster_status` names them. If all run, check the network to RabbitMQ. Nothing is lost meanwhile.',
    retryable: true,
  },
  HEAD_OFFICE_SILENT: {
    cause: 'The broker is connected, but the head office does not answer this branch.',
    hint: 'At the head office, start tributary-applier or look at `tributary-applier status`. Nothing is lost meanwhile.',
    retryable: true,
  },

  // Protocol
  BATCH_INVALID: {
    cause: 'A batch is malformed.',
    hint: 'Read the reason. `tributary-applier branch quarantine` skips the batch, and a snapshot repairs its rows. A new epoch does not end this halt; after one, run `tributary-applier branch retry`.',
    retryable: false,
  },
  BATCH_REFUSED: {
    cause: 'The head-office database refuses a batch.',
    hint: 'Look at the row that is shown. Correct the table and run `tributary-applier branch retry`, or leave such rows out with `tributary-applier branch quarantine`.',
    retryable: false,
  },
  BATCH_TOO_LARGE: {
    cause: 'A batch is larger than the head office accepts, compressed or uncompressed.',
    hint: 'Find out who made it: agents stay far below the limit. `tributary-applier branch quarantine` skips it. A new epoch does not end this halt; after one, run `tributary-applier branch retry`.',
    retryable: false,
  },
  BATCH_VERSION: {
    cause: 'A batch has a version that this applier does not know.',
    hint: 'Upgrade the applier, then run `tributary-applier branch retry`.',
    retryable: false,
  },
  QUARANTINE_FULL: {
    cause: 'More rows of a branch cannot be applied than the quarantine holds.',
    hint: 'Correct the table at the head office and run `tributary-applier branch retry`, or skip the whole batch with `tributary-applier branch quarantine --whole`.',
    retryable: false,
  },
  MESSAGE_INVALID: {
    cause: 'A hello, an answer or the header of a batch is malformed.',
    hint: 'Read the reason. Use versions of agent and applier that work together.',
    retryable: false,
  },
  IDENTITY_SHARED: {
    cause: 'Another machine talks to the head office under this branch’s identity.',
    hint: 'Stop the agent on one of the two machines, then run `tributary-agent enroll FILE` on the other one.',
    retryable: true,
  },
  EPOCH_SUPERSEDED: {
    cause: 'The head office has accepted another, newer stream of this branch.',
    hint: 'If this is the right machine, run `tributary-agent enroll FILE` again and stop the other one. Otherwise stop this one.',
    retryable: false,
  },
  BRANCH_UNKNOWN: {
    cause: 'The head office does not know this branch.',
    hint: 'Add it with `tributary-applier branch add`.',
    retryable: false,
  },
  BRANCH_HALTED: {
    cause: 'A batch of the branch cannot be applied, so nothing after it is applied.',
    hint: 'Correct what the reason names and run `tributary-applier branch retry`, or go on without the rows: `tributary-applier branch quarantine`.',
    retryable: false,
  },
  BRANCH_THROTTLED: {
    cause: 'A branch has sent more uncompressed rows in an hour than its quota allows.',
    hint: 'If its rows are sound, nothing: it goes on by itself. Raise `quotas.unpackedPerHour` in applier.yaml for a faster copy. If they are not sound: `tributary-applier branch remove`.',
    retryable: true,
  },

  SYNC_STALLED: {
    cause: 'A sync was waited for, and nothing reached the head office for a minute.',
    hint: 'Correct what the message names. Nothing is lost: batches stay in the spool until they can be sent.',
    retryable: true,
  },

  // Head-office database
  TARGET_UNREACHABLE: {
    cause: 'The head-office database does not answer.',
    hint: 'Start it, or correct target.host and target.port.',
    retryable: true,
  },
  TARGET_BUSY: {
    cause: 'The head-office database is locked, full or being changed at the moment.',
    hint: 'Nothing to do unless it lasts: the work is retried. If it lasts, look for long transactions, changes of tables and full disks.',
    retryable: true,
  },
  TARGET_FAILED: {
    cause: 'The head-office database fails at a statement, and no row is the cause.',
    hint: 'Read the server’s message and its error log. The work is retried by itself.',
    retryable: true,
  },
  TARGET_ACCESS_DENIED: {
    cause: 'The head-office database refuses the user, or the user lacks a right.',
    hint: 'Correct the password file, or run what `tributary-applier check --grants` prints at the database.',
    retryable: false,
  },
  TARGET_SETTING: {
    cause: 'A setting of the head-office database makes exact applying impossible.',
    hint: 'Correct the setting that the message names, or run the statement that `tributary-applier check` shows.',
    retryable: false,
  },
  TARGET_SCHEMA: {
    cause: 'A table at the head office cannot take what the branch sends without loss or a long rebuild.',
    hint: 'Correct the table, then run `tributary-applier branch retry`. A rebuild waits for `tributary-applier schema approve`; so does any change with `schema.changes: approved`.',
    retryable: false,
  },

  INTERNAL: {
    cause: 'The program has a bug.',
    hint: 'Report it with the log. The process ends so that nothing wrong is written.',
    retryable: false,
  },
} as const satisfies Record<string, ErrorEntry>;

export type ErrorCode = keyof typeof ERRORS;

/** An error with a code from the table. `hint` says what to do in this case; the default is the table's hint. */
export class TributaryError extends Error {
  readonly code: ErrorCode;
  readonly hint: string;
  readonly retryable: boolean;

  constructor(code: ErrorCode, message: string, options: { hint?: string | undefined; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'TributaryError';
    this.code = code;
    this.hint = options.hint ?? ERRORS[code].hint;
    this.retryable = ERRORS[code].retryable;
  }
}

/**
 * Any thrown value as a TributaryError.
 * @param other.code for an error without a code of ours; default: INTERNAL, a bug
 * @param other.doing what failed, where the message alone would not say it: `A message handler failed`
 */
export function asTributaryError(
  error: unknown,
  { code = 'INTERNAL', doing }: { readonly code?: ErrorCode; readonly doing?: string } = {},
): TributaryError {
  if (error instanceof TributaryError) return error;
  const text = describeError(error);
  return new TributaryError(code, doing === undefined ? text : `${doing}: ${text}`, { cause: error });
}

/** Any thrown value as one line for people: code, message and hint of our own errors, otherwise the message. */
export function describeError(error: unknown): string {
  if (error instanceof TributaryError) return `${error.code}: ${error.message} — ${error.hint}`;
  return error instanceof Error ? error.message || error.name : String(error);
}

/** Throws INTERNAL when a condition that the code relies on does not hold. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new TributaryError('INTERNAL', message);
}
