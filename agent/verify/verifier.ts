/**
 * Answers the head office's requests to compare tables (shared/row-sums.ts), while the branch sells on and capture runs.
 *
 * All tables of a request are read in one consistent view, and compared at one place of the stream:
 * 1. Between two groups, all that was taken is spooled; `emitted` is where the stream is then.
 * 2. A view is begun that holds everything before `emitted`; `high` is the binlog's end after that.
 * 3. When the stream is past `high`, `verify-start` is put into it. What the batches since 1 say of a row is what the row
 *    is there; every other row is there as the view shows it (touched.ts). So the place need not be the view's own, which
 *    MySQL does not tell.
 * 4. Table after table is read and `verify-sums` put into the stream; then `verify-end`.
 *
 * Of a table without a key the stream does not tell rows apart: a moment is looked for around which nobody writes to it.
 *
 * One Verifier lives as long as one binlog connection. Losing it ends the comparison, and the next life begins it again
 * with a mark of its own: nothing of it is stored.
 */
import { randomUUID } from 'node:crypto';
import type { Change, TableDescription, Value } from '../../shared/batch.ts';
import { columnType, decodeBatch } from '../../shared/batch-codec.ts';
import { TributaryError, assert, describeError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/logging.ts';
import { mysqlErrno } from '../../shared/mysql.ts';
import { pause } from '../../shared/pause.ts';
import type { Ask } from '../../shared/protocol.ts';
import { TableSums, bucketsFor, markRow } from '../../shared/row-sums.ts';
import { keyColumns, keyIdOf } from '../capture/batcher.ts';
import type { StreamPlace } from '../capture/group-reader.ts';
import type { Selection } from '../capture/selection.ts';
import type { CaptureSink } from '../capture/sink.ts';
import type { ServerCharsets } from '../capture/server-charsets.ts';
import { comparePlaces } from '../capture/source.ts';
import type { SourceConnection, SourceIdentity } from '../capture/source.ts';
import { readTables } from '../capture/tables.ts';
import type { CapturedTable } from '../capture/tables.ts';
import { describe, readersOf } from '../snapshot/chunk.ts';
import { chunkQuery, cursorOf, lockingQuery, tableQuery } from '../snapshot/chunk-query.ts';
import { hasQueue } from '../snapshot/progress.ts';
import { SCAN_STALL_MS, SNAPSHOT_ENGINES } from '../snapshot/row-scan.ts';
import { between } from '../snapshot/stream-moments.ts';
import type { Spool } from '../spool/spool.ts';
import { Touched } from './touched.ts';
import type { ComparedTable } from './touched.ts';

/** Rows read by one query, after which the table is let go of: whoever ALTERs it gets in between. */
const FIRST_CHUNK_ROWS = 100;
const MOST_CHUNK_ROWS = 20_000;
const CHUNK_BYTES = 4 * 1024 * 1024;
/** Rows of a table without a key are read by one query; after so many others get a turn. */
const ROWS_A_TURN = 2_000;
/** Reading takes half of the time at most, the rest is capture's and the server's. */
const REST_SHARE = 1;
const MOST_REST_MS = 1_000;
/** Moments tried until one is clear for all tables; then those that are not are named. */
const MOST_MOMENTS = 30;
/** Where each means to read the tables under locks first. */
const MOST_DEAR_MOMENTS = 3;
/** Of what the stream brings between the view and its mark. */
const MOST_TOUCHED_ROWS = 200_000;
const MOST_TOUCHED_BYTES = 64 * 1024 * 1024;
const VISIBLE_WITHIN_SECONDS = 30;
/** The server keeps old versions of rows for a view: tables that are not read by then are named. */
const LONGEST_VIEW_MS = 2 * 60 * 60_000;
const IDLE_MS = 500;
const RETRY_MS = 2_000;
const MOST_PROBLEM = 500;

export interface VerifierOptions {
  readonly connect: (stallMs?: number) => Promise<SourceConnection>;
  readonly identity: SourceIdentity;
  readonly selection: Selection;
  readonly charsets: ServerCharsets;
  readonly spool: Spool;
  readonly sink: CaptureSink;
  readonly logger: Logger;
  /** The oldest request that is open; null: none. */
  readonly next: () => Ask | null;
  /** The request has been answered, as far as this side can. */
  readonly done: (ask: Ask) => void;
}

/** A table of a request. */
interface Asked {
  /** As the stream names it; without columns where it cannot be compared. */
  readonly description: TableDescription;
  readonly buckets: number;
  /** null: it is not there, or cannot be read. */
  readonly source: { readonly table: CapturedTable; readonly compared: ComparedTable } | null;
  readonly problem: string | null;
}

export class Verifier {
  readonly #o: VerifierOptions;

  constructor(options: VerifierOptions) {
    this.#o = options;
  }

  /** Works until aborted. Failures are tried again: a comparison never stops capture. */
  async run(signal: AbortSignal): Promise<void> {
    // Asked anew after each await: what the compiler concluded before it no longer holds.
    const stopping = (): boolean => signal.aborted;
    while (!stopping()) {
      const ask = this.#o.next();
      if (ask === null || !this.#isReady()) {
        await pause(IDLE_MS, signal);
        continue;
      }
      try {
        await this.#serve(ask, signal);
        this.#o.done(ask);
      } catch (error) {
        if (stopping()) return;
        this.#o.logger.warn({ err: error, request: ask.id }, 'a verification begins again');
        await pause(RETRY_MS, signal);
      }
    }
  }

  /** Capture is at work, and the head office is to hold all rows: nothing is being copied or waits for it. */
  #isReady(): boolean {
    const { sink, spool } = this.#o;
    const progress = spool.snapshot();
    const isCopied = progress === null || (progress.finished && !hasQueue(progress));
    return sink.phase === 'taking' && isCopied && spool.hasRoom();
  }

  async #serve(ask: Ask, signal: AbortSignal): Promise<void> {
    const source = await this.#o.connect(SCAN_STALL_MS);
    try {
      if ((await source.identity()).server !== this.#o.identity.server) {
        throw new TributaryError('SOURCE_UNREACHABLE', 'another server answers at the address');
      }
      await source.execute('SET SESSION net_write_timeout = 1800');
      const asked = await this.#tables(source, ask);
      const verification = randomUUID();
      this.#o.logger.info({ verification, request: ask.id, tables: asked.length }, 'verification begun');
      const touched = await this.#begin(source, ask, verification, asked, signal);
      const until = Date.now() + LONGEST_VIEW_MS;
      for (const table of asked) await this.#compare(source, verification, table, touched, until, signal);
      await this.#emit(() => draft([], { op: 'verify-end', verification, request: ask.id }), signal);
      this.#o.logger.info({ verification }, 'verification finished');
    } finally {
      source.destroy();
    }
  }

  /** The tables of a request, the smallest first. */
  async #tables(source: SourceConnection, { tables }: Ask): Promise<Asked[]> {
    const { selection, charsets } = this.#o;
    const all = await readTables(source, selection);
    const wanted = tables?.map(({ schema, name }) => ({ schema, name, source: selection.sourceName(schema, name) }));
    const present = all.filter(
      ({ schema, name }) => wanted?.some(each => each.schema === schema && each.source === name) ?? true,
    );
    const missing = (wanted ?? []).filter(
      each => !present.some(({ schema, name }) => schema === each.schema && name === each.source),
    );
    const foreign = present.flatMap(({ columns }) =>
      columns.flatMap(({ charset }) => (charset === null ? [] : charset)),
    );
    if (foreign.length > 0) await charsets.load(source, foreign);
    const size = ({ estimatedRows }: CapturedTable): number => estimatedRows ?? 0;
    return [
      ...missing.map(({ schema, name }) =>
        incomparable({ schema, name, columns: [] }, 'the branch does not capture a table of this name'),
      ),
      ...present.sort((a, b) => size(a) - size(b)).map(table => this.#asked(table)),
    ];
  }

  #asked(table: CapturedTable): Asked {
    const described = describe(table, this.#o.selection);
    const { problem, engine } = table;
    if (problem !== null) return incomparable(described, problem);
    if (!SNAPSHOT_ENGINES.has(engine)) {
      return incomparable(described, `its engine ${engine} shows no moment of the table while others write to it`);
    }
    const buckets = bucketsFor(table.estimatedRows);
    const shape = { types: described.columns.map(({ type }) => columnType(type)), key: keyColumns(described.columns) };
    const compared = { description: described, shape, buckets };
    return { description: described, buckets, source: { table, compared }, problem: null };
  }

  /** Begins a view and puts the mark into the stream. @returns what the stream says of rows between the two */
  async #begin(
    source: SourceConnection,
    ask: Ask,
    verification: string,
    asked: readonly Asked[],
    signal: AbortSignal,
  ): Promise<Touched> {
    const { sink, spool, identity } = this.#o;
    const read = asked.flatMap(each => each.source ?? []);
    const mark: Change = {
      op: 'verify-start',
      verification,
      request: ask.id,
      tables: asked.map((_, index) => index),
      buckets: asked.map(({ buckets }) => buckets),
      whole: ask.tables === null,
    };
    const most = identity.flavor === 'mysql' && !identity.gtids ? MOST_DEAR_MOMENTS : MOST_MOMENTS;
    for (let moment = 1; ; moment += 1) {
      const emitted = await this.#atRest(signal, () => {
        if (!spool.hasRoom()) return null;
        sink.flush();
        return { place: sink.place, gtids: sink.gtidSet, seq: spool.stream().head.seq };
      });
      const high = emitted === null ? null : await beginView(source, identity, read, emitted);
      if (emitted !== null && high !== null) {
        const touched = await between(this.#o.sink, high, signal, () => {
          if (!this.#isReady()) return null;
          sink.flush();
          const found = this.#touchedSince(emitted.seq, read);
          if (found === null || (found.hasUnclear && moment < most)) return null;
          sink.emitSnapshot(
            draft(
              asked.map(({ description }) => description),
              mark,
            ),
            now => now,
          );
          return found;
        });
        if (touched !== null) return touched;
      }
      if (moment >= most) {
        throw new TributaryError(
          'SOURCE_UNREACHABLE',
          'too much changes at every moment at which it could be compared',
        );
      }
      await source.execute('ROLLBACK');
      await pause(Math.random() * IDLE_MS, signal);
    }
  }

  /** null: it is too much. */
  #touchedSince(seq: number, read: readonly { readonly compared: ComparedTable }[]): Touched | null {
    const { spool } = this.#o;
    const touched = new Touched(
      read.map(({ compared }) => compared),
      MOST_TOUCHED_ROWS,
    );
    let bytes = 0;
    for (let next = seq + 1; next <= spool.stream().head.seq; next += 1) {
      const batch = spool.read(next);
      assert(batch !== null, `batch ${next} has just been spooled`);
      bytes += batch.bytes;
      if (bytes > MOST_TOUCHED_BYTES) return null;
      touched.take(decodeBatch(batch.body));
      if (touched.overflown) return null;
    }
    return touched;
  }

  /** Reads a table and puts its sums into the stream, or why there are none. */
  async #compare(
    source: SourceConnection,
    verification: string,
    asked: Asked,
    touched: Touched,
    until: number,
    signal: AbortSignal,
  ): Promise<void> {
    let { problem } = asked;
    let sums: TableSums | null = null;
    if (asked.source !== null) {
      const { compared } = asked.source;
      if (touched.isUnclear(compared)) problem = 'it was written to at every moment at which it could be compared';
      else if (Date.now() > until) problem = 'reading the tables before it took too long: ask for it alone';
      else {
        try {
          sums = await this.#sum(source, asked.source, touched, signal);
        } catch (error) {
          // Its definition was changed meanwhile, or a value cannot be carried: this table's own matter.
          if (!(error instanceof TributaryError) || (error.retryable && mysqlErrno(error.cause) === null)) throw error;
          problem = describeError(error);
        }
      }
    }
    const { schema, name } = asked.description;
    const bytes = sums?.toBytes().toString('base64') ?? '';
    await this.#emit(
      () =>
        draft([{ schema, name, columns: [] }], {
          op: 'verify-sums',
          verification,
          table: 0,
          sums: bytes,
          problem: problem?.slice(0, MOST_PROBLEM).toWellFormed() ?? null,
        }),
      signal,
    );
  }

  async #sum(
    source: SourceConnection,
    { table, compared }: NonNullable<Asked['source']>,
    touched: Touched,
    signal: AbortSignal,
  ): Promise<TableSums> {
    const { shape, buckets } = compared;
    const sums = new TableSums(buckets);
    const rows = touched.rowsOf(compared);
    const readers = readersOf(table, this.#o.charsets);
    const add = (cells: readonly (Buffer | null)[]): void => {
      const values = readers.map((read, index): Value => read(cells[index] ?? null));
      if (
        rows.size > 0 &&
        rows.has(
          keyIdOf(
            shape.key.map(index => [values[index]!]),
            0,
          ),
        )
      )
        return;
      sums.add(markRow(shape, values, buckets));
    };
    if (shape.key.length === 0) await this.#readWhole(source, table, add, signal);
    else await this.#readByKey(source, table, add, signal);
    for (const mark of rows.values()) if (mark !== null) sums.add(mark);
    return sums;
  }

  async #readByKey(
    source: SourceConnection,
    table: CapturedTable,
    add: (cells: readonly (Buffer | null)[]) => void,
    signal: AbortSignal,
  ): Promise<void> {
    let after: Value[] | null = null;
    for (let limit = FIRST_CHUNK_ROWS; ;) {
      const startedAt = performance.now();
      await source.execute('SAVEPOINT chunk');
      const cells = await source.cells(chunkQuery(table, after, limit, ''));
      // The view stays; the lock that keeps others from altering the table goes.
      await source.execute('ROLLBACK TO SAVEPOINT chunk');
      let bytes = 0;
      for (const row of cells) {
        add(row);
        for (const cell of row) bytes += 4 + (cell?.length ?? 0);
      }
      if (cells.length < limit) return;
      after = cursorOf(table, cells.at(-1)!);
      const fitting = Math.floor((cells.length * CHUNK_BYTES) / Math.max(1, bytes));
      limit = Math.max(1, Math.min(MOST_CHUNK_ROWS, limit * 4, fitting));
      await rest(startedAt, signal);
    }
  }

  async #readWhole(
    source: SourceConnection,
    table: CapturedTable,
    add: (cells: readonly (Buffer | null)[]) => void,
    signal: AbortSignal,
  ): Promise<void> {
    let startedAt = performance.now();
    let rows = 0;
    let fault: Error | null = null;
    for await (const cells of source.stream(tableQuery(table))) {
      try {
        if (fault === null) add(cells);
      } catch (error) {
        // The rest is still to be read: the next query comes over the same connection.
        fault = error instanceof Error ? error : new TributaryError('INTERNAL', describeError(error));
      }
      rows += 1;
      if (rows % ROWS_A_TURN > 0) continue;
      await rest(startedAt, signal);
      startedAt = performance.now();
    }
    if (fault !== null) throw fault;
  }

  /** Puts a batch into the stream where it is, as soon as the spool has room for it. */
  async #emit(make: () => ReturnType<typeof draft>, signal: AbortSignal): Promise<void> {
    const { sink, spool } = this.#o;
    for (;;) {
      const done = await this.#atRest(signal, () => {
        if (!spool.hasRoom()) return false;
        sink.emitSnapshot(make(), now => now);
        return true;
      });
      if (done) return;
      await pause(IDLE_MS, signal);
    }
  }

  /** Runs the callback between groups: now, or at the end of the open one. */
  async #atRest<T>(signal: AbortSignal, run: () => T): Promise<T> {
    const { sink } = this.#o;
    return !signal.aborted && sink.sound ? run() : between(sink, sink.place, signal, run);
  }
}

/**
 * A transaction that shows one moment, at which everything that the stream had emitted is visible.
 * @returns the binlog's end after that moment; null: it was too early
 */
async function beginView(
  source: SourceConnection,
  identity: SourceIdentity,
  read: readonly { readonly table: CapturedTable }[],
  { place, gtids }: { readonly place: StreamPlace; readonly gtids: string },
): Promise<StreamPlace | null> {
  const begin = 'START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY';
  if (identity.flavor === 'mariadb') {
    await source.execute(begin);
    if (comparePlaces(await source.snapshotPlace(), place) < 0) return null;
  } else {
    if (identity.gtids) {
      if (gtids !== '') await source.waitUntilVisible(gtids, VISIBLE_WITHIN_SECONDS);
    } else {
      await source.execute('SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED');
      for (const { table } of read) await source.execute(lockingQuery(table));
      await source.execute('SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ');
    }
    await source.execute(begin);
  }
  const { file, offset } = await source.binlogEnd();
  return { file, offset };
}

function incomparable(description: TableDescription, problem: string): Asked {
  return { description: { ...description, columns: [] }, buckets: 1, source: null, problem };
}

function draft(tables: readonly TableDescription[], change: Change) {
  return { tables, changes: [change], transactions: 0, part: null, rows: 0, bytes: 0 };
}

/** Leaves the processor and the server to others for as long as was worked. */
async function rest(startedAt: number, signal: AbortSignal): Promise<void> {
  await pause(Math.min(MOST_REST_MS, (performance.now() - startedAt) * REST_SHARE), signal);
  if (signal.aborted) throw new TributaryError('STREAM_ENDED', 'the binlog stream ended');
}
