/**
 * Copies a table in the order of its key, chunk by chunk.
 *
 * For each chunk, begin to note the keys that the stream emits. Read the chunk in a view that has everything that the
 * stream had emitted before. Take the binlog's end as `high`. When the stream is past `high`, drop the noted keys from
 * the chunk and emit the rest. So a copied row is never older than what the stream has already emitted for it.
 */
import type { KeyId } from '../stream/key-index.ts';
import type { TableFilter } from '../source/table-filter.ts';
import type { CaptureSink } from '../stream/sink.ts';
import type { CapturedTable } from '../source/tables.ts';
import { upsertDraft } from './chunk.ts';
import type { Chunk } from './chunk.ts';
import { opened, sealed } from './cursor-seal.ts';
import { updateTable } from '../spool/snapshot-progress.ts';
import type { SnapshotTable } from '../spool/snapshot-progress.ts';
import type { SnapshotSource } from './snapshot-source.ts';
import { atRest, between, hasChanged } from './stream-moments.ts';

/** Chunks grow and shrink so that one has about CHUNK_BYTES. */
const FIRST_CHUNK_ROWS = 1_000;
const MAX_CHUNK_ROWS = 20_000;
const CHUNK_BYTES = 4 * 1024 * 1024;
/** Limit of the keys noted while a chunk waits. Beyond it the chunk is discarded, and the next one is smaller. */
const MAX_NOTED_KEYS = 500_000;

export interface KeyedSnapshotOptions {
  readonly source: SnapshotSource;
  readonly sink: CaptureSink;
  readonly tableFilter: TableFilter;
}

export class KeyedSnapshot {
  readonly #o: KeyedSnapshotOptions;
  #chunkRows = FIRST_CHUNK_ROWS;

  constructor(options: KeyedSnapshotOptions) {
    this.#o = options;
  }

  /** Copies the next chunk. */
  async next(table: SnapshotTable, definition: CapturedTable, signal: AbortSignal): Promise<void> {
    const { source, sink, tableFilter } = this.#o;
    const noted = new Set<KeyId>();
    try {
      const emitted = await atRest(sink, signal, () => {
        sink.record(table.schema, table.name, key => {
          if (noted.size <= MAX_NOTED_KEYS) noted.add(key);
        });
        return { place: sink.place, gtids: sink.gtidSet };
      });
      const lastKey = opened(tableFilter, definition, table.lastKey);
      const chunk = await source.chunk(emitted, definition, lastKey, this.#chunkRows);
      await between(sink, chunk.high, signal, () => {
        if (hasChanged(sink, table)) return;
        if (noted.size > MAX_NOTED_KEYS) {
          this.#chunkRows = Math.max(1, this.#chunkRows >> 2);
          return;
        }
        this.#emit(definition, table, chunk, noted);
        this.#resize(chunk);
      });
    } finally {
      sink.record(table.schema, table.name, null);
    }
  }

  /** Emits the rows of the chunk that the stream has not emitted, as batches of the usual size. */
  #emit(definition: CapturedTable, table: SnapshotTable, chunk: Chunk, noted: ReadonlySet<KeyId>): void {
    const { sink, tableFilter } = this.#o;
    const perBatch = Math.max(1, Math.floor((chunk.rows * sink.targetBytes) / Math.max(1, chunk.bytes)));
    let rows = table.rows;
    for (let from = 0; from < chunk.rows; from += perBatch) {
      const to = Math.min(chunk.rows, from + perBatch);
      const kept: number[] = [];
      for (let row = from; row < to; row++) if (!noted.has(chunk.ids[row]!)) kept.push(row);
      rows += to - from;
      const ended = chunk.last && to === chunk.rows;
      const change = {
        state: ended ? ('done' as const) : ('copying' as const),
        lastKey: sealed(tableFilter, definition, chunk.cursors[to - 1]!),
        rows,
      };
      sink.emitSnapshot(kept.length === 0 ? null : upsertDraft(definition, tableFilter, chunk, kept), now =>
        updateTable(now, table, change),
      );
    }
    if (chunk.rows === 0) sink.emitSnapshot(null, now => updateTable(now, table, { state: 'done' }));
  }

  #resize(chunk: Chunk): void {
    if (chunk.rows < this.#chunkRows) return;
    const fitting = Math.floor((chunk.rows * CHUNK_BYTES) / Math.max(1, chunk.bytes));
    this.#chunkRows = Math.max(1, Math.min(MAX_CHUNK_ROWS, this.#chunkRows * 4, fitting));
  }
}
