/**
 * Every fault that Tributary names, in one table. The table is the operator's documentation too: README's list of
 * codes is generated from it and tested against it. Code decides by `code` and `retryable`, never by message text.
 */

interface ErrorEntry {
  /** What has happened, as a sentence without names. */
  readonly cause: string;
  /** What a person does about it. */
  readonly hint: string;
  /** Whether trying again later, unchanged, can succeed. */
  readonly retryable: boolean;
}

/** One row a code. Keep alphabetical within a group. */
export const ERRORS = {
  // Configuration and command line
  CONFIG_INVALID: {
    cause: 'The configuration has faults.',
    hint: 'Correct the fields listed; every fault is listed at once.',
    retryable: false,
  },
  CONFIG_UNREADABLE: {
    cause: 'A configuration or secret file cannot be read.',
    hint: 'Create the file, or correct its path, owner or mode.',
    retryable: false,
  },
  DAEMON_UNREACHABLE: {
    cause: 'No running daemon answers on its socket.',
    hint: 'Start it (systemctl start, or the run command), or give the same --config as it runs with.',
    retryable: true,
  },
  ALREADY_RUNNING: {
    cause: 'Another process holds this spool.',
    hint: 'Stop the other process; one spool serves one agent.',
    retryable: false,
  },

  // Source database
  SOURCE_UNREACHABLE: {
    cause: 'The branch database does not answer.',
    hint: 'Start it, or correct source.host and source.port.',
    retryable: true,
  },
  SOURCE_ACCESS_DENIED: {
    cause: 'The branch database refuses the user or one of its rights.',
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
    hint: 'Follow the hint: usually a rename, or a pattern in tables.exclude.',
    retryable: false,
  },
  SOURCE_POSITION_LOST: {
    cause: 'The binlog no longer holds the place where capture stopped, or holds another history there.',
    hint: 'Nothing: a new epoch with a snapshot begins. A larger binlog_expire_logs_seconds avoids it.',
    retryable: true,
  },
  STREAM_ENDED: {
    cause: 'The binlog stream ended or went silent.',
    hint: 'Nothing: capture resumes from the last durable position.',
    retryable: true,
  },
  EVENT_UNSUPPORTED: {
    cause: 'The binlog holds an event that is not handled.',
    hint: 'Follow the hint; capture stops here so that nothing is skipped.',
    retryable: false,
  },
  EVENT_MALFORMED: {
    cause: 'A binlog event does not have the form that its type prescribes, or its checksum is wrong.',
    hint: 'Where the message names a table: look whether its rows can be read, and `tributary-agent snapshot SCHEMA.TABLE`. Else check the branch disk and memory; capture retries from the last durable position.',
    retryable: true,
  },
  VALUE_UNSUPPORTED: {
    cause: 'A column type or value cannot be carried exactly.',
    hint: 'Exclude the table (tables.exclude), or change the column; then `tributary-agent snapshot` lets capture go on.',
    retryable: false,
  },

  // Spool
  SPOOL_CORRUPT: {
    cause: 'A stored batch does not match its digest, or the spool file is damaged.',
    hint: 'Check the disk. A damaged batch ends in a new epoch with a snapshot by itself; where the process ends, move the files out of spool.directory and start it again.',
    retryable: false,
  },
  SPOOL_FORMAT: {
    cause: 'The spool belongs to another branch, to a newer version, or is not a spool.',
    hint: 'Correct spool.directory, or upgrade the agent; never share one spool between branches.',
    retryable: false,
  },
  SPOOL_FULL: {
    cause: 'The spool has reached its limit or the disk its floor.',
    hint: 'Restore the link so that it drains, raise spool.maxBytes, or free disk. Nothing is lost meanwhile.',
    retryable: true,
  },
  SPOOL_IO: {
    cause: 'The disk under the spool failed.',
    hint: 'Check the disk; the process ends and recovers from the last durable state.',
    retryable: true,
  },

  // Broker
  BROKER_UNREACHABLE: {
    cause: 'RabbitMQ does not answer.',
    hint: 'Check the link and broker.url; `check` of either program says whether a certificate is the cause.',
    retryable: true,
  },
  BROKER_REFUSED: {
    cause: 'RabbitMQ refuses the user, the virtual host or an operation.',
    hint: 'At a branch: enrol again with a file from `tributary-applier branch rotate`. At the head office: run the commands that `tributary-applier check` shows.',
    retryable: true,
  },
  BROKER_REJECTED: {
    cause: 'RabbitMQ did not take a message: the queue is full, or its disk failed.',
    hint: 'Let the applier catch up, or start it; the agent backs off and tries again with one batch.',
    retryable: true,
  },
  BROKER_SETUP: {
    cause: 'The broker has an exchange, queue or policy that does not fit.',
    hint: 'Follow the hint; `tributary-applier check` names a policy that drops messages.',
    retryable: false,
  },

  // Protocol
  BATCH_INVALID: {
    cause: 'A batch is malformed.',
    hint: 'Look at the reason shown; `tributary-applier branch quarantine` passes the batch over, and a snapshot mends what it held. A new life of the branch does not end this halt; after one, `tributary-applier branch retry` lets it go on.',
    retryable: false,
  },
  BATCH_REFUSED: {
    cause: 'The head-office database refuses a batch.',
    hint: 'Look at the row shown; mend the table and `tributary-applier branch retry`, or leave such rows out with `tributary-applier branch quarantine`.',
    retryable: false,
  },
  BATCH_TOO_LARGE: {
    cause: 'A batch is larger than the head office takes, packed or unpacked.',
    hint: 'Find out who made it: agents stay far below. `tributary-applier branch quarantine` passes it over. A new life of the branch does not end this halt; after one, `tributary-applier branch retry` lets it go on.',
    retryable: false,
  },
  BATCH_VERSION: {
    cause: 'A batch has a version that this applier does not know.',
    hint: 'Upgrade the applier, then `tributary-applier branch retry`.',
    retryable: false,
  },
  QUARANTINE_FULL: {
    cause: 'More rows of a branch cannot be applied than are kept in quarantine.',
    hint: 'Mend the table at the head office and `tributary-applier branch retry`, or pass the whole batch over with `tributary-applier branch quarantine --whole`.',
    retryable: false,
  },
  MESSAGE_INVALID: {
    cause: 'A hello, an answer or the header of a batch is malformed.',
    hint: 'Look at the reason shown; bring agent and applier to versions that go together.',
    retryable: false,
  },
  IDENTITY_SHARED: {
    cause: 'Another machine talks to the head office under this branch’s identity.',
    hint: 'Stop the agent on one of the two, then run `tributary-agent enroll FILE` on the one that is to stay.',
    retryable: true,
  },
  EPOCH_SUPERSEDED: {
    cause: 'The head office has taken a newer life of this branch as the valid one.',
    hint: 'If this is the right machine, run `tributary-agent enroll FILE` again and stop the other one; else stop this one.',
    retryable: false,
  },
  BRANCH_UNKNOWN: {
    cause: 'The head office knows no such branch.',
    hint: 'Add it with `tributary-applier branch add`.',
    retryable: false,
  },
  BRANCH_HALTED: {
    cause: 'A batch of the branch cannot be applied, and nothing behind it is.',
    hint: 'Mend what the reason names, then `tributary-applier branch retry`; or go on without it: `tributary-applier branch quarantine`.',
    retryable: false,
  },
  BRANCH_THROTTLED: {
    cause:
      'The rows that a branch has sent in an hour are far more than what came over the wire, and more than its quota.',
    hint: 'Nothing if its rows are sound: it goes on by itself, as fast as `quotas.unpackedPerHour` of applier.yaml allows; raise that for a faster copy. If they are not: `tributary-applier branch remove`.',
    retryable: true,
  },

  SYNC_STALLED: {
    cause: 'A sync was waited for, and nothing got through for a minute.',
    hint: 'Mend what the message names. Nothing is lost: what waits stays in the spool and goes when the link lets it.',
    retryable: true,
  },

  // Head-office database
  TARGET_UNREACHABLE: {
    cause: 'The head-office database does not answer.',
    hint: 'Start it, or correct target.host and target.port.',
    retryable: true,
  },
  TARGET_BUSY: {
    cause: 'The head-office database is locked, full or being changed just now.',
    hint: 'Nothing, unless it lasts: the work is tried again. Then look for long transactions, for somebody who changes tables, and for full disks.',
    retryable: true,
  },
  TARGET_FAILED: {
    cause: 'The head-office database fails at a statement, and no row is to blame for it.',
    hint: 'Look at the server’s message and at its error log. The work is tried again by itself.',
    retryable: true,
  },
  TARGET_ACCESS_DENIED: {
    cause: 'The head-office database refuses the user or one of its rights.',
    hint: 'Correct the password file, or run what `tributary-applier check --grants` prints at the database.',
    retryable: false,
  },
  TARGET_SETTING: {
    cause: 'A setting of the head-office database makes exact application impossible.',
    hint: 'Follow the hint, or run the statement that `tributary-applier check` shows.',
    retryable: false,
  },
  TARGET_SCHEMA: {
    cause: 'A table at the head office cannot take what the branch sends without loss or a long rebuild.',
    hint: 'Follow the hint, then `tributary-applier branch retry`; a rebuild, and with `schema.changes: approved` any change, waits for `tributary-applier schema approve`.',
    retryable: false,
  },

  INTERNAL: {
    cause: 'An invariant of the program is broken.',
    hint: 'Report it with the log; the process ends so that nothing wrong is written.',
    retryable: false,
  },
} as const satisfies Record<string, ErrorEntry>;

export type ErrorCode = keyof typeof ERRORS;

/** A fault with a code of the table above. `hint` names the cure for this very case; default: the table's cure. */
export class TributaryError extends Error {
  readonly code: ErrorCode;
  readonly hint: string;
  readonly retryable: boolean;

  constructor(code: ErrorCode, message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'TributaryError';
    this.code = code;
    this.hint = options.hint ?? ERRORS[code].hint;
    this.retryable = ERRORS[code].retryable;
  }
}

/** Any thrown thing as one line for people: message, then the cure if there is one. */
export function describeError(error: unknown): string {
  if (error instanceof TributaryError) return `${error.code}: ${error.message} — ${error.hint}`;
  return error instanceof Error ? error.message : String(error);
}

/** Ends the process's trust in itself: throws INTERNAL when a condition that the code relies on does not hold. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new TributaryError('INTERNAL', message);
}
