/**
 * All branches of one applier. Each registered branch has a pipeline. The pipelines share bounded resources: one
 * connection to the broker for answers, and a pool of connections to the head-office database.
 *
 * Branches share the connections over which they are consumed (broker/shared-links.ts). A backlog in a socket delays the
 * others there by what one branch may have unacknowledged.
 *
 * The fleet reads `tributary_branch` every second to see which branches were added, removed or resumed. So commands
 * work with one applier, with several and with none.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Connection } from 'mysql2/promise';
import { answerMessage, wakeMessage } from '../../shared/broker/amqp-messages.ts';
import type { BrokerConnection, BrokerPublisher, OutgoingMessage } from '../../shared/broker/amqp.ts';
import { ERRORS, TributaryError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/process/logging.ts';
import { forgetApplier, noteApplier } from '../store/instances.ts';
import { ContactReader } from '../store/contacts.ts';
import type { ContactRow } from '../store/contacts.ts';
import { noteDropped } from '../store/lost-tables.ts';
import { createSchema } from '../store/schema.ts';
import { listRequests } from '../store/snapshots.ts';
import { createViews } from '../store/views.ts';
import { clearHalt, listBranches, lockBranch } from '../store/branch-row.ts';
import type { BranchRow } from '../store/branch-row.ts';
import { Counter } from '../verify/counter.ts';
import type { ComparisonSchedule } from './comparisons.ts';
import { BrokerLink } from '../broker/connection.ts';
import { NodeProbe } from '../broker/probe.ts';
import { SharedLinks } from '../broker/shared-links.ts';
import type { LinkShare } from '../broker/shared-links.ts';
import { asApplyError } from '../transaction/fault-policy.ts';
import { Pipeline } from './pipeline.ts';
import type { PipelineHost, PipelineState } from './pipeline.ts';
import type { Pauses, Waiting } from './retry-policy.ts';
import type { PipelineEvents } from './pipeline-events.ts';
import { NO_EVENTS } from './pipeline-events.ts';
import type { TableTroublePolicy } from './stream-applier.ts';
import { QUOTAS } from '../transaction/quotas.ts';
import type { Quotas } from '../transaction/quotas.ts';
import { isPreferred } from './rendezvous.ts';
import type { RowWriting } from '../apply/row-writer.ts';
import { TargetPool } from '../apply/connection-pool.ts';
import { WaitSignal } from '../../shared/wait-signal.ts';

const POLL_MS = 1_000;
/** Transactions at a time. More would only wait in the server. */
const DEFAULT_POOL = 8;
const ANSWER_DEADLINE_MS = 10_000;
/** After this time, work in progress is ended and rolled back. */
const STOP_GRACE_MS = 2_000;
/** How long to wait after the connections have ended, which takes up to two seconds: less than five in all. */
const STOP_REST_MS = 500;
/** How often this applier notes that it is alive, and reads which others are. */
const NOTE_EVERY_MS = 3_000;
/** The time between attempts to repair a broker that has lost queues, users or the virtual host. */
const REPAIR_EVERY_MS = 5_000;
/** How often to look for dropped tables, and for users and exchanges that the broker has lost. */
const FIND_LOST_EVERY_MS = 60_000;
/** How often to ask whether the broker has the majority of its nodes: without it no consumer notices anything. */
const MAJORITY_EVERY_MS = 10_000;

export interface FleetOptions {
  /** Opens a connection to the head-office database, which is selected. */
  readonly connectTarget: () => Promise<Connection>;
  readonly broker: BrokerAccess;
  readonly rows: RowWriting;
  /** The name of this applier among several. It is the same after a restart, such as the host's name. */
  readonly instance: string;
  readonly logger: Logger;
  readonly events?: PipelineEvents;
  readonly poolSize?: number;
  readonly quotas?: Quotas;
  /** What to do about a table that cannot be taken; default: set it aside. */
  readonly onTableTrouble?: TableTroublePolicy;
  /** When branches are compared without anybody asking. Default: only after doubts. */
  readonly comparisons?: ComparisonSchedule;
  /** The pauses between retries after a fault that no batch is to blame for. */
  readonly pauses?: Pauses;
}

export interface BrokerAccess {
  /** Opens a connection as the applier's user. */
  connect(purpose: string): Promise<BrokerConnection>;
  /** @throws BROKER_UNCONFIRMED while it lacks the majority of its nodes; another error when it cannot be asked */
  requireMajority?(): Promise<void>;
  /** Of a broker with several addresses: opens a connection to each of them (applier/broker/probe.ts). */
  readonly nodes?: readonly (() => Promise<BrokerConnection>)[];
  /** Makes the queue of those probes. */
  ensureProbe?(): Promise<void>;
  /** Makes again what the broker has lost of these branches. Idempotent. */
  repair?(pool: TargetPool, branches: readonly string[]): Promise<void>;
  /** Of these branches, those that lack something at the broker that no consumer would miss. */
  findLost?(branches: readonly string[]): Promise<readonly string[]>;
}

/** What this applier runs for one branch. */
interface Member {
  readonly pipeline: Pipeline;
  readonly link: LinkShare;
}

async function endMember({ pipeline, link }: Member): Promise<void> {
  await pipeline.stop();
  await link.leave();
}

/** One branch as this applier sees it. */
export interface BranchStatus {
  readonly row: BranchRow;
  readonly contact: ContactRow | null;
  /** null: the branch is removed, or was added a moment ago. */
  readonly pipeline: PipelineState | null;
  readonly unacknowledged: number;
  /** The fault that the pipeline waits for to pass. */
  readonly waiting: Waiting | null;
  /** The same, or why the branch has no connection to the broker. */
  readonly error: TributaryError | null;
}

export class Fleet {
  readonly #options: FleetOptions;
  readonly #pool: TargetPool;
  readonly #counter: Counter;
  readonly #members = new Map<string, Member>();
  readonly #wake = new WaitSignal();
  #answering: BrokerLink | null = null;
  #publisher: BrokerPublisher | null = null;
  #probes: readonly NodeProbe[] = [];
  #rows: readonly BranchRow[] = [];
  /** The appliers that are alive, as last read. This one may be missing. */
  #living: readonly string[] = [];
  #noteAt = 0;
  #findAt = 0;
  readonly #contacts = new ContactReader();
  readonly #links: SharedLinks;
  #pollError: TributaryError | null = null;
  #repairError: TributaryError | null = null;
  #repairAt = 0;
  /** The broker lacks the majority of its nodes. */
  #minority: TributaryError | null = null;
  #majorityAt = 0;
  /** Branches that lacked something at the broker when it was last checked. */
  #lost: readonly string[] = [];
  /** The last check for losses at the broker failed, and the log says so. */
  #findFailed = false;
  /** How often the branches were polled, successfully or not. */
  #polls = 0;
  #polling: Promise<void> = Promise.resolve();
  /** Pipelines of removed branches that are ending. */
  #ending: Promise<unknown> = Promise.resolve();
  #stopping = false;

  readonly #host: PipelineHost = {
    isPreferred: branch => isPreferred(branch, this.#options.instance, this.#living),
    publish: (branch, answer, base) => this.#send(answerMessage(branch, answer, base)),
    wake: branch => this.#send(wakeMessage(branch)),
    recovered: () => this.#hurryAll(),
  };

  constructor(options: FleetOptions) {
    this.#options = options;
    this.#pool = new TargetPool({
      connect: options.connectTarget,
      size: options.poolSize ?? DEFAULT_POOL,
      onReached: () => this.#hurryAll(),
    });
    const { broker, connectTarget: connect, logger } = options;
    this.#links = new SharedLinks({ connect: () => broker.connect('tributary-applier consume'), logger });
    this.#counter = new Counter({ connect, pool: this.#pool, logger });
  }

  /**
   * Creates the `tributary_*` tables and starts. The database must be reachable; the broker need not be.
   * @throws TARGET_UNREACHABLE, TARGET_ACCESS_DENIED, TARGET_SETTING
   */
  async start(): Promise<void> {
    try {
      await this.#pool.use(createSchema);
      await this.#createViews();
      await this.#poll();
    } catch (error) {
      throw asApplyError(error);
    }
    const { broker, logger } = this.#options;
    this.#answering = new BrokerLink({
      connect: () => broker.connect('tributary-applier answers'),
      onChange: async connection => {
        this.#publisher = null;
        if (connection === null) return;
        this.#publisher = await connection.openPublisher();
        // Only this link shows that the broker is back, because a branch cannot end it.
        this.#links.hurry();
      },
      purpose: 'answers',
      logger,
    });
    this.#probes = (broker.nodes ?? []).map(
      connect =>
        new NodeProbe({
          connect,
          ensureQueue: async () => broker.ensureProbe?.(),
          onParted: place => this.#leaveNode(place),
        }),
    );
    this.#polling = this.#pollUntilStopped();
  }

  /** The views for reports; everything else works without them. */
  async #createViews(): Promise<void> {
    const trouble = await this.#pool.use(connection => createViews(connection));
    if (trouble === null) return;
    const why =
      trouble === 'denied'
        ? 'The applier may not create the views for reports. `tributary-applier check` says which right is missing.'
        : 'The views for reports could not be replaced, because a report reads them. The next start tries again.';
    this.#options.logger.warn({ trouble }, why);
  }

  /** Ends within 5 s. Work that is not committed by then is rolled back, and its messages are delivered again. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#wake.end();
    this.#counter.stop();
    const members = [...this.#members.values()];
    const forgotten = this.#pool.use(connection => forgetApplier(connection, this.#options.instance));
    const stopped = members.map(({ pipeline }) => pipeline.stop());
    const done = Promise.allSettled([...stopped, forgotten, this.#polling, this.#ending]);
    await atMost(done, STOP_GRACE_MS);
    // This ends and rolls back the transactions that are left; then the pipelines end.
    const links = [this.#publisher?.close(), this.#answering?.stop(), this.#links.stop()];
    links.push(...this.#probes.map(probe => probe.stop()));
    await Promise.allSettled([this.#pool.close(), ...links]);
    // Whatever is left only waits, for example for a connection that is being opened.
    await atMost(done, STOP_REST_MS);
    this.#members.clear();
  }

  /** As of the last poll, about a second ago at most. */
  status(): BranchStatus[] {
    return this.#rows.map(row => {
      const member = this.#members.get(row.branch);
      const pipeline = member?.pipeline;
      return {
        row,
        contact: this.#contacts.of(row.branch),
        pipeline: pipeline?.state ?? null,
        unacknowledged: pipeline?.unacknowledged ?? 0,
        waiting: pipeline?.waiting ?? null,
        error: pipeline?.waiting?.error ?? member?.link.error ?? null,
      };
    });
  }

  /** Grows as long as the fleet polls the branches, whether the database answers or not. */
  get polls(): number {
    return this.#polls;
  }

  /** What is wrong with the applier's own connections; empty: nothing. */
  faults(): TributaryError[] {
    const blocked =
      this.#answering?.connection?.blocked === true
        ? new TributaryError('BROKER_BLOCKED', ERRORS.BROKER_BLOCKED.cause)
        : null;
    const found = [this.#answering?.error ?? null, blocked, this.#minority, this.#repairError, this.#pollError];
    return found.filter(error => error !== null);
  }

  /** Lets a halted branch retry its batch. @throws BRANCH_UNKNOWN */
  async retry(branch: string): Promise<void> {
    await this.#pool.transact(async connection => {
      const row = await lockBranch(connection, branch);
      if (row === null) throw new TributaryError('BRANCH_UNKNOWN', `There is no branch ${branch}.`);
      await clearHalt(connection, branch);
    });
    this.#wake.notify();
  }

  /** Polls the branches now, after a command that has changed one. */
  refresh(): void {
    this.#wake.notify();
  }

  async #pollUntilStopped(): Promise<void> {
    while (!this.#stopping) {
      await this.#wake.wait(POLL_MS);
      if (this.#isStopping()) break;
      try {
        await this.#poll();
        // A poll writes as well, so a database that refused writes takes them again.
        if (this.#pollError !== null) this.#hurryAll();
        this.#pollError = null;
      } catch (error) {
        // `faults` shows it, and the next poll follows. The pipelines have their own retries.
        this.#pollError = asApplyError(error);
      }
      this.#polls += 1;
    }
  }

  async #poll(): Promise<void> {
    // Known before the rows are read: a branch that `branch remove` has ended is no longer among them.
    const lost = this.#lost;
    const { rows, requests } = await this.#pool.use(async connection => {
      await this.#note(connection);
      await this.#contacts.read(connection);
      return { rows: await listBranches(connection), requests: await listRequests(connection) };
    });
    this.#rows = rows;
    const wanted = new Map(rows.filter(row => row.state !== 'removed').map(row => [row.branch, row]));
    for (const [branch, member] of [...this.#members]) {
      if (wanted.has(branch)) continue;
      this.#members.delete(branch);
      // Do not wait for it: a long transaction of one branch must not delay the others.
      this.#ending = Promise.allSettled([this.#ending, endMember(member)]);
    }
    if (this.#stopping) return;
    for (const [branch, row] of wanted) {
      const member = this.#members.get(branch);
      if (member === undefined) this.#add(branch);
      else member.pipeline.observe(row, requests.get(branch) ?? []);
    }
    this.#askForMajority();
    await this.#repairBroker(lost);
    await this.#findLost();
  }

  /** Connections, hellos and answers go on without a majority, and batches just stay away. */
  #askForMajority(): void {
    const { broker } = this.#options;
    if (broker.requireMajority === undefined || performance.now() < this.#majorityAt) return;
    this.#majorityAt = performance.now() + MAJORITY_EVERY_MS;
    // Not awaited, because the management API may take its time to fail.
    broker.requireMajority().then(
      () => (this.#minority = null),
      (error: unknown) => {
        // Whatever else keeps it from being asked says nothing about the nodes; `findLost` logs it.
        const isMinority = error instanceof TributaryError && error.code === 'BROKER_UNCONFIRMED';
        this.#minority = isMinority ? error : null;
      },
    );
  }

  /**
   * Finds losses that nothing else notices: a dropped table is missed by branches that write nothing to it too, and a
   * branch whose user is gone only stays away.
   */
  async #findLost(): Promise<void> {
    if (this.#isStopping() || performance.now() < this.#findAt) return;
    this.#findAt = performance.now() + FIND_LOST_EVERY_MS;
    // Not awaited, because the management API may take its time to fail.
    this.#options.broker.findLost?.([...this.#members.keys()]).then(
      lost => {
        this.#lost = lost;
        this.#findFailed = false;
      },
      (error: unknown) => {
        // Once in a row: it is tried again each minute, and `check` shows it too.
        if (!this.#findFailed)
          this.#options.logger.warn({ err: error }, 'RabbitMQ cannot be asked whether it has lost users or exchanges.');
        this.#findFailed = true;
      },
    );
    const tables = await noteDropped(this.#pool);
    if (tables.length > 0)
      this.#options.logger.warn({ tables }, 'Tables were dropped. The branches are asked for their rows again.');
  }

  async #note(connection: Connection): Promise<void> {
    if (this.#stopping || performance.now() < this.#noteAt) return;
    this.#living = await noteApplier(connection, this.#options.instance);
    this.#noteAt = performance.now() + NOTE_EVERY_MS;
  }

  /** Repairs a broker that has lost a queue, a user or the virtual host that a branch needs. */
  async #repairBroker(lostAtBroker: readonly string[]): Promise<void> {
    const { broker, logger } = this.#options;
    const hostLost = this.#answering?.error?.code === 'BROKER_REFUSED';
    const lost = [...this.#members]
      .filter(
        ([branch, { pipeline }]) =>
          hostLost || lostAtBroker.includes(branch) || pipeline.waiting?.error.code === 'BROKER_SETUP',
      )
      .map(([branch]) => branch);
    if (lost.length === 0) this.#repairError = null;
    if (lost.length === 0 || broker.repair === undefined || performance.now() < this.#repairAt) return;
    this.#repairAt = performance.now() + REPAIR_EVERY_MS;
    try {
      await broker.repair(this.#pool, lost);
      this.#repairError = null;
      this.#lost = [];
      logger.warn({ branches: lost }, 'The broker had lost what these branches need there. It was made again.');
    } catch (error) {
      // `faults` shows it, and the next attempt follows.
      this.#repairError =
        error instanceof TributaryError
          ? error
          : new TributaryError('BROKER_UNREACHABLE', error instanceof Error ? error.message : String(error));
    }
  }

  /** All connections to a node that takes no part in its cluster any more would go on in silence. */
  #leaveNode(place: string): void {
    const all = [this.#answering?.connection ?? [], this.#links.connections].flat();
    const there = all.filter(connection => connection.place === place);
    if (there.length === 0) return;
    this.#options.logger.warn(
      { place },
      'This node of RabbitMQ confirms nothing any more. It is left for another one.',
    );
    for (const connection of there) void connection.close();
  }

  #add(branch: string): void {
    const { instance } = this.#options;
    const pipeline = new Pipeline({
      branch,
      pool: this.#pool,
      rows: this.#options.rows,
      counter: this.#counter,
      instance,
      host: this.#host,
      quotas: this.#options.quotas ?? QUOTAS,
      onTableTrouble: this.#options.onTableTrouble ?? 'set-aside',
      comparisons: this.#options.comparisons,
      events: this.#options.events ?? NO_EVENTS,
      logger: this.#options.logger,
      pauses: this.#options.pauses,
    });
    const link = this.#links.join(branch, connection => pipeline.attach(connection));
    this.#members.set(branch, { pipeline, link });
  }

  /** The database is back for one branch: the others need not wait until their pauses end. */
  #hurryAll(): void {
    for (const { pipeline } of this.#members.values()) pipeline.hurry();
  }

  async #send(message: OutgoingMessage): Promise<void> {
    const publisher = this.#publisher;
    if (publisher === null) throw new TributaryError('BROKER_UNREACHABLE', 'There is no connection for answers.');
    // During an alarm at the broker the publisher waits without end. A branch must not: what it takes from its queue is
    // what ends the alarm. An answer that is missing is asked for again.
    const over = new AbortController();
    const late = sleep(2 * ANSWER_DEADLINE_MS, null, { ref: false, signal: over.signal }).catch(() => null);
    const sent = await Promise.race([publisher.send(message, ANSWER_DEADLINE_MS), late]);
    over.abort();
    if (sent === null) throw new TributaryError('BROKER_BLOCKED', ERRORS.BROKER_BLOCKED.cause);
    if (sent.outcome !== 'confirmed') throw sent.error;
  }

  /** Read through a method because it changes during awaits. */
  #isStopping(): boolean {
    return this.#stopping;
  }
}

/** Waits for work that never fails, but not longer than this. */
async function atMost(work: Promise<unknown>, withinMs: number): Promise<void> {
  const waiting = new AbortController();
  await Promise.race([work, sleep(withinMs, undefined, { signal: waiting.signal })]);
  waiting.abort();
}
