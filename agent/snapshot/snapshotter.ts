/**
 * Copies rows that were there before capture began, by chunks in key order, without writing to the source.
 *
 * For each chunk: note the keys that the stream emits from now on; read the chunk in a view that holds everything the
 * stream had emitted before; take the binlog's end as `high`; when the stream is past `high`, drop the noted keys from
 * the chunk and emit the rest. So a copied row is never older than what the stream has said of it.
 *
 * How a view is made to hold what the stream has emitted (a commit is in the binlog before a SELECT sees it):
 * MySQL with GTIDs waits for them; MariaDB asks its consistent snapshot for its exact place; MySQL without GTIDs reads
 * FOR SHARE, which waits for commits in flight.
 *
 * A table without a key is read at one moment of the stream (row-scan.ts), and what the stream has said of a row since is
 * added to the number of its copies that were read (copy-notes.ts).
 *
 * One Snapshotter lives as long as one binlog connection; losing it voids the pending chunk. What is done is in the
 * spool, in one transaction with the rows.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Change, TableDescription, Value } from '../../shared/batch.ts';
import { TributaryError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/logging.ts';
import { keyColumns } from '../capture/batcher.ts';
import type { BatchDraft, KeyId } from '../capture/batcher.ts';
import { HASH_TYPE } from '../capture/column-choice.ts';
import type { StreamPlace } from '../capture/group-reader.ts';
import type { Selection } from '../capture/selection.ts';
import type { CaptureSink } from '../capture/sink.ts';
import type { ServerCharsets } from '../capture/server-charsets.ts';
import { comparePlaces } from '../capture/source.ts';
import type { SourceConnection, SourceIdentity } from '../capture/source.ts';
import { readTables } from '../capture/tables.ts';
import type { CapturedTable } from '../capture/tables.ts';
import type { Spool } from '../spool/spool.ts';
import { countDrafts, describe, readersOf, toChunk, upsertDraft } from './chunk.ts';
import type { Chunk } from './chunk.ts';
import { chunkQuery } from './chunk-query.ts';
import { CopyNotes } from './copy-notes.ts';
import { RowScan } from './row-scan.ts';
import { beginProgress, currentTable, follow, hasQueue, idleProgress, updateTable } from './progress.ts';
import type { SnapshotProgress, SnapshotTable } from './progress.ts';

/** Chunks grow and shrink between these so that one is about CHUNK_BYTES. */
const FIRST_CHUNK_ROWS = 1_000;
const MOST_CHUNK_ROWS = 20_000;
const CHUNK_BYTES = 4 * 1024 * 1024;
/** Keys noted while a chunk waits; beyond it the chunk is void and the next one smaller. */
const MOST_NOTED_KEYS = 500_000;
/** A snapshot fills no more of the spool than this: the rest is for what the branch does meanwhile. */
const SHARE_OF_SPOOL = 0.5;
const VISIBLE_WITHIN_SECONDS = 30;
/** A table without a key is read at a moment around which nobody writes to it: looked for so often. */
const MOST_MOMENTS = 200;
/** Its moment is not kept up at the server for longer. */
const LONGEST_SCAN_MS = 15 * 60_000;
/** After a snapshot the next one for cascades waits so many times as long as it took. */
const REST_FOR_CASCADES = 4;
const RETRY_MS = 1_000;
const WAIT_MS = 200;
/** Between two looks whether there is something to copy, while there is nothing: an idle branch is to be cheap. */
const IDLE_MS = 1_000;

export interface SnapshotterOptions {
  readonly connect: (stallMs?: number) => Promise<SourceConnection>;
  readonly identity: SourceIdentity;
  readonly selection: Selection;
  readonly charsets: ServerCharsets;
  readonly spool: Spool;
  readonly sink: CaptureSink;
  readonly logger: Logger;
}

/** A table without a key that is being read. */
interface OpenScan {
  readonly rows: RowScan;
  readonly notes: CopyNotes;
  readonly openedAt: number;
}

export class Snapshotter {
  readonly #o: SnapshotterOptions;
  #source: SourceConnection | null = null;
  readonly #definitions = new Map<string, CapturedTable>();
  #chunkRows = FIRST_CHUNK_ROWS;
  #scan: OpenScan | null = null;
  #begunAt = 0;
  /** Until then, what cascades have changed may wait: copying takes a part of the time only. */
  #restUntil = 0;

  constructor(options: SnapshotterOptions) {
    this.#o = options;
  }

  /** Works until aborted. @throws what only a person can mend; failures of its connection are tried again */
  async run(signal: AbortSignal): Promise<void> {
    // Asked anew after each await: what the compiler concluded before it no longer holds.
    const stopping = (): boolean => signal.aborted;
    try {
      while (!stopping()) {
        try {
          if (!(await this.#step(signal))) await pause(this.#done() ? IDLE_MS : WAIT_MS, signal);
        } catch (error) {
          this.#source?.destroy();
          this.#source = null;
          this.#closeScan();
          // The table may have changed under the query; the stream will tell, but later.
          this.#definitions.clear();
          if (stopping()) return;
          if (!(error instanceof TributaryError) || !error.retryable) throw error;
          this.#o.logger.warn({ err: error }, 'a snapshot chunk is read again');
          await pause(RETRY_MS, signal);
        }
      }
    } finally {
      this.#source?.destroy();
      this.#closeScan();
    }
  }

  /** Nothing is to be copied, and nothing waits for its turn. */
  #done(): boolean {
    const progress = this.#o.spool.snapshot() ?? idleProgress();
    return progress.finished && !hasQueue(progress);
  }

  /** Does the next thing. Returns false when there is nothing to do. */
  async #step(signal: AbortSignal): Promise<boolean> {
    this.#forgetChanged();
    const progress = this.#o.spool.snapshot() ?? idleProgress();
    if (this.#o.sink.phase !== 'taking') return false;
    const usage = this.#o.spool.usage();
    if (!usage.room || usage.waitingBytes > usage.maxBytes * SHARE_OF_SPOOL) {
      this.#closeScan();
      return false;
    }
    if (progress.finished) {
      if (!hasQueue(progress) || this.#o.sink.owesMore(progress, this.#restUntil)) return false;
      await this.#begin(progress, signal);
    } else if (!progress.started) {
      await this.#mark(progress, signal);
    } else {
      const table = currentTable(progress);
      if (table === null) await this.#finish(progress, signal);
      else await this.#copy(table, signal);
    }
    return true;
  }

  /** The next snapshot, of the queued tables that are there. */
  async #begin(progress: SnapshotProgress, signal: AbortSignal): Promise<void> {
    const all = await readTables(await this.#connection(), this.#o.selection);
    const wanted = progress.queuedWhole
      ? all
      : all.filter(table => progress.queued.some(each => each.schema === table.schema && each.name === table.name));
    const missing = progress.queued.filter(
      each => !all.some(table => table.schema === each.schema && table.name === each.name),
    );
    const fresh = beginProgress(randomUUID(), progress.queuedWhole, wanted);
    const next = { ...fresh, requests: progress.queuedRequests };
    await this.#between(this.#o.sink.place, signal, () => {
      // What was queued while the tables were read waits for the one after.
      this.#o.sink.emitSnapshot(startMarker(next, wanted, this.#o.selection), now =>
        follow({ ...next, started: true }, progress, now),
      );
    });
    this.#begunAt = Date.now();
    this.#o.logger.info({ snapshot: next.id, tables: wanted.length }, 'snapshot begun');
    if (missing.length > 0) {
      const names = missing.map(({ schema, name }) => `${schema}.${name}`);
      this.#o.logger.warn({ tables: names }, 'tables to be copied are not there, or the user may not see them');
    }
  }

  /** The start marker of an epoch whose first batch did not get into the spool. */
  async #mark(progress: SnapshotProgress, signal: AbortSignal): Promise<void> {
    const all = await readTables(await this.#connection(), this.#o.selection);
    const tables = all.filter(table =>
      progress.tables.some(each => each.schema === table.schema && each.name === table.name),
    );
    await this.#between(this.#o.sink.place, signal, () => {
      this.#o.sink.emitSnapshot(startMarker(progress, tables, this.#o.selection), now => ({ ...now, started: true }));
    });
  }

  async #finish(progress: SnapshotProgress, signal: AbortSignal): Promise<void> {
    await this.#between(this.#o.sink.place, signal, () => {
      this.#o.sink.emitSnapshot(endMarker(progress, this.#o.selection), now => ({ ...now, finished: true }));
    });
    if (this.#begunAt > 0) this.#restUntil = Date.now() + REST_FOR_CASCADES * (Date.now() - this.#begunAt);
    const rows = progress.tables.reduce((sum, table) => sum + table.rows, 0);
    this.#o.logger.info({ snapshot: progress.id, tables: progress.tables.length, rows }, 'snapshot finished');
  }

  async #copy(table: SnapshotTable, signal: AbortSignal): Promise<void> {
    const { sink } = this.#o;
    const changed = (): boolean =>
      sink.changedTables.some(each => each.schema === table.schema && each.name === table.name);
    const definition = await this.#definition(table);
    if (definition !== this.#scan?.rows.table) this.#closeScan();
    if (definition === null) {
      await this.#between(sink.place, signal, () => {
        if (!changed()) sink.emitSnapshot(null, now => updateTable(now, table, { state: 'done' }));
      });
      return;
    }
    if (keyColumns(definition.columns).length === 0) {
      await this.#copyCounted(table, definition, changed, signal);
      return;
    }
    const noted = new Set<KeyId>();
    const source = await this.#connection();
    try {
      const emitted = await this.#atRest(signal, () => {
        sink.record(table.schema, table.name, key => {
          if (noted.size <= MOST_NOTED_KEYS) noted.add(key);
        });
        return { place: sink.place, gtids: sink.gtidSet };
      });
      const chunk = await this.#read(source, emitted, definition, this.#opened(definition, table));
      await this.#between(chunk.high, signal, () => {
        if (changed()) return;
        if (noted.size > MOST_NOTED_KEYS) {
          this.#chunkRows = Math.max(1, this.#chunkRows >> 2);
          return;
        }
        this.#emit(definition, table, chunk, noted);
      });
    } finally {
      sink.record(table.schema, table.name, null);
    }
  }

  /** The next chunk of a table without a key. */
  async #copyCounted(
    table: SnapshotTable,
    definition: CapturedTable,
    changed: () => boolean,
    signal: AbortSignal,
  ): Promise<void> {
    const { sink, selection, logger } = this.#o;
    if (this.#scan !== null && Date.now() - this.#scan.openedAt > LONGEST_SCAN_MS) this.#closeScan();
    const scan = (this.#scan ??= await this.#openScan(definition, table, signal));
    const chunk = await scan.rows.next();
    await this.#between(scan.rows.window.to, signal, () => {
      if (changed()) {
        this.#closeScan();
        return;
      }
      if (scan.notes.overflown) {
        this.#closeScan();
        const name = `${table.schema}.${table.name}`;
        logger.warn({ table: name }, 'a table without a key has changed too much while it was read: it is read again');
        return;
      }
      const drafts = countDrafts(definition, selection, chunk, id => scan.notes.since(id), sink.targetBytes);
      const last = drafts.pop() ?? null;
      for (const draft of drafts) sink.emitSnapshot(draft, now => now);
      const through = chunk.through === null ? table.lastKey : this.#sealed(definition, [chunk.through]);
      const rows = table.rows + chunk.counts.reduce((sum, copies) => sum + copies, 0);
      const state = chunk.last ? ('done' as const) : ('copying' as const);
      sink.emitSnapshot(last, now => updateTable(now, table, { state, lastKey: through, rows }));
      if (chunk.last) this.#closeScan();
    });
  }

  /** Looks for a moment around which nobody writes to the table, and begins to read it there. */
  async #openScan(definition: CapturedTable, table: SnapshotTable, signal: AbortSignal): Promise<OpenScan> {
    const { sink, connect, identity, charsets } = this.#o;
    const [through = null] = this.#opened(definition, table) ?? [];
    const after = through === null ? null : Number(through);
    const readers = readersOf(definition, charsets);
    for (let moments = 0; moments < MOST_MOMENTS && !signal.aborted; moments++) {
      const notes = new CopyNotes(MOST_NOTED_KEYS);
      const emitted = await this.#atRest(signal, () => {
        sink.record(table.schema, table.name, (key, copies) => notes.note(key, copies, sink.groupStart));
        return sink.place;
      });
      let rows: RowScan | null = null;
      try {
        rows = await RowScan.open({ connect, identity, table: definition, readers, emitted, after });
        const { window = null } = rows ?? {};
        if (rows !== null && window !== null && (await this.#between(window.to, signal, () => notes.settle(window)))) {
          return { rows, notes, openedAt: Date.now() };
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
      `${table.schema}.${table.name}, a table without a key, is written to at every moment at which it could be read`,
    );
  }

  #closeScan(): void {
    if (this.#scan === null) return;
    const { rows } = this.#scan;
    this.#scan = null;
    rows.close();
    this.#o.sink.record(rows.table.schema, rows.table.name, null);
  }

  /** Emits the rows of the chunk that the stream has not spoken of, as batches of the usual size. */
  #emit(definition: CapturedTable, table: SnapshotTable, chunk: Chunk, noted: ReadonlySet<KeyId>): void {
    const perBatch = Math.max(1, Math.floor((chunk.rows * this.#o.sink.targetBytes) / Math.max(1, chunk.bytes)));
    let rows = table.rows;
    for (let from = 0; from < chunk.rows; from += perBatch) {
      const to = Math.min(chunk.rows, from + perBatch);
      const kept: number[] = [];
      for (let row = from; row < to; row++) if (!noted.has(chunk.ids[row]!)) kept.push(row);
      rows += to - from;
      const ended = chunk.last && to === chunk.rows;
      const change = {
        state: ended ? ('done' as const) : ('copying' as const),
        lastKey: this.#sealed(definition, chunk.cursors[to - 1]!),
        rows,
      };
      this.#o.sink.emitSnapshot(
        kept.length === 0 ? null : upsertDraft(definition, this.#o.selection, chunk, kept),
        now => updateTable(now, table, change),
      );
    }
    if (chunk.rows === 0) {
      this.#o.sink.emitSnapshot(null, now => updateTable(now, table, { state: 'done' }));
    }
    this.#resize(chunk);
  }

  /** A key that is hashed does not get into the spool as it is, not even as a mark of how far the copying is. */
  #sealed(table: CapturedTable, cursor: readonly Value[]): readonly Value[] {
    return isSealed(table) ? this.#o.selection.hasher.seal(cursor) : cursor;
  }

  /** Where to read on; null: from the beginning, also where the mark was made with another key. */
  #opened(table: CapturedTable, { lastKey }: SnapshotTable): readonly Value[] | null {
    return lastKey === null || !isSealed(table) ? lastKey : this.#o.selection.hasher.open(lastKey);
  }

  #resize(chunk: Chunk): void {
    if (chunk.rows < this.#chunkRows) return;
    const fitting = Math.floor((chunk.rows * CHUNK_BYTES) / Math.max(1, chunk.bytes));
    this.#chunkRows = Math.max(1, Math.min(MOST_CHUNK_ROWS, this.#chunkRows * 4, fitting));
  }

  /** Reads the next chunk in a view that holds all that the stream had emitted then. */
  async #read(
    source: SourceConnection,
    { place: emitted, gtids }: { readonly place: StreamPlace; readonly gtids: string },
    table: CapturedTable,
    lastKey: readonly Value[] | null,
  ): Promise<Chunk> {
    const { identity } = this.#o;
    let cells: (Buffer | null)[][];
    if (identity.flavor === 'mariadb') {
      await source.execute('START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY');
      const view = await source.snapshotPlace();
      if (comparePlaces(view, emitted) < 0) {
        throw new TributaryError('SOURCE_UNREACHABLE', 'a commit was not yet visible');
      }
      cells = await source.cells(chunkQuery(table, lastKey, this.#chunkRows, ''));
      await source.execute('COMMIT');
    } else {
      if (gtids !== '') await source.waitUntilVisible(gtids, VISIBLE_WITHIN_SECONDS);
      cells = await source.cells(chunkQuery(table, lastKey, this.#chunkRows, identity.gtids ? '' : ' FOR SHARE'));
    }
    const high = await source.binlogEnd();
    return toChunk(table, this.#o.charsets, cells, cells.length < this.#chunkRows, high);
  }

  /**
   * Runs the callback between groups: now, or at the end of the open one. Noting keys must not begin inside a group:
   * what the stream has taken of it would be neither noted nor, with its commit under way, in the chunk's view.
   */
  async #atRest<T>(signal: AbortSignal, run: () => T): Promise<T> {
    const { sink } = this.#o;
    return sink.betweenGroups ? run() : this.#between(sink.place, signal, run);
  }

  /** Runs the callback between groups once the stream, heard after now, is at or past the place. */
  async #between<T>(place: StreamPlace, signal: AbortSignal, run: () => T): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const aborted = (): void => reject(new TributaryError('STREAM_ENDED', 'the binlog stream ended'));
    signal.addEventListener('abort', aborted, { once: true });
    if (signal.aborted) aborted();
    else {
      this.#o.sink.whenPast(place, () => resolve(run()));
    }
    try {
      return await promise;
    } finally {
      signal.removeEventListener('abort', aborted);
    }
  }

  async #definition(table: SnapshotTable): Promise<CapturedTable | null> {
    const key = `${table.schema}.${table.name}`;
    const known = this.#definitions.get(key);
    if (known) return known;
    const [read] = await readTables(await this.#connection(), this.#o.selection, table);
    if (read === undefined) return null;
    if (read.problem !== null) throw new TributaryError('VALUE_UNSUPPORTED', `table ${key}: ${read.problem}`);
    const foreign = read.columns.flatMap(({ charset }) => (charset === null ? [] : [charset]));
    if (foreign.length > 0) await this.#o.charsets.load(await this.#connection(), foreign);
    this.#definitions.set(key, read);
    return read;
  }

  #forgetChanged(): void {
    for (const { schema, name } of this.#o.sink.changedTables.splice(0)) this.#definitions.delete(`${schema}.${name}`);
  }

  /** A connection whose server is the one that the stream comes from. */
  async #connection(): Promise<SourceConnection> {
    if (this.#source) return this.#source;
    const source = await this.#o.connect();
    const identity = await source.identity();
    if (identity.server !== this.#o.identity.server) {
      source.destroy();
      throw new TributaryError('SOURCE_UNREACHABLE', `another server (${identity.server}) answers at the address`);
    }
    this.#source = source;
    return source;
  }
}

function isSealed(table: CapturedTable): boolean {
  const keyless = keyColumns(table.columns).length === 0;
  return table.columns.some(
    ({ key, type, convert }) => (keyless || key !== undefined) && convert !== null && type === HASH_TYPE,
  );
}

function markerDraft(tables: readonly TableDescription[], change: Change): BatchDraft {
  return { tables, changes: [change], transactions: 0, part: null, rows: 0, bytes: 0 };
}

/** Opens a snapshot; carries the tables' definitions, so that empty ones come into being at the head office too. */
export function startMarker(
  progress: SnapshotProgress,
  tables: readonly CapturedTable[],
  selection: Selection,
): BatchDraft {
  const descriptions = tables.map(table => describe(table, selection));
  return markerDraft(descriptions, {
    op: 'snapshot-start',
    snapshot: progress.id,
    tables: descriptions.map((_, index) => index),
    whole: progress.whole,
    requests: progress.requests,
  });
}

function endMarker(progress: SnapshotProgress, selection: Selection): BatchDraft {
  const descriptions = progress.tables.map(table => ({
    schema: table.schema,
    name: selection.targetName(table.schema, table.name),
    columns: [],
  }));
  return markerDraft(descriptions, {
    op: 'snapshot-end',
    snapshot: progress.id,
    tables: descriptions.map((_, index) => index),
    whole: progress.whole,
    requests: progress.requests,
  });
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await sleep(ms, undefined, { signal });
  } catch {
    // Aborted: the caller looks at the signal.
  }
}
