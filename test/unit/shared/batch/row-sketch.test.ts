import t from 'tap';
import fc from 'fast-check';
import { parseColumnType } from '../../../../shared/batch/column-type.ts';
import { identityOf, markRow, rowName } from '../../../../shared/batch/row-sums.ts';
import type { RowShape } from '../../../../shared/batch/row-sums.ts';
import { MAX_NAMED_ROWS, RowSketch, sketchBucketsFor } from '../../../../shared/batch/row-sketch.ts';
import type { NamedRows } from '../../../../shared/batch/row-sketch.ts';
import type { Value } from '../../../../shared/batch/batch.ts';

type Row = readonly Value[];

const KEYED: RowShape = { types: ['int', 'varchar(9)'].map(parseColumnType), key: [0] };
const KEYLESS: RowShape = { types: KEYED.types, key: [] };

function sketchOf(shape: RowShape, rows: readonly Row[], buckets: number): RowSketch {
  const sketch = new RowSketch(buckets, 'v');
  for (const row of rows) sketch.add(markRow(shape, row, buckets, true));
  return sketch;
}

function namesOf(shape: RowShape, rows: readonly Row[]): string[] {
  return [...new Set(rows.map(row => rowName(shape, identityOf(shape, row))))].sort();
}

function sorted(found: NamedRows | null): string[] | null {
  return found === null ? null : [...found.names].sort();
}

void t.test('of a million rows, those that differ are named', t => {
  const rows = 100_000;
  const buckets = sketchBucketsFor(1_000_000);
  const branch = new RowSketch(buckets, 'v');
  const here = new RowSketch(buckets, 'v');
  const planted: Row[] = [];
  for (let id = 0; id < rows; id += 1) {
    const row: Row = [id, `v${id}`];
    const other: Row | null = id % 500 !== 0 ? row : id % 1_500 === 0 ? null : [id, 'by hand'];
    if (other !== row) planted.push(row);
    branch.add(markRow(KEYED, row, buckets, true));
    if (other !== null) here.add(markRow(KEYED, other, buckets, true));
  }
  t.equal(branch.rows, rows);
  t.strictSame(sorted(branch.differingRows(here)), namesOf(KEYED, planted));
  t.strictSame(sorted(here.differingRows(branch)), namesOf(KEYED, planted), 'from the other side too');
  t.ok(branch.toBytes().length < 25 * 1024);
  t.end();
});

void t.test('whatever differs, the rows that are named are exactly those', t => {
  let named = 0;
  const row = fc.tuple(fc.integer({ min: 0, max: 40 }), fc.constantFrom('a', 'b', null));
  const keyed = fc.uniqueArray(row, { selector: ([id]) => id, maxLength: 12 });
  const keyless = fc.array(row, { maxLength: 30 });
  for (const [shape, arbitrary] of [
    [KEYED, keyed],
    [KEYLESS, keyless],
  ] as const) {
    fc.assert(
      fc.property(arbitrary, arbitrary, (branch, here) => {
        const buckets = sketchBucketsFor(2_000);
        const count = (rows: readonly Row[], each: Row): number =>
          rows.filter(other => JSON.stringify(other) === JSON.stringify(each)).length;
        const differing = [...branch, ...here].filter(each => count(branch, each) !== count(here, each));
        const found = sketchOf(shape, branch, buckets).differingRows(sketchOf(shape, here, buckets));
        // Few buckets for so many rows: now and then the names cannot be told.
        if (found?.complete !== true) return true;
        named += 1;
        return JSON.stringify(sorted(found)) === JSON.stringify(namesOf(shape, differing));
      }),
      { numRuns: 300 },
    );
  }
  t.ok(named > 550, `${named} of 600`);
  t.end();
});

void t.test('too many differences give no names, and never wrong ones', t => {
  const buckets = sketchBucketsFor(10);
  const many = Array.from({ length: 400 }, (_, id): Row => [id, 'x']);
  t.equal(sketchOf(KEYED, many, buckets).differingRows(sketchOf(KEYED, [], buckets)), null);
  const large = sketchBucketsFor(1_000_000);
  const more = Array.from({ length: MAX_NAMED_ROWS + 20 }, (_, id): Row => [id, 'x']);
  t.equal(sketchOf(KEYED, more, large).differingRows(sketchOf(KEYED, [], large)), null);
  const most = sketchOf(KEYED, more.slice(20), large).differingRows(sketchOf(KEYED, [], large));
  t.ok(most !== null && most.names.length >= MAX_NAMED_ROWS - 4);
  t.end();
});

void t.test('copies of a row are counted, in any number', t => {
  const buckets = sketchBucketsFor(1_000);
  const copies = (number: number): Row[] => new Array<Row>(number).fill([1, 'same']);
  for (const [there, here] of [
    [3, 1],
    [1, 3],
    [0, 2_000],
    [256, 0],
  ] as const) {
    const found = sketchOf(KEYLESS, copies(there), buckets).differingRows(sketchOf(KEYLESS, copies(here), buckets));
    t.strictSame(found?.names, namesOf(KEYLESS, copies(1)), `${there} and ${here}`);
  }
  t.end();
});

void t.test('bytes are read back, and others are refused', t => {
  const sketch = sketchOf(KEYED, [[1, 'a']], sketchBucketsFor(1));
  t.strictSame(RowSketch.fromBytes(sketch.toBytes(), 'v')?.differingRows(sketch), { names: [], complete: true });
  t.equal(RowSketch.fromBytes(sketch.toBytes().subarray(4), 'v'), null);
  t.equal(RowSketch.fromBytes(Buffer.alloc(24 * 192, 0xff), 'v'), null, 'a word beyond the prime');
  t.equal(RowSketch.fromBytes(Buffer.alloc(24 * 1_026), 'v'), null, 'too many buckets');
  t.end();
});

void t.test('rows that cannot be told apart in one comparison can be in the next', t => {
  const buckets = sketchBucketsFor(1);
  const rows = Array.from({ length: 40 }, (_, id): Row => [id, 'x']);
  let partly = 0;
  const never = new Set(namesOf(KEYED, rows));
  for (let round = 0; round < 3_000; round += 1) {
    const [branch, here] = [new RowSketch(buckets, `v${round}`), new RowSketch(buckets, `v${round}`)];
    for (const row of rows) branch.add(markRow(KEYED, row, buckets, true));
    const found = branch.differingRows(here);
    if (found?.complete !== false) continue;
    partly += 1;
    t.equal(found.names.length, 38, 'the others are named');
    for (const name of found.names) never.delete(name);
  }
  t.ok(partly > 0 && partly < 100, `${partly} of 3,000`);
  t.equal(never.size, partly > 1 ? 0 : 2);
  t.end();
});
