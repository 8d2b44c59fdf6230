/**
 * How a loop sleeps: until it is notified, or a time has passed, or the reason for waiting is gone. A notification that
 * comes while nobody waits is kept, so that none is missed between looking and waiting.
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

  /** Ends the current sleep and all later ones at once. */
  end(): void {
    this.#ended = true;
    this.#resolve?.();
  }

  /** Waits for a notification, at most `ms`. */
  async wait(ms: number): Promise<void> {
    if (!this.#noticed) await this.#rest(ms);
    this.#noticed = false;
  }

  /** Ends the current `sleep`, or the next one, because its reason is gone. */
  hurry(): void {
    this.#hurried = true;
    this.#resolve?.();
  }

  /** Sleeps the whole time. Only `hurry` and `end` cut it short; notifications do not. */
  async sleep(ms: number): Promise<void> {
    const until = performance.now() + ms;
    for (let left = ms; left > 0 && !this.#ended && !this.#isHurried(); left = until - performance.now()) {
      await this.#rest(left);
    }
    this.#hurried = false;
  }

  /** A method, because the field changes during awaits. */
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
