import t from 'tap';
import {
  MAX_PENDING_TIMES,
  noteApplied,
  noteCaptured,
  noteNewEpoch,
  NOTHING_COMPLETE,
  notLaterThan,
} from '../../../../applier/store/completeness.ts';
import { toDateTime } from '../../../../applier/store/sql-values.ts';

const at = (second: number, micros = 0): string =>
  `2026-11-22T10:00:${String(second).padStart(2, '0')}.${String(micros).padStart(6, '0')}Z`;

await t.test('the head office is complete as of a time once that hello’s head is applied', t => {
  let state = noteCaptured(NOTHING_COMPLETE, at(1), 5);
  t.equal(noteApplied(state, 4, false).through, null);
  state = noteApplied(state, 5, false);
  t.equal(state.through, at(1));
  t.strictSame(state.pending, []);
  t.end();
});

await t.test('a quiet branch goes on being complete though nothing is sent', t => {
  let state = noteApplied(noteCaptured(NOTHING_COMPLETE, at(1), 5), 5, false);
  state = noteApplied(noteCaptured(state, at(9), 5), 5, false);
  t.equal(state.through, at(9));
  t.end();
});

await t.test('several times wait, each for its own batch', t => {
  let state = NOTHING_COMPLETE;
  for (let i = 1; i <= 5; i += 1) state = noteCaptured(state, at(i), i * 10);
  t.equal(noteApplied(state, 35, false).through, at(3));
  t.equal(noteApplied(state, 35, false).pending.length, 2);
  t.equal(noteApplied(state, 1_000, false).through, at(5));
  t.end();
});

await t.test('microseconds count', t => {
  const state = noteApplied(noteCaptured(NOTHING_COMPLETE, at(1, 5), 1), 1, false);
  t.equal(noteApplied(noteCaptured(state, at(1, 4), 1), 1, false).through, at(1, 5));
  t.equal(noteApplied(noteCaptured(state, at(1, 6), 1), 1, false).through, at(1, 6));
  t.end();
});

await t.test('late, repeated, empty and senseless hellos change nothing', t => {
  const state = noteCaptured(noteApplied(noteCaptured(NOTHING_COMPLETE, at(5), 1), 1, false), at(8), 4);
  for (const time of [at(4), at(5), at(7), at(8), null, 'yesterday', '', '2026-02-31T00:00:00Z', 'Infinity']) {
    t.equal(noteCaptured(state, time, 9), state, String(time));
  }
  t.end();
});

await t.test('one batch holds the latest time that was said of it', t => {
  const state = noteCaptured(noteCaptured(NOTHING_COMPLETE, at(1), 5), at(2), 5);
  t.strictSame(state.pending, [{ through: at(2), seq: 5 }]);
  t.end();
});

await t.test('what waits is bounded, and still ends at the newest time', t => {
  let state = NOTHING_COMPLETE;
  for (let i = 0; i < 10 * MAX_PENDING_TIMES; i += 1) {
    state = noteCaptured(state, new Date(1_700_000_000_000 + i).toISOString(), i + 1);
    t.ok(state.pending.length <= MAX_PENDING_TIMES);
  }
  const newest = new Date(1_700_000_000_000 + 10 * MAX_PENDING_TIMES - 1).toISOString();
  t.equal(noteApplied(state, 10 * MAX_PENDING_TIMES, false).through, newest);
  t.equal(noteApplied(state, 1, false).through, new Date(1_700_000_000_000).toISOString());
  t.end();
});

await t.test('rows known to be missing hold it back; a new epoch drops what was said of the old', t => {
  const state = noteCaptured(NOTHING_COMPLETE, at(1), 5);
  t.equal(noteApplied(state, 5, true), state);
  t.strictSame(noteNewEpoch({ through: at(0), pending: state.pending }), { through: at(0), pending: [] });
  t.end();
});

await t.test('times become what DATETIME(6) takes, or nothing', t => {
  t.equal(toDateTime('2026-11-22T10:00:00.123456Z'), '2026-11-22 10:00:00.123456');
  t.equal(toDateTime('2026-11-22T10:00:00.123456789Z'), '2026-11-22 10:00:00.123456');
  t.equal(toDateTime('2026-11-22T10:00:00Z'), '2026-11-22 10:00:00');
  for (const bad of ['2026-11-22', '2026-13-01T00:00:00Z', '2026-11-22T25:00:00Z', "2026'; DROP", null]) {
    t.equal(toDateTime(bad), null, String(bad));
  }
  t.end();
});

await t.test('a branch is complete as of now at most, whatever it says', t => {
  const now = Date.parse('2026-11-26T12:00:00.500Z');
  t.equal(notLaterThan(now, '9999-12-31T23:59:59.999999Z'), '2026-11-26T12:00:00.500Z');
  t.equal(notLaterThan(now, '2026-11-26T12:00:00.499999Z'), '2026-11-26T12:00:00.499999Z');
  t.equal(notLaterThan(now, 'tomorrow'), null);
  t.equal(notLaterThan(now, null), null);
  t.end();
});
