import t from 'tap';
import { withJitter } from '../../../../agent/forward/hello-pace.ts';
import { expectation, Expectations, reportedSchedule } from '../../../../applier/branches/expectation.ts';
import { LATE_S } from '../../../../applier/store/contacts.ts';

const HOUR = 3_600_000;
const at = (text: string): number => Date.parse(text);
const iso = (time: number): string => new Date(time).toISOString();

function expect(windows: string[], timeZone: string, lastSeen: string) {
  const { expectedAt, overdueAt } = expectation(reportedSchedule({ windows, timeZone }), at(lastSeen));
  return [iso(expectedAt), iso(overdueAt)];
}

void t.test('a branch is overdue once a whole window has passed without it', t => {
  // 2026-01-05 is a Monday; Paris is UTC+1.
  const windows = ['08:00-09:30', 'mon-fri 20:00-20:30'];
  const cases: [string, string, string][] = [
    ['2026-01-05T08:29:00Z', '2026-01-05T19:00:00.000Z', '2026-01-05T19:30:00.000Z'],
    ['2026-01-05T19:29:00Z', '2026-01-06T07:00:00.000Z', '2026-01-06T08:30:00.000Z'],
    ['2026-01-05T12:00:00Z', '2026-01-05T19:00:00.000Z', '2026-01-05T19:30:00.000Z'],
  ];
  for (const [lastSeen, expected, overdue] of cases) {
    t.same(expect(windows, 'Europe/Paris', lastSeen), [expected, overdue], lastSeen);
  }
  t.end();
});

void t.test('over a weekend without windows it is merely offline', t => {
  t.same(expect(['mon-fri 20:00-20:30'], 'UTC', '2026-01-09T20:10:00Z'), [
    '2026-01-12T20:00:00.000Z',
    '2026-01-12T20:30:00.000Z',
  ]);
  t.end();
});

void t.test('where the link is always open, a day and a little more is long', t => {
  const lastSeen = '2026-01-05T12:00:00Z';
  const day = [iso(at(lastSeen)), iso(at(lastSeen) + 26 * HOUR)];
  t.same(expect([], 'UTC', lastSeen), day);
  t.same(expect(['00:00-24:00'], 'UTC', lastSeen), day);
  t.end();
});

void t.test('an idle branch of which one hello is lost does not count as offline', t => {
  // Of the agent: when it notices that one is lost, and how often it looks.
  const [timeoutMs, lookMs] = [20_000, 5_000];
  t.ok(LATE_S * 1_000 > timeoutMs + withJitter(lookMs, 1));
  t.end();
});

void t.test('what a hostile branch calls its windows counts as always open', t => {
  t.same(reportedSchedule({ windows: ['<img onerror=x>'], timeZone: 'Europe/Paris' }).windows, []);
  t.same(reportedSchedule({ windows: ['08:00-09:00'], timeZone: 'No/Where' }).windows, []);
  t.end();
});

void t.test('an expectation is found anew when the branch was seen, or has other windows', t => {
  const expectations = new Expectations();
  const seen = at('2026-01-05T12:00:00Z');
  const first = expectations.of('paris', { windows: ['20:00-20:30'], timeZone: 'UTC' }, seen);
  t.equal(expectations.of('paris', { windows: ['20:00-20:30'], timeZone: 'UTC' }, seen), first, 'remembered');
  t.equal(
    iso(expectations.of('paris', { windows: ['21:00-21:30'], timeZone: 'UTC' }, seen).overdueAt).slice(11, 16),
    '21:30',
  );
  t.equal(expectations.of('paris', null, seen).expectedAt, seen);
  t.end();
});
