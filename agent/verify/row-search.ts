/**
 * Answers a request for rows of one table: what they are at one place of the stream.
 *
 * 1. Between two groups, everything that was taken goes into the spool, and a watch begins to note the named rows that
 *    the stream brings.
 * 2. A view begins that has everything before that. The table is read in it, and the named rows are kept.
 * 3. When the stream is past the binlog's end after the view began, the rows go into the stream, except those that were
 *    noted. A row that was not noted has not changed since the view, so it is at this place as the view shows it.
 *
 * These are the rules of a snapshot's chunk. So the head office may put the rows into its table at that place
 * (`repair`), or compare them with its own there (`rows`). What the stream has changed meanwhile is in neither: the
 * stream itself has brought it.
 */
import type { Value } from '../../shared/batch/batch.ts';
import type { BranchRequest } from '../../shared/protocol.ts';
import { rowName } from '../../shared/batch/row-sums.ts';
import { nth } from '../../shared/nth.ts';
import { pause } from '../../shared/pause.ts';
import type { TableWatch } from '../stream/change-buffer.ts';
import type { SourceConnection } from '../source/connection.ts';
import { readersOf } from '../snapshot/chunk.ts';
import { atRest, between } from '../snapshot/stream-moments.ts';
import type { ServerCharsets } from '../values/server-charsets.ts';
import type { ReadableTable } from './asked-tables.ts';
import { beginView, MAX_MOMENTS } from './comparison-point.ts';
import type { ComparisonPointOptions, NoComparisonPoint } from './comparison-point.ts';
import { namesOf, rowsMark } from './marks.ts';
import { readRows } from './table-reading.ts';

/** Bytes of rows that are kept. What does not fit is left out, and stays different. */
const MAX_KEPT_BYTES = 64 * 1024 * 1024;
/** Bytes of rows in one batch of a repair. The rows to compare go into one batch, and those beyond it are left out. */
const MAX_BATCH_BYTES = 4 * 1024 * 1024;
const MAX_MOMENT_PAUSE_MS = 500;

export interface RowSearchOptions extends ComparisonPointOptions {
  readonly charsets: ServerCharsets;
  /** Identifies the last snapshot: one that ran meanwhile may have read rows that the stream did not bring. */
  readonly lastSnapshot: () => string;
}

/** A row of the view, and how often it is there. */
interface KeptRow {
  readonly values: readonly Value[];
  readonly bytes: number;
  copies: number;
}

/**
 * Reads the rows and puts them into the stream.
 * @throws TributaryError SOURCE_…, VALUE_UNSUPPORTED, SPOOL_…; STREAM_ENDED if aborted
 */
export async function sendRows(
  options: RowSearchOptions,
  source: SourceConnection,
  read: ReadableTable,
  ask: BranchRequest,
  verification: string,
  signal: AbortSignal,
): Promise<'done' | NoComparisonPoint> {
  const { identity, sink, isReady, lastSnapshot } = options;
  const { description } = read.compared;
  const wanted = new Set(namesOf(ask));
  for (let moment = 1; moment <= MAX_MOMENTS; moment += 1) {
    const watch = new RowWatch(read, wanted);
    try {
      const emitted = await atRest(sink, signal, () => {
        if (!isReady()) return null;
        sink.flush();
        sink.watch(description.schema, description.name, watch);
        return { place: sink.place, gtids: sink.gtidSet, snapshot: lastSnapshot() };
      });
      if (emitted === null) return 'not-ready';
      const high = await beginView(source, identity, [read], emitted);
      if (high !== null) {
        const found = await findRows(source, read, wanted, options.charsets, signal);
        const done = await between(sink, high, signal, () => {
          // First, because a copy that a statement calls for is known to the spool only then.
          sink.flush();
          if (!isReady() || watch.isRedone || lastSnapshot() !== emitted.snapshot) return 'not-ready';
          emit(options, read, ask, verification, found, watch.noted, wanted);
          return 'done';
        });
        return done;
      }
    } finally {
      sink.watch(description.schema, description.name, null);
    }
    await source.execute('ROLLBACK');
    await pause(Math.random() * MAX_MOMENT_PAUSE_MS, signal);
  }
  return isReady() ? 'too-busy' : 'not-ready';
}

/** Notes the named rows that the stream brings. */
class RowWatch implements TableWatch {
  readonly noted = new Set<string>();
  isRedone = false;
  readonly #read: ReadableTable;
  readonly #wanted: ReadonlySet<string>;

  constructor(read: ReadableTable, wanted: ReadonlySet<string>) {
    this.#read = read;
    this.#wanted = wanted;
  }

  row(identity: readonly (readonly Value[])[], r: number): void {
    const values = identity.map(column => column[r] ?? null);
    const name = rowName(this.#read.compared.shape, values);
    if (this.#wanted.has(name)) this.noted.add(name);
  }

  redone(): void {
    this.isRedone = true;
  }
}

/** The named rows in the view, by name; null: a row is too large to be kept. */
async function findRows(
  source: SourceConnection,
  read: ReadableTable,
  wanted: ReadonlySet<string>,
  charsets: ServerCharsets,
  signal: AbortSignal,
): Promise<Map<string, KeptRow | null>> {
  const { shape } = read.compared;
  const readers = readersOf(read.table, charsets);
  const found = new Map<string, KeptRow | null>();
  let kept = 0;
  await readRows(
    source,
    read,
    cells => {
      // Only the identity is needed to tell whether a row is wanted.
      const identity = (shape.key.length === 0 ? shape.types.map((_, index) => index) : shape.key).map(index =>
        nth(readers, index)(cells[index] ?? null),
      );
      const name = rowName(shape, identity);
      if (!wanted.has(name)) return;
      const present = found.get(name);
      if (present !== undefined) {
        if (present !== null) present.copies += 1;
        return;
      }
      const bytes = cells.reduce((sum, cell) => sum + 4 + (cell?.length ?? 0), 0);
      kept += bytes;
      const values = readers.map((reader, index): Value => reader(cells[index] ?? null));
      found.set(name, kept > MAX_KEPT_BYTES || bytes > MAX_BATCH_BYTES ? null : { values, bytes, copies: 1 });
    },
    signal,
  );
  return found;
}

/** Puts the rows that the stream has not brought meanwhile into it, in batches. */
function emit(
  { sink }: RowSearchOptions,
  { compared: { description, shape } }: ReadableTable,
  ask: BranchRequest,
  verification: string,
  found: ReadonlyMap<string, KeptRow | null>,
  noted: ReadonlySet<string>,
  wanted: ReadonlySet<string>,
): void {
  const absent = [...wanted].filter(name => !found.has(name) && !noted.has(name));
  const rows = [...found].flatMap(([name, row]) => (row === null || noted.has(name) ? [] : [row]));
  const groups: KeptRow[][] = [[]];
  let bytes = 0;
  for (const row of rows) {
    bytes += row.bytes;
    if (bytes > MAX_BATCH_BYTES) {
      if (ask.kind === 'rows') break;
      groups.push([]);
      bytes = row.bytes;
    }
    groups.at(-1)?.push(row);
  }
  for (const [index, group] of groups.entries()) {
    const mark = {
      verification,
      request: ask.id,
      rows: group.length,
      values: shape.types.map((_, column) => group.map(({ values }) => nth(values, column))),
      copies: shape.key.length === 0 ? group.map(({ copies }) => copies) : [],
      absent: index === 0 ? absent : [],
      last: index === groups.length - 1,
    };
    const size = group.reduce((sum, row) => sum + row.bytes, 0);
    sink.emitSnapshot(rowsMark(description, mark, size), now => now);
  }
}
