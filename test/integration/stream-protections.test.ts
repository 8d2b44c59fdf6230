/**
 * Protections of the stream at the head office that stand alone: each of these tests fails when exactly its own is taken out.
 */
import t from 'tap';
import { EarlyInbox } from '../../applier/consume/early-inbox.ts';
import { TargetPool } from '../../applier/apply/connection-pool.ts';
import type { Arrival } from '../../applier/transaction/unit.ts';
import { MAX_EARLY_BYTES } from '../../applier/store/inbox.ts';
import type { Change, TableDescription } from '../../shared/batch/batch.ts';
import { SALES, upsert } from '../support/hand-made/branch.ts';
import { HeadOffice } from '../support/world/head-office.ts';

const office = await HeadOffice.open();
t.teardown(() => office.close());
await office.fleet();

await t.test('the last part of a transaction leaves nothing of it in the inbox', async t => {
  const b = await office.branch('last-part');
  await b.hello();
  // In order, so that no early batch has the inbox cleaned for another reason.
  for (const number of [1, 2, 3]) {
    await b.send(b.make([upsert([[number, `part ${number}`]])], { part: { number, last: number === 3 } }));
  }
  await office.applied('last-part', 3);
  t.strictSame(await office.sales('last-part'), { 1: 'part 1', 2: 'part 2', 3: 'part 3' });
  t.strictSame(await office.query("SELECT seq FROM tributary_inbox WHERE branch = 'last-part'"), []);
  t.strictSame(await office.query("SELECT seq FROM tributary_inbox_piece WHERE branch = 'last-part'"), []);
});

await t.test(
  'a part that is missing between two halts the branch, and nothing of the transaction is written',
  async t => {
    const b = await office.branch('part-gap');
    await b.hello();
    await b.send(b.make([upsert([[1, 'part 1']])], { part: { number: 1, last: false } }));
    await b.send(b.make([upsert([[3, 'part 3']])], { part: { number: 3, last: true } }));
    const { halt } = await office.until('part-gap', row => row.state === 'halted', 'the halt');
    t.match(halt, { code: 'BATCH_INVALID', reason: /Part 3 follows part 1/ });
    t.strictSame(await office.query("SELECT id FROM sales WHERE _branch = 'part-gap'"), []);
  },
);

await t.test('what waits early in the inbox is bounded in bytes', async t => {
  await office.branch('early');
  const pool = new TargetPool({ connect: () => office.connect(), size: 1 });
  t.teardown(() => pool.close());
  const row = await office.row('early');
  const inbox = new EarlyInbox('early', pool);
  inbox.load({ seqs: [], bytes: MAX_EARLY_BYTES - 100 });
  const arrival = (seq: number, bytes: number): Arrival => ({
    header: { branch: 'early', epoch: 'e', seq, previous: 'a'.repeat(64), digest: 'b'.repeat(64) },
    body: [Buffer.alloc(bytes)],
    acknowledge: () => undefined,
    decoded: null,
  });
  const [large, fits, more] = [arrival(5, 101), arrival(6, 100), arrival(7, 1)];
  const { kept } = await inbox.keep(row, [large, fits, more]);
  t.strictSame([...(kept ?? [])], [fits]);
  t.strictSame(await office.query("SELECT seq FROM tributary_inbox WHERE branch = 'early'"), [{ seq: '6' }]);
});

await t.test('a snapshot’s end sweeps no table that its start has not named, whatever it says', async t => {
  const b = await office.branch('narrow');
  const other: TableDescription = { ...SALES, name: 'returns' };
  const tables = [SALES, other];
  await b.hello();
  await b.send(b.make([upsert([[1, 'old']]), upsert([[1, 'old']], 1)], { tables }));
  const mark = (op: 'snapshot-start' | 'snapshot-end', covered: number[]): Change => ({
    op,
    snapshot: 'some',
    tables: covered,
    whole: false,
    requests: [],
  });
  await b.send(b.make([mark('snapshot-start', [0])], { tables }));
  await b.send(b.make([mark('snapshot-end', [0, 1])], { tables }));
  await office.applied('narrow', 3);
  t.strictSame(await office.sales('narrow'), {}, 'what the start has named is swept');
  const kept = await office.query("SELECT item FROM returns WHERE _branch = 'narrow'");
  t.strictSame(kept, [{ item: 'old' }], 'and nothing else');
  // Nor everything, where only the end says that the snapshot was of everything.
  await b.send(b.make([{ ...mark('snapshot-start', [0]), snapshot: 'more' } as Change], { tables }));
  await b.send(b.make([{ ...mark('snapshot-end', [0]), snapshot: 'more', whole: true } as Change], { tables }));
  await office.applied('narrow', 5);
  t.equal((await office.query("SELECT item FROM returns WHERE _branch = 'narrow'")).length, 1);
});
