/**
 * One branch with a huge backlog, a halted one and a flooding one beside a quiet one that sells now and then: how much of
 * the backlog goes before each sale of the quiet one. That is counted in batches: the machine's pace does not matter.
 */
import t from 'tap';
import { TargetPool } from '../../applier/apply/connection-pool.ts';
import { branchNames } from '../../shared/broker/amqp-messages.ts';
import type { TableDescription } from '../../shared/batch/batch.ts';
import { upsert } from '../support/hand-made/branch.ts';
import type { HandMadeBranch, MadeBatch } from '../support/hand-made/branch.ts';
import { HeadOffice } from '../support/world/head-office.ts';
import { until } from '../support/until.ts';

/** As large as an agent makes them. */
const BACKLOG_ROWS = 20_000;
const BACKLOG_BATCHES = 60;
/** Sales that the head office has before it has all of the backlog: a fair share would be one after each few batches. */
const LEAST_SALES = 6;

const office = await HeadOffice.open();
t.teardown(() => office.close());
/** How far each branch is. */
const reached = new Map<string, number>();
await office.fleet({ events: { applied: (branch, _, row) => reached.set(branch, row.stream.applied.seq) } });

/** Returns when the head office has it. */
async function sell(branch: HandMadeBranch, id: number): Promise<void> {
  const batch = branch.make([upsert([[id, `sale ${id}`]])]);
  await branch.send(batch);
  await until('the sale', () => (reached.get(branch.branch) ?? 0) >= batch.header.seq, { everyMs: 2 });
}

await t.test('a backlog, a halt and a flood let another branch’s sales in between', async t => {
  const quiet = await office.branch('quiet');
  await quiet.hello();
  await sell(quiet, 0);

  const halted = await office.branch('halted');
  await halted.hello();
  await halted.send(halted.makeRaw(Buffer.from('no batch')));
  await office.until('halted', row => row.state === 'halted', 'the halt');

  const backlog = await office.branch('backlog');
  await backlog.hello();
  const waiting = Array.from({ length: BACKLOG_BATCHES }, (_, i) => bigBatch(backlog, i));
  await backlog.send(...waiting);

  const flood = await office.branch('flood');
  await flood.hello();
  let flooding = true;
  const flooded = (async () => {
    const { exchange } = branchNames('flood');
    const message = {
      exchange,
      routingKey: 'batch',
      id: '',
      type: 'batch',
      headers: {},
      body: Buffer.alloc(1_000),
    } as const;
    while (flooding) await Promise.all(Array.from({ length: 50 }, () => flood.publish(message)));
  })();

  await until('the backlog to be begun', () => (reached.get('backlog') ?? 0) > 0, { everyMs: 25 });
  const before: number[] = [];
  while ((reached.get('backlog') ?? 0) < BACKLOG_BATCHES) {
    await sell(quiet, before.length + 1);
    before.push(reached.get('backlog') ?? 0);
  }
  flooding = false;
  await flooded;

  t.comment(`batches of the backlog applied before each sale: ${before.join(', ')}`);
  t.ok(before.length >= LEAST_SALES, `${before.length} sales until the backlog was applied`);
  t.equal((await office.row('halted')).state, 'halted');
  const sold = Object.fromEntries(Array.from({ length: before.length + 1 }, (_, i) => [String(i), `sale ${i}`]));
  t.strictSame(await office.sales('quiet'), sold);
});

await t.test('a branch that brings many tables lets another’s new table in between', async t => {
  const many = await office.branch('many-tables');
  await many.hello();
  const other = await office.branch('one-table');
  await other.hello();
  const tables = Array.from({ length: 400 }, (_, i): TableDescription => tableOf(`many_${i}`));
  await many.send(
    many.make(
      tables.map((_, table) => ({ op: 'upsert', table, rows: 1, values: [[1]] })),
      { tables },
    ),
  );
  await tablesMade(5);
  await other.send(other.make([{ op: 'upsert', table: 0, rows: 1, values: [[1]] }], { tables: [tableOf('one')] }));
  await office.applied('one-table', 1);
  await office.applied('many-tables', 1);
  // InnoDB numbers tables as they are made.
  const made = await office.query(
    `SELECT SUBSTRING_INDEX(NAME, '/', -1) AS name FROM INFORMATION_SCHEMA.INNODB_TABLES
      WHERE NAME LIKE CONCAT(DATABASE(), '/many\\_%') OR NAME = CONCAT(DATABASE(), '/one') ORDER BY TABLE_ID`,
  );
  t.equal(made.length, tables.length + 1);
  const place = made.findIndex(({ name }) => name === 'one');
  t.ok(place >= 5 && place < tables.length, `the one was made after ${place} of the many`);
});

await t.test('who has a connection to the database again and again waits each time behind all others', async t => {
  const pool = new TargetPool({ connect: () => office.connect(), size: 1 });
  t.teardown(() => pool.close());
  const { promise: begun, resolve: begin } = Promise.withResolvers<undefined>();
  const order: string[] = [];
  const work = (name: string, pieces: number): Promise<void> =>
    (async () => {
      for (let piece = 0; piece < pieces; piece += 1) await pool.use(() => Promise.resolve(order.push(name)));
    })();
  const first = pool.use(() => begun);
  const all = [work('greedy', 5), work('quiet', 1), work('another', 2)];
  begin(undefined);
  await Promise.all([first, ...all]);
  t.strictSame(order, ['greedy', 'quiet', 'another', 'greedy', 'another', 'greedy', 'greedy', 'greedy']);
});

function bigBatch(branch: HandMadeBranch, number: number): MadeBatch {
  const rows = Array.from({ length: BACKLOG_ROWS }, (_, i) => [number * BACKLOG_ROWS + i, `item ${i % 977}`] as const);
  return branch.make([upsert(rows)]);
}

function tableOf(name: string): TableDescription {
  return { schema: 'shop', name, columns: [{ name: 'id', type: 'int', key: 1 }] };
}

async function tablesMade(count: number): Promise<void> {
  const select = `SELECT COUNT(*) AS n FROM INFORMATION_SCHEMA.TABLES
     WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME LIKE 'many\\_%'`;
  await until('tables', async () => Number((await office.query(select))[0]?.['n']) >= count, { everyMs: 10 });
}
