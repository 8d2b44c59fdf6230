/**
 * How much of what all branches share one branch may take at the head office. A branch that wants more tables or parts
 * halts, with its quota named; one whose rows expand too much waits. No honest one comes near. What a single batch may
 * hold is bounded apart (shared/batch/decoder.ts).
 */
import { BATCH_LIMITS } from '../../shared/batch/decoder.ts';

/** Messages of a branch held unacknowledged: at 320 KiB a batch 10 MiB. */
export const PREFETCH = 32;

export interface Quotas {
  /** Head-office tables that a branch may ever have used, rows in them or not. */
  readonly tables: number;
  /** Compressed bytes of a transaction whose last part is not there yet. */
  readonly openPartBytes: number;
  /** Bytes of rows in an hour beyond what expansion.ts leaves free, an applier; 0: no limit. */
  readonly unpackedPerHourBytes: number;
}

export const QUOTAS: Quotas = {
  tables: BATCH_LIMITS.maxTables,
  openPartBytes: 16 * 1024 * 1024 * 1024,
  unpackedPerHourBytes: 16 * 1024 * 1024 * 1024,
};
