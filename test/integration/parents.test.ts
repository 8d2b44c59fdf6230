/**
 * Tables below parents that are not captured, on servers that do not log what they cascade: rows of a parent are looked at for
 * that alone, and the tables below are copied again.
 */
import t from 'tap';
import type { Test } from 'tap';
import { DatabaseServer } from '../../deploy/rig/database-server.ts';
import { sharedServers } from '../../deploy/rig/shared-servers.ts';
import { createRig } from '../support/world/capture-rig.ts';
import type { CaptureRig, SourceAddress } from '../support/world/capture-rig.ts';

async function createTables({ db }: CaptureRig): Promise<void> {
  // Of a type that no batch could carry: what is not captured may be anything.
  await db.query(
    'CREATE TABLE parent (id INT PRIMARY KEY, code INT UNIQUE, v INT, g GEOMETRY, j JSON, t TEXT CHARACTER SET swe7)',
  );
  await db.query(
    'CREATE TABLE child (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE)',
  );
  await db.query(
    'CREATE TABLE coded (id INT PRIMARY KEY, c INT, FOREIGN KEY (c) REFERENCES parent (code) ON UPDATE CASCADE ON DELETE CASCADE)',
  );
  await db.query(
    'INSERT INTO parent (id, code, v, t) VALUES (1, 1, 1, "a"), (2, 2, 2, "b"), (3, 3, 3, "c"), (4, 4, 4, "d")',
  );
  await db.query('INSERT INTO child VALUES (10, 1), (20, 2), (30, 3), (40, 4)');
  await db.query('INSERT INTO coded VALUES (20, 2), (30, 3), (40, 4)');
}

async function same(t: Test, rig: CaptureRig, what: string): Promise<void> {
  await rig.caughtUp();
  for (const table of ['child', 'coded']) {
    t.same(rig.replica().rows(table), await rig.sourceRows(table), `${what}: ${table}`);
  }
}

/** @param first a statement of the session before it changes anything */
async function endsEqual(t: Test, source: SourceAddress, first: string | null): Promise<void> {
  const rig = await createRig(t, { source, rules: schema => ({ exclude: [`${schema}.parent`] }) });
  const { db } = rig;
  await createTables(rig);
  if (first !== null) await db.query(first);
  rig.start();
  await same(t, rig, 'copied');
  const snapshots = (): number => rig.log.filter(line => line.includes('A snapshot begins.')).length;
  const before = snapshots();
  await db.query('UPDATE parent SET v = v + 1, j = \'{"a": 1, "b": "some longer text"}\', t = "x"');
  await db.query("UPDATE parent SET j = JSON_SET(j, '$.a', 2)");
  await db.query('INSERT INTO parent (id, code) VALUES (5, 5)');
  await same(t, rig, 'what is not referenced');
  t.equal(snapshots(), before, 'nothing is copied for it');
  await db.query('DELETE FROM parent WHERE id = 1');
  await same(t, rig, 'deleted');
  await db.query('UPDATE parent SET code = 22 WHERE id = 2');
  await same(t, rig, 'another value');
  await db.query("XA START 'p'");
  await db.query('UPDATE parent SET code = 33 WHERE id = 3');
  await db.query("XA END 'p'");
  await db.query("XA PREPARE 'p'");
  // Between the two nothing of the transaction can be seen, and afterwards nobody remembers what it was about.
  await rig.until('its PREPARE is taken', () => rig.spool.held().length > 0);
  await rig.restart();
  await rig.until('capture goes on', () => rig.capture?.status().state === 'streaming');
  await db.query("XA COMMIT 'p'");
  await same(t, rig, 'prepared before the agent was started');
  await db.query("SET SESSION binlog_row_image = 'MINIMAL'");
  await db.query('DELETE FROM parent WHERE id = 4');
  await db.query("SET SESSION binlog_row_image = 'FULL'");
  await same(t, rig, 'with rows that hold no more than the key');
  await rig.stop();
  await db.query('DELETE FROM parent WHERE id = 3');
  await db.query('RENAME TABLE parent TO elder');
  await rig.restart({ exclude: [`${rig.schema}.parent`, `${rig.schema}.elder`] });
  await same(t, rig, 'renamed since');
  t.same(rig.faults, []);
}

void t.test('MariaDB: what follows an excluded parent is copied again', async t => {
  await endsEqual(t, sharedServers().branchMariadb, null);
});

void t.test('MySQL that leaves foreign keys to InnoDB: what follows an excluded parent is copied again', async t => {
  const options = { 'innodb-native-foreign-keys': 'ON' };
  const source = await DatabaseServer.start({ flavor: 'mysql', name: 'native-foreign-keys', role: 'branch', options });
  t.teardown(() => source.remove());
  await endsEqual(t, source, "SET SESSION binlog_row_value_options = 'PARTIAL_JSON'");
});
