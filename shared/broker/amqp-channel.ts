/**
 * Two traps of rabbitmq-client 5.0.8 that are closed within its channels. Each door is looked for, so that another
 * version that lacks it is told of at once.
 */
import { TributaryError } from '../errors.ts';

/**
 * The library numbers a message when it learns that its frames are written, and Node tells that in another order where
 * some writes end at once and others at a drain. The frames themselves are in order.
 */
export function orderWriteEnds(channel: object): void {
  const stream: unknown = Reflect.get(Object(Reflect.get(channel, '_state')), 'stream');
  const write: unknown = Reflect.get(Object(stream), 'writeAsync');
  if (typeof write !== 'function') {
    throw new TributaryError('INTERNAL', 'rabbitmq-client has changed: a channel writes in another way.');
  }
  let before: Promise<unknown> = Promise.resolve();
  Reflect.set(Object(stream), 'writeAsync', (frames: unknown): Promise<unknown> => {
    const written = Promise.resolve(Reflect.apply(write, stream, [frames]) as unknown);
    const told = before.then(() => written);
    before = told.catch(() => undefined);
    return told;
  });
}

/**
 * The library parses what calls itself JSON, megabytes of it, in one go and before anybody has scanned it. So the
 * content type is taken away from whatever arrives: bodies are bytes.
 */
export function takeBodiesAsBytes(channel: object): void {
  const onHeader: unknown = Reflect.get(channel, '_onHeader');
  if (typeof onHeader !== 'function') {
    throw new TributaryError('INTERNAL', 'rabbitmq-client has changed: a channel reads headers in another way.');
  }
  Reflect.set(channel, '_onHeader', (frame: unknown): unknown => {
    const fields: unknown = Reflect.get(Object(frame), 'fields');
    if (fields instanceof Object) Reflect.deleteProperty(fields, 'contentType');
    return Reflect.apply(onHeader, channel, [frame]) as unknown;
  });
}
