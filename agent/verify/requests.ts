/**
 * The head office's requests to compare tables: which are open, which this process has answered in this epoch, and how often
 * each has failed. It outlives binlog connections.
 */
import type { BranchRequest } from '../../shared/protocol.ts';

/** After this many faults that may be permanent, a request is answered with the last fault instead of sums. */
export const MAX_FAULTS = 5;

export class VerifyRequests {
  #open: readonly BranchRequest[] = [];
  readonly #answered = new Set<string>();
  readonly #faults = new Map<string, { readonly times: number; readonly reason: string }>();

  /** Takes the requests that are open now. The head office repeats them. */
  serve(requests: readonly BranchRequest[]): void {
    // A request that is not open any more will not come back.
    for (const id of [...this.#answered, ...this.#faults.keys()])
      if (!requests.some(request => request.id === id)) this.#forget(id);
    this.#open = requests.filter(({ id, kind }) => kind !== 'snapshot' && !this.#answered.has(id));
  }

  /** The next request to answer; null: none. */
  next(): BranchRequest | null {
    return this.#open[0] ?? null;
  }

  done(request: BranchRequest): void {
    this.#answered.add(request.id);
    this.#open = this.#open.filter(({ id }) => id !== request.id);
  }

  /** A comparison has failed with a fault that may be permanent. */
  failed({ id }: BranchRequest, reason: string): void {
    this.#faults.set(id, { times: (this.#faults.get(id)?.times ?? 0) + 1, reason });
  }

  /** Why the request must be given up; null: it must be served. */
  givenUp({ id }: BranchRequest): string | null {
    const faults = this.#faults.get(id);
    return faults === undefined || faults.times < MAX_FAULTS ? null : faults.reason;
  }

  /** A new epoch has begun: the answers were lost with the old one. */
  forgetAnswers(): void {
    this.#answered.clear();
  }

  #forget(id: string): void {
    this.#answered.delete(id);
    this.#faults.delete(id);
  }
}
