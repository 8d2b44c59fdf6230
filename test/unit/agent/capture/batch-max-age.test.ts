import t from 'tap';
import { BatchMaxAge } from '../../../../agent/capture/batch-max-age.ts';

const MINUTE = 60_000;

void t.test('a batch may become the older the longer the link has been away, up to a minute', t => {
  const age = new BatchMaxAge();
  t.equal(age.limitMs(false, 0), 3_000);
  t.equal(age.limitMs(false, 10_000), 3_000);
  t.equal(age.limitMs(false, 5 * MINUTE), 30_000);
  t.equal(age.limitMs(false, 10 * MINUTE), MINUTE);
  t.equal(age.limitMs(false, 22 * 60 * MINUTE), MINUTE);
  t.end();
});

void t.test('a batch leaves soon over a link that is up, and the next absence counts from its own beginning', t => {
  const age = new BatchMaxAge();
  age.limitMs(false, 0);
  t.equal(age.limitMs(true, 10 * MINUTE), 200);
  t.equal(age.limitMs(false, 11 * MINUTE), 3_000);
  t.end();
});

void t.test('a clock that is set back makes a batch wait no longer', t => {
  const age = new BatchMaxAge();
  age.limitMs(false, 20 * MINUTE);
  t.equal(age.limitMs(false, 0), 3_000);
  t.equal(age.limitMs(false, MINUTE), 6_000);
  t.end();
});
