/**
 * The agent's side of hello and answer: makes hellos, remembers the outstanding one, and decides which answers may be
 * acted on (HelloLedger of shared/protocol.ts). Sockets and clocks stay outside.
 *
 * Invariant: there is no new hello before the last one was answered or timed out, so a slow link carries one at a time.
 */
import { randomUUID } from 'node:crypto';
import { HelloLedger } from '../../shared/protocol.ts';
import type { AgentReport, AgentStream, Answer, Hello } from '../../shared/protocol.ts';

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

  /** Makes the next hello, which is outstanding from now on. */
  issue(
    stream: AgentStream,
    confirmed: number,
    facts: HelloFacts,
    { now, nextWithinSeconds }: { readonly now: number; readonly nextWithinSeconds: number },
  ): Hello {
    const nonce = randomUUID();
    this.#ledger.issue(nonce);
    this.#outstanding = { nonce, sentAt: now };
    return {
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
  }

  /** Whether the answer is to a hello of this process, even if it is out of date. */
  owns(answer: Answer): boolean {
    return this.#ledger.issued(answer.inReplyTo);
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
