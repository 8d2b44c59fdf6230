/**
 * Copies a table without a key, chunk by chunk. The table is read at one moment of the stream (row-scan.ts). The
 * changes that the stream brings later are added to the number of copies that were read (chunk-notes.ts).
 *
 * States: idle → reading (the query is open, and the stream's changes are noted) → idle.
 */
import { TributaryError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/process/logging.ts';
import { tableText } from '../../shared/table-name.ts';
import type { CaptureSink } from '../stream/sink.ts';
import type { CapturedTable } from '../source/tables.ts';
import { countDrafts, readersOf } from './chunk.ts';
import { ChunkNotes } from './chunk-notes.ts';
import { opened, sealed } from './cursor-seal.ts';
import { updateTable } from '../spool/snapshot-progress.ts';
import type { SnapshotTable } from '../spool/snapshot-progress.ts';
import { RowScan } from './row-scan.ts';
import type { SnapshotSourceOptions } from './snapshot-source.ts';
import { atRest, between, hasChanged } from './stream-moments.ts';

/** Limit of the rows noted while a table is read. Beyond it, what was read is discarded. */
const MAX_NOTED_ROWS = 500_000;
/** How often to look for a moment when nobody writes to the table. */
const MAX_MOMENTS = 200;
/** The server keeps the moment for no longer than this. */
const MAX_SCAN_MS = 15 * 60_000;

export interface KeylessSnapshotOptions extends SnapshotSourceOptions {
  readonly sink: CaptureSink;
  readonly logger: Logger;
}

/** A table that is being read. */
interface OpenScan {
  readonly rows: RowScan;
  readonly notes: ChunkNotes;
  readonly openedAt: number;
}

export class KeylessSnapshot {
  readonly #o: KeylessSnapshotOptions;
  /** Null: idle. */
  #scan: OpenScan | null = null;

  constructor(options: KeylessSnapshotOptions) {
    this.#o = options;
  }

  /** Stops reading any table but this one. */
  keep(definition: CapturedTable | null): void {
    if (definition !== this.#scan?.rows.table) this.close();
  }

  /** Copies the next chunk. */
  async next(table: SnapshotTable, definition: CapturedTable, signal: AbortSignal): Promise<void> {
    const { sink, tableFilter, logger } = this.#o;
    if (this.#scan !== null && Date.now() - this.#scan.openedAt > MAX_SCAN_MS) this.close();
    const scan = (this.#scan ??= await this.#open(definition, table, signal));
    const chunk = await scan.rows.next();
    await between(sink, scan.rows.window.to, signal, () => {
      if (hasChanged(sink, table)) {
        this.close();
        return;
      }
      if (scan.notes.overflown) {
        this.close();
        logger.warn(
          { table: tableText(table) },
          'A table without a key changed too much while it was read. It is read again.',
        );
        return;
      }
      const drafts = countDrafts(definition, tableFilter, chunk, id => scan.notes.since(id), sink.targetBytes);
      const last = drafts.pop() ?? null;
      for (const draft of drafts) sink.emitSnapshot(draft, now => now);
      const through = chunk.through === null ? table.lastKey : sealed(tableFilter, definition, [chunk.through]);
      const rows = table.rows + chunk.counts.reduce((sum, copies) => sum + copies, 0);
      const state = chunk.last ? ('done' as const) : ('copying' as const);
      sink.emitSnapshot(last, now => updateTable(now, table, { state, lastKey: through, rows }));
      if (chunk.last) this.close();
    });
  }

  /** Looks for a moment when nobody writes to the table, and begins to read it then. */
  async #open(definition: CapturedTable, table: SnapshotTable, signal: AbortSignal): Promise<OpenScan> {
    const { sink, connect, identity, tableFilter, charsets } = this.#o;
    const [through = null] = opened(tableFilter, definition, table.lastKey) ?? [];
    const after = through === null ? null : Number(through);
    const readers = readersOf(definition, charsets);
    for (let moments = 0; moments < MAX_MOMENTS && !signal.aborted; moments++) {
      const notes = new ChunkNotes(MAX_NOTED_ROWS);
      const emitted = await atRest(sink, signal, () => {
        sink.record(table.schema, table.name, (key, copies) => notes.note(key, copies, sink.groupStart));
        return { place: sink.place, gtids: sink.gtidSet };
      });
      let rows: RowScan | null = null;
      try {
        rows = await RowScan.open({ connect, identity, table: definition, readers, emitted, after });
        const { window = null } = rows ?? {};
        if (rows !== null && window !== null) {
          const quiet = await between(sink, window.to, signal, () => notes.settle(window));
          if (quiet) return { rows, notes, openedAt: Date.now() };
        }
      } catch (error) {
        rows?.close();
        throw error;
      }
      rows?.close();
    }
    sink.record(table.schema, table.name, null);
    throw new TributaryError(
      'SOURCE_UNREACHABLE',
      `Table ${tableText(table)} has no key and is written to all the time, so no moment was found to read it.`,
    );
  }

  close(): void {
    if (this.#scan === null) return;
    const { rows } = this.#scan;
    this.#scan = null;
    rows.close();
    this.#o.sink.record(rows.table.schema, rows.table.name, null);
  }
}
