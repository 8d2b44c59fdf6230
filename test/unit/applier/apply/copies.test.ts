import t from 'tap';
import fc from 'fast-check';
import { CopiesBuilder, rewriteOf } from '../../../../applier/apply/copies.ts';
import type { CopiesChange } from '../../../../applier/apply/copies.ts';
import { mergeBodies } from '../../../../applier/apply/merge.ts';
import type { BatchBody, TableDescription, Value } from '../../../../shared/batch/batch.ts';
import { addCopies, countCopies, noCopyChange, removeCopies } from '../../../../shared/batch/copies.ts';
import type { CopyChange } from '../../../../shared/batch/copies.ts';

const SOURCE = { server: 'u', gtidSet: '', file: 'b', offset: 4, committedAt: null };
const TABLE: TableDescription = {
  schema: 's',
  name: 't',
  columns: [
    { name: 'a', type: 'varchar(5)' },
    { name: 'b', type: 'int' },
  ],
};

/** How many copies there are after a change. */
const copiesAfter = ({ exact, fall, rise }: Readonly<CopyChange>, present: number): number =>
  exact ?? Math.max(0, present - fall) + rise;

const step = fc.record({ op: fc.constantFrom('add', 'remove', 'count'), copies: fc.nat({ max: 5 }) });

/** The numbers that a row's copies bear, each with the batch that wrote it, as if each change were written by itself. */
function writeOne(stack: number[], { op, copies }: { op: string; copies: number }, batch: number): number[] {
  if (op === 'count') return Array<number>(copies).fill(batch);
  return op === 'add'
    ? [...stack, ...Array<number>(copies).fill(batch)]
    : stack.slice(0, Math.max(0, stack.length - copies));
}

void t.test('changes put together have the effect that they have one after the other, whatever was there', t => {
  fc.assert(
    fc.property(fc.array(step), fc.nat({ max: 6 }), (steps, present) => {
      const change = noCopyChange();
      let stack = Array<number>(present).fill(0);
      for (const each of steps) {
        if (each.op === 'add') addCopies(change, each.copies);
        else if (each.op === 'remove') removeCopies(change, each.copies);
        else countCopies(change, each.copies);
        stack = writeOne(stack, each, 1);
      }
      t.equal(copiesAfter(change, present), stack.length);
      // And which of them are new: a sweep tells them by that.
      const { keep, first, last } = rewriteOf(change, present === 0 ? null : { low: 1, high: present });
      const kept = Math.min(present, keep);
      const written = Array.from({ length: stack.length }, (_, i) => (i + 1 >= first && i + 1 <= last ? 1 : 0));
      t.strictSame(written, stack, `${kept} are kept`);
    }),
  );
  t.end();
});

void t.test('a sweep may leave the first numbers unused', t => {
  const change = { exact: null, fall: 2, rise: 1 };
  t.same(rewriteOf(change, { low: 4, high: 6 }), { keep: 4, first: 5, last: 5 });
  t.same(rewriteOf({ ...change, fall: 3 }, { low: 4, high: 6 }), { keep: 0, first: 1, last: 1 });
  t.same(rewriteOf({ ...change, exact: 2 }, { low: 4, high: 6 }), { keep: 2, first: 1, last: 2 });
  t.end();
});

const row = fc.tuple(fc.option(fc.constantFrom('', 'a', 'A', 'a ', 'b')), fc.option(fc.nat({ max: 2 })));
const change: fc.Arbitrary<CopiesChange> = fc
  .tuple(
    fc.constantFrom('add' as const, 'remove' as const, 'count' as const),
    fc.uniqueArray(row, { selector: each => JSON.stringify(each), maxLength: 6 }),
    fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 6, maxLength: 6 }),
  )
  .map(([op, rows, copies]) => ({
    op,
    table: 0,
    rows: rows.length,
    values: [rows.map(([a]) => a), rows.map(([, b]) => b)],
    copies: copies.slice(0, rows.length),
  }));

void t.test('neighbouring batches merged leave the same rows as one after the other', t => {
  fc.assert(
    fc.property(fc.array(fc.array(change, { maxLength: 3 }), { maxLength: 5 }), fc.array(row), (batches, before) => {
      const name = (values: readonly Value[]): string => JSON.stringify(values);
      const expected = new Map<string, number>();
      for (const each of before) expected.set(name(each), (expected.get(name(each)) ?? 0) + 1);
      const actual = new Map(expected);
      for (const { op, rows, values, copies } of batches.flat()) {
        for (let r = 0; r < rows; r += 1) {
          const id = name(values.map(column => column[r]!));
          const present = expected.get(id) ?? 0;
          const next = op === 'add' ? present + copies[r]! : op === 'remove' ? present - copies[r]! : copies[r]!;
          expected.set(id, Math.max(0, next));
        }
      }
      const bodies = batches.map((changes): BatchBody => ({
        v: 1,
        source: SOURCE,
        transactions: 1,
        part: null,
        tables: [TABLE],
        changes,
      }));
      for (const run of mergeBodies(bodies)) {
        for (let r = 0; r < run.copies.rows; r += 1) {
          const id = name(run.copies.columns.map(column => column[r]!));
          actual.set(id, copiesAfter(run.copies.changes[r]!, actual.get(id) ?? 0));
        }
      }
      const living = (map: Map<string, number>): string[] =>
        [...map]
          .filter(([, n]) => n > 0)
          .map(String)
          .sort();
      t.same(living(actual), living(expected));
    }),
  );
  t.end();
});

void t.test('a row’s name tells values apart, not the places of columns nor columns that are NULL', t => {
  const nameOf = (columns: Record<string, Value>): string => {
    const table = { ...TABLE, columns: Object.keys(columns).map(name => ({ name, type: 'text' })) };
    const builder = new CopiesBuilder(table);
    builder.add({ op: 'add', table: 0, rows: 1, values: Object.values(columns).map(value => [value]), copies: [1] });
    return builder.build().keys[0] ?? '';
  };
  const name = nameOf({ a: 'x', b: 'y' });
  t.equal(nameOf({ b: 'y', A: 'x' }), name);
  t.equal(nameOf({ a: 'x', added: null, b: 'y' }), name);
  for (const other of [
    { a: 'y', b: 'x' },
    { a: 'x', b: 'y ' },
    { a: 'X', b: 'y' },
    { a: 'x', c: 'y' },
    { a: 'x' },
    { a: 'xby' },
  ]) {
    t.not(nameOf(other), name, JSON.stringify(other));
  }
  t.not(nameOf({ n: 0 }), nameOf({ n: '-0' }), 'a negative zero is another value');
  t.not(nameOf({ a: '' }), nameOf({ a: null }));
  t.end();
});

void t.test('rows are written in the order of the index', t => {
  const builder = new CopiesBuilder(TABLE);
  builder.add({
    op: 'add',
    table: 0,
    rows: 3,
    values: [
      ['a', 'b', 'c'],
      [1, 2, 3],
    ],
    copies: [1, 1, 2],
  });
  const { keys, rows } = builder.build();
  t.equal(rows, 3);
  t.strictSame([...keys].sort(), keys);
  t.end();
});
