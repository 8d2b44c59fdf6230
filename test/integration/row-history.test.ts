/**
 * The history of a table at the head office: each version of a row, as the test's own script has made them at the branch,
 * whatever is killed or cut meanwhile; what makes no version; and the branch's table as of an earlier moment.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import { TargetPool } from '../../applier/apply/connection-pool.ts';
import { deleteOldVersions } from '../../applier/apply/history-age.ts';
import { FaultProxy } from '../../deploy/rig/fault-proxy.ts';
import { sharedServers } from '../../deploy/rig/shared-servers.ts';
import { randomFrom, testSeed } from '../support/world/load.ts';
import { connectTo } from '../support/world/database.ts';
import { createWorld, expectSuccess } from '../support/world/world.ts';
import type { Branch, World } from '../support/world/world.ts';

const seed = testSeed();
t.comment(`SEED=${seed}`);

// Each has a world of its own, and waits more than it works.
t.jobs = 2;

const HISTORY = { history: ['sale'] };
const SALE = 'CREATE TABLE sale (id INT PRIMARY KEY, price DECIMAL(10,2), note VARCHAR(40))';
const OPEN = '9999-12-31 00:00:00.000000';

/** A version as the script has made it, and between which times it was committed. */
interface Made {
  readonly row: string;
  readonly after: string;
  readonly before: string;
}

async function query(db: Connection, sql: string, values: (string | number)[] = []): Promise<RowDataPacket[]> {
  return (await db.query<RowDataPacket[]>(sql, values))[0];
}

async function timeAt(db: Connection): Promise<string> {
  const [row] = await query(db, 'SELECT CAST(UTC_TIMESTAMP(6) AS CHAR) AS at');
  return String(row?.['at']);
}

/** Only the table: the head office holds its history beside it. */
async function equal(world: World, branch: Branch, table = 'sale'): Promise<void> {
  await world.waitUntilEqual(branch, undefined, { tables: [`${branch.schema}.${table}`] });
}

interface Kept {
  readonly id: number;
  readonly row: string;
  readonly from: string;
  readonly until: string;
  readonly committed: string | null;
}

async function kept({ headOfficeDb }: World, { id }: Branch): Promise<Kept[]> {
  const rows = await query(
    headOfficeDb,
    `SELECT id, IF(_deleted, 'deleted', CONCAT_WS(' ', CAST(price AS CHAR), note)) AS content,
       CAST(_valid_from AS CHAR) AS f, CAST(_valid_until AS CHAR) AS u, CAST(_committed_at AS CHAR) AS c
     FROM sale__history WHERE _branch = ? ORDER BY id, _version`,
    [id],
  );
  return rows.map(row => ({
    id: Number(row['id']),
    row: String(row['content']),
    from: String(row['f']),
    until: String(row['u']),
    committed: row['c'] === null ? null : String(row['c']),
  }));
}

const shown = (all: readonly Kept[]): string[] => all.map(({ id, row }) => `${id}: ${row}`);

/** What is wrong with the intervals of each row's versions. */
function gaps(all: readonly Kept[]): string[] {
  return all.flatMap((version, index) => {
    const next = all[index + 1];
    const wanted = next?.id === version.id ? next.from : OPEN;
    const isRight = version.until === wanted && version.from <= version.until;
    return isRight ? [] : [`${version.id}: ${version.row} ${version.from} to ${version.until}, not ${wanted}`];
  });
}

/** Changes rows of `sale` in transactions, and writes down each version that it makes. */
class Script {
  readonly made = new Map<number, Made[]>();
  readonly copies: { readonly at: string; readonly rows: string[] }[] = [];
  transactions = 0;
  readonly #db: Connection;
  readonly #random = randomFrom(seed);
  readonly #rows = new Map<number, string>();
  #value = 0;

  constructor(db: Connection, rows: ReadonlyMap<number, string>) {
    this.#db = db;
    for (const [id, row] of rows) this.#rows.set(id, row);
  }

  async transaction(): Promise<void> {
    const before = new Map(this.#rows);
    const touched = new Set<number>();
    await this.#db.query('BEGIN');
    for (let left = this.#below(4); left >= 0; left -= 1) await this.#change(touched);
    const after = await timeAt(this.#db);
    await this.#db.query('COMMIT');
    const made = { after, before: await timeAt(this.#db) };
    for (const id of touched) {
      const row = this.#rows.get(id);
      // A row that was inserted and deleted in one transaction was never there.
      if (row === undefined && !before.has(id)) continue;
      this.made.set(id, [...(this.made.get(id) ?? []), { row: row ?? 'deleted', ...made }]);
    }
    this.transactions += 1;
    if (this.transactions % 25 === 0) await this.copy();
  }

  /** The table as it is now. */
  async copy(): Promise<void> {
    const rows = await query(
      this.#db,
      "SELECT CONCAT_WS(' ', id, CAST(price AS CHAR), note) AS content FROM sale ORDER BY id",
    );
    this.copies.push({ at: await timeAt(this.#db), rows: rows.map(row => String(row['content'])) });
  }

  async #change(touched: Set<number>): Promise<void> {
    const id = 1 + this.#below(12);
    const price = `${(this.#value += 1)}.50`;
    const row = `${price} é ${this.#value}`;
    const [values, text] = [[id, price, row.slice(price.length + 1)], row];
    touched.add(id);
    if (!this.#rows.has(id)) {
      await this.#db.query('INSERT INTO sale VALUES (?, ?, ?)', values);
      this.#rows.set(id, text);
    } else if (this.#below(4) === 0) {
      await this.#db.query('DELETE FROM sale WHERE id = ?', [id]);
      this.#rows.delete(id);
    } else if (this.#below(5) === 0) {
      const to = 100 + this.#value;
      await this.#db.query('UPDATE sale SET id = ? WHERE id = ?', [to, id]);
      touched.add(to);
      this.#rows.set(to, this.#rows.get(id)!);
      this.#rows.delete(id);
    } else {
      await this.#db.query('REPLACE INTO sale VALUES (?, ?, ?)', values);
      this.#rows.set(id, text);
    }
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }
}

void t.test('every version that the script has made is there, under kills and a cut link', async t => {
  const { broker } = sharedServers();
  const link = await FaultProxy.open(broker.port);
  t.teardown(() => link.close());
  const world = await createWorld(t, { broker: { ...broker, port: link.port } });
  const applier = await world.startApplier({ config: HISTORY });
  const paris = await world.addBranch('paris', {
    setup: [SALE, "INSERT INTO sale VALUES (1, 1, 'first'), (2, 2, 'first')"],
  });
  await paris.startAgent();
  await equal(world, paris);
  const first = await kept(world, paris);
  t.same(shown(first), ['1: 1.00 first', '2: 2.00 first'], 'what a snapshot brings is a version too');
  t.ok(
    first.every(({ committed }) => committed === null),
    'whose commit nobody has seen',
  );

  const script = new Script(
    paris.db,
    new Map([
      [1, '1.00 first'],
      [2, '2.00 first'],
    ]),
  );
  const work = { isOver: false };
  const working = (async () => {
    while (!work.isOver || script.transactions < 300) await script.transaction();
  })();
  for (const product of [paris.agent, applier, paris.agent, applier]) {
    await delay(400);
    await product.kill9();
    await delay(300);
    await product.start();
    link.cut();
    await delay(500);
    await link.heal();
  }
  work.isOver = true;
  await working;
  await script.copy();
  await equal(world, paris);

  const all = await kept(world, paris);
  t.same(gaps(all), [], 'versions follow each other without a gap');
  const expected = new Map(first.map(({ id, row }) => [id, [row]]));
  for (const [id, made] of script.made) expected.set(id, [...(expected.get(id) ?? []), ...made.map(({ row }) => row)]);
  const lines = [...expected].sort(([a], [b]) => a - b).flatMap(([id, rows]) => rows.map(row => `${id}: ${row}`));
  t.same(shown(all), lines, 'row by row');
  const wrong = all.flatMap((version): unknown[] => {
    const place = all.filter(({ id, from }) => id === version.id && from <= version.from).indexOf(version);
    const made = script.made.get(version.id)?.[place - (version.id <= 2 ? 1 : 0)];
    if (made === undefined || version.committed === null) return version.committed === null ? [] : [version];
    const isRight =
      version.committed >= made.after && version.committed <= made.before && version.from === version.committed;
    return isRight ? [] : [{ version, made }];
  });
  t.same(wrong, [], 'each with the time of its commit');
  t.ok(script.copies.length > 10);
  for (const { at, rows } of script.copies) {
    const then = await query(
      world.headOfficeDb,
      `SELECT CONCAT_WS(' ', id, CAST(price AS CHAR), note) AS content FROM sale__history
        WHERE _branch = ? AND _valid_from <= ? AND _valid_until > ? AND NOT _deleted ORDER BY id`,
      [paris.id, at, at],
    );
    if (then.map(row => String(row['content'])).join('\n') !== rows.join('\n'))
      t.fail(`as of ${at} it is another table`);
  }
});

void t.test('what makes a version, and what makes none', async t => {
  const world = await createWorld(t);
  const applier = await world.startApplier({ config: HISTORY });
  const setup = [
    SALE,
    "INSERT INTO sale VALUES (1, 1, 'a'), (2, 2, 'b'), (3, 3, 'c')",
    'CREATE TABLE tick (id INT PRIMARY KEY)',
  ];
  const paris = await world.addBranch('paris', { setup });
  await paris.startAgent();
  await equal(world, paris);
  const { db } = paris;
  const unlogged = async (sql: string): Promise<void> => {
    await db.query('SET SESSION sql_log_bin = 0');
    await db.query(sql);
    await db.query('SET SESSION sql_log_bin = 1');
  };
  const snapshot = async (): Promise<void> => {
    expectSuccess(await world.applierCli(['branch', 'snapshot', paris.id]));
    await paris.agent.waitUntil('the snapshot has ended', async () => {
      await db.query('REPLACE INTO tick VALUES (1)');
      return (await query(world.headOfficeDb, 'SELECT 1 FROM tributary_request')).length === 0;
    });
    await equal(world, paris);
  };
  const begun = ['1: 1.00 a', '2: 2.00 b', '3: 3.00 c'];

  await t.test('a snapshot of equal rows makes none, nor does one that mends a row at the head office', async t => {
    await world.headOfficeDb.query("UPDATE sale SET note = 'by hand' WHERE id = 1");
    await snapshot();
    t.same(shown(await kept(world, paris)), begun);
  });

  await t.test('a repair of rows that were changed by hand makes none', async t => {
    const before = shown(await kept(world, paris));
    await world.headOfficeDb.query("UPDATE sale SET note = 'by hand' WHERE id = 1");
    await world.headOfficeDb.query('DELETE FROM sale WHERE id = 2');
    t.equal((await world.applierCli(['branch', 'verify', paris.id])).code, 1);
    const repair = await world.applierCli(['branch', 'repair', paris.id]);
    t.equal(repair.code, 0, repair.stderr);
    await equal(world, paris);
    t.same(shown(await kept(world, paris)), before);
  });

  await t.test('what no binlog shows makes one when a snapshot finds it', async t => {
    await unlogged("UPDATE sale SET note = 'unlogged' WHERE id = 1");
    await unlogged('DELETE FROM sale WHERE id = 3');
    await snapshot();
    const all = await kept(world, paris);
    t.same(shown(all), ['1: 1.00 a', '1: 1.00 unlogged', '2: 2.00 b', '3: 3.00 c', '3: deleted']);
    t.same(gaps(all), []);
    t.ok(
      all.every(({ committed }) => committed === null),
      'without the time of a commit',
    );
    await snapshot();
    t.same(await kept(world, paris), all, 'and not again');
  });

  await t.test('a new column comes into the history too', async t => {
    await db.query('ALTER TABLE sale ADD COLUMN seller VARCHAR(20)');
    await db.query("INSERT INTO sale VALUES (4, 4, 'd', 'anna')");
    await equal(world, paris);
    const [row] = await query(world.headOfficeDb, 'SELECT seller FROM sale__history WHERE id = 4');
    t.equal(row?.['seller'], 'anna');
    t.equal((await kept(world, paris)).length, 6, 'the rows that it adds NULLs to are as before');
  });

  await t.test('TRUNCATE deletes each row that was there', async t => {
    await db.query('TRUNCATE TABLE sale');
    await db.query("INSERT INTO sale VALUES (2, 2, 'again', NULL)");
    await equal(world, paris);
    const all = await kept(world, paris);
    t.same(
      shown(all).filter(line => !begun.includes(line)),
      ['1: 1.00 unlogged', '1: deleted', '2: deleted', '2: 2.00 again', '3: deleted', '4: 4.00 d', '4: deleted'],
    );
    t.same(gaps(all), []);
  });

  await t.test('a transaction in parts makes one version of each row', async t => {
    await db.query('SET SESSION cte_max_recursion_depth = 100000');
    await db.query('BEGIN');
    await db.query(
      `INSERT INTO sale (id, price, note) WITH RECURSIVE n (i) AS (SELECT 1001 UNION ALL SELECT i + 1 FROM n WHERE i < 46000)
       SELECT i, 1, 'new' FROM n`,
    );
    await db.query("UPDATE sale SET note = 'changed' WHERE id > 45000");
    await db.query('DELETE FROM sale WHERE id BETWEEN 1001 AND 2000');
    await db.query("UPDATE sale SET note = 'too' WHERE id = 2");
    await db.query('COMMIT');
    await equal(world, paris);
    const all = await kept(world, paris);
    const large = all.filter(({ id }) => id > 1000);
    t.equal(large.length, 44_000);
    t.equal(new Set(large.map(({ from }) => from)).size, 1, 'of one commit');
    t.equal(large.filter(({ row }) => row.endsWith('changed')).length, 1_000);
    t.same(shown(all.filter(({ id }) => id === 2)).slice(-2), ['2: 2.00 again', '2: 2.00 too']);
    t.same(gaps(all), []);
  });

  await t.test('a history that was off for a while follows the table again', async t => {
    await applier.stop();
    const without = await world.startApplier({ name: 'without' });
    await db.query("UPDATE sale SET note = 'meanwhile' WHERE id = 2");
    await db.query('DELETE FROM sale WHERE id > 45999');
    await equal(world, paris);
    await without.stop();
    await applier.start();
    await applier.waitReady();
    await db.query("UPDATE sale SET note = 'after' WHERE id = 2");
    await equal(world, paris);
    const all = await kept(world, paris);
    t.same(shown(all.filter(({ id }) => id === 2)).slice(-3), ['2: 2.00 too', '2: 2.00 meanwhile', '2: 2.00 after']);
    t.same(shown(all.filter(({ id }) => id === 46_000)).slice(-2), ['46000: 1.00 changed', '46000: deleted']);
    t.same(gaps(all), []);
  });

  await t.test('old versions go, and what is valid at present stays', async t => {
    const connect = (): Promise<Connection> => connectTo(world.headOffice, { database: world.database });
    const pool = new TargetPool({ connect, size: 1 });
    t.teardown(() => pool.close());
    const before = await kept(world, paris);
    const stays = before.filter(({ until, row }) => until === OPEN && row !== 'deleted');
    t.equal(await deleteOldVersions(pool, world.database, ['sale'], '2000-01-01', () => true), 0);
    const deleted = await deleteOldVersions(pool, world.database, ['sale'], '9000-01-01', () => true);
    t.ok(deleted > 0);
    t.equal(deleted, before.length - stays.length);
    t.same(await kept(world, paris), stays);
  });

  await t.test('a history that begins later begins with the rows of then', async t => {
    await world.headOfficeDb.query('DROP TABLE sale__history');
    await db.query("UPDATE sale SET note = 'last' WHERE id = 2");
    await equal(world, paris);
    const all = await kept(world, paris);
    t.equal(new Set(all.map(({ id }) => id)).size, (await query(db, 'SELECT id FROM sale')).length);
    t.same(gaps(all), []);
    t.equal(shown(all.filter(({ id }) => id === 2)).at(-1), '2: 2.00 last');
  });

  await t.test('a branch that is removed with its rows leaves no history', async t => {
    expectSuccess(await world.applierCli(['branch', 'remove', paris.id, '--delete-data', '--yes']));
    t.same(await kept(world, paris), []);
  });
});

void t.test('a table without a key cannot have a history, and check and the halt say so', async t => {
  const world = await createWorld(t);
  await world.startApplier({ config: HISTORY });
  const paris = await world.addBranch('paris', {
    setup: ['CREATE TABLE sale (id INT)', 'INSERT INTO sale VALUES (1)'],
  });
  await paris.startAgent();
  await paris.agent.waitUntil('the branch is halted', async () => {
    const { stdout } = await world.applierCli(['branch', 'show', paris.id]);
    return stdout.includes('history cannot be kept, because it has no key');
  });
  t.match((await world.applierCli(['branch', 'show', paris.id])).stdout, /leave the table out of `history`/);
});
