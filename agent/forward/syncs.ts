/**
 * Those who wait, in `sync`, until the head office has received everything: each is told the progress, and each can
 * leave by its signal. While there is one, the link is open whatever the windows say.
 */
import type { SyncProgress } from './forwarder-types.ts';

interface Waiter {
  onProgress(progress: SyncProgress): void;
  resolve(): void;
  reject(error: unknown): void;
}

export class Syncs {
  readonly #waiters = new Set<Waiter>();

  get size(): number {
    return this.#waiters.size;
  }

  /** @throws the signal's reason, or what `fail` was given */
  async wait(
    onProgress: (progress: SyncProgress) => void,
    signal: AbortSignal | undefined,
    begin: () => void,
  ): Promise<void> {
    signal?.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<undefined>();
    const waiter: Waiter = { onProgress, resolve: () => resolve(undefined), reject };
    const abort = (): void => reject(signal?.reason);
    signal?.addEventListener('abort', abort);
    this.#waiters.add(waiter);
    try {
      begin();
      await promise;
    } finally {
      signal?.removeEventListener('abort', abort);
      this.#waiters.delete(waiter);
    }
  }

  /** Tells all; with nothing waiting they are done. */
  report(progress: SyncProgress): void {
    for (const waiter of this.#waiters) {
      waiter.onProgress(progress);
      if (progress.waitingBatches === 0) waiter.resolve();
    }
  }

  fail(error: unknown): void {
    for (const waiter of this.#waiters) waiter.reject(error);
  }
}
