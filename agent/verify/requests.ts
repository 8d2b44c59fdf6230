/** The head office's requests to compare tables that are open, and those that this process has answered in this epoch. */
import type { Ask } from '../../shared/protocol.ts';

export class VerifyRequests {
  #open: readonly Ask[] = [];
  readonly #answered = new Set<string>();

  /** Takes what is asked for now; the head office repeats what is open. */
  serve(asks: readonly Ask[]): void {
    // A request that is open no more will not come back.
    for (const id of this.#answered) if (!asks.some(ask => ask.id === id)) this.#answered.delete(id);
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

  /** What had been said went with the epoch. */
  forgetAnswers(): void {
    this.#answered.clear();
  }
}
