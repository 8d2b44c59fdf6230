/**
 * Sends the spool's closed batches to the broker, in order, with confirms, inside the link policy. Says hello, and acts
 * on answers as shared/protocol.ts judges them. A confirm does not mean that a batch was applied: the spool may forget
 * a batch only when an answer says that it was received.
 *
 * States, and what moves between them (only `#enter` does):
 *
 *   stopped ──start──▶ closed | connecting
 *   closed        outside the windows                        ──window opens, or sync──▶ connecting
 *   connecting    one attempt to connect                     ──▶ greeting | streaming | backing-off
 *   greeting      connected; nothing is sent, because the head office has not yet said that this epoch is current
 *                                                            ──current answer──▶ streaming
 *   streaming     batches are sent as the window allows      ──other epoch, new epoch──▶ greeting
 *   refused       the broker nacked: wait, then try one batch on the same connection ──▶ streaming
 *   backing-off   after any fault                            ──▶ connecting
 *   superseded    a newer epoch of this branch is valid; for good
 *   failed        the spool failed: the process must end
 *
 * Every connected state changes to backing-off when the link breaks or stalls, and to closed when the window closes.
 *
 * Invariants: `confirmed` is contiguous and goes back on a rewind; each rewind voids the answers to earlier hellos;
 * nothing of an open group is sent; at most one hello is outstanding.
 */
import { isUnreachable } from '../../shared/broker/amqp.ts';
import { assert, describeError, TributaryError } from '../../shared/errors.ts';
import { AnswerActions } from './answer-actions.ts';
import type { ForwardLink } from './broker-link.ts';
import { freshCounters } from './forwarder-types.ts';
import type {
  ForwarderHost,
  ForwarderOptions,
  ForwarderState,
  ForwarderStatus,
  SyncProgress,
} from './forwarder-types.ts';
import { HelloLoop } from './hello-loop.ts';
import { idleHelloMs } from './hello-pace.ts';
import { linkState } from '../../shared/config/link-schedule.ts';
import { KNOWS_PACE } from '../../shared/protocol.ts';
import { BACK_OFFS } from './rate-limit.ts';
import { LinkHolder } from './link-holder.ts';
import { LinkFaults } from './link-faults.ts';
import { LinkState } from './link-state.ts';
import { Packing } from './packing.ts';
import { Sender } from './sender.ts';
import { SyncWaiters } from './syncs.ts';
import type { SyncOptions } from './syncs.ts';
import { Timers } from './timers.ts';

export type * from './forwarder-types.ts';

/** The pauses between two slices of the spool's housekeeping: while there is more to do, and while there is not. */
const MAINTAIN_BUSY_MS = 10;
const MAINTAIN_IDLE_MS = 5_000;
/** How often the windows are checked, in case somebody has set the clock or the machine was asleep. */
const CHECK_WINDOWS_MS = 60_000;
/** So long before a window closes nothing is held back any more. */
const LAST_STRETCH_MS = 20_000;
/** How often callers of `sync` get the progress. */
const PROGRESS_MS = 1_000;
/** How long `stop` waits until what was held back is confirmed, and for links to close. */
const LEAVE_WITHIN_MS = 2_000;
const STOP_DEADLINE_MS = 5_000;

const DEFAULTS = {
  helloMs: 5_000,
  helloTimeoutMs: 20_000,
  stallMs: 30_000,
  windowBytes: 4 * 1024 * 1024,
  windowMessages: 256,
} as const;

export class Forwarder {
  readonly #o: ForwarderOptions;
  readonly #hellos: HelloLoop;
  readonly #links: LinkHolder;
  readonly #sender: Sender;
  readonly #packing = new Packing();
  readonly #freshnessMs: number;
  readonly #timers = new Timers<'retry' | 'window' | 'maintain' | 'progress'>();
  readonly #syncs = new SyncWaiters();
  readonly #counters = freshCounters();
  readonly #faults: LinkFaults;
  readonly #state: LinkState;
  readonly #answers: AnswerActions;
  #wasIdle = false;
  /** When the open window closes; null: it does not, or is not open. */
  #closesAt: number | null = null;
  /** The process ends: whatever is held back goes now. */
  #isLeaving = false;
  /** Called when nothing more can be sent at present, or all of it is confirmed. */
  #left: () => void = () => undefined;
  #stopListening: () => void = () => undefined;

  constructor(options: ForwarderOptions) {
    this.#o = options;
    this.#state = new LinkState(options.log, options.now());
    this.#faults = new LinkFaults(options.backOffs ?? BACK_OFFS);
    const counters = this.#counters;
    const host: ForwarderHost = {
      guarded: work => this.#guarded(work),
      linkOpened: link => this.#connected(link),
      linkFailed: error => this.#fault(error),
      answered: body => this.#answered(body),
      woken: () => this.#hellos.helloSoon(),
      batchConfirmed: () => this.#confirmed(),
      batchRefused: error => this.#refused(error),
      pumped: () => this.#reportIdle(),
      enter: (state, why) => this.#enter(state, why),
      superseded: () => this.#superseded(),
    };
    const { maxBytesPerSecond, freshnessMs = 0 } = options.policy;
    this.#freshnessMs = freshnessMs;
    const parts = { ...DEFAULTS, idleHelloMs: idleHelloMs(freshnessMs), ...options, counters, host };
    this.#sender = new Sender({
      ...parts,
      packing: this.#packing,
      maxBytesPerSecond,
      freshnessMs,
      isAwaited: () => this.isAwaited,
      lastCallAt: () => (this.#closesAt === null ? null : this.#closesAt - LAST_STRETCH_MS),
      through: options.through ?? (() => null),
    });
    this.#hellos = new HelloLoop({
      ...parts,
      sender: this.#sender,
      packing: this.#packing,
      isAwaited: () => this.#awaitsAnswer(),
    });
    this.#links = new LinkHolder(parts);
    this.#answers = new AnswerActions({
      ...parts,
      sender: this.#sender,
      hellos: this.#hellos,
      state: this.#state,
      faults: this.#faults,
      packing: this.#packing,
    });
  }

  start(): void {
    assert(this.#state.name === 'stopped', 'the forwarder was started twice');
    const stream = this.#o.spool.stream();
    this.#sender.restart(stream);
    this.#hellos.voidAnswers();
    this.#stopListening = this.#o.spool.onAppend(() => this.#guarded(() => this.#appended()));
    if (stream.superseded) {
      this.#superseded();
      return;
    }
    this.#guarded(() => {
      this.#maintain();
      this.#resume();
      this.#watchWindow();
    });
  }

  /** Loses nothing: the next start sends again what was in flight, unless an answer says that it was received. */
  async stop(): Promise<void> {
    if (this.#state.name === 'streaming' && this.#sender.isHolding) await this.#leave();
    if (!this.#state.hasEnded) this.#enter('stopped', 'stopping');
    const stopped = new TributaryError('DAEMON_UNREACHABLE', 'The forwarder was stopped.');
    this.#syncs.fail(stopped);
    await this.#links.whenClosed(STOP_DEADLINE_MS);
  }

  /** Everything is confirmed and the link is up: a new batch would be sent at once. */
  get idle(): boolean {
    return this.#state.name === 'streaming' && this.#sender.drained;
  }

  /** Sends what was held back, and waits a little until it is confirmed. */
  async #leave(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<undefined>();
    const late = setTimeout(() => resolve(undefined), LEAVE_WITHIN_MS);
    this.#left = () => resolve(undefined);
    this.#isLeaving = true;
    this.#guarded(() => this.#sender.pump());
    await promise;
    clearTimeout(late);
  }

  /**
   * Nothing is held back: `sync` or a request of the head office waits for what the branch has, or the link is about to
   * close.
   */
  get isAwaited(): boolean {
    if (this.#isLeaving) return true;
    if (this.#closesAt !== null && this.#o.now() >= this.#closesAt - LAST_STRETCH_MS) return true;
    return this.#syncs.size > 0 || (this.#answers.last?.requests.length ?? 0) > 0;
  }

  /** Whether the head office is known to read slim batches, so that small ones may be spooled as text. */
  get packs(): boolean {
    return this.#packing.isUnderstood;
  }

  status(): ForwarderStatus {
    const policy = linkState(this.#o.policy, this.#o.now());
    return {
      state: this.#state.name,
      since: this.#state.since,
      error: this.#faults.description,
      fault: this.#faults.fault,
      connected: this.#state.isConnected,
      blocked: this.#links.blocked,
      windowOpen: policy.open,
      windowChangesAt: policy.changesAt,
      syncing: this.#syncs.size > 0,
      confirmed: this.#sender.confirmed,
      holding: this.#sender.isHolding,
      inFlightBatches: this.#sender.inFlightBatches,
      inFlightBytes: this.#sender.inFlightBytes,
      windowBytes: this.#sender.windowBytes,
      lastHelloAt: this.#hellos.lastHelloAt,
      lastAnswerAt: this.#hellos.lastAnswerAt,
      lastAnswer: this.#answers.last,
      duplicateSince: this.#answers.duplicateSince,
      counters: { ...this.#counters },
    };
  }

  /**
   * Opens the link, also outside the windows, until the head office has received everything in the spool.
   * @throws the signal's reason, SYNC_STALLED, EPOCH_SUPERSEDED, DAEMON_UNREACHABLE (stopped), or an error of the spool
   */
  async sync(onProgress: (progress: SyncProgress) => void, options: SyncOptions = {}): Promise<void> {
    if (this.#state.hasEnded) {
      const code = this.#state.name === 'superseded' ? 'EPOCH_SUPERSEDED' : 'DAEMON_UNREACHABLE';
      throw new TributaryError(code, `The forwarder is ${this.#state.name}.`);
    }
    try {
      await this.#syncs.wait(onProgress, options, () => this.#guarded(() => this.#beginSync()));
    } finally {
      // Outside the windows the link closes again now.
      this.#guarded(() => this.#watchWindow());
    }
  }

  // -------------------------------------------------------------------------------------------------------------
  // States

  /** The one place where the state changes. */
  #enter(state: ForwarderState, why: string): void {
    this.#state.enter(state, why, this.#o.now(), this.#faults.isLogged);
    this.#sender.isEnabled = state === 'streaming';
    this.#timers.clear('retry');
    // This also gives up an attempt that is under way.
    if (!this.#state.isConnected && this.#links.drop()) {
      this.#sender.detach();
      this.#hellos.detach();
    }
    if (this.#state.hasEnded) {
      this.#timers.clearAll();
      this.#stopListening();
    }
    this.#reportProgress();
    this.#reportIdle();
  }

  /** Connects if the policy allows it now. */
  #resume(): void {
    if (this.#mayConnect()) this.#connect();
    else this.#enter('closed', 'It is outside the link windows.');
  }

  #mayConnect(): boolean {
    return this.#syncs.size > 0 || linkState(this.#o.policy, this.#o.now()).open;
  }

  #watchWindow(): void {
    if (this.#state.hasEnded) return;
    const { changesAt, open: isOpen } = linkState(this.#o.policy, this.#o.now());
    this.#closesAt = isOpen ? changesAt : null;
    if (changesAt === null) this.#timers.clear('window');
    else {
      const waitMs = Math.min(changesAt - this.#o.now(), CHECK_WINDOWS_MS);
      this.#timers.set('window', waitMs, () => this.#guarded(() => this.#watchWindow()));
    }
    const open = this.#mayConnect();
    if (open && this.#state.name === 'closed') this.#connect();
    if (!open && this.#state.name !== 'closed') this.#enter('closed', 'The link window has closed.');
  }

  #connect(): void {
    const { failures } = this.#faults;
    this.#enter('connecting', failures === 0 ? 'The link may be used.' : `This is attempt ${failures + 1}.`);
    this.#links.open();
  }

  #connected(link: ForwardLink): void {
    this.#sender.attach(link);
    this.#hellos.attach(link);
    const { acknowledgedEpoch, epoch } = this.#o.spool.stream();
    // If the head office has acknowledged this epoch once, its batches may be sent without asking again. A batch of
    // another epoch does no harm, because a batch never registers an epoch.
    this.#enter(acknowledgedEpoch === epoch ? 'streaming' : 'greeting', 'The link is up.');
    this.#hellos.sayHello();
    this.#sender.pump();
  }

  /** The link is or may be broken: drop it, rewind, and try again later. */
  #fault(error: unknown): void {
    if (this.#state.hasEnded || this.#state.name === 'backing-off') return;
    this.#faults.note(error);
    const waitMs = this.#faults.failed(isUnreachable(error) ? 'unreachable' : 'failed', this.#o.random());
    this.#enter('backing-off', describeError(error));
    this.#timers.set('retry', waitMs, () => this.#guarded(() => this.#resume()));
  }

  /** The queue is full. Confirms and refusals come in any order, so everything is sent again from the lowest on. */
  #refused(error: TributaryError): void {
    this.#faults.note(error);
    this.#rewind();
    this.#sender.probe();
    this.#enter('refused', describeError(error));
    const waitMs = this.#faults.failed('failed', this.#o.random());
    this.#timers.set('retry', waitMs, () =>
      this.#guarded(() => {
        this.#enter('streaming', 'The forwarder tries one batch.');
        this.#sender.pump();
      }),
    );
  }

  #superseded(): void {
    const { branch } = this.#o.spool.stream();
    const message = `Another machine, or a newer life of this one, is ${branch} now. This one has stopped for good.`;
    this.#end('superseded', new TributaryError('EPOCH_SUPERSEDED', message));
  }

  #end(state: 'superseded' | 'failed', error: TributaryError): void {
    if (this.#state.name === 'superseded' || this.#state.name === 'failed') return;
    this.#faults.note(error);
    this.#enter(state, describeError(error));
    this.#syncs.fail(error);
    this.#o.events.onStopped(error);
  }

  /** Runs what an event has caused. An error of the spool or of this program ends the forwarder for good. */
  #guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      const fault =
        error instanceof TributaryError
          ? error
          : new TributaryError('INTERNAL', `The forwarder failed: ${describeError(error)}`, { cause: error });
      // The spool could not store what an answer said. The disk may have room when the next one comes.
      if (fault.code === 'SPOOL_FULL' && this.#state.isConnected) this.#fault(fault);
      else this.#end('failed', fault);
    }
  }

  // -------------------------------------------------------------------------------------------------------------
  // Events of the spool, the sender and the head office

  /** The spool's head has moved, or it has begun a new epoch. */
  #appended(): void {
    const stream = this.#o.spool.stream();
    if (stream.epoch === this.#sender.epoch) {
      this.#sender.pump();
      return;
    }
    this.#sender.restart(stream);
    this.#hellos.voidAnswers();
    if (!this.#state.isConnected) return;
    this.#enter('greeting', 'A new epoch has begun.');
    this.#hellos.restart();
  }

  #confirmed(): void {
    this.#faults.cleared();
    if (this.#sender.confirmed !== this.#o.spool.stream().head.seq) return;
    if (this.#syncs.size > 0) this.#hellos.helloSoon();
    // Where changes may be old, so may what is known of them.
    else if (this.#freshnessMs === 0 || this.#packing.isOffering) this.#hellos.allConfirmed();
  }

  /** Whether an answer would move something: batches, a request, `sync`, or a second machine to be told from this one. */
  #awaitsAnswer(): boolean {
    const { last } = this.#answers;
    const { receivedSeq, head } = this.#o.spool.stream();
    // What the broker has confirmed is told of at the usual pace where changes may be old.
    const isTold = receivedSeq >= head.seq || (this.#freshnessMs > 0 && this.#sender.inFlightBatches === 0);
    const settled = this.#state.name === 'streaming' && this.#syncs.size === 0 && isTold;
    if (!settled || this.#packing.isOffering || last === null || last.displaced || last.requests.length > 0)
      return true;
    // What is still in the queue: the head office could not judge yet what is lost.
    if (last.queued > 0) return true;
    // An older head office wants one every few seconds, and wakes nobody.
    return last.capabilities?.includes(KNOWS_PACE) !== true;
  }

  #rewind(): void {
    this.#sender.rewind();
    this.#hellos.voidAnswers();
  }

  /** @returns whether the answer is to a hello of this process */
  #answered(body: Buffer): boolean {
    let isOwn = true;
    this.#guarded(() => {
      const received = this.#hellos.receive(body);
      isOwn = received.kind !== 'foreign';
      if (!isOwn) return;
      if (received.kind === 'answer') {
        this.#answers.act(received.answer);
        this.#reportProgress();
        this.#sender.pump();
      } else if (received.kind === 'ignored' && received.error !== null) {
        this.#faults.note(received.error);
      }
      this.#hellos.answered();
      // Somebody waits for the head office to catch up.
      if (this.#syncs.size > 0 && this.#sender.inFlightBatches === 0) this.#hellos.helloSoon();
    });
    return isOwn;
  }

  // -------------------------------------------------------------------------------------------------------------
  // Sync, idleness, housekeeping

  #beginSync(): void {
    this.#reportProgress();
    if (this.#state.name === 'backing-off') this.#timers.set('retry', 0, () => this.#guarded(() => this.#resume()));
    else this.#watchWindow();
    this.#hellos.helloSoon();
    // What is held back does not wait for an answer to that.
    this.#sender.pump();
  }

  #reportProgress(): void {
    if (this.#syncs.size === 0 || this.#state.hasEnded) {
      this.#timers.clear('progress');
      return;
    }
    const { waitingBatches, waitingBytes } = this.#o.spool.usage();
    const { confirmedBytes } = this.#counters;
    const progress = { waitingBatches, waitingBytes, confirmedBytes, obstacle: this.#obstacle() };
    this.#syncs.report(progress, this.#o.now());
    this.#timers.set('progress', PROGRESS_MS, () => this.#guarded(() => this.#reportProgress()));
  }

  /** Why not everything is at the head office. */
  #obstacle(): string {
    const halted = this.#answers.last?.halted ?? null;
    if (this.#faults.description !== null) return this.#faults.description;
    if (halted !== null) return `The head office has halted this branch: ${halted.code}: ${halted.reason}`;
    if (this.#links.blocked)
      return 'The broker has an alarm and takes no messages: it is short of memory or disk space.';
    if (this.#state.name === 'streaming' && this.#sender.drained) {
      return 'The broker has everything, and the head office has not confirmed it: check that an applier is running there.';
    }
    return `The link is ${this.#state.name}.`;
  }

  #reportIdle(): void {
    const { idle } = this;
    const fresh = idle && !this.#wasIdle;
    this.#wasIdle = idle;
    if (idle || this.#state.name !== 'streaming') this.#left();
    if (fresh) this.#o.events.onIdle();
  }

  #maintain(): void {
    const waitMs = this.#o.spool.maintain() ? MAINTAIN_BUSY_MS : MAINTAIN_IDLE_MS;
    this.#timers.set('maintain', waitMs, () => this.#guarded(() => this.#maintain()));
  }
}
