import t from 'tap';
import fc from 'fast-check';
import { KeylessBuffer, rowIdOf } from '../../../../agent/stream/keyless-buffer.ts';
import type { TableDescription, Value } from '../../../../shared/batch/batch.ts';
import { LongText } from '../../../../shared/batch/long-value.ts';

type Row = readonly Value[];

const TABLE: TableDescription = {
  schema: 's',
  name: 't',
  columns: [
    { name: 'a', type: 'varchar(100)' },
    { name: 'b', type: 'int' },
  ],
};

const row: fc.Arbitrary<Row> = fc.tuple(fc.constantFrom(null, 'a', 'A', 'a '), fc.constantFrom(null, 0, 1));
const step = fc.oneof(
  fc.record({ do: fc.constant('insert' as const), rows: fc.array(row, { minLength: 1, maxLength: 3 }) }),
  fc.record({ do: fc.constant('delete' as const), rows: fc.array(row, { minLength: 1, maxLength: 3 }) }),
  fc.record({
    do: fc.constant('update' as const),
    rows: fc.array(row, { minLength: 1, maxLength: 1 }),
    after: fc.array(row, { minLength: 1, maxLength: 1 }),
  }),
);
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;

const columnsOf = (rows: readonly Row[]): Value[][] => TABLE.columns.map((_, c) => rows.map(each => each[c] ?? null));

function give(buffer: KeylessBuffer, change: Step): void {
  const columns = columnsOf(change.rows);
  if (change.do === 'insert') buffer.insert(change.rows.length, columns);
  else if (change.do === 'delete') buffer.delete(change.rows.length, columns);
  else buffer.update(change.rows.length, columns, columnsOf(change.after));
}

/** How many copies of each row there are: a table that was never written to by way of batches. */
class Copies {
  readonly counts = new Map<string, number>();

  add(one: Row, copies: number): void {
    const key = JSON.stringify(one);
    this.counts.set(key, Math.max(0, (this.counts.get(key) ?? 0) + copies));
  }

  do(change: Step): void {
    if (change.do === 'update' && JSON.stringify(change.rows) === JSON.stringify(change.after)) return;
    for (const one of change.rows) this.add(one, change.do === 'insert' ? 1 : -1);
    if (change.do === 'update') for (const one of change.after) this.add(one, 1);
  }

  /** As the head office does it: first what falls, then what rises. */
  apply(buffer: KeylessBuffer): void {
    for (const change of buffer.changes(0)) {
      if (change.op !== 'add' && change.op !== 'remove') throw new Error(`a table without a key has no ${change.op}`);
      for (let r = 0; r < change.rows; r += 1) {
        const copies = change.copies[r] ?? 0;
        this.add(
          change.values.map(column => column[r] ?? null),
          change.op === 'add' ? copies : -copies,
        );
      }
    }
  }

  get present(): [string, number][] {
    return [...this.counts].filter(([, copies]) => copies > 0).sort(([a], [b]) => (a < b ? -1 : 1));
  }
}

void t.test('a batch does to the copies of each row what the statements did, one after the other', t => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(row, fc.nat({ max: 3 }))),
      fc.array(step),
      fc.nat({ max: 8 }),
      (there, steps, half) => {
        const [atOnce, inTwo, handedOn] = [new Copies(), new Copies(), new Copies()];
        const expected = new Copies();
        for (const [one, copies] of there)
          for (const each of [atOnce, inTwo, handedOn, expected]) each.add(one, copies);
        for (const each of steps) expected.do(each);

        const buffer = new KeylessBuffer(TABLE);
        for (const each of steps) give(buffer, each);
        atOnce.apply(buffer);
        t.same(atOnce.present, expected.present);

        // What an XA transaction has held is taken on by the batch that is open at its commit.
        const taken = new KeylessBuffer(TABLE);
        for (const each of steps.slice(0, half)) give(taken, each);
        const held = new KeylessBuffer(TABLE);
        for (const each of steps.slice(half)) give(held, each);
        for (const change of held.changes(0)) taken.take(change);
        handedOn.apply(taken);
        t.same(handedOn.present, expected.present);

        const first = new KeylessBuffer(TABLE);
        for (const each of steps.slice(0, half)) give(first, each);
        inTwo.apply(first);
        first.clear();
        t.same(first.changes(0), [], 'a cleared one is empty');
        t.same([first.rows, first.bytes], [0, 0]);
        for (const each of steps.slice(half)) give(first, each);
        inTwo.apply(first);
        t.same(inTwo.present, expected.present);
      },
    ),
  );
  t.end();
});

void t.test('each row stands once in a change, with its number, and weighs as much as all its copies', t => {
  const buffer = new KeylessBuffer(TABLE);
  buffer.insert(
    3,
    columnsOf([
      ['a', 1],
      ['a', 1],
      ['b', 1],
    ]),
  );
  const weight = buffer.bytes;
  buffer.insert(
    3,
    columnsOf([
      ['a', 1],
      ['a', 1],
      ['b', 1],
    ]),
  );
  t.equal(buffer.rows, 6);
  t.equal(buffer.bytes, 2 * weight);
  buffer.delete(1, columnsOf([['b', 1]]));
  buffer.delete(
    2,
    columnsOf([
      ['c', null],
      ['c', null],
    ]),
  );
  t.same(buffer.changes(7), [
    { op: 'remove', table: 7, rows: 1, values: [['c'], [null]], copies: [2] },
    {
      op: 'add',
      table: 7,
      rows: 2,
      values: [
        ['a', 'b'],
        [1, 1],
      ],
      copies: [4, 1],
    },
  ]);
  t.end();
});

void t.test('an update that changes nothing of a row is nothing', t => {
  const buffer = new KeylessBuffer(TABLE);
  buffer.recorder = () => t.fail('nothing has changed');
  buffer.update(1, columnsOf([['a', 1]]), columnsOf([['a', 1]]));
  t.same([buffer.rows, buffer.changes(0)], [0, []]);
  t.end();
});

void t.test('who records is told of every copy that comes or goes, a cleared batch or not', t => {
  const buffer = new KeylessBuffer(TABLE);
  const told = new Map<unknown, number>();
  buffer.recorder = (id, copies) => told.set(id, (told.get(id) ?? 0) + copies);
  buffer.insert(
    2,
    columnsOf([
      ['a', 1],
      ['a', 1],
    ]),
  );
  buffer.clear();
  buffer.delete(1, columnsOf([['a', 1]]));
  buffer.update(1, columnsOf([['a', 1]]), columnsOf([['b', 1]]));
  buffer.take({ op: 'add', table: 0, rows: 1, values: [['b'], [1]], copies: [5] });
  t.same(
    [...told],
    [
      [rowIdOf([['a'], [1]], 0), 0],
      [rowIdOf([['b'], [1]], 0), 6],
    ],
  );
  t.end();
});

void t.test('two rows have one name exactly where all their columns are equal, however long they are', t => {
  const long = 'x'.repeat(1_000);
  const rows: Row[] = [
    ['a', 'bc'],
    ['ab', 'c'],
    ['a', null],
    ['a', 'null'],
    [null, 'a'],
    ['1', 'a'],
    [1, 'a'],
    ['-0', 'a'],
    [0, 'a'],
    ['a', ''],
    ['', 'a'],
    ['as:b', 'c'],
    ['a', 'bs:c'],
    ['n1;', 'a'],
    [`${long}a`, 1],
    [`${long}b`, 1],
    [long, 'a1'],
  ];
  const names = rows.map(each =>
    rowIdOf(
      each.map(value => [value]),
      0,
    ),
  );
  t.equal(new Set(names).size, rows.length);
  t.ok(
    names.every(name => String(name).length <= 64),
    'and what is kept of them is short',
  );
  t.end();
});

void t.test('a value that is not copied whole names its row as its text would', t => {
  const text = 'y'.repeat(3_000);
  const whole = rowIdOf([[text], [1]], 0);
  t.equal(rowIdOf([[new LongText(Buffer.from(text))], [1]], 0), whole);
  t.end();
});
