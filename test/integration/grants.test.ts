/**
 * What `check --grants` prints is enough for all that the programs do, and `check` asks for no more: users with exactly
 * these rights at both databases and at the broker go the whole way.
 */
import { join } from 'node:path';
import mysql from 'mysql2/promise';
import t from 'tap';
import type { Test } from 'tap';
import type { Product } from '../../deploy/rig/daemon.ts';
import type { DatabaseAddress } from '../../deploy/rig/shared-servers.ts';
import type { Grants } from '../../shared/process/grants.ts';
import { brokerShell } from '../support/documents/guides.ts';
import { createWorld, expectSuccess } from '../support/world/world.ts';
import type { Branch, World } from '../support/world/world.ts';

/** From where the tests connect. */
const HOST = '127.%';
/** Above what the applier rebuilds without asking (applier/apply/table-store.ts). */
const LARGE_BYTES = 72_000_000;

const SETUP = [
  'CREATE TABLE sale (id INT PRIMARY KEY, amount INT, note LONGTEXT)',
  "INSERT INTO sale VALUES (1, 10, 'before'), (2, 20, 'before')",
  'CREATE TABLE form (a INT PRIMARY KEY, b INT)',
  'INSERT INTO form VALUES (1, 1), (2, 2)',
];

void t.test('users with exactly the rights that check --grants prints go the whole way', async t => {
  const world = await createWorld(t);
  const user = `g_${world.id}`;
  const applier = await restrictedApplier(t, world, user);
  await applier.start();
  await applier.waitReady();
  const paris = await restrictedBranch(t, world, 'paris', user, { flavor: 'branchMysql', tables: ['*'] });
  const lyon = await restrictedBranch(t, world, 'lyon', user, { flavor: 'branchMariadb', tables: ['sale', 'form'] });
  await t.test('what is missing of it is told', async t => {
    const account = `'${user}'@'${HOST}'`;
    await lyon.db.query(`REVOKE SLAVE MONITOR ON *.* FROM ${account}`);
    t.match((await lyon.cli(['check'])).stdout, `GRANT SLAVE MONITOR ON *.* TO ${account}`);
    await lyon.db.query(`GRANT SLAVE MONITOR ON *.* TO ${account}`);
  });
  await Promise.all([paris, lyon].map(branch => branch.startAgent()));
  const equal = (branch: Branch) => world.waitUntilEqual(branch);
  await Promise.all([paris, lyon].map(equal));

  for (const { db } of [paris, lyon]) {
    await db.query("INSERT INTO sale VALUES (3, 30, 'streamed')");
    await db.query('UPDATE sale SET amount = 11 WHERE id = 1');
    await db.query('DELETE FROM sale WHERE id = 2');
    await db.query('ALTER TABLE sale ADD COLUMN seller VARCHAR(20)');
    await db.query("INSERT INTO sale VALUES (4, 40, 'after', 'anna')");
    await db.query('TRUNCATE TABLE form');
  }
  await Promise.all([paris, lyon].map(equal));

  await t.test('a row that no branch has is swept', async () => {
    await world.headOfficeDb.query(
      'INSERT INTO sale (_branch, id, amount, _batch, _changed_at) SELECT _branch, 99, 99, 0, NOW() FROM sale WHERE id = 1',
    );
    for (const { id } of [paris, lyon]) expectSuccess(await world.applierCli(['branch', 'snapshot', id]));
    await Promise.all([paris, lyon].map(equal));
  });

  await t.test('an empty table of another form is made anew', async () => {
    for (const { db } of [paris, lyon]) {
      await db.query('DROP TABLE form');
      await db.query('CREATE TABLE form (a INT, b INT)');
      await db.query('INSERT INTO form VALUES (1, 1), (1, 1)');
    }
    await Promise.all([paris, lyon].map(equal));
  });

  await t.test('a large table is rebuilt once that is approved', async t => {
    const piece = LARGE_BYTES / 9;
    await world.headOfficeDb.query(
      `INSERT INTO sale (_branch, id, note, _batch, _changed_at)
       WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9)
       SELECT 'nobody', i, REPEAT('x', ${piece}), 0, NOW() FROM n`,
    );
    // The server counts a table's pages some seconds later by itself.
    await world.headOfficeDb.query('ANALYZE TABLE sale');
    await paris.db.query('ALTER TABLE sale MODIFY amount BIGINT');
    await paris.db.query("INSERT INTO sale VALUES (5, 5000000000, 'wide', 'anna')");
    const halted = async (): Promise<boolean> =>
      expectSuccess(await world.applierCli(['branch', 'show', paris.id])).stdout.includes('TARGET_SCHEMA');
    await paris.agent.waitUntil('the branch is halted', halted);
    expectSuccess(await world.applierCli(['schema', 'approve', paris.id]));
    await equal(paris);
    t.notOk(await halted());
  });

  const removed = await world.applierCli(['branch', 'remove', lyon.id, '--delete-data', '--yes', '--json']);
  t.ok((JSON.parse(expectSuccess(removed).stdout) as { deletedRows: number }).deletedRows > 0);
  expectSuccess(await world.applierCli(['branch', 'rotate', paris.id, '--out', join(world.directory, 'rotated')]));
});

/** An applier whose users may do what is printed for it; managing is another user's than reading. */
async function restrictedApplier(t: Test, world: World, user: string): Promise<Product> {
  const { host, port, managementPort, password } = world.broker;
  const [reader, manager] = [`reader-${world.id}`, `manager-${world.id}`];
  const applier = await world.applier({
    config: {
      target: { user },
      broker: {
        url: `amqp://${reader}@${host}:${port}/${world.vhost}`,
        management: `http://${manager}@${host}:${managementPort}`,
        managementPasswordFile: 'broker.password',
      },
    },
  });
  const { sql, commands } = grantsOf(await world.applierCli(['check', '--grants', HOST, '--json']));
  t.notMatch(sql.join('\n'), / ON \*\.\*/, 'nothing global at the head office');
  await makeUser(t, world.headOffice, user, sql);
  for (const name of [reader, manager]) {
    t.teardown(() => world.managementApi('DELETE', `/users/${name}`));
    await world.managementApi('PUT', `/users/${name}`, { password, tags: '' });
  }
  const { status, errors } = await brokerShell(world).run({ language: 'sh', text: commands.join('\n') });
  t.equal(status, 0, errors);
  expectSuccess(await world.applierCli(['check']));
  return applier;
}

/** A branch, enrolled, whose user may do what is printed for it. */
async function restrictedBranch(
  t: Test,
  world: World,
  name: string,
  user: string,
  { flavor, tables }: { readonly flavor: 'branchMysql' | 'branchMariadb'; readonly tables: readonly string[] },
): Promise<Branch> {
  const branch = await world.addBranch(name, { flavor, setup: SETUP, config: { source: { user } } });
  branch.configure({ tables: { include: tables.map(table => `${branch.schema}.${table}`) } });
  await makeUser(t, branch.source, user, grantsOf(await branch.cli(['check', '--grants', HOST, '--json'])).sql);
  const { stdout } = expectSuccess(await branch.cli(['check', '--json']));
  t.notMatch(stdout, /GRANT/, 'nor does check ask for any other');
  return branch;
}

function grantsOf(result: Parameters<typeof expectSuccess>[0]): Grants {
  return JSON.parse(expectSuccess(result).stdout) as Grants;
}

async function makeUser(t: Test, server: DatabaseAddress, user: string, sql: readonly string[]): Promise<void> {
  const { host, port, password } = server;
  const connection = await mysql.createConnection({ host, port, user: server.user, password });
  t.teardown(async () => {
    await connection.query(`DROP USER IF EXISTS '${user}'@'${HOST}'`);
    await connection.end();
  });
  await connection.query(`CREATE USER '${user}'@'${HOST}' IDENTIFIED BY '${password}'`);
  for (const statement of sql) await connection.query(statement);
}
