/**
 * Says hello over the present link, at intervals and on request, and reads the answers.
 *
 * Invariant: at most one hello is outstanding. A hello that was requested meanwhile follows the answer.
 */
import { helloMessage, readAnswer } from '../../shared/broker/amqp.ts';
import { describeError, TributaryError } from '../../shared/errors.ts';
import type { Answer } from '../../shared/protocol.ts';
import type { Spool } from '../spool/spool.ts';
import type { ForwardLink } from './broker-link.ts';
import type { ForwarderCounters, ForwarderHost } from './forwarder-types.ts';
import { HelloExchange } from './hello.ts';
import type { HelloFacts } from './hello.ts';
import type { Sender } from './sender.ts';
import { Timers } from './timers.ts';

/** After the last batch was confirmed, a hello follows soon, so that the spool is pruned promptly. */
const PROMPT_HELLO_MS = 200;
/** The shortest time between such hellos. */
const PROMPT_HELLO_SPACING_MS = 1_000;

/**
 * A hello is earlier or later by up to this part of the interval. The applier gets only the newest hello of a branch,
 * so of two machines with one identity that send in step it would never hear one.
 */
const JITTER = 0.25;

export interface HelloLoopOptions {
  readonly spool: Pick<Spool, 'stream'>;
  readonly sender: Sender;
  /** What the rest of the agent knows; called at each hello. */
  readonly facts: () => HelloFacts;
  readonly counters: ForwarderCounters;
  readonly helloMs: number;
  readonly helloTimeoutMs: number;
  readonly now: () => number;
  /** In [0, 1). */
  readonly random: () => number;
  readonly host: ForwarderHost;
}

/**
 * `foreign`: it is to a hello of another process; `ignored`: it is out of date, or `error` says why it is unreadable.
 */
export type ReceivedAnswer =
  | { readonly kind: 'answer'; readonly answer: Answer }
  | { readonly kind: 'foreign' }
  | { readonly kind: 'ignored'; readonly error: TributaryError | null };

export class HelloLoop {
  readonly #o: HelloLoopOptions;
  readonly #exchange = new HelloExchange();
  readonly #timers = new Timers<'hello'>();
  #link: ForwardLink | null = null;
  #wanted = false;
  #lastHelloAt: number | null = null;
  /** When the next hello is due. */
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

  /** After a rewind, a new epoch or a start, the answers to all hellos until now are out of date. */
  voidAnswers(): void {
    this.#exchange.raiseBarrier();
  }

  /** Says hello now. It does not wait for the answer to the last hello, which would be out of date. */
  restart(): void {
    this.voidAnswers();
    this.#exchange.forgetOutstanding();
    this.sayHello();
  }

  /** Says hello if none is outstanding, and sets the time of the next one. */
  sayHello(): void {
    const link = this.#link;
    if (link === null) return;
    const { spool, sender, facts, host, now, helloMs, helloTimeoutMs, counters } = this.#o;
    this.#schedule(helloMs * (1 - JITTER + 2 * JITTER * this.#o.random()));
    this.#wanted = link.blocked || !this.#exchange.maySend(now(), helloTimeoutMs);
    if (this.#wanted) return;
    const hello = this.#exchange.issue(spool.stream(), sender.confirmed, facts(), now());
    this.#lastHelloAt = now();
    counters.hellos += 1;
    void link.send(helloMessage(hello), 2 * sender.timeoutMs()).then(outcome =>
      host.guarded(() => {
        if (link === this.#link && outcome.outcome !== 'confirmed') host.linkFailed(outcome.error);
      }),
    );
  }

  /**
   * Brings the next hello forward. It never delays it, however often it is called: a busy branch calls at each batch.
   */
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

  /** Reads an answer. The caller acts on it and then calls `answered`. */
  receive(body: Buffer): ReceivedAnswer {
    const received = this.#read(body);
    if (received.kind === 'ignored') this.#o.counters.ignoredAnswers += 1;
    return received;
  }

  /** An answer was acted on: a hello that was requested meanwhile follows soon. */
  answered(): void {
    if (this.#wanted) this.helloSoon();
  }

  #read(body: Buffer): ReceivedAnswer {
    let answer: Answer;
    try {
      answer = readAnswer(body);
    } catch (error) {
      return { kind: 'ignored', error: new TributaryError('MESSAGE_INVALID', describeError(error)) };
    }
    if (!this.#exchange.owns(answer)) return { kind: 'foreign' };
    // It arrives before the link is attached, so it answers a hello of an earlier link: nothing is lost.
    if (this.#link === null) return { kind: 'ignored', error: null };
    this.#o.counters.answers += 1;
    this.#lastAnswerAt = this.#o.now();
    return this.#exchange.accept(answer) ? { kind: 'answer', answer } : { kind: 'ignored', error: null };
  }
}
