/** Comparisons that nobody asks for: when they are due, at which hours, and how many at a time. */
import type { Connection } from 'mysql2/promise';
import t from 'tap';
import { TargetPool } from '../../applier/apply/connection-pool.ts';
import { openDueComparison, shareOf, UNSCHEDULED } from '../../applier/consume/comparisons.ts';
import type { ComparisonSchedule } from '../../applier/consume/comparisons.ts';
import { takeHello } from '../../applier/consume/hello-handler.ts';
import { addBranch, lockBranch } from '../../applier/store/branch-row.ts';
import { askForRows } from '../../applier/store/differences.ts';
import { createSchema } from '../../applier/store/schema.ts';
import { addRequest } from '../../applier/store/snapshots.ts';
import { parseWindow } from '../../shared/config/link-schedule.ts';
import type { Hello } from '../../shared/protocol.ts';
import { makeHello, makeReport } from '../support/hand-made/messages.ts';
import { HeadOffice } from '../support/world/head-office.ts';

const DAY_MS = 86_400_000;
const SCHEDULE: ComparisonSchedule = {
  everySeconds: 30 * 86_400,
  within: { windows: [], timeZone: 'UTC' },
  atOnce: 2,
};

const office = await HeadOffice.open();
t.teardown(() => office.close());
const pool = new TargetPool({ connect: () => office.connect(), size: 2 });
t.teardown(() => pool.close());
await pool.use(createSchema);

function helloOf(branch: string, changes: Partial<Hello> = {}, version = '1'): Hello {
  return makeHello({ branch, report: makeReport({ version, capabilities: ['verify', 'rows'] }), ...changes });
}

/** The reasons of the branch's open requests. */
async function asked(branch: string): Promise<string[]> {
  const rows = await office.query('SELECT reason FROM tributary_request WHERE branch = ?', [branch]);
  return rows.map(row => String(row['reason']));
}

async function added(branch: string): Promise<number> {
  await pool.use(connection => addBranch(connection, branch));
  await takeHello(pool, helloOf(branch), 0);
  return Date.parse((await office.row(branch)).createdAt);
}

/** The branch says hello at this time. */
async function greets(
  branch: string,
  now: number,
  schedule: ComparisonSchedule,
  hello = helloOf(branch),
): Promise<string[]> {
  await pool.transact(async (connection: Connection) => {
    const row = await lockBranch(connection, branch);
    await openDueComparison(connection, row!, hello, schedule, now);
  });
  return asked(branch);
}

const answered = (branch: string): Promise<unknown> =>
  office.query('DELETE FROM tributary_request WHERE branch = ?', [branch]);

await t.test('a branch has its first turn at its own time of the interval, and the next an interval later', async t => {
  const created = await added('paris');
  const first = created + shareOf('paris') * 30 * DAY_MS;
  t.strictSame(await greets('paris', first - 1_000, SCHEDULE), []);
  t.strictSame(await greets('paris', first + 1_000, SCHEDULE), ['scheduled']);
  t.strictSame(await greets('paris', first + 2_000, SCHEDULE), ['scheduled'], 'once');
  await answered('paris');
  await office.query(
    `INSERT INTO tributary_verify (branch, table_name, source_schema, verification, request, verdict, epoch, seq, position,
       buckets) VALUES ('paris', 'sale', 'shop', 'v', 'r', 'equal', 'e', 1, '{}', 96)`,
  );
  const now = Date.now();
  t.strictSame(await greets('paris', now + 29 * DAY_MS, SCHEDULE), []);
  t.strictSame(await greets('paris', now + 30 * DAY_MS + 60_000, SCHEDULE), ['scheduled']);
  await answered('paris');
  t.strictSame(await greets('paris', now + 90 * DAY_MS, UNSCHEDULED), [], 'only if the configuration says so');
});

await t.test('comparisons begin only at the hours that are given', async t => {
  const created = await added('lyon');
  const due = created + 31 * DAY_MS;
  const midnight = due - (due % DAY_MS);
  const nights = { ...SCHEDULE, within: { windows: [parseWindow('01:00-05:00')], timeZone: 'UTC' } };
  t.strictSame(await greets('lyon', midnight + 12 * 3_600_000, nights), []);
  t.strictSame(await greets('lyon', midnight + 12 * 3_600_000, nights, helloOf('lyon', { compare: true })), []);
  t.strictSame(await greets('lyon', midnight + DAY_MS + 2 * 3_600_000, nights), ['scheduled']);
  await answered('lyon');
});

await t.test('at most so many at a time, and a branch that is away takes no place', async t => {
  const due = Date.UTC(2100, 0, 1);
  for (const branch of ['a', 'b', 'c']) await added(branch);
  t.strictSame(await greets('a', due, SCHEDULE), ['scheduled']);
  t.strictSame(await greets('b', due, SCHEDULE), ['scheduled']);
  t.strictSame(await greets('c', due, SCHEDULE), []);
  await office.query("UPDATE tributary_contact SET last_seen = last_seen - INTERVAL 1 HOUR WHERE branch = 'a'");
  t.strictSame(await greets('c', due, SCHEDULE), ['scheduled']);
});

await t.test('an agent that was changed gives reason for doubt, once, and at most once a day', async t => {
  await added('nice');
  await takeHello(pool, helloOf('nice', {}, '1'), 0);
  t.strictSame(await asked('nice'), []);
  await takeHello(pool, helloOf('nice', {}, '2'), 0);
  t.strictSame(await asked('nice'), ['the agent was changed from 1 to 2']);
  await answered('nice');
  await takeHello(pool, helloOf('nice', {}, '2'), 0);
  t.strictSame(await asked('nice'), []);
  await office.query(
    `INSERT INTO tributary_verify (branch, table_name, source_schema, verification, request, verdict, epoch, seq, position,
       buckets) VALUES ('nice', 'sale', 'shop', 'v', 'r', 'equal', 'e', 1, '{}', 96)`,
  );
  await takeHello(pool, helloOf('nice', {}, '3'), 0);
  t.strictSame(await asked('nice'), [], 'it was compared today');
  await office.query("UPDATE tributary_verify SET started_at = started_at - INTERVAL 25 HOUR WHERE branch = 'nice'");
  await takeHello(pool, helloOf('nice', {}, '3'), 0);
  t.strictSame(await asked('nice'), ['the agent was changed from 2 to 3'], 'the doubt was kept');
});

await t.test('a branch that copies its tables is compared when it has ended', async t => {
  await added('nantes');
  const snapshot = { tablesDone: 0, tables: 3, rows: 0, secondsLeft: null };
  const copying = helloOf('nantes', { compare: true, report: makeReport({ capabilities: ['verify'], snapshot }) });
  t.strictSame(await greets('nantes', Date.now(), UNSCHEDULED, copying), []);
  t.strictSame(await greets('nantes', Date.now(), UNSCHEDULED, helloOf('nantes', { compare: true })), [
    'the agent has a doubt',
  ]);
});

await t.test('an agent that does not know of rows is asked for what it knows', async t => {
  await added('old');
  const tables = [{ schema: 'shop', name: 'sale' }];
  const requests = async (capabilities: readonly string[]): Promise<unknown> => {
    const hello = helloOf('old', { report: makeReport({ version: '1', capabilities }) });
    return (await takeHello(pool, hello, 0)).answer.requests;
  };
  await pool.use(connection => addRequest(connection, 'old', { id: 'v', kind: 'verify', reason: 'test' }));
  t.strictSame(await requests(['verify']), [{ id: 'v', kind: 'verify', tables: null }]);
  t.strictSame(await requests(['verify', 'rows']), [{ id: 'v', kind: 'verify', tables: null, sketch: true }]);
  await answered('old');
  const names = ['0011223344556677', '8899aabbccddeeff'];
  await pool.use(connection => askForRows(connection, 'old', tables[0]!, names));
  const rows = Buffer.from(names.join(''), 'hex').toString('base64');
  t.match(await requests(['verify', 'rows']), [{ kind: 'rows', tables, rows }]);
  t.strictSame(await requests(['verify']), []);
  t.strictSame(await asked('old'), [], 'it was changed for an older one, which will never answer');
});
