/**
 * What reviews have found where tables that are set aside, requests, comparisons, histories and the broker's alarms meet,
 * with hand-made branches. Each part says in its name what was wrong once.
 */
import { randomUUID } from 'node:crypto';
import t from 'tap';
import { TargetPool } from '../../applier/apply/connection-pool.ts';
import { RowWriter } from '../../applier/apply/row-writer.ts';
import type { RowWriting } from '../../applier/apply/row-writer.ts';
import { TableTrouble } from '../../applier/apply/table-trouble.ts';
import { openDueComparison } from '../../applier/consume/comparisons.ts';
import type { ComparisonSchedule } from '../../applier/consume/comparisons.ts';
import { takeHello } from '../../applier/consume/hello-handler.ts';
import { addBranch, lockBranch, readBranch, readDoubt } from '../../applier/store/branch-row.ts';
import { describedTable } from '../../applier/store/histories.ts';
import { noteLost } from '../../applier/store/lost-tables.ts';
import { countSetAside, putSetAside, readSetAside } from '../../applier/store/set-aside.ts';
import { addRequest } from '../../applier/store/snapshots.ts';
import { BranchHistories } from '../../applier/transaction/branch-histories.ts';
import { QUOTAS } from '../../applier/transaction/quotas.ts';
import { SetAsideTables } from '../../applier/transaction/set-aside.ts';
import { UnitWriter } from '../../applier/transaction/write.ts';
import { decodeBatch } from '../../shared/batch/decoder.ts';
import type { Change, TableDescription } from '../../shared/batch/batch.ts';
import { helloMessage } from '../../shared/broker/amqp.ts';
import type { BrokerConnection } from '../../shared/broker/amqp.ts';
import type { AgentReport, Hello } from '../../shared/protocol.ts';
import { SALES, upsert } from '../support/hand-made/branch.ts';
import type { MadeBatch } from '../support/hand-made/branch.ts';
import { makeHello, makeReport } from '../support/hand-made/messages.ts';
import { until } from '../support/until.ts';
import { HeadOffice } from '../support/world/head-office.ts';

const office = await HeadOffice.open();
t.teardown(() => office.close());
const connections: BrokerConnection[] = [];
const fleet = await office.fleet({
  onConnection: connection => connections.push(connection),
  onTableTrouble: 'set-aside',
});
const pool = new TargetPool({ connect: () => office.connect(), size: 2 });
t.teardown(() => pool.close());

const OTHER: TableDescription = { ...SALES, name: 'other' };
const BY_HEAD_OFFICE = { by: 'head-office', code: 'BATCH_REFUSED', reason: 'A row is refused.' } as const;

async function added(branch: string): Promise<void> {
  await pool.use(connection => addBranch(connection, branch));
}

/** A hello of a branch that sends nothing, and the answer to it. */
function greeting(branch: string, report: Partial<AgentReport> = {}, changes: Partial<Hello> = {}): Hello {
  return makeHello({
    branch,
    nonce: randomUUID(),
    report: makeReport({ capabilities: ['verify', 'rows'], ...report }),
    ...changes,
  });
}

/** The branch has described the table, and the head office holds it. */
async function knows(branch: string, { schema, name, columns }: TableDescription, intact = true): Promise<void> {
  await office.query(
    `INSERT INTO tributary_table (branch, table_name, source_schema, source_name, definition, intact) VALUES (?, ?, ?, ?, ?, ${String(intact)})`,
    [branch, name, schema, name, JSON.stringify(columns)],
  );
}

async function setAside(branch: string, table: TableDescription): Promise<void> {
  await pool.transact(async connection => {
    await putSetAside(connection, branch, table, { ...BY_HEAD_OFFICE, batch: 0 });
    await countSetAside(connection, branch);
  });
}

const throughOf = async (branch: string): Promise<unknown> =>
  (
    await office.query(
      'SELECT set_aside_through AS through FROM tributary_table WHERE branch = ? AND set_aside_since IS NOT NULL',
      [branch],
    )
  )[0]?.['through'];

const complete = (branch: string): Promise<unknown> =>
  office.query("UPDATE tributary_contact SET complete_through = '2026-11-30 10:00:00' WHERE branch = ?", [branch]);

await t.test(
  'a table of which the head office has lost rows is complete as of no time, before and after it is set aside',
  async t => {
    for (const branch of ['lost-before', 'lost-after']) {
      await added(branch);
      await takeHello(pool, greeting(branch), 0);
      await complete(branch);
    }
    await knows('lost-before', SALES, false);
    await setAside('lost-before', SALES);
    t.equal(await throughOf('lost-before'), null);
    await knows('lost-after', SALES);
    await setAside('lost-after', SALES);
    t.match(await throughOf('lost-after'), /^2026-11-30 10:00:00/);
    await noteLost(pool, 'sales', null);
    t.equal(await throughOf('lost-after'), null);
    const [row] = await office.query(
      "SELECT set_aside_through AS through FROM tributary_branch WHERE branch = 'lost-after'",
    );
    t.equal(row?.['through'], null, 'nor is the branch');
  },
);

await t.test('a comparison that does not get on takes no place from the others', async t => {
  const schedule: ComparisonSchedule = { everySeconds: 60, within: { windows: [], timeZone: 'UTC' }, atOnce: 1 };
  for (const branch of ['stuck', 'next']) {
    await added(branch);
    await takeHello(pool, greeting(branch), 0);
  }
  await pool.use(connection => addRequest(connection, 'stuck', { id: 'old', kind: 'verify', reason: 'test' }));
  const due = async (): Promise<number> => {
    await pool.transact(async connection => {
      const row = await lockBranch(connection, 'next');
      await openDueComparison(connection, row!, greeting('next'), schedule, Date.UTC(2100, 0, 1));
    });
    return (await office.query("SELECT 1 FROM tributary_request WHERE branch = 'next'")).length;
  };
  t.equal(await due(), 0, 'one at a time');
  await office.query("UPDATE tributary_request SET created_at = created_at - INTERVAL 7 HOUR WHERE branch = 'stuck'");
  t.equal(await due(), 1);
  await office.query("DELETE FROM tributary_request WHERE branch = 'next'");
  await office.query("UPDATE tributary_request SET created_at = UTC_TIMESTAMP(6) WHERE branch = 'stuck'");
  t.equal(await due(), 0);
  await office.query("UPDATE tributary_branch SET state = 'halted' WHERE branch = 'stuck'");
  t.equal(await due(), 1, 'nor does one of a halted branch');
});

await t.test('an agent of another version is remembered as a doubt, though the rest of its hello fails', async t => {
  await added('doubted');
  await takeHello(pool, greeting('doubted', { version: '1' }), 0);
  const busy: Pick<TargetPool, 'use' | 'transact'> = {
    use: work => pool.use(work),
    transact: () => Promise.reject(new Error('the row is locked')),
  };
  await t.rejects(takeHello(busy as TargetPool, greeting('doubted', { version: '2' }), 0), /locked/);
  t.match(await pool.use(connection => readDoubt(connection, 'doubted')), /from 1 to 2/);
});

await t.test(
  'a table that only the hello names as set aside gets its mark, but not by a hello that is older',
  async t => {
    await added('told');
    const { row } = await takeHello(pool, greeting('told'), 0);
    await complete('told');
    await knows('told', SALES);
    const reported = {
      schema: 'shop',
      name: 'sales',
      since: '2026-11-30T09:00:00.000Z',
      code: 'VALUE_UNSUPPORTED',
      reason: 'odd',
    };
    const marks = async (): Promise<unknown[]> => {
      const all = await pool.use(connection => readSetAside(connection, 'told'));
      return all.map(({ name, by, code, through }) => [name, by, code, through]);
    };
    await office.query("UPDATE tributary_branch SET received_seq = 5, applied_seq = 5 WHERE branch = 'told'");
    await takeHello(pool, greeting('told', { setAside: [reported] }), 0);
    t.same(await marks(), [], 'the stream has gone on since that hello');
    await office.query("UPDATE tributary_branch SET received_seq = 0, applied_seq = 0 WHERE branch = 'told'");
    await takeHello(pool, greeting('told', { setAside: [{ ...reported, name: 'nobody knows it' }] }), 0);
    t.same(await marks(), []);
    const result = await takeHello(pool, greeting('told', { setAside: [reported] }), 0);
    t.equal(result.row.setAsideTables, row.setAsideTables + 1);
    t.same(await marks(), [['sales', 'branch', 'VALUE_UNSUPPORTED', '2026-11-30T09:00:00.000000Z']]);
    await takeHello(pool, greeting('told', { setAside: [] }), 0);
    t.same(await marks(), [], 'and the hello ends it');
  },
);

await t.test('a branch is woken for the request that waits behind another one', async t => {
  await added('woken');
  await takeHello(pool, greeting('woken'), 0);
  for (const id of ['first', 'second'])
    await pool.use(connection => addRequest(connection, 'woken', { id, kind: 'verify', reason: 'test' }));
  const { answer, requests } = await takeHello(pool, greeting('woken'), 0);
  t.same(answer.requests.map(({ id }) => id), ['first']); // prettier-ignore
  t.same(requests, ['first'], 'the second one counts as not told yet');
});

await t.test('a table that the branch does not capture any more is no longer set aside', async t => {
  const b = await office.branch('choosing');
  const say = (choice?: string) => b.hello({ report: makeReport(choice === undefined ? {} : { choice }) });
  await say('a');
  await b.send(b.make([upsert([[1, 'x']])]));
  await office.applied('choosing', 1);
  await setAside('choosing', SALES);
  t.same((await say('a')).requests, []);
  t.same((await say()).requests, [], 'an agent that does not say it has no other choice');
  t.same((await say('a')).requests, [], 'nor has one that begins to say it');
  const [request] = (await say('b')).requests;
  t.match(request, { kind: 'snapshot', tables: [{ schema: 'shop', name: 'sales' }] });
  t.equal((await say('c')).requests.length, 1, 'it is asked once');
  const requests = [request?.id ?? ''];
  const snapshot = (op: 'snapshot-start' | 'snapshot-end', tables: number[]): Change => ({
    op,
    snapshot: 's',
    tables,
    whole: false,
    requests,
  });
  await b.send(
    b.make([snapshot('snapshot-start', [])], { tables: [] }),
    b.make([snapshot('snapshot-end', [])], { tables: [] }),
  );
  await office.applied('choosing', 3);
  t.match(await office.row('choosing'), { setAsideTables: 0 });
  t.match(await office.sales('choosing'), { 1: 'x' }, 'its rows stay as they are');
});

await t.test('what the branch itself has set aside no such snapshot ends', async t => {
  const b = await office.branch('keeping');
  await b.hello();
  await pool.transact(async connection => {
    await putSetAside(connection, 'keeping', SALES, { by: 'branch', code: 'X', reason: 'x', batch: 0 });
    await countSetAside(connection, 'keeping');
    await addRequest(connection, 'keeping', { id: 'r', reason: 'test', tables: [{ schema: 'shop', name: 'sales' }] });
  });
  const snapshot = (op: 'snapshot-start' | 'snapshot-end'): Change => ({
    op,
    snapshot: 's',
    tables: [],
    whole: false,
    requests: ['r'],
  });
  await b.send(
    b.make([snapshot('snapshot-start')], { tables: [] }),
    b.make([snapshot('snapshot-end')], { tables: [] }),
  );
  await office.applied('keeping', 2);
  t.match(await office.row('keeping'), { setAsideTables: 1 });
});

await t.test('tables that different parts of a transaction empty are all no longer set aside', async t => {
  const b = await office.branch('emptied');
  await b.hello();
  await setAside('emptied', SALES);
  await setAside('emptied', OTHER);
  const asides = new SetAsideTables('emptied');
  const writer = new UnitWriter({
    branch: 'emptied',
    pool,
    rows: office.rows,
    counter: { begin: () => Promise.resolve('no'), search: () => Promise.resolve('no') },
    quotas: QUOTAS,
    asides,
  });
  const arrival = ({ header, body }: MadeBatch) => ({
    header,
    body: [body],
    acknowledge: () => undefined,
    decoded: decodeBatch(body),
  });
  const empty = (name: string, number: number, last: boolean) =>
    arrival(
      b.make([{ op: 'truncate', table: 0 }], {
        tables: [{ schema: 'shop', name, columns: [] }],
        part: { number, last },
      }),
    );
  for (const [kind, each] of [
    ['parts', empty('sales', 1, false)],
    ['parts', empty('other', 2, false)],
    ['last-part', empty('third', 3, true)],
  ] as const) {
    const row = await office.row('emptied');
    await asides.load(pool, row, each.header.seq);
    await writer.write(row, { kind, arrivals: [each] }, { inboxBelow: false, policy: null, decision: null });
  }
  t.match(await office.row('emptied'), { setAsideTables: 0, stream: { applied: { seq: 3 } } });
});

await t.test(
  'histories: what was never described, what is set aside, and what another applier has changed',
  async t => {
    const rows = new RowWriter({
      connect: () => office.connect(),
      database: String((await office.query('SELECT DATABASE() AS d'))[0]?.['d']),
      history: ['shaped'],
    });
    await added('histories');
    await takeHello(pool, greeting('histories'), 0);
    const shaped = { ...SALES, name: 'shaped' };
    const histories = new BranchHistories({ pool, keeper: rows.history });
    const row = async () => (await pool.use(connection => readBranch(connection, 'histories')))!;
    await office.query("UPDATE tributary_branch SET batch_number = 5 WHERE branch = 'histories'");
    const old = await row();
    await office.query("UPDATE tributary_branch SET batch_number = 6 WHERE branch = 'histories'");
    t.equal(await histories.step(old), 'moved');
    await setAside('histories', { ...shaped, columns: [] });
    t.equal(await pool.use(connection => describedTable(connection, 'histories', 'shaped')), null);
    t.equal(await histories.step(await row()), 'done');
    t.equal(await histories.step(await row()), 'whole');
    // The head office has a table of this name that the branch's does not fit, and it is set aside for that.
    await office.query('CREATE TABLE shaped (id INT PRIMARY KEY, item INT)');
    await office.query("UPDATE tributary_table SET definition = ? WHERE branch = 'histories'", [
      JSON.stringify(shaped.columns),
    ]);
    await office.query("DELETE FROM tributary_history WHERE branch = 'histories'");
    histories.forget();
    await t.rejects(
      histories.step(await row()),
      { code: 'TARGET_SCHEMA', table: 'shaped', message: /set aside and does not fit/ },
      'its versions cannot be looked at, so its history is stopped',
    );
    await office.query("UPDATE tributary_table SET set_aside_since = NULL WHERE branch = 'histories'");
    await office.query("DELETE FROM tributary_history WHERE branch = 'histories'");
    histories.forget();
    await t.rejects(
      histories.step(await row()),
      { code: 'TARGET_SCHEMA', description: { name: 'shaped' } },
      'one that is not set aside is in trouble now',
    );
  },
);

await t.test('a table in quarantine is not repaired, and does not count as repaired', async t => {
  const b = await office.branch('quarantined');
  await b.hello();
  await b.send(b.make([upsert([[1, 'a']])]));
  await office.applied('quarantined', 1);
  await office.query(
    `INSERT INTO tributary_verify (branch, table_name, source_schema, verification, request, verdict, epoch, seq, position,
       buckets) VALUES ('quarantined', 'sales', 'shop', 'v', 'r', 'different', 'e', 1, '{}', 96)`,
  );
  await office.query(
    `INSERT INTO tributary_quarantine (branch, source_schema, table_name, key_hash, op, code, reason, epoch, seq,
       batch_number, quarantined_at) VALUES ('quarantined', 'shop', 'sales', '', 'upsert', 'TARGET_SCHEMA', 'x', 'e', 1, 1, NOW(6))`,
  );
  await pool.use(connection =>
    addRequest(connection, 'quarantined', {
      id: 'r',
      kind: 'repair',
      reason: 'somebody',
      tables: [{ schema: 'shop', name: 'sales' }],
    }),
  );
  await b.send(
    b.make([
      {
        op: 'verify-rows',
        verification: 'v',
        request: 'r',
        table: 0,
        rows: 1,
        values: [[1], ['b']],
        copies: [],
        absent: '',
        last: true,
      },
    ]),
  );
  await office.applied('quarantined', 2);
  t.same(await office.sales('quarantined'), { 1: 'a' });
  const [verdict] = await office.query("SELECT reason FROM tributary_verify WHERE branch = 'quarantined'");
  t.match(verdict, { reason: /not repaired: the table is in quarantine/ });
  t.same(await office.query("SELECT 1 FROM tributary_event WHERE branch = 'quarantined' AND kind = 'repaired'"), []);
});

await t.test(
  'a trouble that comes again although all of the table was passed over halts, and does not go round',
  async t => {
    const { rows } = office;
    await fleet.stop();
    const always: RowWriting = {
      sweep: (...args) => rows.sweep(...args),
      clearOtherForm: (...args) => rows.clearOtherForm(...args),
      apply: (...args) => rows.apply(...args),
      prepare: () => Promise.reject(new TableTrouble('TARGET_SCHEMA', SALES, 'It never fits.')),
    };
    const other = await office.fleet({ rows: always, instance: 'always', onTableTrouble: 'set-aside' });
    const b = await office.branch('always');
    await b.hello();
    await b.send(b.make([upsert([[1, 'x']])]));
    const row = await office.until('always', each => each.state === 'halted', 'the halt');
    t.match(row.halt, { code: 'TARGET_SCHEMA', seq: 1 });
    t.equal(row.setAsideTables, 1);
    await other.stop();
  },
);

await t.test('an alarm at the broker is told, and what waits for it holds up no batch', async t => {
  await fleet.stop();
  connections.length = 0;
  const blocked = await office.fleet({
    instance: 'blocked',
    onConnection: connection => {
      connections.push(connection);
      const open = connection.openPublisher.bind(connection);
      connection.openPublisher = async () => {
        const publisher = await open();
        // As during an alarm: the broker takes nothing, and says nothing.
        return {
          ...publisher,
          closed: publisher.closed,
          close: () => publisher.close(),
          send: () => new Promise(() => undefined),
        };
      };
    },
  });
  const b = await office.branch('alarm');
  await until('the connection for answers', () => connections.length > 0);
  for (const connection of connections) Object.assign(connection, { blocked: true });
  await until('the fault', () => blocked.faults().some(({ code }) => code === 'BROKER_BLOCKED'));
  const hello = b.helloOf();
  await b.publish(helloMessage(hello));
  await office.until('alarm', row => row.stream.epoch === b.epoch, 'the hello is taken');
  await b.send(b.make([upsert([[1, 'x']])]));
  await office.applied('alarm', 1);
  t.match(await office.sales('alarm'), { 1: 'x' });
});
