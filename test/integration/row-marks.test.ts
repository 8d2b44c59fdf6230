/** What the head office does with rows that it has asked a branch for: names what differs, and repairs it. */
import { hash, randomUUID } from 'node:crypto';
import t from 'tap';
import { askForRows } from '../../applier/store/differences.ts';
import { addRequest } from '../../applier/store/snapshots.ts';
import { columnType } from '../../shared/batch/column-type.ts';
import { rowName } from '../../shared/batch/row-sums.ts';
import type { Change } from '../../shared/batch/batch.ts';
import { SALES, upsert } from '../support/hand-made/branch.ts';
import { HeadOffice } from '../support/world/head-office.ts';
import { until } from '../support/until.ts';

const office = await HeadOffice.open();
t.teardown(() => office.close());
await office.fleet();

const SHAPE = { types: SALES.columns.map(({ type }) => columnType(type)), key: [0] };
const TABLE = { schema: SALES.schema, name: SALES.name };
const nameOf = (id: number): string => rowName(SHAPE, [id]);

/** A mark that says what these rows are. */
function rowsMark(
  request: string,
  rows: readonly (readonly [id: number, item: string])[],
  absent: readonly number[],
): Change {
  return {
    op: 'verify-rows',
    verification: 'v',
    request,
    table: 0,
    rows: rows.length,
    values: [rows.map(([id]) => id), rows.map(([, item]) => item)],
    copies: [],
    absent: Buffer.from(absent.map(nameOf).join(''), 'hex').toString('base64'),
    last: true,
  };
}

async function opened(branch: string, kind: 'rows' | 'repair'): Promise<string> {
  const [row] = await office.query('SELECT request FROM tributary_request WHERE branch = ? AND kind = ?', [
    branch,
    kind,
  ]);
  return String(row?.['request']);
}

async function found(branch: string): Promise<Record<string, unknown>> {
  const rows = await office.query('SELECT * FROM tributary_difference WHERE branch = ? ORDER BY row_key', [branch]);
  return Object.fromEntries(
    rows.map(row => [
      String((row['row_key'] as { id?: number } | null)?.id ?? row['row_name']),
      `${String(row['kind'])}${row['quarantined'] === 1 ? ' in quarantine' : ''} ${JSON.stringify(row['columns'])}`,
    ]),
  );
}

await t.test(
  'rows are named and repaired, those in quarantine are left to it, and a refused row stops nothing',
  async t => {
    const b = await office.branch('marks');
    await b.hello();
    await b.send(
      b.make([
        upsert([
          [1, 'a'],
          [2, 'b'],
          [3, 'c'],
          [4, 'd'],
          [5, 'e'],
        ]),
      ]),
    );
    await office.applied('marks', 1);
    await office.query("UPDATE sales SET item = 'by hand' WHERE _branch = 'marks' AND id IN (2, 4)");
    await office.query("DELETE FROM sales WHERE _branch = 'marks' AND id = 3");
    await office.query(
      "INSERT INTO sales (_branch, _batch, _changed_at, id, item) VALUES ('marks', 1, NOW(6), 9, 'made up')",
    );
    const key = hash('sha256', JSON.stringify([4]), 'hex');
    await office.query(
      `INSERT INTO tributary_quarantine (branch, source_schema, table_name, key_hash, op, code, reason, epoch, seq,
       batch_number, quarantined_at) VALUES ('marks', ?, ?, ?, 'upsert', 'BATCH_REFUSED', 'x', 'e', 1, 1, NOW(6))`,
      [SALES.schema, SALES.name, key],
    );
    await office.query("UPDATE tributary_branch SET quarantined = 1 WHERE branch = 'marks'");
    await office.use(connection => askForRows(connection, 'marks', TABLE, [1, 2, 3, 4, 9].map(nameOf)));
    t.same(Object.values(await found('marks')), new Array(5).fill('unnamed []'));

    await b.send(
      b.make([
        rowsMark(
          await opened('marks', 'rows'),
          [
            [1, 'a'],
            [2, 'b'],
            [3, 'c'],
            [4, 'd'],
          ],
          [9],
        ),
      ]),
    );
    await office.applied('marks', 2);
    await until('the names', async () => Object.values(await found('marks')).every(each => each !== 'unnamed []'));
    t.strictSame(await found('marks'), {
      2: 'changed ["item"]',
      3: 'missing []',
      4: 'changed in quarantine ["item"]',
      9: 'extra []',
    });
    t.equal(await opened('marks', 'rows'), 'undefined', 'the request is answered');

    // Of another request, which nobody has made: nothing happens.
    await b.send(b.make([rowsMark('nobody', [[1, 'wrong']], [5])]));
    await office.applied('marks', 3);
    t.match(await office.sales('marks'), { 1: 'a', 5: 'e' });

    await office.query("ALTER TABLE sales ADD CHECK (item <> 'bad')");
    const request = randomUUID();
    const asked = { id: request, kind: 'repair' as const, reason: 'somebody', tables: [TABLE] };
    await office.use(connection => addRequest(connection, 'marks', asked));
    await b.send(
      b.make([
        rowsMark(
          request,
          [
            [2, 'b'],
            [3, 'bad'],
            [4, 'd'],
            [7, 'new'],
          ],
          [9],
        ),
      ]),
      b.make([upsert([[6, 'goes on']])]),
    );
    await office.applied('marks', 5);
    t.strictSame(await office.sales('marks'), { 1: 'a', 2: 'b', 4: 'by hand', 5: 'e', 6: 'goes on', 7: 'new' });
    t.strictSame(await found('marks'), { 3: 'missing []', 4: 'changed in quarantine ["item"]' });
    const repaired = await office.query(
      "SELECT action, row_key, had, has, asked FROM tributary_repair WHERE branch = 'marks' ORDER BY CAST(row_key->>'$.id' AS SIGNED)",
    );
    t.same(repaired, [
      {
        action: 'updated',
        row_key: { id: 2 },
        had: { id: 2, item: 'by hand' },
        has: { id: 2, item: 'b' },
        asked: 'somebody',
      },
      { action: 'refused', row_key: { id: 3 }, had: null, has: { id: 3, item: 'bad' }, asked: 'somebody' },
      { action: 'inserted', row_key: { id: 7 }, had: null, has: { id: 7, item: 'new' }, asked: 'somebody' },
      { action: 'deleted', row_key: { id: 9 }, had: { id: 9, item: 'made up' }, has: null, asked: 'somebody' },
    ]);
    const open = await office.query("SELECT kind, reason FROM tributary_request WHERE branch = 'marks'");
    t.same(open, [{ kind: 'verify', reason: 'after a repair' }]);
  },
);
