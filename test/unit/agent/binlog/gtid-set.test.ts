import fc from 'fast-check';
import t from 'tap';
import { MariadbGtidPosition, MysqlGtidSet } from '../../../../agent/binlog/gtid-set.ts';

const A = '3e11fa47-71ca-11e1-9e33-c80aa9429562';
const B = '4e11fa47-71ca-11e1-9e33-c80aa9429562';

void t.test('a set is printed as the server prints it, whatever it was written like', t => {
  t.equal(MysqlGtidSet.parse('').toString(), '');
  t.equal(MysqlGtidSet.parse(`${B}:1,\n${A.toUpperCase()}:7:1-3:4-5`).toString(), `${A}:1-5:7,${B}:1`);
  t.equal(MysqlGtidSet.parse(`${A}:tag_b:2:1-5,${A}:tag_a:9`).toString(), `${A}:tag_a:9:tag_b:1-5`);
  t.equal(MysqlGtidSet.parse(`${A}:1-5:tag_a:1-2`).toString(), `${A}:1-5:tag_a:1-2`);
  t.equal(MysqlGtidSet.parse(`${A}:5-3`).toString(), '');
  t.end();
});

void t.test('adding and removing single transactions keeps exactly the others', t => {
  const numbers = fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 1, max: 30 })), { maxLength: 60 });
  fc.assert(
    fc.property(numbers, steps => {
      const set = new MysqlGtidSet();
      const model = new Set<number>();
      for (const [add, number] of steps) {
        if (add) set.add(`${A}:${number}`);
        else set.remove(`${A}:${number}`);
        if (add) model.add(number);
        else model.delete(number);
      }
      for (let number = 1; number <= 31; number++) {
        if (set.contains(`${A}:${number}`) !== model.has(number)) return false;
      }
      const text = set.toString();
      const parts = [...model].sort((a, b) => a - b).map(number => `${A}:${number}`);
      return text === MysqlGtidSet.parse(parts.join(',')).toString() && MysqlGtidSet.parse(text).toString() === text;
    }),
    { numRuns: 300 },
  );
  t.end();
});

void t.test('a set includes another only where every transaction is there', t => {
  const set = MysqlGtidSet.parse(`${A}:1-10:20,${B}:tag:1-3`);
  t.ok(set.includes(MysqlGtidSet.parse(`${A}:2-9:20,${B}:tag:3`)));
  t.notOk(set.includes(MysqlGtidSet.parse(`${A}:9-11`)));
  t.notOk(set.includes(MysqlGtidSet.parse(`${B}:1`)));
  set.union(MysqlGtidSet.parse(`${A}:11-19,${B}:1`));
  t.equal(set.toString(), `${A}:1-20,${B}:1:tag:1-3`);
  t.end();
});

void t.test('what is no GTID is refused, as are numbers that would be rounded', t => {
  for (const text of ['x', A, `${A}:`, `${A}:0`, `${A}:1-2-3`, `${A}:9007199254740993`, 'abc:1', `${A}:1;`]) {
    t.throws(() => MysqlGtidSet.parse(text), { code: 'EVENT_MALFORMED' }, text);
  }
  t.throws(() => new MysqlGtidSet().add('nonsense:5'), { code: 'EVENT_MALFORMED' });
  t.throws(() => MariadbGtidPosition.parse('0-1'), { code: 'EVENT_MALFORMED' });
  t.end();
});

void t.test('a MariaDB position holds the last transaction of each domain', t => {
  const position = MariadbGtidPosition.parse('1-1-7, 0-1-5');
  position.add('0-2-6');
  t.equal(position.toString(), '0-2-6,1-1-7');
  t.ok(position.contains('0-1-6'));
  t.notOk(position.contains('0-1-7'));
  t.notOk(position.contains('3-1-1'));
  t.end();
});
