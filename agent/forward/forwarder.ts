/**
 * Carries the spool's closed batches to the broker, in order, with confirms, inside the link policy; says hello and
 * acts on answers as shared/protocol.ts judges them. A confirm is not an application: only an answer's `received`
 * lets the spool forget.
 *
 * States, and what moves between them (only `#enter` does):
 *
 *   stopped ──start──▶ closed | connecting
 *   closed        outside the windows                        ──window opens, or sync──▶ connecting
 *   connecting    one attempt at both connections            ──▶ greeting | streaming | backing-off
 *   greeting      connected; nothing is sent, because the head office has not yet said that this epoch is current
 *                                                            ──current answer──▶ streaming
 *   streaming     batches leave as the window allows         ──other epoch, new epoch──▶ greeting
 *   refused       the broker nacked: wait, then try with one batch, on the same connection ──▶ streaming
 *   backing-off   after any fault                            ──▶ connecting
 *   superseded    a newer life of this branch is valid; for good
 *   failed        the spool failed: the process must end
 *
 * Every connected state falls to backing-off when the link breaks or stalls, and to closed when the window closes.
 *
 * Invariants: `confirmed` is contiguous and goes back on a rewind; each rewind raises the answers' barrier; nothing of
 * an open group is sent; at most one hello is outstanding.
 */
import { nobodyReached } from '../../shared/broker/amqp.ts';
import { assert, describeError, ERRORS, TributaryError } from '../../shared/errors.ts';
import type { Answer } from '../../shared/protocol.ts';
import { decide } from './answer-decision.ts';
import type { AnswerOwner, ForwardLink } from './broker-link.ts';
import { freshCounters } from './forwarder-types.ts';
import type { ForwarderOptions, ForwarderState, ForwarderStatus, SyncProgress } from './forwarder-types.ts';
import { HelloLoop } from './hello-loop.ts';
import { linkState } from '../../shared/config/link-schedule.ts';
import { BACK_OFFS } from './rate-limit.ts';
import { LinkHolder } from './link-holder.ts';
import { LinkFaults } from './link-faults.ts';
import { Sender } from './sender.ts';
import { Syncs } from './syncs.ts';
import type { SyncOptions } from './syncs.ts';
import { Timers } from './timers.ts';
import { DuplicateIdentityWatch } from './duplicate-identity.ts';

export type * from './forwarder-types.ts';

/** Between two slices of the spool's housekeeping while there is more to do, and when there is none. */
const MAINTAIN_BUSY_MS = 10;
const MAINTAIN_IDLE_MS = 5_000;
/** The windows are looked at anew so often, lest a clock that was set, or a machine that slept, puts them off. */
const LOOK_AT_WINDOWS_MS = 60_000;
/** Those who wait in `sync` are told so often. */
const PROGRESS_MS = 1_000;
/** A head office whose epoch changes is asked again at once, but not more often than this. */
const CLAIM_SPACING_MS = 2_000;
/** How long `stop` waits for links to close. */
const STOP_DEADLINE_MS = 5_000;

const CONNECTED: readonly ForwarderState[] = ['greeting', 'streaming', 'refused'];
const ENDED: readonly ForwarderState[] = ['stopped', 'superseded', 'failed'];

export class Forwarder {
  readonly #o: ForwarderOptions;
  readonly #hellos: HelloLoop;
  readonly #links: LinkHolder;
  readonly #sender: Sender;
  readonly #timers = new Timers<'retry' | 'window' | 'maintain' | 'progress'>();
  readonly #syncs = new Syncs();
  readonly #counters = freshCounters();
  readonly #duplicates = new DuplicateIdentityWatch();
  readonly #faults: LinkFaults;
  #state: ForwarderState = 'stopped';
  #since: number;
  #lastAnswer: Answer | null = null;
  #claimedAt = -Infinity;
  #wasIdle = false;
  #stopListening: () => void = () => undefined;

  constructor(options: ForwarderOptions) {
    this.#o = options;
    this.#faults = new LinkFaults(options.backOffs ?? BACK_OFFS);
    this.#since = options.now();
    this.#sender = new Sender({
      spool: options.spool,
      counters: this.#counters,
      maxBytesPerSecond: options.policy.maxBytesPerSecond,
      stallMs: options.stallMs ?? 30_000,
      windowBytes: options.windowBytes ?? 4 * 1024 * 1024,
      windowMessages: options.windowMessages ?? 256,
      now: options.now,
      host: {
        guarded: work => this.#guarded(work),
        maySend: () => this.#state === 'streaming',
        onConfirmed: () => this.#confirmed(),
        onRefused: error => this.#refused(error),
        onFault: error => this.#fault(error),
        onPumped: () => this.#tellIdle(),
      },
    });
    this.#hellos = new HelloLoop({
      counters: this.#counters,
      helloMs: options.helloMs ?? 5_000,
      helloTimeoutMs: options.helloTimeoutMs ?? 20_000,
      now: options.now,
      random: options.random,
      host: {
        guarded: work => this.#guarded(work),
        stream: () => options.spool.stream(),
        confirmed: () => this.#sender.confirmed,
        facts: () => options.facts(),
        patienceMs: () => this.#sender.patienceMs(),
        impatient: () => this.#syncs.size > 0 && this.#sender.inFlightBatches === 0,
        onAnswer: answer => this.#act(answer),
        onFault: error => this.#fault(error),
        onUnreadable: error => this.#faults.note(error),
      },
    });
    this.#links = new LinkHolder(options.connect, {
      onOpen: link => this.#guarded(() => this.#connected(link)),
      onOpenFailed: error => {
        this.#counters.failedConnections += 1;
        this.#guarded(() => this.#fault(error));
      },
      onAnswer: body => this.#answered(body),
      onLost: error => this.#guarded(() => this.#fault(error)),
    });
  }

  start(): void {
    assert(this.#state === 'stopped', 'the forwarder was started twice');
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
      this.#watchWindow();
      this.#resume();
    });
  }

  /** Nothing is lost by it: what was on its way is sent again by the next start unless an answer says it arrived. */
  async stop(): Promise<void> {
    if (!ENDED.includes(this.#state)) this.#enter('stopped', 'stopping');
    const stopped = new TributaryError('DAEMON_UNREACHABLE', 'The forwarder was stopped.');
    this.#syncs.fail(stopped);
    await this.#links.settled(STOP_DEADLINE_MS);
  }

  /** Nothing is unconfirmed and the link is up: a fresh batch would leave at once. */
  get idle(): boolean {
    return this.#state === 'streaming' && this.#sender.drained;
  }

  status(): ForwarderStatus {
    const policy = linkState(this.#o.policy, this.#o.now());
    return {
      state: this.#state,
      since: this.#since,
      error: this.#faults.description,
      fault: this.#faults.fault,
      connected: CONNECTED.includes(this.#state),
      blocked: this.#links.blocked,
      windowOpen: policy.open,
      windowChangesAt: policy.changesAt,
      syncing: this.#syncs.size > 0,
      confirmed: this.#sender.confirmed,
      inFlightBatches: this.#sender.inFlightBatches,
      inFlightBytes: this.#sender.inFlightBytes,
      windowBytes: this.#sender.windowBytes,
      lastHelloAt: this.#hellos.lastHelloAt,
      lastAnswerAt: this.#hellos.lastAnswerAt,
      lastAnswer: this.#lastAnswer,
      twinSince: this.#duplicates.since(this.#o.now()),
      counters: { ...this.#counters },
    };
  }

  /**
   * Opens the link, whatever the windows say, until the head office has received everything in the spool.
   * @throws the signal's reason, SYNC_STALLED, EPOCH_SUPERSEDED, DAEMON_UNREACHABLE (stopped), or a fault of the spool
   */
  async sync(onProgress: (progress: SyncProgress) => void, options: SyncOptions = {}): Promise<void> {
    if (ENDED.includes(this.#state)) {
      const code = this.#state === 'superseded' ? 'EPOCH_SUPERSEDED' : 'DAEMON_UNREACHABLE';
      throw new TributaryError(code, `The forwarder is ${this.#state}.`);
    }
    try {
      await this.#syncs.wait(onProgress, options, () => this.#guarded(() => this.#beginSync()));
    } finally {
      // The link closes again now if the windows say so.
      if (!ENDED.includes(this.#state)) this.#guarded(() => this.#watchWindow());
    }
  }

  // -------------------------------------------------------------------------------------------------------------
  // States

  /** The one place where the state changes. */
  #enter(state: ForwarderState, why: string): void {
    const before = this.#state;
    this.#state = state;
    this.#since = this.#o.now();
    this.#timers.clear('retry');
    // An attempt under way is given up as well.
    if (!CONNECTED.includes(state) && this.#links.drop()) {
      this.#sender.detach();
      this.#hellos.detach();
    }
    if (ENDED.includes(state)) {
      this.#timers.clearAll();
      this.#stopListening();
    }
    this.#logChange({ from: before, to: state, why });
    this.#reportProgress();
    this.#tellIdle();
  }

  #logChange(change: { readonly from: ForwarderState; readonly to: ForwarderState; readonly why: string }): void {
    const { to } = change;
    const trying = to === 'connecting' || to === 'backing-off';
    if (trying && !this.#faults.isTold) return;
    if (to === 'backing-off' || to === 'refused' || to === 'failed') this.#o.log.warn(change, 'link');
    else this.#o.log.info(change, 'link');
  }

  /** To whatever the policy allows now. */
  #resume(): void {
    if (this.#mayConnect()) this.#connect();
    else this.#enter('closed', 'outside the link windows');
  }

  #mayConnect(): boolean {
    return this.#syncs.size > 0 || linkState(this.#o.policy, this.#o.now()).open;
  }

  #watchWindow(): void {
    const { changesAt } = linkState(this.#o.policy, this.#o.now());
    if (changesAt === null) this.#timers.clear('window');
    else {
      const waitMs = Math.min(changesAt - this.#o.now(), LOOK_AT_WINDOWS_MS);
      this.#timers.set('window', waitMs, () => this.#guarded(() => this.#watchWindow()));
    }
    const open = this.#mayConnect();
    if (open && this.#state === 'closed') this.#connect();
    if (!open && this.#state !== 'closed' && !ENDED.includes(this.#state)) {
      this.#enter('closed', 'the link window closed');
    }
  }

  #connect(): void {
    const { failures } = this.#faults;
    this.#enter('connecting', failures === 0 ? 'the link is open' : `attempt ${failures + 1}`);
    this.#links.open();
  }

  #connected(link: ForwardLink): void {
    this.#counters.connections += 1;
    this.#sender.attach(link);
    this.#hellos.attach(link);
    const { acknowledgedEpoch, epoch } = this.#o.spool.stream();
    // An epoch that the head office has acknowledged once may be sent without asking again; a batch that it does not
    // want does no harm, because a batch never registers an epoch.
    this.#enter(acknowledgedEpoch === epoch ? 'streaming' : 'greeting', 'connected');
    this.#hellos.sayHello();
    this.#sender.pump();
  }

  /** Any doubt about the link: drop it, rewind, and try again later. */
  #fault(error: unknown): void {
    if (ENDED.includes(this.#state) || this.#state === 'backing-off') return;
    this.#faults.note(error);
    const waitMs = this.#faults.failed(nobodyReached(error) ? 'away' : 'failed', this.#o.random());
    this.#enter('backing-off', describeError(error));
    this.#timers.set('retry', waitMs, () => this.#guarded(() => this.#resume()));
  }

  /** The queue is full. Confirms and refusals come in any order, so everything from the lowest on is sent again. */
  #refused(error: TributaryError): void {
    this.#faults.note(error);
    this.#rewind();
    this.#sender.probe();
    this.#enter('refused', describeError(error));
    const waitMs = this.#faults.failed('failed', this.#o.random());
    this.#timers.set('retry', waitMs, () =>
      this.#guarded(() => {
        this.#enter('streaming', 'trying with one batch');
        this.#sender.pump();
      }),
    );
  }

  #superseded(): void {
    const { branch } = this.#o.spool.stream();
    const message = `Another machine, or a newer life of this one, speaks for ${branch} now; this one has stopped for good.`;
    this.#end('superseded', new TributaryError('EPOCH_SUPERSEDED', message));
  }

  #end(state: 'superseded' | 'failed', error: TributaryError): void {
    if (this.#state === 'superseded' || this.#state === 'failed') return;
    this.#faults.note(error);
    this.#enter(state, describeError(error));
    this.#syncs.fail(error);
    this.#o.events.onStopped(error);
  }

  /** Runs what an event brought. A fault of the spool, or of this program, ends the forwarder: nothing goes on after it. */
  #guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      const fault =
        error instanceof TributaryError
          ? error
          : new TributaryError('INTERNAL', `The forwarder failed: ${describeError(error)}`, { cause: error });
      // What an answer brought could not be stored: the disk may have room again by the next one.
      if (fault.code === 'SPOOL_FULL' && CONNECTED.includes(this.#state)) this.#fault(fault);
      else this.#end('failed', fault);
    }
  }

  // -------------------------------------------------------------------------------------------------------------
  // What the spool, the sender and the head office bring

  /** The spool's head has moved, or it has begun a new epoch. */
  #appended(): void {
    const stream = this.#o.spool.stream();
    if (stream.epoch === this.#sender.epoch) {
      this.#sender.pump();
      return;
    }
    this.#sender.restart(stream);
    this.#hellos.voidAnswers();
    if (!CONNECTED.includes(this.#state)) return;
    this.#enter('greeting', 'a new epoch began');
    this.#hellos.helloAnew();
  }

  #confirmed(): void {
    this.#faults.over();
    if (this.#sender.confirmed === this.#o.spool.stream().head.seq) this.#hellos.helloSoon();
  }

  #rewind(): void {
    this.#sender.rewind();
    this.#hellos.voidAnswers();
  }

  #answered(body: Buffer): AnswerOwner {
    let owner: AnswerOwner = 'own';
    this.#guarded(() => (owner = this.#hellos.answered(body)));
    return owner;
  }

  #act(answer: Answer): void {
    const { spool, events } = this.#o;
    if (this.#duplicates.answered(answer, this.#o.now())) {
      this.#o.log.warn({ code: 'IDENTITY_SHARED', hint: ERRORS.IDENTITY_SHARED.hint }, ERRORS.IDENTITY_SHARED.cause);
    }
    const before = spool.stream();
    const action = decide(spool, answer, this.#o.now());
    if (action.do === 'hold') {
      this.#counters.ignoredAnswers += 1;
      if (action.stop) this.#stopSending(action.error.message);
      this.#warn(action.error);
      return;
    }
    // A full queue is over when it takes a batch.
    if (this.#state === 'refused') this.#faults.succeeded();
    else this.#faults.over();
    this.#lastAnswer = answer;
    switch (action.do) {
      case 'ignore':
        this.#counters.ignoredAnswers += 1;
        return;
      case 'stop':
        spool.supersede();
        this.#superseded();
        return;
      case 'claim':
        spool.claim(action.acknowledgedEpoch);
        this.#stopSending('the head office has another epoch');
        // The same twice, or another already: somebody else claims too, or the head office is busy; no haste then.
        if (action.acknowledgedEpoch !== before.acknowledgedEpoch && this.#o.now() - this.#claimedAt > CLAIM_SPACING_MS)
          this.#hellos.sayHello();
        this.#claimedAt = this.#o.now();
        return;
      case 'new-epoch':
        this.#stopSending(`this spool is ${action.reason}`);
        // The spool tells through onAppend when it has begun the new epoch.
        events.onNewEpoch(action.reason);
        return;
      case 'advance':
        spool.advance(action.receivedSeq, before.epoch);
        this.#sender.received(action.receivedSeq);
        if (action.resend !== null) {
          this.#sender.resend(action.resend);
          this.#hellos.voidAnswers();
        }
        if (this.#state === 'greeting') {
          this.#sender.restart(spool.stream());
          this.#enter('streaming', 'the head office knows this epoch');
        }
        events.onAnswer(answer);
        this.#reportProgress();
        this.#sender.pump();
    }
  }

  /** Until an answer says that this epoch is the head office's. */
  #stopSending(why: string): void {
    this.#rewind();
    if (this.#state !== 'greeting') this.#enter('greeting', why);
  }

  /** Notes what is wrong with an answer; told once in a row. */
  #warn(error: TributaryError): void {
    const told = this.#faults.description === describeError(error);
    this.#faults.note(error);
    if (!told) this.#o.log.warn({ code: error.code, hint: error.hint }, error.message);
  }

  // -------------------------------------------------------------------------------------------------------------
  // Sync, idleness, housekeeping

  #beginSync(): void {
    this.#reportProgress();
    if (this.#state === 'backing-off') this.#timers.set('retry', 0, () => this.#guarded(() => this.#resume()));
    else this.#watchWindow();
    this.#hellos.helloSoon();
  }

  #reportProgress(): void {
    if (this.#syncs.size === 0 || ENDED.includes(this.#state)) {
      this.#timers.clear('progress');
      return;
    }
    const { waitingBatches, waitingBytes } = this.#o.spool.usage();
    const { confirmedBytes } = this.#counters;
    const progress = { waitingBatches, waitingBytes, confirmedBytes, hindrance: this.#hindrance() };
    this.#syncs.report(progress, this.#o.now());
    this.#timers.set('progress', PROGRESS_MS, () => this.#guarded(() => this.#reportProgress()));
  }

  /** Why not everything is at the head office. */
  #hindrance(): string {
    const halted = this.#lastAnswer?.halted ?? null;
    if (this.#faults.description !== null) return this.#faults.description;
    if (halted !== null) return `The head office has halted this branch: ${halted.code}: ${halted.reason}`;
    if (this.#links.blocked) return 'The broker has an alarm and takes nothing: it is short of memory or disk.';
    if (this.#state === 'streaming' && this.#sender.drained) {
      return 'The broker has all of it, and the head office has not said that it took it: is its applier running?';
    }
    return `The link is ${this.#state}.`;
  }

  #tellIdle(): void {
    const { idle } = this;
    const fresh = idle && !this.#wasIdle;
    this.#wasIdle = idle;
    if (fresh) this.#o.events.onIdle();
  }

  #maintain(): void {
    const waitMs = this.#o.spool.maintain() ? MAINTAIN_BUSY_MS : MAINTAIN_IDLE_MS;
    this.#timers.set('maintain', waitMs, () => this.#guarded(() => this.#maintain()));
  }
}
