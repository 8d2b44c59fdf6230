/**
 * Says hello over the link that it is given, on time and when asked, and hands on the answers that may be acted on.
 *
 * Invariant: at most one hello is outstanding; one that was wanted meanwhile follows the answer.
 */
import { helloMessage, readAnswer } from '../../shared/broker/amqp.ts';
import { describeError, TributaryError } from '../../shared/errors.ts';
import type { AgentStream, Answer } from '../../shared/protocol.ts';
import type { AnswerOwner, ForwardLink } from './broker-link.ts';
import type { ForwarderCounters } from './forwarder-types.ts';
import { HelloExchange } from './hello.ts';
import type { HelloFacts } from './hello.ts';
import { Timers } from './timers.ts';

/** After the last batch was confirmed, a hello follows soon, so that the spool is pruned promptly … */
const PROMPT_HELLO_MS = 200;
/** … but not oftener than this. */
const PROMPT_HELLO_SPACING_MS = 1_000;

/**
 * Hellos are this part of their interval earlier or later. The applier hears the newest hello of a branch only; two
 * machines with one identity that greeted in step would drown each other's out for ever.
 */
const JITTER = 0.25;

export interface HelloLoopOptions {
  readonly counters: ForwarderCounters;
  readonly helloMs: number;
  readonly helloTimeoutMs: number;
  readonly now: () => number;
  /** In [0, 1). */
  readonly random: () => number;
  readonly host: HelloLoopHost;
}

export interface HelloLoopHost {
  /** Runs what an event brought; a throw ends the forwarder. */
  guarded(work: () => void): void;
  stream(): AgentStream;
  confirmed(): number;
  facts(): HelloFacts;
  /** How long something may take that waits behind all that is on its way. */
  patienceMs(): number;
  /** More is to be learnt soon: somebody waits for the head office to catch up. */
  impatient(): boolean;
  onAnswer(answer: Answer): void;
  onFault(error: TributaryError): void;
  /** An answer that cannot be read: shown, and the next may be sound. */
  onUnreadable(error: TributaryError): void;
}

export class HelloLoop {
  readonly #o: HelloLoopOptions;
  readonly #exchange = new HelloExchange();
  readonly #timers = new Timers<'hello'>();
  #link: ForwardLink | null = null;
  #wanted = false;
  #lastHelloAt: number | null = null;
  /** When the next hello is set for. */
  #dueAt = 0;
  #lastAnswerAt: number | null = null;

  constructor(options: HelloLoopOptions) {
    this.#o = options;
  }

  get lastHelloAt(): number | null {
    return this.#lastHelloAt;
  }

  get lastAnswerAt(): number | null {
    return this.#lastAnswerAt;
  }

  attach(link: ForwardLink): void {
    this.#link = link;
  }

  detach(): void {
    this.#link = null;
    this.#timers.clearAll();
    this.voidAnswers();
    this.#exchange.forgetOutstanding();
  }

  /** A rewind, a new epoch, a start: answers to hellos until now are out of date. */
  voidAnswers(): void {
    this.#exchange.raiseBarrier();
  }

  /** The next hello need not wait for the answer to the last: it would be out of date. */
  helloAnew(): void {
    this.voidAnswers();
    this.#exchange.forgetOutstanding();
    this.sayHello();
  }

  /** Says hello if none is outstanding, and sets the time of the next one. */
  sayHello(): void {
    const link = this.#link;
    if (link === null) return;
    const { host, now, helloMs, helloTimeoutMs, counters } = this.#o;
    this.#schedule(helloMs * (1 - JITTER + 2 * JITTER * this.#o.random()));
    this.#wanted = link.blocked || !this.#exchange.free(now(), helloTimeoutMs);
    if (this.#wanted) return;
    const hello = this.#exchange.issue(host.stream(), host.confirmed(), host.facts(), now());
    this.#lastHelloAt = now();
    counters.hellos += 1;
    void link.send(helloMessage(hello), 2 * host.patienceMs()).then(outcome =>
      host.guarded(() => {
        if (link === this.#link && outcome.outcome !== 'confirmed') host.onFault(outcome.error);
      }),
    );
  }

  /** Brings the next hello forward; never puts it off, however often it is called: a busy branch calls at each batch. */
  helloSoon(): void {
    if (this.#link === null) return;
    const at = this.#o.now();
    const since = at - (this.#lastHelloAt ?? 0);
    const waitMs = Math.max(PROMPT_HELLO_MS, PROMPT_HELLO_SPACING_MS - since);
    if (at + waitMs < this.#dueAt) this.#schedule(waitMs);
  }

  #schedule(waitMs: number): void {
    const { host, now } = this.#o;
    this.#dueAt = now() + waitMs;
    this.#timers.set('hello', waitMs, () => host.guarded(() => this.sayHello()));
  }

  answered(body: Buffer): AnswerOwner {
    const { host, now, counters } = this.#o;
    let answer: Answer;
    try {
      answer = readAnswer(body);
    } catch (error) {
      counters.ignoredAnswers += 1;
      host.onUnreadable(new TributaryError('MESSAGE_INVALID', describeError(error)));
      return 'own';
    }
    if (!this.#exchange.owns(answer)) return 'foreign';
    // One that arrives before the link is handed over answers a hello of an earlier link: nothing is lost.
    if (this.#link === null) return 'own';
    counters.answers += 1;
    this.#lastAnswerAt = now();
    if (this.#exchange.accept(answer)) host.onAnswer(answer);
    else counters.ignoredAnswers += 1;
    if (this.#wanted || host.impatient()) this.helloSoon();
    return 'own';
  }
}
