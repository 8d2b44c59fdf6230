/**
 * Random tables of all types, random transactions of all kinds, an agent that is stopped and killed at random: whatever
 * came of it at the branch is what the head office has.
 *
 *   SEED=123 replays from that seed on, RUNS=200 makes so many.
 */
import { rmSync } from 'node:fs';
import t from 'tap';
import { sharedServers } from '../../deploy/rig/shared-servers.ts';
import { randomFrom, testSeed } from '../support/world/load.ts';
import { RandomTable, below } from '../support/oracle/random-schema.ts';
import { createWorld } from '../support/world/world.ts';
import type { Branch, World } from '../support/world/world.ts';

const RUNS = Number(process.env['RUNS'] ?? 2);
const TABLES = 3;
const TRANSACTIONS = 40;
const FLAVORS = ['branchMysql', 'branchMariadb'] as const;

const first = testSeed();
t.comment(`SEED=${first}`);
t.setTimeout(600_000 + RUNS * 60_000);

/** Runs a statement; whether it fails is the branch's business. */
async function attempt(branch: Branch, statement: string): Promise<boolean> {
  try {
    await branch.db.query(statement);
    return true;
  } catch (error) {
    // A statement that cannot even be read tests nothing.
    if (error instanceof Error && 'code' in error && error.code === 'ER_PARSE_ERROR') throw error;
    return false;
  }
}

async function run(world: World, branch: Branch, flavor: (typeof FLAVORS)[number], seed: number): Promise<string> {
  const random = randomFrom(seed);
  const tables = Array.from(
    { length: TABLES },
    (_, i) => new RandomTable(random, `s${seed}_${i}`, sharedServers()[flavor].flavor),
  );
  const { agent, db } = branch;
  // An agent without a spool begins with a snapshot.
  if (agent.running) await agent.kill9();
  rmSync(branch.spoolDirectory, { recursive: true, force: true });
  for (const table of tables) {
    await db.query(table.create);
    for (let i = 0; i < 5; i += 1) await attempt(branch, `INSERT IGNORE ${table.insert(20)}`);
  }
  await agent.start();
  const done = { ok: 0, failed: 0, restarts: 0 };
  for (let i = 0; i < TRANSACTIONS; i += 1) {
    const table = tables[below(random, TABLES)]!;
    for (const statement of table.transaction(tables[below(random, TABLES)]!)) {
      if (await attempt(branch, statement)) done.ok += 1;
      else done.failed += 1;
    }
    if (random() < 0.03) {
      done.restarts += 1;
      await (random() < 0.5 ? agent.kill9() : agent.stop());
      await agent.start();
    }
  }
  await db.query('COMMIT');
  const { rowsCompared } = await world.waitUntilEqual(branch);
  for (const table of tables) await db.query(`DROP TABLE ${table.name}`);
  await world.waitUntilEqual(branch);
  return `${rowsCompared} rows, ${done.ok} statements (${done.failed} refused), ${done.restarts} restarts`;
}

for (const flavor of FLAVORS) {
  void t.test(`random tables and transactions end equal: ${flavor}`, { timeout: 500_000 + RUNS * 60_000 }, async t => {
    const world = await createWorld(t);
    await world.startApplier();
    const branch = await world.addBranch('random', { flavor });
    await branch.db.query("SET SESSION sql_mode = '', time_zone = '+03:00'");
    for (let i = 0; i < RUNS; i += 1) {
      const seed = first + i;
      try {
        t.pass(`SEED=${seed}: ${await run(world, branch, flavor, seed)}`);
      } catch (error) {
        t.fail(`SEED=${seed}: ${String(error)}`);
        return;
      }
    }
  });
}
t.jobs = 2;
