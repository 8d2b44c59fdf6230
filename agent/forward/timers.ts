/**
 * Named timers, one for each name: setting one again replaces it. Bounded by the number of names.
 */
export class Timers<Name extends string> {
  readonly #timers = new Map<Name, NodeJS.Timeout>();

  /** Calls `action` once, `ms` from now, instead of what was set under this name before. */
  set(name: Name, ms: number, action: () => void): void {
    this.clear(name);
    // setTimeout runs at once for more than 2^31 - 1 ms. Waking up too early does no harm.
    const timer = setTimeout(
      () => {
        this.#timers.delete(name);
        action();
      },
      Math.min(Math.max(0, ms), 2 ** 31 - 1),
    );
    this.#timers.set(name, timer);
  }

  has(name: Name): boolean {
    return this.#timers.has(name);
  }

  clear(...names: readonly Name[]): void {
    for (const name of names) {
      clearTimeout(this.#timers.get(name));
      this.#timers.delete(name);
    }
  }

  clearAll(): void {
    this.clear(...this.#timers.keys());
  }
}
