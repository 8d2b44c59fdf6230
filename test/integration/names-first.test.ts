/**
 * The server's catalogue is asked for names, and then about captured tables alone: a question about all tables has the server
 * open each of them, and a MariaDB 11.8.9 has crashed over one.
 */
import { randomBytes } from 'node:crypto';
import t from 'tap';
import { createRig } from '../support/world/capture-rig.ts';

const NAMES = 'SELECT TABLE_SCHEMA AS ts, TABLE_NAME AS tn FROM information_schema.TABLES';
const OF_TABLES = /information_schema\.(?:TABLES|COLUMNS|STATISTICS|KEY_COLUMN_USAGE)\b/gi;
const BY_NAME = /TABLE_SCHEMA = \? AND TABLE_NAME = \?/g;

for (const flavor of ['branchMysql', 'branchMysqlNoGtid', 'branchMariadb'] as const) {
  void t.test(`${flavor}: no question to the catalogue is about a table that is not captured`, async t => {
    const asked: { sql: string; values: readonly (string | number)[] }[] = [];
    const rig = await createRig(t, {
      flavor,
      onSource: source => {
        const rows = source.rows.bind(source);
        source.rows = async (sql, values) => {
          if (sql.match(OF_TABLES) !== null) asked.push({ sql, values: values ?? [] });
          return rows(sql, values);
        };
      },
    });
    const { db, schema } = rig;
    const other = `other_${randomBytes(4).toString('hex')}`;
    await db.query(`CREATE DATABASE ${other}`);
    t.teardown(() => rig.db.query(`DROP DATABASE ${other}`));
    await db.query(`CREATE TABLE ${other}.sale (id INT PRIMARY KEY, v INT)`);
    await db.query('CREATE TABLE kept (id INT PRIMARY KEY, v VARCHAR(9) CHARACTER SET sjis)');
    await db.query('CREATE TABLE loose (v INT)');
    await db.query(
      'CREATE TABLE below (id INT PRIMARY KEY, kept INT, FOREIGN KEY (kept) REFERENCES kept (id) ON DELETE CASCADE)',
    );
    await db.query('CREATE VIEW seen AS SELECT id FROM kept');
    await db.query("INSERT INTO kept VALUES (1, 'a')");
    await db.query('INSERT INTO loose VALUES (1), (1)');
    await db.query('INSERT INTO below VALUES (1, 1)');
    rig.start();
    await rig.caughtUp();
    await db.query('ALTER TABLE kept ADD w INT NOT NULL DEFAULT 5');
    await rig.caughtUp();
    t.same(rig.replica().rows('kept'), [{ id: 1, v: 'a', w: 5 }]);
    await db.query('DELETE FROM kept');
    await rig.until('the cascade', async () => {
      await rig.caughtUp();
      return rig.replica().rows('below').length === 0;
    });
    t.ok(asked.length > 10);
    for (const { sql, values } of asked) {
      if (sql === NAMES) continue;
      t.equal(sql.match(OF_TABLES)?.length, sql.match(BY_NAME)?.length, sql);
      t.same([...new Set(values.filter((_, place) => place % 2 === 0))], [schema], sql);
    }
  });
}
