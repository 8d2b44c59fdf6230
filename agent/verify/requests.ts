/**
 * The head office's requests to compare tables that are open, those that this process has answered in this epoch, and how
 * often each has failed. It outlives the binlog connections that comparisons are made beside.
 */
import type { BranchRequest } from '../../shared/protocol.ts';

/** Faults that do not plainly pass, after which a request is answered with the last of them instead of rows. */
export const MOST_FAULTS = 5;

export class VerifyRequests {
  #open: readonly BranchRequest[] = [];
  readonly #answered = new Set<string>();
  readonly #faults = new Map<string, { readonly times: number; readonly reason: string }>();

  /** Takes what is asked for now; every answer repeats what is open. */
  serve(requests: readonly BranchRequest[]): void {
    // A request that is open no more will not come back.
    for (const id of [...this.#answered, ...this.#faults.keys()])
      if (!requests.some(request => request.id === id)) this.#forget(id);
    this.#open = requests.filter(({ id, kind }) => kind === 'verify' && !this.#answered.has(id));
  }

  /** The next to be answered; null: none. */
  next(): BranchRequest | null {
    return this.#open[0] ?? null;
  }

  done(request: BranchRequest): void {
    this.#answered.add(request.id);
    this.#open = this.#open.filter(({ id }) => id !== request.id);
  }

  /** A comparison has failed of what does not plainly pass. */
  failed({ id }: BranchRequest, reason: string): void {
    this.#faults.set(id, { times: (this.#faults.get(id)?.times ?? 0) + 1, reason });
  }

  /** Why the request is to be given up; null: it is to be served. */
  givenUp({ id }: BranchRequest): string | null {
    const faults = this.#faults.get(id);
    return faults === undefined || faults.times < MOST_FAULTS ? null : faults.reason;
  }

  /** What had been said went with the epoch. */
  forgetAnswers(): void {
    this.#answered.clear();
  }

  #forget(id: string): void {
    this.#answered.delete(id);
    this.#faults.delete(id);
  }
}
