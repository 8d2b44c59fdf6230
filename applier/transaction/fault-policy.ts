/**
 * What to do about an error in a pipeline: try again at once, try again later, or halt the branch. What a server's error
 * is, applier/apply/target-error.ts judges, once; here its code decides. Pure.
 *
 * `retry`: the work lost a race for a lock and was rolled back. `wait`: the head office as a whole is in trouble, which
 * no batch is to blame for. `halt`: this batch cannot be applied; trying again unchanged cannot help.
 */
import { TributaryError } from '../../shared/errors.ts';
import type { ErrorCode } from '../../shared/errors.ts';
import { isOfDatabase, isRowFault, messageOf, targetError } from '../apply/target-error.ts';

export type Fault = 'retry' | 'wait' | 'halt';

/** What only a broken or a hostile agent makes. */
const MALFORMED: ReadonlySet<string> = new Set<ErrorCode>(['BATCH_INVALID', 'BATCH_TOO_LARGE']);
/** Faults of the batch or of the table that it meets; a defect of ours stands still as well, loudly, and no other branch does. */
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
  const { code } = asTributaryError(error);
  if (code === 'TARGET_BUSY') return 'retry';
  return OF_THE_BATCH.has(code) ? 'halt' : 'wait';
}

/** Any thrown thing with a code: what nobody has translated is the database's, or a defect of ours. */
export function asTributaryError(error: unknown): TributaryError {
  if (error instanceof TributaryError) return error;
  // Of our own tables: what a branch has sent is what they refuse.
  if (isRowFault(error)) return new TributaryError('BATCH_REFUSED', messageOf(error), { cause: error });
  if (isOfDatabase(error)) return targetError(error, 'Working at the head office');
  return new TributaryError('INTERNAL', messageOf(error), { cause: error });
}

/**
 * Whether a halt with this code stays when a new life of the branch begins: whoever sends what is malformed could
 * otherwise send it again at once, for ever.
 */
export function outlivesEpochs(code: string): boolean {
  return MALFORMED.has(code);
}

/** Any thrown thing as the reason of a halt. */
export function haltReason(error: unknown): { code: ErrorCode; reason: string } {
  const { code, message, hint } = asTributaryError(error);
  return { code, reason: `${message} — ${hint}` };
}
