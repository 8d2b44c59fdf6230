/**
 * Rows that were changed by hand, at both ends, in tables of every kind, while the branch sells: all are found, named and
 * repaired, with few bytes, and nothing else is.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import { applierCli } from '../../applier/commands.ts';
import { runCli } from '../../shared/process/cli.ts';
import { everyTypeRows, everyTypeTable, numbers } from '../support/oracle/every-type.ts';
import { LOAD_TABLES, Load, randomFrom, testSeed } from '../support/world/load.ts';
import { until } from '../support/until.ts';
import { createWorld } from '../support/world/world.ts';
import type { Branch, World } from '../support/world/world.ts';

// Each has a world of its own, and waits more than it works.
t.jobs = 2;

/** ROWS=10000000 for the full size. */
const ROWS = Number(process.env['ROWS'] ?? 20_000);
/** Comparisons of equal tables; ROUNDS=200 for many. */
const ROUNDS = Number(process.env['ROUNDS'] ?? 6);
const MAX_BYTES = 1_000_000;
/** What is sold meanwhile counts as well: the slower the machine, the more would be sold before the repair has ended. */
const SALES = { sessions: 1, pauseMs: 100, atMost: 300 };

interface Printed {
  readonly code: number;
  readonly out: string;
}

async function command(world: World, args: readonly string[]): Promise<Printed> {
  let out = '';
  const streams = { out: (text: string) => (out += text), err: (text: string) => (out += text) };
  const config = join(world.directory, 'applier', 'applier.yaml');
  const code = await runCli(applierCli(), [...args, '--config', config], new AbortController().signal, streams);
  return { code, out };
}

async function sentBytes(branch: Branch): Promise<number> {
  const text = await (await fetch(`${branch.agent.url}/metrics`)).text();
  return Number(/^tributary_link_sent_bytes_total (\S+)/m.exec(text)?.[1]);
}

for (const flavor of ['branchMysql', 'branchMariadb'] as const) {
  void t.test(`200 differences by hand are named and repaired: ${flavor}`, async t => {
    const seed = testSeed();
    t.comment(`SEED=${seed}`);
    const random = randomFrom(seed);
    const kind = flavor === 'branchMariadb' ? 'mariadb' : 'mysql';
    const world = await createWorld(t);
    const applier = await world.startApplier();
    const branch = await world.addBranch('paris', {
      flavor,
      setup: [
        ...LOAD_TABLES,
        "SET SESSION sql_mode = ''",
        everyTypeTable(kind),
        everyTypeRows(kind, 1),
        'CREATE TABLE unsold (id INT AUTO_INCREMENT PRIMARY KEY)',
        'CREATE TABLE sale (id INT PRIMARY KEY, item VARCHAR(40), price DECIMAL(10,2), sold DATETIME(3))',
        `INSERT INTO sale SELECT i, CONCAT('item ', i), i / 7, '2026-01-02 03:04:05.678' FROM (${numbers(ROWS)}) n`,
        'CREATE TABLE log (a INT, b VARCHAR(20))',
        `INSERT INTO log SELECT i % 300, CONCAT('line ', i % 600) FROM (${numbers(1_500)}) n`,
        'CREATE TABLE person (email VARCHAR(60) PRIMARY KEY, age INT)',
        `INSERT INTO person SELECT CONCAT('p', i, '@plain.example'), i FROM (${numbers(500)}) n`,
        'CREATE TABLE pair (a VARCHAR(10), b INT, c FLOAT, PRIMARY KEY (b, a))',
        `INSERT INTO pair SELECT CONCAT('a', i % 10), i, i / 3 FROM (${numbers(400)}) n`,
      ],
    });
    writeFileSync(join(branch.folder, 'hash.key'), 'a key of the test, long enough for it', { mode: 0o600 });
    branch.configure({
      tables: {
        include: [`${branch.schema}.*`],
        columns: { '*.*.email': 'hash' },
        hashKeyFile: 'hash.key',
      },
    });
    await branch.startAgent();
    const hq = world.headOfficeDb;
    const mine = `_branch = '${branch.id}'`;
    // The hashed keys cannot be compared from outside.
    const others = ['every_type', 'load_code', 'load_sale', 'load_stock', 'log', 'pair', 'sale', 'unsold'].map(
      name => `${branch.schema}.${name}`,
    );
    const equal = async (): Promise<void> => {
      await world.waitUntilEqual(branch, 240_000, { tables: others });
    };
    await equal();
    const first = await command(world, ['branch', 'verify', branch.id]);
    t.match(first, { code: 0, out: /equal: / });

    const load = new Load(branch.source, { schema: branch.schema, seed, ...SALES });
    t.teardown(() => load.stop());

    // Each of these is one row of a table, and no two are the same.
    const ids = (below: number, number: number): number[] => {
      const chosen = new Set<number>();
      while (chosen.size < number) chosen.add(1 + Math.floor(random() * below));
      return [...chosen];
    };
    const apart: string[] = [];
    const unlogged = branch.db;
    await branch.db.query('SET SESSION sql_log_bin = 0');
    for (const [index, id] of ids(ROWS, 100).entries()) {
      apart.push(String(id));
      if (index % 5 === 0) await hq.query(`UPDATE sale SET price = price + 1 WHERE ${mine} AND id = ${id}`);
      else if (index % 5 === 1) await hq.query(`DELETE FROM sale WHERE ${mine} AND id = ${id}`);
      else if (index % 5 === 2) await unlogged.query(`UPDATE sale SET item = 'by hand' WHERE id = ${id}`);
      else if (index % 5 === 3) await unlogged.query(`DELETE FROM sale WHERE id = ${id}`);
      else {
        const extra = ROWS + id;
        apart[apart.length - 1] = String(extra);
        const where = index % 2 === 0 ? hq : unlogged;
        const own = where === hq ? `'${branch.id}', 1, NOW(6), ` : '';
        const names = where === hq ? '_branch, _batch, _changed_at, ' : '';
        await where.query(`INSERT INTO sale (${names}id, item) VALUES (${own}${extra}, 'by hand')`);
      }
    }
    for (const [index, id] of ids(400, 30).entries()) {
      if (index % 2 === 0) await hq.query(`UPDATE pair SET c = 1e9 WHERE ${mine} AND b = ${id}`);
      else await unlogged.query(`DELETE FROM pair WHERE b = ${id}`);
    }
    for (const [index, id] of ids(500, 30).entries()) {
      if (index % 2 === 0) await hq.query(`UPDATE person SET age = -age WHERE ${mine} AND age = ${id}`);
      else await unlogged.query(`DELETE FROM person WHERE age = ${id}`);
    }
    // In a table without a key one change makes a row too few and another too many.
    for (const [index, id] of ids(290, 20).entries()) {
      if (index % 2 === 0) await hq.query(`UPDATE log SET b = 'by hand ${id}' WHERE ${mine} AND a = ${id} LIMIT 1`);
      else await unlogged.query(`DELETE FROM log WHERE a = ${id} LIMIT 1`);
    }
    await hq.query(`UPDATE every_type SET c1 = c1 - 1 WHERE ${mine} AND id = 2`);
    await unlogged.query('DELETE FROM every_type WHERE id = 3');
    await branch.db.query('SET SESSION sql_log_bin = 1');

    const before = await sentBytes(branch);
    const found = await command(world, ['branch', 'verify', branch.id]);
    t.match(found, { code: 1, out: /different: / });
    t.comment(found.out);
    const named = async (table: string): Promise<RowDataPacket[]> =>
      (
        await hq.query<RowDataPacket[]>(
          'SELECT kind, row_key, columns FROM tributary_difference WHERE branch = ? AND table_name = ?',
          [branch.id, table],
        )
      )[0];
    const keys = (rows: RowDataPacket[], column: string): string[] =>
      rows.map(row => String((row['row_key'] as Record<string, unknown>)[column])).sort();
    t.strictSame(keys(await named('sale'), 'id'), apart.sort(), 'all rows of sale, and no other');
    t.equal((await named('pair')).length, 30);
    t.equal((await named('person')).length, 30);
    t.ok(
      keys(await named('person'), 'email').every(each => /^[0-9a-f]{64}$/.test(each)),
      'keys are as the head office has them',
    );
    t.equal((await named('log')).length, 30, '10 rows became others here, 10 are gone at the branch');
    t.strictSame(keys(await named('every_type'), 'id'), ['2', '3']);
    t.match(
      (await named('sale')).find(row => row['kind'] === 'changed'),
      { columns: /price|item/ },
    );
    for (const equalTable of ['load_sale', 'load_code', 'load_stock', 'unsold'])
      t.strictSame(await named(equalTable), []);

    const dry = await command(world, ['branch', 'repair', branch.id, '--dry-run']);
    t.match(dry, { code: 0, out: /sale: 100 rows[^]*Nothing was requested/ });
    const [requests] = await hq.query<RowDataPacket[]>("SELECT 1 FROM tributary_request WHERE kind <> 'verify'");
    t.strictSame(requests, []);
    t.match(await command(world, ['branch', 'repair', branch.id]), { code: 0, out: /The repair is requested/ });
    await equal();
    await until('the comparison after the repair', async () => {
      const [rows] = await hq.query<RowDataPacket[]>(
        `SELECT COUNT(*) AS n FROM tributary_verify WHERE branch = ? AND verdict = 'equal' AND reason IS NULL`,
        [branch.id],
      );
      const [open] = await hq.query<RowDataPacket[]>('SELECT 1 FROM tributary_request WHERE branch = ?', [branch.id]);
      return rows[0]!['n'] === 9 && open.length === 0;
    });
    const bytes = (await sentBytes(branch)) - before;
    t.comment(`${bytes} bytes were sent for comparisons and repairs, with what was sold meanwhile`);
    t.ok(bytes < MAX_BYTES, `${bytes} bytes`);
    const [done] = await hq.query<RowDataPacket[]>(
      'SELECT table_name, action, asked, COUNT(*) AS n FROM tributary_repair WHERE branch = ? GROUP BY 1, 2, 3',
      [branch.id],
    );
    const total = (table: string): number =>
      done.filter(row => row['table_name'] === table).reduce((sum, row) => sum + Number(row['n']), 0);
    t.strictSame(['sale', 'pair', 'person', 'log', 'every_type'].map(total), [100, 30, 30, 30, 2]);
    t.ok(done.every(row => /, command line$/.test(String(row['asked']))));
    await load.stop();
    await equal();
    t.ok(applier.running);
  });
}

void t.test('comparisons of equal tables find nothing, whatever happens meanwhile', async t => {
  const seed = testSeed();
  t.comment(`SEED=${seed}`);
  const world = await createWorld(t);
  const applier = await world.startApplier();
  const branch = await world.addBranch('paris', {
    setup: [
      ...LOAD_TABLES,
      'CREATE TABLE log (a INT, b VARCHAR(20))',
      `INSERT INTO log SELECT i % 300, 'many' FROM (${numbers(3_000)}) n`,
    ],
  });
  await branch.startAgent();
  await world.waitUntilEqual(branch);
  const load = new Load(branch.source, { schema: branch.schema, seed, pauseMs: 5 });
  t.teardown(() => load.stop());
  const disturb: readonly (() => Promise<unknown>)[] = [
    () => Promise.resolve(),
    async () => {
      await branch.agent.kill9();
      await branch.startAgent();
    },
    () => branch.db.query('ALTER TABLE load_sale ADD COLUMN later INT'),
    async () => {
      await applier.kill9();
      await applier.start();
      await applier.waitReady();
    },
    () => branch.db.query('ALTER TABLE load_sale DROP COLUMN later'),
    () => branch.db.query('DELETE FROM log WHERE a < 3'),
  ];
  for (let round = 0; round < ROUNDS; round += 1) {
    const found = command(world, ['branch', 'verify', branch.id]);
    const [done] = await Promise.all([found, disturb[round % disturb.length]!()]);
    t.notMatch(done.out, /DIFFERENT/, `round ${round}`);
    const [rows] = await world.headOfficeDb.query<RowDataPacket[]>('SELECT * FROM tributary_difference');
    t.strictSame(rows, [], `round ${round}`);
  }
  await load.stop();
  await world.waitUntilEqual(branch);
});
