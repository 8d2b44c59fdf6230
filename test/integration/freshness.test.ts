/**
 * The views for reports: what they say of a table and a branch, that a user of reports needs no more than check --grants
 * --reader prints, and that the applier works without them where it may not create them.
 */
import mysql from 'mysql2/promise';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import type { Test } from 'tap';
import type { Grants } from '../../shared/process/grants.ts';
import { createWorld, expectSuccess } from '../support/world/world.ts';
import type { World } from '../support/world/world.ts';

/** From where the tests connect. */
const HOST = '127.%';

/** The pattern of docs/reports.md: only branches whose table is complete to the closing time. */
const COMPLETE_SALES = `SELECT s.id FROM sale s
  JOIN tributary_freshness f ON f.branch = s._branch AND f.table_name = 'sale' AND f.complete_as_of >= ?
  ORDER BY s.id`;
const HOW_MANY = `SELECT COUNT(*) AS branches, CAST(SUM(COALESCE(complete_as_of >= ?, 0)) AS SIGNED) AS complete
  FROM tributary_fleet`;

async function query(db: Connection, sql: string, values: string[] = []): Promise<RowDataPacket[]> {
  return (await db.query<RowDataPacket[]>(sql, values))[0];
}

/** A user of the head office with these rights, and a connection of it in its database. */
async function userWith(t: Test, world: World, user: string, statements: readonly string[]): Promise<Connection> {
  const { host, port, password } = world.headOffice;
  const root = await mysql.createConnection({ host, port, user: world.headOffice.user, password });
  t.teardown(async () => {
    await root.query(`DROP USER IF EXISTS '${user}'@'${HOST}'`);
    await root.end();
  });
  await root.query(`CREATE USER '${user}'@'${HOST}' IDENTIFIED BY '${password}'`);
  for (const statement of statements) await root.query(statement);
  const db = await mysql.createConnection({ host, port, user, password, dateStrings: true, timezone: 'Z' });
  t.teardown(() => db.end());
  if (statements.length > 0) await db.query(`USE ${world.database}`);
  return db;
}

async function printedGrants(world: World, args: readonly string[]): Promise<readonly string[]> {
  const { stdout } = expectSuccess(await world.applierCli(['check', '--grants', HOST, ...args, '--json']));
  return (JSON.parse(stdout) as Grants).sql;
}

void t.test('reports ask the head office itself how complete it is', async t => {
  const world = await createWorld(t);
  const user = `f_${world.id}`;
  const applier = await world.applier({ config: { target: { user } } });
  const printed = await printedGrants(world, []);
  await userWith(t, world, user, [printed.join('').replace(', CREATE VIEW', '')]);
  await applier.start();
  await applier.waitReady();
  const hq = world.headOfficeDb;

  await t.test('an applier that may not create views does all else, and check says what is missing', async t => {
    t.same(await query(hq, "SHOW TABLES LIKE 'tributary\\_f%'"), []);
    const { code, stdout } = await world.applierCli(['check']);
    t.equal(code, 0, 'which is no fault');
    t.match(stdout, /target\.views: .*lacks CREATE VIEW.*tributary_freshness/);
    t.match(stdout, `GRANT SELECT, INSERT`);
    // As it was printed: the server takes a database's name without escapes for another one's pattern.
    await hq.query(printed.join(''));
    await applier.stop();
    await applier.start();
    await applier.waitReady();
    t.equal((await query(hq, 'SELECT * FROM tributary_fleet')).length, 0, 'with the right they are there');
    t.match((await world.applierCli(['check'])).stdout, /target\.views: tributary_freshness, tributary_fleet/);
  });

  const setup = ['CREATE TABLE sale (id INT PRIMARY KEY)', 'CREATE TABLE stock (id INT PRIMARY KEY)'];
  const paris = await world.addBranch('paris', { setup: [...setup, 'INSERT INTO sale VALUES (1)'] });
  const lyon = await world.addBranch('lyon', { setup: [...setup, 'INSERT INTO sale VALUES (2)'] });
  for (const branch of [paris, lyon]) await branch.startAgent();
  for (const branch of [paris, lyon]) await world.waitUntilEqual(branch);
  const [now] = await query(hq, 'SELECT CAST(UTC_TIMESTAMP(6) AS CHAR) AS now');
  const closing = String(now?.['now']);
  const reports = await userWith(t, world, `r_${world.id}`, await printedGrants(world, ['--reader', `r_${world.id}`]));
  const complete = async (): Promise<number> => {
    const [row] = await query(reports, HOW_MANY, [closing]);
    return Number(row?.['complete']);
  };

  await t.test('a user of reports reads the views and the tables of branches, and nothing else', async t => {
    await applier.waitUntil('both branches are complete to the closing time', async () => (await complete()) === 2);
    t.same(await query(reports, COMPLETE_SALES, [closing]), [{ id: 1 }, { id: 2 }]);
    for (const table of ['tributary_branch', 'tributary_quarantine', 'tributary_broker_user']) {
      await t.rejects(query(reports, `SELECT * FROM ${table}`), /SELECT command denied/, table);
    }
    await t.rejects(reports.query('DELETE FROM sale'), /DELETE command denied/);
    const rows = await query(
      reports,
      "SELECT table_name, verified_at, verdict, rows_set_aside, state FROM tributary_freshness WHERE branch LIKE 'paris%'",
    );
    t.same(rows, [
      { table_name: 'sale', verified_at: null, verdict: null, rows_set_aside: 0, state: 'complete' },
      { table_name: 'stock', verified_at: null, verdict: null, rows_set_aside: 0, state: 'complete' },
    ]);
  });

  await t.test('a branch that is away is complete as of then, and not later', async t => {
    await lyon.agent.stop();
    const [later] = await query(hq, 'SELECT CAST(UTC_TIMESTAMP(6) + INTERVAL 1 SECOND AS CHAR) AS later');
    const time = String(later?.['later']);
    await applier.waitUntil('paris is complete to a later time', async () => {
      const [row] = await query(reports, HOW_MANY, [time]);
      return Number(row?.['complete']) === 1;
    });
    t.same(await query(reports, COMPLETE_SALES, [time]), [{ id: 1 }]);
    t.equal(await complete(), 2, 'the earlier time holds for both');
  });

  await t.test('a table whose rows may be missing or differ is complete as of no time', async t => {
    const { id } = lyon;
    const stateOf = async (): Promise<unknown> => {
      const rows = await query(
        reports,
        'SELECT table_name, complete_as_of IS NULL AS unknown, rows_set_aside, state FROM tributary_freshness WHERE branch = ?',
        [id],
      );
      const [fleet] = await query(
        reports,
        'SELECT state, complete_as_of IS NULL AS unknown, complete_tables, all_tables FROM tributary_fleet WHERE branch = ?',
        [id],
      );
      return [...rows.map(row => Object.values(row).join(' ')), Object.values(fleet ?? {}).join(' ')];
    };
    const sale = `branch, source_schema, table_name, key_hash, op, code, reason, epoch, seq, batch_number, quarantined_at`;
    await hq.query(
      `INSERT INTO tributary_quarantine (${sale}) VALUES (?, ?, 'sale', 'abc', 'upsert', 'BATCH_REFUSED', 'x', 'e', 1, 1, NOW())`,
      [id, lyon.schema],
    );
    await hq.query('UPDATE tributary_branch SET quarantined = 1 WHERE branch = ?', [id]);
    t.same(await stateOf(), ['sale 1 1 quarantined', 'stock 0 0 complete', 'quarantined 1 1 2']);
    await hq.query(
      "UPDATE tributary_branch SET incomplete_since = UTC_TIMESTAMP(6), incomplete_until = 'snapshot' WHERE branch = ?",
      [id],
    );
    t.same(await stateOf(), ['sale 1 1 incomplete', 'stock 1 0 incomplete', 'incomplete 1 0 2']);
    await hq.query('UPDATE tributary_branch SET incomplete_since = NULL, quarantined = 0 WHERE branch = ?', [id]);
    await hq.query('DELETE FROM tributary_quarantine WHERE branch = ?', [id]);
    t.same(await stateOf(), ['sale 0 0 complete', 'stock 0 0 complete', 'complete 0 2 2']);
    await hq.query("UPDATE tributary_branch SET state = 'halted' WHERE branch = ?", [id]);
    t.same(await stateOf(), ['sale 0 0 complete', 'stock 0 0 complete', 'halted 0 2 2'], 'what is here stays complete');
    await hq.query("UPDATE tributary_branch SET state = 'active' WHERE branch = ?", [id]);
  });

  await t.test('a comparison shows with its verdict and its time', async t => {
    await hq.query('DELETE FROM sale WHERE id = 1');
    const tick = setInterval(() => void paris.db.query('INSERT IGNORE INTO stock VALUES (1)'), 300);
    t.teardown(() => clearInterval(tick));
    t.equal((await world.applierCli(['branch', 'verify', paris.id])).code, 1);
    const rows = await query(
      reports,
      `SELECT table_name, verdict, verified_at IS NULL AS never, state, complete_as_of IS NULL AS unknown
         FROM tributary_freshness WHERE branch = ?`,
      [paris.id],
    );
    t.same(rows, [
      { table_name: 'sale', verdict: 'different', never: 0, state: 'different', unknown: 1 },
      { table_name: 'stock', verdict: 'equal', never: 0, state: 'complete', unknown: 0 },
    ]);
    t.same(await query(reports, COMPLETE_SALES, [closing]), [{ id: 2 }], 'a report leaves it out');
  });

  await t.test('a removed branch is not among them', async t => {
    expectSuccess(await world.applierCli(['branch', 'remove', lyon.id]));
    t.equal((await query(reports, 'SELECT * FROM tributary_fleet')).length, 1);
  });
});
