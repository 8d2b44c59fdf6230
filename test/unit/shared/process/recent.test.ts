import t from 'tap';
import { RecentHistory, RecentRate, secondsLeft } from '../../../../shared/process/recent.ts';

void t.test('a rate counts the last minute, from its first event on', t => {
  const rate = new RecentRate();
  t.equal(rate.perSecond(0), 0);
  rate.add(100, 0);
  t.equal(rate.perSecond(1_000), 20, 'at least over five seconds');
  for (let second = 1; second <= 30; second += 1) rate.add(10, second * 1000);
  t.equal(Math.round(rate.perSecond(30_000)), 13);
  t.equal(rate.perSecond(200_000), 0, 'a minute later nothing is left of it');
  rate.add(50, 200_000);
  t.equal(rate.perSecond(205_000), 10, 'measured from its own beginning');
  t.end();
});

void t.test('a history keeps one sample a minute, and no more than three hours of them', t => {
  const history = new RecentHistory();
  for (let second = 0; second < 5 * 3600; second += 5) history.note(second, second * 1000);
  const { everySeconds, values } = history.samples();
  t.equal(everySeconds, 60);
  t.equal(values.length, 180);
  t.equal(values.at(-1), 5 * 3600 - 60);
  t.end();
});

void t.test('time left is said only while something is left and moves', t => {
  t.equal(secondsLeft(100, 10), 10);
  t.equal(secondsLeft(0, 10), null);
  t.equal(secondsLeft(100, 0), null);
  t.end();
});
