/**
 * Finds the place of the stream at which both sides compare their rows, and the branch's view of its rows there.
 *
 * 1. Between two groups, everything that was taken goes into the spool; `emitted` is where the stream is then.
 * 2. A view begins that has everything before `emitted`; `high` is the binlog's end after that.
 * 3. When the stream is past `high`, the mark goes into it. A row that the batches since step 1 mention is at the mark
 *    as they say. Every other row is there as the view shows it (touched.ts). So the mark need not be at the view's own
 *    place, which MySQL does not report.
 *
 * In a table without a key the stream does not identify rows. So the comparison needs a moment when nobody writes to
 * it.
 */
import { decodeBatch } from '../../shared/batch/decoder.ts';
import { assert } from '../../shared/errors.ts';
import { pause } from '../../shared/pause.ts';
import type { BatchDraft } from '../stream/change-buffer.ts';
import type { BinlogPosition } from '../binlog/group-sink.ts';
import type { CaptureSink } from '../stream/sink.ts';
import { comparePositions } from '../source/connection.ts';
import type { SourceConnection, SourceIdentity } from '../source/connection.ts';
import { lockingQuery } from '../snapshot/chunk-query.ts';
import { atRest, between } from '../snapshot/stream-moments.ts';
import type { Spool } from '../spool/spool.ts';
import type { ReadableTable } from './asked-tables.ts';
import { Touched } from './touched.ts';

/** How many moments to try until one is clear for all tables. After that, the tables that are not clear are reported. */
export const MAX_MOMENTS = 30;
/** The same if each moment first needs a locking read of all tables. */
const MAX_LOCKING_MOMENTS = 3;
/** The longest pause between two moments. */
const MAX_MOMENT_PAUSE_MS = 500;
/** Limits of what the stream brings between the view and the mark. */
const MAX_TOUCHED_ROWS = 200_000;
const MAX_TOUCHED_BYTES = 64 * 1024 * 1024;
const VISIBLE_WITHIN_SECONDS = 30;

export interface ComparisonPointOptions {
  readonly identity: SourceIdentity;
  readonly spool: Spool;
  readonly sink: CaptureSink;
  /** Whether a mark may go into the stream now. */
  readonly isReady: () => boolean;
}

/** No place was found: too much changes all the time, or there is nothing to compare at present. */
export type NoComparisonPoint = 'too-busy' | 'not-ready';

/**
 * Begins a view and puts the mark into the stream.
 * @returns what the stream says about rows between the view and the mark
 * @throws TributaryError SOURCE_…, SPOOL_…; STREAM_ENDED if aborted
 */
export async function findComparisonPoint(
  options: ComparisonPointOptions,
  source: SourceConnection,
  read: readonly ReadableTable[],
  mark: BatchDraft,
  signal: AbortSignal,
): Promise<Touched | NoComparisonPoint> {
  const { identity, spool, sink, isReady } = options;
  const most = identity.flavor === 'mysql' && !identity.gtids ? MAX_LOCKING_MOMENTS : MAX_MOMENTS;
  for (let moment = 1; ; moment += 1) {
    if (!isReady()) return 'not-ready';
    const emitted = await atRest(sink, signal, () => {
      if (!isReady()) return null;
      sink.flush();
      return { place: sink.place, gtids: sink.gtidSet, seq: spool.seal() };
    });
    const high = emitted === null ? null : await beginView(source, identity, read, emitted);
    if (emitted !== null && high !== null) {
      const found = await between(sink, high, signal, () => {
        if (!isReady()) return null;
        sink.flush();
        const touched = withoutFault(() => touchedSince(spool, emitted.seq, read));
        if (touched === null || touched instanceof Error) return touched;
        if (touched.hasUnclear && moment < most) return null;
        sink.emitSnapshot(mark, now => now);
        return touched;
      });
      if (found instanceof Error) throw found;
      if (found !== null) return found;
    }
    if (moment >= most) return isReady() ? 'too-busy' : 'not-ready';
    await source.execute('ROLLBACK');
    await pause(Math.random() * MAX_MOMENT_PAUSE_MS, signal);
  }
}

/** The stream runs this work, but a fault of a comparison must not end the stream. */
function withoutFault<T>(work: () => T): T | Error {
  try {
    return work();
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

/** What the batches after `seq` say about rows; null: too much. */
function touchedSince(spool: Spool, seq: number, read: readonly ReadableTable[]): Touched | null {
  const touched = new Touched(
    read.map(({ compared }) => compared),
    MAX_TOUCHED_ROWS,
  );
  let bytes = 0;
  for (let next = seq + 1; next <= spool.stream().head.seq; next += 1) {
    const batch = spool.read(next);
    assert(batch !== null, `Batch ${next} is not in the spool, although it was just spooled.`);
    bytes += batch.bytes;
    if (bytes > MAX_TOUCHED_BYTES) return null;
    touched.take(decodeBatch(batch.body));
    if (touched.overflown) return null;
  }
  return touched;
}

/**
 * Begins a transaction that sees one moment, at which everything that the stream had emitted is visible.
 * @returns the binlog's end after that moment; null: the moment is too early
 */
export async function beginView(
  source: SourceConnection,
  identity: SourceIdentity,
  read: readonly ReadableTable[],
  { place, gtids }: { readonly place: BinlogPosition; readonly gtids: string },
): Promise<BinlogPosition | null> {
  const begin = 'START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY';
  if (identity.flavor === 'mariadb') {
    await source.execute(begin);
    if (comparePositions(await source.snapshotPlace(), place) < 0) return null;
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
