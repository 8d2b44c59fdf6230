/**
 * Writes batches into the spool, each in one transaction with the position and the snapshot's progress that it reaches.
 *
 * A part that is not the last of its transaction moves neither: both wait for the last part.
 */
import { encodeFrames } from '../../shared/batch/encoder.ts';
import type { SnapshotProgress } from '../spool/snapshot-progress.ts';
import type { Spool } from '../spool/spool.ts';
import type { BatchSize } from './batch-size.ts';
import type { BatchOutput } from './batcher.ts';
import { bodyOf } from './change-buffer.ts';
import type { BatchDraft } from './change-buffer.ts';
import { CompressionLevel } from './compression-level.ts';
import type { PendingSnapshots } from './pending-snapshots.ts';
import type { Definitions } from './definitions.ts';
import type { XaRows } from './xa-rows.ts';
import type { CapturedPosition } from './position.ts';
import type { SinkListener } from './sink-types.ts';

export interface SpoolWriterOptions {
  readonly spool: Spool;
  readonly size: BatchSize;
  readonly position: CapturedPosition;
  readonly snapshots: PendingSnapshots;
  readonly xaRows: XaRows;
  readonly definitions: Definitions;
  readonly now: () => number;
  /** Whether small batches are spooled as text. */
  readonly packs: () => boolean;
  readonly listener: Pick<SinkListener, 'onSpooled'>;
}

export class SpoolWriter implements BatchOutput {
  readonly #o: SpoolWriterOptions;
  readonly #compression: CompressionLevel;
  /** Rows of the open group's parts so far. */
  #rowsOfParts = 0;

  constructor(options: SpoolWriterOptions) {
    this.#o = options;
    this.#compression = new CompressionLevel(options.now());
  }

  /** @param snapshot the snapshot's progress with this batch; absent: the batch is not the snapshot's own */
  append(draft: BatchDraft, snapshot?: SnapshotProgress): void {
    const { spool, size, position, snapshots, xaRows, definitions } = this.#o;
    const open = draft.part !== null && !draft.part.last;
    const progress = open ? undefined : (snapshot ?? snapshots.pending ?? undefined);
    const reached = position.current;
    let bytes = 0;
    const asText = this.#o.packs();
    const level = this.#compression.level(draft.bytes, this.#o.now());
    const frames = function* (): Generator<Buffer> {
      for (const frame of encodeFrames(bodyOf(draft, reached.source), { level, asText })) {
        bytes += frame.length;
        yield frame;
      }
    };
    const rows = this.#rowsOfParts + draft.rows;
    const isCounted = !open && snapshot === undefined && reached.source.committedAt !== null;
    spool.append({
      body: frames(),
      rows: draft.rows,
      position: reached,
      open,
      ...(open ? {} : { held: xaRows.takeChanges(), definitions: definitions.takeChanges() }),
      ...(progress === undefined ? {} : { snapshot: progress }),
      // What a snapshot brings has its place among the changes, and stays there.
      ...(draft.sample === undefined || snapshot !== undefined
        ? {}
        : { mergeable: { tables: draft.tables, sample: draft.sample } }),
      ...(isCounted ? { committed: { rows, at: reached.source.committedAt } } : {}),
    });
    this.#rowsOfParts = open ? rows : 0;
    size.measured(draft.bytes, bytes);
    if (!open) {
      position.saved = true;
      if (snapshot === undefined) snapshots.saved();
    }
    this.#o.listener.onSpooled();
  }

  /** Stores the position and what is pending, without a batch. Does nothing if the spool has both. */
  savePosition(): void {
    const { spool, position, snapshots, xaRows, definitions } = this.#o;
    if (position.saved && snapshots.pending === null && !definitions.hasChanges) return;
    spool.savePosition(
      position.current,
      snapshots.pending ?? undefined,
      xaRows.takeChanges(),
      definitions.takeChanges(),
    );
    position.saved = true;
    snapshots.saved();
  }

  /** Stores the snapshot's progress. The position must be in the spool already, and with it the changes of XA rows and definitions. */
  saveProgress(progress: SnapshotProgress): void {
    this.#o.spool.savePosition(this.#o.position.current, progress);
  }
}
