import t from 'tap';
import { isCompleteTo, missingAt, needsOf, todayOf } from '../../../../applier/web/today.ts';
import { TodayPage } from '../../../../applier/web/today-page.ts';
import { rowsByHour } from '../../../../applier/web/today-rows.ts';
import { usuallyBackAt } from '../../../../applier/web/usual-hours.ts';
import { largeFleet, mixedFleet, wellFleet } from '../../../support/world/page-fixtures.ts';

const NOW = new Date('2026-12-01T07:00:00Z');
const CLOSING = Date.parse('2026-11-30T19:00:00Z');
const HOUR = 3_600;
const nobody = (): null => null;
const NO_ROWS = rowsByHour([], NOW.getTime(), 'UTC');

void t.test('a branch is complete only where nothing is known to be missing or different', t => {
  const of = (name: string): boolean =>
    isCompleteTo(
      mixedFleet(NOW).branches.find(({ branch }) => branch === name)!,
      CLOSING,
    );
  t.equal(of('paris'), true);
  t.equal(of('marseille'), true, 'behind, but not that far');
  for (const name of ['nantes', 'toulouse', 'nice', 'metz', 'dijon', 'brest', 'lille']) t.equal(of(name), false, name);
  t.end();
});

void t.test('each that is not complete says why, and until when it is expected where that is known', t => {
  const { branches } = mixedFleet(NOW);
  const missing = new Map(missingAt(branches, CLOSING, NOW.getTime(), nobody).map(each => [each.branch, each]));
  const why = [...missing].map(([name, each]) => `${name} ${each.why}`);
  t.same(why, [
    'brest overdue',
    'nantes offline',
    'toulouse halted',
    'dijon quarantined',
    'metz set-aside',
    'nice different',
    'lille never-seen',
  ]);
  t.equal(missing.get('nantes')?.expected, null, 'a link without windows, and nobody knows when it usually is online');
  const usual = missingAt(branches, CLOSING, NOW.getTime(), name => (name === 'nantes' ? NOW.getTime() + 1_000 : null));
  t.same(usual.find(({ branch }) => branch === 'nantes')?.expected, { at: '2026-12-01T07:00:01.000Z', by: 'usual' });
  const [first] = branches;
  const windows = { ...first!.report!, windows: ['08:00-09:30'] };
  const away = { ...branches.find(({ branch }) => branch === 'nantes')!, report: windows };
  t.same(missingAt([away], CLOSING, NOW.getTime(), nobody)[0]?.expected, { at: away.expectedAt, by: 'opens' });
  const late = { ...away, expectedAt: '2026-12-01T06:30:00.000Z', overdueAt: '2026-12-01T08:00:00.000Z' };
  t.same(missingAt([late], CLOSING, NOW.getTime(), nobody)[0]?.expected, { at: late.overdueAt, by: 'closes' });
  const slow = { ...first!, states: ['behind' as const], completeThrough: null, secondsLeft: 60 };
  t.same(missingAt([slow], CLOSING, NOW.getTime(), nobody)[0]?.expected, {
    at: '2026-12-01T07:01:00.000Z',
    by: 'rate',
  });
  t.end();
});

void t.test('what many branches have in common is one thing for a person, the worst first', t => {
  const status = mixedFleet(NOW);
  const needs = needsOf(status.branches, [status.target, status.broker]);
  t.same(
    needs.map(({ kind }) => kind),
    ['halted', 'set-aside', 'different', 'waiting', 'quarantined', 'overdue'],
  );
  const large = largeFleet(1_000, NOW);
  const [halted] = needsOf(large.branches, []);
  t.equal(halted?.kind, 'halted');
  t.ok((halted?.branches ?? 0) > 3);
  t.equal(halted?.named.length, 3);
  const error = { code: 'TARGET_UNREACHABLE', message: 'gone', hint: 'look' };
  t.match(needsOf([], [{ name: 'database', up: false, error }])[0], { kind: 'database', branches: 0, reason: 'gone' });
  const today = todayOf({
    status: large,
    closing: { at: NOW.toISOString(), time: '20:00', timeZone: 'UTC' },
    usual: nobody,
    rows: NO_ROWS,
  });
  t.equal(today.needs.length, 3);
  t.equal(today.moreNeeds, 3);
  t.equal(today.missing.length, 20);
  t.same(needsOf(wellFleet(3, NOW).branches, []), []);
  t.end();
});

/** Counters of each hour until NOW, `days` back. */
function hours(days: number, count: (hour: number, daysAgo: number) => number) {
  let rows = 0;
  return Array.from({ length: days * 24 + 1 }, (_, i) => {
    const at = NOW.getTime() / 1_000 - (days * 24 - i) * HOUR;
    rows += count((at / HOUR) % 24, Math.floor((days * 24 - i) / 24));
    return { at, rows, onlineMs: rows };
  });
}

void t.test('rows by hour stand beside the same hours a week before', t => {
  const fleet = rowsByHour(
    hours(9, (_, daysAgo) => (daysAgo < 2 ? 110 : 100)),
    NOW.getTime(),
    'Europe/Paris',
  );
  t.equal(fleet.at.length, 24);
  t.equal(fleet.total, 24 * 110);
  t.ok(fleet.before.every(value => value === 100));
  t.ok(Math.abs((fleet.change ?? 0) - 0.1) < 1e-9);
  const young = rowsByHour(
    hours(2, () => 5),
    NOW.getTime(),
    'UTC',
  );
  t.equal(young.change, null, 'there was no week before');
  t.equal(young.total, 120);
  const gap = rowsByHour(
    hours(9, () => 5).filter((_, i) => i !== 9 * 24 - 3),
    NOW.getTime(),
    'UTC',
  );
  t.equal(gap.rows.filter(value => value === null).length, 2, 'an hour without its samples is not known');
  t.equal(gap.total, 120, 'although what came in it is known with the next');
  t.end();
});

void t.test('on the week of a change of clocks the same hour is that of the wall', t => {
  const now = Date.parse('2026-10-26T12:00:00Z');
  const samples = Array.from({ length: 9 * 24 + 2 }, (_, i) => {
    const at = now / 1_000 - (9 * 24 + 1 - i) * HOUR;
    return { at, rows: at / HOUR === Date.parse('2026-10-19T11:00:00Z') / 1_000 / HOUR ? 7 : 0 };
  });
  let sum = 0;
  const counters = samples.map(({ at, rows }) => ({ at, rows: (sum += rows) }));
  const { before } = rowsByHour(counters, now, 'Europe/Paris');
  // 12:00 UTC is 13:00 in winter; at 13:00 in summer it was 11:00 UTC.
  t.equal(before.at(-1), 7);
  t.end();
});

void t.test('the usual hours are said only where the last days agree', t => {
  const usual = (count: (hour: number, daysAgo: number) => number): number | null =>
    usuallyBackAt(hours(8, count), NOW.getTime());
  const evening = (hour: number): number => (hour === 19 ? 3_600_000 : 0);
  t.equal(usual(evening), Date.parse('2026-12-01T19:00:00Z'));
  t.equal(
    usual((hour, daysAgo) => (daysAgo === 3 ? 0 : evening(hour))),
    Date.parse('2026-12-01T19:00:00Z'),
    'one day without it',
  );
  t.equal(
    usual((hour, daysAgo) => (daysAgo >= 6 ? 0 : evening(hour))),
    null,
    'not on this weekday',
  );
  t.equal(
    usual((hour, daysAgo) => (hour === (daysAgo % 2 === 0 ? 9 : 19) ? 3_600_000 : 0)),
    null,
    'each day another hour',
  );
  t.equal(
    usual(() => 0),
    null,
    'never',
  );
  t.equal(usuallyBackAt([], NOW.getTime()), null, 'nothing is known');
  t.end();
});

void t.test('Today answers although the database does not, and says that it is the database', async t => {
  const never = { read: () => new Promise<never>(() => undefined) };
  const page = new TodayPage(never, { timeZone: 'UTC', closingMinutes: 20 * 60 }, () => NOW.getTime(), 1);
  const status = wellFleet(3, NOW);
  const error = { code: 'TARGET_UNREACHABLE', message: 'gone', hint: 'look' };
  const today = await page.read({ ...status, target: { ...status.target, up: false, error } });
  t.match(today.needs[0], { kind: 'database', reason: 'gone' });
  t.equal(today.rows.total, 0, 'what samples would say is not known');
});
