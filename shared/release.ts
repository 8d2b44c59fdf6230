/**
 * Memory that goes back to the system at once, where megabytes would otherwise wait for the garbage collector: it looks
 * at the heap, in which a buffer of 4 MiB is a hundred bytes.
 */

/**
 * Empties a buffer, and with it every view of the same memory: for whoever made it, and has given no part of it away.
 * Small buffers share memory with others and are left alone: they are a part of a pool, never all of it.
 */
export function release({ buffer, byteLength }: Uint8Array): void {
  const ownsIt = byteLength === buffer.byteLength || buffer.byteLength > Buffer.poolSize;
  if (buffer instanceof ArrayBuffer && ownsIt) buffer.transfer(0);
}

/**
 * Frees all buffers that nobody holds any more: before so many bytes are asked for that those of the last time must not
 * stand beside them. Takes about ten milliseconds, as the programs' heaps are small.
 */
export function releaseGarbage(): void {
  // Absent where a program runs without the settings of shared/process/node-settings.ts, as in unit tests.
  globalThis.gc?.();
}

/**
 * Collects whatever can be collected, and gives the memory back to the system: after an ordinary collection V8 keeps the
 * pages for what may come. Takes 50 to 100 milliseconds.
 */
export function releaseHeap(): void {
  globalThis.gc?.({ type: 'major', execution: 'sync', flavor: 'last-resort' });
}
