/**
 * What is chosen of a table, and what it is called: columns that do not leave the branch as they are, names that were
 * made to hurt, and tables whose rows are told apart by another key than a primary one, or by none.
 */
import { createHmac } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import { quoteName } from '../../shared/database/sql.ts';
import { createRig } from '../support/world/capture-rig.ts';
import { PATIENCE_MS, until as waitUntil } from '../support/until.ts';
import { createWorld } from '../support/world/world.ts';
import type { Branch, World } from '../support/world/world.ts';

const FLAVORS = ['branchMysql', 'branchMariadb'] as const;
const HASH_KEY = 'a key of the test, long enough for it';

t.jobs = 4;

async function headOfficeRows(world: World, branch: Branch, table: string, order: string): Promise<RowDataPacket[]> {
  const [rows] = await world.headOfficeDb.query<RowDataPacket[]>(
    `SELECT * FROM ${table} WHERE _branch = '${branch.id}' ORDER BY ${order}`,
  );
  return rows;
}

/** Asked of tables that may not be there yet. */
const until = (what: string, condition: () => Promise<boolean>): Promise<void> =>
  waitUntil(what, () => condition().catch(() => false), { everyMs: 100 });

/** Every byte that the spool has on disk, and every batch in it unpacked. */
function spoolText(rig: { readonly directory: string; bodies(): unknown[] }): string {
  const files = readdirSync(rig.directory, { recursive: true, encoding: 'utf8', withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(entry => readFileSync(join(entry.parentPath, entry.name), 'latin1'));
  return files.join('\n') + JSON.stringify(rig.bodies());
}

const hash = (value: string): string => {
  const key = createHmac('sha256', HASH_KEY).update('tributary/column-hash/values').digest();
  return createHmac('sha256', key).update(value).digest('hex');
};

for (const flavor of FLAVORS) {
  void t.test(`columns are left out, emptied and hashed before the spool has them: ${flavor}`, async t => {
    const rig = await createRig(t, {
      flavor,
      rules: schema => ({
        columns: {
          [`${schema}.person.secret`]: 'omit',
          [`${schema}.person.n?te`]: 'null',
          [`*.email`]: 'hash',
          [`${schema}.*.phone`]: 'hash',
        },
      }),
      hashKey: HASH_KEY,
    });
    await rig.db.query(
      'CREATE TABLE person (email VARCHAR(60) PRIMARY KEY, secret TEXT, note VARCHAR(60), phone BIGINT, kept VARCHAR(60))',
    );
    const person = (name: string, phone: number): string =>
      `('${name}@plain.example', 'secret-plain-${name}', 'note-plain-${name}', ${phone}, 'kept-${name}')`;
    await rig.db.query(`INSERT INTO person VALUES ${person('ada', 998877661)}, ${person('bob', 998877662)}`);
    rig.start();
    await rig.caughtUp();
    await rig.db.query(`INSERT INTO person VALUES ${person('cid', 998877663)}`);
    await rig.db.query(`UPDATE person SET email = 'eve@plain.example' WHERE email = 'ada@plain.example'`);
    await rig.db.query(`DELETE FROM person WHERE email = 'bob@plain.example'`);
    await rig.caughtUp();
    const rows = rig.replica().rows('person', 'kept');
    t.same(rows, [
      { email: hash('eve@plain.example'), note: null, phone: hash('998877661'), kept: 'kept-ada' },
      { email: hash('cid@plain.example'), note: null, phone: hash('998877663'), kept: 'kept-cid' },
    ]);
    const stored = spoolText(rig);
    t.match(stored, /kept-ada/, 'what is kept is there');
    t.notMatch(stored, /plain/, 'no plain text');
    t.notMatch(stored, /99887766/, 'no plain number');
    await rig.restart({ columns: { [`${rig.schema}.person.note`]: 'null', '*.email': 'hash' } });
    await rig.caughtUp();
    t.match(
      rig.replica().rows('person', 'kept'),
      [{ phone: 998877661, secret: 'secret-plain-ada' }, { phone: 998877663 }],
      'another choice copies the table again',
    );
  });
}

void t.test('a key column can be hashed, not left out, and a hash needs its key', async t => {
  const rig = await createRig(t, { rules: schema => ({ columns: { [`${schema}.sale.id`]: 'omit' } }) });
  await rig.db.query('CREATE TABLE sale (id INT PRIMARY KEY)');
  await rig.db.query('INSERT INTO sale VALUES (1)');
  rig.start();
  await rig.until('a fault', () => rig.faults.length > 0);
  t.match(rig.log.join(''), /column id.*part of the key: it can be hashed, not left out/);
});

for (const flavor of FLAVORS) {
  void t.test(`rows of tables without a primary key: ${flavor}`, async t => {
    const world = await createWorld(t);
    await world.startApplier();
    const branch = await world.addBranch('keyless', {
      flavor,
      setup: [
        // Of several keys the server takes the first that has no NULLs.
        `CREATE TABLE single (a INT NOT NULL, b VARCHAR(20) NOT NULL, c INT, UNIQUE KEY nulls (c), UNIQUE KEY small (b), UNIQUE KEY wide (a, b))`,
        `CREATE TABLE pair (a INT NOT NULL, b VARCHAR(20) NOT NULL, c INT, UNIQUE KEY (a, b))`,
        "INSERT INTO single VALUES (1, 'a', 1), (2, 'b', NULL)",
        "INSERT INTO pair VALUES (1, 'a', 1), (1, 'b', 2)",
      ],
    });
    await branch.startAgent();
    const rows = (table: string) => headOfficeRows(world, branch, table, 'a, b');
    await until(
      'the rows that were there',
      async () => (await rows('pair')).length === 2 && (await rows('single')).length === 2,
    );
    await branch.db.query("INSERT INTO single VALUES (3, 'c', 3)");
    await branch.db.query("UPDATE single SET b = 'z', c = 9 WHERE a = 1");
    await branch.db.query("DELETE FROM single WHERE b = 'b'");
    await branch.db.query("UPDATE pair SET b = 'A' WHERE b = 'a'");
    await branch.db.query('UPDATE pair SET c = 7');
    // A table that comes later, and one that loses its primary key.
    await branch.db.query('CREATE TABLE later (k VARCHAR(9) NOT NULL UNIQUE, v INT)');
    await branch.db.query("INSERT INTO later VALUES ('x', 1), ('y', 2)");
    await branch.db.query("UPDATE later SET v = 3 WHERE k = 'x'");
    const values = async (table: string, order: string): Promise<unknown[]> =>
      (await headOfficeRows(world, branch, table, order)).map(({ a, b, c, k, v }) =>
        ([a, b, c, k, v] as unknown[]).filter(x => x !== undefined),
      );
    await until(
      'what happened',
      async () =>
        (await values('later', 'k')).length === 2 && JSON.stringify(await values('later', 'k')) === '[["x",3],["y",2]]',
    );
    t.same(await values('single', 'a'), [
      [1, 'z', 9],
      [3, 'c', 3],
    ]);
    t.same(await values('pair', 'c, b'), [
      [1, 'A', 7],
      [1, 'b', 7],
    ]);
  });
}

/** As tables and as columns. Neither server takes a name with a blank at its end, or with a character beyond U+FFFF. */
const NAMES = [
  'select',
  "quo'te",
  'back`tick',
  'do"uble',
  'dot.ted',
  'with space',
  ' leading',
  'UPPER',
  'MixedCase',
  'ünïcödé',
  '日本語',
  'semi;colon--',
  '*',
  '%_',
  '\\slash',
  '$',
  '1digit',
  '@at',
  'x'.repeat(64),
  'é'.repeat(64),
  '(paren)',
  'a,b',
  '#hash',
  '?',
  ':name',
  '{}',
  'null',
];
const UNFIT_TABLES = new Set(['\\slash']);

for (const flavor of FLAVORS) {
  void t.test(`names that were made to hurt: ${flavor}`, async t => {
    const world = await createWorld(t);
    await world.startApplier();
    const branch = await world.prepareBranch('names', { flavor });
    const schema = `we'ird \`${branch.schema}\` "x".y`;
    const q = quoteName;
    t.teardown(() => branch.db.query(`DROP DATABASE IF EXISTS ${q(schema)}`).catch(() => undefined));
    await branch.db.query(`CREATE DATABASE ${q(schema)}`);
    await branch.db.query(`USE ${q(schema)}`);
    branch.configure({ tables: { include: [`we'ird*.*`] } });
    const wide = NAMES.map(name => `${q(name)} VARCHAR(20)`).join(', ');
    const tables = NAMES.filter(name => !UNFIT_TABLES.has(name));
    await branch.db.query(`CREATE TABLE wide (${q("key`'.")} INT PRIMARY KEY, ${wide})`);
    for (const name of tables)
      await branch.db.query(`CREATE TABLE ${q(name)} (id INT, ${q(name)} VARCHAR(30), PRIMARY KEY (${q(name)}, id))`);
    const write = async (first: number): Promise<void> => {
      await branch.db.query(`INSERT INTO wide VALUES (${first}, ${NAMES.map((_, i) => `'${i}'`).join(', ')})`);
      for (const name of tables)
        await branch.db.query(`INSERT INTO ${q(name)} VALUES (${first}, 'a'), (${first + 1}, 'b')`);
    };
    await write(1);
    const file = join(branch.folder, 'enrolment');
    const added = await world.applierCli(['branch', 'add', branch.id, '--out', file]);
    t.equal(added.code, 0, added.stderr);
    const enrolled = await branch.cli(['enroll', file]);
    t.equal(enrolled.code, 0, enrolled.stderr);
    await branch.startAgent();
    const count = async (table: string): Promise<number> => {
      const [rows] = await world.headOfficeDb.query<RowDataPacket[]>(`SELECT COUNT(*) AS n FROM ${q(table)}`);
      return Number(rows[0]?.['n']);
    };
    await until('the rows that were there', async () => (await count('wide')) === 1);
    await write(11);
    for (const name of tables) {
      await branch.db.query(`UPDATE ${q(name)} SET ${q(name)} = CONCAT(${q(name)}, '!') WHERE id = 2`);
      await branch.db.query(`DELETE FROM ${q(name)} WHERE id = 12`);
    }
    await world.waitUntilEqual(branch, PATIENCE_MS, { schemas: [schema] });
    t.equal(await count('wide'), 2);
  });
}
