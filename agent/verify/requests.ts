/**
 * The head office's requests to compare tables that are open, those that this process has answered in this epoch, and how
 * often each has failed. It outlives the binlog connections that comparisons are made beside.
 */
import type { Ask } from '../../shared/protocol.ts';

/** Faults that do not plainly pass, after which a request is answered with the last of them instead of rows. */
export const MOST_FAULTS = 5;

export class VerifyRequests {
  #open: readonly Ask[] = [];
  readonly #answered = new Set<string>();
  readonly #faults = new Map<string, { readonly times: number; readonly reason: string }>();

  /** Takes what is asked for now; the head office repeats what is open. */
  serve(asks: readonly Ask[]): void {
    // A request that is open no more will not come back.
    for (const id of [...this.#answered, ...this.#faults.keys()])
      if (!asks.some(ask => ask.id === id)) this.#forget(id);
    this.#open = asks.filter(({ id, kind }) => kind === 'verify' && !this.#answered.has(id));
  }

  /** The next to be answered; null: none. */
  next(): Ask | null {
    return this.#open[0] ?? null;
  }

  done(ask: Ask): void {
    this.#answered.add(ask.id);
    this.#open = this.#open.filter(({ id }) => id !== ask.id);
  }

  /** A comparison has failed of what does not plainly pass. */
  failed({ id }: Ask, reason: string): void {
    this.#faults.set(id, { times: (this.#faults.get(id)?.times ?? 0) + 1, reason });
  }

  /** Why the request is to be given up; null: it is to be served. */
  givenUp({ id }: Ask): string | null {
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
