import t from 'tap';
import fc from 'fast-check';
import { mergeBodies } from '../../../../applier/apply/merge.ts';
import type { Run } from '../../../../applier/apply/merge.ts';
import { isVerifyMark } from '../../../../shared/batch/batch.ts';
import type { BatchBody, Change, TableDescription, Value } from '../../../../shared/batch/batch.ts';

const SOURCE = { server: 'u', gtidSet: '', file: 'b', offset: 4, committedAt: null };

/** Two versions of one table with a key of two columns, and another table. */
const TABLES: TableDescription[] = [
  {
    schema: 's',
    name: 'a',
    columns: [
      { name: 'v', type: 'int' },
      { name: 'k2', type: 'varchar(5)', key: 2 },
      { name: 'k1', type: 'int', key: 1 },
    ],
  },
  {
    schema: 's',
    name: 'a',
    columns: [
      { name: 'v', type: 'int' },
      { name: 'k2', type: 'varchar(5)', key: 2 },
      { name: 'k1', type: 'int', key: 1 },
      { name: 'w', type: 'int' },
    ],
  },
  {
    schema: 's',
    name: 'b',
    columns: [
      { name: 'k', type: 'double', key: 1 },
      { name: 'v', type: 'int' },
    ],
  },
];

const bodyOf = (changes: Change[]): BatchBody => ({
  v: 1,
  source: SOURCE,
  transactions: 1,
  part: null,
  tables: TABLES,
  changes,
});

/** A key with the separators, and the blanks at its end, that a careless name of it would mix up. */
const keyOf = (table: number): fc.Arbitrary<Value[]> =>
  table === 2
    ? fc.constantFrom<Value>(0, '-0', 1, 2.5).map(k => [k])
    : fc.tuple(fc.nat({ max: 12 }), fc.constantFrom('', ' ', '1', '1 ', '11', '2:', ':1'));

function columnsOf(rows: readonly (readonly Value[])[], width: number): Value[][] {
  return Array.from({ length: width }, (_, column) => rows.map(row => row[column] ?? null));
}

const rowOf = (table: number, key: readonly Value[], value: number): Value[] => {
  if (table === 2) return [key[0]!, value];
  const row = [value, key[1]!, key[0]!];
  return table === 1 ? [...row, value] : row;
};

const change: fc.Arbitrary<Change> = fc.constantFrom(0, 1, 2).chain(table =>
  fc.oneof(
    { weight: 1, arbitrary: fc.constant<Change>({ op: 'truncate', table }) },
    {
      weight: 4,
      arbitrary: fc
        .uniqueArray(keyOf(table), {
          selector: key => String(key.map(part => (part === '-0' ? 0 : part))),
          maxLength: 6,
        })
        .map((keys): Change => ({
          op: 'delete',
          table,
          rows: keys.length,
          keys: columnsOf(keys, table === 2 ? 1 : 2),
        })),
    },
    {
      weight: 8,
      arbitrary: fc
        .tuple(
          fc.uniqueArray(keyOf(table), {
            selector: key => String(key.map(part => (part === '-0' ? 0 : part))),
            maxLength: 6,
          }),
          fc.nat(),
        )
        .map(([keys, value]): Change => {
          const rows = keys.map((key, index) => rowOf(table, key, value + index));
          return { op: 'upsert', table, rows: rows.length, values: columnsOf(rows, TABLES[table]!.columns.length) };
        }),
    },
  ),
);

type State = Map<string, Map<string, string>>;

/** What a server would hold: rows by key, by table name. */
function applyChange(state: State, table: TableDescription, change: Change): void {
  if (change.op === 'snapshot-start' || change.op === 'snapshot-end' || isVerifyMark(change)) return;
  const rows = state.get(table.name) ?? new Map<string, string>();
  state.set(table.name, rows);
  if (change.op === 'truncate') {
    rows.clear();
    return;
  }
  const places = table.columns.flatMap((column, index) => (column.key === undefined ? [] : [[column.key, index]]));
  const key = places.sort((a, b) => a[0]! - b[0]!).map(place => place[1]!);
  const columns = change.op === 'delete' ? change.keys : key.map(index => change.values[index]!);
  for (let row = 0; row < change.rows; row += 1) {
    const name = JSON.stringify(columns.map(column => (column[row] === '-0' ? 0 : column[row])));
    if (change.op === 'delete') rows.delete(name);
    else rows.set(name, JSON.stringify(table.columns.map((c, index) => [c.name, change.values[index]![row]])));
  }
}

function applyRun(state: State, run: Run): void {
  if (run.truncate) applyChange(state, run.table, { op: 'truncate', table: 0 });
  const { deletes, upserts } = run;
  applyChange(state, run.table, { op: 'delete', table: 0, rows: deletes.rows, keys: deletes.columns });
  applyChange(state, run.table, { op: 'upsert', table: 0, rows: upserts.rows, values: upserts.columns });
}

const shown = (state: State): unknown =>
  [...state].map(([name, rows]) => [name, [...rows].sort()]).sort((a, b) => (String(a[0]) < String(b[0]) ? -1 : 1));

void t.test('merged batches have the effect of the batches one after the other', t => {
  fc.assert(
    fc.property(fc.array(fc.array(change, { maxLength: 4 }), { minLength: 1, maxLength: 6 }), groups => {
      const bodies = groups.map(bodyOf);
      const one: State = new Map();
      for (const body of bodies)
        for (const c of body.changes) applyChange(one, TABLES[('table' in c && c.table) || 0]!, c);
      const merged: State = new Map();
      for (const run of mergeBodies(bodies)) applyRun(merged, run);
      t.strictSame(shown(merged), shown(one));
    }),
    { numRuns: 500 },
  );
  t.end();
});

const upsert = (table: number, ...rows: Value[][]): BatchBody =>
  bodyOf([{ op: 'upsert', table, rows: rows.length, values: columnsOf(rows, TABLES[table]!.columns.length) }]);

void t.test('each key is written once, in key order, with its last value', t => {
  const [run, ...others] = mergeBodies([upsert(0, [1, 'b', 10], [2, 'a', 9]), upsert(0, [3, 'a', 10], [4, 'b', 10])]);
  t.same(others, []);
  t.strictSame(run?.upserts, {
    rows: 3,
    columns: [
      [2, 3, 4],
      ['a', 'a', 'b'],
      [9, 10, 10],
    ],
  });
  t.end();
});

void t.test('a truncate forgets what came before it, and stays', t => {
  const runs = mergeBodies([upsert(0, [1, 'b', 10]), bodyOf([{ op: 'truncate', table: 0 }])]);
  t.equal(runs.length, 1);
  t.match(runs[0], { truncate: true, upserts: { rows: 0 }, deletes: { rows: 0 } });
  t.end();
});

void t.test('a change of the definition is not crossed', t => {
  const runs = mergeBodies([upsert(0, [1, 'b', 10]), upsert(1, [1, 'b', 10, 7]), upsert(0, [2, 'b', 10])]);
  t.same(
    runs.map(run => run.table.columns.length),
    [3, 4, 3],
  );
  t.end();
});

void t.test('a batch alone and in order is taken as it is', t => {
  const body = upsert(2, [1, 1], [2, 2]);
  const [run] = mergeBodies([body]);
  const [first] = body.changes;
  t.equal(run?.upserts.columns, first?.op === 'upsert' ? first.values : null, 'nothing is copied');
  t.end();
});
