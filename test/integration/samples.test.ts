/**
 * Figures over time on a real database: counters that the transactions of batches and hellos raise, samples that one of
 * several appliers takes, and their roll-ups, which stay within their bounds.
 */
import t from 'tap';
import { TargetPool } from '../../applier/apply/connection-pool.ts';
import { sampleOf, samplesStatement, SPANS, takeSample } from '../../applier/store/samples.ts';
import { TableBrowser } from '../../applier/web/data.ts';
import { readSeries } from '../../applier/web/series.ts';
import { upsert } from '../support/hand-made/branch.ts';
import { HeadOffice } from '../support/world/head-office.ts';

const DAY = 86_400;
/** A round moment: every span ends there. */
const START = Math.ceil(Date.parse('2026-12-01T00:00:00Z') / 1_000 / 14_400) * 14_400;

const office = await HeadOffice.open();
t.teardown(() => office.close());
const tables = new TableBrowser({ database: office.vhost, connect: () => office.connect() });
t.teardown(() => tables.close());
const pool = new TargetPool({ connect: () => office.connect(), size: 4 });
t.teardown(() => pool.close());

const sampleAt = (at: number): Promise<boolean> => pool.transact(connection => takeSample(connection, at));

const countersOf = async (branch: string) =>
  (
    await office.query(
      `SELECT b.rows_written, b.bytes_received, c.online_ms FROM tributary_branch b JOIN tributary_contact c USING (branch)
       WHERE branch = ?`,
      [branch],
    )
  )[0];

await t.test(
  'rows and bytes are counted once, though batches come twice and two appliers share the branches',
  async t => {
    const fleets = [await office.fleet({ instance: 'one' }), await office.fleet({ instance: 'two' })];
    const b = await office.branch('counted');
    await b.hello();
    const made = Array.from({ length: 60 }, (_, i) =>
      b.make([upsert(Array.from({ length: i + 1 }, (_, id) => [id, `v${i}`] as const))]),
    );
    await b.send(...made.slice(0, 30), ...made.slice(0, 30));
    await office.applied('counted', 30);
    // The one that applies it ends in the middle, and the other goes on.
    const rest = b.send(...made.slice(30), ...made.slice(20));
    await fleets[0]?.stop();
    await rest;
    await office.applied('counted', 60);
    await office.drained('counted');
    const bytes = made.reduce((sum, { body }) => sum + body.length, 0);
    const counted = await countersOf('counted');
    t.equal(Number(counted?.['bytes_received']), bytes);
    // Rows of one transaction are merged by key, so between those of the last batch and those of all.
    const rows = Number(counted?.['rows_written']);
    t.ok(rows >= 60 && rows <= (60 * 61) / 2, `${rows} rows`);
  },
);

await t.test('time online is what lies between hellos that follow each other', async t => {
  const b = await office.branch('heard');
  await b.hello();
  const online = async (): Promise<number> => Number((await countersOf('heard'))?.['online_ms']);
  const age = (seconds: number) =>
    office.query(
      `UPDATE tributary_contact SET last_seen = UTC_TIMESTAMP(6) - INTERVAL ? SECOND WHERE branch = 'heard'`,
      [seconds],
    );
  t.equal(await online(), 0);
  await age(20);
  await b.hello();
  const once = await online();
  t.ok(once >= 20_000 && once < 30_000, `${once} ms`);
  await age(3_600);
  await b.hello();
  t.equal(await online(), once, 'it was away');
});

await t.test('whatever a branch reports of itself, the others’ figures are kept', async t => {
  const b = await office.branch('hostile');
  const head = { seq: Number.MAX_SAFE_INTEGER, digest: 'f'.repeat(64) };
  await b.hello({ head });
  await office.query(
    "UPDATE tributary_contact SET complete_through = '1000-01-01' WHERE branch IN ('hostile', 'heard')",
  );
  t.equal(await sampleAt(START - 14_400), true);
  const rows = await office.query(
    "SELECT lag_s, backlog FROM tributary_sample WHERE branch IN ('hostile', '') AND span = 300",
  );
  for (const row of rows) t.match(row, { lag_s: 4_294_967_295, backlog: 4_294_967_295 });
  await office.query("DELETE FROM tributary_branch WHERE branch = 'hostile'");
  await office.query('DELETE FROM tributary_sample');
  await office.query("UPDATE tributary_contact SET complete_through = NULL WHERE branch = 'heard'");
});

await t.test('one of many appliers takes a sample, all of it or nothing', async t => {
  const taken = await Promise.all(Array.from({ length: 4 }, () => sampleAt(START)));
  t.equal(taken.filter(Boolean).length, 1);
  const rows = await office.query(
    'SELECT branch, COUNT(*) AS n FROM tributary_sample WHERE span = 300 GROUP BY branch',
  );
  t.same(
    rows.map(row => [String(row['branch']), Number(row['n'])]),
    [
      ['', 1],
      ['counted', 1],
      ['heard', 1],
    ],
  );
  t.equal(await sampleAt(START - 300), false, 'a clock that is behind adds nothing');
  await t.rejects(
    pool.transact(async connection => {
      await takeSample(connection, START + 300);
      throw new Error('killed');
    }),
    { message: 'killed' },
  );
  t.equal(await sampleAt(START + 300), true, 'what was cut off is taken by the next');
});

await t.test('a month of samples stays within its bounds, and each view adds up to the same rows', async t => {
  const first = Number((await countersOf('counted'))?.['rows_written']);
  let rows = first;
  for (let at = START + 600; at <= START + 2 * DAY; at += 300) {
    rows += 7;
    await office.query("UPDATE tributary_branch SET rows_written = ? WHERE branch = 'counted'", [rows]);
    await sampleAt(at);
  }
  const end = START + 2 * DAY;
  const kept = async () =>
    Object.fromEntries(
      (
        await office.query("SELECT span, COUNT(*) AS n FROM tributary_sample WHERE branch = 'counted' GROUP BY span")
      ).map(row => [Number(row['span']), Number(row['n'])]),
    );
  t.match(
    await kept(),
    { 300: SPANS[0].keptSeconds / 300, 3_600: 49, 14_400: 13 },
    'an hour and four, whole and the first',
  );
  const day = await readSeries(tables, 'counted', '24h', end * 1_000);
  t.equal(day.at.length, 288);
  t.equal(sum(day.rows), 288 * 7);
  const week = await readSeries(tables, 'counted', '7d', end * 1_000);
  t.equal(sum(week.rows), rows - first, 'all hours');
  t.equal(sum(week.rows.slice(-24)), 288 * 7, 'the same day by hours');
  const month = await readSeries(tables, 'counted', '30d', end * 1_000);
  t.equal(sum(month.rows), rows - first);
  const fleet = await readSeries(tables, null, '24h', end * 1_000);
  t.equal(sum(fleet.rows), 288 * 7, 'the other branch had none');

  // Half an hour later the week shows what is not rolled up yet.
  await office.query("UPDATE tributary_branch SET rows_written = rows_written + 5 WHERE branch = 'counted'");
  await sampleAt(end + 1_800);
  const open = await readSeries(tables, 'counted', '7d', (end + 1_800) * 1_000);
  t.same([open.at.at(-1), open.rows.at(-1)], [end + 1_800, 5]);

  // For 40 days no applier runs.
  const later = end + 40 * DAY + 300;
  await sampleAt(later);
  await sampleAt(later + 300);
  t.match(await kept(), { 300: 2 }, 'what is too old is gone');
  const cells = await tables.read(samplesStatement('counted', 300, 0));
  t.same(
    cells.map(sampleOf).map(({ at }) => at),
    [later, later + 300],
  );
});

function sum(values: readonly (number | null)[]): number {
  return values.reduce<number>((total, value) => total + (value ?? 0), 0);
}
