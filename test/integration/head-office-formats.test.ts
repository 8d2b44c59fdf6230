/** Upgrades and downgrades of the head office's own tables, on a real server. */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import type { Test } from 'tap';
import { createSchema } from '../../applier/store/schema.ts';
import { sharedServers } from '../../deploy/rig/shared-servers.ts';
import { connectTo } from '../support/world/database.ts';

const FIRST = readFileSync(join(import.meta.dirname, '../fixtures/head-office/1.sql'), 'utf8');
const CHANGES = [
  ['ALTER TABLE tributary_branch ADD COLUMN of_two INT NOT NULL DEFAULT 2', 'CREATE TABLE tributary_two (id INT)'],
  ['ALTER TABLE tributary_branch ADD COLUMN of_three INT', 'ALTER TABLE tributary_two ADD INDEX (id)'],
];

/** A database of its own; `connect` opens a connection to it. */
async function database(t: Test): Promise<() => Promise<Connection>> {
  const name = `formats_${randomBytes(4).toString('hex')}`;
  const admin = await connectTo(sharedServers().headOffice, { multipleStatements: true });
  await admin.query(`CREATE DATABASE ${name}`);
  const opened: Connection[] = [];
  t.teardown(async () => {
    for (const connection of opened) connection.destroy();
    await admin.query(`DROP DATABASE ${name}`);
    await admin.end();
  });
  return async () => {
    const connection = await connectTo(sharedServers().headOffice, { database: name, multipleStatements: true });
    opened.push(connection);
    return connection;
  };
}

async function rows(connection: Connection, sql: string): Promise<RowDataPacket[]> {
  const [found] = await connection.query<RowDataPacket[]>(sql);
  return found;
}

/** Every table as its server describes it. */
async function structure(connection: Connection): Promise<Record<string, string>> {
  const tables: Record<string, string> = {};
  for (const row of await rows(connection, 'SHOW TABLES')) {
    const name = String(Object.values(row)[0]);
    tables[name] = String((await rows(connection, `SHOW CREATE TABLE ${name}`))[0]?.['Create Table']);
  }
  return tables;
}

/** Tables of version 1 with a branch in them, as an applier of that version left them. */
async function first(connection: Connection): Promise<void> {
  await connection.query(FIRST);
  await connection.query('INSERT INTO tributary_schema VALUES (1, 1)');
  await connection.query(
    `INSERT INTO tributary_branch (branch, superseded, received_seq, received_digest, applied_seq, applied_digest)
     VALUES ('paris', '[]', 7, REPEAT('a', 64), 6, REPEAT('b', 64))`,
  );
}

const versionOf = async (connection: Connection): Promise<unknown> =>
  (await rows(connection, 'SELECT version FROM tributary_schema'))[0]?.['version'];

void t.test('tables of version 1 become what a fresh head office has, and keep their rows', async t => {
  const [old, fresh] = [await (await database(t))(), await (await database(t))()];
  await first(old);
  await createSchema(old);
  await createSchema(fresh);
  t.same(await structure(old), await structure(fresh));
  t.match(await rows(old, 'SELECT * FROM tributary_branch'), [{ branch: 'paris', received_seq: 7, applied_seq: 6 }]);
  t.equal(await versionOf(old), await versionOf(fresh));
});

void t.test('changes are made once, also by two appliers at once, and again after a crash in their midst', async t => {
  const connect = await database(t);
  const [one, two] = [await connect(), await connect()];
  await first(one);
  // A crash: the first change's statements were carried out, and its version not yet written.
  for (const statement of CHANGES[0] ?? []) await one.query(statement);
  await Promise.all([createSchema(one, CHANGES), createSchema(two, CHANGES)]);
  t.equal(await versionOf(one), 3);
  t.match(await rows(one, 'SELECT * FROM tributary_branch'), [{ branch: 'paris', of_two: 2, of_three: null }]);
  const before = await structure(one);
  await createSchema(two, CHANGES);
  t.same(await structure(one), before);
});

void t.test('an applier that is older than the tables refuses to start, and touches nothing', async t => {
  const connection = await (await database(t))();
  await createSchema(connection, CHANGES);
  await connection.query('DROP TABLE tributary_two');
  const before = await structure(connection);
  await t.rejects(createSchema(connection, CHANGES.slice(0, 1)), {
    code: 'TARGET_SETTING',
    message: /version 3; this applier knows 2/,
    hint: /newer one/,
  });
  t.same(await structure(connection), before);
  t.equal(await versionOf(connection), 3);
});
