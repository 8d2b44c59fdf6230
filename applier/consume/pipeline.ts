/**
 * One branch's pipeline: receive → check → inbox or tables → commit → acknowledge → answer. One loop does all of it,
 * so hellos and batches of a branch are never handled at the same time.
 *
 * States, as `status` shows them:
 * - `detached`: no connection to the broker;
 * - `consuming`: batches are received and applied;
 * - `waiting`: after a fault that no batch is to blame for; tries again with back-off, and gives the messages back to
 *   the queue if that takes longer;
 * - `halted`: a batch cannot be applied; its consumer is closed and nothing stays unacknowledged, hellos are answered;
 * - `stopped`: for good.
 *
 * Invariants: a batch is acknowledged to the broker only after the commit that made it superfluous, or after a look
 * at the locked row that said so; messages held are bounded by PREFETCH.
 */
import { branchNames } from '../../shared/broker/amqp-messages.ts';
import type { ReceivedMessage } from '../../shared/broker/amqp-messages.ts';
import type { BrokerConnection } from '../../shared/broker/amqp.ts';
import type { BatchHeader } from '../../shared/batch/batch.ts';
import { TributaryError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/process/logging.ts';
import type { Answer } from '../../shared/protocol.ts';
import { noteApplied } from '../store/completeness.ts';
import type { Completeness } from '../store/completeness.ts';
import { readContact, updateCompleteness } from '../store/contacts.ts';
import { earlyEntries } from '../store/inbox.ts';
import { haltBranch, lockBranch, isUnchanged } from '../store/branch-row.ts';
import type { BranchRow } from '../store/branch-row.ts';
import type { Counter } from '../verify/counter.ts';
import { RejectionLog } from './rejection-log.ts';
import { EarlyInbox } from './early-inbox.ts';
import { Expansion, writtenBytes } from '../transaction/expansion.ts';
import { asTributaryError, haltReason, judgeFault } from '../transaction/fault-policy.ts';
import { checkHello, takeHello } from './hello-handler.ts';
import { Intake } from './intake.ts';
import { PREFETCH } from '../transaction/quotas.ts';
import { RetryPolicy } from './retry-policy.ts';
import type { Activity, Pauses, Waiting } from './retry-policy.ts';
import type { AppliedCounts, PipelineEvents, RefusalReason } from './pipeline-events.ts';
import type { Quotas } from '../transaction/quotas.ts';
import type { RowWriting } from '../apply/row-writer.ts';
import type { TargetPool } from '../apply/connection-pool.ts';
import { UnitChooser } from '../transaction/choose.ts';
import type { Choice } from '../transaction/choose.ts';
import { UnitWriter } from '../transaction/write.ts';
import { WaitSignal } from '../../shared/wait-signal.ts';
import { bodyOf, bytesOf, triage } from '../transaction/unit.ts';
import type { Arrival, Unit } from '../transaction/unit.ts';

/** Consecutive faults after which messages are given back to the broker. */
const FAULTS_BEFORE_RELEASE = 3;
/** A look around without being told of anything: whatever was missed shows then. */
const MAX_SLEEP_MS = 10_000;
/** After giving way to another applier that does not take it: the next time. */
const YIELD_EVERY_MS = 5_000;

export type PipelineState = 'detached' | 'consuming' | 'waiting' | 'halted' | 'stopped';

export interface PipelineOptions {
  readonly branch: string;
  readonly pool: TargetPool;
  readonly rows: RowWriting;
  readonly counter: Pick<Counter, 'begin'>;
  /** Names this applier among several. */
  readonly instance: string;
  /** Among several appliers the highest hears the hellos. */
  readonly priority: number;
  /** Whether no other living applier is preferred to this one for the branch. */
  readonly isPreferred: () => boolean;
  readonly publish: (branch: string, answer: Answer) => Promise<void>;
  readonly quotas: Quotas;
  readonly events: PipelineEvents;
  readonly logger: Logger;
  /** Default: PAUSES. */
  readonly pauses?: Pauses | undefined;
  /** A fault of the head office that others may wait for as well has passed. */
  readonly onRecovered: () => void;
}

export class Pipeline {
  readonly branch: string;
  readonly #options: PipelineOptions;
  readonly #writer: UnitWriter;
  readonly #chooser: UnitChooser;
  readonly #early: EarlyInbox;
  readonly #intake: Intake;
  readonly #signal = new WaitSignal();
  readonly #running: Promise<void>;
  /** As last committed, as far as known here; null: to be read. */
  #row: BranchRow | null = null;
  /** How many batches are still to be applied one by one after a halt. */
  #oneByOne = 0;
  #completeness: Completeness | null = null;
  readonly #rejections: RejectionLog;
  /** By performance.now(). */
  #yieldAt = 0;
  readonly #retry: RetryPolicy;
  readonly #expansion: Expansion;
  #activity: Activity = 'other';
  #stopping = false;

  constructor(options: PipelineOptions) {
    this.branch = options.branch;
    this.#options = options;
    this.#retry = new RetryPolicy(options.pauses);
    this.#expansion = new Expansion(options.quotas.unpackedPerHourBytes);
    this.#rejections = new RejectionLog(options.branch, options.logger);
    this.#writer = new UnitWriter(options);
    this.#chooser = new UnitChooser(options.branch, options.pool);
    this.#early = new EarlyInbox(options.branch, options.pool);
    const { branch, instance, priority, logger } = options;
    this.#intake = new Intake({
      branch,
      instance,
      priority,
      onChange: () => this.#signal.notify(),
      onRefused: (message, error, reason) => this.#refuse(message, error, reason),
      onEnded: reason => logger.warn({ branch, err: reason }, 'A consumer ended; it is opened again.'),
    });
    this.#running = this.#loop();
  }

  get state(): PipelineState {
    if (this.#stopping) return 'stopped';
    if (this.#row?.state === 'halted') return 'halted';
    if (this.#retry.waiting !== null) return 'waiting';
    return this.#intake.connection === null ? 'detached' : 'consuming';
  }

  /** The fault that it waits for to pass; null: none. */
  get waiting(): Waiting | null {
    return this.#retry.waiting;
  }

  /** What others waited for has passed: the next try is due now, if it was about that. */
  hurry(): void {
    if (this.#retry.waiting?.error.code.startsWith('TARGET_') === true) this.#signal.hurry();
  }

  get unacknowledged(): number {
    return this.#intake.arrivals.length;
  }

  /** Takes a new connection to the broker; the old one is gone. null: none for now. */
  attach(connection: BrokerConnection | null): void {
    this.#intake.attach(connection);
    this.#signal.notify();
  }

  /** What somebody else has read of the branch's row: a command may have halted, resumed or removed it. */
  observe(row: BranchRow): void {
    this.#retry.observe(row);
    const known = this.#row;
    // Marks differ all the time while batches are applied, and the fence finds out about those that matter.
    if (known !== null && known.state === row.state && known.stream.epoch === row.stream.epoch) return;
    // Possibly older than what this pipeline has committed meanwhile, so not taken as it is but read again.
    this.#row = null;
    this.#signal.notify();
  }

  /** Ends the loop after the present transaction and gives all messages back. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#signal.end();
    await this.#running;
    await this.#intake.close();
  }

  async #loop(): Promise<void> {
    while (!this.#stopping) {
      try {
        this.#activity = 'other';
        const busy = await this.#turn();
        this.#recovered(this.#retry.succeeded());
        if (!busy) await this.#signal.wait(MAX_SLEEP_MS);
      } catch (error) {
        await this.#pause(error);
      }
    }
  }

  /** One thing at a time; false when there is nothing to do. */
  async #turn(): Promise<boolean> {
    const row = this.#row ?? (await this.#readRow());
    if (row === null || row.state === 'removed') {
      await this.#intake.close();
      return false;
    }
    const { connection } = this.#intake;
    if (connection !== null) {
      if (this.#mustYield()) await this.#intake.release();
      await this.#intake.open(connection, row.state === 'active');
      const hello = this.#intake.takeHello();
      if (hello !== null) {
        await this.#answer(connection, hello);
        return true;
      }
    }
    if (row.state !== 'active') {
      this.#retry.progressed();
      return false;
    }
    this.#activity = 'applying';
    return this.#step(row);
  }

  /**
   * Leaves the queue to the applier that comes first: the broker has one of equal consumers in turn, and goes on to the
   * next when that one leaves. Consumer priorities would do it in the broker, but a quorum queue (RabbitMQ 4.3.6) keeps
   * a consumer that dies with unsettled messages while one of higher priority waits, and serves the dead one later.
   */
  #mustYield(): boolean {
    const now = performance.now();
    if (!this.#intake.isActive || now < this.#yieldAt || this.#options.isPreferred()) return false;
    this.#yieldAt = now + YIELD_EVERY_MS;
    return true;
  }

  // -------------------------------------------------------------------------------------------------------------
  // Batches

  /** Settles what needs no work, then applies one unit. */
  async #step(row: BranchRow): Promise<boolean> {
    const { chain, early, dropped: settled } = triage(row.stream, this.#intake.arrivals, PREFETCH);
    if (settled.length > 0) return this.#drop(row);
    if (early.length > 0) return this.#keepEarly(row, early);
    const work = await this.#extend(row, chain);
    const first = work[0];
    if (first === undefined) return false;
    this.#expansion.requireRoom(performance.now());
    let choice: Choice | null = null;
    try {
      choice = await this.#chooser.choose(row, work, this.#oneByOne > 0);
      await this.#write(row, choice);
      return true;
    } catch (error) {
      if (judgeFault(error) !== 'halt') throw error;
      if (choice !== null && choice.unit.arrivals.length > 1) {
        // One of several is to blame: apply them one by one, so that it is found and those before it are not held up.
        this.#oneByOne = Math.max(this.#oneByOne, choice.unit.arrivals.length);
        return true;
      }
      if (choice !== null && choice.decision !== null && !isFull(error)) {
        // No row of it is to blame, so there is nothing to be left out but all of it.
        await this.#write(row, { ...choice, unit: { kind: 'quarantined', arrivals: choice.unit.arrivals } });
        return true;
      }
      await this.#halt(row, (choice?.unit.arrivals[0] ?? first).header, error);
      return true;
    }
  }

  async #write(row: BranchRow, { unit, policy: leave, decision }: Choice): Promise<void> {
    const last = unit.arrivals.at(-1)?.header.seq ?? 0;
    const inboxBelow = this.#early.hasThrough(last);
    const startedAt = performance.now();
    const written = await this.#writer.write(row, unit, { inboxBelow, policy: leave, decision });
    // Moved by another applier: inbox and quarantine may have changed with it, so all of it is read again.
    this.#row = written.outcome === 'moved' ? null : written.row;
    // Without entries and decisions nothing changes in quarantine.
    if (leave !== null || decision !== null) this.#chooser.forget();
    if (written.outcome !== 'moved') this.#recovered(this.#retry.progressed());
    if (written.outcome !== 'written') return;
    const bytes = unit.arrivals.reduce((sum, arrival) => sum + bytesOf(arrival), 0);
    if (unit.kind !== 'quarantined') {
      const rows = unit.arrivals.reduce((sum, arrival) => sum + writtenBytes(bodyOf(arrival)), 0);
      this.#expansion.charge(performance.now(), bytes, rows);
    }
    const seconds = (performance.now() - startedAt) / 1000;
    await this.#committed(written.row, unit, { batches: written.batches, ...written.counts, bytes, seconds });
  }

  /** Acknowledges what the stream does not need, after a look at the locked row: the one held here may be old. */
  async #drop(believed: BranchRow): Promise<boolean> {
    const row = await this.#options.pool.transact(connection => lockBranch(connection, this.branch));
    this.#row = row;
    if (row === null || !isUnchanged(row, believed)) return true;
    for (const { arrival, verdict } of triage(row.stream, this.#intake.arrivals, PREFETCH).dropped) {
      this.#intake.acknowledge([arrival]);
      this.#options.events.ignored(this.branch, verdict);
      if (verdict === 'forked' || verdict === 'too-early') {
        const { seq, epoch } = arrival.header;
        this.#rejections.log({ epoch, seq, verdict }, 'A batch does not fit the stream.');
      }
    }
    return true;
  }

  /** Puts early batches into the inbox and acknowledges them, also those that found no room there. */
  async #keepEarly(believed: BranchRow, early: readonly Arrival[]): Promise<boolean> {
    const { row, kept } = await this.#early.keep(believed, early);
    this.#row = row;
    if (kept === null) return true;
    const { events } = this.#options;
    for (const arrival of early) events.ignored(this.branch, kept.has(arrival) ? 'early' : 'too-early');
    events.gap(this.branch);
    this.#intake.acknowledge(early);
    return true;
  }

  /** Lengthens the chain by batches from the inbox whose turn has come. */
  async #extend(row: BranchRow, chain: readonly Arrival[]): Promise<readonly Arrival[]> {
    const extended = [...chain];
    let stream = row.stream;
    for (const { header } of chain) stream = { ...stream, received: header };
    while (extended.length < PREFETCH) {
      const next = await this.#early.next(stream);
      if (next === 'forked') this.#options.events.ignored(this.branch, 'forked');
      if (next === null || next === 'forked') break;
      extended.push(next);
      stream = { ...stream, received: next.header };
    }
    return extended;
  }

  async #committed(row: BranchRow, unit: Unit, counts: AppliedCounts): Promise<void> {
    // Told before the acknowledgement, so that a test can end things in between.
    this.#options.events.applied(this.branch, counts, row);
    this.#intake.acknowledge(unit.arrivals);
    this.#oneByOne = Math.max(0, this.#oneByOne - unit.arrivals.length);
    if (unit.kind === 'quarantined') {
      const facts = { branch: this.branch, seq: row.stream.applied.seq };
      this.#options.logger.warn(facts, 'A batch was passed over; a snapshot is asked for.');
    }
    this.#early.forgetThrough(row.stream.received.seq);
    await this.#noteApplied(row);
  }

  /** Moves "complete as of" when a time that waited for this batch is reached. */
  async #noteApplied(row: BranchRow): Promise<void> {
    const next = this.#completeness?.pending[0];
    if (next === undefined || next.seq > row.stream.applied.seq) return;
    const incomplete = row.incompleteSince !== null;
    this.#completeness = await this.#options.pool.transact(connection =>
      updateCompleteness(connection, this.branch, state => noteApplied(state, row.stream.applied.seq, incomplete)),
    );
    this.#options.events.complete(this.branch, this.#completeness.through);
  }

  async #halt(row: BranchRow, header: BatchHeader, error: unknown): Promise<void> {
    const { code, reason } = haltReason(error);
    const locked = await this.#options.pool.transact(async connection => {
      const now = await lockBranch(connection, this.branch);
      if (now === null || !isUnchanged(now, row)) return now;
      await haltBranch(connection, this.branch, { code, reason, seq: header.seq, digest: header.digest });
      return lockBranch(connection, this.branch);
    });
    this.#row = locked;
    if (locked?.state !== 'halted') return;
    this.#retry.progressed();
    // Whoever resumes it wants to see the batch to blame, not a merge that it spoils.
    this.#oneByOne = PREFETCH;
    this.#chooser.forget();
    await this.#intake.release();
    this.#options.events.halted(this.branch, locked);
    this.#options.logger.error({ branch: this.branch, seq: header.seq, code, err: error }, 'The branch is halted.');
  }

  // -------------------------------------------------------------------------------------------------------------
  // Hellos

  async #answer(connection: BrokerConnection, message: ReceivedMessage): Promise<void> {
    let hello;
    try {
      hello = checkHello(this.branch, message);
    } catch (error) {
      if (!(error instanceof TributaryError && error.code === 'MESSAGE_INVALID')) throw error;
      this.#refuse(message, error, 'hello');
      return;
    }
    const depth = await connection.queueDepth(branchNames(this.branch).batches);
    const result = await takeHello(this.#options.pool, hello, depth.messages + this.#intake.arrivals.length);
    this.#row = result.row;
    this.#early.load(result.early);
    this.#completeness = result.completeness;
    if (result.registered) {
      this.#retry.progressed();
      this.#writer.forget();
      this.#chooser.forget();
      const { epoch } = hello;
      this.#options.logger.info({ branch: this.branch, epoch }, 'A new epoch is registered.');
    }
    this.#options.events.hello(this.branch, result, depth.messages);
    await this.#options.publish(this.branch, result.answer);
  }

  #refuse(message: ReceivedMessage, error: TributaryError, reason: RefusalReason): void {
    this.#options.events.refused(this.branch, reason);
    this.#rejections.log({ reason, queue: message.queue, user: message.userId, err: error }, 'A message is refused.');
  }

  // -------------------------------------------------------------------------------------------------------------

  async #readRow(): Promise<BranchRow | null> {
    const { row, early, contact } = await this.#options.pool.transact(async connection => {
      const locked = await lockBranch(connection, this.branch);
      const received = locked?.stream.received.seq ?? 0;
      return {
        row: locked,
        early: await earlyEntries(connection, this.branch, received),
        contact: await readContact(connection, this.branch),
      };
    });
    this.#row = row;
    this.#early.load(early);
    this.#completeness = contact?.completeness ?? null;
    this.#chooser.forget();
    this.#writer.forget();
    return row;
  }

  #recovered(before: Waiting | null): void {
    if (before?.error.code.startsWith('TARGET_') === true) this.#options.onRecovered();
  }

  /** After a fault that no batch is to blame for: wait, longer each time, and give messages back when it lasts. */
  async #pause(thrown: unknown): Promise<void> {
    if (this.#stopping) return;
    const error = asTributaryError(thrown);
    const row = this.#row;
    const pause = this.#retry.failed(error, judgeFault(error), this.#activity, row, Date.now());
    this.#options.events.retried(this.branch, error.code);
    if (pause.quick) {
      await this.#signal.sleep(pause.ms * (0.5 + Math.random()));
      return;
    }
    this.#row = null;
    const { faults } = this.#retry;
    this.#options.logger.warn({ branch: this.branch, faults, err: thrown }, 'The branch waits and tries again.');
    if (faults >= FAULTS_BEFORE_RELEASE) await this.#intake.release();
    await this.#signal.sleep(pause.ms * (0.75 + Math.random() / 2));
  }
}

function isFull(error: unknown): boolean {
  return error instanceof TributaryError && error.code === 'QUARANTINE_FULL';
}
