/**
 * One branch's pipeline: receive → check → inbox or tables → commit → acknowledge → answer. One loop does all of it,
 * so hellos and batches of a branch are never handled at the same time.
 *
 * States, as `status` shows them:
 * - `detached`: there is no connection to the broker;
 * - `consuming`: batches are received and applied;
 * - `waiting`: after a fault that no batch is to blame for. The pipeline retries with back-off, and gives the messages
 *   back to the queue if that takes longer;
 * - `halted`: a batch cannot be applied. Its consumer is closed and nothing stays unacknowledged; hellos are answered;
 * - `stopped`: for good.
 *
 * Invariant: the messages in memory are bounded by PREFETCH.
 */
import { branchNames, storedHello } from '../../shared/broker/amqp-messages.ts';
import type { ReceivedMessage } from '../../shared/broker/amqp-messages.ts';
import type { BrokerConnection } from '../../shared/broker/amqp.ts';
import { TributaryError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/process/logging.ts';
import type { Answer, Hello } from '../../shared/protocol.ts';
import { WaitSignal } from '../../shared/wait-signal.ts';
import type { TargetPool } from '../apply/connection-pool.ts';
import type { RowWriting } from '../apply/row-writer.ts';
import { offlineAfterMs } from '../branches/expectation.ts';
import { isUnchanged, lockBranch } from '../store/branch-row.ts';
import type { BranchRow } from '../store/branch-row.ts';
import { noteApplied, noteCaptured, notLaterThan } from '../store/completeness.ts';
import type { Completeness } from '../store/completeness.ts';
import { readContact, updateCompleteness } from '../store/contacts.ts';
import type { ContactRow } from '../store/contacts.ts';
import { earlyEntries } from '../store/inbox.ts';
import { asApplyError, judgeFault } from '../transaction/fault-policy.ts';
import type { Quotas } from '../transaction/quotas.ts';
import type { Counter } from '../verify/counter.ts';
import { AgentWakes } from './agent-wakes.ts';
import type { ComparisonSchedule } from './comparisons.ts';
import { checkHello, completeHello, takeHello } from './hello-handler.ts';
import { Intake } from './intake.ts';
import type { PipelineEvents } from './pipeline-events.ts';
import { RejectionLog } from './rejection-log.ts';
import { RetryPolicy } from './retry-policy.ts';
import type { Activity, Pauses, Waiting } from './retry-policy.ts';
import { StreamApplier } from './stream-applier.ts';
import type { TableTroublePolicy } from './stream-applier.ts';

/** Consecutive faults after which messages are given back to the broker. */
const FAULTS_BEFORE_RELEASE = 3;
/** The longest sleep between two turns of the loop, in case a notification was missed. */
const MAX_SLEEP_MS = 10_000;
/** How long to wait before the queues are left again to another applier that has not taken it. */
const YIELD_EVERY_MS = 5_000;
/** After a restart of the applier, for example. */
const UNREADABLE = 'A batch was packed with a dictionary that is not here. The branch is asked for it again.';
/** How often batches move "complete as of"; hellos do so in any case. */
const TOLD_EVERY_MS = 1_000;

export type PipelineState = 'detached' | 'consuming' | 'waiting' | 'halted' | 'stopped';

export interface PipelineOptions {
  readonly branch: string;
  readonly pool: TargetPool;
  readonly rows: RowWriting;
  readonly counter: Pick<Counter, 'begin' | 'search'>;
  /** Names this applier among several. */
  readonly instance: string;
  readonly host: PipelineHost;
  readonly quotas: Quotas;
  readonly onTableTrouble: TableTroublePolicy;
  /** Default: no schedule. */
  readonly comparisons?: ComparisonSchedule | undefined;
  readonly events: PipelineEvents;
  readonly logger: Logger;
  /** Default: PAUSES. */
  readonly pauses?: Pauses | undefined;
}

/** What a pipeline needs from the fleet. */
export interface PipelineHost {
  /** Whether this applier comes first of all that are alive in the branch's order of preference. */
  isPreferred(branch: string): boolean;
  /** @param base the answer before, if the agent has it for certain */
  publish(branch: string, answer: Answer, base: Answer | null): Promise<void>;
  /** Has the branch's agent say hello at once. */
  wake(branch: string): Promise<void>;
  /** A fault of the database is over, which other branches may be waiting for as well. */
  recovered(): void;
}

interface Answered {
  readonly hello: Hello;
  readonly answer: Answer | null;
  /** By performance.now(). */
  readonly at: number;
  /** Those that the answer has. */
  readonly requests: readonly string[];
}

export class Pipeline {
  readonly branch: string;
  readonly #options: PipelineOptions;
  readonly #intake: Intake;
  readonly #applier: StreamApplier;
  readonly #rejections: RejectionLog;
  readonly #retry: RetryPolicy;
  readonly #signal = new WaitSignal();
  readonly #running: Promise<void>;
  /** As last committed, as far as known here; null: it must be read. */
  #row: BranchRow | null = null;
  #completeness: Completeness | null = null;
  /** By performance.now(). */
  #yieldAt = 0;
  #toldAt = 0;
  readonly #wakes = new AgentWakes();
  /** The last hello that was answered here, or by another applier: then its answer is not known. */
  #answered: Answered | null = null;
  #activity: Activity = 'other';
  #stopping = false;

  constructor(options: PipelineOptions) {
    const { branch, logger, events, pauses } = options;
    this.branch = branch;
    this.#options = options;
    this.#retry = new RetryPolicy(pauses);
    const rejections = new RejectionLog(branch, logger, events);
    this.#rejections = rejections;
    this.#intake = new Intake({
      ...options,
      rejections,
      signal: this.#signal,
      onUnreadable: () => this.#wakeForMissing(UNREADABLE),
      onMissing: () => this.#wakeForMissing(),
      onLeft: () => this.#forgetAnswer(),
    });
    const onMissing = (): void => this.#wakeForMissing();
    this.#applier = new StreamApplier({ ...options, rejections, intake: this.#intake, onMissing });
    this.#running = this.#loop();
  }

  get state(): PipelineState {
    if (this.#stopping) return 'stopped';
    if (this.#row?.state === 'halted') return 'halted';
    if (this.#retry.waiting !== null) return 'waiting';
    return this.#intake.connection === null ? 'detached' : 'consuming';
  }

  /** The fault that the pipeline waits for to pass; null: none. */
  get waiting(): Waiting | null {
    return this.#retry.waiting;
  }

  /** A fault of the database is over for another branch: if this one waits for the same, it retries now. */
  hurry(): void {
    if (this.#retry.waiting?.error.code.startsWith('TARGET_') === true) this.#signal.hurry();
  }

  get unacknowledged(): number {
    return this.#intake.arrivals.length;
  }

  /** Takes a new connection to the broker; the old one is gone. null: there is none at present. */
  attach(connection: BrokerConnection | null): void {
    this.#intake.attach(connection);
    this.#signal.notify();
  }

  /**
   * Looks at the branch's row as the fleet has read it: a command may have halted, resumed or removed the branch.
   * @param requests all that are open
   */
  observe(row: BranchRow, requests: readonly string[]): void {
    this.#retry.observe(row);
    if (this.#wakes.takeDue(performance.now())) this.#wakeAgent();
    // An idle branch says nothing for minutes after this applier has taken it over.
    if (this.#intake.isActive || this.#options.host.isPreferred(this.branch)) this.#wakeFor(requests);
    const known = this.#row;
    // Marks differ all the time while batches are applied, and the fence detects the differences that matter.
    if (known !== null && known.state === row.state && known.stream.epoch === row.stream.epoch) return;
    // It may be older than what this pipeline has committed meanwhile, so the row is read again.
    this.#row = null;
    this.#signal.notify();
  }

  /** An idle agent says hello rarely. If it is online, it is woken for a request that no answer had yet. */
  #wakeFor(requests: readonly string[]): void {
    const [answered, now] = [this.#answered, performance.now()];
    if (answered === null || requests.every(id => answered.requests.includes(id))) return;
    const isOnline = now - answered.at < offlineAfterMs(answered.hello);
    const knowsWake = answered.hello.report.capabilities.includes('wake');
    if (isOnline && knowsWake && this.#wakes.askFor(requests, this.#intake.isActive, now)) this.#wakeAgent();
  }

  /**
   * The agent is to send batches again. Its next hello asks for them, which may be long in coming: an agent that need not
   * be up to date says no hello after its batches.
   */
  #wakeForMissing(why?: string): void {
    const knowsWake = this.#answered?.hello.report.capabilities.includes('wake') ?? true;
    if (!knowsWake || !this.#wakes.ask(performance.now())) return;
    if (why !== undefined) this.#options.logger.info({ branch: this.branch }, why);
    this.#wakeAgent();
  }

  #wakeAgent(): void {
    // If it does not arrive, the next attempt or the next hello follows.
    this.#options.host.wake(this.branch).catch(() => undefined);
  }

  /** Ends the loop after the present transaction and gives all messages back to the queue. */
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

  /** Does one thing. @returns false when there is nothing to do */
  async #turn(): Promise<boolean> {
    const row = this.#row ?? (await this.#readRow());
    if (row === null || row.state === 'removed') {
      await this.#intake.close();
      return false;
    }
    const { connection } = this.#intake;
    if (connection !== null) {
      const hello = this.#intake.takeHello();
      if (hello !== null) {
        await this.#answer(connection, hello);
        return true;
      }
      if (this.#mustYield()) await this.#intake.close();
      await this.#intake.open(connection, row.state === 'active');
    }
    if (row.state !== 'active') {
      this.#retry.progressed();
      return false;
    }
    this.#activity = 'applying';
    return this.#apply(row);
  }

  /**
   * Whether to leave the queues to the applier that is preferred. Of a queue's consumers the broker serves one, and
   * another one when that leaves. Consumer priorities could do the same in the broker. But a quorum queue
   * (RabbitMQ 4.3.6) keeps a consumer that dies with unacknowledged messages while one of higher priority waits, and
   * serves the dead one later.
   */
  #mustYield(): boolean {
    const now = performance.now();
    if (!this.#intake.isActive || now < this.#yieldAt || this.#options.host.isPreferred(this.branch)) return false;
    this.#yieldAt = now + YIELD_EVERY_MS;
    return true;
  }

  async #apply(row: BranchRow): Promise<boolean> {
    const step = await this.#applier.step(row);
    this.#row = step.row;
    if (step.did === 'written' || step.did === 'halted') this.#recovered(this.#retry.progressed());
    // Also when all is applied: what was told soon after something else has waited until now.
    const mayMove = step.did === 'written' || step.did === 'nothing';
    if (mayMove && step.row !== null) await this.#noteApplied(step.row);
    return step.did !== 'nothing';
  }

  /** Moves "complete as of" when a batch says so itself, or was the one that a time waited for. */
  async #noteApplied({ stream, incompleteSince }: BranchRow): Promise<void> {
    const applied = stream.applied.seq;
    const now = performance.now();
    const told = now < this.#toldAt ? null : this.#intake.takeTold(stream.epoch, applied);
    const next = this.#completeness?.pending[0];
    const isReached = incompleteSince === null && next !== undefined && next.seq <= applied;
    if (told === null && !isReached) return;
    if (told !== null) this.#toldAt = now + TOLD_EVERY_MS;
    const through = told === null ? null : notLaterThan(Date.now(), told.through);
    this.#completeness = await this.#options.pool.transact(connection =>
      updateCompleteness(connection, this.branch, state => {
        const noted = told === null ? state : noteCaptured(state, through, told.seq);
        return noteApplied(noted, applied, incompleteSince !== null);
      }),
    );
  }

  async #answer(connection: BrokerConnection, message: ReceivedMessage): Promise<void> {
    const before = this.#answered;
    let said;
    let hello;
    try {
      said = checkHello(this.branch, message);
      const last = before?.hello ?? null;
      hello = 'since' in said ? await completeHello(this.#options.pool, this.branch, said, last) : said;
    } catch (error) {
      if (!(error instanceof TributaryError && error.code === 'MESSAGE_INVALID')) throw error;
      this.#rejections.refused(message, error, 'hello');
      return;
    }
    if (hello === null) return;
    this.#wakes.answering();
    const depth = await connection.queueDepth(branchNames(this.branch).batches);
    const { pool, rows, comparisons } = this.#options;
    const queued = depth.messages + this.#intake.arrivals.length;
    const dictionaries = this.#intake.dictionariesOf(hello.epoch);
    const result = await takeHello(pool, hello, queued, rows.history?.names.all, comparisons, dictionaries);
    // Another applier may have moved the row, or the hello has: what was remembered with the old one is not certain.
    if (this.#row === null || !isUnchanged(result.row, this.#row)) this.#applier.forget();
    this.#row = result.row;
    this.#applier.loadEarly(result.early);
    this.#completeness = result.completeness;
    if (result.registered) {
      this.#retry.progressed();
      const { epoch } = hello;
      this.#options.logger.info({ branch: this.branch, epoch }, 'A new epoch is registered.');
    }
    this.#options.events.hello(this.branch, result, depth.messages);
    const { answer, requests } = result;
    // As it is by now: the queues may have been left meanwhile.
    const latest = this.#answered;
    const base = 'since' in said && latest?.hello.nonce === said.since ? latest.answer : null;
    await this.#options.host.publish(this.branch, answer, base);
    this.#answered = { hello, answer, at: performance.now(), requests };
  }

  /**
   * Another applier may answer the hello that was answered here. The agent would merge a brief answer with that one, so
   * the next answer is a whole one.
   */
  #forgetAnswer(): void {
    if (this.#answered !== null) this.#answered = { ...this.#answered, answer: null };
  }

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
    this.#applier.loadEarly(early);
    this.#completeness = contact?.completeness ?? null;
    this.#answered ??= answeredBefore(contact);
    this.#applier.forget();
    return row;
  }

  #recovered(before: Waiting | null): void {
    if (before?.error.code.startsWith('TARGET_') === true) this.#options.host.recovered();
  }

  /** After a fault that no batch is to blame for: waits, longer each time, and gives messages back when it lasts. */
  async #pause(thrown: unknown): Promise<void> {
    if (this.#stopping) return;
    const error = asApplyError(thrown);
    const row = this.#row;
    const pause = this.#retry.failed(error, judgeFault(error), this.#activity, row, Date.now());
    this.#options.events.failed(this.branch, error.code);
    if (pause.quick) {
      await this.#signal.sleep(pause.ms * (0.5 + Math.random()));
      return;
    }
    this.#row = null;
    const { faults } = this.#retry;
    this.#options.logger.warn({ branch: this.branch, faults, err: thrown }, 'The branch waits and retries.');
    if (faults >= FAULTS_BEFORE_RELEASE) await this.#intake.close();
    await this.#signal.sleep(pause.ms * (0.75 + Math.random() / 2));
  }
}

/** What another applier, or this one before its restart, has answered. */
function answeredBefore(contact: ContactRow | null): Answered | null {
  const hello = storedHello(contact?.hello ?? null);
  if (hello === null || contact === null || contact.lastSeen === null) return null;
  const at = performance.now() - (Date.now() - Date.parse(contact.lastSeen));
  return { hello, answer: null, at, requests: [] };
}
