import fc from 'fast-check';
import t from 'tap';
import { bytesOf, cutFor, Cuts, LineRate, missingBytes } from '../../../../agent/forward/cutting.ts';
import { FRAGMENT_BYTES, MAX_FRAGMENTS } from '../../../../shared/broker/amqp-messages.ts';

const KIB = 1024;

await t.test('the pieces of a cut are the whole body, none is empty, and an applier can hold those of two', test => {
  const size = fc.integer({ min: 1, max: MAX_FRAGMENTS * FRAGMENT_BYTES });
  const pace = fc.option(fc.integer({ min: 1, max: 100_000_000 }));
  fc.assert(
    fc.property(size, pace, (bytes, rate) => {
      const cut = cutFor(bytes, rate);
      const sizes = Array.from({ length: cut.count }, (_, index) => bytesOf(cut, index));
      const sum = sizes.reduce((a, b) => a + b, 0);
      const most = bytes <= FRAGMENT_BYTES ? MAX_FRAGMENTS / 2 : MAX_FRAGMENTS;
      return (
        sum === bytes &&
        missingBytes(cut) === bytes &&
        cut.count <= most &&
        sizes.every(piece => piece > 0 && piece <= FRAGMENT_BYTES)
      );
    }),
  );
  test.end();
});

await t.test('a slow line gets pieces of less than a second, a fast one the batch whole', test => {
  test.match(cutFor(128 * KIB, 32_000), { count: 6 });
  test.match(cutFor(128 * KIB, 80_000), { count: 3 });
  test.match(cutFor(128 * KIB, 1_000_000), { count: 1 });
  test.match(cutFor(30 * KIB, 32_000), { count: 1 }, 'not much longer than a piece');
  test.match(cutFor(128 * KIB, 1), { count: 12 });
  test.match(cutFor(128 * KIB, null), { count: 4 }, 'while nothing is known of the line');
  test.match(cutFor(40 * FRAGMENT_BYTES, 1), { pieceBytes: FRAGMENT_BYTES }, 'as it lies in the spool');
  test.end();
});

await t.test('a batch keeps its cut, and what is missing of it, until it is confirmed or must be sent anew', test => {
  const cuts = new Cuts();
  const made = (): ReturnType<typeof cutFor> => cutFor(128 * KIB, 32_000);
  cuts.of(1, made).missing.delete(0);
  cuts.of(2, made).missing.delete(0);
  cuts.of(3, made).missing.delete(0);
  test.equal(cuts.of(1, () => cutFor(128 * KIB, null)).count, 6);
  cuts.passed(1);
  cuts.confirmed(2);
  test.same(
    [1, 2, 3].map(seq => cuts.of(seq, made).missing.size),
    [6, 6, 5],
  );
  cuts.forget();
  test.equal(cuts.of(3, made).missing.size, 6);
  test.end();
});

await t.test('the pace of a line is that of its confirms while it is busy; idle time is not counted', test => {
  const rate = new LineRate();
  test.equal(rate.bytesPerSecond, null);
  rate.sent(0);
  rate.confirmed(32_000, 1_000);
  test.equal(rate.bytesPerSecond, null, 'too little to tell');
  rate.confirmed(48_000, 2_500);
  test.equal(rate.bytesPerSecond, 32_000);
  rate.idle();
  rate.sent(1_000_000);
  rate.sent(1_001_000);
  rate.confirmed(128_000, 1_002_000);
  test.equal(rate.bytesPerSecond, 48_000, 'half old, half new');
  test.end();
});
