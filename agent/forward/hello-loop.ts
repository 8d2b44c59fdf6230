/**
 * Says hello over the present link, as often as it is of use (hello-pace.ts) and on request, and reads the answers.
 *
 * Invariant: at most one hello is outstanding. A hello that was requested meanwhile follows the answer.
 */
import { helloMessage } from '../../shared/broker/amqp.ts';
import { describeError, TributaryError } from '../../shared/errors.ts';
import type { Answer } from '../../shared/protocol.ts';
import type { Spool } from '../spool/spool.ts';
import type { ForwardLink } from './broker-link.ts';
import type { ForwarderCounters, ForwarderHost } from './forwarder-types.ts';
import { HelloExchange } from './hello.ts';
import type { HelloFacts } from './hello.ts';
import { HelloCredit, longestSeconds, newsOf, soonMs, withJitter } from './hello-pace.ts';
import type { Packing } from './packing.ts';
import type { Sender } from './sender.ts';
import { Timers } from './timers.ts';

export interface HelloLoopOptions {
  readonly spool: Pick<Spool, 'stream'>;
  readonly sender: Sender;
  readonly packing: Pick<Packing, 'unanswered'>;
  /** What the rest of the agent knows; called at each hello. */
  readonly facts: () => HelloFacts;
  readonly counters: ForwarderCounters;
  /** Whether an answer would move something. */
  readonly isAwaited: () => boolean;
  /** Between hellos while an answer is awaited, and otherwise. */
  readonly helloMs: number;
  readonly idleHelloMs: number;
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
  /** `look`: whether a hello is needed. `hello`: one that was brought forward. */
  readonly #timers = new Timers<'look' | 'hello'>();
  readonly #credit = new HelloCredit();
  #link: ForwardLink | null = null;
  #wanted = false;
  #lastHelloAt: number | null = null;
  /** What the last hello said, and when the next one is due even if nothing has changed. */
  #said = '';
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
    const { spool, sender, packing, facts, host, now, random, idleHelloMs, helloTimeoutMs, counters } = this.#o;
    this.#timers.clear('hello');
    this.#dueAt = now() + withJitter(idleHelloMs, random());
    this.#lookLater();
    this.#wanted = link.blocked || !this.#exchange.maySend(now(), helloTimeoutMs);
    if (this.#wanted) return;
    // It has timed out.
    if (this.#exchange.isOutstanding) packing.unanswered();
    const said = facts();
    const { base } = this.#exchange;
    this.#said = newsOf(said);
    const hello = this.#exchange.issue(spool.stream(), sender.confirmed, said, {
      now: now(),
      nextWithinSeconds: longestSeconds(idleHelloMs),
    });
    this.#lastHelloAt = now();
    counters.hellos += 1;
    void link.send(helloMessage(hello, base), sender.timeoutMs()).then(outcome =>
      host.guarded(() => {
        if (link === this.#link && outcome.outcome !== 'confirmed') host.linkFailed(outcome.error);
      }),
    );
  }

  /** Brings the next hello forward, because somebody waits for it. */
  helloSoon(): void {
    const { host, now } = this.#o;
    // It never delays it, however often it is called: a busy branch calls at each batch.
    if (this.#link === null || this.#timers.has('hello')) return;
    const waitMs = soonMs(now() - (this.#lastHelloAt ?? -Infinity));
    this.#timers.set('hello', waitMs, () => host.guarded(() => this.sayHello()));
  }

  /** The broker has confirmed everything: a hello follows, as long as there is credit. */
  allConfirmed(): void {
    if (!this.#timers.has('hello') && this.#credit.take(this.#o.now())) this.helloSoon();
  }

  #lookLater(): void {
    const { host, now, random, helloMs } = this.#o;
    const waitMs = Math.min(withJitter(helloMs, random()), this.#dueAt - now());
    this.#timers.set('look', waitMs, () => host.guarded(() => this.#look()));
  }

  #look(): void {
    if (this.#isNeeded()) this.sayHello();
    else this.#lookLater();
  }

  #isNeeded(): boolean {
    const { now, isAwaited, facts } = this.#o;
    const at = now();
    // Before the last hello: the clock was set back, and the next one would be due long after it was announced.
    if (at >= this.#dueAt || at < (this.#lastHelloAt ?? 0)) return true;
    // Wanted: an alarm at the broker, or a hello without an answer, kept it from being said.
    return this.#wanted || this.#exchange.isOutstanding || isAwaited() || newsOf(facts()) !== this.#said;
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
    let answer: Answer | null;
    try {
      answer = this.#exchange.read(body);
    } catch (error) {
      return { kind: 'ignored', error: new TributaryError('MESSAGE_INVALID', describeError(error)) };
    }
    if (answer === null) return { kind: 'foreign' };
    // It arrives before the link is attached, so it answers a hello of an earlier link: nothing is lost.
    if (this.#link === null) return { kind: 'ignored', error: null };
    this.#o.counters.answers += 1;
    this.#lastAnswerAt = this.#o.now();
    return this.#exchange.accept(answer) ? { kind: 'answer', answer } : { kind: 'ignored', error: null };
  }
}
