import t from 'tap';
import { gatherMs, holdMs } from '../../../../agent/forward/freshness.ts';

const MINUTE = 60_000;

void t.test('changes gather in memory for a minute at most, and wait in the spool after that', t => {
  t.equal(gatherMs(0), 0);
  t.equal(gatherMs(10_000), 10_000);
  t.equal(gatherMs(15 * MINUTE), MINUTE);
  t.equal(holdMs(0, 0, 0, 0), 0);
  t.equal(holdMs(10_000, 0, 0, 0), 0, 'they are old enough when they are spooled');
  t.equal(holdMs(15 * MINUTE, 0, 0, 0), 14 * MINUTE);
  t.equal(holdMs(15 * MINUTE, 0, 0, 13 * MINUTE), MINUTE);
  t.equal(holdMs(15 * MINUTE, 0, 0, 20 * MINUTE), 0);
  t.end();
});

void t.test('a full batch does not wait, and no clock makes one wait for longer', t => {
  t.equal(holdMs(15 * MINUTE, 0, 1024 * 1024, 0), 0);
  t.equal(holdMs(15 * MINUTE, 60 * MINUTE, 0, 0), 14 * MINUTE, 'the clock was set back');
  t.end();
});
