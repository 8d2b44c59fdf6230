/**
 * Reads a table without a key at one moment, with one query that stays open for as long as its rows are needed.
 *
 * The server sorts the rows by their checksum (`scanQuery`), so equal rows come one after the other and are counted here by
 * all their values. A chunk ends where the checksum changes, and reading may begin again there. Only one chunk is in memory.
 *
 * The moment is a window of the stream (chunk-notes.ts):
 * - MariaDB reports the exact place of a consistent snapshot.
 * - MySQL with GTIDs: from what the stream has emitted, after all of that is visible, to the binlog's end after the snapshot
 *   began. An end of the binlog cannot be the beginning: a commit before it may be neither visible nor in the server's
 *   executed set yet.
 * - MySQL without GTIDs: from an end of the binlog. Everything before it is visible after a locking read has passed every
 *   row, one lock at a time.
 * - Tables of engines without transactions: a query waits for writers, which log before they release their locks. The window
 *   goes from the binlog's end before the query to its end after the first row.
 */
import type { Value } from '../../shared/batch/batch.ts';
import { TributaryError } from '../../shared/errors.ts';
import type { KeyId } from '../stream/key-index.ts';
import { rowIdOf } from '../stream/keyless-buffer.ts';
import type { BinlogPosition } from '../binlog/group-sink.ts';
import { comparePositions } from '../source/connection.ts';
import type { SourceConnection, SourceIdentity } from '../source/connection.ts';
import type { CapturedTable } from '../source/tables.ts';
import type { CountedRows } from './chunk.ts';
import { lockingQuery, scanQuery } from './chunk-query.ts';
import type { Window } from './chunk-notes.ts';
import type { Emitted } from './stream-moments.ts';

/** The size of a chunk: about this many bytes, and this many different rows. */
const CHUNK_BYTES = 4 * 1024 * 1024;
const MAX_CHUNK_ROWS = 20_000;
/** Sorting may take a long time before the first row comes, and a chunk may wait for room in the spool. */
export const SCAN_STALL_MS = 30 * 60_000;
const VISIBLE_WITHIN_SECONDS = 30;
/** Engines with consistent snapshots: a session sees one moment, whatever is committed meanwhile. */
export const SNAPSHOT_ENGINES = new Set(['innodb', 'rocksdb']);

type Cells = readonly (Buffer | null)[];
/** Makes the wire value of a column's cell. */
export type CellReader = (cell: Buffer | null) => Value;

export interface ScanOptions {
  readonly connect: (stallMs?: number) => Promise<SourceConnection>;
  readonly identity: SourceIdentity;
  readonly table: CapturedTable;
  readonly readers: readonly CellReader[];
  /** What the stream had emitted when changes began to be noted. */
  readonly emitted: Emitted;
  /** Read only rows with a greater checksum; null: from the beginning. */
  readonly after: number | null;
}

export class RowScan {
  readonly table: CapturedTable;
  readonly window: Window;
  readonly #source: SourceConnection;
  readonly #readers: readonly CellReader[];
  readonly #rows: AsyncGenerator<Cells, void, undefined>;
  /** A row that was read and not taken yet. */
  #ahead: Cells | null;

  private constructor(
    { table, readers }: ScanOptions,
    source: SourceConnection,
    window: Window,
    rows: AsyncGenerator<Cells, void, undefined>,
    ahead: Cells | null,
  ) {
    this.table = table;
    this.window = window;
    this.#source = source;
    this.#readers = readers;
    this.#rows = rows;
    this.#ahead = ahead;
  }

  /** Begins to read. @returns null: the moment was too early; try again */
  static async open(options: ScanOptions): Promise<RowScan | null> {
    const { connect, identity, table, emitted, after } = options;
    const source = await connect(SCAN_STALL_MS);
    try {
      if ((await source.identity()).server !== identity.server) {
        throw new TributaryError('SOURCE_UNREACHABLE', 'Another server answers at the address.');
      }
      await source.execute('SET SESSION net_write_timeout = 1800, sort_buffer_size = 67108864');
      const query = scanQuery(table, after);
      if (SNAPSHOT_ENGINES.has(table.engine)) {
        const window = await beginSnapshot(source, identity, table, emitted);
        if (window !== null) return new RowScan(options, source, window, source.stream(query), null);
        source.destroy();
        return null;
      }
      const { gtidSet, ...from } = await source.binlogEnd();
      if (gtidSet !== '') await source.waitUntilVisible(gtidSet, VISIBLE_WITHIN_SECONDS);
      // With SQL_BUFFER_RESULT the server releases the table's locks as soon as the result is in a temporary table.
      const rows = source.stream(query.replace('SELECT', 'SELECT SQL_BUFFER_RESULT'));
      const first = await rows.next();
      const to = await endOf(connect);
      return new RowScan(options, source, { from, to }, rows, first.done === true ? null : first.value);
    } catch (error) {
      source.destroy();
      throw error;
    }
  }

  /** Reads the next chunk. */
  async next(): Promise<CountedRows> {
    const columns: Value[][] = this.#readers.map(() => []);
    const places = new Map<KeyId, number>();
    const ids: KeyId[] = [];
    const counts: number[] = [];
    let bytes = 0;
    let through: number | null = null;
    for (;;) {
      const row = this.#ahead ?? (await this.#read());
      this.#ahead = null;
      if (row === null) return { ids, counts, columns, bytes, through, last: true };
      const checksum = Number(row[this.#readers.length]?.toString('latin1'));
      if (checksum !== through && (bytes >= CHUNK_BYTES || ids.length >= MAX_CHUNK_ROWS)) {
        this.#ahead = row;
        return { ids, counts, columns, bytes, through, last: false };
      }
      through = checksum;
      const values = this.#readers.map((read, c) => [read(row[c] ?? null)]);
      const id = rowIdOf(values, 0);
      const place = places.get(id);
      if (place !== undefined) {
        counts[place]! += 1;
        continue;
      }
      places.set(id, ids.length);
      ids.push(id);
      counts.push(1);
      values.forEach(([value], c) => columns[c]!.push(value ?? null));
      for (const cell of row) bytes += 4 + (cell?.length ?? 0);
    }
  }

  async #read(): Promise<Cells | null> {
    const next = await this.#rows.next();
    return next.done === true ? null : next.value;
  }

  close(): void {
    this.#source.destroy();
  }
}

/** Begins a transaction that sees one moment. @returns its window; null: the moment is too early */
async function beginSnapshot(
  source: SourceConnection,
  identity: SourceIdentity,
  table: CapturedTable,
  emitted: Emitted,
): Promise<Window | null> {
  const begin = 'START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY';
  if (identity.flavor === 'mariadb') {
    await source.execute(begin);
    const place = await source.snapshotPlace();
    return comparePositions(place, emitted.place) < 0 ? null : { from: place, to: place };
  }
  let from = emitted.place;
  if (identity.gtids) {
    if (emitted.gtids !== '') await source.waitUntilVisible(emitted.gtids, VISIBLE_WITHIN_SECONDS);
  } else {
    const end = await source.binlogEnd();
    from = { file: end.file, offset: end.offset };
    await source.execute('SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED');
    await source.execute(lockingQuery(table));
    await source.execute('SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ');
  }
  await source.execute(begin);
  const { file, offset } = await source.binlogEnd();
  return { from, to: { file, offset } };
}

async function endOf(connect: () => Promise<SourceConnection>): Promise<BinlogPosition> {
  const source = await connect();
  try {
    const { file, offset } = await source.binlogEnd();
    return { file, offset };
  } finally {
    source.destroy();
  }
}
