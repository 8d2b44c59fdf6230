/** The branch's database for a snapshot: a connection of its own, and the definitions of the tables. */
import { TributaryError } from '../../shared/errors.ts';
import type { Value } from '../../shared/batch/batch.ts';
import { tableKey } from '../../shared/table-name.ts';
import type { TableFilter } from '../source/table-filter.ts';
import type { ServerCharsets } from '../values/server-charsets.ts';
import { comparePositions } from '../source/connection.ts';
import type { SourceConnection, SourceIdentity } from '../source/connection.ts';
import { unsupportedTables } from '../source/catalogue-facts.ts';
import type { UnsupportedTable } from '../source/catalogue-facts.ts';
import { troubleOf } from '../source/preflight.ts';
import { readTables } from '../source/tables.ts';
import type { CapturedTable } from '../source/tables.ts';
import { toChunk } from './chunk.ts';
import type { Chunk } from './chunk.ts';
import { chunkQuery } from './chunk-query.ts';
import type { Emitted } from './stream-moments.ts';
import type { QueuedTable } from '../spool/snapshot-progress.ts';

const VISIBLE_WITHIN_SECONDS = 30;

export interface SnapshotSourceOptions {
  /** @param stallMs longest silence of a query, if it is not the usual one */
  readonly connect: (stallMs?: number) => Promise<SourceConnection>;
  readonly identity: SourceIdentity;
  readonly tableFilter: TableFilter;
  readonly charsets: ServerCharsets;
}

export class SnapshotSource {
  readonly #o: SnapshotSourceOptions;
  #connection: SourceConnection | null = null;
  readonly #definitions = new Map<string, CapturedTable>();

  constructor(options: SnapshotSourceOptions) {
    this.#o = options;
  }

  /** All captured tables. */
  async tables(): Promise<CapturedTable[]> {
    return readTables(await this.#connected(), this.#o.tableFilter);
  }

  /** The table's definition; null: it does not exist. @throws TributaryError VALUE_UNSUPPORTED, SOURCE_TABLE */
  async definition(table: QueuedTable): Promise<CapturedTable | null> {
    const key = tableKey(table);
    const known = this.#definitions.get(key);
    if (known) return known;
    const [read] = await readTables(await this.#connected(), this.#o.tableFilter, table);
    if (read === undefined) return null;
    const trouble = troubleOf(this.#o.identity, read);
    if (trouble !== null) throw trouble;
    const foreign = read.columns.flatMap(({ charset }) => (charset === null ? [] : [charset]));
    if (foreign.length > 0) await this.#o.charsets.load(await this.#connected(), foreign);
    this.#definitions.set(key, read);
    return read;
  }

  /** Those of these tables of which the binlog does not show which rows they have. */
  async unsupported(tables: readonly QueuedTable[]): Promise<UnsupportedTable[]> {
    const { tableFilter } = this.#o;
    const captured = tables.filter(({ schema, name }) => tableFilter.captures(schema, name));
    return unsupportedTables(await this.#connected(), captured);
  }

  /** The definitions of these tables have changed. */
  forget(tables: readonly QueuedTable[]): void {
    for (const table of tables) this.#definitions.delete(tableKey(table));
  }

  /** Reads the next rows in a view that has everything that the stream had emitted. */
  async chunk(emitted: Emitted, table: CapturedTable, lastKey: readonly Value[] | null, rows: number): Promise<Chunk> {
    const { identity, charsets } = this.#o;
    const source = await this.#connected();
    let cells: (Buffer | null)[][];
    if (identity.flavor === 'mariadb') {
      await source.execute('START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY');
      const view = await source.snapshotPlace();
      if (comparePositions(view, emitted.place) < 0) {
        throw new TributaryError('SOURCE_UNREACHABLE', 'A commit was not visible yet.');
      }
      cells = await source.cells(chunkQuery(table, lastKey, rows, ''));
      await source.execute('COMMIT');
    } else {
      if (emitted.gtids !== '') await source.waitUntilVisible(emitted.gtids, VISIBLE_WITHIN_SECONDS);
      cells = await source.cells(chunkQuery(table, lastKey, rows, identity.gtids ? '' : ' LOCK IN SHARE MODE'));
    }
    const high = await source.binlogEnd();
    return toChunk(table, charsets, cells, cells.length < rows, high);
  }

  /** Closes the connection and forgets the definitions. The next call opens another one. */
  drop(): void {
    this.#connection?.destroy();
    this.#connection = null;
    this.#definitions.clear();
  }

  /** A connection to the server that the stream comes from. */
  async #connected(): Promise<SourceConnection> {
    if (this.#connection) return this.#connection;
    const source = await this.#o.connect();
    const identity = await source.identity();
    if (identity.server !== this.#o.identity.server) {
      source.destroy();
      throw new TributaryError('SOURCE_UNREACHABLE', `Another server (${identity.server}) answers at the address.`);
    }
    this.#connection = source;
    return source;
  }
}
