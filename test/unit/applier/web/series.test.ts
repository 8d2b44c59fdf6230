import t from 'tap';
import { seriesOf } from '../../../../applier/web/series.ts';

const frame = { branch: 'paris', range: '24h', span: 300, from: 1_000, to: 87_400 } as const;
const counters = { lag: 5, medianLag: null, backlog: 1, branches: 1 };

void t.test('rows, bytes and time online are the differences of neighbouring samples', t => {
  const series = seriesOf(
    [
      { ...counters, at: 900, rows: 100, bytes: 1_000, onlineMs: 0 },
      { ...counters, at: 1_200, rows: 130, bytes: 1_500, onlineMs: 150_000 },
      { ...counters, at: 1_500, rows: 130, bytes: 1_500, onlineMs: 450_100 },
    ],
    frame,
  );
  t.same(series.at, [1_200, 1_500], 'what is before the range is only subtracted from');
  t.same(series.rows, [30, 0]);
  t.same(series.bytes, [500, 0]);
  t.same(series.online, [0.5, 1], 'never more than all of the time');
  t.equal(series.medianLag, null);
  t.end();
});

void t.test('where nothing was sampled the line is broken, and what was counted meanwhile is not lost', t => {
  const series = seriesOf(
    [
      { ...counters, at: 1_200, rows: 10, bytes: 0, onlineMs: 0 },
      { ...counters, at: 3_000, rows: 40, bytes: 0, onlineMs: 900_000 },
    ],
    frame,
  );
  t.same(series.at, [1_200, 1_500, 3_000]);
  t.same(series.lag, [5, null, 5]);
  t.same(series.rows, [null, null, 30], 'of the first sample nothing is known to compare with');
  t.same(series.online, [null, null, 0.5]);
  t.end();
});

void t.test('the fleet’s share online is an average over its branches', t => {
  const series = seriesOf(
    [
      { ...counters, medianLag: 2, branches: 4, at: 1_200, rows: 0, bytes: 0, onlineMs: 0 },
      { ...counters, medianLag: 2, branches: 4, at: 1_500, rows: 0, bytes: 0, onlineMs: 600_000 },
    ],
    { ...frame, branch: null },
  );
  t.same(series.online, [null, 0.5]);
  t.same(series.medianLag, [2, 2]);
  t.end();
});
