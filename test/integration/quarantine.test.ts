/**
 * Quarantine by rows, with hand-made batches: what cannot be applied is kept aside with its reason, everything else is
 * applied in the same transaction; a good version clears its entry; a snapshot makes the branch complete again.
 */
import type { RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import type { Change } from '../../shared/batch/batch.ts';
import { listEntries, MAX_QUARANTINED } from '../../applier/store/quarantined-rows.ts';
import { deletion, marker, SALES, upsert } from '../support/hand-made/branch.ts';
import { snapshotOfAll } from '../support/hand-made/messages.ts';
import type { HandMadeBranch } from '../support/hand-made/branch.ts';
import { HeadOffice } from '../support/world/head-office.ts';

const office = await HeadOffice.open();
t.teardown(() => office.close());
await office.fleet();

// Made by a branch of its own, so that the table is there with what it refuses.
const first = await office.branch('first');
await first.hello();
await first.send(first.make([upsert([[1, 'x']])]));
await office.applied('first', 1);
await office.query(`ALTER TABLE sales ADD CONSTRAINT no_bad CHECK (item NOT LIKE 'bad%')`);

async function entries(branch: string): Promise<RowDataPacket[]> {
  return office.query(
    `SELECT table_name AS name, op, CAST(row_key AS CHAR) AS id, CAST(content AS CHAR) AS content, reason, seq, left_out
     FROM tributary_quarantine WHERE branch = ? ORDER BY key_hash <> '', CAST(row_key->>'$.id' AS SIGNED)`,
    [branch],
  );
}

const keys = async (branch: string): Promise<unknown[]> =>
  (await entries(branch)).map((entry): unknown => (entry['id'] === null ? 'all' : JSON.parse(String(entry['id']))));

async function halted(branch: string, seq: number): Promise<void> {
  await office.until(branch, row => row.state === 'halted' && row.halt?.seq === seq, `the halt at ${seq}`);
}

/** Lets the branch get past the batch at which it stands. */
async function quarantine(b: HandMadeBranch, seq: number): Promise<string> {
  await halted(b.branch, seq);
  return office.registry.quarantine(b.branch);
}

/** A snapshot of the table by hand. */
function snapshot(b: HandMadeBranch, id: string, requests: readonly string[], rows: Parameters<typeof upsert>[0]) {
  return [
    b.make([marker('snapshot-start', id, { requests })]),
    ...(rows.length === 0 ? [] : [b.make([upsert(rows)])]),
    b.make([marker('snapshot-end', id, { requests })]),
  ];
}

await t.test('the refused rows go into quarantine, everything else of the batch is applied', async t => {
  const b = await office.branch('rows');
  await b.hello();
  const many = Array.from({ length: 300 }, (_, i) => [i, i % 100 === 7 ? `bad ${i}` : `good ${i}`] as const);
  await b.send(
    b.make([upsert([[7, 'an older version']])]),
    b.make([deletion([1000]), upsert(many)]),
    b.make([upsert([[500, 'after']])]),
  );
  const request = await quarantine(b, 2);
  const row = await office.applied('rows', 3);
  const sales = await office.sales('rows');
  t.equal(Object.keys(sales).length, 298);
  t.match(sales, { 6: 'good 6', 500: 'after' });
  t.notOk('7' in sales, 'an older version is not passed for the present one');
  t.strictSame(await keys('rows'), [{ id: 7 }, { id: 107 }, { id: 207 }]);
  const [entry] = await entries('rows');
  t.match(entry, { op: 'upsert', reason: /id=7.*no_bad/, seq: 2, name: 'sales' });
  t.strictSame(JSON.parse(String(entry?.['content'])), { id: 7, item: 'bad 7' });
  t.equal(row.quarantined, 3);
  t.not(row.incompleteSince, null);
  const answer = await b.hello();
  const ofSales = { id: request, kind: 'snapshot', tables: [{ schema: 'shop', name: 'sales' }] };
  t.strictSame(answer.requests, [ofSales], 'not everything is copied again');

  // A refused row is refused again: the decision about it holds, and the newest version is kept.
  await b.send(
    b.make([
      upsert([
        [7, 'bad again'],
        [600, 'good'],
      ]),
    ]),
  );
  await office.applied('rows', 4);
  t.match(await office.sales('rows'), { 600: 'good' });
  t.match(await entries('rows'), [{ content: /bad again/, seq: 4, left_out: 2 }, {}, {}]);

  // A good version, and a delete, clear theirs.
  await b.send(b.make([upsert([[7, 'good at last']])]), b.make([deletion([107])]));
  await office.applied('rows', 6);
  t.strictSame(await keys('rows'), [{ id: 207 }]);
  t.match(await office.sales('rows'), { 7: 'good at last' });
  t.not((await office.row('rows')).incompleteSince, null, 'until a snapshot that began afterwards has ended');

  // The snapshot that was asked for still holds a bad row: all else is mended by it.
  await b.send(...snapshot(b, 's1', [request], [[7, 'good at last'], [207, 'bad 207'], [500, 'after']])); // prettier-ignore
  await office.applied('rows', 9);
  t.match(await office.row('rows'), { incompleteUntil: 'rows', quarantined: 1 });
  t.not((await office.row('rows')).incompleteSince, null);
  t.strictSame(await office.sales('rows'), { 7: 'good at last', 500: 'after' });
  t.strictSame((await b.hello()).requests, []);
  await b.send(b.make([upsert([[207, 'mended']])]));
  await office.applied('rows', 10);
  t.match(await office.row('rows'), { incompleteSince: null, quarantined: 0 }, 'complete with the last good version');
});

await t.test('another row than those decided about halts again, with its name', async t => {
  const b = await office.branch('another');
  await b.hello();
  await b.send(b.make([upsert([[1, 'bad one']])]));
  await quarantine(b, 1);
  await office.applied('another', 1);
  await b.send(b.make([upsert([[1, 'bad one'], [2, 'bad two']])])); // prettier-ignore
  await halted('another', 2);
  t.match((await office.row('another')).halt?.reason, /id=2/);
  t.strictSame(await keys('another'), [{ id: 1 }]);
});

await t.test('a snapshot that had begun before does not make the branch complete', async t => {
  const b = await office.branch('begun');
  await b.hello();
  const start = b.make([marker('snapshot-start', 's', { whole: true })]);
  const bad = b.make([upsert([[1, 'bad'], [2, 'good']])]); // prettier-ignore
  const end = b.make([marker('snapshot-end', 's', { whole: true })]);
  await b.send(start, bad, end);
  const request = await quarantine(b, 2);
  await office.applied('begun', 3);
  t.match(await office.row('begun'), { incompleteUntil: 'snapshot', quarantined: 1 });
  await b.send(...snapshot(b, 's2', [request], [[2, 'good']]));
  await office.applied('begun', 6);
  t.match(await office.row('begun'), { incompleteSince: null, quarantined: 0 }, 'the row is gone at the branch');
  t.strictSame(await office.sales('begun'), { 2: 'good' });
});

await t.test('of a large transaction the refused rows alone are left out, all others appear at once', async t => {
  const b = await office.branch('large');
  await b.hello();
  await b.send(
    b.make([upsert([[1, 'bad 1'], [2, 'two']])], { part: { number: 1, last: false } }), // prettier-ignore
    b.make([upsert([[3, 'bad 3'], [4, 'four']])], { part: { number: 2, last: false } }), // prettier-ignore
    b.make([upsert([[1, 'mended later in it']])], { part: { number: 3, last: true } }),
  );
  await halted('large', 3);
  t.strictSame(await office.sales('large'), {}, 'nothing of it is there before');
  await quarantine(b, 3);
  await office.applied('large', 3);
  t.strictSame(await office.sales('large'), { 1: 'mended later in it', 2: 'two', 4: 'four' });
  t.strictSame(await keys('large'), [{ id: 3 }]);
});

await t.test('a part that cannot be read takes its transaction with it, before and after', async t => {
  const b = await office.branch('torn');
  await b.hello();
  const one = b.make([upsert([[1, 'one']])], { part: { number: 1, last: false } });
  const two = b.makeRaw(Buffer.from('no part'));
  const three = b.make([upsert([[3, 'three']])], { part: { number: 3, last: false } });
  const four = b.make([upsert([[4, 'four']])], { part: { number: 4, last: true } });
  await b.send(one, two, three, four, b.make([upsert([[5, 'after']])]));
  const request = await quarantine(b, 2);
  await office.applied('torn', 5);
  t.strictSame(await office.sales('torn'), { 5: 'after' });
  t.strictSame((await b.hello()).requests, [snapshotOfAll(request)], 'everything is asked for again');
  t.match(await office.query(`SELECT LENGTH(body) AS n FROM tributary_quarantined_batch WHERE branch = 'torn'`), [
    { n: 7 },
    { n: null },
    { n: null },
  ]);
  const alone = await office.branch('alone');
  await alone.hello();
  await alone.send(alone.make([upsert([[3, 'three']])], { part: { number: 3, last: true } }));
  await halted('alone', 1);
  t.match((await office.row('alone')).halt, { code: 'BATCH_INVALID', reason: /without the parts before/ });
});

const OTHER = { schema: 'shop', name: 'stock', columns: [{ name: 'id', type: 'bigint', key: 1 }, { name: 'item', type: 'varchar(40)' }] }; // prettier-ignore
const UNFIT = { ...OTHER, columns: [{ name: 'id', type: 'bigint', key: 1 }, { name: 'item', type: 'geometry' }] }; // prettier-ignore

await t.test('a table that does not fit stands still as a whole; the others go on', async t => {
  const b = await office.branch('table');
  await b.hello();
  await b.send(b.make([upsert([[1, 'here']])], { tables: [OTHER] }));
  await office.applied('table', 1);
  const both = { tables: [UNFIT, SALES] };
  const point = 'AAAAAAEBAAAAAAAAAAAA8D8AAAAAAADwPw==';
  await b.send(b.make([upsert([[2, point]], 0), upsert([[2, 'sold']], 1)], both));
  await quarantine(b, 2);
  await office.applied('table', 2);
  const stock = async (): Promise<RowDataPacket[]> =>
    office.query(`SELECT id, item FROM stock WHERE _branch = 'table' ORDER BY id`);
  t.match(await office.sales('table'), { 2: 'sold' });
  t.match(await entries('table'), [{ op: 'table', name: 'stock', left_out: 1, reason: /item/ }]);

  // Later batches and a snapshot leave it out as well, without another halt; its rows here are not swept away.
  const wanted = { whole: true, tables: [0, 1] };
  await b.send(
    b.make([upsert([[3, point]], 0), upsert([[3, 'sold']], 1)], both),
    b.make([{ op: 'snapshot-start', snapshot: 's', requests: [], ...wanted }], both),
    b.make([upsert([[3, 'sold']], 1)], both),
    b.make([{ op: 'snapshot-end', snapshot: 's', requests: [], ...wanted }], both),
  );
  await office.applied('table', 6);
  t.strictSame(await office.sales('table'), { 3: 'sold' });
  t.match(await stock(), [{ item: 'here' }]);
  t.match(await entries('table'), [{ left_out: 2 }]);
  t.match(await office.row('table'), { incompleteUntil: 'rows' });

  // The branch gives its column the old type again: rows are taken, and the missing ones asked for.
  await b.send(b.make([upsert([[4, 'fits']])], { tables: [OTHER] }));
  await office.applied('table', 7);
  t.strictSame(await keys('table'), []);
  t.match(await stock(), [{ item: 'here' }, { item: 'fits' }]);
  const [asked] = (await b.hello()).requests;
  t.match(asked, { kind: 'snapshot', tables: [{ name: 'stock' }] });
  t.match(await office.row('table'), { incompleteUntil: 'snapshot' });
});

await t.test('a table whose name belongs to another is left out, its holder untouched', async t => {
  const b = await office.branch('contest');
  await b.hello();
  const twin = { ...SALES, schema: 'twin' };
  await b.send(b.make([upsert([[1, 'mine']])]));
  await b.send(b.make([{ op: 'truncate', table: 0 }, upsert([[1, 'theirs']]), upsert([[9, 'mine']], 1)], { tables: [twin, SALES] })); // prettier-ignore
  await quarantine(b, 2);
  await office.applied('contest', 2);
  t.strictSame(await office.sales('contest'), { 1: 'mine', 9: 'mine' });
});

await t.test(
  'of a table without a key the refused rows alone are left out, and cleared when they can be written',
  async t => {
    const b = await office.branch('keyless');
    await b.hello();
    const tables = [{ schema: 'shop', name: 'notes_without_key', columns: [{ name: 'item', type: 'varchar(40)' }] }];
    const add = (items: readonly string[], copies: readonly number[]): Change => ({
      op: 'add',
      table: 0,
      rows: items.length,
      values: [items],
      copies,
    });
    await b.send(b.make([add(['first'], [1])], { tables }));
    await office.applied('keyless', 1);
    await office.query(`ALTER TABLE notes_without_key ADD CONSTRAINT no_worse CHECK (item NOT LIKE 'worse%')`);
    await b.send(b.make([add(['worse', 'fine', 'first'], [2, 3, 1])], { tables }));
    t.match((await office.until('keyless', row => row.state === 'halted', 'the halt')).halt?.reason, /"worse"/);
    await quarantine(b, 2);
    await office.applied('keyless', 2);
    const items = async (): Promise<unknown[]> =>
      (await office.query(`SELECT item FROM notes_without_key WHERE _branch = 'keyless' ORDER BY item, _copy`)).map(
        (row): unknown => row['item'],
      );
    t.strictSame(await items(), ['fine', 'fine', 'fine', 'first', 'first']);
    t.match(await entries('keyless'), [{ op: 'upsert', left_out: 2, content: /worse/ }]);
    await office.query('ALTER TABLE notes_without_key DROP CONSTRAINT no_worse');
    await b.send(b.make([{ ...add(['worse'], [2]), op: 'count' } as Change], { tables }));
    await office.applied('keyless', 3);
    t.strictSame(await items(), ['fine', 'fine', 'fine', 'first', 'first', 'worse', 'worse']);
    t.strictSame(await entries('keyless'), []);
  },
);

await t.test('more refused rows than the limit: the branch stays halted and says so; --whole gets past', async t => {
  const b = await office.branch('full');
  await b.hello();
  await office.query(
    `INSERT INTO tributary_quarantine (branch, source_schema, table_name, key_hash, op, code, reason, epoch, seq,
       batch_number, quarantined_at)
     WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < ${MAX_QUARANTINED - 1})
     SELECT /*+ SET_VAR(cte_max_recursion_depth = 20000) */ 'full', 'shop', 'elsewhere', SHA2(i, 256), 'upsert', 'X', 'x', 'e', 1, 0, NOW(6)
     FROM n`,
  );
  await b.send(b.make([upsert([[1, 'bad'], [2, 'bad']])]), b.make([upsert([[1, 'good']])])); // prettier-ignore
  await quarantine(b, 1);
  await office.until('full', row => row.halt?.code === 'QUARANTINE_FULL', 'the limit');
  t.equal((await entries('full')).length, MAX_QUARANTINED - 1, 'nothing of the batch is applied');
  await office.registry.quarantine('full', true);
  await office.applied('full', 2);
  t.strictSame(await office.sales('full'), { 1: 'good' });
});

await t.test('a batch whose skipping fails halts the branch again', async t => {
  const b = await office.branch('unskippable');
  await b.hello();
  await office.query(
    `CREATE TRIGGER refuse_outcome BEFORE UPDATE ON tributary_quarantined_batch FOR EACH ROW
     IF NEW.branch = 'unskippable' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no outcome'; END IF`,
  );
  await b.send(b.make([upsert([[1, 'bad']])]));
  await halted('unskippable', 1);
  await office.registry.quarantine('unskippable', true);
  const { halt } = await office.until(
    'unskippable',
    row => /no outcome/.test(row.halt?.reason ?? ''),
    'the second halt',
  );
  t.equal(halt?.seq, 1);
  await office.query('DROP TRIGGER refuse_outcome');
  await office.registry.quarantine('unskippable', true);
  await office.applied('unskippable', 1);
  t.strictSame(await office.sales('unskippable'), {});
});

await t.test('a decision about a batch that can be applied by now leaves nothing out', async t => {
  const b = await office.branch('mended');
  await b.hello();
  await b.send(b.make([upsert([[1, 'badly wanted']])]));
  await halted('mended', 1);
  await office.query('ALTER TABLE sales DROP CONSTRAINT no_bad');
  await office.registry.quarantine('mended');
  await office.applied('mended', 1);
  t.match(await office.row('mended'), { quarantined: 0 });
  t.strictSame((await b.hello()).requests, []);
  t.strictSame(await office.sales('mended'), { 1: 'badly wanted' });
});

await t.test('a very long value is cut in quarantine, not refused there', async t => {
  const b = await office.branch('long');
  await b.hello();
  const LONG = { ...SALES, name: 'notes', columns: [SALES.columns[0]!, { name: 'item', type: 'longtext' }] };
  await b.send(b.make([upsert([[1, 'short']])], { tables: [LONG] }));
  await office.applied('long', 1);
  await office.query('ALTER TABLE notes ADD CONSTRAINT few CHECK (CHAR_LENGTH(item) < 1000)');
  await b.send(b.make([upsert([[2, 'x'.repeat(5_000_000)]])], { tables: [LONG] }));
  await quarantine(b, 2);
  await office.applied('long', 2);
  const [entry] = await office.use(connection => listEntries(connection, 'long', 10));
  t.match(entry, { key: { id: 2 }, row: { item: /^x{1000}.*… \(5000000 characters\)$/ }, table: 'notes' });
  // A body so large that its long value is read in pieces, in a table whose rows are their own keys.
  const LOG = { ...LONG, name: 'log', columns: LONG.columns.map(({ name, type }) => ({ name, type })) };
  const add = (id: number, item: string): Change => ({
    op: 'add',
    table: 0,
    rows: 1,
    values: [[id], [item]],
    copies: [1],
  });
  await b.send(b.make([add(1, 'short')], { tables: [LOG] }));
  await office.applied('long', 3);
  await office.query('ALTER TABLE log ADD CONSTRAINT brief CHECK (CHAR_LENGTH(item) < 1000)');
  await b.send(b.make([add(2, 'é'.repeat(5_000_000))], { tables: [LOG] }));
  const { halt } = await office.until('long', row => row.state === 'halted', 'the halt');
  t.match(halt, { code: 'BATCH_REFUSED', reason: /log, row \[2,"é+…/ });
  await office.registry.quarantine('long');
  await office.applied('long', 4);
  const [latest] = await office.use(connection => listEntries(connection, 'long', 10));
  t.match(latest, { table: 'log', row: { item: /^é{1000}.*… \(5000000 characters\)$/ } });
});
