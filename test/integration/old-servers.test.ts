/**
 * Every question that the agent asks is understood by the oldest servers, with the least rights, and every statement that
 * `check` proposes works there. Whole streams from older servers are in cases.test.ts and test/servers.
 */
import t from 'tap';
import { agentGrants } from '../../agent/grants.ts';
import { chunkQuery, lockingQuery, scanQuery } from '../../agent/snapshot/chunk-query.ts';
import { SourceConnection } from '../../agent/source/connection.ts';
import { readCatalogue } from '../../agent/source/catalogue.ts';
import { checkRights, checkSettings, checkTables } from '../../agent/source/preflight.ts';
import { createTableFilter } from '../../agent/source/table-filter.ts';
import { describeTables } from '../../agent/source/tables.ts';
import { ServerCharsets } from '../../agent/values/server-charsets.ts';
import { DatabaseServer } from '../../deploy/rig/database-server.ts';
import { whyNoJars } from '../../deploy/rig/install/jar.ts';
import { BUNDLES } from '../../deploy/rig/install/releases.ts';
import { Secret } from '../../shared/config/secret.ts';
import { loginStatements } from '../../shared/database/login.ts';
import type { Finding } from '../../shared/process/findings.ts';
import { connectTo } from '../support/world/capture-rig.ts';

const TABLES = [
  'CREATE TABLE keyed (a INT, b VARCHAR(20), c DATETIME(3), PRIMARY KEY (a, b))',
  "INSERT INTO keyed VALUES (1, 'x', '2026-11-30'), (2, 'y', NULL)",
  'CREATE TABLE keyless (a INT, b TEXT, e ENUM("x", "y"), f FLOAT, j JSON, n VARCHAR(9) CHARACTER SET gbk)',
  'INSERT INTO keyless VALUES (1, "t", "x", 0.1, "{}", "中")',
  'CREATE TABLE reserved (id INT PRIMARY KEY, _branch INT)',
  'CREATE TABLE child (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES reserved (id) ON DELETE CASCADE)',
  'CREATE TABLE made (id INT PRIMARY KEY, twice INT AS (id * 2) STORED)',
];

for (const release of ['mysql-5.7', 'mysql-8.0.15', 'mariadb-10.2', 'mariadb-10.5'] as const) {
  const skip = (BUNDLES[release].jar !== undefined && (await whyNoJars())) || false;
  void t.test(`${release} understands the agent’s questions`, { skip }, async t => {
    const flavor = release.startsWith('mysql') ? 'mysql' : 'mariadb';
    // Without GTIDs MySQL is asked more.
    const options = flavor === 'mysql' ? { 'gtid-mode': 'OFF', 'enforce-gtid-consistency': 'OFF' } : {};
    const server = await DatabaseServer.start({ flavor, release, name: release, role: 'branch', options });
    t.teardown(() => server.remove());
    const db = await connectTo(server);
    t.teardown(() => db.destroy());
    await db.query('CREATE DATABASE shop');
    await db.query('USE shop');
    await db.query('SET NAMES utf8mb4');
    for (const sql of TABLES) await db.query(sql);
    await db.query(`SET GLOBAL wait_timeout = 5 /*!50708 , GLOBAL max_execution_time = 7 */`);
    for (const sql of loginStatements('tributary', agentGrants('tributary', ['shop.*'], '%').sql).split('; '))
      await db.query(sql);

    const tls = { mode: 'off', ca: null, cert: null, key: null, verifyName: true } as const;
    const password = Secret.of('<the password from the file>');
    const login = { host: server.host, port: server.port, user: 'tributary', password, tls };
    const open = async (): Promise<SourceConnection> => {
      const source = await SourceConnection.open(login, 'old servers');
      t.teardown(() => source.destroy());
      return source;
    };
    const source = await open();
    const identity = await source.identity();
    const tableFilter = createTableFilter({ include: ['shop.*'], exclude: [], map: {} });

    await t.test('the session', async t => {
      if (flavor === 'mysql') {
        t.same(await source.rows('SELECT @@SESSION.max_execution_time AS ms'), [{ ms: '0' }], 'no limit of time');
      }
      t.match(await source.time(), /^\d{4}-/);
      const { startedAt } = await source.run();
      t.ok(startedAt > 0);
      t.match(await source.binlogEnd(), { file: 'binlog.000001' });
      t.equal(await source.isReplica(), false);
      if (flavor === 'mariadb') t.match(await source.snapshotPlace(), { file: 'binlog.000001' });
      if (flavor === 'mariadb') t.match(await source.mariadbGtids(await source.binlogEnd()), /^0-/);
    });

    await t.test('settings and rights', async t => {
      const faults = async (): Promise<Finding[]> => [
        ...(await checkSettings(source, identity)),
        ...(await checkRights(source, identity, tableFilter)),
      ];
      const wrong = async (): Promise<Finding[]> => (await faults()).filter(({ level }) => level === 'fault');
      const found = await wrong();
      const wanted = release === 'mysql-8.0.15' ? [/LOCK TABLES/] : [];
      t.match(
        found.map(({ statement }) => statement),
        wanted,
      );
      t.equal(found.length, wanted.length);
      for (const { statement } of found) await db.query(statement ?? '');
      t.same(await wrong(), [], 'the statement helps');
      const seconds = (await source.variables()).has('binlog_expire_logs_seconds');
      await db.query(`SET GLOBAL ${seconds ? 'binlog_expire_logs_seconds = 86400' : 'expire_logs_days = 1'}`);
      t.equal(await source.binlogRetentionSeconds(), 86_400);
      const warned = (await faults()).find(({ subject }) => subject.includes('expire_logs'));
      t.equal(warned?.level, 'warning', warned?.message ?? 'nothing found');
      await db.query(warned?.statement ?? '');
      t.equal(await source.binlogRetentionSeconds(), 14 * 86_400, 'the statement helps');
    });

    await t.test('the catalogue, and what is proposed for tables', async t => {
      const catalogue = await readCatalogue(source, identity, tableFilter, { others: [], definitions: true });
      t.equal(catalogue.tables.length, 5);
      const cascades = (await source.unloggedCascades(catalogue.tables)) ?? [];
      t.equal(cascades.length, 1);
      const tables = await describeTables(source, tableFilter);
      t.same(
        tables.map(({ problem }) => problem).filter(problem => problem !== null),
        [],
      );
      const proposed = checkTables(identity, tables, cascades).flatMap(({ statement }) => statement ?? []);
      t.ok(proposed.length >= 1, 'a key');
      await source.execute('SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED');
      for (const table of tables) {
        const keyed = table.columns.some(column => column.key !== undefined);
        // A key's order that the server does not understand would show here.
        await source.cells(
          keyed ? chunkQuery(table, null, 10, flavor === 'mysql' ? ' LOCK IN SHARE MODE' : '') : scanQuery(table, null),
        );
        if (flavor === 'mysql') await source.execute(lockingQuery(table));
      }
      for (const statement of proposed) await db.query(statement);
    });

    await t.test('every character set', async t => {
      const charsets = await ServerCharsets.read(source, flavor === 'mariadb');
      const sets = await source.rows('SELECT CHARACTER_SET_NAME AS name FROM information_schema.CHARACTER_SETS');
      await charsets.load(
        source,
        sets.map(row => row['name'] ?? ''),
      );
      t.not(charsets.named('gbk'), null);
      t.not(charsets.ofCollation(28), null, 'gbk_chinese_ci');
    });
  });
}
