import fc from 'fast-check';
import t from 'tap';
import { parseTable, splitNames, tableKey, tableOfKey, tableText } from '../../../shared/table-name.ts';

const name = fc.oneof(fc.stringMatching(/^[ab.`"\\*]{1,5}$/), fc.string({ minLength: 1, maxLength: 8 }));
const table = fc.record({ schema: name, name }, { noNullPrototype: true });

void t.test('two tables never have one text, nor one key', t => {
  fc.assert(
    fc.property(table, table, (a, b) => {
      const same = a.schema === b.schema && a.name === b.name;
      return (tableText(a) === tableText(b)) === same && (tableKey(a) === tableKey(b)) === same;
    }),
  );
  t.end();
});

void t.test('a text and a key give back the table', t => {
  fc.assert(
    fc.property(table, each => {
      t.strictSame(parseTable(tableText(each)), each);
      t.strictSame(tableOfKey(tableKey(each)), each);
    }),
  );
  t.end();
});

void t.test('a name stands in backquotes where it must, and may everywhere', t => {
  t.equal(tableText({ schema: 'shop', name: 'my orders' }), 'shop.my orders');
  t.equal(tableText({ schema: 'a.b', name: 'c' }), '`a.b`.c');
  t.equal(tableText({ schema: 'a', name: 'b.c' }), 'a.`b.c`');
  t.equal(tableText({ schema: 'a', name: 'b`c' }), 'a.`b``c`');
  t.strictSame(parseTable('`shop`.`orders`'), { schema: 'shop', name: 'orders' });
  t.end();
});

void t.test('what could be two tables is none', t => {
  for (const text of ['a.b.c', 'a', '', '.a', 'a.', 'a..b', '`a', '`a`b.c', '``.a', '`a.b`', 'a.b.'])
    t.equal(parseTable(text), null, text);
  t.strictSame(parseTable('a`b.c'), { schema: 'a`b', name: 'c' }, 'only at the beginning it quotes');
  t.strictSame(splitNames('a.`b.c`.d'), ['a', 'b.c', 'd']);
  t.end();
});
