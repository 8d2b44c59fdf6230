import t from 'tap';
import { applyJsonDiffs } from '../../../../agent/values/json-diff.ts';

/** Binary JSON of small things. */
const number = (value: number): Buffer => Buffer.from([5, value & 255, value >> 8]);
const text = (value: string): Buffer =>
  Buffer.concat([Buffer.from([12, Buffer.byteLength(value)]), Buffer.from(value)]);

/** A small object of 16-bit numbers. */
function object(members: Record<string, number>): Buffer {
  const entries = Object.entries(members);
  const keys = Buffer.concat(entries.map(([key]) => Buffer.from(key)));
  const head = 4 + entries.length * 7;
  const bytes = Buffer.alloc(head);
  bytes.writeUInt16LE(entries.length, 0);
  bytes.writeUInt16LE(head + keys.length, 2);
  let at = head;
  entries.forEach(([key, value], i) => {
    bytes.writeUInt16LE(at, 4 + i * 4);
    bytes.writeUInt16LE(Buffer.byteLength(key), 6 + i * 4);
    bytes.writeUInt8(5, 4 + entries.length * 4 + i * 3);
    bytes.writeInt16LE(value, 5 + entries.length * 4 + i * 3);
    at += Buffer.byteLength(key);
  });
  return Buffer.concat([Buffer.from([0]), bytes, keys]);
}

/** A small array of 16-bit numbers. */
function array(...items: number[]): Buffer {
  const bytes = Buffer.alloc(4 + items.length * 3);
  bytes.writeUInt16LE(items.length, 0);
  bytes.writeUInt16LE(bytes.length, 2);
  items.forEach((item, i) => {
    bytes.writeUInt8(5, 4 + i * 3);
    bytes.writeInt16LE(item, 5 + i * 3);
  });
  return Buffer.concat([Buffer.from([2]), bytes]);
}

function diff(operation: number, path: string, value: Buffer | null = null): Buffer {
  const head = Buffer.concat([Buffer.from([operation, Buffer.byteLength(path)]), Buffer.from(path)]);
  return value === null ? head : Buffer.concat([head, Buffer.from([value.length]), value]);
}

const REPLACE = 0;
const INSERT = 1;
const REMOVE = 2;

void t.test('changes are applied in order, each to the document as it is by then', t => {
  const diffs = Buffer.concat([
    diff(REPLACE, '.a', number(10)),
    diff(INSERT, '.fresh', text('it "is"')),
    diff(REMOVE, '.b'),
    diff(REPLACE, '.fresh', array(1, 2)),
    diff(INSERT, '.fresh[1]', number(7)),
    diff(REMOVE, '.fresh[0]'),
  ]);
  t.equal(applyJsonDiffs(object({ a: 1, b: 2 }), diffs), '{"a": 10, "fresh": [7, 2]}');
  t.equal(applyJsonDiffs(object({ a: 1 }), Buffer.alloc(0)), '{"a": 1}', 'none at all');
  t.end();
});

void t.test('a member’s name may hold whatever JSON allows', t => {
  const before = object({ 'q"': 1, é: 2, '': 3, '$.x[0]': 4, __proto: 5 });
  const diffs = Buffer.concat([
    diff(REPLACE, '."q\\""', number(10)),
    diff(REPLACE, '.é', number(20)),
    diff(REPLACE, '.""', number(30)),
    diff(REPLACE, '$."$.x[0]"', number(40)),
    diff(INSERT, '.__proto__', number(50)),
  ]);
  t.equal(applyJsonDiffs(before, diffs), '{"": 30, "q\\"": 10, "é": 20, "$.x[0]": 40, "__proto": 5, "__proto__": 50}');
  t.end();
});

void t.test('a change whose place is not there is an error, never skipped', t => {
  for (const wrong of [
    diff(REPLACE, '.nowhere', number(1)),
    diff(REMOVE, '.nowhere'),
    diff(REPLACE, '.a.b', number(1)),
    diff(INSERT, '.a[3]', number(1)),
    diff(REPLACE, '.a[last-1]', number(1)),
    diff(REPLACE, '.a[1]', number(1)),
    diff(REMOVE, '[last]'),
    diff(REPLACE, '.a[*]', number(1)),
    diff(9, '.a', number(1)),
    diff(REMOVE, ''),
  ]) {
    t.throws(() => applyJsonDiffs(object({ a: 1 }), wrong), { name: 'MalformedJson' });
  }
  t.end();
});

void t.test('places count from the end, and a value that is no array is one of itself', t => {
  const before = array(1, 2, 3);
  t.equal(applyJsonDiffs(before, diff(REPLACE, '[last]', number(9))), '[1, 2, 9]');
  t.equal(applyJsonDiffs(before, diff(REPLACE, '[last-2]', number(9))), '[9, 2, 3]');
  t.equal(applyJsonDiffs(before, diff(REMOVE, '[last-1]')), '[1, 3]');
  t.equal(applyJsonDiffs(before, diff(INSERT, '[last]', number(9))), '[1, 2, 9, 3]');
  t.equal(applyJsonDiffs(before, diff(INSERT, '[last-9]', number(9))), '[9, 1, 2, 3]', 'beyond the front');
  t.equal(applyJsonDiffs(before, diff(INSERT, '[9]', number(9))), '[1, 2, 3, 9]', 'beyond the end');
  t.equal(applyJsonDiffs(object({ a: 1 }), diff(REPLACE, '.a[0]', number(9))), '{"a": 9}');
  t.equal(applyJsonDiffs(object({ a: 1 }), diff(REPLACE, '[last].a[last]', number(9))), '{"a": 9}');
  t.equal(applyJsonDiffs(object({ a: 1, b: 2 }), diff(REMOVE, '[0].a[last][0]')), '{"b": 2}');
  t.throws(() => applyJsonDiffs(before, diff(REPLACE, '[last-3]', number(9))), { name: 'MalformedJson' });
  t.end();
});

void t.test('members stand in the server’s order, whatever was added', t => {
  const diffs = Buffer.concat([
    diff(INSERT, '.bb', number(3)),
    diff(INSERT, '.é', number(4)),
    diff(INSERT, '.a', number(5)),
  ]);
  t.equal(applyJsonDiffs(object({ z: 1 }), diffs), '{"a": 5, "z": 1, "bb": 3, "é": 4}');
  t.end();
});
