/**
 * The size at which a batch is complete. The limit is for the compressed body, but a batch must be cut before it is
 * compressed: so the size is estimated with the compression ratio of the latest batches. Pure.
 */
import type { BatchTarget } from './batcher.ts';

/**
 * Size of the compressed body to aim at: thousands of rows, ten seconds of a poor link. A larger batch sends fewer
 * versions of a row that changes often, but whoever holds a batch, the head office included, needs memory for it.
 */
const TARGET_BODY_BYTES = 320 * 1024;
/** Bounds of the estimate of JSON that makes such a body. */
const MIN_JSON_BYTES = 128 * 1024;
const MAX_JSON_BYTES = 4 * 1024 * 1024;
/** A smaller batch says little about the ratio. */
const MIN_MEASURED_BYTES = MIN_JSON_BYTES / 4;
const TARGET_ROWS = 20_000;

export class BatchSize implements BatchTarget {
  readonly rows = TARGET_ROWS;
  /** JSON bytes for each compressed byte in the latest batch. */
  #ratio = 6;

  /** JSON of a batch, in bytes. */
  get bytes(): number {
    return clamp(TARGET_BODY_BYTES * this.#ratio, MIN_JSON_BYTES, MAX_JSON_BYTES);
  }

  /** A batch was compressed. */
  measured(jsonBytes: number, bodyBytes: number): void {
    if (jsonBytes > MIN_MEASURED_BYTES) this.#ratio = clamp(jsonBytes / bodyBytes, 1, 64);
  }
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}
