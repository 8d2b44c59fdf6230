import fc from 'fast-check';
import t from 'tap';
import { Batcher } from '../../../../agent/stream/batcher.ts';
import { keyIdOf } from '../../../../agent/stream/change-buffer.ts';
import type { BatchDraft } from '../../../../agent/stream/change-buffer.ts';
import type { Change, TableDescription, Value } from '../../../../shared/batch/batch.ts';

const TABLE: TableDescription = {
  schema: 'shop',
  name: 'sales',
  columns: [
    { name: 'region', type: 'varchar(10)', key: 2 },
    { name: 'id', type: 'int', key: 1 },
    { name: 'amount', type: 'int' },
  ],
};

/** The changes of a draft, read from what would be sent. */
function changesOf(draft: BatchDraft): Change[] {
  return draft.changes.map(change => {
    if (!('json' in change)) return change;
    const { op, table, rows, json } = change;
    const columns = json.map(bytes => JSON.parse(`[${Buffer.from(bytes).toString()}]`) as Value[]);
    for (const column of columns) if (column.length !== rows) throw new Error('a column is not as long as its rows');
    return op === 'delete' ? { op, table, rows, keys: columns } : { op, table, rows, values: columns };
  });
}

type Rows = Map<string, number>;
type Operation =
  | { readonly op: 'insert'; readonly id: number; readonly region: string; readonly amount: number }
  | { readonly op: 'delete'; readonly id: number; readonly region: string }
  | { readonly op: 'move'; readonly id: number; readonly region: string; readonly to: number; readonly amount: number }
  | { readonly op: 'truncate' };

const id = fc.integer({ min: 1, max: 4 });
/** Two of them differ by a blank at their end, which NO PAD collations tell apart. */
const region = fc.constantFrom('a', 'a ', 'b');
const amount = fc.integer({ min: 0, max: 99 });
const operation: fc.Arbitrary<Operation> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ op: fc.constant('insert' as const), id, region, amount }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('delete' as const), id, region }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('move' as const), id, region, to: id, amount }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('truncate' as const) }) },
);

const nameOf = (key: number, part: string): string => `${key}/${part}`;

/** What a table that holds these rows looks like after the operation. */
function run(rows: Rows, o: Operation): void {
  if (o.op === 'insert') rows.set(nameOf(o.id, o.region), o.amount);
  else if (o.op === 'delete') rows.delete(nameOf(o.id, o.region));
  else if (o.op === 'truncate') rows.clear();
  else if (rows.delete(nameOf(o.id, o.region))) rows.set(nameOf(o.to, o.region), o.amount);
}

/** What the head office does with a batch: in the order in which it stands there. */
function apply(rows: Rows, draft: BatchDraft): void {
  for (const change of changesOf(draft)) {
    if (change.op === 'truncate') rows.clear();
    else if (change.op === 'delete') {
      for (let r = 0; r < change.rows; r++) rows.delete(nameOf(Number(change.keys[0]![r]), String(change.keys[1]![r])));
    } else if (change.op === 'upsert') {
      const [regions, ids, amounts] = change.values;
      for (let r = 0; r < change.rows; r++) {
        rows.set(nameOf(Number(ids![r]), String(regions![r])), Number(amounts![r]));
      }
    }
  }
}

function feed(batcher: Batcher, before: Rows, o: Operation): void {
  if (o.op === 'truncate') {
    batcher.truncate(TABLE.schema, TABLE.name);
    return;
  }
  const buffer = batcher.table(TABLE);
  if (o.op === 'insert') buffer.insert(1, [[o.region], [o.id], [o.amount]]);
  else if (o.op === 'delete') buffer.delete(1, [[o.region], [o.id], []]);
  else if (before.has(nameOf(o.id, o.region))) {
    const old: Value[][] = [[o.region], [o.id], []];
    buffer.update(1, old, [[o.region], [o.to], [o.amount]]);
  }
  batcher.touched(buffer);
}

void t.test('whatever a branch does, its batches leave the head office with what the branch has', t => {
  fc.assert(
    fc.property(
      fc.array(fc.array(operation, { maxLength: 8 }), { maxLength: 12 }),
      fc.integer({ min: 1, max: 200 }),
      (transactions, targetBytes) => {
        const branch: Rows = new Map();
        const headOffice: Rows = new Map();
        let open: BatchDraft[] = [];
        const states: string[] = [''];
        const batcher = new Batcher({
          target: { bytes: targetBytes, rows: 1000 },
          now: () => 0,
          output: {
            append: draft => {
              const changes = changesOf(draft);
              const keys = changes.flatMap(change =>
                change.op === 'delete'
                  ? Array.from({ length: change.rows }, (_, r) => keyIdOf(change.keys, r))
                  : change.op === 'upsert'
                    ? Array.from({ length: change.rows }, (_, r) => keyIdOf([change.values[1]!, change.values[0]!], r))
                    : [],
              );
              if (new Set(keys).size !== keys.length) throw new Error('a key appears twice in a batch');
              open.push({ ...draft, changes });
              if (draft.part !== null && !draft.part.last) return;
              for (const each of open) apply(headOffice, each);
              open = [];
              // Only what the branch itself has been at the end of a transaction may be seen at the head office.
              if (!states.includes(show(headOffice))) throw new Error(`a state that never was: ${show(headOffice)}`);
            },
          },
        });
        for (const transaction of transactions) {
          batcher.begin();
          for (const o of transaction) {
            feed(batcher, branch, o);
            run(branch, o);
          }
          states.push(show(branch));
          batcher.end();
        }
        batcher.flush();
        return batcher.empty && open.length === 0 && show(branch) === show(headOffice);
      },
    ),
    { numRuns: 2000 },
  );
  t.end();
});

function show(rows: Rows): string {
  return [...rows]
    .map(([key, value]) => `${key}=${value}`)
    .sort()
    .join(' ');
}

void t.test('a transaction larger than a batch is cut into parts of which only the last says so', t => {
  const drafts: BatchDraft[] = [];
  const batcher = new Batcher({
    target: { bytes: 20, rows: 1000 },
    output: { append: draft => drafts.push(draft) },
    now: () => 0,
  });
  batcher.begin();
  for (let row = 0; row < 20; row++) feed(batcher, new Map(), { op: 'insert', id: row, region: 'a', amount: row });
  batcher.end();
  t.ok(drafts.length > 2);
  t.same(
    drafts.map(draft => draft.part),
    drafts.map((_, index) => ({ number: index + 1, last: index === drafts.length - 1 })),
  );
  t.equal(
    drafts.reduce((sum, draft) => sum + draft.rows, 0),
    20,
  );
  t.end();
});

void t.test('a changed definition of a table closes the batch that holds rows of the old one', t => {
  const drafts: BatchDraft[] = [];
  const batcher = new Batcher({
    target: { bytes: 1e6, rows: 1000 },
    output: { append: draft => drafts.push(draft) },
    now: () => 0,
  });
  batcher.begin();
  feed(batcher, new Map(), { op: 'insert', id: 1, region: 'a', amount: 1 });
  batcher.end();
  batcher.begin();
  const wider = batcher.table({ ...TABLE, columns: [...TABLE.columns, { name: 'note', type: 'text' }] });
  wider.insert(1, [['a'], [2], [2], ['new']]);
  batcher.touched(wider);
  batcher.end();
  batcher.flush();
  t.same(
    drafts.map(draft => draft.tables[0]!.columns.length),
    [3, 4],
  );
  t.end();
});

void t.test('a recorder hears every key that the stream emits, and only while it listens', t => {
  const batcher = new Batcher({
    target: { bytes: 1e6, rows: 1000 },
    output: { append: () => undefined },
    now: () => 0,
  });
  const heard: unknown[] = [];
  batcher.record(TABLE.schema, TABLE.name, key => heard.push(key));
  batcher.begin();
  feed(batcher, new Map(), { op: 'insert', id: 1, region: 'a', amount: 1 });
  feed(batcher, new Map(), { op: 'delete', id: 2, region: 'b' });
  batcher.record(TABLE.schema, TABLE.name, null);
  feed(batcher, new Map(), { op: 'insert', id: 3, region: 'a', amount: 1 });
  batcher.end();
  t.same(heard, [keyIdOf([[1], ['a']], 0), keyIdOf([[2], ['b']], 0)]);
  t.end();
});

await t.test('keys are one where they are equal byte for byte, and only there', test => {
  const keys: Value[] = ['', ' ', 'a', 'a ', 'A', '\u00e1', 'a\u0301', 'ab', '1', 1, '-0', 0];
  for (const id of [(key: Value) => keyIdOf([[key]], 0), (key: Value) => keyIdOf([[key], [7]], 0)]) {
    test.equal(new Set(keys.map(id)).size, keys.length);
    for (const key of keys) test.equal(id(key), id(key));
  }
  test.end();
});
