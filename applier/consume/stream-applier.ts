/**
 * Applies the batches of one branch's stream, one step at a time. A step drops what is not needed, keeps early batches
 * in the inbox, writes the next unit of work, sets a table aside that cannot be taken, or halts the branch.
 *
 * Invariant: a batch is acknowledged only after the commit that made it superfluous, or after a look at the locked row
 * that says so.
 */
import { BATCH_VERSION } from '../../shared/batch/batch.ts';
import type { BatchBody, BatchHeader, TableDescription } from '../../shared/batch/batch.ts';
import { TributaryError } from '../../shared/errors.ts';
import { tableText } from '../../shared/table-name.ts';
import type { Logger } from '../../shared/process/logging.ts';
import type { TargetPool } from '../apply/connection-pool.ts';
import type { RowWriting } from '../apply/row-writer.ts';
import { HistoryTrouble } from '../apply/history-table.ts';
import { TableTrouble } from '../apply/table-trouble.ts';
import { askForReturn, countSetAside, putSetAside, readSetAside } from '../store/set-aside.ts';
import { skipSweep } from '../store/snapshots.ts';
import { haltBranch, isUnchanged, lockBranch } from '../store/branch-row.ts';
import type { BranchRow } from '../store/branch-row.ts';
import { BY_HEAD_OFFICE } from '../store/event-kinds.ts';
import { noteEvent } from '../store/events.ts';
import type { EarlyEntries } from '../store/inbox.ts';
import { BranchHistories } from '../transaction/branch-histories.ts';
import { MERGE, UnitChooser } from '../transaction/choose.ts';
import type { Choice } from '../transaction/choose.ts';
import { decodeAhead } from '../transaction/decode-ahead.ts';
import { Expansion, writtenBytes } from '../transaction/expansion.ts';
import { haltReason, judgeFault } from '../transaction/fault-policy.ts';
import type { Written } from '../transaction/fence.ts';
import { PREFETCH } from '../transaction/quotas.ts';
import type { Quotas } from '../transaction/quotas.ts';
import { bodyOf, bytesOf, triage } from '../transaction/unit.ts';
import type { Arrival, Unit } from '../transaction/unit.ts';
import { SetAsideTables } from '../transaction/set-aside.ts';
import { UnitWriter } from '../transaction/write.ts';
import type { Counter } from '../verify/counter.ts';
import { EarlyInbox } from './early-inbox.ts';
import type { Intake } from './intake.ts';
import type { PipelineEvents } from './pipeline-events.ts';
import type { RejectionLog } from './rejection-log.ts';

/** How often to look whether tables fit again that are set aside. */
const RETURN_LOOK_MS = 10_000;

/** `set-aside`: everything else goes on without the table. `halt`: the branch waits for a person. */
export type TableTroublePolicy = 'set-aside' | 'halt';

export interface StreamApplierOptions {
  readonly branch: string;
  readonly pool: TargetPool;
  readonly rows: RowWriting;
  readonly counter: Pick<Counter, 'begin' | 'search'>;
  readonly quotas: Quotas;
  readonly onTableTrouble: TableTroublePolicy;
  readonly events: PipelineEvents;
  readonly logger: Logger;
  readonly intake: Intake;
  readonly rejections: RejectionLog;
  /** Batches have come before others, which are missing. */
  readonly onMissing: () => void;
}

/** What a step has done. */
export interface Step {
  /** The branch's row as it is now, as far as known here; null: it must be read. */
  readonly row: BranchRow | null;
  readonly did: 'nothing' | 'something' | 'written' | 'halted';
}

/** Another applier has moved the row: inbox and quarantine may have changed with it, so all of it is read again. */
const MOVED: Step = { row: null, did: 'something' };

export class StreamApplier {
  readonly #o: StreamApplierOptions;
  readonly #branch: string;
  readonly #writer: UnitWriter;
  readonly #chooser: UnitChooser;
  readonly #history: BranchHistories;
  readonly #early: EarlyInbox;
  readonly #asides: SetAsideTables;
  #lookedForReturnsAt = -Infinity;
  readonly #expansion: Expansion;
  /** How many batches are still to be applied one by one after a halt. */
  #oneByOne = 0;

  constructor(options: StreamApplierOptions) {
    const { branch, pool, quotas } = options;
    this.#o = options;
    this.#branch = branch;
    this.#asides = new SetAsideTables(branch);
    const keeper = options.rows.history ?? null;
    this.#history = new BranchHistories({ pool, keeper, onStopped: trouble => this.#noteStopped(trouble) });
    this.#writer = new UnitWriter({ ...options, asides: this.#asides, histories: this.#history });
    this.#chooser = new UnitChooser(branch, pool, keeper);
    this.#early = new EarlyInbox(branch, pool);
    this.#expansion = new Expansion(quotas.unpackedPerHourBytes);
  }

  /** Takes over which early batches wait in the inbox. */
  loadEarly(entries: EarlyEntries): void {
    this.#early.load(entries);
  }

  /** The branch's row was read again, or has a new epoch: nothing that was remembered is certain. */
  forget(): void {
    this.#chooser.forget();
    this.#writer.forget();
    this.#asides.forget();
    this.#history.forget();
  }

  /**
   * Drops what is not needed, or keeps early batches, or writes one unit.
   * @throws errors that no batch has caused
   */
  async step(row: BranchRow): Promise<Step> {
    const { intake } = this.#o;
    const { chain, early, dropped } = triage(row.stream, intake.arrivals, PREFETCH);
    if (dropped.length > 0) return this.#drop(row);
    if (early.length > 0) return this.#keepEarly(row, early);
    await this.#lookForReturns(row);
    const work = await this.#early.extend(row.stream, chain, this.#o.rejections);
    const [first] = work;
    if (first === undefined) return (await this.#beginHistory(row)) ?? { row, did: 'nothing' };
    this.#expansion.requireRoom(performance.now());
    let choice: Choice | null = null;
    try {
      const begun = await this.#historyStep(row);
      if (begun !== null) return begun;
      choice = await this.#chooser.choose(row, work, this.#oneByOne > 0);
      await this.#asides.load(this.#o.pool, row, choice.unit.arrivals[0]?.header.seq ?? 0);
      return await this.#whileDecoding(choice.unit, chain, this.#writeOrSkip(row, choice));
    } catch (error) {
      this.#history.forget();
      if (judgeFault(error) !== 'halt') throw error;
      if (choice !== null && choice.unit.arrivals.length > 1) {
        // Apply them one by one, so that the faulty batch is found and those before it are applied.
        this.#oneByOne = Math.max(this.#oneByOne, choice.unit.arrivals.length);
        return { row, did: 'something' };
      }
      const seq = (choice?.unit.arrivals[0] ?? first).header.seq;
      if (this.#mayStop(error)) return this.#stopHistory(row, error);
      if (error instanceof TableTrouble && this.#maySetAside(error)) return this.#setAside(row, error, seq);
      return this.#halt(row, (choice?.unit.arrivals[0] ?? first).header, error);
    }
  }

  /**
   * Decodes the batches after the unit until the unit is written.
   * @param chain those that were delivered: one of the inbox is read anew at each step
   */
  async #whileDecoding(unit: Unit, chain: readonly Arrival[], written: Promise<Step>): Promise<Step> {
    let isWanted = true;
    const ahead = this.#oneByOne > 0 ? [] : chain.slice(unit.arrivals.length);
    const decoding = decodeAhead(unit, ahead, MERGE, () => isWanted);
    try {
      return await written;
    } finally {
      isWanted = false;
      await decoding;
    }
  }

  #maySetAside({ description }: TableTrouble): boolean {
    // If the trouble comes again although all of the table was passed over, that does not help.
    return this.#o.onTableTrouble === 'set-aside' && !this.#asides.isRefusedNow(description);
  }

  /** While there is no batch, nothing can be halted: what halts waits for the next one. */
  async #beginHistory(row: BranchRow): Promise<Step | null> {
    try {
      return await this.#historyStep(row);
    } catch (error) {
      if (judgeFault(error) !== 'halt') throw error;
      return this.#mayStop(error) ? this.#stopHistory(row, error) : null;
    }
  }

  #mayStop(error: unknown): error is HistoryTrouble {
    return error instanceof HistoryTrouble && this.#o.onTableTrouble === 'set-aside';
  }

  /** The table's rows go on without a history. */
  async #stopHistory(row: BranchRow, trouble: HistoryTrouble): Promise<Step> {
    const isDone = await this.#history.stop(row, trouble);
    return isDone ? { row, did: 'something' } : MOVED;
  }

  #noteStopped(trouble: HistoryTrouble): void {
    const { code, table } = trouble;
    this.#o.events.failed(this.#branch, code);
    const message = 'The history of a table is stopped. Its rows go on without it.';
    this.#o.logger.error({ branch: this.#branch, code, table, err: trouble }, message);
  }

  /** null: all histories are whole. */
  async #historyStep(row: BranchRow): Promise<Step | null> {
    const step = await this.#history.step(row);
    if (step === 'moved') return MOVED;
    return step === 'done' ? { row, did: 'something' } : null;
  }

  /**
   * A batch that a person has decided to skip is skipped whole if no single row is the cause. A history that cannot be
   * kept is no cause: it is stopped, and the batch is written without it.
   */
  async #writeOrSkip(row: BranchRow, choice: Choice): Promise<Step> {
    try {
      return await this.#write(row, choice);
    } catch (error) {
      const { kind, arrivals } = choice.unit;
      const maySkip = choice.decision !== null && kind !== 'skipped' && arrivals.length === 1 && !isFull(error);
      if (!maySkip || this.#mayStop(error) || judgeFault(error) !== 'halt') throw error;
      return this.#write(row, { ...choice, unit: { kind: 'skipped', arrivals } });
    }
  }

  async #write(row: BranchRow, { unit, policy, decision }: Choice): Promise<Step> {
    const last = unit.arrivals.at(-1)?.header.seq ?? 0;
    const inboxBelow = this.#early.hasThrough(last);
    const startedAt = performance.now();
    const result = await this.#writer.write(row, unit, { inboxBelow, policy, decision });
    // Without entries and decisions nothing changes in quarantine.
    if (policy !== null || decision !== null) this.#chooser.forget();
    if (result.outcome === 'moved') return MOVED;
    const changesMarks = unit.kind !== 'plain' || result.row.setAsideTables !== row.setAsideTables;
    if (changesMarks) this.#asides.forget();
    if (result.outcome === 'written') this.#committed(result, unit, startedAt);
    return { row: result.row, did: 'written' };
  }

  #committed({ row, batches, counts }: Written, unit: Unit, startedAt: number): void {
    const { events, intake, logger } = this.#o;
    const branch = this.#branch;
    const { arrivals, kind } = unit;
    const now = performance.now();
    const bytes = arrivals.reduce((sum, arrival) => sum + bytesOf(arrival), 0);
    if (kind !== 'skipped') {
      const rows = arrivals.reduce((sum, arrival) => sum + writtenBytes(bodyOf(arrival)), 0);
      this.#expansion.charge(now, bytes, rows);
    }
    // Before the acknowledgement, so that a test can end the process in between.
    events.applied(branch, { batches, ...counts, bytes, seconds: (now - startedAt) / 1000 }, row);
    intake.acknowledge(arrivals);
    this.#oneByOne = Math.max(0, this.#oneByOne - arrivals.length);
    this.#early.forgetThrough(row.stream.received.seq);
    if (kind === 'skipped') {
      logger.warn({ branch, seq: row.stream.applied.seq }, 'A batch was skipped. The branch is asked for a snapshot.');
    }
  }

  /** Acknowledges what the stream does not need, after a look at the locked row: the one known here may be old. */
  async #drop(believed: BranchRow): Promise<Step> {
    const { pool, intake, rejections } = this.#o;
    const row = await pool.transact(connection => lockBranch(connection, this.#branch));
    if (row === null || !isUnchanged(row, believed)) return MOVED;
    for (const { arrival, verdict } of triage(row.stream, intake.arrivals, PREFETCH).dropped) {
      intake.acknowledge([arrival]);
      rejections.dropped(arrival, verdict);
    }
    return { row, did: 'something' };
  }

  /**
   * Puts early batches into the inbox and acknowledges them all. Those that found no room there are sent again later.
   */
  async #keepEarly(believed: BranchRow, early: readonly Arrival[]): Promise<Step> {
    const { events, intake } = this.#o;
    const { row, kept } = await this.#early.keep(believed, early);
    if (kept === null) return MOVED;
    for (const arrival of early) events.ignored(this.#branch, kept.has(arrival) ? 'early' : 'too-early');
    events.gap(this.#branch);
    this.#o.onMissing();
    intake.acknowledge(early);
    return { row, did: 'something' };
  }

  /** Passes over the table's rows from here on, because the head office cannot take them. */
  async #setAside(believed: BranchRow, trouble: TableTrouble, seq: number): Promise<Step> {
    const { pool, events, logger } = this.#o;
    const branch = this.#branch;
    const { description } = trouble;
    const { code, reason } = haltReason(trouble);
    const row = await pool.transact(async connection => {
      const locked = await lockBranch(connection, branch);
      if (locked === null || !isUnchanged(locked, believed)) return null;
      const mark = { by: 'head-office', code, reason, batch: locked.batchNumber } as const;
      await putSetAside(connection, branch, description, mark);
      await skipSweep(connection, branch, description.name);
      await countSetAside(connection, branch);
      return lockBranch(connection, branch);
    });
    if (row === null) return MOVED;
    this.#asides.noteRefused(description, seq);
    this.#oneByOne = PREFETCH;
    this.#writer.forget();
    events.failed(branch, code);
    const table = tableText(description);
    logger.error({ branch, seq, code, table, err: trouble }, 'A table is set aside. Everything else goes on.');
    return { row, did: 'something' };
  }

  /** Asks for tables that fit by now, as far as their definitions show it. */
  async #lookForReturns(row: BranchRow): Promise<void> {
    const now = performance.now();
    if (row.setAsideTables === 0 || now - this.#lookedForReturnsAt < RETURN_LOOK_MS) return;
    this.#lookedForReturnsAt = now;
    const { pool, rows, logger } = this.#o;
    const branch = this.#branch;
    const marks = await pool.use(connection => readSetAside(connection, branch));
    for (const { by, state, code, description } of marks) {
      if (by !== 'head-office' || state !== 'aside' || code !== 'TARGET_SCHEMA' || description === null) continue;
      if (
        (await rows.prepare([announcing(description)], branch, { leaveOut: 'all', withoutHistory: 'all' })).unfit
          .length > 0
      )
        continue;
      const { schema, name } = description;
      const isAsked = await pool.transact(async connection => {
        await lockBranch(connection, branch);
        return askForReturn(connection, branch, { schema, name }, 'a table that was set aside fits again');
      });
      if (isAsked) logger.info({ branch, table: tableText(description) }, 'A table that was set aside fits again.');
    }
  }

  async #halt(believed: BranchRow, { seq, digest }: BatchHeader, error: unknown): Promise<Step> {
    const { pool, intake, events, logger } = this.#o;
    const branch = this.#branch;
    const { code, reason } = haltReason(error);
    const row = await pool.transact(async connection => {
      const locked = await lockBranch(connection, branch);
      if (locked === null || !isUnchanged(locked, believed)) return locked;
      await haltBranch(connection, branch, { code, reason, seq, digest });
      const text = `Batch ${seq} cannot be applied: ${reason}`;
      await noteEvent(connection, branch, { kind: 'halted', actor: BY_HEAD_OFFICE, text, code, facts: { seq } });
      return lockBranch(connection, branch);
    });
    if (row?.state !== 'halted') return MOVED;
    // When the branch is resumed, the faulty batch must not be merged with others.
    this.#oneByOne = PREFETCH;
    this.#chooser.forget();
    await intake.release();
    events.failed(branch, code);
    logger.error({ branch, seq, code, err: error }, 'The branch is halted.');
    return { row, did: 'halted' };
  }
}

/** A body that only announces a table, so that it is fitted. */
function announcing(description: TableDescription): BatchBody {
  return {
    v: BATCH_VERSION,
    source: { server: '', gtidSet: '', file: '', offset: 0, committedAt: null },
    transactions: 0,
    part: null,
    tables: [description],
    changes: [{ op: 'snapshot-start', snapshot: '', tables: [0], whole: false, requests: [] }],
  };
}

function isFull(error: unknown): boolean {
  return error instanceof TributaryError && error.code === 'QUARANTINE_FULL';
}
