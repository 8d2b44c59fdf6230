import t from 'tap';
import fc from 'fast-check';
import { parseColumnType, wireKind } from '../../../../shared/batch/column-type.ts';
import { LongBytes, LongText } from '../../../../shared/batch/long-value.ts';
import { TableSums, bucketsFor, canonicalText, markRow, MAX_BUCKETS } from '../../../../shared/batch/row-sums.ts';
import type { Value } from '../../../../shared/batch/batch.ts';

function canonical(value: Value, type: string): unknown {
  return canonicalText(value, wireKind(parseColumnType(type)));
}

function digest(values: readonly Value[], types: readonly string[]): string {
  return markRow({ types: types.map(parseColumnType), key: [] }, values, 1).digest.toString('hex');
}

void t.test('a value is the same in a wider column', t => {
  for (const [type, ...same] of [
    ['decimal(8,2)', '1.50', '1.5', '1.500000', '01.5'],
    ['decimal(8,2)', '0.00', '0', '-0.000', '00.0'],
    ['decimal(8,2)', '-12.30', '-12.3', '-012.30000'],
    ['decimal(8,0)', '100', '100', '0100', '100.00'],
    ['time(3)', '-01:02:00.000', '-01:02:00', '-01:02:00.000000'],
    ['datetime(0)', '2024-02-29 01:02:00', '2024-02-29 01:02:00.000000'],
    ['datetime(3)', '2024-02-29 01:02:00.120', '2024-02-29 01:02:00.12'],
    ['bigint unsigned', '18446744073709551615', '18446744073709551615'],
    ['int', 7, '7'],
    ['float', 0.1, '0.10000000149011612'],
    ['float', '-0', '-0'],
    ['double', 1e300, '1e300', '1e+300'],
  ] as const) {
    for (const value of same) t.equal(canonical(value, type), canonical(same[0], type), `${type} ${value}`);
  }
  t.end();
});

void t.test('values that differ are told apart', t => {
  for (const [type, ...others] of [
    ['decimal(8,2)', '1.5', '15', '-1.5', '0.15', '10', '100'],
    ['time(3)', '00:00:00.1', '00:00:00.01', '-00:00:00.1', '00:00:00', '10:00:00'],
    ['float', 0, '-0', 0.1],
    ['double', 0.1, 0.10000000000000002, 0, '-0'],
    [
      'json',
      '1',
      '1.0',
      '"1"',
      '[1]',
      'null',
      '{"a": 1}',
      '{"a": "n1"}',
      '{"o": []}',
      '{}',
      '[]',
      '[["o", []]]',
      '"s"',
    ],
    ['json', '9007199254740993', '9007199254740992', '18446744073709551615', '18446744073709551616'],
    ['json', '9.007199254740994e15', '!<DECIMAL>9007199254740993.25', '!<DECIMAL>9007199254740993.250'],
    ['json', '1.5', '!<DECIMAL>1.5', '"2024-01-01"', '!<DATE>"2024-01-01"', '5', '!<UNSIGNED INTEGER>5'],
    ['json', '{"__proto__": 1}', '{"__proto__": 2}', '{"a": 2}'],
    ['varchar(9)', 'a', 'A', 'a ', '', 'ä'],
  ] as const) {
    const forms = others.map(value => JSON.stringify(canonical(value, type)));
    t.equal(new Set(forms).size, others.length, `${type}: ${forms.join(' ')}`);
  }
  t.equal(canonical(null, 'int'), null);
  t.end();
});

void t.test('rows that differ in any way have other digests', t => {
  const text = fc
    .array(fc.constantFrom('a', '~', '|', ';', '1', '0', '2'), { maxLength: 6 })
    .map(parts => parts.join(''));
  const row = fc.array(fc.option(text, { nil: null }), { minLength: 3, maxLength: 3 });
  const types = ['text', 'text', 'text'];
  fc.assert(
    fc.property(
      row,
      row,
      (a, b) => (digest(a, types) === digest(b, types)) === (JSON.stringify(a) === JSON.stringify(b)),
    ),
    { numRuns: 3_000 },
  );
  t.end();
});

void t.test('a long value counts as the same value in one piece', t => {
  const text = 'Zoë 😀;7|'.repeat(40_000);
  t.equal(
    digest([1, new LongText(Buffer.from(text)), null], ['int', 'longtext', 'int']),
    digest([1, text, null], ['int', 'longtext', 'int']),
  );
  const bytes = Buffer.from(text);
  t.equal(digest([new LongBytes(bytes)], ['longblob']), digest([bytes.toString('base64')], ['longblob']));
  const json = JSON.stringify([text]);
  t.equal(digest([new LongText(Buffer.from(json))], ['json']), digest([json], ['json']));
  t.end();
});

void t.test('sums do not depend on order, count copies, and find the bucket that differs', t => {
  const shape = { types: [parseColumnType('int'), parseColumnType('varchar(9)')], key: [0] };
  const sums = (rows: readonly (readonly Value[])[]): TableSums => {
    const all = new TableSums(16);
    for (const row of rows) all.add(markRow(shape, row, 16));
    return all;
  };
  const rows = Array.from({ length: 500 }, (_, i) => [i, `v${i}`]);
  const one = sums(rows);
  t.strictSame(one.differing(sums(rows.toReversed())), []);
  t.equal(one.rows, 500);
  const changed = sums(rows.map(row => (row[0] === 77 ? [77, 'other'] : row)));
  t.strictSame(one.differing(changed), [markRow(shape, [77, ''], 16).bucket]);
  t.strictSame(sums([...rows, [77, 'v77'], [77, 'v77']]).differing(one).length, 1, 'two equal rows do not vanish');
  const read = TableSums.fromBytes(one.toBytes())!;
  t.strictSame(read.differing(one), []);
  t.equal(read.rows, 500);
  t.equal(TableSums.fromBytes(Buffer.alloc(0)), null);
  t.equal(TableSums.fromBytes(Buffer.alloc(21)), null);
  t.equal(TableSums.fromBytes(Buffer.alloc(20 * (MAX_BUCKETS + 1))), null);
  t.strictSame([bucketsFor(null), bucketsFor(0), bucketsFor(251), bucketsFor(1e9)], [1, 1, 2, MAX_BUCKETS]);
  t.end();
});

void t.test('rows without a key spread over the buckets by all that they hold', t => {
  const shape = { types: [parseColumnType('int')], key: [] };
  const buckets = new Set(Array.from({ length: 200 }, (_, i) => markRow(shape, [i], 8).bucket));
  t.equal(buckets.size, 8);
  t.end();
});
