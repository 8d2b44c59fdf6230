/**
 * Reads a table without a key at one moment, by one query that lives as long as the rows are of use.
 *
 * The server sorts the rows by a checksum of them (`scanQuery`), so equal rows come one behind the other and are counted
 * here by all that they hold; a chunk ends where the checksum changes, and reading may begin there again. What is held in
 * memory is a chunk.
 *
 * The moment is a window of the stream (`copy-notes.ts`):
 * - MariaDB tells the exact place of a consistent snapshot.
 * - MySQL with GTIDs: from what the stream has emitted, once all of that is visible, to the binlog's end after the snapshot
 *   began. Not from an end of the binlog: what stands there may be neither visible nor yet in the server's executed set.
 * - MySQL without: from an end of the binlog; all that was there is visible once a locking read has been past every row, one
 *   lock at a time.
 * - Tables of engines without transactions: a query waits for those that write, who log before they let go; from the end
 *   before the query to the end once it has answered.
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

/** A chunk: about so many bytes, and so many different rows. */
const CHUNK_BYTES = 4 * 1024 * 1024;
const MOST_CHUNK_ROWS = 20_000;
/** Sorting may take long before the first row comes, and a chunk may wait for room in the spool. */
export const SCAN_STALL_MS = 30 * 60_000;
const VISIBLE_WITHIN_SECONDS = 30;
/** Engines that show a session one moment, whatever is committed meanwhile. */
export const SNAPSHOT_ENGINES = new Set(['innodb', 'rocksdb']);

type Cells = readonly (Buffer | null)[];
/** A column's cell → its wire value. */
export type CellReader = (cell: Buffer | null) => Value;

export interface ScanOptions {
  readonly connect: (stallMs?: number) => Promise<SourceConnection>;
  readonly identity: SourceIdentity;
  readonly table: CapturedTable;
  readonly readers: readonly CellReader[];
  /** What the stream had emitted before changes began to be noted. */
  readonly emitted: Emitted;
  /** Checksum behind which to read; null: from the beginning. */
  readonly after: number | null;
}

export class RowScan {
  readonly table: CapturedTable;
  readonly window: Window;
  readonly #source: SourceConnection;
  readonly #readers: readonly CellReader[];
  readonly #rows: AsyncGenerator<Cells, void, undefined>;
  /** A row that has been read and not yet been taken. */
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

  /** Begins to read. @returns null: the moment was too early, try again */
  static async open(options: ScanOptions): Promise<RowScan | null> {
    const { connect, identity, table, emitted, after } = options;
    const source = await connect(SCAN_STALL_MS);
    try {
      if ((await source.identity()).server !== identity.server) {
        throw new TributaryError('SOURCE_UNREACHABLE', 'another server answers at the address');
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
      // The locks that a table's readers hold are let go of once the result is in a table of the server's own.
      const rows = source.stream(query.replace('SELECT', 'SELECT SQL_BUFFER_RESULT'));
      const first = await rows.next();
      const to = await endOf(connect);
      return new RowScan(options, source, { from, to }, rows, first.done === true ? null : first.value);
    } catch (error) {
      source.destroy();
      throw error;
    }
  }

  /** The next different rows. */
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
      if (checksum !== through && (bytes >= CHUNK_BYTES || ids.length >= MOST_CHUNK_ROWS)) {
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

/** A transaction that shows one moment from now on. */
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
