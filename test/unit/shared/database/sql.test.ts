import t from 'tap';
import fc from 'fast-check';
import { isName, quoteBytes, quoteName, quoteString, quoteTable } from '../../../../shared/database/sql.ts';
import { literalWriter } from '../../../../shared/batch/sql-literal.ts';
import { parseColumnType } from '../../../../shared/batch/column-type.ts';

/** Reads back what one backticked name holds; null if the text is not exactly one. */
function readName(text: string): string | null {
  const inner = /^`((?:[^`]|``)+)`$/.exec(text)?.[1];
  return inner === undefined ? null : inner.replaceAll('``', '`');
}

/** Reads back what one string literal holds, whatever a backslash means to the session; null if it is not exactly one. */
function readString(text: string): string | null {
  const hex = /^_utf8mb4 X'((?:[0-9a-f]{2})*)'$/.exec(text)?.[1];
  if (hex !== undefined) return Buffer.from(hex, 'hex').toString('utf8');
  const inner = /^'((?:[^'\\]|'')*)'$/.exec(text)?.[1];
  return inner === undefined ? null : inner.replaceAll("''", "'");
}

void t.test('a quoted name is one token that reads back as the name, dots and backticks included', t => {
  for (const name of ['a', 'a.b', 'a`b', '``', "it's", 'naïve 表', 'x'.repeat(64), 'select']) {
    t.equal(readName(quoteName(name)), name);
  }
  t.equal(quoteTable('s.1', 't`2'), '`s.1`.`t``2`');
  fc.assert(fc.property(fc.string({ unit: 'grapheme' }), name => !isName(name) || readName(quoteName(name)) === name));
  t.end();
});

void t.test('what MySQL does not take as a name is refused', t => {
  for (const name of ['', 'x'.repeat(65), 'a\0b', 'trailing ', '😀', '\ud800']) {
    t.throws(() => quoteName(name), { code: 'BATCH_INVALID' }, JSON.stringify(name));
  }
  t.end();
});

void t.test('a quoted string reads back the same whatever NO_BACKSLASH_ESCAPES is', t => {
  for (const text of ['', 'a', "it's", "\\'", '\\', '\0', '\n\r\t\x1a', '" OR 1=1 --', '😀']) {
    t.equal(readString(quoteString(text)), text);
  }
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), text => !text.isWellFormed() || readString(quoteString(text)) === text),
  );
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom("'", '\\', 'a', '\0')),
      p => readString(quoteString(p.join(''))) === p.join(''),
    ),
  );
  t.end();
});

void t.test('values become literals of their column type', t => {
  const literal = (value: string | number | null, type: string) => literalWriter(parseColumnType(type))(value);
  t.equal(literal(null, 'int'), 'NULL');
  t.equal(literal(-7, 'int'), '-7');
  t.equal(literal('18446744073709551615', 'bigint unsigned'), '18446744073709551615');
  t.equal(literal('-0.50', 'decimal(5,2)'), '-0.50');
  t.equal(literal(0.1, 'double'), '0.1e0');
  t.equal(literal('-0', 'double'), '-0e0');
  t.equal(literal(1e300, 'double'), '1e+300');
  t.equal(literal('2024-02-29 10:00:00.000001', 'datetime(6)'), "'2024-02-29 10:00:00.000001'");
  t.equal(literal('AP8=', 'varbinary(2)'), "X'00ff'");
  t.equal(literal('{"a":"\\n"}', 'json'), `_utf8mb4 X'${Buffer.from('{"a":"\\n"}').toString('hex')}'`);
  t.equal(quoteBytes(new Uint8Array([1, 255])), "X'01ff'");
  t.end();
});

void t.test('a FLOAT is written as the double that it widens to, within its range', t => {
  t.equal(literalWriter(parseColumnType('float'))(0.1), '0.10000000149011612e0');
  t.equal(literalWriter(parseColumnType('float'))(3.4028235e38), '3.4028234663852886e+38');
  t.end();
});

void t.test('a value of another kind never becomes SQL', t => {
  const hostile = '1; DROP TABLE x';
  for (const type of ['int', 'bit(8)', 'decimal(5,2)', 'float', 'double', 'date', 'datetime(0)', 'year']) {
    t.throws(() => literalWriter(parseColumnType(type))(hostile), { code: 'BATCH_INVALID' }, type);
  }
  for (const type of ['varchar(5)', 'json', 'blob']) {
    t.throws(() => literalWriter(parseColumnType(type))(5), { code: 'BATCH_INVALID' }, type);
  }
  t.throws(() => literalWriter(parseColumnType('double'))(Number.POSITIVE_INFINITY), { code: 'BATCH_INVALID' });
  t.end();
});
