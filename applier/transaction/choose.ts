/**
 * What a branch's pipeline writes next: which of the batches at hand make one transaction, and what of them is left
 * out, as quarantine and people's decisions have it.
 */
import { setImmediate as yieldToEventLoop } from 'node:timers/promises';
import type { BatchBody } from '../../shared/batch/batch.ts';
import { decodeBatch } from '../../shared/batch/decoder.ts';
import { TributaryError } from '../../shared/errors.ts';
import { decisionsFrom, findDecision, wasSkipped } from '../store/quarantined-batches.ts';
import type { Decision } from '../store/quarantined-batches.ts';
import { readQuarantinedKeys } from '../store/quarantined-rows.ts';
import type { QuarantinedKeys } from '../store/quarantined-rows.ts';
import type { BranchRow } from '../store/branch-row.ts';
import { judgeFault } from './fault-policy.ts';
import { PREFETCH } from './quotas.ts';
import type { QuarantinePolicy } from './quarantine.ts';
import type { TargetPool } from '../apply/connection-pool.ts';
import { chooseUnit } from './unit.ts';
import type { Arrival, MergeLimits, Unit } from './unit.ts';

/** Batches merged into one transaction. */
const MERGE: MergeLimits = {
  batches: PREFETCH,
  rows: 50_000,
  bytes: 4 * 1024 * 1024,
  memoryBytes: 64 * 1024 * 1024,
};
const ALONE: MergeLimits = { ...MERGE, batches: 1 };
/** What to write next, and what may be left out of it. */
export interface Choice {
  readonly unit: Unit;
  readonly policy: QuarantinePolicy | null;
  readonly decision: Decision | null;
}

export class UnitChooser {
  readonly #branch: string;
  readonly #pool: TargetPool;
  /** What is in quarantine, and whether people have decided about batches from here on; null: to be looked up. */
  #quarantine: { readonly known: QuarantinedKeys; readonly decisions: boolean } | null = null;

  constructor(branch: string, pool: TargetPool) {
    this.#branch = branch;
    this.#pool = pool;
  }

  /** Quarantine or the decisions may have changed. */
  forget(): void {
    this.#quarantine = null;
  }

  /**
   * @param work batches that follow each other, the first being the next of the stream
   * @param alone take no more than the first
   * @throws what a fault of the first batch calls for, see fault-policy.ts
   */
  async choose(row: BranchRow, work: readonly Arrival[], alone: boolean): Promise<Choice> {
    const [first] = work;
    if (first === undefined) throw new TributaryError('INTERNAL', 'There is nothing to choose from.');
    const pool = this.#pool;
    this.#quarantine ??= await pool.use(async connection => ({
      known: await readQuarantinedKeys(connection, this.#branch),
      decisions: await decisionsFrom(connection, this.#branch, row.stream.received.seq + 1),
    }));
    const { known, decisions } = this.#quarantine;
    const decision = decisions ? await pool.use(connection => findDecision(connection, first.header)) : null;
    const leave: QuarantinePolicy | null =
      decision !== null ? { entries: known, allow: 'any' } : known.count > 0 ? { entries: known, allow: 'known' } : null;
    const decode = (arrival: Arrival) => (arrival.decoded ??= decodeBatch(arrival.body));
    const over: Choice = { unit: { kind: 'quarantined', arrivals: [first] }, policy: leave, decision };
    if (decision?.whole === true) return over;
    try {
      if (await this.#isOrphan(row, first, decode)) return over;
      const limits = decisions || alone ? ALONE : MERGE;
      const partsPending = row.stream.received.seq > row.stream.applied.seq;
      const unit = await chooseUnit(work, limits, partsPending, decode);
      // Merging and writing come next.
      await yieldToEventLoop();
      return { unit, policy: leave, decision };
    } catch (error) {
      // It cannot be read, or has no place in the stream: nothing but all of it can be left out.
      if (decision === null || judgeFault(error) !== 'halt') throw error;
      return over;
    }
  }

  /**
   * Whether the batch goes on with a transaction of which an earlier part was passed over: it goes the same way.
   * @throws BATCH_INVALID for a part whose beginning is missing for no reason
   */
  async #isOrphan(row: BranchRow, first: Arrival, decode: (arrival: Arrival) => BatchBody): Promise<boolean> {
    const { epoch, received, applied } = row.stream;
    if (epoch === null || received.seq > applied.seq) return false;
    const { part } = decode(first);
    if (part === null || part.number <= 1) return false;
    if (await this.#pool.use(connection => wasSkipped(connection, this.#branch, epoch, applied))) return true;
    throw new TributaryError('BATCH_INVALID', `Part ${part.number} of a transaction comes without those before it.`);
  }
}
