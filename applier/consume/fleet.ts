/**
 * All branches of one applier: a pipeline for each registered one, side by side, over shared and bounded resources:
 * one connection to the broker for answers, and a pool of connections to the head-office database.
 *
 * Each branch is consumed over a connection to the broker of its own. A message may hold what ends the connection that
 * delivers it (headers that the library cannot read), again at each delivery: that must end no other branch's; and a
 * backlog in one socket holds up nothing in another.
 *
 * Branches that the command line adds, removes or resumes are noticed by reading `tributary_branch` every second, so
 * commands work with one applier, with several and with none running.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Connection } from 'mysql2/promise';
import { answerMessage } from '../../shared/broker/amqp-messages.ts';
import type { BrokerConnection, BrokerPublisher } from '../../shared/broker/amqp.ts';
import { TributaryError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/process/logging.ts';
import type { Answer } from '../../shared/protocol.ts';
import { forgetApplier, noteApplier } from '../store/instances.ts';
import { listContacts } from '../store/contacts.ts';
import type { ContactRow } from '../store/contacts.ts';
import { noteGone } from '../store/lost-tables.ts';
import { createSchema } from '../store/schema.ts';
import { clearHalt, listBranches, lockBranch } from '../store/branch-row.ts';
import type { BranchRow } from '../store/branch-row.ts';
import { Counter } from '../verify/counter.ts';
import { BrokerLink } from '../broker/connection.ts';
import { asTributaryError } from '../transaction/fault-policy.ts';
import { Pipeline } from './pipeline.ts';
import type { PipelineState } from './pipeline.ts';
import type { Pauses, Waiting } from './retry-policy.ts';
import type { PipelineEvents } from './pipeline-events.ts';
import { NO_EVENTS } from './pipeline-events.ts';
import { QUOTAS } from '../transaction/quotas.ts';
import type { Quotas } from '../transaction/quotas.ts';
import { comesFirst, rendezvousPriority } from './rendezvous.ts';
import type { RowWriting } from '../apply/row-writer.ts';
import { TargetPool } from '../apply/connection-pool.ts';
import { WaitSignal } from '../../shared/wait-signal.ts';

const POLL_MS = 1_000;
/** Transactions at a time; more only queue up in the server. */
const DEFAULT_POOL = 8;
const ANSWER_DEADLINE_MS = 10_000;
/** After that, work in progress is cut off and rolled back. */
const STOP_GRACE_MS = 2_000;
/** After the connections have ended, which takes at most two seconds: so that all of it takes less than five. */
const STOP_REST_MS = 500;
/** How often this applier says that it lives, and asks who else does. */
const NOTE_EVERY_MS = 3_000;
/** Rest between attempts to mend a broker that has lost queues, users or the virtual host. */
const MEND_EVERY_MS = 5_000;
/** How often it looks for tables, and for users and exchanges at the broker, that are gone. */
const LOOK_EVERY_MS = 60_000;

export interface FleetOptions {
  /** Opens a connection to the head-office database, which is selected. */
  readonly connectTarget: () => Promise<Connection>;
  /** Opens a connection to the broker as the applier's user. */
  readonly connectBroker: (purpose: string) => Promise<BrokerConnection>;
  readonly rows: RowWriting;
  /** Names this applier among several; stable over restarts, such as the host's name. */
  readonly instance: string;
  readonly logger: Logger;
  readonly events?: PipelineEvents;
  readonly poolSize?: number;
  readonly quotas?: Quotas;
  /** Between tries after a fault that no batch is to blame for. */
  readonly pauses?: Pauses;
  /** Makes again what the broker has lost of these branches. Idempotent. */
  readonly mendBroker?: (pool: TargetPool, branches: readonly string[]) => Promise<void>;
  /** Of these branches, those that lack something at the broker which no consumer would miss. */
  readonly lostAtBroker?: (branches: readonly string[]) => Promise<readonly string[]>;
}

/** What this applier runs for one branch. */
interface Member {
  readonly pipeline: Pipeline;
  /** The branch's own connection. */
  readonly link: BrokerLink;
}

async function endMember({ pipeline, link }: Member): Promise<void> {
  await pipeline.stop();
  await link.stop();
}

/** One branch as this applier sees it. */
export interface BranchStatus {
  readonly row: BranchRow;
  readonly contact: ContactRow | null;
  /** null: it is removed, or was added a moment ago. */
  readonly pipeline: PipelineState | null;
  readonly unacknowledged: number;
  /** What the pipeline waits for to pass. */
  readonly waiting: Waiting | null;
  /** That, or why it has no connection. */
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
  #rows: readonly BranchRow[] = [];
  /** The appliers that live, as last read; this one may be missing. */
  #living: readonly string[] = [];
  #noteAt = 0;
  #lookAt = 0;
  #contacts = new Map<string, ContactRow>();
  #pollError: TributaryError | null = null;
  #mendError: TributaryError | null = null;
  #mendAt = 0;
  /** Branches that lacked something at the broker at the last look. */
  #lost: readonly string[] = [];
  /** Looks at the branches that have ended, in whatever way. */
  #polls = 0;
  #polling: Promise<void> = Promise.resolve();
  /** Pipelines of removed branches, coming to their end. */
  #ending: Promise<unknown> = Promise.resolve();
  #stopping = false;

  constructor(options: FleetOptions) {
    this.#options = options;
    this.#pool = new TargetPool({
      connect: options.connectTarget,
      size: options.poolSize ?? DEFAULT_POOL,
      onReached: () => this.#hurryAll(),
    });
    const { connectTarget: connect, logger } = options;
    this.#counter = new Counter({ connect, pool: this.#pool, logger });
  }

  /**
   * Creates the `tributary_*` tables and starts. The broker need not be there yet; the database must be.
   * @throws TARGET_UNREACHABLE, TARGET_ACCESS_DENIED, TARGET_SETTING
   */
  async start(): Promise<void> {
    try {
      await this.#pool.use(createSchema);
      await this.#poll();
    } catch (error) {
      throw asTributaryError(error);
    }
    const { connectBroker, logger } = this.#options;
    this.#answering = new BrokerLink({
      connect: () => connectBroker('tributary-applier answers'),
      onChange: async connection => {
        this.#publisher = null;
        if (connection === null) return;
        this.#publisher = await connection.openPublisher();
        // Only this link says that the broker is back: one that a branch can end would let it drive the others.
        for (const { link } of this.#members.values()) link.hurry();
      },
      purpose: 'answers',
      logger,
    });
    this.#polling = this.#pollUntilStopped();
  }

  /** Ends within 5 s. What is not committed by then is rolled back and will be delivered again. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#wake.end();
    this.#counter.stop();
    const members = [...this.#members.values()];
    const leaving = this.#pool.use(connection => forgetApplier(connection, this.#options.instance));
    const stopped = members.map(({ pipeline }) => pipeline.stop());
    const done = Promise.allSettled([...stopped, leaving, this.#polling, this.#ending]);
    await settled(done, STOP_GRACE_MS);
    // Cuts off what is still at work, which rolls it back; then the pipelines end.
    const links = [this.#publisher?.close(), this.#answering?.stop(), ...members.map(({ link }) => link.stop())];
    await Promise.allSettled([this.#pool.close(), ...links]);
    // What is left only waits, e.g. for a connection that is being opened.
    await settled(done, STOP_REST_MS);
    this.#members.clear();
  }

  /** As of the last look, at most about a second ago. */
  status(): BranchStatus[] {
    return this.#rows.map(row => {
      const member = this.#members.get(row.branch);
      const pipeline = member?.pipeline;
      return {
        row,
        contact: this.#contacts.get(row.branch) ?? null,
        pipeline: pipeline?.state ?? null,
        unacknowledged: pipeline?.unacknowledged ?? 0,
        waiting: pipeline?.waiting ?? null,
        error: pipeline?.waiting?.error ?? member?.link.error ?? null,
      };
    });
  }

  /** Moves as long as the branches are looked after, whether the database answers or not. */
  get polls(): number {
    return this.#polls;
  }

  /** What is wrong with the applier's own links; empty when all is well. */
  faults(): TributaryError[] {
    const found = [this.#answering?.error ?? null, this.#mendError, this.#pollError];
    return found.filter(error => error !== null);
  }

  /** Lets a halted branch try its batch again. @throws BRANCH_UNKNOWN */
  async retry(branch: string): Promise<void> {
    await this.#pool.transact(async connection => {
      const row = await lockBranch(connection, branch);
      if (row === null) throw new TributaryError('BRANCH_UNKNOWN', `There is no branch ${branch}.`);
      await clearHalt(connection, branch);
    });
    this.#wake.notify();
  }

  /** Looks at the branches now rather than within a second: after a command that changed one. */
  refresh(): void {
    this.#wake.notify();
  }

  async #pollUntilStopped(): Promise<void> {
    while (!this.#stopping) {
      await this.#wake.wait(POLL_MS);
      if (this.#isStopping()) break;
      try {
        await this.#poll();
        this.#pollError = null;
      } catch (error) {
        // Shown by `faults`, and tried again: the pipelines have their own retries.
        this.#pollError = asTributaryError(error);
      }
      this.#polls += 1;
    }
  }

  async #poll(): Promise<void> {
    // Known before the rows are read: a branch that `branch remove` has ended is no longer among them.
    const lost = this.#lost;
    const { rows, contacts } = await this.#pool.use(async connection => {
      await this.#note(connection);
      return { rows: await listBranches(connection), contacts: await listContacts(connection) };
    });
    this.#rows = rows;
    this.#contacts = new Map(contacts.map(contact => [contact.branch, contact]));
    const wanted = new Map(rows.filter(row => row.state !== 'removed').map(row => [row.branch, row]));
    for (const [branch, member] of [...this.#members]) {
      if (wanted.has(branch)) continue;
      this.#members.delete(branch);
      // Not waited for: a long transaction of one branch must not keep the others from being looked after.
      this.#ending = Promise.allSettled([this.#ending, endMember(member)]);
    }
    if (this.#stopping) return;
    for (const [branch, row] of wanted) {
      const member = this.#members.get(branch);
      if (member === undefined) this.#add(branch);
      else member.pipeline.observe(row);
    }
    await this.#mend(lost);
    await this.#lookForLost();
  }

  /**
   * What nothing would notice by itself: a table that somebody has dropped is missed by branches that write nothing to
   * it as well, and a branch whose user is gone only stays away.
   */
  async #lookForLost(): Promise<void> {
    if (this.#isStopping() || performance.now() < this.#lookAt) return;
    this.#lookAt = performance.now() + LOOK_EVERY_MS;
    // Not waited for: the management API may not answer. That shows in `check`, and when it is needed.
    this.#options.lostAtBroker?.([...this.#members.keys()]).then(
      lost => (this.#lost = lost),
      () => undefined,
    );
    const tables = await noteGone(this.#pool);
    if (tables.length > 0) this.#options.logger.warn({ tables }, 'Tables are gone; the branches are asked for them.');
  }

  async #note(connection: Connection): Promise<void> {
    if (this.#stopping || performance.now() < this.#noteAt) return;
    this.#living = await noteApplier(connection, this.#options.instance);
    this.#noteAt = performance.now() + NOTE_EVERY_MS;
  }

  /** A broker without a queue, a user or the virtual host that a branch needs has lost its data. */
  async #mend(lostAtBroker: readonly string[]): Promise<void> {
    const { mendBroker, logger } = this.#options;
    const hostLost = this.#answering?.error?.code === 'BROKER_REFUSED';
    const lost = [...this.#members]
      .filter(
        ([branch, { pipeline }]) =>
          hostLost || lostAtBroker.includes(branch) || pipeline.waiting?.error.code === 'BROKER_SETUP',
      )
      .map(([branch]) => branch);
    if (lost.length === 0) this.#mendError = null;
    if (lost.length === 0 || mendBroker === undefined || performance.now() < this.#mendAt) return;
    this.#mendAt = performance.now() + MEND_EVERY_MS;
    try {
      await mendBroker(this.#pool, lost);
      this.#mendError = null;
      this.#lost = [];
      logger.warn({ branches: lost }, 'The broker had lost what these branches need there; it was made again.');
    } catch (error) {
      // Shown by `faults`, and tried again.
      this.#mendError =
        error instanceof TributaryError
          ? error
          : new TributaryError('BROKER_UNREACHABLE', error instanceof Error ? error.message : String(error));
    }
  }

  #add(branch: string): void {
    const { instance } = this.#options;
    const pipeline = new Pipeline({
      branch,
      pool: this.#pool,
      rows: this.#options.rows,
      counter: this.#counter,
      instance,
      priority: rendezvousPriority(branch, instance),
      comesFirst: () => comesFirst(branch, instance, this.#living),
      publish: (to, answer) => this.#publish(to, answer),
      quotas: this.#options.quotas ?? QUOTAS,
      events: this.#options.events ?? NO_EVENTS,
      logger: this.#options.logger,
      pauses: this.#options.pauses,
      onRecovered: () => this.#hurryAll(),
    });
    const link = new BrokerLink({
      connect: () => this.#options.connectBroker(`tributary-applier consume ${branch}`),
      onChange: connection => pipeline.attach(connection),
      purpose: `consume ${branch}`,
      logger: this.#options.logger,
    });
    this.#members.set(branch, { pipeline, link });
  }

  /** What one waited for has passed: the others need not wait until their own pauses end. */
  #hurryAll(): void {
    for (const { pipeline } of this.#members.values()) pipeline.hurry();
  }

  async #publish(branch: string, answer: Answer): Promise<void> {
    const publisher = this.#publisher;
    if (publisher === null) throw new TributaryError('BROKER_UNREACHABLE', 'There is no connection for answers.');
    const sent = await publisher.send(answerMessage(branch, answer), ANSWER_DEADLINE_MS);
    if (sent.outcome !== 'confirmed') throw sent.error;
  }

  /** Read through a method because it changes during awaits. */
  #isStopping(): boolean {
    return this.#stopping;
  }
}

/** Waits for work that never fails, but not for longer than this. */
async function settled(work: Promise<unknown>, withinMs: number): Promise<void> {
  const waiting = new AbortController();
  await Promise.race([work, sleep(withinMs, undefined, { signal: waiting.signal })]);
  waiting.abort();
}
