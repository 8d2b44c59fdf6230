/**
 * What to do about an error in a pipeline: retry at once, retry later, or halt the branch.
 * applier/apply/target-error.ts gives a server's error its code; here the code decides. Pure.
 *
 * `retry`: the transaction lost a race for a lock and was rolled back. `wait`: the fault is the head office's, and no
 * batch is to blame. `halt`: this batch cannot be applied, and a retry would not help.
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

/** Any error as one with a code, those of the head office's database among them. */
export function asApplyError(error: unknown): TributaryError {
  if (error instanceof TributaryError) return error;
  // The server refuses a value in a tributary_* table: the branch has sent it.
  if (isRowFault(error)) return new TributaryError('BATCH_REFUSED', messageOf(error), { cause: error });
  if (isOfDatabase(error)) return targetError(error, 'Working at the head office');
  return asTributaryError(error);
}

/**
 * Whether a halt with this code stays when the branch begins a new epoch. Otherwise whoever sends malformed batches
 * could send them again at once, for ever.
 */
export function outlivesEpochs(code: string): boolean {
  return MALFORMED.has(code);
}

/** Any error as the reason of a halt. */
export function haltReason(error: unknown): { code: ErrorCode; reason: string } {
  const { code, message, hint } = asApplyError(error);
  return { code, reason: `${message} — ${hint}` };
}
