/**
 * Quotas for what branches share at the head office. A branch that needs more tables or parts is halted, and the error
 * names the quota. A branch whose rows expand too much waits. No honest branch comes near these quotas. Limits for a
 * single batch are in shared/batch/decoder.ts.
 */
import { BATCH_LIMITS } from '../../shared/batch/decoder.ts';

/** Unacknowledged messages of a branch: 10 MiB, if a batch has 320 KiB. */
export const PREFETCH = 32;

export interface Quotas {
  /** The most head-office tables that a branch may ever have used. */
  readonly tables: number;
  /** Compressed bytes of a transaction whose last part has not arrived yet. */
  readonly openPartBytes: number;
  /** Bytes of rows per hour and applier, beyond those that are free (expansion.ts); 0: no limit. */
  readonly unpackedPerHourBytes: number;
}

export const QUOTAS: Quotas = {
  tables: BATCH_LIMITS.maxTables,
  openPartBytes: 16 * 1024 * 1024 * 1024,
  unpackedPerHourBytes: 16 * 1024 * 1024 * 1024,
};
