/**
 * Puts batches, and how far the stream and the snapshot are, into the spool: what belongs together in one transaction.
 *
 * A part of a transaction that is not its last moves nothing: whatever else is to be stored waits for the last one.
 */
import { encodeFrames } from '../../shared/batch/encoder.ts';
import type { SnapshotProgress } from '../spool/snapshot-progress.ts';
import type { Spool } from '../spool/spool.ts';
import { bodyOf } from './change-buffer.ts';
import type { BatchDraft } from './change-buffer.ts';
import { CompressionLevel } from './compression-level.ts';
import type { PendingSnapshots } from './pending-snapshots.ts';
import type { XaRows } from './xa-rows.ts';
import type { CapturedPosition } from './position.ts';

/**
 * Bytes of a compressed batch that is aimed at: thousands of rows, ten seconds of a poor link. The larger, the fewer
 * versions of a row that changes often are sent; what holds a batch, at the head office too, must hold as much.
 */
const TARGET_BODY_BYTES = 320 * 1024;
/** Bounds of the estimate of JSON that makes such a body. */
const LEAST_JSON_BYTES = 128 * 1024;
const MOST_JSON_BYTES = 4 * 1024 * 1024;

export interface SpoolWriterOptions {
  readonly spool: Spool;
  readonly position: CapturedPosition;
  readonly copies: PendingSnapshots;
  readonly prepared: XaRows;
  readonly now: () => number;
  /** A batch has been spooled. */
  readonly onSpooled: () => void;
}

export class SpoolWriter {
  readonly #o: SpoolWriterOptions;
  readonly #effort: CompressionLevel;
  /** JSON bytes a compressed byte stands for, as lately seen. */
  #ratio = 6;

  constructor(options: SpoolWriterOptions) {
    this.#o = options;
    this.#effort = new CompressionLevel(options.now());
  }

  /** Estimate of JSON that makes a body of the size aimed at, in bytes. */
  get targetBytes(): number {
    return clamp(TARGET_BODY_BYTES * this.#ratio, LEAST_JSON_BYTES, MOST_JSON_BYTES);
  }

  /** @param snapshot how far the snapshot is with this batch; absent: it is none of its own */
  append(draft: BatchDraft, snapshot?: SnapshotProgress): void {
    const { spool, position, copies, prepared } = this.#o;
    const open = draft.part !== null && !draft.part.last;
    const progress = open ? undefined : (snapshot ?? copies.pending ?? undefined);
    const reached = position.current;
    let bytes = 0;
    const level = this.#effort.level(draft.bytes, this.#o.now());
    const frames = function* (): Generator<Buffer> {
      for (const frame of encodeFrames(bodyOf(draft, reached.source), { level })) {
        bytes += frame.length;
        yield frame;
      }
    };
    spool.append({
      body: frames(),
      rows: draft.rows,
      position: reached,
      open,
      ...(open ? {} : { held: prepared.takeChanges() }),
      ...(progress === undefined ? {} : { snapshot: progress }),
    });
    if (draft.bytes > LEAST_JSON_BYTES / 4) this.#ratio = clamp(draft.bytes / bytes, 1, 64);
    if (!open) {
      position.saved = true;
      if (snapshot === undefined) copies.saved();
    }
    this.#o.onSpooled();
  }

  /** Stores the position alone, and what is pending; nothing where both are in the spool. */
  savePosition(): void {
    const { spool, position, copies, prepared } = this.#o;
    if (position.saved && copies.pending === null) return;
    spool.savePosition(position.current, copies.pending ?? undefined, prepared.takeChanges());
    position.saved = true;
    copies.saved();
  }

  /** Stores how far the snapshot is. To be called when the position is in the spool. */
  saveProgress(progress: SnapshotProgress): void {
    // What was prepared or ended is stored: the position has just moved past it.
    this.#o.spool.savePosition(this.#o.position.current, progress);
  }
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}
