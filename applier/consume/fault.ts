/**
 * What to do about an error in a pipeline: try again at once, try again later, or halt the branch. Decided by code
 * and error number, never by message text. Pure.
 *
 * `retry`: the work lost a race for a lock and was rolled back. `wait`: the head office as a whole is in trouble, which
 * no batch is to blame for. `halt`: this batch cannot be applied; trying again unchanged cannot help.
 */
import { TributaryError } from '../../shared/errors.ts';
import type { ErrorCode } from '../../shared/errors.ts';

export type Fault = 'retry' | 'wait' | 'halt';

/** MySQL error numbers (manual, "Server Error Message Reference"): lock wait timeout, deadlock. */
const LOST_RACE: ReadonlySet<number> = new Set([1205, 1213]);
/** Server shutting down, too many connections, disk full, read-only, killed, lost connection, access. */
const HEAD_OFFICE: ReadonlySet<number> = new Set([
  1021, 1037, 1040, 1041, 1044, 1045, 1053, 1114, 1158, 1159, 1160, 1161, 1203, 1226, 1290, 1317, 1836, 1927, 2006,
  2013, 3024, 3032, 3100, 3169, 4031,
]);
/** Faults of the batch or of the table that it meets. */
const OF_THE_BATCH: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'BATCH_INVALID',
  'BATCH_REFUSED',
  'BATCH_TOO_LARGE',
  'BATCH_VERSION',
  'QUARANTINE_FULL',
  'TARGET_SCHEMA',
  'VALUE_UNSUPPORTED',
  'INTERNAL',
]);
const MAX_CAUSES = 5;

export function judgeFault(error: unknown): Fault {
  for (let at = error, depth = 0; at instanceof Error && depth < MAX_CAUSES; at = at.cause, depth += 1) {
    const errno = 'errno' in at && typeof at.errno === 'number' ? at.errno : 0;
    if (LOST_RACE.has(errno)) return 'retry';
    if (HEAD_OFFICE.has(errno)) return 'wait';
    if ('fatal' in at && at.fatal === true) return 'wait';
    if ('code' in at && typeof at.code === 'string' && /^(ECONN|EPIPE|ETIMEDOUT|EHOST|ENET|PROTOCOL_)/.test(at.code)) {
      return 'wait';
    }
    // Negative error numbers are the operating system's: the connection, not the batch.
    if (errno < 0) return 'wait';
  }
  if (error instanceof TributaryError && error.code === 'TARGET_BUSY') return 'retry';
  if (error instanceof TributaryError) return OF_THE_BATCH.has(error.code) ? 'halt' : 'wait';
  // An SQL error that nobody translated, or a defect of ours: the branch stands still, loudly, and no other does.
  return 'halt';
}

/** Any thrown thing as the reason of a halt. */
export function haltReason(error: unknown): { code: ErrorCode; reason: string } {
  if (error instanceof TributaryError) return { code: error.code, reason: `${error.message} — ${error.hint}` };
  const text = error instanceof Error ? error.message : String(error);
  if (error instanceof Error && 'sqlState' in error) return { code: 'BATCH_REFUSED', reason: text };
  return { code: 'INTERNAL', reason: text };
}
