import t from 'tap';
import { RateLimit } from '../../../../applier/consume/rate-limit.ts';

void t.test('some at once, then one at a time; rest makes the allowance whole again, and no more', t => {
  const pace = new RateLimit({ burst: 3, everyMs: 100 });
  t.strictSame(
    [0, 0, 0, 0, 0].map(now => pace.take(now)),
    [0, 0, 0, 100, 200],
  );
  t.equal(pace.take(10_000), 0);
  t.strictSame(
    [10_000, 10_000, 10_000].map(now => pace.take(now)),
    [0, 0, 100],
  );
  t.end();
});

void t.test('what is not due now is not taken', t => {
  const pace = new RateLimit({ burst: 1, everyMs: 100 });
  t.strictSame(
    [0, 1, 50, 99, 100, 101].map(now => pace.takeNow(now)),
    [true, false, false, false, true, false],
  );
  t.end();
});
