/**
 * The agent's side of hello and answer: makes hellos, keeps which may be outstanding, and lets through the answers
 * that may be acted on (HelloLedger of shared/protocol.ts). Sockets and clocks stay outside.
 *
 * Invariant: no new hello before the last was answered or timed out, so that a slow link carries one at a time.
 */
import { randomUUID } from 'node:crypto';
import { HelloLedger } from '../../shared/protocol.ts';
import type { AgentReport, AgentStream, Answer, Hello } from '../../shared/protocol.ts';

/** What the rest of the agent knows; asked for at each hello. */
export interface HelloFacts {
  /** Everything committed at the branch until this time (ISO) is in batches ≤ the spool's head; null: not yet known. */
  readonly capturedThrough: string | null;
  /** The head office is to be asked to compare. */
  readonly compare?: boolean;
  readonly report: AgentReport;
}

export class HelloExchange {
  readonly #instance = randomUUID();
  readonly #ledger = new HelloLedger();
  #outstanding: { readonly nonce: string; readonly sentAt: number } | null = null;

  /** Says whether a hello may leave now. */
  free(now: number, timeoutMs: number): boolean {
    return this.#outstanding === null || now - this.#outstanding.sentAt >= timeoutMs;
  }

  /** Makes the next hello; from now on it is outstanding. */
  issue(stream: AgentStream, confirmed: number, facts: HelloFacts, now: number): Hello {
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
      ...(facts.compare === true ? { compare: true } : {}),
      report: facts.report,
    };
  }

  /** Whether the answer is to a hello of this process, be it out of date. */
  owns(answer: Answer): boolean {
    return this.#ledger.issued(answer.inReplyTo);
  }

  /** True if the answer may be acted on; in any case the hello it answers is no longer outstanding. */
  accept(answer: Answer): boolean {
    if (this.#outstanding?.nonce === answer.inReplyTo) this.#outstanding = null;
    return this.#ledger.accept(answer.inReplyTo);
  }

  /** A rewind, a new epoch, a start: answers to earlier hellos are out of date. */
  raiseBarrier(): void {
    this.#ledger.raiseBarrier();
  }

  /** The connection is gone: the next hello need not wait. */
  forgetOutstanding(): void {
    this.#outstanding = null;
  }
}
