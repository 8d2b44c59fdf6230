import fc from 'fast-check';
import t from 'tap';
import { backOffMs, BandwidthLimit } from '../../../../agent/forward/rate-limit.ts';
import { checkTimeZone, linkState, parseWindow } from '../../../../shared/config/link-schedule.ts';
import type { LinkPolicy } from '../../../../agent/forward/rate-limit.ts';
import { SendWindow } from '../../../../agent/forward/send-window.ts';

const MINUTE = 60_000;

function policy(timeZone: string, ...windows: string[]): LinkPolicy {
  return { windows: windows.map(parseWindow), timeZone, maxBytesPerSecond: 0 };
}

const at = (text: string): number => Date.parse(text);
const iso = (time: number | null): string | null => (time === null ? null : new Date(time).toISOString());

await t.test('windows open and close by the wall clock of the branch', test => {
  const paris = policy('Europe/Paris', '08:00-09:30', 'mon-fri 20:00-20:30');
  // 2026-01-05 is a Monday; Paris is UTC+1.
  const cases: [string, boolean, string][] = [
    ['2026-01-05T06:59:59Z', false, '2026-01-05T07:00:00.000Z'],
    ['2026-01-05T07:00:00Z', true, '2026-01-05T08:30:00.000Z'],
    ['2026-01-05T08:30:00Z', false, '2026-01-05T19:00:00.000Z'],
    ['2026-01-05T19:29:30Z', true, '2026-01-05T19:30:00.000Z'],
    ['2026-01-10T12:00:00Z', false, '2026-01-11T07:00:00.000Z'],
  ];
  for (const [time, open, changesAt] of cases) {
    const state = linkState(paris, at(time));
    test.same({ open: state.open, changesAt: iso(state.changesAt) }, { open, changesAt }, time);
  }
  test.end();
});

await t.test('a window past midnight belongs to the day on which it begins', test => {
  const saturdays = policy('UTC', 'sat 22:00-02:00');
  test.equal(linkState(saturdays, at('2026-01-11T01:59:00Z')).open, true, 'early on Sunday');
  test.equal(linkState(saturdays, at('2026-01-10T01:59:00Z')).open, false, 'early on Saturday');
  test.equal(iso(linkState(saturdays, at('2026-01-10T23:00:00Z')).changesAt), '2026-01-11T02:00:00.000Z');
  test.end();
});

await t.test('no windows and a whole week are always open, and never change', test => {
  test.same(linkState(policy('UTC'), 0), { open: true, changesAt: null });
  test.same(linkState(policy('UTC', '00:00-24:00'), at('2026-03-29T00:30:00Z')), { open: true, changesAt: null });
  test.end();
});

await t.test('when clocks go forward a window in the missing hour does not happen; one across it is shorter', test => {
  // Paris, 2026-03-29: 02:00 becomes 03:00 at 01:00 UTC.
  test.equal(
    iso(linkState(policy('Europe/Paris', '02:10-02:50'), at('2026-03-29T00:30:00Z')).changesAt),
    '2026-03-30T00:10:00.000Z',
  );
  const across = linkState(policy('Europe/Paris', '01:30-03:30'), at('2026-03-29T00:31:00Z'));
  test.same(
    { open: across.open, changesAt: iso(across.changesAt) },
    { open: true, changesAt: '2026-03-29T01:30:00.000Z' },
  );
  test.end();
});

await t.test('when clocks go back a window in the repeated hour happens twice', test => {
  // Paris, 2026-10-25: 03:00 becomes 02:00 at 01:00 UTC.
  const twice = policy('Europe/Paris', '02:10-02:50');
  const changes: (string | null)[] = [];
  let time: number | null = at('2026-10-24T23:00:00Z');
  for (let n = 0; n < 4; n += 1) {
    time = linkState(twice, time ?? 0).changesAt;
    changes.push(iso(time));
  }
  test.same(changes, [
    '2026-10-25T00:10:00.000Z',
    '2026-10-25T00:50:00.000Z',
    '2026-10-25T01:10:00.000Z',
    '2026-10-25T01:50:00.000Z',
  ]);
  test.end();
});

await t.test(
  'the next change is the first minute that differs, in every zone and over every shift of the clock',
  test => {
    const time = fc.integer({ min: 0, max: 1439 }).map(minute => {
      const digits = (value: number): string => String(value).padStart(2, '0');
      return `${digits(Math.floor(minute / 60))}:${digits(minute % 60)}`;
    });
    const days = fc.constantFrom('', 'mon ', 'mon-fri ', 'sat,sun ', 'fri-mon ', 'wed,fri-sat ');
    const window = fc
      .tuple(days, time, time)
      .filter(([, from, to]) => from !== to)
      .map(([day, from, to]) => `${day}${from}-${to}`);
    // Near the shifts of 2026, and anywhere in it.
    const moment = fc.oneof(
      fc.integer({ min: at('2026-01-01T00:00:00Z'), max: at('2026-12-31T00:00:00Z') }),
      fc
        .constantFrom(
          '2026-03-29T01:00:00Z',
          '2026-10-25T01:00:00Z',
          '2026-03-08T10:00:00Z',
          '2026-11-01T09:00:00Z',
          '2026-04-04T15:00:00Z',
          '2026-10-03T16:00:00Z',
        )
        .chain(shift => fc.integer({ min: -300, max: 300 }).map(minutes => at(shift) + minutes * MINUTE + 17_000)),
    );
    const zone = fc.constantFrom(
      'Europe/Paris',
      'America/Los_Angeles',
      'Australia/Lord_Howe',
      'Asia/Kathmandu',
      'UTC',
      'Africa/Cairo',
    );
    fc.assert(
      fc.property(zone, fc.array(window, { minLength: 1, maxLength: 3 }), moment, (timeZone, windows, now) => {
        const link = policy(timeZone, ...windows);
        const { open, changesAt } = linkState(link, now);
        if (changesAt === null) return;
        if (changesAt <= now || changesAt % MINUTE !== 0) throw new Error(`changes at ${iso(changesAt)}`);
        if (linkState(link, changesAt).open === open) throw new Error('nothing changes there');
        // Nothing changes before: the minutes that follow, the last ones before the change, and some between.
        const first = Math.floor(now / MINUTE) + 1;
        const last = changesAt / MINUTE - 1;
        const minutes = Array.from({ length: 60 }, (_, n) => [first + n, last - n, first + n * 193]).flat();
        for (const minute of minutes.filter(each => each >= first && each <= last)) {
          if (linkState(link, minute * MINUTE).open !== open)
            throw new Error(`it changes at ${iso(minute * MINUTE)} already`);
        }
      }),
      { numRuns: 60 },
    );
    test.pass();
    test.end();
  },
);

await t.test('faulty windows and zones are refused with their rule', test => {
  for (const text of [
    '8:00-9:00',
    '08:00',
    '08:00-08:00',
    '24:00-25:00',
    '08:60-09:00',
    'mo 08:00-09:00',
    'mon- 08:00-09:00',
    '',
  ]) {
    test.throws(() => parseWindow(text), { code: 'CONFIG_INVALID' }, text);
  }
  test.throws(() => checkTimeZone('Europe/Atlantis'), { code: 'CONFIG_INVALID' });
  test.same(parseWindow(' FRI-mon 22:00-24:00 ').days, [0, 1, 5, 6]);
  test.end();
});

await t.test('no more leaves than the rate allows, over any span of time, whatever the sizes', test => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1_000, max: 1_000_000 }),
      fc.array(fc.tuple(fc.integer({ min: 1, max: 300_000 }), fc.integer({ min: 0, max: 3_000 })), { maxLength: 50 }),
      (rate, steps) => {
        let now = 1_000_000;
        const limit = new BandwidthLimit(rate, now);
        const sends: [number, number][] = [];
        for (const [bytes, pause] of steps) {
          now += pause;
          now += limit.waitMs(now);
          if (limit.waitMs(now) !== 0) throw new Error('it was not enough to wait as told');
          limit.spend(bytes, now);
          sends.push([now, bytes]);
        }
        for (const [index, [from]] of sends.entries()) {
          let sum = 0;
          let before = 0;
          for (const [time, bytes] of sends.slice(index)) {
            // The last of a span may be as large as it likes; all before it fit.
            if (before > rate + ((time - from) * rate) / 1000 + 1)
              throw new Error(`${before} bytes in ${time - from} ms`);
            sum += bytes;
            before = sum;
          }
        }
      },
    ),
  );
  const free = new BandwidthLimit(0, 0);
  free.spend(1e12, 0);
  test.equal(free.waitMs(0), 0);
  test.end();
});

await t.test('a clock that was set back or forward neither stops sending nor lets a flood out', test => {
  const HOUR = 3_600_000;
  const limit = new BandwidthLimit(1_000, 10 * HOUR);
  limit.spend(3_000, 10 * HOUR);
  test.equal(limit.waitMs(10 * HOUR), 2_001);
  const back = 9 * HOUR;
  test.equal(limit.waitMs(back), 2_001, 'nothing is taken away');
  test.equal(limit.waitMs(back + 1_000), 1_001, 'and it fills by the clock as it is now');
  test.equal(limit.waitMs(back + 2_001), 0);
  const ahead = 20 * HOUR;
  test.equal(limit.waitMs(ahead), 0);
  limit.spend(1_001, ahead);
  test.not(limit.waitMs(ahead), 0, 'one second’s worth at most was saved up');
  test.end();
});

await t.test('back-off doubles to its ceiling, its upper half at random', test => {
  const plan = { firstMs: 1_000, maxMs: 60_000 };
  test.same(
    [1, 2, 3, 7, 100].map(n => backOffMs(plan, n, 0)),
    [500, 1_000, 2_000, 30_000, 30_000],
  );
  test.same(
    [1, 7].map(n => backOffMs(plan, n, 0.999_999)),
    [1_000, 60_000],
  );
  test.end();
});

await t.test('the send window grows while confirms are quick, shrinks while they are slow, and probes alone', test => {
  const window = new SendWindow(4 * 1024 * 1024, 256);
  const start = window.limitBytes;
  for (let n = 0; n < 100; n += 1) window.confirmed(128 * 1024, 20);
  test.equal(window.limitBytes, 4 * 1024 * 1024);
  for (let n = 0; n < 100; n += 1) window.confirmed(128 * 1024, 8_000);
  test.equal(window.limitBytes, 64 * 1024);
  test.ok(start > window.limitBytes);
  test.ok(window.admits(0, 0));
  test.ok(window.admits(1, 60_000));
  test.notOk(window.admits(2, 70_000));
  test.notOk(window.admits(256, 0));
  window.probe();
  test.ok(window.admits(0, 0));
  test.notOk(window.admits(1, 10));
  window.confirmed(10, 10);
  test.ok(window.admits(1, 10));
  test.end();
});
