/**
 * One branch with a huge backlog, a halted one and a flooding one beside a quiet one that sells now and then: what each
 * sale of the quiet one takes until the head office has it, alone and among them, on the same machine.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import t from 'tap';
import { branchNames } from '../../shared/amqp-messages.ts';
import type { TableDescription } from '../../shared/batch.ts';
import { upsert } from '../support/hand-made-branch.ts';
import type { HandMadeBranch, MadeBatch } from '../support/hand-made-branch.ts';
import { HeadOffice } from '../support/head-office.ts';

/** As large as an agent makes them. */
const BACKLOG_ROWS = 20_000;
const BACKLOG_BATCHES = 60;
const SALES = 15;
/** What the neighbours may cost a sale. */
const MOST_DELAY_MS = 1_000;

const office = await HeadOffice.open();
t.teardown(() => office.close());
const appliedAt = new Map<string, number>();
await office.fleet({
  events: { applied: (branch, _, row) => appliedAt.set(`${branch} ${row.stream.applied.seq}`, performance.now()) },
});

/** Milliseconds from handing a sale to the broker until it is committed. */
async function sell(branch: HandMadeBranch, id: number): Promise<number> {
  const batch = branch.make([upsert([[id, `sale ${id}`]])]);
  const began = performance.now();
  await branch.send(batch);
  await office.applied(branch.branch, batch.header.seq);
  return (appliedAt.get(`${branch.branch} ${batch.header.seq}`) ?? performance.now()) - began;
}

const median = (numbers: readonly number[]): number =>
  [...numbers].sort((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN;

await t.test('a backlog, a halt and a flood delay another branch’s sales by less than a second', async t => {
  const quiet = await office.branch('quiet');
  await quiet.hello();
  await sell(quiet, 0);
  const alone: number[] = [];
  for (let i = 0; i < SALES; i += 1) alone.push(await sell(quiet, i));

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

  const loop = monitorEventLoopDelay({ resolution: 5 });
  loop.enable();
  const among: number[] = [];
  for (let i = 0; i < SALES; i += 1) among.push(await sell(quiet, SALES + i));
  loop.disable();
  const rows = await office.row('backlog');
  flooding = false;
  await flooded;

  const delay = median(among) - median(alone);
  t.comment(
    `a sale took ${median(alone).toFixed(0)} ms alone, ${median(among).toFixed(0)} ms among them (at most ${Math.max(...among).toFixed(0)} ms); the event loop stood still for ${(loop.max / 1e6).toFixed(0)} ms at most`,
  );
  t.ok(rows.stream.applied.seq < BACKLOG_BATCHES, `the backlog was there all the time: ${rows.stream.applied.seq}`);
  t.ok(delay < MOST_DELAY_MS, `${delay.toFixed(0)} ms later`);
  t.equal((await office.row('halted')).state, 'halted');
  const sold = Object.fromEntries(Array.from({ length: 2 * SALES }, (_, i) => [String(i), `sale ${i}`]));
  t.strictSame(await office.sales('quiet'), sold);
});

await t.test('a branch that brings many tables lets another’s new table in between', async t => {
  const many = await office.branch('many-tables');
  await many.hello();
  const tables = Array.from({ length: 400 }, (_, i): TableDescription => tableOf(`many_${i}`));
  await many.send(
    many.make(
      tables.map((_, table) => ({ op: 'upsert', table, rows: 1, values: [[1]] })),
      { tables },
    ),
  );
  await tablesMade(5);
  const other = await office.branch('one-table');
  await other.hello();
  await other.send(other.make([{ op: 'upsert', table: 0, rows: 1, values: [[1]] }], { tables: [tableOf('one')] }));
  await office.applied('one-table', 1);
  t.equal((await office.row('many-tables')).stream.applied.seq, 0, 'the many are not done yet');
});

function bigBatch(branch: HandMadeBranch, number: number): MadeBatch {
  const rows = Array.from({ length: BACKLOG_ROWS }, (_, i) => [number * BACKLOG_ROWS + i, `item ${i % 977}`] as const);
  return branch.make([upsert(rows)]);
}

function tableOf(name: string): TableDescription {
  return { schema: 'shop', name, columns: [{ name: 'id', type: 'int', key: 1 }] };
}

async function tablesMade(count: number): Promise<void> {
  const end = Date.now() + 30_000;
  for (;;) {
    const [row] = await office.query(
      `SELECT COUNT(*) AS n FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME LIKE 'many\\_%'`,
    );
    if (Number(row?.['n']) >= count) return;
    if (Date.now() > end) throw new Error('no tables are made');
    await new Promise(resolve => setTimeout(resolve, 10));
  }
}
