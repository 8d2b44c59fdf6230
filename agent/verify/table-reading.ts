/** Computes the sums of a table in a view. Reading takes half of the time at most, to leave the rest to capture and the server. */
import type { Value } from '../../shared/batch/batch.ts';
import { TributaryError, describeError } from '../../shared/errors.ts';
import { pause } from '../../shared/pause.ts';
import { markRow } from '../../shared/batch/row-sums.ts';
import type { RowSums } from '../../shared/batch/row-sums.ts';
import { emptySums } from '../../shared/batch/row-sketch.ts';
import { keyIdOf } from '../stream/change-buffer.ts';
import type { ServerCharsets } from '../values/server-charsets.ts';
import type { SourceConnection } from '../source/connection.ts';
import type { CapturedTable } from '../source/tables.ts';
import { readersOf } from '../snapshot/chunk.ts';
import { chunkQuery, cursorOf, tableQuery } from '../snapshot/chunk-query.ts';
import type { ReadableTable } from './asked-tables.ts';
import type { TouchedRows } from './touched.ts';

/** Rows that one query reads. After each query the lock on the table is released, so that an ALTER need not wait long. */
const FIRST_CHUNK_ROWS = 100;
const MAX_CHUNK_ROWS = 20_000;
const CHUNK_BYTES = 4 * 1024 * 1024;
/** One query reads all rows of a table without a key; after this many rows it pauses for the others. */
const ROWS_PER_TURN = 2_000;
const REST_SHARE = 1;
const MAX_REST_MS = 1_000;

type TakeRow = (cells: readonly (Buffer | null)[]) => void;

/**
 * @param source the connection with the view
 * @param touched rows that the stream mentions between the view and the mark
 * @throws TributaryError SOURCE_…, VALUE_UNSUPPORTED; STREAM_ENDED if aborted
 */
export async function sumTable(
  source: SourceConnection,
  { table, compared }: ReadableTable,
  touched: TouchedRows,
  charsets: ServerCharsets,
  verification: string,
  signal: AbortSignal,
): Promise<RowSums> {
  const { shape, buckets, sketch } = compared;
  const sums = emptySums(buckets, sketch, verification);
  const readers = readersOf(table, charsets);
  const isTouched = (values: readonly Value[]): boolean => {
    const key = shape.key.map(index => [values[index]!]);
    return touched.size > 0 && touched.has(keyIdOf(key, 0));
  };
  const take: TakeRow = cells => {
    const values = readers.map((read, index): Value => read(cells[index] ?? null));
    if (!isTouched(values)) sums.add(markRow(shape, values, buckets, sketch));
  };
  await readRows(source, { table, compared }, take, signal);
  for (const mark of touched.values()) if (mark !== null) sums.add(mark);
  return sums;
}

/** Reads all rows of the table in the connection's view. */
export async function readRows(
  source: SourceConnection,
  { table, compared }: ReadableTable,
  take: TakeRow,
  signal: AbortSignal,
): Promise<void> {
  await (compared.shape.key.length === 0 ? readWhole : readByKey)(source, table, take, signal);
}

async function readByKey(
  source: SourceConnection,
  table: CapturedTable,
  take: TakeRow,
  signal: AbortSignal,
): Promise<void> {
  let after: Value[] | null = null;
  for (let limit = FIRST_CHUNK_ROWS; ;) {
    const startedAt = performance.now();
    await source.execute('SAVEPOINT chunk');
    const cells = await source.cells(chunkQuery(table, after, limit, ''));
    // This keeps the view and releases the lock that prevents others from altering the table.
    await source.execute('ROLLBACK TO SAVEPOINT chunk');
    let bytes = 0;
    for (const row of cells) {
      take(row);
      for (const cell of row) bytes += 4 + (cell?.length ?? 0);
    }
    if (cells.length < limit) return;
    after = cursorOf(table, cells.at(-1)!);
    const fitting = Math.floor((cells.length * CHUNK_BYTES) / Math.max(1, bytes));
    limit = Math.max(1, Math.min(MAX_CHUNK_ROWS, limit * 4, fitting));
    await rest(startedAt, signal);
  }
}

async function readWhole(
  source: SourceConnection,
  table: CapturedTable,
  take: TakeRow,
  signal: AbortSignal,
): Promise<void> {
  let startedAt = performance.now();
  let rows = 0;
  let fault: Error | null = null;
  for await (const cells of source.stream(tableQuery(table))) {
    try {
      if (fault === null) take(cells);
    } catch (error) {
      // The other rows must still be read, because the next query uses the same connection.
      fault = error instanceof Error ? error : new TributaryError('INTERNAL', describeError(error));
    }
    rows += 1;
    if (rows % ROWS_PER_TURN > 0) continue;
    await rest(startedAt, signal);
    startedAt = performance.now();
  }
  if (fault !== null) throw fault;
}

/** Leaves the processor and the server to others for as long as the work took. */
async function rest(startedAt: number, signal: AbortSignal): Promise<void> {
  await pause(Math.min(MAX_REST_MS, (performance.now() - startedAt) * REST_SHARE), signal);
  if (signal.aborted) throw new TributaryError('STREAM_ENDED', 'The binlog stream ended.');
}
