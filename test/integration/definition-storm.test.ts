/**
 * Servers whose binlog does not name columns: statements that change tables at random, among rows that come all the time,
 * while the agent is up, down, killed and behind. Most columns have one type, so that rows read with the wrong definition
 * would still be read, and be wrong. At the end every row of branch and head office is compared.
 *
 *   SEED=123 replays from that seed on, RUNS=20 makes so many, FLAVOR=mysql|mariadb only one server.
 */
import { setTimeout as delay } from 'node:timers/promises';
import mysql from 'mysql2/promise';
import type { Connection } from 'mysql2/promise';
import t from 'tap';
import type { Test } from 'tap';
import { DatabaseServer } from '../../deploy/rig/database-server.ts';
import type { Flavor, ServerOptions } from '../../deploy/rig/database-options.ts';
import type { Value } from '../../shared/batch/batch.ts';
import type { Finding } from '../../shared/process/findings.ts';
import { decodeBatch } from '../../shared/batch/decoder.ts';
import { openSpool } from '../support/hand-made/spool-tools.ts';
import { below } from '../support/oracle/random-schema.ts';
import { until } from '../support/until.ts';
import { randomFrom, testSeed } from '../support/world/load.ts';
import { createWorld } from '../support/world/world.ts';
import type { Branch, World } from '../support/world/world.ts';

const RUNS = Number(process.env['RUNS'] ?? 1);
const ONE_FLAVOR = process.env['FLAVOR'];
const STATEMENTS = 60;
const WRITERS = 2;
const WRITE_EVERY_MS = 4;
const NAMES = ['a', 'b', 'c', 'd', 'e', 'f'] as const;
const TABLES = ['t1', 't2', 't3'] as const;

const LEAST: Readonly<Record<Flavor, ServerOptions>> = {
  mysql: { 'binlog-row-metadata': 'MINIMAL' },
  mariadb: { 'binlog-row-metadata': 'NO_LOG' },
};

const first = testSeed();
t.comment(`SEED=${first}`);
t.jobs = 2;
t.setTimeout(400_000 + RUNS * 120_000);

type Random = () => number;

const oneOf = <T>(random: Random, list: readonly T[]): T => list[below(random, list.length)]!;

/** Nearly all alike. Of the last two only the meaning of the bytes differs, of the ENUMs only the members. */
const TYPES = [
  'VARCHAR(20) CHARACTER SET utf8mb4',
  'VARCHAR(20) CHARACTER SET utf8mb4',
  'VARCHAR(20) CHARACTER SET utf8mb4',
  'VARCHAR(80) CHARACTER SET latin1',
  "ENUM('x', 'y', 'z')",
  "ENUM('z', 'y', 'x')",
  'INT',
  'INT UNSIGNED',
] as const;

function permuted<T>(random: Random, list: readonly T[]): T[] {
  return list
    .map(each => ({ each, at: random() }))
    .sort((one, other) => one.at - other.at)
    .map(({ each }) => each);
}

/** Columns of a new table: the same names each time, in another order. */
function columns(random: Random): string {
  return permuted(random, NAMES.slice(0, 4))
    .map(name => `${name} ${oneOf(random, TYPES.slice(0, 3))}`)
    .join(', ');
}

const create = (random: Random, table: string): string =>
  `CREATE TABLE ${table} (id INT AUTO_INCREMENT PRIMARY KEY, ${columns(random)})`;

/** What somebody does to a table; most of it fails now and then, because a column is not there. */
function change(random: Random): string[] {
  const [one, other] = permuted(random, TABLES) as [string, string];
  const [x, y] = permuted(random, NAMES) as [string, string];
  const type = oneOf(random, TYPES);
  const place = oneOf(random, ['', ' FIRST', ` AFTER ${y}`]);
  switch (below(random, 14)) {
    case 0:
      return [`ALTER TABLE ${one} ADD COLUMN ${x} ${type}${place}`];
    case 1:
      return [`ALTER TABLE ${one} ADD COLUMN ${x} ${type} NOT NULL${place}`];
    case 2:
      return [`ALTER TABLE ${one} DROP COLUMN ${x}`];
    case 3:
      return [`ALTER TABLE ${one} MODIFY ${x} ${type}${place}`];
    case 4:
      return [`ALTER TABLE ${one} RENAME COLUMN ${x} TO ${y}`];
    case 5:
    case 6:
      // Names change places, and nothing else does.
      return [`ALTER TABLE ${one} CHANGE ${x} ${y} ${TYPES[0]}, CHANGE ${y} ${x} ${TYPES[0]}`];
    case 7:
      return [`RENAME TABLE ${one} TO swap, ${other} TO ${one}, swap TO ${other}`];
    case 8:
    case 9:
      return [`DROP TABLE IF EXISTS ${one}`, create(random, one)];
    case 10:
      return [`TRUNCATE TABLE ${one}`];
    case 11:
      // As gh-ost and pt-osc do it.
      return [
        `CREATE TABLE ghost LIKE ${one}`,
        `ALTER TABLE ghost CHANGE ${x} ${y} ${TYPES[0]}, CHANGE ${y} ${x} ${TYPES[0]}`,
        `INSERT IGNORE INTO ghost SELECT * FROM ${one}`,
        `RENAME TABLE ${one} TO old, ghost TO ${one}`,
        'DROP TABLE IF EXISTS old, ghost',
      ];
    case 12:
      return [`ALTER TABLE ${one} COMMENT = 'harmless'`, `ALTER TABLE ${one} ADD INDEX i_${x} (${x})`];
    default:
      return [`CREATE OR REPLACE TABLE ${one} (id INT AUTO_INCREMENT PRIMARY KEY, ${columns(random)})`];
  }
}

function write(random: Random): string {
  const table = oneOf(random, TABLES);
  const [x, y] = permuted(random, NAMES) as [string, string];
  const value = (): string =>
    oneOf(random, ['NULL', "'x'", "'y'", `'${below(random, 1e6)}'`, `'${x}é${below(random, 99)}'`]);
  switch (below(random, 5)) {
    case 0:
      return `UPDATE IGNORE ${table} SET ${x} = ${value()} ORDER BY id DESC LIMIT 3`;
    case 1:
      return `DELETE FROM ${table} ORDER BY ${oneOf(random, ['id', x])} LIMIT 2`;
    default:
      return `INSERT IGNORE INTO ${table} (${x}, ${y}) VALUES (${value()}, ${value()}), (${value()}, ${value()})`;
  }
}

async function session(branch: Branch): Promise<Connection> {
  const { host, port, user, password } = branch.source;
  const connection = await mysql.createConnection({
    host,
    port,
    user,
    password,
    database: branch.schema,
    charset: 'utf8mb4',
  });
  await connection.query("SET SESSION sql_mode = ''");
  return connection;
}

/** Whether it fails is the branch's business. */
async function attempt(connection: Connection, statement: string): Promise<boolean> {
  return connection.query(statement).then(
    () => true,
    () => false,
  );
}

async function storm(world: World, branch: Branch, seed: number): Promise<string> {
  const random = randomFrom(seed);
  const { agent } = branch;
  const changing = await session(branch);
  for (const table of TABLES) await attempt(changing, create(random, table));
  // In an epoch that has begun, and with definitions that are stored: otherwise all would come by the first copy.
  await branch.startAgent();
  await attempt(changing, 'INSERT INTO t1 VALUES ()');
  await world.waitUntilEqual(branch);
  const done = { writes: 0, changes: 0, restarts: 0 };
  const running = { writers: true };
  const writers = Array.from({ length: WRITERS }, async (_, number) => {
    const own = randomFrom(seed * 100 + number);
    const connection = await session(branch);
    while (running.writers) {
      if (await attempt(connection, write(own))) done.writes += 1;
      // Rows that nobody waits for prove nothing more, and all of them are copied again and again.
      await delay(WRITE_EVERY_MS);
    }
    connection.destroy();
  });
  try {
    for (let i = 0; i < STATEMENTS; i += 1) {
      for (const statement of change(random)) if (await attempt(changing, statement)) done.changes += 1;
      const writes = done.writes + below(random, 30);
      await until('rows', () => done.writes >= writes);
      if (random() < 0.12) {
        done.restarts += 1;
        if (agent.running) await (random() < 0.5 ? agent.kill9() : agent.stop());
        else await branch.startAgent();
      }
    }
  } finally {
    running.writers = false;
    await Promise.all(writers);
    changing.destroy();
  }
  if (!agent.running) await branch.startAgent();
  const { rowsCompared } = await world.waitUntilEqual(branch);
  const secret = agent.log().filter(({ msg = '' }) => /does not fit|without a statement/.test(msg));
  if (secret.length > 0) throw new Error(`nothing was changed in secret, but: ${String(secret[0]?.msg)}`);
  return `${rowsCompared} rows, ${done.writes} writes, ${done.changes} changes of tables, ${done.restarts} stops and starts`;
}

/** Rows before, between and after two changes that leave the list of types as it was, while the agent is away. */
async function swaps(t: Test, world: World, branch: Branch): Promise<void> {
  const { agent, db } = branch;
  const pair = '(id INT PRIMARY KEY, a VARCHAR(20), b VARCHAR(20))';
  const other = '(id INT PRIMARY KEY, b VARCHAR(20), a VARCHAR(20))';
  for (const table of ['renamed', 'remade', 'exchanged']) await db.query(`CREATE TABLE ${table} ${pair}`);
  await db.query(`CREATE TABLE exchanged_too ${other}`);
  for (const n of [3, 4, 5]) await db.query(`CREATE TABLE noise_${n} (id INT PRIMARY KEY, c INT NOT NULL)`);
  const insert = async (id: number): Promise<void> => {
    for (const table of ['renamed', 'remade', 'exchanged', 'exchanged_too']) {
      await db.query(`INSERT INTO ${table} (id, a, b) VALUES (${id}, 'a${id}', 'b${id}')`);
      await db.query(`UPDATE ${table} SET b = 'B${id}' WHERE id = ${id}`);
    }
  };
  await insert(1);
  await agent.start();
  await insert(2);
  await world.waitUntilEqual(branch);
  const { findings } = JSON.parse((await branch.cli(['check', '--json'])).stdout) as { findings: Finding[] };
  const finding = findings.find(({ subject }) => subject === 'source.binlog_row_metadata');
  t.match(finding, {
    level: 'warning',
    message: /copies a table after any change/,
    statement: /binlog_row_metadata=FULL$/,
  });
  await insert(3);
  await agent.stop();
  await db.query("INSERT INTO renamed (id, a, b) VALUES (900, 'a', 'b'), (901, 'a', 'b')");
  // A statement ends the batch, so that it shows what came before.
  await db.query('ALTER TABLE noise_3 MODIFY COLUMN c BIGINT NOT NULL');
  await db.query('DELETE FROM renamed WHERE id >= 900');
  for (const id of [4, 5]) {
    await insert(id * 10);
    await db.query('ALTER TABLE renamed CHANGE a b VARCHAR(20), CHANGE b a VARCHAR(20)');
    await db.query('DROP TABLE remade');
    await db.query(`CREATE TABLE remade ${id === 4 ? other : pair}`);
    await db.query('RENAME TABLE exchanged TO x, exchanged_too TO exchanged, x TO exchanged_too');
    await insert(id);
    await db.query(`INSERT INTO renamed (id, a, b) VALUES (95${id}, 'a', 'b')`);
    await db.query(`ALTER TABLE noise_${id} MODIFY COLUMN c BIGINT NOT NULL`);
    await db.query('DELETE FROM renamed WHERE id >= 900');
  }
  await agent.start();
  const { rowsCompared } = await world.waitUntilEqual(branch);
  t.pass(`${rowsCompared} rows equal`);
  await insert(6);
  await world.waitUntilEqual(branch);
  await agent.stop();
  t.same(
    rowsSent(branch, 'renamed').filter(({ id }) => Number(id) >= 900),
    [900, 901].map(id => ({ id, a: 'a', b: 'b' })),
    'rows from before the first statement are read with what was stored, later ones not at all',
  );
}

/** All rows of a table that went into the spool, from the stream or from a copy. */
function rowsSent(branch: Branch, table: string): Record<string, Value>[] {
  const spool = openSpool(branch.spoolDirectory, { branch: branch.id });
  try {
    const { base, head } = spool.stream();
    const batches = Array.from({ length: head.seq - base.seq }, (_, i) => spool.read(base.seq + i + 1));
    return batches.flatMap(batch => {
      const { tables, changes } = decodeBatch(batch?.body ?? Buffer.alloc(0));
      return changes.flatMap(change => {
        if (change.op !== 'upsert' || tables[change.table]?.name !== table) return [];
        const names = tables[change.table]?.columns.map(({ name }) => name) ?? [];
        return Array.from({ length: change.rows }, (_, row) =>
          Object.fromEntries(names.map((name, column) => [name, change.values[column]?.[row] ?? null])),
        );
      });
    });
  } finally {
    spool.close();
  }
}

/** Changes that the binlog does not have: what shows is repaired, and told. */
async function unlogged(t: Test, world: World, branch: Branch): Promise<void> {
  const { agent, db } = branch;
  await db.query('CREATE TABLE hid (id INT PRIMARY KEY, a VARCHAR(20), b VARCHAR(20))');
  await db.query("INSERT INTO hid VALUES (1, 'a', 'b')");
  await agent.start();
  await db.query("INSERT INTO hid VALUES (2, 'a', 'b')");
  await world.waitUntilEqual(branch);
  const hidden = async (sql: string): Promise<void> => {
    await db.query('SET SESSION sql_log_bin = 0');
    await db.query(sql);
    await db.query('SET SESSION sql_log_bin = 1');
  };
  await hidden('ALTER TABLE hid ADD COLUMN c INT FIRST');
  await db.query("INSERT INTO hid (id, a, b, c) VALUES (3, 'a', 'b', 3)");
  await agent.waitForLog(({ msg = '' }) => msg.includes('does not fit'));
  await world.waitUntilEqual(branch);
  await db.query("INSERT INTO hid (id, a, b, c) VALUES (4, 'a', 'b', 3)");
  await world.waitUntilEqual(branch);
  await hidden('ALTER TABLE hid CHANGE a b VARCHAR(20), CHANGE b a VARCHAR(20)');
  await agent.restart();
  await agent.waitForLog(({ msg = '' }) => msg.includes('without a statement in the binlog'));
  await db.query("INSERT INTO hid (id, a, b, c) VALUES (5, 'a', 'b', 3)");
  const { rowsCompared } = await world.waitUntilEqual(branch);
  t.pass(`${rowsCompared} rows equal`);
  await agent.stop();
}

for (const flavor of ['mysql', 'mariadb'] as const) {
  if (ONE_FLAVOR !== undefined && ONE_FLAVOR !== flavor) continue;
  void t.test(`a binlog that does not name columns: ${flavor}`, async t => {
    const source = await DatabaseServer.start({
      flavor,
      name: `storm-${flavor}`,
      role: 'branch',
      options: LEAST[flavor],
    });
    t.teardown(() => source.remove());
    const world = await createWorld(t);
    await world.startApplier();
    await t.test('names that change places while the agent is away', async t =>
      swaps(t, world, await world.addBranch('swaps', { source })),
    );
    await t.test('changes that the binlog does not have', async t =>
      unlogged(t, world, await world.addBranch('unlogged', { source })),
    );
    for (let i = 0; i < RUNS; i += 1) {
      const seed = first + i;
      await t.test(`a storm of changes, SEED=${seed}`, async t => {
        const branch = await world.addBranch(`storm-${i}`, { source });
        t.pass(await storm(world, branch, seed));
        await branch.agent.stop();
      });
    }
  });
}
