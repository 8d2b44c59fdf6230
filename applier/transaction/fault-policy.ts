/**
 * What to do about an error in a pipeline: retry at once, retry later, or halt the branch.
 * applier/apply/target-error.ts gives a server's error its code; here the code decides. Pure.
 *
 * `retry`: the transaction lost a race for a lock and was rolled back. `wait`: the head office is at fault, not the
 * batch. `halt`: this batch cannot be applied, and a retry would not help.
 */
import { asTributaryError, TributaryError } from '../../shared/errors.ts';
import type { ErrorCode } from '../../shared/errors.ts';
import { isOfDatabase, isRowFault, messageOf, targetError } from '../apply/target-error.ts';

export type Fault = 'retry' | 'wait' | 'halt';

/** Errors that only a broken or hostile agent causes. */
const MALFORMED: ReadonlySet<string> = new Set<ErrorCode>(['BATCH_INVALID', 'BATCH_TOO_LARGE']);
/** Faults of the batch or of its table. A defect of this program (INTERNAL) also halts the branch, and no other one. */
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

export function judgeFault(error: unknown): Fault {
  const { code } = asApplyError(error);
  if (code === 'TARGET_BUSY') return 'retry';
  return OF_THE_BATCH.has(code) ? 'halt' : 'wait';
}

/** Converts any error to one with a code, including errors of the head office's database. */
export function asApplyError(error: unknown): TributaryError {
  if (error instanceof TributaryError) return error;
  // The server refuses a value in a tributary_* table, so it refuses a value that the branch sent.
  if (isRowFault(error)) return new TributaryError('BATCH_REFUSED', messageOf(error), { cause: error });
  if (isOfDatabase(error)) return targetError(error, 'Working at the head office');
  return asTributaryError(error);
}

/**
 * Whether a halt with this code outlasts a new epoch. Otherwise a sender of malformed batches could send them again at
 * once, for ever.
 */
export function outlivesEpochs(code: string): boolean {
  return MALFORMED.has(code);
}

/** Converts any error to the reason of a halt. */
export function haltReason(error: unknown): { code: ErrorCode; reason: string } {
  const { code, message, hint } = asApplyError(error);
  return { code, reason: `${message} — ${hint}` };
}
