import fc from 'fast-check';
import t from 'tap';
import { counted, formatAgo, formatBytes, formatDuration, parseBytes, parseDurationMs } from '../../../shared/units.ts';

void t.test('amounts of bytes are read with decimal and binary units', t => {
  const cases: [string, number | null][] = [
    ['20GiB', 20 * 2 ** 30],
    ['1.5 MiB', 1.5 * 2 ** 20],
    ['128MB', 128e6],
    ['64kib', 65_536],
    ['512', 512],
    ['0', 0],
    ['7 B', 7],
    ['3 parsecs', null],
    ['-1KiB', null],
    ['1e3KiB', null],
    ['GiB', null],
    ['', null],
    ['9007199254740993', null],
    ['999999999999999TiB', null],
  ];
  for (const [text, bytes] of cases) t.equal(parseBytes(text), bytes, JSON.stringify(text));
  t.end();
});

void t.test('times are read with a unit, and only zero without one', t => {
  const cases: [string, number | null][] = [
    ['48h', 172_800_000],
    ['250ms', 250],
    ['1.5s', 1500],
    ['10m', 600_000],
    ['7d', 604_800_000],
    ['0', 0],
    ['48', null],
    ['5 weeks', null],
    ['-3s', null],
  ];
  for (const [text, ms] of cases) t.equal(parseDurationMs(text), ms, JSON.stringify(text));
  t.end();
});

void t.test('what is printed in whole binary units reads back as the same amount', t => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 1023 }), fc.constantFrom(0, 10, 20, 30, 40), (amount, power) => {
      const bytes = amount * 2 ** power;
      return parseBytes(formatBytes(bytes)) === bytes;
    }),
  );
  t.end();
});

void t.test('durations for people name the one or two largest units', t => {
  t.equal(formatDuration(250), '250 ms');
  t.equal(formatDuration(35_000), '35 s');
  t.equal(formatDuration(187_200_000), '2 d 4 h');
  t.equal(formatDuration(3_600_000), '1 h');
  t.end();
});

void t.test('times in the past and numbers of things are written as people say them', t => {
  const now = Date.parse('2026-11-30T12:00:00Z');
  t.equal(formatAgo(null, now), 'never');
  t.equal(formatAgo('2026-11-30T11:56:30Z', now), '3 min ago');
  t.equal(formatAgo('2026-11-28T11:00:00Z', now), '2 d ago');
  t.equal(formatAgo('2026-11-30T12:00:02Z', now), 'just now', 'another clock may be ahead');
  t.equal(counted(1, 'table'), '1 table');
  t.equal(counted(0, 'table'), '0 tables');
  t.equal(counted(2, 'batch', 'batches'), '2 batches');
  t.end();
});
