import t from 'tap';
import { pauseMs, TIMES_KEPT } from '../../../agent/growing-pause.ts';

const LIMITS = { free: 3, firstMs: 1_000, mostMs: 60_000, forgetMs: 600_000 };

void t.test('a few times at once, then after pauses that double', t => {
  const times: number[] = [];
  const pauses: number[] = [];
  for (let now = 1_000_000; pauses.length < 12;) {
    const wait = pauseMs(times, LIMITS, now);
    pauses.push(wait);
    now += wait;
    times.push(now);
  }
  t.same(pauses.slice(0, 3), [0, 0, 0]);
  t.same(pauses.slice(3, 7), [1_000, 2_000, 4_000, 8_000]);
  t.ok(
    pauses.slice(7).every(pause => pause >= 16_000 && pause <= LIMITS.mostMs),
    String(pauses),
  );
  t.end();
});

void t.test('rest is rewarded: what is long past counts no more', t => {
  const times = [0, 1, 2, 3, 4, 5];
  t.ok(pauseMs(times, LIMITS, 6) > 0);
  t.equal(pauseMs(times, LIMITS, 4 * LIMITS.forgetMs), 0);
  t.end();
});

void t.test('what is asked for without end is never done more often than once in the longest pause', t => {
  let times: number[] = [];
  let done = 0;
  for (let now = 0; now < 10 * LIMITS.forgetMs; now += 500) {
    if (pauseMs(times, LIMITS, now) > 0) continue;
    times = [...times, now].slice(-TIMES_KEPT);
    done += 1;
  }
  t.ok(done <= LIMITS.free + 10 + (10 * LIMITS.forgetMs) / LIMITS.mostMs, String(done));
  t.end();
});

void t.test('a clock that was set back makes nobody wait longer than the pause', t => {
  const hour = 3_600_000;
  const times = [hour, hour + 1, hour + 2, hour + 3];
  t.ok(pauseMs(times, LIMITS, 0) <= 2_000);
  t.end();
});
