import { constants, zstdCompressSync } from 'node:zlib';
import t from 'tap';
import fc from 'fast-check';
import type { BatchBody, Change, ColumnDescription, TableDescription, Value } from '../../../../shared/batch/batch.ts';
import { decodeBatch, sizeOf } from '../../../../shared/batch/decoder.ts';
import { encodeBatch } from '../../../../shared/batch/encoder.ts';
import { textsParsedBy } from '../../../support/hand-made/parsed.ts';
import { MAX_BUCKETS, TableSums } from '../../../../shared/batch/row-sums.ts';

const SOURCE = { server: 'u', gtidSet: '', file: 'binlog.000001', offset: 4, committedAt: null };

function bodyOf(tables: TableDescription[], changes: Change[]): BatchBody {
  return { v: 1, source: SOURCE, transactions: 1, part: null, tables, changes };
}

const SALES: TableDescription = {
  schema: 'shop',
  name: 'sales',
  columns: [
    { name: 'id', type: 'int', key: 1 },
    { name: 'note', type: 'varchar(20)' },
  ],
};
const SALE: Change = {
  op: 'upsert',
  table: 0,
  rows: 2,
  values: [
    [1, 2],
    ['a', null],
  ],
};
const GOOD = bodyOf([SALES], [SALE]);
/** A table without a key. */
const LOG: TableDescription = { ...SALES, columns: SALES.columns.map(({ name, type }) => ({ name, type })) };
const ADD: Change = { ...SALE, op: 'add', copies: [1, 8_000] };

const digits = (n: number) => fc.nat({ max: 10 ** n - 1 }).map(v => String(v).padStart(n, '0'));
const wellFormed = fc.string({ unit: 'binary' }).map(text => text.toWellFormed());

/** Any value of some types of every wire kind. */
const VALUES: Record<string, fc.Arbitrary<Value>> = {
  'bigint unsigned': fc.oneof(fc.maxSafeNat(), fc.constant('18446744073709551615')),
  year: fc.oneof(fc.constant(0), fc.integer({ min: 1901, max: 2155 })),
  'bit(64)': fc.maxSafeNat(),
  'decimal(10,2)': digits(2).map(d => `-1234.${d}`),
  float: fc.float({ noNaN: true, noDefaultInfinity: true }).map(v => (Object.is(v, -0) ? '-0' : v)),
  double: fc.double({ noNaN: true, noDefaultInfinity: true }).map(v => (Object.is(v, -0) ? '-0' : v)),
  date: fc.constantFrom('0000-00-00', '2024-02-29'),
  'time(3)': digits(3).map(d => `-838:59:58.${d}`),
  'timestamp(6)': digits(6).map(d => `2024-02-29 00:00:00.${d}`),
  text: wellFormed,
  json: fc.json({ stringUnit: 'grapheme' }),
  blob: fc.uint8Array().map(bytes => Buffer.from(bytes).toString('base64')),
};

const column = (
  key: number | undefined,
): fc.Arbitrary<{ description: ColumnDescription; value: fc.Arbitrary<Value> }> =>
  fc.constantFrom(...Object.entries(VALUES)).map(([type, value]) => ({
    description: key === undefined ? { name: 'c', type } : { name: 'c', type, key },
    value: key === undefined ? fc.option(value) : value,
  }));

const body = fc
  .tuple(fc.array(column(undefined), { maxLength: 6 }), column(1), fc.nat({ max: 20 }), fc.option(fc.boolean()))
  .chain(([others, key, rows, part]) => {
    const columns = [...others, key];
    const table = { schema: 's', name: 't', columns: columns.map((c, i) => ({ ...c.description, name: `c${i}` })) };
    const matrix = fc.tuple(...columns.map(c => fc.array(c.value, { minLength: rows, maxLength: rows })));
    return fc
      .tuple(matrix, fc.array(key.value, { minLength: rows, maxLength: rows }))
      .map(([values, keys]): BatchBody => ({
        ...bodyOf(
          [table],
          [
            { op: 'truncate', table: 0 },
            { op: 'delete', table: 0, rows, keys: [keys] },
            { op: 'upsert', table: 0, rows, values },
          ],
        ),
        part: part === null ? null : { number: 1, last: part },
      }));
  });

const START: Change = { op: 'verify-start', verification: 'v', request: 'r', tables: [0], buckets: [7], whole: false };
const SUMS: Change = {
  op: 'verify-sums',
  verification: 'v',
  table: 0,
  sums: new TableSums(7).toBytes().toString('base64'),
  typed: ['doc', 'other'],
  problem: null,
};
const VERIFIED: Change = { op: 'verify-end', verification: 'v', request: 'r', problem: null };

void t.test('decoding an encoded batch gives the batch back', t => {
  fc.assert(
    fc.property(body, b => t.strictSame(decodeBatch(encodeBatch(b)), b) && true),
    { numRuns: 200 },
  );
  const markers = bodyOf(
    [SALES],
    [{ op: 'snapshot-start', snapshot: 'x', tables: [0], whole: true, requests: ['r1'] }],
  );
  t.strictSame(decodeBatch(encodeBatch(markers, { level: 9 })), markers);
  for (const mark of [
    START,
    SUMS,
    { ...SUMS, sums: '', problem: 'it is away' },
    VERIFIED,
    { ...VERIFIED, problem: 'it fails' },
  ]) {
    t.strictSame(decodeBatch(encodeBatch(bodyOf([SALES], [mark]))), bodyOf([SALES], [mark]));
  }
  t.end();
});

const packed = (value: unknown): Buffer => zstdCompressSync(typeof value === 'string' ? value : JSON.stringify(value));

void t.test('a bomb is refused before it is unpacked', t => {
  const bomb = zstdCompressSync(Buffer.alloc(64 * 1024 * 1024), { params: { [constants.ZSTD_c_compressionLevel]: 1 } });
  t.ok(bomb.length < 100_000);
  t.throws(() => decodeBatch(bomb, { maxUnpackedBytes: 1024 * 1024 }), {
    code: 'BATCH_TOO_LARGE',
    message: /unpacks to more/,
  });
  t.throws(() => decodeBatch(Buffer.alloc(2000), { maxCompressedBytes: 1000 }), { code: 'BATCH_TOO_LARGE' });
  t.end();
});

void t.test('frames without end are refused, however little is in them', t => {
  const empty = zstdCompressSync(Buffer.alloc(0));
  t.throws(() => decodeBatch(Buffer.concat(Array.from({ length: 2_000 }, () => empty))), { code: 'BATCH_TOO_LARGE' });
  t.end();
});

void t.test('a body that would unfold into millions of objects is refused unparsed', t => {
  t.throws(() => decodeBatch(packed(`[${'{},'.repeat(3_000_000)}{}]`)), { message: /too many arrays/ });
  t.throws(() => decodeBatch(packed('['.repeat(9_000_000))), { message: /nested too deeply/ });
  const long = 'x"[[[[[[[[[[[[[[[[\\'.repeat(600_000);
  const large = bodyOf([SALES], [{ op: 'upsert', table: 0, rows: 1, values: [[1], [long]] }]);
  const [change] = decodeBatch(encodeBatch(large)).changes;
  const [value] = change?.op === 'upsert' ? (change.values[1] ?? []) : [];
  t.ok(String(value) === long, 'brackets and quotes in texts do not count');
  t.end();
});

void t.test('a small body that would hold up the only thread is refused unparsed', async t => {
  const members = (n: number): string => Array.from({ length: n }, (_, i) => `"k${i}":0`).join(',');
  const bodies: Record<string, string> = {
    'an object of 200,000 members, 20 KiB on the wire': `{"v":1,${members(200_000)}}`,
    'blanks before the colons': `{"v" : 1,${members(200).replaceAll('":', '" \n:')}}`,
    'members of an object in an object': `{"v":1,"tables":[{${members(1_000)}}]}`,
    'a million members of small objects': `[${Array.from({ length: 250_000 }, (_, i) => `{"a${i}":0,"b":0,"c":0,"d":0}`).join(',')}]`,
    'two million lists': `[${'[],'.repeat(2_000_000)}[]]`,
    'four million lists in each other': '['.repeat(4 * 1024 * 1024),
    'a list that ends before it begins': `]${'['.repeat(100)}`,
    'three million values': `[${'0,'.repeat(3_000_000)}0]`,
  };
  for (const [name, text] of Object.entries(bodies)) {
    t.throws(() => decodeBatch(packed(text)), { code: 'BATCH_INVALID' }, name);
    t.strictSame(await textsParsedBy(() => decodeBatch(packed(text))), [], `${name}: nothing of it is parsed`);
  }
  t.equal((await textsParsedBy(() => decodeBatch(encodeBatch(GOOD)))).length, 1, 'a sound one is parsed');
});

void t.test('a long text that is no value is read, and refused where it is too long', t => {
  const gtidSet = 'x'.repeat(2 * 1024 * 1024);
  const long = { ...GOOD, source: { ...SOURCE, gtidSet } };
  t.ok(decodeBatch(encodeBatch(long)).source.gtidSet === gtidSet);
  const longer = { ...GOOD, source: { ...SOURCE, gtidSet: gtidSet.repeat(3) } };
  t.throws(() => decodeBatch(encodeBatch(longer)), { code: 'BATCH_INVALID' });
  t.end();
});

void t.test('what strings take in memory counts, not what they take on the wire', t => {
  const text = (character: string, n: number): BatchBody =>
    bodyOf([SALES], [{ ...SALE, rows: n, values: [[...Array(n).keys()], Array(n).fill(character)] }]);
  const below = (character: string): string => character + 'x'.repeat(900_000);
  t.equal(decodeBatch(encodeBatch(text(below('x'), 60))).changes.length, 1, 'of one byte a character');
  for (const character of ['€', '\u0001']) {
    const body = encodeBatch(text(below(character), 60));
    t.ok(body.length < 20_000, 'next to nothing on the wire');
    t.throws(() => decodeBatch(body), { code: 'BATCH_TOO_LARGE', message: /bytes of memory/ }, 'of two');
  }
  t.end();
});

void t.test('what a body holds in memory is counted: wide texts twice, places of values, frames of long strings', t => {
  const heldBy = (texts: readonly string[], level = 3): number => {
    const values = [texts.map((_, i) => i), [...texts]];
    return sizeOf(decodeBatch(encodeBatch(bodyOf([SALES], [{ ...SALE, rows: texts.length, values }]), { level }))).held;
  };
  const narrow = heldBy(['x'.repeat(100_000)]);
  t.ok(narrow >= 100_000 && narrow < 110_000, `${narrow} bytes`);
  t.ok(heldBy([`€${'x'.repeat(100_000)}`]) >= 200_000, 'two bytes a character');
  t.ok(heldBy([`\u0001${'x'.repeat(100_000)}`]) >= 200_000, 'and so behind an escape');
  t.ok(heldBy(Array<string>(10_000).fill('')) >= 10_000 * 2 * 32, 'each value has a place');
  const long = zstdCompressSync(
    JSON.stringify(bodyOf([SALES], [{ ...SALE, rows: 1, values: [[1], ['x'.repeat(9_000_000)]] }])),
  );
  t.ok(sizeOf(decodeBatch(long)).held >= 9_000_000, 'a large frame stays for the long string in it');
  t.end();
});

void t.test('a text that takes too much memory is refused before the rest of it is unpacked', t => {
  const values = `"${'x'.repeat(900_000)}",`.repeat(80);
  const begin = zstdCompressSync(`[${values}`);
  // Whether it is tried shows in what is refused.
  const rest = Buffer.from('this is no frame');
  t.throws(() => decodeBatch([begin, rest]), { code: 'BATCH_TOO_LARGE', message: /bytes of memory/ });
  t.end();
});

void t.test('a definition of all tables that a branch may have is taken, and more is not', t => {
  const columns = Array.from({ length: 30 }, (_, i) => ({ name: `column_${i}`, type: 'varchar(20)' }));
  const all = bodyOf(
    Array.from({ length: 4_096 }, (_, i) => ({ schema: 's', name: `t${i}`, columns })),
    [],
  );
  t.equal(decodeBatch(encodeBatch(all)).tables.length, 4_096);
  const wide = all.tables.map(table => ({ ...table, columns: [...columns, { name: 'x', type: 'int' }] }));
  t.throws(() => decodeBatch(encodeBatch({ ...all, tables: wide }), { maxAllColumns: 4_096 * 30 }), {
    code: 'BATCH_INVALID',
    message: /more than 122880 columns/,
  });
  t.end();
});

void t.test('what does not unpack, is not UTF-8 or not JSON is refused', t => {
  t.throws(() => decodeBatch(Buffer.from('hello')), { code: 'BATCH_INVALID' });
  t.throws(() => decodeBatch(Buffer.alloc(0)), { code: 'BATCH_INVALID' });
  const whole = encodeBatch(GOOD);
  t.throws(() => decodeBatch(whole.subarray(0, whole.length - 5)), { code: 'BATCH_INVALID' });
  t.throws(() => decodeBatch(zstdCompressSync(Buffer.from([0x22, 0xff, 0x22]))), { message: /UTF-8/ });
  t.throws(() => decodeBatch(packed('{')), { message: /JSON/ });
  t.end();
});

void t.test('every departure from the shape is refused', t => {
  t.throws(() => decodeBatch(packed({ ...GOOD, v: 2 })), { code: 'BATCH_VERSION' });
  const column = (description: object) => ({ ...GOOD, tables: [{ ...SALES, columns: [description] }], changes: [] });
  const key = { name: 'id', type: 'int', key: 1 };
  const cases: Record<string, unknown> = {
    'an unknown key': { ...GOOD, extra: 1 },
    'a missing key': { v: 1, source: SOURCE, transactions: 1, tables: [], changes: [] },
    'not an object': [],
    null: null,
    'a negative count': { ...GOOD, transactions: -1 },
    'a source of another shape': { ...GOOD, source: { ...SOURCE, offset: '4' } },
    'a time that is none': { ...GOOD, source: { ...SOURCE, committedAt: 'now' } },
    'a part without last': { ...GOOD, part: { number: 1 } },
    'a type outside the grammar': column({ ...key, type: 'int) ENGINE=x' }),
    'a name that is none': column({ ...key, name: 'x'.repeat(65) }),
    'a gap in the key': column({ ...key, key: 2 }),
    'a column twice': { ...GOOD, tables: [{ ...SALES, columns: [key, { name: 'ID', type: 'int' }] }], changes: [] },
    'two columns at one key place': {
      ...GOOD,
      tables: [{ ...SALES, columns: [key, { ...key, name: 'b' }] }],
      changes: [],
    },
    'an unknown operation': { ...GOOD, changes: [{ op: 'constructor' }] },
    'a table that is not listed': { ...GOOD, changes: [{ op: 'truncate', table: 1 }] },
    'a column too few': { ...GOOD, changes: [{ ...SALE, values: [[1, 2]] }] },
    'a column too short': { ...GOOD, changes: [{ ...SALE, values: [[1], ['a', 'b']] }] },
    'rows that lie': { ...GOOD, changes: [{ ...SALE, rows: 1 }] },
    'a NULL in the key': {
      ...GOOD,
      changes: [
        {
          ...SALE,
          values: [
            [1, null],
            ['a', 'b'],
          ],
        },
      ],
    },
    'a NULL in a deleted key': { ...GOOD, changes: [{ op: 'delete', table: 0, rows: 1, keys: [[null]] }] },
    'a nested value': {
      ...GOOD,
      changes: [
        {
          ...SALE,
          values: [
            [1, [2]],
            ['a', 'b'],
          ],
        },
      ],
    },
    'a boolean value': {
      ...GOOD,
      changes: [
        {
          ...SALE,
          values: [
            [1, true],
            ['a', 'b'],
          ],
        },
      ],
    },
    'a lone surrogate': {
      ...GOOD,
      changes: [
        {
          ...SALE,
          values: [
            [1, 2],
            ['a', '\ud800'],
          ],
        },
      ],
    },
    'rows without a key': {
      ...GOOD,
      tables: [
        {
          ...SALES,
          columns: [
            { name: 'id', type: 'int' },
            { name: 'n', type: 'int' },
          ],
        },
      ],
    },
    'copies of rows with a key': { ...GOOD, changes: [{ ...SALE, op: 'add', copies: [1, 1] }] },
    'a row without copies': { ...GOOD, tables: [LOG], changes: [{ ...ADD, copies: [1, 0] }] },
    'half a copy': { ...GOOD, tables: [LOG], changes: [{ ...ADD, copies: [1, 0.5] }] },
    'fewer numbers than rows': { ...GOOD, tables: [LOG], changes: [{ ...ADD, copies: [1] }] },
    'more copies than a batch may have rows': { ...GOOD, tables: [LOG], changes: [{ ...ADD, copies: [1, 8_000_000] }] },
    'copies of a long row': {
      ...GOOD,
      tables: [LOG],
      changes: [
        {
          ...ADD,
          values: [
            [1, 2],
            ['a', 'x'.repeat(100_000)],
          ],
          copies: [1, 10_000],
        },
      ],
    },
    'rows of nothing': { ...GOOD, tables: [{ ...LOG, columns: [] }], changes: [{ ...ADD, values: [] }] },
    'a marker beside rows': {
      ...GOOD,
      changes: [SALE, { op: 'snapshot-end', snapshot: 'x', tables: [], whole: false, requests: [] }],
    },
    'a mark of a verification beside rows': { ...GOOD, changes: [SALE, VERIFIED] },
    'no buckets': { ...GOOD, changes: [{ ...START, buckets: [0] }] },
    'more buckets than there may be': { ...GOOD, changes: [{ ...START, buckets: [MAX_BUCKETS + 1] }] },
    'buckets of no table': { ...GOOD, changes: [{ ...START, buckets: [] }] },
    'sums of half a bucket': { ...GOOD, changes: [{ ...SUMS, sums: 'AAAA' }] },
    'sums of a table that is not listed': { ...GOOD, changes: [{ ...SUMS, table: 1 }] },
    'neither sums nor why': { ...GOOD, changes: [{ ...SUMS, sums: '' }] },
    'a problem without end': { ...GOOD, changes: [{ ...SUMS, problem: 'x'.repeat(10_000) }] },
  };
  for (const [name, value] of Object.entries(cases)) {
    t.throws(() => decodeBatch(packed(value)), { code: 'BATCH_INVALID' }, name);
  }
  t.end();
});

void t.test('a value of another kind than its column is refused', t => {
  const bad: Record<string, unknown[]> = {
    int: [1.5, '5', 'x', 2 ** 60],
    year: [5, 1900, 2156],
    'decimal(5,2)': [1.5, '1e5', '.5', ''],
    float: ['1.5', '0', 'NaN', 3.5e38],
    double: ['-1'],
    date: ['2024-1-1', "2024-01-01'"],
    'datetime(3)': ['2024-01-01 00:00:00', '2024-01-01T00:00:00.000'],
    'time(0)': ['00:00:00.0', '1:00:00'],
    'varchar(5)': [5],
    blob: ['AP8', 'A===', '****'],
  };
  for (const [type, values] of Object.entries(bad)) {
    for (const value of values) {
      const table = {
        ...SALES,
        columns: [
          { name: 'id', type: 'int', key: 1 },
          { name: 'c', type },
        ],
      };
      const change = { op: 'upsert', table: 0, rows: 1, values: [[1], [value]] };
      t.throws(
        () => decodeBatch(packed({ ...GOOD, tables: [table], changes: [change] })),
        { code: 'BATCH_INVALID' },
        `${type} ${String(value)}`,
      );
    }
  }
  t.throws(
    () =>
      decodeBatch(packed(JSON.stringify({ ...GOOD, changes: [] }).replace('"transactions":1', '"transactions":1e999'))),
    { code: 'BATCH_INVALID' },
  );
  t.end();
});

void t.test('rows, tables, columns and changes are capped', t => {
  const bytes = encodeBatch(GOOD);
  t.strictSame(decodeBatch(bytes, { maxRows: 2, maxTables: 1, maxColumns: 2, maxChanges: 1 }), GOOD);
  for (const limits of [{ maxRows: 1 }, { maxTables: 0 }, { maxColumns: 1 }, { maxChanges: 0 }]) {
    t.throws(() => decodeBatch(bytes, limits), { code: 'BATCH_INVALID' }, JSON.stringify(limits));
  }
  t.end();
});
