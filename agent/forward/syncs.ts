/**
 * Callers of `sync`, who wait until the head office has received everything. Each gets the progress, can stop waiting
 * by its signal, and fails when there was no progress for its timeout. While there is one, the link is open also
 * outside the windows.
 */
import { TributaryError } from '../../shared/errors.ts';
import type { SyncProgress } from './forwarder-types.ts';
import { formatDuration } from '../../shared/units.ts';

export interface SyncOptions {
  readonly signal?: AbortSignal | undefined;
  /** How long to wait without progress; null: for ever. */
  readonly timeoutMs?: number | null;
}

interface Waiter {
  readonly timeoutMs: number;
  onProgress(progress: SyncProgress): void;
  resolve(): void;
  reject(error: unknown): void;
}

export class SyncWaiters {
  readonly #waiters = new Set<Waiter>();
  /** The last progress as text, to see whether it has changed. */
  #progress = '';
  #changedAt = 0;

  get size(): number {
    return this.#waiters.size;
  }

  /** @throws the signal's reason, SYNC_STALLED, or the argument of `fail` */
  async wait(
    onProgress: (progress: SyncProgress) => void,
    { signal, timeoutMs }: SyncOptions,
    begin: () => void,
  ): Promise<void> {
    signal?.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<undefined>();
    const waiter: Waiter = {
      timeoutMs: timeoutMs ?? Infinity,
      onProgress,
      resolve: () => resolve(undefined),
      reject,
    };
    const abort = (): void => reject(signal?.reason);
    signal?.addEventListener('abort', abort);
    this.#waiters.add(waiter);
    this.#progress = '';
    try {
      begin();
      await promise;
    } finally {
      signal?.removeEventListener('abort', abort);
      this.#waiters.delete(waiter);
    }
  }

  /** Reports the progress. With no batch waiting, all are done; without progress, those whose timeout is over fail. */
  report(progress: SyncProgress, now: number): void {
    const text = `${progress.waitingBatches} ${progress.confirmedBytes}`;
    if (text !== this.#progress) this.#changedAt = now;
    this.#progress = text;
    for (const waiter of this.#waiters) {
      waiter.onProgress(progress);
      if (progress.waitingBatches === 0) waiter.resolve();
      else if (now - this.#changedAt > waiter.timeoutMs) {
        const message = `The head office has received nothing more for ${formatDuration(waiter.timeoutMs)}; ${progress.waitingBatches} batches wait. ${progress.obstacle}`;
        waiter.reject(new TributaryError('SYNC_STALLED', message));
      }
    }
  }

  fail(error: unknown): void {
    for (const waiter of this.#waiters) waiter.reject(error);
  }
}
