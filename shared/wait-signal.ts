/**
 * How a loop sleeps: until somebody notifies it, or a time has passed, or what it waits for to pass has passed. A notice that comes while nobody waits is kept,
 * so that nothing is missed between looking and waiting.
 */
export class WaitSignal {
  #noticed = false;
  #resolve: (() => void) | null = null;
  #ended = false;
  #hurried = false;

  notify(): void {
    this.#noticed = true;
    this.#resolve?.();
  }

  /** Ends the present sleep and all later ones at once. */
  end(): void {
    this.#ended = true;
    this.#resolve?.();
  }

  /** Until a notice, at most `ms`. */
  async wait(ms: number): Promise<void> {
    if (!this.#noticed) await this.#rest(ms);
    this.#noticed = false;
  }

  /** Ends the present `sleep`, or the next one: its reason is gone. */
  hurry(): void {
    this.#hurried = true;
    this.#resolve?.();
  }

  /** The whole time, whatever is noticed meanwhile; cut short only by `hurry` and `end`. */
  async sleep(ms: number): Promise<void> {
    const until = performance.now() + ms;
    for (let left = ms; left > 0 && !this.#ended && !this.#isHurried(); left = until - performance.now()) {
      await this.#rest(left);
    }
    this.#hurried = false;
  }

  /** Read through a method because it changes during awaits. */
  #isHurried(): boolean {
    return this.#hurried;
  }

  async #rest(ms: number): Promise<void> {
    if (this.#ended) return;
    const { promise, resolve } = Promise.withResolvers<undefined>();
    const timer = setTimeout(() => resolve(undefined), ms);
    this.#resolve = () => resolve(undefined);
    await promise;
    clearTimeout(timer);
    this.#resolve = null;
  }
}
