/**
 * Faults of the head-office database while rows are written, as errors of ours: decided by the server's error number.
 * On top of shared/mysql.ts it tells apart what passes by itself (TARGET_BUSY) and what the rows are to blame for.
 */
import { TributaryError } from '../../shared/errors.ts';
import { endsSession, mysqlErrno, mysqlError } from '../../shared/mysql.ts';

/** Server Error Message Reference: locks, deadlock, disk, memory or table full, a DDL in between, killed, shutdown. */
const BUSY_ERRNOS = new Set([1205, 1206, 1213, 1021, 1026, 1030, 1037, 1038, 1041, 1114, 1412, 3572, 1053, 1317, 3024]);
/** No such table, unknown column, field list and table differ, a column without a value: somebody changed the table; it must be looked at again. */
const CHANGED_ERRNOS = new Set([1146, 1054, 1051, 1091, 1136, 1109, 1364]);
/** A packet or a result of a function above max_allowed_packet. */
const PACKET_ERRNOS = new Set([1153, 1301]);

/** Any fault as one of ours, for statements that rows are not to blame for. */
export function targetError(error: unknown, doing: string): TributaryError {
  if (error instanceof TributaryError) return error;
  const errno = mysqlErrno(error);
  if (errno !== null && (BUSY_ERRNOS.has(errno) || CHANGED_ERRNOS.has(errno))) {
    return new TributaryError('TARGET_BUSY', `${doing}: ${messageOf(error)}`, { cause: error });
  }
  return mysqlError(error, 'target', doing);
}

/** Whether a table cannot be brought to hold what a branch has of it. */
export function isSchemaFault(error: unknown): error is TributaryError {
  return error instanceof TributaryError && error.code === 'TARGET_SCHEMA';
}

/** Whether another try with the tables looked at anew may succeed where this one failed. */
export function isTableChange(error: unknown): boolean {
  const errno = mysqlErrno(error instanceof TributaryError ? error.cause : error);
  return errno !== null && CHANGED_ERRNOS.has(errno);
}

/** Whether the server refused the rows themselves: nothing that waiting, other rights or another setting would mend. */
export function isRowFault(error: unknown): boolean {
  if (error instanceof TributaryError) return error.code === 'BATCH_REFUSED';
  const errno = mysqlErrno(error);
  if (errno === null) return false;
  if (PACKET_ERRNOS.has(errno)) return true;
  const code = targetError(error, '').code;
  // What mysqlError does not know by number it calls unreachable; with a number it is the server speaking of our rows.
  return code === 'TARGET_UNREACHABLE' && !endsSession(errno);
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
