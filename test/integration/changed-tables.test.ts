/** Somebody changes tables of the head office under a running applier: no row is written by what they were before. */
import t from 'tap';
import type { Test } from 'tap';
import type { Change, TableDescription, Value } from '../../shared/batch/batch.ts';
import type { HandMadeBranch } from '../support/hand-made/branch.ts';
import { marker } from '../support/hand-made/branch.ts';
import { HeadOffice } from '../support/world/head-office.ts';

const office = await HeadOffice.open();
t.teardown(() => office.close());
await office.fleet();

let tables = 0;

/** A branch that has been copied as a whole. */
async function joined(name: string): Promise<HandMadeBranch> {
  const b = await office.branch(name);
  await b.hello();
  await b.send(b.make([marker('snapshot-start', 'first', { whole: true })]));
  const end = b.make([marker('snapshot-end', 'first', { whole: true })]);
  await b.send(end);
  await office.applied(name, end.header.seq);
  return b;
}

/** A table of its own for each test. */
function table(columns: Record<string, string>): TableDescription {
  tables += 1;
  const types = Object.entries(columns);
  const described = types.map(([name, type], index) => (index === 0 ? { name, type, key: 1 } : { name, type }));
  return { schema: 'shop', name: `t${tables}`, columns: described };
}

function rowsOf(...rows: readonly (readonly Value[])[]): Change {
  const values = rows[0]!.map((_, column) => rows.map(row => row[column]!));
  return { op: 'upsert', table: 0, rows: rows.length, values };
}

async function send(b: HandMadeBranch, described: TableDescription, ...changes: Change[]): Promise<number> {
  const batch = b.make(changes, { tables: [described] });
  await b.send(batch);
  return batch.header.seq;
}

async function write(b: HandMadeBranch, described: TableDescription, ...rows: (readonly Value[])[]): Promise<void> {
  await office.applied(b.branch, await send(b, described, rowsOf(...rows)));
}

async function stored({ name, columns }: TableDescription): Promise<unknown[]> {
  const list = columns.map(column => `CAST(\`${column.name}\` AS CHAR) AS \`${column.name}\``).join(', ');
  const rows = await office.query(
    `SELECT _branch AS b, ${list} FROM ${name} ORDER BY _branch, \`${columns[0]!.name}\``,
  );
  return rows.map(row => Object.values(row).map(String));
}

/** Sends a row that cannot be taken; follows the cure of the halt; looks whether the row came. */
async function haltsUntilCured(
  t: Test,
  b: HandMadeBranch,
  described: TableDescription,
  row: readonly Value[],
  expected: { readonly says: RegExp; readonly cure: RegExp },
): Promise<void> {
  const seq = await send(b, described, rowsOf(row));
  const { halt } = await office.until(b.branch, ({ halt }) => halt !== null, `a halt of ${b.branch}`);
  t.match(halt, { code: 'TARGET_SCHEMA', reason: expected.says, seq });
  const [statement = ''] = expected.cure.exec(halt?.reason ?? '') ?? [];
  t.not(statement, '', `the hint names the cure: ${halt?.reason}`);
  await office.query(statement);
  await office.registry.retry(b.branch);
  await office.applied(b.branch, seq);
}

/** A snapshot that serves what the branch is asked for. */
async function copy(b: HandMadeBranch, described: TableDescription, ...rows: (readonly Value[])[]): Promise<void> {
  const { requests } = await office.registry.show(b.branch);
  const ids = requests.map(({ id }) => id);
  const snapshot = `copy ${b.batches.length}`;
  await send(b, described, marker('snapshot-start', snapshot, { requests: ids }));
  await send(b, described, rowsOf(...rows));
  await office.applied(b.branch, await send(b, described, marker('snapshot-end', snapshot, { requests: ids })));
}

await t.test('a unique index, added: the row of another branch stays', async t => {
  const [a, b] = [await joined('unique-a'), await joined('unique-b')];
  const codes = table({ id: 'int', code: 'varchar(10)' });
  await write(a, codes, [1, 'x']);
  await write(b, codes, [2, 'y']);
  await office.query(`ALTER TABLE ${codes.name} ADD UNIQUE u (code)`);
  const cure = /ALTER TABLE `t\d+` DROP INDEX `u`/;
  await haltsUntilCured(t, b, codes, [1, 'x'], { says: /unique index/, cure });
  t.same(await stored(codes), [
    ['unique-a', '1', 'x'],
    ['unique-b', '1', 'x'],
    ['unique-b', '2', 'y'],
  ]);
});

await t.test('what would change a row, refuse it or delete it elsewhere is named before a row is written', async t => {
  const b = await joined('faults');
  const described = table({ id: 'int', v: 'int' });
  const { name } = described;
  await write(b, described, [1, 1]);
  const cases: [string, { says: RegExp; cure: RegExp }][] = [
    [
      `CREATE TRIGGER odd BEFORE INSERT ON ${name} FOR EACH ROW SET NEW.v = 0`,
      { says: /odd/, cure: /DROP TRIGGER `odd`/ },
    ],
    [`ALTER TABLE ${name} ENGINE=MyISAM`, { says: /MyISAM/, cure: /ALTER TABLE \S+ ENGINE=InnoDB/ }],
    [
      `CREATE TABLE child (b VARCHAR(63) CHARACTER SET ascii COLLATE ascii_bin, id INT,
        CONSTRAINT fk FOREIGN KEY (b, id) REFERENCES ${name} (_branch, id) ON DELETE CASCADE)`,
      { says: /fk of child/, cure: /ALTER TABLE `child` DROP FOREIGN KEY `fk`/ },
    ],
    [`ALTER TABLE ${name} MODIFY v INT NOT NULL`, { says: /NOT NULL/, cure: /ALTER TABLE \S+ MODIFY `v` int NULL/ }],
    [
      `ALTER TABLE ${name} ADD extra INT NOT NULL AFTER v`,
      { says: /extra/, cure: /ALTER TABLE \S+ MODIFY `extra` int NULL/ },
    ],
    [
      `ALTER TABLE ${name} ALTER extra SET DEFAULT 7`,
      { says: /default/, cure: /ALTER TABLE \S+ ALTER `extra` SET DEFAULT NULL/ },
    ],
  ];
  for (const [index, [statement, expected]] of cases.entries()) {
    await office.query(statement);
    await haltsUntilCured(t, b, described, [index + 10, 100], expected);
  }
  t.same(
    (await stored(described)).slice(1),
    cases.map((_, index) => ['faults', String(index + 10), '100']),
  );
});

await t.test('columns made narrower are made wide again, and what was rounded is asked for', async t => {
  const [a, b] = [await joined('narrow-a'), await joined('narrow-b')];
  const described = table({ id: 'int', d: 'datetime(6)', f: 'double' });
  const row = (id: number): Value[] => [id, '2026-01-01 00:00:00.123456', 0.1];
  await write(a, described, row(1));
  await write(b, described, row(2));
  await office.query(`ALTER TABLE ${described.name} MODIFY d DATETIME, MODIFY f FLOAT`);
  await write(a, described, row(3));
  const shown = (branch: string, id: number): string[] => [branch, String(id), '2026-01-01 00:00:00.123456', '0.1'];
  t.same((await stored(described))[1], shown('narrow-a', 3), 'nothing new is rounded');
  for (const each of [a, b]) {
    const { row: now, requests } = await office.registry.show(each.branch);
    t.not(now.incompleteSince, null, `${each.branch} is incomplete`);
    t.match(requests, [{ kind: 'snapshot', tables: [{ schema: 'shop', name: described.name }], completes: true }]);
  }
  await copy(a, described, row(1), row(3));
  await copy(b, described, row(2));
  t.same(await stored(described), [shown('narrow-a', 1), shown('narrow-a', 3), shown('narrow-b', 2)]);
  for (const each of [a, b]) t.equal((await office.row(each.branch)).incompleteSince, null, 'and complete again');
});

await t.test('a table that is dropped is missed by each branch that wrote to it', async t => {
  const [a, b] = [await joined('dropped-a'), await joined('dropped-b')];
  const described = table({ id: 'int', v: 'int' });
  await write(a, described, [1, 1]);
  await write(b, described, [2, 2]);
  await office.query(`DROP TABLE ${described.name}`);
  await write(a, described, [3, 3]);
  for (const each of [a, b]) {
    const { row, requests } = await office.registry.show(each.branch);
    t.not(row.incompleteSince, null, `${each.branch} is incomplete`);
    t.match(requests, [{ kind: 'snapshot', tables: [{ schema: 'shop', name: described.name }], completes: true }]);
  }
  await copy(a, described, [1, 1], [3, 3]);
  await copy(b, described, [2, 2]);
  for (const each of [a, b]) t.equal((await office.row(each.branch)).incompleteSince, null, 'complete again');
  await office.query(`ALTER TABLE ${described.name} RENAME TO elsewhere`);
  await write(b, described, [4, 4]);
  t.equal((await office.registry.show('dropped-a')).requests.length, 1, 'and once more, when it is renamed');
});

await t.test('a table that is gone is missed also by branches that write nothing', async t => {
  const b = await joined('quiet');
  const described = table({ id: 'int', v: 'int' });
  await write(b, described, [1, 1]);
  await office.query(`DROP TABLE ${described.name}`);
  await (await office.fleet({ instance: 'two' })).stop();
  const { row, requests } = await office.registry.show('quiet');
  t.not(row.incompleteSince, null);
  t.match(requests, [{ tables: [{ name: described.name }], completes: true }]);
});

await t.test('a table of which nothing was ever sent is not missed', async t => {
  const b = await joined('emptied');
  const [never, filled] = [table({ id: 'int', v: 'int' }), table({ id: 'int', v: 'int' })];
  await office.applied('emptied', await send(b, { ...never, columns: [] }, { op: 'truncate', table: 0 }));
  await write(b, filled, [1, 1]);
  await office.applied('emptied', await send(b, { ...filled, columns: [] }, { op: 'truncate', table: 0 }));
  await (await office.fleet({ instance: 'three' })).stop();
  const { row, requests, tables } = await office.registry.show('emptied');
  t.equal(row.incompleteSince, null);
  t.same(requests, []);
  for (const { name } of [never, filled])
    t.ok(
      tables.some(known => known.name === name),
      `${name} is swept by a snapshot`,
    );
  const [known] = await office.query(`SELECT JSON_LENGTH(definition) AS columns FROM tributary_table
    WHERE branch = 'emptied' AND table_name = '${filled.name}'`);
  t.match(known, { columns: 2 }, 'a truncate names no columns, and takes none away');
});

await t.test('a column that is dropped comes back, and what it held is asked for', async t => {
  const b = await joined('less');
  const described = table({ id: 'int', v: 'int', w: 'int' });
  await write(b, described, [1, 1, 1]);
  await office.query(`ALTER TABLE ${described.name} DROP COLUMN w`);
  await write(b, described, [2, 2, 2]);
  const { row, requests } = await office.registry.show('less');
  t.not(row.incompleteSince, null);
  t.match(requests, [{ tables: [{ name: described.name }], completes: true }]);
  await copy(b, described, [1, 1, 1], [2, 2, 2]);
  t.same(await stored(described), [
    ['less', '1', '1', '1'],
    ['less', '2', '2', '2'],
  ]);
  t.equal((await office.row('less')).incompleteSince, null);
});

await t.test(
  'the cure of a type that does not fit, followed, rounds nothing when the branch changes its mind',
  async t => {
    const b = await joined('mind');
    const as = (type: string): TableDescription => ({ ...first, columns: [first.columns[0]!, { name: 'v', type }] });
    const first = table({ id: 'int', v: 'double' });
    for (const [wide, narrow, value] of [
      ['double', 'json', 1.5],
      ['decimal(10,2)', 'geometry', '1.50'],
      ['float', 'bigint', 1.5],
    ] as const) {
      await office.query(`DROP TABLE IF EXISTS ${first.name}`);
      await write(b, as(wide), [1, value]);
      const seq = await send(b, as(narrow), rowsOf([2, null]));
      const { halt } = await office.until('mind', ({ halt }) => halt !== null, 'a halt');
      const [cure = ''] = /ALTER TABLE \S+ DROP COLUMN `v`/.exec(halt?.reason ?? '') ?? [];
      await office.query(cure);
      await office.registry.retry('mind');
      await office.applied('mind', seq);
      // Back again: the applier has seen this very definition before.
      await office.query(`DELETE FROM ${first.name}`);
      await write(b, as(wide), [3, value]);
      t.same(await stored(first), [['mind', '3', String(value)]], `${wide}, ${narrow} and back`);
    }
  },
);

await t.test('a table that is dropped and made anew at the branch is made anew here, once no row is left', async t => {
  const [a, b] = [await joined('anew-a'), await joined('anew-b')];
  t.equal((await office.row('anew-a')).incompleteSince, null, 'complete at first');
  const before = table({ id: 'int', v: 'int', w: 'double' });
  const { name, schema } = before;
  const after = {
    schema,
    name,
    columns: [
      { name: 'v', type: 'int', key: 1 },
      { name: 'w', type: 'json' },
    ],
  };
  await write(a, before, [1, 1, 1], [2, 2, 2]);
  const truncate: Change = { op: 'truncate', table: 0 };
  const batch = a.make([truncate, { op: 'upsert', table: 1, rows: 1, values: [[7], ['{"a": 1}']] }], {
    tables: [before, after],
  });
  await a.send(batch);
  await office.applied('anew-a', batch.header.seq);
  t.same(await stored(after), [['anew-a', '7', '{"a": 1}']]);
  t.equal((await office.row('anew-a')).incompleteSince, null, 'nothing is missing');
  // Another branch's rows keep it from being made anew.
  await send(b, before, rowsOf([1, 1, 1]));
  const { halt } = await office.until('anew-b', ({ halt }) => halt !== null, 'a halt');
  t.match(halt, { code: 'TARGET_SCHEMA', reason: /its key is \(id\), but at the head office it is \(v\)/ });
  t.same(await stored(after), [['anew-a', '7', '{"a": 1}']]);
});
