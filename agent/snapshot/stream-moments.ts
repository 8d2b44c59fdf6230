/** Moments of the stream that a snapshot waits for: all of them between groups. */
import { TributaryError } from '../../shared/errors.ts';
import type { BinlogPosition } from '../binlog/group-sink.ts';
import type { CaptureSink } from '../stream/sink.ts';
import type { QueuedTable } from '../spool/snapshot-progress.ts';

/**
 * Runs the callback between groups: now, or at the end of the open one. Noting keys must not begin inside a group:
 * what the stream has taken of it would be neither noted nor, with its commit under way, in the chunk's view.
 */
/** How far the stream had come at a moment. */
export interface Emitted {
  readonly place: BinlogPosition;
  readonly gtids: string;
}

export async function atRest<T>(sink: CaptureSink, signal: AbortSignal, run: () => T): Promise<T> {
  return sink.betweenGroups ? run() : between(sink, sink.place, signal, run);
}

/**
 * Runs the callback between groups once the stream, heard after now, is at or past the place.
 * @throws TributaryError STREAM_ENDED when aborted before
 */
export async function between<T>(
  sink: CaptureSink,
  place: BinlogPosition,
  signal: AbortSignal,
  run: () => T,
): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  const aborted = (): void => reject(new TributaryError('STREAM_ENDED', 'the binlog stream ended'));
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

/** A statement has changed the table since the snapshot last looked: what was read of it may mean nothing. */
export function hasChanged({ changedTables }: CaptureSink, { schema, name }: QueuedTable): boolean {
  return changedTables.some(each => each.schema === schema && each.name === name);
}
