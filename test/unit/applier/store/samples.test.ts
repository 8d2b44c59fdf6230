/** The arithmetic of samples: which spans are over, and what the fleet's figures are. */
import fc from 'fast-check';
import t from 'tap';
import { endsBetween, fleetOf, FLEET, spanEnd, SPANS } from '../../../../applier/store/samples.ts';

const HOUR = 3_600;

void t.test('a span is over once, when a sample at its end or beyond is taken', t => {
  t.same(endsBetween(2 * HOUR - 300, 2 * HOUR, HOUR), [2 * HOUR]);
  t.same(endsBetween(2 * HOUR, 2 * HOUR + 300, HOUR), [], 'it was rolled up with the sample before');
  t.same(endsBetween(HOUR + 600, 5 * HOUR + 300, HOUR), [2 * HOUR], 'the span in which the applier stopped');
  t.same(endsBetween(HOUR + 600, 5 * HOUR, HOUR), [2 * HOUR, 5 * HOUR]);
  t.same(endsBetween(0, 7 * HOUR + 300, HOUR), [], 'the first sample of all');
  t.end();
});

void t.test('whatever moments are sampled, every span that has samples is rolled up exactly once', t => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 2, maxLength: 200 }),
      fc.constantFrom(...SPANS.slice(1).map(({ seconds }) => seconds)),
      (steps, seconds) => {
        const moments = steps.reduce<number[]>((all, step) => [...all, (all.at(-1) ?? 600_000) + step * 300], []);
        const ends = moments.flatMap((at, i) => endsBetween(moments[i - 1] ?? 0, at, seconds));
        const last = moments.at(-1) ?? 0;
        const wanted = new Set(moments.map(at => Math.ceil(at / seconds) * seconds).filter(end => end <= last));
        t.same(ends, [...wanted]);
      },
    ),
  );
  t.end();
});

void t.test('a span ends at a whole five minutes', t => {
  t.equal(spanEnd(Date.parse('2026-12-01T10:04:59.999Z')), Date.parse('2026-12-01T10:00:00Z') / 1_000);
  t.equal(spanEnd(Date.parse('2026-12-01T10:05:00Z')), Date.parse('2026-12-01T10:05:00Z') / 1_000);
  t.end();
});

const sample = { lag: null, medianLag: null, backlog: null, onlineMs: 0, rows: 0, bytes: 0, branches: 1 };

void t.test('the fleet has the worst and the median lag, and sums of the others', t => {
  const present = [
    { ...sample, branch: 'a', isPresent: true, lag: 4, backlog: 2, rows: 10 },
    { ...sample, branch: 'b', isPresent: true, lag: 900, backlog: 5, rows: 7 },
    { ...sample, branch: 'c', isPresent: true, lag: 6, rows: 1 },
    { ...sample, branch: 'd', isPresent: true },
    { ...sample, branch: 'gone', isPresent: false, rows: 100 },
  ];
  const fleet = fleetOf(present, new Map());
  t.match(fleet, { branch: FLEET, lag: 900, medianLag: 6, backlog: 7, rows: 118, branches: 4 });
  t.end();
});

void t.test('the fleet’s counters never fall, whatever becomes of a branch', t => {
  const first = [
    { ...sample, branch: 'a', isPresent: true, rows: 10 },
    { ...sample, branch: 'b', isPresent: true, rows: 7 },
  ];
  const fleet = fleetOf(first, new Map());
  const before = new Map([...first, fleet].map(each => [each.branch, each]));
  // b was deleted with its data; a has gone on; c is new.
  const second = [
    { ...sample, branch: 'a', isPresent: true, rows: 12 },
    { ...sample, branch: 'c', isPresent: true, rows: 3 },
  ];
  t.equal(fleetOf(second, before).rows, 17 + 2 + 3);
  t.end();
});
