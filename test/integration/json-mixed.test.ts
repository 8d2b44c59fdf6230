/**
 * One table whose JSON is MySQL's type at one branch and MariaDB's, a LONGTEXT, at another: neither halts, whichever comes
 * first and however large the table is, and what is not kept is said.
 */
import type { RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import { createWorld, expectSuccess } from '../support/world/world.ts';
import type { Branch, World } from '../support/world/world.ts';

// Each has a world of its own, and waits more than it works.
t.jobs = 2;

/** MySQL changes order and spaces of some of them, MariaDB keeps all as they are. */
const DOCUMENTS = [
  '\'{"b": 1, "aa":  [1.0, 2.50, 1e2, "x"], "b": 2}\'',
  "'[]'",
  "'null'",
  'NULL',
  '\'"ü😀\\\\u0041\\\\n"\'',
  "'18446744073709551615'",
  "'[4294967296, -1, 1.5e300]'",
];
const SETUP = [
  'CREATE TABLE keyed (id INT PRIMARY KEY, doc JSON, n INT)',
  'CREATE TABLE keyless (doc JSON, n INT)',
  'CREATE TABLE large (id INT PRIMARY KEY, doc JSON, filling LONGTEXT)',
  ...inserts(0),
  'INSERT INTO keyless SELECT doc, n FROM keyed',
  ...Array.from({ length: 24 }, (_, id) => `INSERT INTO large VALUES (${id}, '[1,  ${id}]', REPEAT('x', 1000000))`),
];
/** A document with a value whose type its text does not show. */
const TYPED = [
  'CREATE TABLE typed (id INT PRIMARY KEY, doc JSON)',
  "INSERT INTO typed VALUES (1, JSON_OBJECT('price', CAST(1.50 AS DECIMAL(5,2)), 'day', CAST('2026-11-30' AS DATE)))",
];
const UNTYPED = ['CREATE TABLE typed (id INT PRIMARY KEY, doc JSON)', `INSERT INTO typed VALUES (1, '{"price":1.50}')`];

function inserts(from: number): string[] {
  return DOCUMENTS.map((document, index) => `INSERT INTO keyed VALUES (${from + index}, ${document}, ${index})`);
}

async function change({ db }: Branch, from: number): Promise<void> {
  for (const statement of inserts(from)) await db.query(statement);
  await db.query(`UPDATE keyed SET doc = '{"k":  [1, {"z": 1.0}]}' WHERE id % 3 = 0`);
  await db.query('INSERT INTO keyless SELECT doc, ? + n FROM keyed', [from]);
  await db.query('DELETE FROM keyless WHERE n < 3');
  await db.query(`UPDATE large SET doc = '{"changed":  1}' WHERE id < 5`);
}

async function join(world: World, flavor: 'branchMysql' | 'branchMariadb'): Promise<Branch> {
  const setup = [...SETUP, ...(flavor === 'branchMysql' ? TYPED : UNTYPED)];
  const branch = await world.addBranch(flavor === 'branchMysql' ? 'mysql' : 'mariadb', { flavor, setup });
  await branch.startAgent();
  await equal(world, branch);
  await change(branch, 100);
  await equal(world, branch);
  return branch;
}

async function equal(world: World, branch: Branch): Promise<void> {
  const tables = ['keyed', 'keyless', 'large'].map(name => `${branch.schema}.${name}`);
  await world.waitUntilEqual(branch, undefined, { tables });
}

for (const [first, second] of [
  ['branchMysql', 'branchMariadb'],
  ['branchMariadb', 'branchMysql'],
] as const) {
  void t.test(`${first} first, then ${second}`, async t => {
    const world = await createWorld(t);
    await world.startApplier();
    const branches = [await join(world, first), await join(world, second)];
    for (const branch of branches) {
      await change(branch, 200);
      await equal(world, branch);
    }
    const [mysql, mariadb] = first === 'branchMysql' ? branches : branches.reverse();
    if (mysql === undefined || mariadb === undefined) throw new Error('a branch is missing');
    const [rows] = await world.headOfficeDb.query<RowDataPacket[]>('SELECT _branch, doc FROM typed ORDER BY _branch');
    t.same(
      rows.map(row => [String(row['_branch']), String(row['doc'])]),
      [
        [mariadb.id, '{"price":1.50}'],
        [mysql.id, '{"day": "2026-11-30", "price": 1.50}'],
      ],
    );
    const said = expectSuccess(await world.applierCli(['check'])).stdout;
    t.match(said, /warning table typed: Column doc is JSON at mysql-\w+ and text at another branch\./);
    t.match(expectSuccess(await mysql.cli(['check'])).stdout, /ok +table \S+\.typed: Its JSON \(doc\) keeps the types/);
    t.notMatch(expectSuccess(await mariadb.cli(['check'])).stdout, /Its JSON/);
    const verified = await world.applierCli(['branch', 'verify', mysql.id]);
    t.match(verified.stdout, /typed: not comparable: JSON of the branch has values of types such as DECIMAL/);
    for (const table of ['keyed', 'keyless', 'large']) t.match(verified.stdout, new RegExp(`\\.${table}: equal`));
    t.match((await world.applierCli(['branch', 'verify', mariadb.id])).stdout, /^equal: /m);
  });
}
