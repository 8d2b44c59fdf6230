import t from 'tap';
import {
  FRAGMENT_BYTES,
  fragmentMessage,
  MAX_FRAGMENTS,
  readFragment,
} from '../../../../shared/broker/amqp-messages.ts';
import type { OutgoingMessage, ReceivedMessage } from '../../../../shared/broker/amqp-messages.ts';
import { firstDigest, nextDigest } from '../../../../shared/batch/batch.ts';
import type { BatchHeader } from '../../../../shared/batch/batch.ts';
import { PREFETCH } from '../../../../applier/transaction/quotas.ts';
import { Reassembly } from '../../../../applier/consume/reassembly.ts';
import type { Piece } from '../../../../applier/consume/reassembly.ts';

function header(seq: number, body: Buffer): BatchHeader {
  const previous = firstDigest('paris', 'e');
  return { branch: 'paris', epoch: 'e', seq, previous, digest: nextDigest(previous, body) };
}

function received(headers: Readonly<Record<string, unknown>>, body: Buffer): ReceivedMessage {
  return {
    queue: 'q',
    exchange: 'x',
    routingKey: 'batch',
    messageId: null,
    type: 'batch',
    userId: 'branch-paris',
    redelivered: false,
    headers,
    body,
    deliveryTag: 1,
  };
}

/** As the sender cuts it. */
function batchMessages(of: BatchHeader, body: Buffer, count = Math.ceil(body.length / FRAGMENT_BYTES)) {
  const bytes = Math.ceil(body.length / count);
  return Array.from({ length: count }, (_, index): OutgoingMessage =>
    fragmentMessage(of, { index, count }, body.subarray(index * bytes, (index + 1) * bytes)),
  );
}

const equals = (parts: readonly Buffer[] | undefined, body: Buffer): boolean => Buffer.concat(parts ?? []).equals(body);

/** A batch in pieces as they arrive, and which of them were acknowledged. */
function pieces(seq: number, body: Buffer, count?: number): { pieces: Piece[]; acknowledged: number[] } {
  const acknowledged: number[] = [];
  const messages = batchMessages(header(seq, body), body, count);
  return {
    acknowledged,
    pieces: messages.map(message => {
      const fragment = readFragment(received(message.headers, message.body));
      if (fragment === null) throw new Error('a whole message');
      return {
        header: header(seq, body),
        fragment,
        body: message.body,
        acknowledge: () => acknowledged.push(fragment.index),
      };
    }),
  };
}

const large = (fill: number): Buffer => Buffer.alloc(2 * FRAGMENT_BYTES + 5, fill);

await t.test('the messages of one batch have ids of their own', test => {
  const body = large(1);
  const many = batchMessages(header(1, body), body);
  test.equal(new Set(many.map(({ id }) => id)).size, 3);
  test.end();
});

await t.test('the pieces make the batch again in whatever order they come, and are acknowledged only with it', test => {
  const body = large(2);
  const batch = pieces(1, body);
  const reassembly = new Reassembly();
  const [a, b, c] = batch.pieces;
  if (!a || !b || !c) throw new Error('three pieces');
  test.equal(reassembly.add(c), null);
  test.equal(reassembly.add(a), null);
  test.same(batch.acknowledged, []);
  const whole = reassembly.add(b);
  test.ok(equals(whole?.body, body));
  whole?.acknowledge();
  test.same(batch.acknowledged, [0, 1, 2]);
  test.end();
});

await t.test('a second copy of a piece is acknowledged and forgotten', test => {
  const body = large(3);
  const batch = pieces(1, body);
  const reassembly = new Reassembly();
  for (const piece of [...batch.pieces.slice(0, 2), ...batch.pieces.slice(0, 2)]) {
    test.equal(reassembly.add(piece), null);
  }
  test.same(batch.acknowledged, [0, 1]);
  const [, , last] = batch.pieces;
  test.ok(last !== undefined && equals(reassembly.add(last)?.body, body));
  test.end();
});

await t.test('the pieces of two batches may come mixed, as after a drop', test => {
  const first = pieces(1, large(4));
  const second = pieces(2, large(5));
  const reassembly = new Reassembly();
  const arrived = [...first.pieces.slice(0, 2), ...second.pieces.slice(0, 1), ...first.pieces.slice(1)].map(piece =>
    reassembly.add(piece),
  );
  test.ok(equals(arrived.at(-1)?.body, large(4)));
  const rest = second.pieces.map(piece => reassembly.add(piece));
  test.ok(equals(rest.at(-1)?.body, large(5)));
  test.end();
});

await t.test('what is held is bounded: a third batch ends the oldest', test => {
  const batches = [pieces(1, large(4)), pieces(2, large(5)), pieces(3, large(6))];
  const reassembly = new Reassembly();
  for (const batch of batches) for (const piece of batch.pieces.slice(0, 2)) reassembly.add(piece);
  test.same(
    batches.map(({ acknowledged }) => acknowledged),
    [[0, 1], [], []],
    'given back, and asked for again',
  );
  const body = Buffer.alloc(MAX_FRAGMENTS, 7);
  const many = pieces(4, body, MAX_FRAGMENTS);
  const arrived = many.pieces.map(piece => reassembly.add(piece));
  test.ok(equals(arrived.at(-1)?.body, body), 'one that needs all the room finds it');
  test.same(
    batches.map(({ acknowledged }) => acknowledged),
    [
      [0, 1],
      [0, 1],
      [0, 1],
    ],
  );
  test.end();
});

await t.test('pieces do not outlive their batch: one that came whole, was overtaken or cut anew', test => {
  const reassembly = new Reassembly();
  const whole = pieces(1, large(4));
  for (const piece of whole.pieces.slice(0, 2)) reassembly.add(piece);
  reassembly.overtaken(header(1, large(4)));
  test.same(whole.acknowledged, [0, 1]);

  const behind = pieces(2, large(5));
  for (const piece of behind.pieces.slice(0, 2)) reassembly.add(piece);
  for (const piece of pieces(3, large(6)).pieces) reassembly.add(piece);
  test.same(behind.acknowledged, [0, 1]);

  const anew = pieces(4, large(7));
  for (const piece of anew.pieces.slice(0, 2)) reassembly.add(piece);
  const arrived = pieces(4, large(7), 4).pieces.map(piece => reassembly.add(piece));
  test.same(anew.acknowledged, [0, 1]);
  test.ok(equals(arrived.at(-1)?.body, large(7)));
  test.end();
});

await t.test('pieces that make no sense are refused before anything is kept', test => {
  const full = Buffer.alloc(FRAGMENT_BYTES);
  const cases: readonly (readonly [string, Record<string, unknown>, Buffer])[] = [
    ['no count', { fragment: 0 }, full],
    ['no index', { fragments: 2 }, full],
    ['beyond its count', { fragment: 2, fragments: 2 }, full],
    ['too many', { fragment: 0, fragments: MAX_FRAGMENTS + 1 }, full],
    ['negative', { fragment: -1, fragments: 2 }, full],
    ['larger than a fragment', { fragment: 0, fragments: 2 }, Buffer.alloc(FRAGMENT_BYTES + 1)],
    ['an empty one', { fragment: 1, fragments: 2 }, Buffer.alloc(0)],
  ];
  for (const [name, headers, body] of cases) {
    test.throws(() => readFragment(received(headers, body)), { code: 'MESSAGE_INVALID' }, name);
  }
  test.end();
});

await t.test('an applier can hold all fragments of a batch at once', test => {
  const held: number = PREFETCH;
  test.ok(MAX_FRAGMENTS < held);
  test.end();
});
