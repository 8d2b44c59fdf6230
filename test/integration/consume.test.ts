/** The head-office side with a real broker and a real database: batches and hellos made by hand, compared row by row. */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { addRequest, closeRequests } from '../../applier/store/snapshots.ts';
import { countingLock, startVerification } from '../../applier/store/verifications.ts';
import { Fence } from '../../applier/transaction/fence.ts';
import { isPreferred } from '../../applier/consume/rendezvous.ts';
import type { RowWriting } from '../../applier/apply/row-writer.ts';
import { SetAsideTables } from '../../applier/transaction/set-aside.ts';
import { SnapshotMarkers } from '../../applier/transaction/snapshot-markers.ts';
import { TargetPool } from '../../applier/apply/connection-pool.ts';
import { UnitTables } from '../../applier/transaction/tables.ts';
import { connectBroker, helloMessage } from '../../shared/broker/amqp.ts';
import { decodeBatch } from '../../shared/batch/decoder.ts';
import type { Change } from '../../shared/batch/batch.ts';
import { fragmentMessage } from '../../shared/broker/amqp-messages.ts';
import type { BrokerConnection } from '../../shared/broker/amqp.ts';
import { FaultProxy } from '../../deploy/rig/fault-proxy.ts';
import { sharedServers } from '../../deploy/rig/shared-servers.ts';
import { deletion, marker, SALES, upsert } from '../support/hand-made/branch.ts';
import { makeReport, snapshotOfAll } from '../support/hand-made/messages.ts';
import { HeadOffice } from '../support/world/head-office.ts';
import { lockWaiters } from '../support/world/lock-waits.ts';
import { until } from '../support/until.ts';

const office = await HeadOffice.open();
t.teardown(() => office.close());

const counted: Record<string, number> = {};
const count = (what: string): void => {
  counted[what] = (counted[what] ?? 0) + 1;
};
const fleet = await office.fleet({
  events: {
    ignored: (branch, verdict) => count(`${branch} ${verdict}`),
    refused: branch => count(`${branch} refused`),
    applied: (branch, counts) => count(`${branch} transactions of ${counts.batches > 1 ? 'several' : 'one'}`),
  },
});

/** Whether a statement that names this table waits for a lock of another transaction. */
async function isWaitedFor(table: string): Promise<boolean> {
  return (await office.use(connection => lockWaiters(connection, office.vhost, table))).length > 0;
}

await t.test('batches in order are applied, merged or not, and the watermark says so', async t => {
  const b = await office.branch('in-order');
  t.equal((await b.hello()).verdict, 'current');
  const batches = Array.from({ length: 100 }, (_, i) => b.make([upsert([[i % 10, `v${i}`]])]));
  batches.push(b.make([deletion([3, 4])]));
  await b.send(...batches);
  const row = await office.applied('in-order', 101);
  t.strictSame(row.stream.received, row.stream.applied);
  t.equal(row.stream.applied.digest, batches.at(-1)?.header.digest);
  const expected = Object.fromEntries([0, 1, 2, 5, 6, 7, 8, 9].map(id => [String(id), `v${90 + id}`]));
  t.strictSame(await office.sales('in-order'), expected);
  t.strictSame((await b.hello()).received, row.stream.received);
  t.ok(row.batchNumber > 0 && row.batchNumber <= 101);
});

await t.test('repeated batches are acknowledged and change nothing', async t => {
  const b = await office.branch('twice');
  await b.hello();
  const one = b.make([upsert([[1, 'a']])]);
  const two = b.make([upsert([[1, 'b']])]);
  await b.send(one, one, two, one, two);
  await office.applied('twice', 2);
  await office.drained('twice');
  t.strictSame(await office.sales('twice'), { 1: 'b' });
  t.equal((await b.hello()).queued, 0);
});

await t.test('early batches wait in the inbox and are applied when the gap is filled', async t => {
  const b = await office.branch('early');
  await b.hello();
  const made = Array.from({ length: 6 }, (_, i) =>
    b.make([
      upsert([
        [1, `v${i}`],
        [i + 10, 'x'],
      ]),
    ]),
  );
  const [b1, b2, b3, b4, b5, b6] = made;
  await b.send(b5!, b3!, b4!, b6!);
  // Nothing is asked for again while messages of the queue are still in the applier's hands.
  let answer = await b.hello();
  while (answer.queued > 0) answer = await b.hello();
  t.strictSame(answer.received.seq, 0);
  t.strictSame(answer.resend, { from: 1, to: 2 }, 'asks for what is missing and no more');
  await b.send(b2!, b1!);
  await office.applied('early', 6);
  t.strictSame(await office.sales('early'), { 1: 'v5', 10: 'x', 11: 'x', 12: 'x', 13: 'x', 14: 'x', 15: 'x' });
  t.strictSame(await office.query(`SELECT 1 FROM tributary_inbox WHERE branch = 'early'`), []);
});

await t.test('a fork is not applied: neither directly nor out of the inbox', async t => {
  const b = await office.branch('forked');
  await b.hello();
  await b.send(b.make([upsert([[1, 'mine']])]));
  await office.applied('forked', 1);
  // A clone of the spool from before batch 1 goes its own way.
  const kept = b.batches;
  b.batches = [];
  b.make([upsert([[1, 'other']])]);
  const otherTwo = b.make([upsert([[2, 'other']])]);
  const otherThree = b.make([upsert([[3, 'other']])]);
  await b.send(otherThree, otherTwo);
  await office.drained('forked');
  b.batches = kept;
  await b.hello();
  const two = b.make([upsert([[2, 'mine']])]);
  await b.send(two);
  await office.applied('forked', 2);
  t.strictSame(await office.sales('forked'), { 1: 'mine', 2: 'mine' });
  const three = b.make([upsert([[3, 'mine']])]);
  await b.send(three);
  await office.applied('forked', 3);
  t.strictSame(await office.sales('forked'), { 1: 'mine', 2: 'mine', 3: 'mine' });
  t.ok((counted['forked forked'] ?? 0) >= 1);
});

await t.test('a batch never registers an epoch; a foreign one is acknowledged and ignored', async t => {
  const b = await office.branch('foreign');
  await b.send(b.make([upsert([[1, 'before any hello']])]));
  await office.drained('foreign');
  t.equal((await office.row('foreign')).stream.epoch, null);
  t.strictSame((await b.hello()).resend, { from: 1, to: 1 });
  await b.send(b.batches[0]!);
  await office.applied('foreign', 1);
  t.ok((counted['foreign foreign'] ?? 0) >= 1);
});

await t.test('epochs: registered, superseded for good, unknown, displaced', async t => {
  const b = await office.branch('epochs');
  await b.hello();
  const first = b.epoch;
  const stale = b.make([upsert([[1, 'first life']])]);
  b.make([upsert([[2, 'first life']])]);
  await b.send(stale, b.make([upsert([[9, 'early in the first life']])]));
  await office.applied('epochs', 1);
  await office.drained('epochs');
  b.newEpoch();
  const unknown = await b.hello({ replaces: 'something else' });
  t.equal(unknown.verdict, 'unknown');
  t.equal(unknown.epoch, first);
  const taken = await b.hello({ replaces: first, instance: 'another machine' });
  t.match(taken, { verdict: 'current', epoch: b.epoch, displaced: true, received: { seq: 0 } });
  t.strictSame(await office.query(`SELECT 1 FROM tributary_inbox WHERE branch = 'epochs'`), [], 'the inbox is cleared');
  t.equal((await b.hello({ epoch: first, replaces: b.epoch })).verdict, 'superseded');
  t.equal((await b.hello()).verdict, 'current');
  await b.send(stale, b.make([upsert([[1, 'second life']])]));
  await office.applied('epochs', 1);
  t.strictSame(await office.sales('epochs'), { 1: 'second life' });
});

await t.test('every epoch that was superseded is remembered in the database, not the last alone', async t => {
  const b = await office.branch('old-epochs');
  await b.hello();
  const old: string[] = [];
  for (let life = 0; life < 3; life += 1) {
    old.push(b.epoch);
    b.newEpoch();
    t.equal((await b.hello({ replaces: old.at(-1)! })).verdict, 'current');
  }
  t.strictSame((await office.row('old-epochs')).stream.superseded, old);
  for (const epoch of old) {
    // A copy of an old spool, told of the present epoch, claims to replace it.
    t.equal((await b.hello({ epoch, replaces: b.epoch })).verdict, 'superseded');
  }
  t.equal((await office.row('old-epochs')).stream.epoch, b.epoch);
});

await t.test('parts are received one by one and applied together', async t => {
  const b = await office.branch('parts');
  await b.hello();
  const rows = (from: number): (readonly [number, string])[] =>
    Array.from({ length: 500 }, (_, i) => [from + i, `p${from}`] as const);
  const one = b.make([upsert(rows(0))], { part: { number: 1, last: false } });
  const two = b.make([upsert(rows(500)), upsert([[1_000_000, 'x']])].slice(0, 1), { part: { number: 2, last: false } });
  const three = b.make([upsert([[0, 'last wins']])], { part: { number: 3, last: true } });
  const after = b.make([upsert([[7, 'after']])]);
  await b.send(one, two);
  await office.until('parts', row => row.stream.received.seq === 2, 'both parts received');
  t.equal((await office.row('parts')).stream.applied.seq, 0);
  t.equal((await office.query(`SELECT 1 FROM tributary_inbox WHERE branch = 'parts'`)).length, 2);
  t.strictSame(await office.sales('parts'), {}, 'nobody sees half a transaction');
  await b.send(after, three);
  await office.applied('parts', 4);
  const sales = await office.sales('parts');
  t.equal(Object.keys(sales).length, 1_000);
  t.match(sales, { 0: 'last wins', 7: 'after', 999: 'p500' });
  t.strictSame(await office.query(`SELECT 1 FROM tributary_inbox WHERE branch = 'parts'`), []);
});

await t.test('a snapshot sweeps what it and the stream did not write, and answers its requests', async t => {
  const b = await office.branch('snapshot');
  await b.hello();
  await b.send(
    b.make([
      upsert([
        [1, 'stale'],
        [2, 'stale'],
        [3, 'kept'],
      ]),
    ]),
  );
  const old = { ...SALES, name: 'old_table' };
  await b.send(b.make([upsert([[1, 'in another table']])], { tables: [old] }));
  await office.applied('snapshot', 2);
  const request = await office.registry.snapshot('snapshot', 'test');
  t.strictSame((await b.hello()).requests, [snapshotOfAll(request)]);
  await b.send(b.make([marker('snapshot-end', 'never-started', { requests: [request] })]));
  await office.applied('snapshot', 3);
  t.equal(Object.keys(await office.sales('snapshot')).length, 3, 'an end without its start sweeps nothing');
  t.strictSame((await b.hello()).requests, [snapshotOfAll(request)]);
  const requests = [request];
  await b.send(
    b.make([marker('snapshot-start', 's1', { whole: true, requests })]),
    b.make([
      upsert([
        [3, 'kept'],
        [4, 'new'],
      ]),
    ]),
    b.make([marker('snapshot-end', 's1', { whole: true, requests })]),
  );
  await office.applied('snapshot', 6);
  t.strictSame(await office.sales('snapshot'), { 3: 'kept', 4: 'new' });
  t.strictSame(await office.query(`SELECT id FROM old_table WHERE _branch = 'snapshot'`), []);
  t.strictSame((await b.hello()).requests, []);
  t.equal((await office.row('snapshot')).incompleteSince, null, 'the epoch’s first whole snapshot has ended');
});

await t.test('a snapshot of some tables leaves the others alone', async t => {
  const b = await office.branch('some-tables');
  await b.hello();
  const other = { ...SALES, name: 'other_table' };
  await b.send(
    b.make([upsert([[1, 'stale']])]),
    b.make([upsert([[1, 'untouched']])], { tables: [other] }),
    b.make([marker('snapshot-start', 's')]),
    b.make([marker('snapshot-end', 's')]),
  );
  await office.applied('some-tables', 4);
  t.strictSame(await office.sales('some-tables'), {});
  t.equal((await office.query(`SELECT 1 FROM other_table WHERE _branch = 'some-tables'`)).length, 1);
});

await t.test('a sweep in slices goes through each table that it covers once, and leaves none out', async t => {
  const b = await office.branch('swept');
  await b.hello();
  const names = ['swept_0', 'swept_1', 'swept_2', 'swept_3', 'swept_4'];
  const tables = names.map(name => ({ ...SALES, name }));
  const rowsOf = (table: number, count: number, item: string): Change =>
    upsert(
      Array.from({ length: count }, (_, i): [number, string] => [i, item]),
      table,
    );
  const left = async (): Promise<number[]> => {
    const counts = names.map(name => office.query(`SELECT COUNT(*) AS n FROM ${name} WHERE _branch = 'swept'`));
    return (await Promise.all(counts)).map(([row]) => Number(row!['n']));
  };
  const stale = [2, 7, 3, 0, 4];
  /** The end marker as a pipeline takes it, in slices of 3 rows and 2 tables. */
  const sweep = async (whole: boolean): Promise<{ swept: string[][]; seen: string[][] }> => {
    const pool = new TargetPool({ connect: () => office.connect(), size: 1 });
    const end = b.make([{ op: 'snapshot-end', snapshot: 's', tables: [0, 1, 2, 3], whole, requests: [] }], { tables });
    const decoded = decodeBatch(end.body);
    const arrival = { header: end.header, body: [end.body], acknowledge: () => undefined, decoded };
    const swept: string[][] = [];
    const seen: string[][] = [];
    const rows: Pick<RowWriting, 'sweep'> = {
      sweep: async (connection, branch, of, since, limit) => {
        t.equal(limit, 3);
        const slice = await office.rows.sweep(connection, branch, of, since, limit);
        seen.push(of === 'all' ? ['all'] : of.map(({ name }) => name));
        swept.push(slice.swept);
        return slice;
      },
    };
    const asides = new SetAsideTables('swept');
    const marks = new SnapshotMarkers(new UnitTables('swept', pool, office.rows, 10, asides), rows, asides, {
      rows: 3,
      tables: 2,
    });
    for (let outcome = 'slice'; outcome === 'slice';) {
      if (seen.length > 20) throw new Error(`it does not end: ${seen.join(' ')}`);
      const row = await office.row('swept');
      const fence = new Fence({ pool, row, inboxBelow: false, onRollback: () => undefined });
      ({ outcome } = await marks.end(fence, arrival, null));
    }
    await pool.close();
    return { swept, seen };
  };
  const begin = async (whole: boolean): Promise<void> => {
    await b.send(
      b.make(
        stale.map((count, table) => rowsOf(table, count, 'stale')),
        { tables },
      ),
      b.make([{ op: 'snapshot-start', snapshot: 's', tables: [0, 1, 2, 3], whole, requests: [] }], { tables }),
      b.make([rowsOf(1, 1, 'fresh'), rowsOf(3, 5, 'fresh')], { tables }),
    );
    await office.applied('swept', b.batches.length);
  };
  for (const whole of [false, true]) {
    await begin(whole);
    const { swept, seen } = await sweep(whole);
    t.strictSame(await left(), [0, 1, 0, 5, whole ? 0 : 4]);
    t.strictSame(swept.flat(), whole ? names : names.slice(0, 4), 'each is ended once');
    t.strictSame(seen[0], ['swept_0', 'swept_1'], 'two tables a slice');
    t.ok(seen.length <= 8, `${seen.length} slices`);
    t.equal((await office.row('swept')).stream.applied.seq, b.batches.length, 'then the end marker is applied');
    t.strictSame(await office.query("SELECT * FROM tributary_snapshot WHERE branch = 'swept'"), []);
  }
});

await t.test(
  'comparisons are asked for one after the other, the next when the one before was counted here',
  async t => {
    const b = await office.branch('compared');
    await b.hello();
    await b.send(b.make([upsert([[1, 'x']])]));
    await office.applied('compared', 1);
    const requests = async (): Promise<string[]> => (await b.hello()).requests.map(({ id }) => id);
    for (const id of ['first', 'second']) {
      await office.use(connection => addRequest(connection, 'compared', { id, kind: 'verify', reason: 'test' }));
    }
    t.strictSame(await requests(), ['first']);
    const counter = await office.connect();
    await counter.query(`SELECT GET_LOCK(${countingLock('compared')}, 0)`);
    const { epoch } = b;
    const source = { server: 's', gtidSet: '', file: 'binlog.1', offset: 1, committedAt: null };
    const comparison = { branch: 'compared', verification: 'v', request: 'first', epoch, seq: 1, source };
    await office.use(connection =>
      startVerification(connection, comparison, [{ ...SALES, buckets: 1, sketch: false }]),
    );
    t.strictSame(await requests(), ['first'], 'an agent that begins again is asked again');
    await office.use(connection => closeRequests(connection, 'compared', ['first']));
    t.strictSame(await requests(), [], 'the next would end what is being counted here');
    await counter.end();
    t.strictSame(await requests(), ['second']);
  },
);

await t.test('a batch that cannot be read halts its branch alone; retry and quarantine move on', async t => {
  const b = await office.branch('halted');
  const other = await office.branch('not-halted');
  await b.hello();
  await other.hello();
  const good = b.make([upsert([[1, 'good']])]);
  const bad = b.makeRaw(Buffer.from('this is no batch'));
  const next = b.make([upsert([[2, 'next']])]);
  await b.send(good, bad, next);
  const row = await office.until('halted', r => r.state === 'halted', 'the halt');
  t.match(row.halt, { code: 'BATCH_INVALID', seq: 2, digest: bad.header.digest });
  t.equal(row.stream.applied.seq, 1, 'what came before is applied');
  t.strictSame(await office.sales('halted'), { 1: 'good' });
  const answer = await b.hello();
  t.match(answer, { verdict: 'current', halted: { code: 'BATCH_INVALID' }, queued: 2 });
  await other.send(other.make([upsert([[1, 'goes on']])]));
  await office.applied('not-halted', 1);

  await fleet.retry('halted');
  await office.until('halted', r => r.state === 'halted' && r.halt?.since !== row.halt?.since, 'the second halt');
  await t.rejects(
    office.registry.quarantine('halted', false, 99),
    { code: 'CONFIG_INVALID', message: /halted at batch 2, not 99/ },
    'a person has seen another batch',
  );
  const request = await office.registry.quarantine('halted');
  await office.applied('halted', 3);
  t.strictSame(await office.sales('halted'), { 1: 'good', 2: 'next' });
  const after = await b.hello();
  t.strictSame(after.requests, [snapshotOfAll(request)]);
  t.equal(after.halted, null);
  t.not((await office.row('halted')).incompleteSince, null);
  await office.drained('halted');
  await t.rejects(office.registry.quarantine('halted'), { code: 'CONFIG_INVALID' });
});

await t.test('of several merged batches exactly the one to blame halts, the ones before it are applied', async t => {
  const b = await office.branch('merged-halt');
  await b.hello();
  const wrong = { ...SALES, schema: 'another_schema' };
  const batches = [1, 2, 3, 4, 5, 6].map(i => b.make([upsert([[i, `v${i}`]])], i === 4 ? { tables: [wrong] } : {}));
  await b.send(...batches);
  const row = await office.until('merged-halt', r => r.state === 'halted', 'the halt');
  t.match(row.halt, { code: 'TARGET_SCHEMA', seq: 4 });
  t.match(row.halt?.reason, /another_schema/);
  t.strictSame(await office.sales('merged-halt'), { 1: 'v1', 2: 'v2', 3: 'v3' });
});

await t.test('a message of another user, or with a false digest, is refused and never applied', async t => {
  const b = await office.branch('victim');
  await b.hello();
  const { broker } = sharedServers();
  const admin = await connectBroker({
    url: `amqp://${broker.user}@${broker.host}:${broker.port}/${office.vhost}`,
    password: broker.password,
    purpose: 'forger',
  });
  t.teardown(() => admin.close());
  const publisher = await admin.openPublisher();
  const made = b.make([upsert([[1, 'forged']])]);
  const exchange = 'tributary.branch.victim';
  const headers = { ...made.header };
  await publisher.send({ exchange, routingKey: 'batch', id: 'x', type: 'batch', headers, body: made.body }, 5_000);
  await publisher.send(helloMessage(b.helloOf({ epoch: 'forged', replaces: b.epoch })), 5_000);
  const changed = { header: made.header, body: b.make([upsert([[1, 'changed on the way']])]).body };
  await b.send(changed);
  await office.drained('victim');
  t.equal((await b.hello()).epoch, b.epoch);
  t.equal((await office.row('victim')).stream.received.seq, 0);
  t.ok((counted['victim refused'] ?? 0) >= 2);
  await b.send(made);
  await office.applied('victim', 1);
});

await t.test('a branch’s user can neither read nor write what is another’s', async t => {
  const b = await office.branch('curious');
  await office.branch('curious-2');
  const made = b.make([upsert([[1, 'x']])]);
  const moved = { ...made, header: { ...made.header, branch: 'curious-2' } };
  const outcome = await b.trySend(moved);
  t.not(outcome.outcome, 'confirmed');
});

await t.test(
  'a branch that is online is woken for a request until an answer had it; an older agent is not',
  async t => {
    const report = makeReport({ capabilities: ['verify', 'wake'] });
    const b = await office.branch('sleeper');
    const old = await office.branch('older');
    await b.hello({ report });
    await old.hello();
    await office.registry.snapshot('older', 'test');
    await office.registry.snapshot('sleeper', 'test');
    await until('a wake', () => b.wakes > 0);
    await until('another one', () => b.wakes > 1);
    t.equal((await b.hello({ report })).requests.length, 1);
    const { wakes } = b;
    const { polls } = fleet;
    await until('many looks', () => fleet.polls > polls + 8);
    t.equal(b.wakes, wakes, 'the answer had it');
    t.equal(old.wakes, 0);
    t.equal((await old.hello()).requests.length, 1, 'it asks by itself');
  },
);

await t.test(
  'the head office is complete as of what a hello said, once that is applied and a snapshot has ended',
  async t => {
    const b = await office.branch('complete');
    await b.hello();
    const through = async (): Promise<unknown> => {
      const [row] = await office.query(
        `SELECT CAST(complete_through AS CHAR) AS at FROM tributary_contact WHERE branch = 'complete'`,
      );
      return row?.['at'] ?? null;
    };
    await b.hello({ capturedThrough: '2026-01-01T00:00:00Z' });
    t.equal(await through(), null, 'not before the epoch’s snapshot has ended');
    const whole = { whole: true };
    await b.send(b.make([marker('snapshot-start', 's', whole)]), b.make([marker('snapshot-end', 's', whole)]));
    await office.applied('complete', 2);
    await b.hello({ capturedThrough: '2026-01-02T00:00:00.000001Z' });
    t.equal(await through(), '2026-01-02 00:00:00.000001');
    const three = b.make([upsert([[1, 'x']])]);
    await b.hello({ capturedThrough: '2026-01-03T00:00:00Z', confirmed: 2 });
    t.equal(await through(), '2026-01-02 00:00:00.000001', 'batch 3 is not applied');
    await b.send(three);
    await office.applied('complete', 3);
    await until('the time of batch 3', async () => (await through()) === '2026-01-03 00:00:00.000000');
  },
);

await t.test('a removed branch loses its queues and keeps its rows, or loses both', async t => {
  const b = await office.branch('removed');
  await b.hello();
  await b.send(b.make([upsert([[1, 'x']])]));
  await office.applied('removed', 1);
  await office.registry.remove('removed', false);
  t.equal((await office.row('removed')).state, 'removed');
  const wasRemoved = { code: 'BRANCH_UNKNOWN', message: /was removed/ };
  await t.rejects(office.registry.rotate('removed', null), wasRemoved);
  await t.rejects(office.registry.snapshot('removed', 'test'), wasRemoved);
  t.strictSame(await office.sales('removed'), { 1: 'x' });
  t.strictSame(await office.registry.remove('removed', true), { deletedRows: 1 });
  t.strictSame(await office.sales('removed'), {});
  await t.rejects(office.registry.show('removed'), { code: 'BRANCH_UNKNOWN' });
});

await t.test('what a branch has lost at the broker is made again, and its enrolment stays valid', async t => {
  const b = await office.branch('repaired');
  await b.hello();
  await office.api.call('DELETE', ['queues', office.vhost, 'tributary.batches.repaired']);
  await office.provisioning.ensure('repaired', null);
  await t.rejects(office.registry.add('repaired', null), { code: 'CONFIG_INVALID', hint: /branch rotate repaired/ });
  await t.rejects(office.registry.retry('repaired'), { code: 'CONFIG_INVALID', message: /is not halted/ });
  await b.close();
  const again = await office.branch('repaired');
  again.epoch = b.epoch;
  await again.hello();
  await again.send(again.make([upsert([[1, 'x']])]));
  await office.applied('repaired', 1);
  t.match(await office.registry.show('repaired'), { row: { state: 'active' }, tables: [{ name: 'sales' }] });
});

await t.test('a policy that drops batches is refused', async t => {
  await office.api.call('PUT', ['policies', office.vhost, 'bad'], {
    pattern: '^tributary\\.batches\\.policy$',
    definition: { 'message-ttl': 3_600_000 },
    'apply-to': 'queues',
  });
  await t.rejects(office.branch('policy'), { code: 'BROKER_SETUP', hint: /bad/ });
  await office.api.call('DELETE', ['policies', office.vhost, 'bad']);
});

await t.test(
  'an applier that froze and comes back finds the fence: what another has applied is not written again',
  async t => {
    await fleet.stop();
    const b = await office.branch('fenced');
    const gate = Promise.withResolvers<undefined>();
    const reached = Promise.withResolvers<undefined>();
    let lateWrites = 0;
    const gated: RowWriting = {
      prepare: async (bodies, branch) => {
        reached.resolve(undefined);
        await gate.promise;
        return office.rows.prepare(bodies, branch);
      },
      apply: (...args) => {
        lateWrites += 1;
        return office.rows.apply(...args);
      },
      sweep: (...args) => office.rows.sweep(...args),
      clearOtherForm: (...args) => office.rows.clearOtherForm(...args),
    };
    const links: BrokerConnection[] = [];
    const frozen = await office.fleet({ rows: gated, instance: 'frozen', onConnection: link => links.push(link) });
    await b.hello();
    const first = Array.from({ length: 20 }, (_, i) => b.make([upsert([[i, `v${i}`]])]));
    await b.send(...first);
    await reached.promise;
    // The broker gives up on the frozen one; what it held goes to another.
    await Promise.all(links.map(link => link.close()));
    const other = await office.fleet({ instance: 'other' });
    await office.applied('fenced', 20);
    await b.send(b.make([upsert([[0, 'newer']])]), b.make([deletion([1])]));
    const row = await office.applied('fenced', 22);
    await other.stop();
    gate.resolve(undefined);
    const last = b.make([upsert([[2, 'by the one that came back']])]);
    await b.send(last);
    const after = await office.applied('fenced', 23);
    await frozen.stop();
    t.equal(lateWrites, 1, 'only the last batch was written by it');
    t.equal(after.batchNumber, row.batchNumber + 1);
    const expected: Record<string, string> = { 0: 'newer', 2: 'by the one that came back' };
    for (let id = 3; id < 20; id += 1) expected[id] = `v${id}`;
    t.strictSame(await office.sales('fenced'), expected);
  },
);

await t.test('while one applier’s transaction is open, another writes nothing of the branch', async t => {
  const b = await office.branch('locked');
  const gate = Promise.withResolvers<undefined>();
  const inside = Promise.withResolvers<undefined>();
  const order: string[] = [];
  const writing = (name: string, before: () => Promise<void>): RowWriting => ({
    prepare: (...args) => office.rows.prepare(...args),
    apply: async (...args) => {
      order.push(name);
      await before();
      return office.rows.apply(...args);
    },
    sweep: (...args) => office.rows.sweep(...args),
    clearOtherForm: (...args) => office.rows.clearOtherForm(...args),
  });
  const links: BrokerConnection[] = [];
  const held = await office.fleet({
    instance: 'held',
    onConnection: link => links.push(link),
    rows: writing('held', () => {
      inside.resolve(undefined);
      return gate.promise;
    }),
  });
  await b.hello();
  await b.send(b.make([upsert([[1, 'a']])]));
  await inside.promise;
  // Nothing is written yet, so that only the branch's own row can keep the other one out.
  await Promise.all(links.map(link => link.close()));
  const other = await office.fleet({ instance: 'other', rows: writing('other', () => Promise.resolve()) });
  await until('the other one to wait', async () => order.length > 1 || (await isWaitedFor('tributary_branch')));
  t.strictSame(order, ['held'], 'the other one waits for the branch’s row');
  gate.resolve(undefined);
  await office.applied('locked', 1);
  await b.send(b.make([upsert([[1, 'b']])]));
  await office.applied('locked', 2);
  t.strictSame(await office.sales('locked'), { 1: 'b' });
  await Promise.all([held.stop(), other.stop()]);
});

await t.test('several appliers share one branch, come and go, and write every batch once', async t => {
  const b = await office.branch('shared');
  const fleets = await Promise.all(['one', 'two', 'three'].map(instance => office.fleet({ instance })));
  await b.hello();
  for (let i = 0; i < 60; i += 1) {
    await b.send(b.make([upsert([[i, `v${i}`]])]));
    if (i % 20 === 19) await fleets.pop()?.stop();
    if (i === 50) fleets.push(await office.fleet({ instance: 'four' }));
  }
  const another = await office.fleet({ instance: 'five' });
  await office.applied('shared', 60);
  const expected = Object.fromEntries(Array.from({ length: 60 }, (_, i) => [String(i), `v${i}`]));
  t.strictSame(await office.sales('shared'), expected);
  await Promise.all([another, ...fleets].map(one => one.stop()));
});

/** A branch that prefers the applier `first` to the applier `one`. */
function nameThatPrefersFirst(kind: string): string {
  for (let i = 0; ; i += 1) if (isPreferred(`${kind}${i}`, 'first', ['one'])) return `${kind}${i}`;
}

await t.test('an applier that holds half a batch leaves it to another one that comes first for the branch', async t => {
  const name = nameThatPrefersFirst('halves');
  const one = await office.fleet({ instance: 'one' });
  const b = await office.branch(name);
  await b.hello();
  await b.send(b.make([upsert([[1, 'a']])]));
  await office.applied(name, 1);
  const { header, body } = b.make([upsert([[2, 'b']])]);
  const piece = (index: number): Promise<unknown> => {
    const middle = body.length >> 1;
    const part = index === 0 ? body.subarray(0, middle) : body.subarray(middle);
    return b.publish(fragmentMessage(header, { index, count: 2 }, part));
  };
  await piece(0);
  let appliedByFirst = 0;
  const first = await office.fleet({
    instance: 'first',
    events: { applied: branch => (appliedByFirst += branch === name ? 1 : 0) },
  });
  await sleep(100);
  await piece(1);
  await office.applied(name, 2);
  const expected: Record<string, string> = { 1: 'a', 2: 'b' };
  // It may have got the second half itself.
  for (let id = 3; appliedByFirst === 0; id += 1) {
    await b.send(b.make([upsert([[id, 'c']])]));
    await office.applied(name, id);
    expected[id] = 'c';
  }
  t.strictSame(await office.sales(name), expected);
  await Promise.all([one.stop(), first.stop()]);
});

await t.test(
  'an applier that dies with batches in its hands while a preferred one waits is served no more',
  async t => {
    const name = nameThatPrefersFirst('ghosts');
    const b = await office.branch(name);
    const line = await FaultProxy.open(sharedServers().broker.port);
    const one = await office.fleet({ instance: 'one', brokerPort: line.port });
    await b.hello();
    await b.send(b.make([upsert([[1, 'a']])]));
    await office.applied(name, 1);
    const { header, body } = b.make([upsert([[2, 'b']])]);
    await b.publish(fragmentMessage(header, { index: 0, count: 2 }, body.subarray(0, 9)));
    await sleep(200);
    const first = await office.fleet({ instance: 'first' });
    await sleep(300);
    // As when it is killed: no channel is closed.
    line.cut();
    await sleep(200);
    line.restore();
    await b.publish(fragmentMessage(header, { index: 1, count: 2 }, body.subarray(9)));
    await office.applied(name, 2);
    await first.stop();
    await b.send(b.make([upsert([[3, 'c']])]));
    await office.applied(name, 3);
    t.strictSame(await office.sales(name), { 1: 'a', 2: 'b', 3: 'c' });
    await one.stop();
    await line.close();
  },
);

await t.test('an applier that dies between commit and acknowledgement repeats nothing', async t => {
  const b = await office.branch('killed');
  let commits = 0;
  const dying = await office.fleet({
    instance: 'dying',
    events: {
      // Called after a commit and before its acknowledgement: from here on it acknowledges nothing more.
      applied: branch => {
        if (branch !== 'killed') return;
        commits += 1;
        void dying.stop();
        throw new Error('dies here');
      },
    },
  });
  await b.hello();
  await b.send(...Array.from({ length: 25 }, (_, i) => b.make([upsert([[i % 5, `v${i}`]])])));
  const row = await office.until('killed', r => r.stream.applied.seq > 0, 'something applied');
  await dying.stop();
  t.equal(commits, 1);
  t.equal(row.batchNumber, 1);
  let repeated = 0;
  const next = await office.fleet({
    instance: 'next',
    events: {
      ignored: (branch, verdict) => {
        if (branch === 'killed' && verdict === 'repeated') repeated += 1;
      },
    },
  });
  const second = Array.from({ length: 25 }, (_, i) => b.make([upsert([[i % 5, `v${25 + i}`]])]));
  await b.send(...second);
  await office.applied('killed', 50);
  await office.drained('killed');
  t.equal(repeated, row.stream.applied.seq, 'what was committed came again and was only acknowledged');
  t.strictSame(await office.sales('killed'), { 0: 'v45', 1: 'v46', 2: 'v47', 3: 'v48', 4: 'v49' });
  await next.stop();
});
