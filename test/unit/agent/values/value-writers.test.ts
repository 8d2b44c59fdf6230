/** The straight way of a value into JSON against the way by a JavaScript value: both must say the same of any bytes. */
import fc from 'fast-check';
import t from 'tap';
import type { ColumnLayout } from '../../../../agent/values/column-layout.ts';
import { JsonColumn, JsonColumns } from '../../../../agent/values/json-columns.ts';
import { decimalSize } from '../../../../agent/values/number-text.ts';
import { fractionBytes } from '../../../../agent/values/temporal.ts';
import { TYPE } from '../../../../agent/values/type-codes.ts';
import { decoderOf } from '../../../../agent/values/value-decoders.ts';
import { writerOf } from '../../../../agent/values/value-writers.ts';
import type { Value } from '../../../../shared/batch/batch.ts';

const PLAIN = { charset: 'binary', unsigned: false, members: [], dimensions: 0 } as const;

function layout(code: number, meta: number, more: Partial<ColumnLayout> = {}): ColumnLayout {
  return { ...PLAIN, code, meta, ...more };
}

function bigEndian(value: bigint, width: number): Buffer {
  return Buffer.from(value.toString(16).padStart(width * 2, '0'), 'hex');
}

function prefixed(width: number, content: Uint8Array): Buffer {
  const length = Buffer.alloc(width);
  length.writeUIntLE(content.length, 0, width);
  return Buffer.concat([length, content]);
}

/** A packed DECIMAL of random digits. */
function decimals(precision: number, scale: number): fc.Arbitrary<Buffer> {
  const group = (digits: number): fc.Arbitrary<Buffer> =>
    fc
      .oneof(fc.constant(0), fc.constant(10 ** digits - 1), fc.nat({ max: 10 ** digits - 1 }))
      .map(value => bigEndian(BigInt(value), decimalSize(digits, 0)));
  const whole = precision - scale;
  const groups = [
    ...(whole % 9 > 0 ? [whole % 9] : []),
    ...Array.from({ length: Math.floor(whole / 9) }, () => 9),
    ...Array.from({ length: Math.floor(scale / 9) }, () => 9),
    ...(scale % 9 > 0 ? [scale % 9] : []),
  ];
  return fc.tuple(fc.boolean(), ...groups.map(group)).map(([negative, ...parts]) => {
    const bytes = Buffer.concat(parts);
    if (negative) bytes.forEach((byte, i) => (bytes[i] = byte ^ 0xff));
    bytes[0]! ^= 0x80;
    return bytes;
  });
}

const fraction = (digits: number): fc.Arbitrary<Buffer> =>
  fc
    .nat({ max: 10 ** digits - 1 })
    .map(value => bigEndian(BigInt((digits & 1) === 1 ? value * 10 : value), fractionBytes(digits)))
    .map(bytes => (digits === 0 ? Buffer.alloc(0) : bytes));

/** Year, month, day, hour, minute, second as stored: zero parts and days that no calendar has are among them. */
const moment = fc.tuple(
  fc.nat({ max: 9999 }),
  fc.nat({ max: 12 }),
  fc.nat({ max: 31 }),
  fc.nat({ max: 23 }),
  fc.nat({ max: 59 }),
  fc.nat({ max: 59 }),
);
const datetime = moment.map(([year, month, day, hour, minute, second]) =>
  bigEndian(
    (1n << 39n) | (BigInt(year * 13 + month) << 22n) | BigInt((day << 17) | (hour << 12) | (minute << 6) | second),
    5,
  ),
);
const date = moment.map(([year, month, day]) => {
  const bytes = Buffer.alloc(3);
  bytes.writeUIntLE((year << 9) | (month << 5) | day, 0, 3);
  return bytes;
});
const some = (width: number): fc.Arbitrary<Buffer> =>
  fc.uint8Array({ minLength: width, maxLength: width }).map(bytes => Buffer.from(bytes));
const texts = fc.oneof(
  fc.string({ maxLength: 80 }),
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.constantFrom('', '"', '\\', 'a\nb', '\u007f', 'Größe „M“', '\ufffd', 'x'.repeat(200)),
);

const CASES: readonly (readonly [string, ColumnLayout, fc.Arbitrary<Buffer>])[] = [
  ['tinyint', layout(TYPE.tiny, 0), some(1)],
  ['smallint unsigned', layout(TYPE.short, 0, { unsigned: true }), some(2)],
  ['mediumint', layout(TYPE.int24, 0), some(3)],
  ['int unsigned', layout(TYPE.long, 0, { unsigned: true }), some(4)],
  ['bigint', layout(TYPE.longlong, 0), some(8)],
  ['bigint of few bits', layout(TYPE.longlong, 0), some(4).map(low => Buffer.concat([low, Buffer.alloc(4)]))],
  ['bigint unsigned', layout(TYPE.longlong, 0, { unsigned: true }), some(8)],
  ['bit(64)', layout(TYPE.bit, 64), some(8)],
  ['year', layout(TYPE.year, 0), some(1)],
  ['double', layout(TYPE.double, 8), fc.double({ noNaN: true, noDefaultInfinity: true }).map(doubleBytes)],
  ['float', layout(TYPE.float, 4), fc.float({ noNaN: true, noDefaultInfinity: true }).map(floatBytes)],
  ...(
    [
      [10, 2],
      [12, 0],
      [9, 9],
      [18, 9],
      [5, 4],
      [65, 30],
      [30, 0],
    ] as const
  ).map(
    ([precision, scale]) =>
      [
        `decimal(${precision},${scale})`,
        layout(TYPE.decimal, precision * 256 + scale),
        decimals(precision, scale),
      ] as const,
  ),
  ['date', layout(TYPE.date, 0), date],
  ...[0, 1, 2, 3, 4, 5, 6].flatMap(digits => {
    const withFraction = (whole: fc.Arbitrary<Buffer>): fc.Arbitrary<Buffer> =>
      fc.tuple(whole, fraction(digits)).map(parts => Buffer.concat(parts));
    return [
      [`datetime(${digits})`, layout(TYPE.datetime2, digits), withFraction(datetime)],
      [
        `timestamp(${digits})`,
        layout(TYPE.timestamp2, digits),
        withFraction(fc.oneof(fc.constant(Buffer.alloc(4)), some(4))),
      ],
    ] as const;
  }),
  ['time', layout(TYPE.time2, 0), fc.nat({ max: 838 * 4096 }).map(v => bigEndian(BigInt(0x800000 + v), 3))],
  ['varchar in utf8mb4', layout(TYPE.varchar, 80, { charset: 'utf8mb4' }), texts.map(s => short(s, 'utf8'))],
  ['varchar in latin1', layout(TYPE.varchar, 200, { charset: 'latin1' }), texts.map(s => short(s, 'latin1'))],
  [
    'char in ascii',
    layout(TYPE.string, 100, { charset: 'ascii' }),
    fc.string({ maxLength: 100 }).map(s => short(s, 'latin1')),
  ],
  ['a long varchar', layout(TYPE.varchar, 4000, { charset: 'utf8mb4' }), texts.map(s => prefixed(2, Buffer.from(s)))],
  ['mediumtext', layout(TYPE.blob, 3, { charset: 'utf8mb3' }), texts.map(s => prefixed(3, Buffer.from(s)))],
  [
    'text in utf16',
    layout(TYPE.blob, 2, { charset: 'utf16le' }),
    texts.map(s => prefixed(2, Buffer.from(s, 'utf16le'))),
  ],
  ['varbinary', layout(TYPE.varchar, 60), some(17).map(b => prefixed(1, b))],
  ['binary, its zeros stripped', layout(TYPE.string, 20), some(17).map(b => prefixed(1, b))],
  ['blob', layout(TYPE.blob, 4), some(33).map(b => prefixed(4, b))],
  ['enum', layout(TYPE.enum, 1, { members: ['a', 'quote"', 'ä'] }), fc.nat({ max: 3 }).map(i => Buffer.from([i]))],
  ['set', layout(TYPE.set, 1, { members: ['a', 'b"', 'c'] }), fc.nat({ max: 7 }).map(i => Buffer.from([i]))],
];

function doubleBytes(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value);
  return bytes;
}

function floatBytes(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return bytes;
}

/** With a length of one byte before it, cut so that it fits. */
function short(text: string, encoding: 'utf8' | 'latin1'): Buffer {
  const content = Buffer.from(Array.from(text).slice(0, 60).join(''), encoding);
  return prefixed(1, content);
}

function valuesIn(column: JsonColumn): Value[] {
  return JSON.parse(`[${column.bytes.toString('utf8', 0, column.end - 1)}]`) as Value[];
}

void t.test('a value written straight to JSON is the value that its decoder returns', t => {
  for (const [name, column, bytes] of CASES) {
    const cursor = { at: 0 };
    const decode = decoderOf(column, cursor);
    const write = writerOf(column, cursor);
    fc.assert(
      fc.property(fc.array(bytes, { minLength: 1, maxLength: 5 }), values => {
        const image = Buffer.concat(values);
        cursor.at = 0;
        const decoded = values.map(() => decode(image));
        if (cursor.at !== image.length) throw new Error(`${name}: the decoder ends at ${cursor.at}`);
        const into = new JsonColumn();
        cursor.at = 0;
        values.forEach(() => write(image, into));
        if (cursor.at !== image.length) throw new Error(`${name}: the writer ends at ${cursor.at}`);
        const written = valuesIn(into);
        if (JSON.stringify(written) !== JSON.stringify(decoded) || written.some((v, i) => !Object.is(v, decoded[i]))) {
          throw new Error(`${name}: ${JSON.stringify(written)} instead of ${JSON.stringify(decoded)}`);
        }
        into.clear();
        return true;
      }),
      { numRuns: 300 },
    );
  }
  t.pass(`${CASES.length} types`);
  t.end();
});

void t.test('columns hold any values as JSON.stringify would write them, and lose the rows that are dropped', t => {
  const value: fc.Arbitrary<Value> = fc.oneof(
    fc.constant(null),
    fc.maxSafeInteger(),
    fc.double({ noNaN: true, noDefaultInfinity: true }).map(v => (Object.is(v, -0) ? 0 : v)),
    texts,
    fc.string({ maxLength: 20 }).map(s => s.repeat(300)),
  );
  fc.assert(
    fc.property(fc.array(fc.tuple(value, value, fc.boolean()), { maxLength: 40 }), rows => {
      const columns = new JsonColumns(2);
      columns.append(rows.length, [rows.map(([a]) => a), rows.map(([, b]) => b)]);
      const dropped = new Set(rows.flatMap(([, , drop], index) => (drop ? [index] : [])));
      const left = columns.without(dropped);
      const expected = rows.filter(([, , drop]) => !drop);
      const read = left.json.map(bytes => JSON.parse(`[${bytes.toString()}]`) as Value[]);
      columns.clear();
      t.strictSame(read, [expected.map(([a]) => a), expected.map(([, b]) => b)]);
      return left.rows === expected.length;
    }),
    { numRuns: 300 },
  );
  t.throws(() => new JsonColumn().put(Infinity), RangeError, 'what JSON would turn into null is refused');
  t.end();
});

void t.test('what was written after a mark can be taken back, and texts that are not UTF-8 are noticed', t => {
  const columns = new JsonColumns(1);
  const cursor = { at: 0 };
  const write = writerOf(layout(TYPE.varchar, 10, { charset: 'utf8mb4' }), cursor);
  const put = (hex: string): void => {
    cursor.at = 0;
    write(prefixed(1, Buffer.from(hex, 'hex')), columns.columns[0]!);
  };
  columns.begin();
  put('c3a4');
  t.ok(columns.check());
  columns.keep(1);
  columns.begin();
  put('61');
  put('c3');
  t.notOk(columns.check(), 'a character cut off, though what follows is not its rest');
  columns.undo();
  columns.begin();
  put('62');
  t.ok(columns.check());
  columns.keep(1);
  t.strictSame(
    columns.without(new Set()).json.map(bytes => bytes.toString()),
    ['"ä","b"'],
  );
  t.end();
});
