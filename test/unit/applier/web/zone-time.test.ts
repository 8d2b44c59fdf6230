import t from 'tap';
import { boundsOf } from '../../../../applier/web/selection.ts';
import {
  changesBetween,
  dateTimeText,
  lastClosing,
  momentOf,
  offsetOf,
  wallOf,
} from '../../../../applier/web/zone-time.ts';

const HOUR = 3_600_000;
const at = (iso: string): number => Date.parse(iso);
const wall = (text: string): number => Date.parse(`${text.replace(' ', 'T')}Z`);

void t.test('a wall time and its moment belong to each other, also where clocks change', t => {
  for (const zone of ['UTC', 'Europe/Paris', 'Asia/Kolkata', 'America/St_Johns']) {
    for (const iso of ['2026-01-15T12:00:00Z', '2026-03-29T00:30:00Z', '2026-03-29T03:30:00Z', '2026-10-25T03:30:00Z'])
      t.equal(momentOf(zone, wallOf(zone, at(iso))), at(iso), `${zone} ${iso}`);
  }
  t.equal(momentOf('Europe/Paris', wall('2026-10-25 02:30:00')), at('2026-10-25T00:30:00Z'), 'of two the first');
  const gap = momentOf('Europe/Paris', wall('2026-03-29 02:30:00'));
  t.ok(Math.abs(gap - at('2026-03-29T01:30:00Z')) <= HOUR, 'a time that is passed over is near the gap');
  t.equal(offsetOf('Asia/Kolkata', at('2026-01-01T00:00:00Z')), 5.5 * HOUR);
  t.end();
});

void t.test('the changes of a year are found to the second', t => {
  t.same(changesBetween('Europe/Paris', at('2026-01-01T00:00:00Z'), at('2027-01-01T00:00:00Z')), [
    { at: at('2026-03-29T01:00:00Z'), offset: 2 * HOUR },
    { at: at('2026-10-25T01:00:00Z'), offset: HOUR },
  ]);
  t.same(changesBetween('Asia/Kolkata', at('2026-01-01T00:00:00Z'), at('2027-01-01T00:00:00Z')), []);
  t.end();
});

void t.test('the last closing is today’s once it is over, and yesterday’s until then', t => {
  const closing = (now: string, minutes = 20 * 60): string =>
    new Date(lastClosing('Europe/Paris', minutes, at(now))).toISOString();
  t.equal(closing('2026-12-01T06:00:00Z'), '2026-11-30T19:00:00.000Z');
  t.equal(closing('2026-12-01T19:00:00Z'), '2026-12-01T19:00:00.000Z');
  t.equal(closing('2026-12-01T18:59:59Z'), '2026-11-30T19:00:00.000Z');
  t.equal(closing('2026-12-01T06:00:00Z', 24 * 60), '2026-11-30T23:00:00.000Z', 'midnight ends the day before');
  t.equal(closing('2026-03-30T06:00:00Z'), '2026-03-29T18:00:00.000Z', 'on the day of the change');
  t.end();
});

void t.test('periods are whole days of the calendar', t => {
  const bounds = (preset: Parameters<typeof boundsOf>[0], now = '2026-12-01 08:15:00'): string[] => {
    const { from, until } = boundsOf(preset, wall(now));
    return [dateTimeText(from), dateTimeText(until)];
  };
  t.same(bounds('today'), ['2026-12-01 00:00:00', '2026-12-02 00:00:00']);
  t.same(bounds('yesterday'), ['2026-11-30 00:00:00', '2026-12-01 00:00:00']);
  t.same(bounds('7-days'), ['2026-11-25 00:00:00', '2026-12-02 00:00:00']);
  t.same(bounds('this-month'), ['2026-12-01 00:00:00', '2027-01-01 00:00:00']);
  t.same(bounds('last-month', '2026-01-31 08:00:00'), ['2025-12-01 00:00:00', '2026-01-01 00:00:00']);
  t.same(bounds('this-year'), ['2026-01-01 00:00:00', '2027-01-01 00:00:00']);
  t.end();
});
