/**
 * Classifies the errors of the head-office server. The errors that a *row* can cause are listed here, and so are those
 * that a *definition* can cause. All others are faults of the server. The applier waits for them to pass, and shows the
 * cause and a hint. Error numbers and SQLSTATE decide, never the text of a message.
 *
 * (Server Error Message Reference, and performance_schema.events_errors_summary_global_by_error, which lists both.)
 */
import { TributaryError } from '../../shared/errors.ts';
import type { ErrorCode } from '../../shared/errors.ts';
import { mysqlErrno, mysqlError, sqlState } from '../../shared/database/mysql.ts';

/**
 * Classes of SQLSTATE about data: a data exception, a broken constraint, an error that a trigger has raised.
 * (ISO 9075-2, table 32: "Data exception" 22, "Integrity constraint violation" 23; 45 is SIGNAL's.)
 */
const ROW_CLASSES = new Set(['22', '23', '45']);
/** Other errors that a row can cause, whatever their class. */
const ROW_ERRNOS = new Set([
  // Too large: a row, a packet, an undo record, a result of a function.
  1118, 1153, 1301, 1713,
  // LOAD DATA: too few fields, too many, a truncated one; a value of the wrong form.
  1261, 1262, 1265, 1366, 1411, 1525,
  // No partition for the row; a trigger's SIGNAL; a CHECK.
  1526, 1591, 1644, 3819,
  // Geometry: invalid, or of an unknown or another reference system.
  3033, 3034, 3035, 3037, 3055, 3516, 3548, 3643,
  // Malformed vectors.
  6136, 6137, 6138, 6139,
]);

/**
 * Classes about a statement: its syntax, its meaning, a missing feature. In DDL the table's definition is the cause.
 */
const DEFINITION_CLASSES = new Set(['22', '23', '42', '0A']);
/** Other errors that a definition can cause: too many columns, an engine's limits, a column too long for an index. */
const DEFINITION_ERRNOS = new Set([1031, 1117, 1118, 1478, 1503, 1659, 1709, 1713, 1727, 1846, 3780, 3819]);

/** No such table, unknown column, field list and table differ: somebody changed the table. It must be read again. */
const CHANGED_ERRNOS = new Set([1146, 1054, 1051, 1091, 1136, 1109, 1412]);
/** Lock wait timeout, deadlock, NOWAIT, a conflict that Group Replication found at the commit. */
const RACE_ERRNOS = new Set([1205, 1206, 1213, 3572, 3101]);

/** The server takes no writes, or no more since it was connected to. */
const READ_ONLY_ERRNOS = [1290, 1792, 1836];

/** Faults of the server with a hint of their own. Others have only the server's message. */
const TROUBLES: readonly { readonly errnos: readonly number[]; readonly code: ErrorCode; readonly hint: string }[] = [
  {
    // 3 and 20 are the server's file layer: error on writing a file, disk full.
    errnos: [3, 20, 1021, 1026, 1114, 3019],
    code: 'TARGET_BUSY',
    hint: 'Make room on the head office’s disks (data, temporary files, binlog), or raise the limit of the file or table that the server names.',
  },
  {
    errnos: [1037, 1038, 1041],
    code: 'TARGET_BUSY',
    hint: 'The head office’s server is out of memory: give it more memory, or reduce its load.',
  },
  {
    errnos: [1040, 1203, 1226],
    code: 'TARGET_UNREACHABLE',
    hint: 'The head office’s server accepts no more connections: raise max_connections, or the limit of the applier’s user.',
  },
  {
    errnos: [1197, 1705],
    code: 'TARGET_SETTING',
    hint:
      'A transaction does not fit into the binlog cache of the head office’s server. Run there: ' +
      'SET PERSIST max_binlog_cache_size = 18446744073709547520, PERSIST max_binlog_stmt_cache_size = 18446744073709547520',
  },
  {
    errnos: [1534, 1598],
    code: 'TARGET_SETTING',
    hint: 'The head office’s server cannot write its binlog: look at its error log and its disk, and set binlog_format=ROW.',
  },
  {
    errnos: READ_ONLY_ERRNOS,
    code: 'TARGET_SETTING',
    hint:
      'The head office’s server is read-only. If it is the one to write to, run there: SET PERSIST super_read_only = OFF, ' +
      'PERSIST read_only = OFF, PERSIST transaction_read_only = OFF; after a failover, correct target.host.',
  },
  {
    errnos: [3098],
    code: 'TARGET_SETTING',
    hint: 'Group Replication refuses the table: the server’s error log says why (its key or its engine).',
  },
  {
    errnos: [3100],
    code: 'TARGET_SETTING',
    hint:
      'Group Replication refuses the transaction at its commit; the server’s error log says why. Where it is larger than ' +
      'group_replication_transaction_size_limit, run on every member: SET PERSIST group_replication_transaction_size_limit = 0',
  },
  {
    // Only another table, which a trigger writes to, can cause it. table-faults.ts refuses such a column in the table
    // itself.
    errnos: [1364],
    code: 'TARGET_FAILED',
    hint: 'A trigger at the head office writes to a table with a column that needs a value. Run there: ALTER TABLE … ALTER … SET DEFAULT …, or DROP TRIGGER …',
  },
  {
    errnos: [1180, 1030],
    code: 'TARGET_FAILED',
    hint: 'The head office’s server failed at its storage: its error log says why, most often the disk.',
  },
];

/** Turns any fault into a TributaryError, for statements whose faults no row can cause. */
export function targetError(error: unknown, doing: string): TributaryError {
  if (error instanceof TributaryError) return error;
  const errno = mysqlErrno(error);
  const trouble = TROUBLES.find(({ errnos }) => errno !== null && errnos.includes(errno));
  const message = `${doing}: ${messageOf(error)}`;
  if (trouble !== undefined) return new TributaryError(trouble.code, message, { cause: error, hint: trouble.hint });
  if (errno !== null && (RACE_ERRNOS.has(errno) || CHANGED_ERRNOS.has(errno))) {
    return new TributaryError('TARGET_BUSY', message, { cause: error });
  }
  return mysqlError(error, 'target', doing);
}

/** Whether the server refuses a write because it is read-only. */
export function isReadOnly(error: unknown): boolean {
  const errno = mysqlErrno(error instanceof TributaryError ? error.cause : error);
  return errno !== null && READ_ONLY_ERRNOS.includes(errno);
}

/** Whether a table does not fit the branch's, and cannot be changed to fit. */
export function isSchemaFault(error: unknown): error is TributaryError {
  return error instanceof TributaryError && error.code === 'TARGET_SCHEMA';
}

/** Whether a retry may succeed after the tables were read again. */
export function isTableChange(error: unknown): boolean {
  const errno = mysqlErrno(error instanceof TributaryError ? error.cause : error);
  return errno !== null && CHANGED_ERRNOS.has(errno);
}

/** Whether the server refused the rows themselves, so that waiting, other rights or settings do not help. */
export function isRowFault(error: unknown): boolean {
  if (error instanceof TributaryError) return error.code === 'BATCH_REFUSED';
  const errno = mysqlErrno(error);
  return errno !== null && isOfRow(errno, sqlState(error));
}

/** The same for a warning or a note, which has no SQLSTATE. */
export function isRowWarning(errno: number): boolean {
  return isOfRow(errno, null) || ROW_WARNINGS.has(errno);
}

/** Warnings that rows can cause: NULL in NOT NULL, out of range, truncated, an invalid date, too long. */
const ROW_WARNINGS = new Set([1048, 1062, 1263, 1264, 1292, 1365, 1367, 1406, 1441, 1690, 3140]);

function isOfRow(errno: number, state: string | null): boolean {
  if (CHANGED_ERRNOS.has(errno) || RACE_ERRNOS.has(errno)) return false;
  return ROW_ERRNOS.has(errno) || (state !== null && ROW_CLASSES.has(state.slice(0, 2)));
}

/** Whether the server refused the definition itself, so that waiting does not help. */
export function isDefinitionFault(error: unknown): boolean {
  const errno = mysqlErrno(error);
  if (errno === null || targetError(error, '').code !== 'TARGET_FAILED') return false;
  return DEFINITION_ERRNOS.has(errno) || DEFINITION_CLASSES.has(sqlState(error)?.slice(0, 2) ?? '');
}

/** Whether a fault comes from the database or the connection to it, and is not a defect of this program. */
export function isOfDatabase(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (sqlState(error) !== null || mysqlErrno(error) !== null) return true;
  if ('fatal' in error && error.fatal === true) return true;
  // Negative error numbers are the operating system's.
  if ('errno' in error && typeof error.errno === 'number' && error.errno < 0) return true;
  return 'code' in error && typeof error.code === 'string' && /^(E[A-Z]+$|PROTOCOL_)/.test(error.code);
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
