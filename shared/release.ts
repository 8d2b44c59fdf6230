/**
 * Returns memory to the system at once. Otherwise megabytes would wait for the garbage collector, which looks at the
 * heap, where a buffer of 4 MiB takes a hundred bytes.
 */

/**
 * Frees a buffer, and with it every view of the same memory. Only for the code that made the buffer and has not passed
 * any part of it on. Small buffers are parts of a shared pool and stay as they are.
 */
export function release({ buffer, byteLength }: Uint8Array): void {
  const ownsIt = byteLength === buffer.byteLength || buffer.byteLength > Buffer.poolSize;
  if (buffer instanceof ArrayBuffer && ownsIt) buffer.transfer(0);
}

/**
 * Frees all buffers that are no longer used. Call it before allocating so much that the buffers of the last time must not
 * exist beside them. Takes about ten milliseconds, because the programs' heaps are small.
 */
export function releaseGarbage(): void {
  // Absent without the settings of shared/process/node-settings.ts, as in unit tests.
  globalThis.gc?.();
}

/**
 * Collects all garbage and returns the memory to the system. After an ordinary collection V8 keeps the pages. Takes 50 to
 * 100 milliseconds.
 */
export function releaseHeap(): void {
  globalThis.gc?.({ type: 'major', execution: 'sync', flavor: 'last-resort' });
}
