import t from 'tap';
import { Touched } from '../../../../agent/verify/touched.ts';
import type { BatchBody, Change, TableDescription } from '../../../../shared/batch/batch.ts';
import { parseColumnType } from '../../../../shared/batch/column-type.ts';
import { markRow } from '../../../../shared/batch/row-sums.ts';

const SALE: TableDescription = {
  schema: 'shop',
  name: 'sale',
  columns: [
    { name: 'id', type: 'int', key: 1 },
    { name: 'v', type: 'varchar(9)' },
  ],
};
const LOG: TableDescription = { schema: 'shop', name: 'log', columns: [{ name: 'a', type: 'int' }] };
const sale = {
  description: SALE,
  shape: { types: ['int', 'varchar(9)'].map(parseColumnType), key: [0] },
  buckets: 4,
  sketch: false,
};
const log = { description: LOG, shape: { types: [parseColumnType('int')], key: [] }, buckets: 1, sketch: false };

function body(tables: readonly TableDescription[], ...changes: Change[]): BatchBody {
  const source = { server: 's', gtidSet: '', file: 'b.1', offset: 4, committedAt: null };
  return { v: 1, source, transactions: 1, part: null, tables, changes };
}

void t.test('the last word of the stream is what a row is', t => {
  const touched = new Touched([sale, log], 100);
  touched.take(
    body([SALE], {
      op: 'upsert',
      table: 0,
      rows: 3,
      values: [
        [1, 2, 3],
        ['a', 'b', 'c'],
      ],
    }),
  );
  touched.take(
    body(
      [SALE],
      { op: 'delete', table: 0, rows: 1, keys: [[2]] },
      { op: 'upsert', table: 0, rows: 1, values: [[3], ['C']] },
    ),
  );
  const rows = touched.rowsOf(sale);
  t.strictSame([...rows.keys()], [1, 2, 3]);
  t.equal(rows.get(2), null);
  t.strictSame(rows.get(3), markRow(sale.shape, [3, 'C'], 4));
  t.notOk(touched.hasUnclear);
  t.equal(touched.rowsOf(log).size, 0);
  t.end();
});

void t.test('truncated, redefined and keyless tables are unclear, those of others are not looked at', t => {
  const touched = new Touched([sale, log], 100);
  touched.take(body([{ ...SALE, name: 'other' }], { op: 'truncate', table: 0 }));
  t.notOk(touched.hasUnclear);
  touched.take(body([LOG], { op: 'add', table: 0, rows: 1, values: [[1]], copies: [1] }));
  t.ok(touched.isUnclear(log));
  t.notOk(touched.isUnclear(sale));
  const wider = { ...SALE, columns: [...SALE.columns, { name: 'w', type: 'int' }] };
  touched.take(body([wider], { op: 'upsert', table: 0, rows: 1, values: [[1], ['a'], [2]] }));
  t.ok(touched.isUnclear(sale));
  const truncated = new Touched([sale], 100);
  truncated.take(body([{ ...SALE, columns: [] }], { op: 'truncate', table: 0 }));
  t.ok(truncated.isUnclear(sale));
  t.end();
});

void t.test('what is noted is bounded', t => {
  const touched = new Touched([sale], 2);
  touched.take(body([SALE], { op: 'delete', table: 0, rows: 2, keys: [[1, 2]] }));
  t.notOk(touched.overflown);
  touched.take(body([SALE], { op: 'delete', table: 0, rows: 1, keys: [[3]] }));
  t.ok(touched.overflown);
  t.end();
});
