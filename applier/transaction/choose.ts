/**
 * Chooses what a branch's pipeline writes next: which of its batches make one transaction, and what may be left out of
 * it, by the quarantine and by people's decisions.
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
import type { HistoryKeeper } from '../apply/history-keeper.ts';
import type { TargetPool } from '../apply/connection-pool.ts';
import { chooseUnit } from './unit.ts';
import type { Arrival, MergeLimits, Unit } from './unit.ts';

/** Batches merged into one transaction. */
export const MERGE: MergeLimits = {
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
  readonly #history: HistoryKeeper | null;
  /** What is in quarantine, and whether people have decided about later batches; null: it must be read. */
  #quarantine: { readonly entries: QuarantinedKeys; readonly decisions: boolean } | null = null;

  /** @param history keeps the histories of tables; null: there are none */
  constructor(branch: string, pool: TargetPool, history: HistoryKeeper | null = null) {
    this.#history = history;
    this.#branch = branch;
    this.#pool = pool;
  }

  /** To be called if the quarantine or decisions may have changed. */
  forget(): void {
    this.#quarantine = null;
  }

  /**
   * @param work consecutive batches; the first is the next of the stream
   * @param alone whether to take only the first
   * @throws the fault of the first batch, see fault-policy.ts
   */
  async choose(row: BranchRow, work: readonly Arrival[], alone: boolean): Promise<Choice> {
    const [first] = work;
    if (first === undefined) throw new TributaryError('INTERNAL', 'There is no batch to choose.');
    const pool = this.#pool;
    this.#quarantine ??= await pool.use(async connection => ({
      entries: await readQuarantinedKeys(connection, this.#branch),
      decisions: await decisionsFrom(connection, this.#branch, row.stream.received.seq + 1),
    }));
    const { entries, decisions } = this.#quarantine;
    const decision = decisions ? await pool.use(connection => findDecision(connection, first.header)) : null;
    const policy: QuarantinePolicy | null =
      decision !== null ? { entries, allow: 'any' } : entries.count > 0 ? { entries, allow: 'known' } : null;
    const decode = (arrival: Arrival) => (arrival.decoded ??= decodeBatch(arrival.body));
    const skipped: Choice = { unit: { kind: 'skipped', arrivals: [first] }, policy, decision };
    if (decision?.whole === true) return skipped;
    try {
      if (await this.#isOrphan(row, first, decode)) return skipped;
      const limits = decisions || alone ? ALONE : MERGE;
      const partsPending = row.stream.received.seq > row.stream.applied.seq;
      const unit = await chooseUnit(work, limits, partsPending, decode, body => this.#history?.compared(body) ?? '');
      // Merging and writing come next.
      await yieldToEventLoop();
      return { unit, policy, decision };
    } catch (error) {
      // The batch cannot be read or does not fit the stream, so it can only be left out as a whole.
      if (decision === null || judgeFault(error) !== 'halt') throw error;
      return skipped;
    }
  }

  /**
   * Whether the batch continues a transaction of which an earlier part was skipped: then it is skipped as well.
   * @throws BATCH_INVALID for a part whose earlier parts are missing without a reason
   */
  async #isOrphan(row: BranchRow, first: Arrival, decode: (arrival: Arrival) => BatchBody): Promise<boolean> {
    const { epoch, received, applied } = row.stream;
    if (epoch === null || received.seq > applied.seq) return false;
    const { part } = decode(first);
    if (part === null || part.number <= 1) return false;
    if (await this.#pool.use(connection => wasSkipped(connection, this.#branch, epoch, applied))) return true;
    throw new TributaryError(
      'BATCH_INVALID',
      `Part ${part.number} of a transaction comes without the parts before it.`,
    );
  }
}
