/**
 * The agent's side of hello and answer: makes hellos, remembers the outstanding one, and decides which answers may be
 * acted on (HelloLedger of shared/protocol.ts). Sockets and clocks stay outside.
 *
 * Invariants: there is no new hello before the last one was answered or timed out, so a slow link carries one at a time.
 * A brief hello builds only on the hello before, and only if that one was answered: then the head office has it, and this
 * process has the answer, on which a brief answer builds.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { completedAnswer, readAnyAnswer, repliedTo } from '../../shared/broker/amqp.ts';
import { TributaryError } from '../../shared/errors.ts';
import { HelloLedger, KNOWS_BRIEF } from '../../shared/protocol.ts';
import type { AgentReport, AgentStream, Answer, Hello } from '../../shared/protocol.ts';

/** Enough that nobody guesses one, and few bytes. */
const NONCE_BYTES = 12;
/** Characters of the reason of an epoch. */
const MAX_REASON = 500;

/** What the rest of the agent knows; a hello reports it. */
export interface HelloFacts {
  /**
   * Everything committed at the branch until this time (ISO) is in batches up to the spool's head; null: not known yet.
   */
  readonly capturedThrough: string | null;
  /** Ask the head office for a comparison of all tables. */
  readonly compare?: boolean;
  /** Why the epoch began; null: not known. */
  readonly epochReason?: string | null;
  readonly report: AgentReport;
}

export class HelloExchange {
  readonly #instance = randomUUID();
  readonly #ledger = new HelloLedger();
  #outstanding: { readonly nonce: string; readonly sentAt: number } | null = null;
  /** The last hello, and the last answer, whether it was acted on or not. */
  #last: Hello | null = null;
  #lastAnswer: Answer | null = null;

  /** Whether the last hello has no answer yet. */
  get isOutstanding(): boolean {
    return this.#outstanding !== null;
  }

  /** Whether a hello may be sent now. */
  maySend(now: number, timeoutMs: number): boolean {
    if (this.#outstanding === null) return true;
    const elapsed = now - this.#outstanding.sentAt;
    // Negative: the clock was set back, and how long it was is not known.
    return elapsed < 0 || elapsed >= timeoutMs;
  }

  /** The last hello, if the next one may build on it. */
  get base(): Hello | null {
    const answer = this.#lastAnswer;
    if (answer === null || this.#last === null || answer.inReplyTo !== this.#last.nonce) return null;
    // Another machine that uses this identity has said something in between.
    return answer.capabilities?.includes(KNOWS_BRIEF) === true && !answer.displaced ? this.#last : null;
  }

  /** Makes the next hello, which is outstanding from now on. */
  issue(
    stream: AgentStream,
    confirmed: number,
    facts: HelloFacts,
    { now, nextWithinSeconds }: { readonly now: number; readonly nextWithinSeconds: number },
  ): Hello {
    const nonce = randomBytes(NONCE_BYTES).toString('base64url');
    this.#ledger.issue(nonce);
    this.#outstanding = { nonce, sentAt: now };
    const hello: Hello = {
      v: 1,
      branch: stream.branch,
      nonce,
      instance: this.#instance,
      epoch: stream.epoch,
      head: stream.head,
      baseSeq: stream.base.seq,
      confirmed,
      replaces: stream.acknowledgedEpoch,
      capturedThrough: facts.capturedThrough,
      sentAt: new Date(now).toISOString(),
      nextWithinSeconds,
      ...(facts.compare === true ? { compare: true } : {}),
      ...(facts.epochReason && stream.acknowledgedEpoch !== stream.epoch
        ? { epochReason: facts.epochReason.slice(0, MAX_REASON) }
        : {}),
      report: facts.report,
    };
    this.#last = hello;
    return hello;
  }

  /**
   * Reads an answer. It may be out of date.
   * @returns null: it is to a hello of another process
   * @throws TributaryError MESSAGE_INVALID
   */
  read(body: Buffer): Answer | null {
    const read = readAnyAnswer(body);
    if (!this.#ledger.issued(repliedTo(read) ?? '')) return null;
    if (!('since' in read)) return (this.#lastAnswer = read);
    const base = this.#lastAnswer;
    if (base === null || base.inReplyTo !== read.since) {
      throw new TributaryError('MESSAGE_INVALID', 'An answer builds on one that this process does not have.');
    }
    return (this.#lastAnswer = completedAnswer(base, read));
  }

  /** @returns whether the answer may be acted on. In either case its hello is no longer outstanding. */
  accept(answer: Answer): boolean {
    if (this.#outstanding?.nonce === answer.inReplyTo) this.#outstanding = null;
    return this.#ledger.accept(answer.inReplyTo);
  }

  /** After a rewind, a new epoch or a start, answers to earlier hellos are out of date. */
  raiseBarrier(): void {
    this.#ledger.raiseBarrier();
  }

  /** The connection is gone: the next hello does not wait for an answer. */
  forgetOutstanding(): void {
    this.#outstanding = null;
  }
}
