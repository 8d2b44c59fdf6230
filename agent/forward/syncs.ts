/**
 * Those who wait, in `sync`, until the head office has received everything: each is told the progress, each can leave
 * by its signal, and each gives up when nothing has moved for as long as it has patience. While there is one, the link
 * is open whatever the windows say.
 */
import { TributaryError } from '../../shared/errors.ts';
import type { SyncProgress } from './forwarder-types.ts';

export interface SyncOptions {
  readonly signal?: AbortSignal | undefined;
  /** Without anything moving; null: for ever. */
  readonly patienceMs?: number | null;
}

interface Waiter {
  readonly patienceMs: number;
  onProgress(progress: SyncProgress): void;
  resolve(): void;
  reject(error: unknown): void;
}

export class Syncs {
  readonly #waiters = new Set<Waiter>();
  /** Tells of a movement when it is another than the last. */
  #sign = '';
  #movedAt = 0;

  get size(): number {
    return this.#waiters.size;
  }

  /** @throws the signal's reason, SYNC_STALLED, or what `fail` was given */
  async wait(
    onProgress: (progress: SyncProgress) => void,
    { signal, patienceMs }: SyncOptions,
    begin: () => void,
  ): Promise<void> {
    signal?.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<undefined>();
    const waiter: Waiter = {
      patienceMs: patienceMs ?? Infinity,
      onProgress,
      resolve: () => resolve(undefined),
      reject,
    };
    const abort = (): void => reject(signal?.reason);
    signal?.addEventListener('abort', abort);
    this.#waiters.add(waiter);
    this.#sign = '';
    try {
      begin();
      await promise;
    } finally {
      signal?.removeEventListener('abort', abort);
      this.#waiters.delete(waiter);
    }
  }

  /** Tells all; with nothing waiting they are done, and with nothing moving those without patience fail. */
  report(progress: SyncProgress, now: number): void {
    const sign = `${progress.waitingBatches} ${progress.confirmedBytes}`;
    if (sign !== this.#sign) this.#movedAt = now;
    this.#sign = sign;
    for (const waiter of this.#waiters) {
      waiter.onProgress(progress);
      if (progress.waitingBatches === 0) waiter.resolve();
      else if (now - this.#movedAt > waiter.patienceMs) {
        const seconds = Math.round(waiter.patienceMs / 1_000);
        const text = `Nothing has got through for ${seconds} s; ${progress.waitingBatches} batches wait. ${progress.hindrance}`;
        waiter.reject(new TributaryError('SYNC_STALLED', text));
      }
    }
  }

  fail(error: unknown): void {
    for (const waiter of this.#waiters) waiter.reject(error);
  }
}
