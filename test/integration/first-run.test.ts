/**
 * A branch joins: what was there before and what happens meanwhile end equal at the head office, on every kind of
 * branch server, through restarts, kills, altered tables, and transactions larger than any batch.
 */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import { sharedServers } from '../../deploy/rig/shared-servers.ts';
import type { Product } from '../../deploy/rig/daemon.ts';
import { everyTypeRows, everyTypeTable, numbers } from '../support/oracle/every-type.ts';
import { Load, LOAD_TABLES, randomFrom, testSeed } from '../support/world/load.ts';
import { until } from '../support/until.ts';
import { createWorld, expectSuccess } from '../support/world/world.ts';
import type { Branch, World } from '../support/world/world.ts';

const MANY_ROWS = 30_000;
const LARGE_TRANSACTION_ROWS = 100_000;
const ROWS_BEFORE_KILL = 40_000;
const NO_MODE = "SET SESSION sql_mode = '', time_zone = '+00:00'";

const seed = testSeed();
t.comment(`SEED=${seed}`);
// Each has a schema, a database and a vhost of its own, and waits more than it works.
t.jobs = 3;

const BIG = 'CREATE TABLE big (id INT PRIMARY KEY, name VARCHAR(60), price DECIMAL(10,2), at_ DATETIME)';
const bigRows = (rows: number): string =>
  `INSERT INTO big SELECT i, CONCAT('name ', i), i / 7, '2026-01-01' + INTERVAL i MINUTE FROM (${numbers(rows)}) n`;

interface SnapshotLine {
  readonly state: string;
  readonly name: string;
  readonly rows: number;
}

interface StatusLine {
  readonly snapshot: { readonly tables: readonly SnapshotLine[] } | null;
  readonly stream: { readonly epoch: string };
}

async function statusOf(agent: Product): Promise<StatusLine> {
  return (await agent.get('/api/status')) as StatusLine;
}

async function number(connection: Connection, sql: string): Promise<number> {
  const [rows] = await connection.query<RowDataPacket[]>(sql);
  return Number(Object.values(rows[0] ?? {})[0]);
}

/** Rows of the branch in one table of the head office; 0 while there is no such table. */
async function rowsAtHeadOffice(world: World, branch: Branch, table: string): Promise<number> {
  try {
    return await number(
      world.headOfficeDb,
      `SELECT COUNT(*) FROM ${world.database}.${table} WHERE _branch = '${branch.id}'`,
    );
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ER_NO_SUCH_TABLE') return 0;
    throw error;
  }
}

for (const flavor of ['branchMysql', 'branchMysqlNoGtid', 'branchMariadb'] as const) {
  void t.test(`what was there and what happens meanwhile end equal: ${flavor}`, async t => {
    const world = await createWorld(t);
    await world.startApplier();
    const engine = sharedServers()[flavor].flavor;
    const branch = await world.prepareBranch('joins', {
      flavor,
      setup: [
        NO_MODE,
        everyTypeTable(engine),
        everyTypeRows(engine, 1),
        BIG,
        bigRows(MANY_ROWS),
        'CREATE TABLE vacant (id INT PRIMARY KEY, later TEXT)',
        `CREATE TABLE mixed (day_ DATE, kind ENUM('zulu','alpha','mike'), ratio FLOAT, name VARCHAR(20), n INT,
           PRIMARY KEY (name, kind, ratio, day_))`,
        `INSERT INTO mixed SELECT '2026-01-01' + INTERVAL i DAY, 1 + i % 3, i / 10, CONCAT('Nr ', i % 50), i FROM (${numbers(2500)}) n`,
        `CREATE TABLE named (name VARCHAR(60) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci PRIMARY KEY, raw VARBINARY(20))`,
        `INSERT INTO named SELECT CONCAT(CHAR(65 + i % 57 USING latin1), '\\'é"', i), UNHEX(LPAD(HEX(i), 8, '0')) FROM (${numbers(3000)}) n`,
        ...LOAD_TABLES,
      ],
    });
    // As a person does it, step by step, with no more rights than the manual asks for.
    const user = `agent_${world.id}`;
    t.teardown(() => branch.db.query(`DROP USER IF EXISTS ${user}`).catch(() => undefined));
    await branch.db.query(`CREATE USER ${user} IDENTIFIED BY 'a password'`);
    await branch.db.query(`GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO ${user}`);
    await branch.db.query(`GRANT SELECT ON ${branch.schema}.* TO ${user}`);
    writeFileSync(join(branch.folder, 'source.password'), 'a password', { mode: 0o600 });
    branch.configure({ source: { user } });
    const file = `${branch.folder}/enrolment`;
    expectSuccess(await world.applierCli(['branch', 'add', branch.id, '--out', file]));
    expectSuccess(await branch.cli(['enroll', file]));
    const check = await branch.cli(['check']);
    t.equal(check.code, 0, `check finds no fault\n${check.stdout}`);

    // Rows that the head office holds of this branch and the branch does not: from an earlier life, say.
    const table = `${world.database}.big`;
    await branch.startAgent();
    const load = new Load(branch.source, { schema: branch.schema, seed });
    await branch.db.query(everyTypeRows(engine, 101));
    await branch.db.query("UPDATE big SET name = 'changed while it was copied' WHERE id % 10 = 3");
    await branch.db.query('DELETE FROM big WHERE id % 10 = 7');
    await branch.db.query('UPDATE big SET id = id + 1000000 WHERE id % 1000 = 1');
    await branch.db.query("INSERT INTO vacant VALUES (1, 'no longer')");
    await delay(1_500);
    await until('sales', () => load.committed > 20);
    await load.stop();
    const { rowsCompared } = await world.waitUntilEqual(branch);
    t.ok(rowsCompared > MANY_ROWS, `${rowsCompared} rows`);

    await t.test('rows that are only at the head office are swept by the next snapshot', async t => {
      await world.headOfficeDb.query(
        `INSERT INTO ${table} (_branch, id, name, _batch, _changed_at) VALUES ('${branch.id}', -1, 'stray', 1, NOW(6))`,
      );
      await world.headOfficeDb.query(
        `DELETE FROM ${table} WHERE _branch = '${branch.id}' AND id BETWEEN 20000 AND 20099`,
      );
      await world.headOfficeDb.query(`UPDATE ${table} SET price = 0 WHERE _branch = '${branch.id}' AND id = 12`);
      t.notOk((await world.compare(branch)).equal);
      expectSuccess(await branch.cli(['snapshot', `${branch.schema}.big`]));
      await world.waitUntilEqual(branch);
    });

    await t.test('TRUNCATE, and tables made, altered, renamed and dropped while the agent is up', async t => {
      await alterTables(branch, 'up');
      await world.waitUntilEqual(branch);
      t.pass('equal');
    });

    await t.test('and while it is down', async t => {
      t.equal(await branch.agent.stop(), 0);
      await alterTables(branch, 'down');
      await branch.startAgent();
      await world.waitUntilEqual(branch);
      t.pass('equal');
    });
    for (const product of world.products) t.equal(await product.stop(), 0, `${product.program} stops in order`);
  });
}

/** Every statement that changes rows without row events; `name` keeps the tables of two rounds apart. */
async function alterTables(branch: Branch, name: string): Promise<void> {
  const statements = [
    `CREATE TABLE ${name}_later (id INT PRIMARY KEY, v VARCHAR(20))`,
    `INSERT INTO ${name}_later VALUES (1, 'one'), (2, 'two')`,
    `ALTER TABLE ${name}_later ADD COLUMN maybe INT`,
    `INSERT INTO ${name}_later VALUES (3, 'three', 3)`,
    `ALTER TABLE ${name}_later ADD COLUMN status VARCHAR(10) NOT NULL DEFAULT 'new'`,
    `UPDATE ${name}_later SET status = 'old' WHERE id = 2`,
    `ALTER TABLE ${name}_later MODIFY v VARCHAR(200), DROP COLUMN maybe`,
    `INSERT INTO ${name}_later VALUES (4, REPEAT('v', 150), 'x')`,
    `CREATE TABLE ${name}_dropped (id INT PRIMARY KEY)`,
    `INSERT INTO ${name}_dropped VALUES (1), (2)`,
    `DROP TABLE ${name}_dropped`,
    `CREATE TABLE ${name}_old (id INT PRIMARY KEY, v INT)`,
    `INSERT INTO ${name}_old VALUES (1, 1), (2, 2)`,
    `RENAME TABLE ${name}_old TO ${name}_new`,
    `INSERT INTO ${name}_new VALUES (3, 3)`,
    // gh-ost's swap: the shadow table takes the name.
    `CREATE TABLE ${name}_shadow (id INT PRIMARY KEY, v BIGINT, w INT NOT NULL DEFAULT 5)`,
    `INSERT INTO ${name}_shadow (id, v) SELECT id, v FROM ${name}_new`,
    `RENAME TABLE ${name}_new TO ${name}_ghost, ${name}_shadow TO ${name}_new`,
    `INSERT INTO ${name}_new VALUES (4, 9000000000, 6)`,
    `CREATE TABLE ${name}_copied AS SELECT * FROM named WHERE 1 = 0`,
    `DROP TABLE ${name}_copied`,
    'TRUNCATE TABLE mixed',
    "INSERT INTO mixed VALUES ('2026-11-23', 'mike', 0.1, 'after the truncate', 1)",
    `ALTER TABLE big ADD COLUMN ${name}_flag TINYINT NOT NULL DEFAULT 7`,
    `UPDATE big SET ${name}_flag = 8 WHERE id % 500 = 0`,
    `ALTER TABLE named RENAME COLUMN raw TO raw_${name}, ADD INDEX (raw_${name})`,
    `ALTER TABLE named RENAME COLUMN raw_${name} TO raw`,
  ];
  for (const statement of statements) await branch.db.query(statement);
}

void t.test('a snapshot that SIGTERM and kill -9 interrupt goes on where it was, with live changes', async t => {
  const world = await createWorld(t);
  await world.startApplier();
  const branch = await world.addBranch('killed', { setup: [BIG, bigRows(ROWS_BEFORE_KILL), ...LOAD_TABLES] });
  const load = new Load(branch.source, { schema: branch.schema, seed: seed + 1 });
  const copied = async (): Promise<number> =>
    (await statusOf(branch.agent)).snapshot?.tables.find(({ name }) => name === 'big')?.rows ?? 0;
  await branch.startAgent();
  const { epoch } = (await statusOf(branch.agent)).stream;
  let before = 0;
  for (const end of ['kill9', 'stop', 'kill9'] as const) {
    await branch.agent.waitUntil('the next chunk', async () => (await copied()) > before);
    before = await copied();
    t.comment(`${end} after ${before} rows`);
    await branch.agent[end]();
    await branch.db.query('UPDATE big SET price = price + 1 WHERE id % 777 = 5');
    await branch.startAgent();
    t.ok((await copied()) >= before, `what was copied (${before}) counts`);
    if (before >= ROWS_BEFORE_KILL) break;
  }
  await load.stop();
  await world.waitUntilEqual(branch);
  t.equal((await statusOf(branch.agent)).stream.epoch, epoch, 'it is the same life: nothing began anew');
});

void t.test('tables that change while they are copied end equal', async t => {
  const world = await createWorld(t);
  await world.startApplier();
  const copies = ['altered', 'emptied', 'renamed', 'dropped', 'swapped'];
  const branch = await world.addBranch('changes', {
    setup: [BIG, bigRows(8_000), ...copies.map(name => `CREATE TABLE ${name} LIKE big`)],
  });
  for (const name of copies) await branch.db.query(`INSERT INTO ${name} SELECT * FROM big`);
  await branch.agent.start();
  const changes: readonly string[][] = [
    [
      'ALTER TABLE altered ADD COLUMN flag INT NOT NULL DEFAULT 4',
      "UPDATE altered SET name = 'after' WHERE id % 100 = 1",
    ],
    ['TRUNCATE TABLE emptied', "INSERT INTO emptied (id, name) VALUES (5, 'five')"],
    ['RENAME TABLE renamed TO other_name', "INSERT INTO other_name (id, name) VALUES (9001, 'after')"],
    ['DROP TABLE dropped'],
    [
      'CREATE TABLE shadow (id INT PRIMARY KEY, name VARCHAR(90), extra INT NOT NULL DEFAULT 1)',
      'INSERT INTO shadow (id, name) SELECT id, name FROM swapped',
      'RENAME TABLE swapped TO swapped_old, shadow TO swapped',
      'DROP TABLE swapped_old',
    ],
    ['ALTER TABLE big MODIFY id BIGINT', 'UPDATE big SET id = id + 5000000000 WHERE id % 50 = 0'],
  ];
  const random = randomFrom(seed);
  for (const statements of changes) {
    await delay(Math.round(random() * 400));
    for (const statement of statements) await branch.db.query(statement);
  }
  const { rowsCompared } = await world.waitUntilEqual(branch);
  t.ok(rowsCompared > 24_000, `${rowsCompared} rows`);
});

void t.test('a spool that is lost ends in a new life, and what the branch no longer has is swept', async t => {
  const world = await createWorld(t);
  await world.startApplier();
  const branch = await world.addBranch('lost', {
    setup: [BIG, bigRows(3_000), 'CREATE TABLE gone (id INT PRIMARY KEY)', 'INSERT INTO gone VALUES (1), (2)'],
  });
  await branch.startAgent();
  await world.waitUntilEqual(branch);
  const { epoch } = (await statusOf(branch.agent)).stream;
  await branch.agent.kill9();
  rmSync(branch.spoolDirectory, { recursive: true });
  // Nobody will ever read these from the binlog.
  await branch.db.query('DELETE FROM big WHERE id % 2 = 0');
  await branch.db.query("UPDATE big SET name = 'while nobody looked' WHERE id = 3");
  await branch.db.query('DROP TABLE gone');
  await branch.startAgent();
  await world.waitUntilEqual(branch);
  t.equal(await rowsAtHeadOffice(world, branch, 'gone'), 0);
  t.not((await statusOf(branch.agent)).stream.epoch, epoch);
});

void t.test('two branches with the same keys do not touch each other’s rows', async t => {
  const world = await createWorld(t);
  await world.startApplier();
  const table = 'CREATE TABLE sale (id INT PRIMARY KEY, name VARCHAR(20) UNIQUE, v INT)';
  const [east, west] = await Promise.all(
    (['east', 'west'] as const).map(name =>
      world.addBranch(name, {
        flavor: name === 'east' ? 'branchMysql' : 'branchMariadb',
        setup: [
          table,
          `INSERT INTO sale SELECT i, CONCAT('n', i), ${name === 'east' ? 1 : 2} FROM (${numbers(500)}) n`,
        ],
      }),
    ),
  );
  if (east === undefined || west === undefined) throw new Error('two were made');
  await Promise.all([east.startAgent(), west.startAgent()]);
  await east.db.query('DELETE FROM sale WHERE id <= 100');
  await west.db.query('UPDATE sale SET v = v * 100 WHERE id <= 200');
  await Promise.all([world.waitUntilEqual(east), world.waitUntilEqual(west)]);
  await east.db.query('TRUNCATE TABLE sale');
  await west.db.query('INSERT INTO sale VALUES (501, NULL, 5)');
  await Promise.all([world.waitUntilEqual(east), world.waitUntilEqual(west)]);
  t.equal(await rowsAtHeadOffice(world, east, 'sale'), 0);
  t.equal(await rowsAtHeadOffice(world, west, 'sale'), 501);
  await west.db.query('DROP TABLE sale');
  await east.db.query("INSERT INTO sale VALUES (7, 'seven', 7)");
  await Promise.all([world.waitUntilEqual(east), world.waitUntilEqual(west)]);
});

void t.test('a large transaction appears at the head office at once, or not at all', async t => {
  const world = await createWorld(t);
  await world.startApplier();
  const branch = await world.addBranch('large', { setup: [BIG, 'CREATE TABLE small (id INT PRIMARY KEY)'] });
  await branch.startAgent();
  await world.waitUntilEqual(branch);
  await branch.db.query('BEGIN');
  await branch.db.query('INSERT INTO small VALUES (1)');
  await branch.db.query(bigRows(LARGE_TRANSACTION_ROWS));
  await branch.db.query('INSERT INTO small VALUES (2)');
  await branch.db.query('COMMIT');
  const seen = new Set<number>();
  let looks = 0;
  const look = async (): Promise<boolean> => {
    // One statement, so that both counts are of one moment.
    const rows = await number(
      world.headOfficeDb,
      `SELECT (SELECT COUNT(*) FROM ${world.database}.big) + (SELECT COUNT(*) FROM ${world.database}.small)`,
    );
    seen.add(rows);
    looks += 1;
    return rows >= LARGE_TRANSACTION_ROWS + 2;
  };
  await until('the rows', look, { everyMs: 25 });
  t.same([...seen], [0, LARGE_TRANSACTION_ROWS + 2], `nothing or all, in ${looks} looks`);
  await branch.db.query('UPDATE big SET price = price + 1');
  await branch.db.query('DELETE FROM big WHERE id % 3 = 0');
  await world.waitUntilEqual(branch);
});
