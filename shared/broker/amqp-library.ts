/**
 * Works around faults of rabbitmq-client 5.0.8 by changing its channels and how it reads. Each change first checks that the
 * library has what it changes, so that another version without it fails at once.
 */
import { TributaryError } from '../errors.ts';

/**
 * The library numbers a message when the write of its frames ends. Node reports these ends in another order if some
 * writes end at once and others when the socket drains. The frames themselves are in order.
 */
export function orderWriteEnds(channel: object): void {
  const stream: unknown = Reflect.get(Object(Reflect.get(channel, '_state')), 'stream');
  const write: unknown = Reflect.get(Object(stream), 'writeAsync');
  if (typeof write !== 'function') {
    throw new TributaryError('INTERNAL', 'This version of rabbitmq-client writes to a channel in another way.');
  }
  let before: Promise<unknown> = Promise.resolve();
  Reflect.set(Object(stream), 'writeAsync', (frames: unknown): Promise<unknown> => {
    const written = Promise.resolve(Reflect.apply(write, stream, [frames]) as unknown);
    const reported = before.then(() => written);
    before = reported.catch(() => undefined);
    return reported;
  });
}

/**
 * The library parses a body that is marked as JSON, even megabytes of it, before anything has checked it. So the
 * content type is removed from all messages that arrive, and bodies are bytes.
 */
export function takeBodiesAsBytes(channel: object): void {
  const onHeader: unknown = Reflect.get(channel, '_onHeader');
  if (typeof onHeader !== 'function') {
    throw new TributaryError('INTERNAL', 'This version of rabbitmq-client reads headers in another way.');
  }
  Reflect.set(channel, '_onHeader', (frame: unknown): unknown => {
    const fields: unknown = Reflect.get(Object(frame), 'fields');
    if (fields instanceof Object) Reflect.deleteProperty(fields, 'contentType');
    return Reflect.apply(onHeader, channel, [frame]) as unknown;
  });
}

type Read = (bytes: number) => Promise<Buffer>;

const FRAME_HEADER_BYTES = 7;
const HEARTBEAT = 8;

/** Reads frames as the library does, a header and then the rest, and leaves out heartbeats. */
export function withoutHeartbeats(read: Read): Read {
  return async bytes => {
    let chunk = await read(bytes);
    while (bytes === FRAME_HEADER_BYTES && chunk[0] === HEARTBEAT) {
      await read(1);
      chunk = await read(bytes);
    }
    return chunk;
  };
}
