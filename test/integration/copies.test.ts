/** Rows of tables without a key at the head office: written, taken away, counted, swept; what it costs; hostile batches. */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import { RowWriter } from '../../applier/apply/row-writer.ts';
import { prepareTargetSession } from '../../applier/apply/target-session.ts';
import { sharedServers } from '../../deploy/rig/shared-servers.ts';
import { decodeBatch } from '../../shared/batch/decoder.ts';
import { encodeBatch } from '../../shared/batch/encoder.ts';
import type { BatchBody, Change, CopyOp, TableDescription, Value } from '../../shared/batch/batch.ts';
import { randomFrom, testSeed } from '../support/world/load.ts';
import { connectTo } from '../support/world/database.ts';

const DATABASE = `copies_${process.pid}`;
const SOURCE = { server: 'u', gtidSet: '', file: 'binlog.000001', offset: 4, committedAt: null };

async function connect(): Promise<Connection> {
  return connectTo(sharedServers().headOffice, { charset: 'utf8mb4', multipleStatements: false });
}

const connection = await connect();
await prepareTargetSession(connection);
await connection.query(`CREATE DATABASE ${DATABASE}`);
t.teardown(async () => {
  await connection.query(`DROP DATABASE ${DATABASE}`);
  await connection.end();
});

const applierOf = (useLoadData: boolean): RowWriter => new RowWriter({ connect, database: DATABASE, useLoadData });
const appliers = { load: applierOf(true), text: applierOf(false) };

function tableOf(name: string, columns: Record<string, string> = { v: 'varchar(20)', n: 'int' }): TableDescription {
  return { schema: 'shop', name, columns: Object.entries(columns).map(([column, type]) => ({ name: column, type })) };
}

type Row = readonly [copies: number, ...values: Value[]];

function bodyOf(table: TableDescription, op: CopyOp, rows: readonly Row[]): BatchBody {
  const values = table.columns.map((_, c) => rows.map(row => row[c + 1] as Value));
  const change = { op, table: 0, rows: rows.length, values, copies: rows.map(([copies]) => copies) };
  return decodeBatch(
    encodeBatch({ v: 1, source: SOURCE, transactions: 1, part: null, tables: [table], changes: [change] }),
  );
}

let batchNumber = 0;

async function apply(applier: RowWriter, branch: string, ...bodies: BatchBody[]): Promise<void> {
  const prepared = await applier.prepare(bodies, branch);
  await connection.query('START TRANSACTION');
  await applier.apply(connection, prepared, branch, (batchNumber += 1));
  await connection.query('COMMIT');
}

async function countsOf(name: string, branch: string): Promise<Map<string, number>> {
  const [rows] = await connection.query<RowDataPacket[]>(
    `SELECT v, n, COUNT(*) AS copies FROM ${DATABASE}.${name} WHERE _branch = ? GROUP BY BINARY v, v, n`,
    [branch],
  );
  return new Map(rows.map(row => [JSON.stringify([row['v'], row['n']]), Number(row['copies'])]));
}

for (const [way, applier] of Object.entries(appliers)) {
  await t.test(
    `any changes leave as many copies as they should, and a sweep those that are new: by ${way}`,
    async t => {
      const seed = testSeed();
      t.comment(`SEED=${seed}`);
      const random = randomFrom(seed);
      const below = (n: number): number => Math.floor(random() * n);
      const table = tableOf(`random_${way}`);
      const rows: Value[][] = [
        ['a', 1],
        ['A', 1],
        ['a ', 1],
        [null, 1],
        ['a', null],
        [null, null],
        ['', 0],
      ];
      /** The batch that wrote each copy. */
      const model = new Map<string, number[]>();
      // So that there is a table, whatever is drawn.
      await apply(applier, 'x', bodyOf(table, 'add', [[1, 'first', 1]]));
      model.set(JSON.stringify(['first', 1]), [batchNumber]);
      for (let round = 0; round < 60; round += 1) {
        const bodies = Array.from({ length: 1 + below(3) }, () => {
          const op = (['add', 'add', 'remove', 'count'] as const)[below(4)]!;
          // Now and then enough for LOAD DATA.
          const chosen = rows
            .filter(() => random() < 0.4)
            .map((row): Row => [1 + below(random() < 0.1 ? 90 : 3), ...row]);
          for (const [copies, ...row] of chosen) {
            const name = JSON.stringify(row);
            const stack = model.get(name) ?? [];
            if (op === 'count') stack.length = 0;
            if (op === 'remove') stack.splice(Math.max(0, stack.length - copies));
            else stack.push(...Array<number>(copies).fill(batchNumber + 1));
            model.set(name, stack);
          }
          return bodyOf(table, op, chosen);
        });
        await apply(applier, 'x', ...bodies);
        if (below(8) === 0) {
          const since = Math.max(0, batchNumber - below(6));
          for (const stack of model.values()) stack.splice(0, stack.filter(batch => batch < since).length);
          while (!(await applier.sweep(connection, 'x', [table], since, 10)).done);
        }
        const expected = [...model]
          .filter(([, stack]) => stack.length > 0)
          .map(([name, stack]) => [name, stack.length]);
        t.strictSame(new Map((await countsOf(table.name, 'x')).entries()), new Map(expected as [string, number][]));
        if (!t.passing()) return;
      }
    },
  );
}

await t.test('a row with a hundred thousand copies changes by one in the time of one', async t => {
  const table = tableOf('many');
  await apply(appliers.load, 'x', bodyOf(table, 'count', [[100_000, 'same', 1]]));
  await connection.query(`ANALYZE TABLE ${DATABASE}.many`);
  await connection.query('FLUSH STATUS');
  await apply(appliers.load, 'x', bodyOf(table, 'remove', [[2, 'same', 1]]));
  await apply(appliers.load, 'x', bodyOf(table, 'add', [[1, 'same', 1]]));
  const [status] = await connection.query<RowDataPacket[]>("SHOW SESSION STATUS LIKE 'Handler_read_%'");
  const read = status.reduce((sum, row) => sum + Number(row['Value']), 0);
  // The definition of the table is read as well, each time.
  t.ok(read < 1_000, `${read} rows were read`);
  t.same(await countsOf('many', 'x'), new Map([['["same",1]', 99_999]]));
});

await t.test('a column that another version of the table lacks changes no row', async t => {
  await apply(appliers.text, 'x', bodyOf(tableOf('versions'), 'add', [[2, 'a', 1]]));
  const wider = tableOf('versions', { extra: 'int', v: 'varchar(20)', n: 'int' });
  await apply(appliers.text, 'x', bodyOf(wider, 'remove', [[1, null, 'a', 1]]));
  await apply(appliers.text, 'y', bodyOf(wider, 'add', [[1, 5, 'a', 1]]));
  t.same([...(await countsOf('versions', 'x')).values(), ...(await countsOf('versions', 'y')).values()], [1, 1]);
});

const withKey = (name: string): TableDescription => ({
  schema: 'shop',
  name,
  columns: [
    { name: 'n', type: 'int', key: 1 },
    { name: 'v', type: 'text' },
  ],
});

const change = (table: TableDescription, changes: Change[]): BatchBody =>
  decodeBatch(encodeBatch({ v: 1, source: SOURCE, transactions: 1, part: null, tables: [table], changes }));

await t.test('a table without keys takes rows of a branch where it has one', async t => {
  const keyed = withKey('both');
  await apply(appliers.load, 'x', bodyOf(tableOf('both'), 'add', [[3, 'a', 1]]));
  for (const [way, applier] of Object.entries(appliers)) {
    await apply(
      applier,
      way,
      change(keyed, [
        {
          op: 'upsert',
          table: 0,
          rows: 2,
          values: [
            [1, 2],
            ['a', 'b'],
          ],
        },
      ]),
    );
    await apply(applier, way, change(keyed, [{ op: 'upsert', table: 0, rows: 1, values: [[1], ['c']] }]));
    await apply(applier, way, change(keyed, [{ op: 'delete', table: 0, rows: 1, keys: [[2]] }]));
    t.same(await countsOf('both', way), new Map([['["c",1]', 1]]));
  }
  const many = Array.from({ length: 100 }, (_, n) => n);
  await apply(
    appliers.load,
    'x',
    change(keyed, [{ op: 'upsert', table: 0, rows: 100, values: [many, many.map(String)] }]),
  );
  t.equal((await countsOf('both', 'x')).size, 101, 'what was there without a key waits for the sweep');
  while (!(await appliers.load.sweep(connection, 'x', [keyed], batchNumber, 10)).done);
  t.equal((await countsOf('both', 'x')).size, 100);
});

await t.test(
  'a table with a key is emptied of the one branch that has none any more, and refused where others have it',
  async t => {
    const [keyless, keyed] = [tableOf('forms'), withKey('forms')];
    const upsert = change(keyed, [
      {
        op: 'upsert',
        table: 0,
        rows: 3,
        values: [
          [1, 2, 3],
          ['a', 'b', 'c'],
        ],
      },
    ]);
    const add = bodyOf(keyless, 'add', [[2, 'a', 1]]);
    await apply(appliers.load, 'x', upsert);
    const other = { code: 'TARGET_SCHEMA', message: /has no key at the branch, but one/, hint: /DROP TABLE `forms`/ };
    await t.rejects(apply(appliers.load, 'x', add), other);
    t.equal(await appliers.load.clearOtherForm(connection, 'x', 'forms', 2), 2);
    await t.rejects(apply(appliers.load, 'x', add), other, 'there is still a row');
    t.equal(await appliers.load.clearOtherForm(connection, 'x', 'forms', 2), 1);
    await apply(appliers.text, 'y', upsert);
    t.equal(await appliers.load.clearOtherForm(connection, 'x', 'forms', 2), 0, 'another branch has rows in it');
    await t.rejects(apply(appliers.load, 'x', add), other);
    t.equal(await appliers.load.clearOtherForm(connection, 'y', 'forms', 9), 3);
    await apply(appliers.load, 'x', add);
    t.same(await countsOf('forms', 'x'), new Map([['["a",1]', 2]]));
    await t.rejects(apply(appliers.text, 'y', upsert), { code: 'TARGET_BUSY' }, 'it remembers how the table was');
    await connection.query('ROLLBACK');
    await apply(appliers.text, 'y', upsert);
    t.equal((await countsOf('forms', 'y')).size, 3);
  },
);
