import fc from 'fast-check';
import t from 'tap';
import { charsetOfCollation, textDecoder } from '../../../../agent/values/charsets.ts';
import { MalformedJson, jsonText } from '../../../../agent/values/json-binary.ts';
import { decimalText, shortestFloat } from '../../../../agent/values/number-text.ts';

void t.test('the shortest decimal of a float32 reads back as the same float32', t => {
  const bits = new Uint32Array(1);
  const single = new Float32Array(bits.buffer);
  fc.assert(
    fc.property(fc.nat({ max: 0xffffffff }), pattern => {
      bits[0] = pattern;
      const value = single[0]!;
      if (!Number.isFinite(value)) return true;
      const short = shortestFloat(value);
      // Never more digits than the nine that always suffice.
      return Math.fround(short) === value && Number(short.toPrecision(9)) === short;
    }),
    { numRuns: 5000 },
  );
  t.equal(shortestFloat(Math.fround(0.1)), 0.1);
  t.equal(shortestFloat(Math.fround(19.99)), 19.99);
  t.equal(shortestFloat(Math.fround(1e-45)), 1e-45);
  t.end();
});

void t.test('doubles in JSON look as the server prints them', t => {
  const printed: [number, string][] = [
    [1, '1.0'],
    [-0, '-0.0'],
    [1e14, '100000000000000.0'],
    [1e15, '1e15'],
    [123456789012345, '123456789012345.0'],
    [0.5, '0.5'],
    [1e-15, '0.000000000000001'],
    [1e-16, '1e-16'],
    [-1.5e300, '-1.5e300'],
  ];
  for (const [value, text] of printed) {
    const document = Buffer.from([0x0b, ...new Uint8Array(8)]);
    document.writeDoubleLE(value, 1);
    t.equal(jsonText(document), text);
  }
  t.end();
});

void t.test('damaged JSON is refused, not guessed', t => {
  t.equal(jsonText(Buffer.alloc(0)), 'null');
  for (const hex of ['63', '0d', '0c05616263', '0b0000', '0009', '020100ffff0500', '0201000800020400', '0f']) {
    t.throws(() => jsonText(Buffer.from(hex, 'hex')), MalformedJson, hex);
  }
  t.end();
});

void t.test('decimals keep their scale and sign', t => {
  // The manual's example: 1234567890.1234 as DECIMAL(14,4).
  t.equal(decimalText(Buffer.from('810dfb38d204d2', 'hex'), 0, 14, 4), '1234567890.1234');
  t.equal(decimalText(Buffer.from('7ef204c72dfb2d', 'hex'), 0, 14, 4), '-1234567890.1234');
  t.end();
});

void t.test('text is decoded exactly or refused', t => {
  const decode = (charset: Parameters<typeof textDecoder>[0], hex: string) => {
    const bytes = Buffer.from(hex, 'hex');
    return textDecoder(charset)(bytes, 0, bytes.length);
  };
  t.equal(decode('latin1', '80819fff41'), '\u20ac\u0081\u0178\u00ffA');
  t.equal(decode('utf8mb4', 'efbfbd'), '\ufffd');
  t.equal(decode('utf16', 'd83dde00'), '😀');
  for (const [charset, hex] of [
    ['utf8mb4', 'ff'],
    ['utf8mb4', `${'61'.repeat(40)}c3`],
    ['utf8mb3', 'eda080'],
    ['ascii', '80'],
    ['ucs2', 'd83d'],
    ['utf32', '00110000'],
    ['utf16', '00'],
  ] as const) {
    t.throws(() => decode(charset, hex), { name: 'UndecodableText' }, `${charset} ${hex}`);
  }
  t.end();
});

void t.test('collation ids are read in the flavour that they belong to', t => {
  t.equal(charsetOfCollation(255, false), 'utf8mb4');
  t.equal(charsetOfCollation(8, false), 'latin1');
  t.equal(charsetOfCollation(2304, true), 'utf8mb4');
  t.equal(charsetOfCollation(1070, true), 'utf8mb4');
  t.equal(charsetOfCollation(1070, false), null);
  t.equal(charsetOfCollation(1, false), null);
  t.end();
});
