import t from 'tap';
import fc from 'fast-check';
import { ChunkNotes } from '../../../../agent/snapshot/chunk-notes.ts';

const place = (offset: number) => ({ file: 'binlog.000001', offset });
const WINDOW = { from: place(100), to: place(200) };

const change = fc.record({
  key: fc.constantFrom('a', 'b', 'c'),
  copies: fc.integer({ min: -3, max: 3 }),
  start: fc.constantFrom(90, 99, 100, 150, 199, 200, 201, 300),
});

void t.test('what is read and what is noted since add up to what is there, or the moment is refused', t => {
  fc.assert(
    fc.property(fc.array(change), fc.nat({ max: 10 }), (changes, known) => {
      const inOrder = changes.toSorted((a, b) => a.start - b.start);
      const notes = new ChunkNotes(1_000);
      // The stream is past the window when it is settled; what comes later is noted afterwards.
      const before = inOrder.filter(({ start }, i) => start < 200 || i < known);
      for (const { key, copies, start } of before) notes.note(key, copies, place(start));
      const quiet = inOrder.every(({ start }) => start < 100 || start >= 200);
      t.equal(notes.settle(WINDOW), quiet);
      if (!quiet) return;
      for (const { key, copies, start } of inOrder.slice(before.length)) notes.note(key, copies, place(start));
      const sum = (key: string, from: number): number =>
        inOrder.reduce((total, each) => total + (each.key === key && each.start >= from ? each.copies : 0), 0);
      for (const key of ['a', 'b', 'c', 'never']) t.equal(notes.since(key), sum(key, 200));
    }),
  );
  t.end();
});

void t.test('a moment that is known exactly is refused by no group', t => {
  const notes = new ChunkNotes(10);
  notes.note('a', 1, place(199));
  notes.note('a', 1, place(200));
  t.ok(notes.settle({ from: place(200), to: place(200) }));
  t.equal(notes.since('a'), 1);
  t.end();
});

void t.test('places are told apart by their files first', t => {
  const notes = new ChunkNotes(10);
  notes.note('a', 1, { file: 'binlog.000002', offset: 4 });
  notes.note('b', 1, { file: 'binlog.000001', offset: 90 });
  t.ok(notes.settle(WINDOW));
  t.same([notes.since('a'), notes.since('b')], [1, 0]);
  t.end();
});

void t.test('more notes than may be kept make void what was read, before the moment is known and after', t => {
  const early = new ChunkNotes(2);
  for (const copies of [1, 1]) early.note('a', copies, place(300));
  t.notOk(early.overflown);
  early.note('a', 1, place(300));
  t.ok(early.overflown);
  t.notOk(early.settle(WINDOW), 'it is not known what the dropped ones were');

  const late = new ChunkNotes(2);
  t.ok(late.settle(WINDOW));
  for (let i = 0; i < 9; i += 1) late.note('a', 1, place(300));
  late.note('b', 1, place(300));
  t.notOk(late.overflown, 'rows count, not their changes');
  late.note('c', 1, place(300));
  t.ok(late.overflown);
  t.end();
});
