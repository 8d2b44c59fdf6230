/**
 * Tables without a key, end to end: copied while others write to them, with equal rows that come and go all the time; an
 * agent that is killed in between; keys that go. What the head office has in the end is what the branch has, copy by copy.
 */
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { randomFrom, testSeed } from '../support/world/load.ts';
import { createWorld, expectSuccess } from '../support/world/world.ts';
import type { Branch } from '../support/world/world.ts';
import { connectTo } from '../support/world/database.ts';

const FLAVORS = ['branchMysql', 'branchMysqlNoGtid', 'branchMariadb'] as const;
const SETUP = [
  'CREATE TABLE events (kind VARCHAR(20), at INT, note TEXT)',
  'CREATE TABLE plain (kind VARCHAR(20), at INT) ENGINE=MyISAM',
  'CREATE TABLE loses (id INT PRIMARY KEY, v VARCHAR(20))',
  'CREATE TABLE drops (id INT NOT NULL, v VARCHAR(20), UNIQUE u (id))',
  "INSERT INTO loses VALUES (1, 'a'), (2, 'a')",
  "INSERT INTO drops VALUES (1, 'a'), (2, 'a')",
  "INSERT INTO events VALUES ('a', 0, NULL), ('b', 0, NULL), ('A', 0, NULL), ('a ', 0, NULL)",
  // 32,768 rows: two chunks, of rows that differ and some that are equal.
  ...Array.from({ length: 13 }, (_, i) => `INSERT INTO events SELECT kind, at + ${2 ** i}, note FROM events`),
  "UPDATE events SET at = 7, kind = 'same', note = REPEAT('x', 50) WHERE at % 4 = 1",
  'INSERT INTO plain SELECT kind, at FROM events WHERE at < 500',
];

const seed = testSeed();
t.comment(`SEED=${seed}`);
t.jobs = FLAVORS.length;

/** Writes until told to stop: few different rows, so that they meet. Returns how to stop it. */
async function writeTo(branch: Branch, seed: number): Promise<() => Promise<number>> {
  const random = randomFrom(seed);
  const below = (n: number): number => Math.floor(random() * n);
  const db = await connectTo(branch.source, { database: branch.schema });
  let stopped = false;
  let done = 0;
  const row = (): string => `('hot', ${below(3)}, NULL)`;
  const statements = [
    () => `INSERT INTO events VALUES ${row()}, ${row()}, ('new', ${done}, 'x')`,
    () => `DELETE FROM events WHERE kind = 'hot' AND at = ${below(3)} LIMIT ${1 + below(3)}`,
    () => `UPDATE events SET at = ${below(3)} WHERE kind = 'hot' LIMIT ${1 + below(4)}`,
    () => `UPDATE events SET note = 'x' WHERE kind = 'same' LIMIT 3`,
    () => `DELETE FROM events WHERE at = ${below(20_000)} LIMIT 2`,
    () => `INSERT INTO plain VALUES ('hot', ${below(3)}), ('hot', ${below(3)})`,
    () => `DELETE FROM plain WHERE kind = 'hot' AND at = ${below(3)} LIMIT 1`,
  ];
  const work = async (): Promise<void> => {
    while (!stopped) {
      await db.query(statements[below(statements.length)]!());
      done += 1;
      if (below(4) === 0) await delay(below(30));
      // A copy looks for a moment between two commits: on a machine that is slow to look it must last.
      if (done % 100 === 0) await delay(done);
    }
  };
  const running = work();
  return async () => {
    stopped = true;
    await running;
    db.destroy();
    return done;
  };
}

for (const flavor of FLAVORS) {
  void t.test(`tables without a key end equal: ${flavor}`, async t => {
    const world = await createWorld(t);
    await world.startApplier();
    const branch = await world.addBranch('keyless', { flavor, setup: SETUP });
    const { agent, db } = branch;
    const stop = await writeTo(branch, seed);
    t.teardown(stop);
    await agent.start();
    for (let kill = 0; kill < 2; kill += 1) {
      await agent.waitForLog(line => line.msg === 'A new epoch begins with a snapshot.');
      await delay(400 + kill * 600);
      await agent.kill9();
      await agent.start();
    }
    await agent.waitForLog(line => line.msg === 'A snapshot has finished.');
    // Copied again while all of it is there: what is there already must not be counted twice.
    await agent.waitReady();
    expectSuccess(await branch.cli(['snapshot', `${branch.schema}.events`, `${branch.schema}.plain`]));
    await delay(1_500);
    const done = await stop();
    const { rowsCompared } = await world.waitUntilEqual(branch);
    t.ok(rowsCompared > 20_000, `${rowsCompared} rows equal after ${done} statements`);

    await db.query('ALTER TABLE loses DROP PRIMARY KEY');
    await db.query("INSERT INTO loses VALUES (1, 'a'), (1, 'a')");
    await db.query('DELETE FROM loses WHERE id = 2');
    await db.query('DROP INDEX u ON drops');
    await db.query("INSERT INTO drops VALUES (1, 'a'), (1, 'b')");
    await db.query('DELETE FROM events WHERE at > 100');
    await world.waitUntilEqual(branch);
    await db.query('ALTER TABLE loses ADD COLUMN n INT AUTO_INCREMENT PRIMARY KEY');
    await db.query("UPDATE loses SET v = 'b' WHERE n = 2");
    await db.query('TRUNCATE events');
    await db.query("INSERT INTO events VALUES ('last', 1, NULL), ('last', 1, NULL)");
    await world.waitUntilEqual(branch);
    const check = await branch.cli(['check']);
    t.match(check.stdout, /warning table keyless_\w+\.events: has neither.*\n.*INVISIBLE PRIMARY KEY/);
    t.equal(check.code, 0, 'a table without a key is no fault');
  });
}
