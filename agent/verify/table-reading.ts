/** Sums up a table as a view shows it, in turns: reading takes half of the time at most, the rest is capture's and the server's. */
import type { Value } from '../../shared/batch/batch.ts';
import { TributaryError, describeError } from '../../shared/errors.ts';
import { pause } from '../../shared/pause.ts';
import { TableSums, markRow } from '../../shared/batch/row-sums.ts';
import { keyIdOf } from '../stream/change-buffer.ts';
import type { ServerCharsets } from '../values/server-charsets.ts';
import type { SourceConnection } from '../source/connection.ts';
import type { CapturedTable } from '../source/tables.ts';
import { readersOf } from '../snapshot/chunk.ts';
import { chunkQuery, cursorOf, tableQuery } from '../snapshot/chunk-query.ts';
import type { ReadableTable } from './asked-tables.ts';
import type { TouchedRows } from './touched.ts';

/** Rows read by one query, after which the table is let go of: whoever ALTERs it gets in between. */
const FIRST_CHUNK_ROWS = 100;
const MOST_CHUNK_ROWS = 20_000;
const CHUNK_BYTES = 4 * 1024 * 1024;
/** Rows of a table without a key are read by one query; after so many others get a turn. */
const ROWS_A_TURN = 2_000;
const REST_SHARE = 1;
const MOST_REST_MS = 1_000;

type TakeRow = (cells: readonly (Buffer | null)[]) => void;

/**
 * @param source in the view
 * @param touched rows that the stream speaks of between the view and the place that is compared
 * @throws SOURCE_…, VALUE_UNSUPPORTED; STREAM_ENDED when aborted
 */
export async function sumTable(
  source: SourceConnection,
  { table, compared }: ReadableTable,
  touched: TouchedRows,
  charsets: ServerCharsets,
  signal: AbortSignal,
): Promise<TableSums> {
  const { shape, buckets } = compared;
  const sums = new TableSums(buckets);
  const readers = readersOf(table, charsets);
  const isTouched = (values: readonly Value[]): boolean => {
    const key = shape.key.map(index => [values[index]!]);
    return touched.size > 0 && touched.has(keyIdOf(key, 0));
  };
  const take: TakeRow = cells => {
    const values = readers.map((read, index): Value => read(cells[index] ?? null));
    if (!isTouched(values)) sums.add(markRow(shape, values, buckets));
  };
  await (shape.key.length === 0 ? readWhole : readByKey)(source, table, take, signal);
  for (const mark of touched.values()) if (mark !== null) sums.add(mark);
  return sums;
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
    // The view stays; the lock that keeps others from altering the table goes.
    await source.execute('ROLLBACK TO SAVEPOINT chunk');
    let bytes = 0;
    for (const row of cells) {
      take(row);
      for (const cell of row) bytes += 4 + (cell?.length ?? 0);
    }
    if (cells.length < limit) return;
    after = cursorOf(table, cells.at(-1)!);
    const fitting = Math.floor((cells.length * CHUNK_BYTES) / Math.max(1, bytes));
    limit = Math.max(1, Math.min(MOST_CHUNK_ROWS, limit * 4, fitting));
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

/** Leaves the processor and the server to others for as long as was worked. */
async function rest(startedAt: number, signal: AbortSignal): Promise<void> {
  await pause(Math.min(MOST_REST_MS, (performance.now() - startedAt) * REST_SHARE), signal);
  if (signal.aborted) throw new TributaryError('STREAM_ENDED', 'the binlog stream ended');
}
