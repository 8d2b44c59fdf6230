/** Moments between groups, for which a snapshot or a verification waits. */
import { TributaryError } from '../../shared/errors.ts';
import type { BinlogPosition } from '../binlog/group-sink.ts';
import type { CaptureSink } from '../stream/sink.ts';
import type { QueuedTable } from '../spool/snapshot-progress.ts';

/** How far the stream had come at a moment. */
export interface Emitted {
  readonly place: BinlogPosition;
  readonly gtids: string;
}

/**
 * Runs the callback between groups: now, or at the end of the open group. A snapshot must not begin to note keys inside
 * a group. What the stream has already taken of the group would not be noted. Nor would the chunk's view show it,
 * because its commit is still under way.
 * @throws TributaryError STREAM_ENDED if aborted before
 */
export async function atRest<T>(sink: CaptureSink, signal: AbortSignal, run: () => T): Promise<T> {
  return !signal.aborted && sink.isBetweenGroups ? run() : between(sink, sink.place, signal, run);
}

/**
 * Runs the callback between groups, once the stream is at or past the place and was heard after this call.
 * @throws TributaryError STREAM_ENDED if aborted before
 */
export async function between<T>(
  sink: CaptureSink,
  place: BinlogPosition,
  signal: AbortSignal,
  run: () => T,
): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  const aborted = (): void => reject(new TributaryError('STREAM_ENDED', 'The binlog stream ended.'));
  signal.addEventListener('abort', aborted, { once: true });
  if (signal.aborted) aborted();
  else {
    sink.whenPast(place, () => resolve(run()));
  }
  try {
    return await promise;
  } finally {
    signal.removeEventListener('abort', aborted);
  }
}

/**
 * Whether a statement has changed the table since the snapshotter last looked, so that what was read may be out of
 * date.
 */
export function hasChanged({ changedTables }: CaptureSink, { schema, name }: QueuedTable): boolean {
  return changedTables.some(each => each.schema === schema && each.name === name);
}
