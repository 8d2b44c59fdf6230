/** One table's trouble stays its own: everything else goes on, and the table comes back when the cause is gone. */
import t from 'tap';
import type { RowDataPacket } from 'mysql2/promise';
import { expectSuccess, createWorld } from '../support/world/world.ts';
import type { Branch, World } from '../support/world/world.ts';
import { until } from '../support/until.ts';

interface AgentSays {
  readonly state: string;
  readonly setAside: readonly { readonly name: string; readonly state: string; readonly message: string }[];
}

interface HeadOfficeSays {
  readonly state: string;
  readonly completeThrough: string | null;
  readonly setAside: readonly {
    readonly name: string;
    readonly by: string;
    readonly state: string;
    readonly code: string | null;
    readonly reason: string | null;
  }[];
}

const agentSays = async (branch: Branch): Promise<AgentSays> => (await branch.agent.get('/api/status')) as AgentSays;

async function headOfficeSays(world: World, branch: Branch): Promise<HeadOfficeSays> {
  const { stdout } = expectSuccess(await world.applierCli(['branch', 'show', branch.id, '--json']));
  return JSON.parse(stdout) as HeadOfficeSays;
}

/** Waits until the head office says that exactly these tables are set aside. */
async function waitForSetAside(world: World, branch: Branch, names: readonly string[]): Promise<HeadOfficeSays> {
  let said = await headOfficeSays(world, branch);
  await until(
    `${names.join(', ') || 'no table'} set aside`,
    async () => {
      said = await headOfficeSays(world, branch);
      return said.setAside.map(({ name }) => name).join() === names.join();
    },
    { everyMs: 200, detail: () => JSON.stringify(said.setAside) },
  );
  return said;
}

/** Waits until all tables but these are equal, row by row. */
async function waitUntilOthersEqual(world: World, branch: Branch, but: readonly string[]): Promise<void> {
  let tables: readonly string[] = [];
  await until(
    'all other tables equal',
    async () => {
      const { differences } = await world.compare(branch, { maxDifferences: 500 });
      tables = [...new Set(differences.map(({ table }) => table.slice(table.indexOf('.') + 1)))];
      return tables.every(table => but.includes(table));
    },
    { everyMs: 200, detail: () => tables.join() },
  );
}

async function valuesHere(world: World, table: string): Promise<string> {
  const [rows] = await world.headOfficeDb.query<RowDataPacket[]>(`SELECT id, v FROM \`${table}\` ORDER BY id`);
  return rows.map(row => `${String(row['id'])}=${String(row['v'])}`).join(' ');
}

const NAMES = Array.from({ length: 50 }, (_, index) => `t${String(index + 1).padStart(2, '0')}`);

await t.test('of 50 tables one is impossible from the beginning: 49 arrive, and it comes by itself', async t => {
  const world = await createWorld(t);
  await world.startApplier();
  const branch = await world.addBranch('fifty');
  for (const name of NAMES) {
    const engine = name === 't07' ? 'BLACKHOLE' : 'InnoDB';
    await branch.db.query(`CREATE TABLE ${name} (id INT PRIMARY KEY, v VARCHAR(20)) ENGINE=${engine}`);
    await branch.db.query(`INSERT INTO ${name} VALUES (1, '${name}')`);
  }
  await branch.startAgent();
  const said = await waitForSetAside(world, branch, ['t07']);
  t.equal(said.state, 'set-aside');
  t.equal(said.completeThrough, null, 'as a whole it was never complete');
  t.match(said.setAside, [{ by: 'branch', state: 'aside' }]);
  await waitUntilOthersEqual(world, branch, ['t07']);
  await until('the reason', async () => {
    const [mark] = (await headOfficeSays(world, branch)).setAside;
    return mark?.code === 'VALUE_UNSUPPORTED' && mark.reason?.includes('keeps no rows') === true;
  });
  t.match(await agentSays(branch), { state: 'set-aside', setAside: [{ name: 't07', message: /keeps no rows/ }] });
  // Everything else goes on, rows of the table are passed over, and a restart changes nothing.
  for (const name of NAMES) await branch.db.query(`INSERT INTO ${name} VALUES (2, 'more')`);
  await waitUntilOthersEqual(world, branch, ['t07']);
  await branch.agent.stop();
  await branch.startAgent();
  for (const name of NAMES) await branch.db.query(`UPDATE ${name} SET v = 'changed' WHERE id = 1`);
  await waitUntilOthersEqual(world, branch, ['t07']);
  t.equal((await headOfficeSays(world, branch)).state, 'set-aside');
  // The cure is seen by itself.
  await branch.db.query('ALTER TABLE t07 ENGINE=InnoDB');
  await branch.db.query("INSERT INTO t07 VALUES (3, 'cured')");
  await waitForSetAside(world, branch, []);
  const { rowsCompared } = await world.waitUntilEqual(branch);
  t.equal(rowsCompared, 99, '49 tables of two rows, and one row that the engine keeps');
  await until('complete', async () => (await headOfficeSays(world, branch)).completeThrough !== null);
  t.match(await agentSays(branch), { state: 'capturing', setAside: [] });
  await branch.agent.stop();
});

await t.test('an event that cannot be decoded sets its table aside, and resume-table brings it back', async t => {
  const world = await createWorld(t);
  await world.startApplier();
  const branch = await world.addBranch('decoded');
  for (const name of ['good', 'odd']) {
    await branch.db.query(`CREATE TABLE ${name} (id INT PRIMARY KEY, v VARCHAR(20) CHARACTER SET cp1250)`);
    await branch.db.query(`INSERT INTO ${name} VALUES (1, 'first')`);
  }
  await branch.startAgent();
  await world.waitUntilEqual(branch);
  await branch.agent.waitForLog(line => line.msg === 'A snapshot has finished.');
  await branch.db.query("INSERT INTO odd VALUES (2, 'second')");
  await world.waitUntilEqual(branch);
  await until('complete', async () => (await headOfficeSays(world, branch)).completeThrough !== null);
  // One transaction: what it does to the other table arrives.
  await branch.db.beginTransaction();
  await branch.db.query("INSERT INTO good VALUES (3, 'with it')");
  await branch.db.query("INSERT INTO odd VALUES (3, _cp1250 X'81')");
  await branch.db.commit();
  const said = await waitForSetAside(world, branch, ['odd']);
  t.equal(said.state, 'set-aside');
  await waitUntilOthersEqual(world, branch, ['odd']);
  t.equal(await valuesHere(world, 'odd'), '1=first 2=second', 'its rows stay as they are');
  const { completeThrough } = await headOfficeSays(world, branch);
  await branch.db.query("INSERT INTO odd VALUES (4, 'passed over')");
  await branch.db.query("INSERT INTO good VALUES (4, 'goes on')");
  await waitUntilOthersEqual(world, branch, ['odd']);
  t.equal(await valuesHere(world, 'odd'), '1=first 2=second');
  t.equal((await headOfficeSays(world, branch)).completeThrough, completeThrough, 'complete as of no later time');
  // Asking does not help before the value is corrected.
  await branch.db.query("UPDATE odd SET v = 'corrected' WHERE id = 3");
  expectSuccess(await world.applierCli(['branch', 'resume-table', branch.id, 'odd']));
  await waitForSetAside(world, branch, []);
  const { rowsCompared } = await world.waitUntilEqual(branch);
  t.equal(rowsCompared, 7);
  await branch.db.query("INSERT INTO odd VALUES (5, 'as ever')");
  await world.waitUntilEqual(branch);
  await branch.agent.stop();
});

await t.test('what the head office cannot take is set aside there, and the rest of the branch goes on', async t => {
  const world = await createWorld(t);
  await world.startApplier();
  const branch = await world.addBranch('refused');
  for (const name of ['fine', 'shape', 'checked']) {
    await branch.db.query(`CREATE TABLE ${name} (id INT PRIMARY KEY, v VARCHAR(20))`);
    await branch.db.query(`INSERT INTO ${name} VALUES (1, '1')`);
  }
  await branch.startAgent();
  await world.waitUntilEqual(branch);
  await world.headOfficeDb.query(
    `CREATE TRIGGER refuses AFTER INSERT ON checked FOR EACH ROW
       IF NEW.v = 'no' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not here'; END IF`,
  );
  await branch.db.query("INSERT INTO checked VALUES (2, 'no')");
  await branch.db.query("INSERT INTO fine VALUES (2, '2')");
  t.match((await waitForSetAside(world, branch, ['checked'])).setAside, [{ by: 'head-office', code: 'BATCH_REFUSED' }]);
  await waitUntilOthersEqual(world, branch, ['checked']);
  // Another branch could have text here, so a number does not fit.
  await branch.db.query('ALTER TABLE shape MODIFY v DOUBLE');
  await branch.db.query('INSERT INTO shape VALUES (2, 2.5)');
  await branch.db.query("INSERT INTO fine VALUES (3, '3'), (4, '4')");
  t.match((await waitForSetAside(world, branch, ['checked', 'shape'])).setAside, [
    { name: 'checked' },
    { name: 'shape', by: 'head-office', code: 'TARGET_SCHEMA', state: 'aside' },
  ]);
  await waitUntilOthersEqual(world, branch, ['checked', 'shape']);
  t.equal(await valuesHere(world, 'shape'), '1=1', 'its rows stay as they are');
  t.equal(await valuesHere(world, 'checked'), '1=1');
  // The definition shows that the cause is gone.
  await world.headOfficeDb.query('ALTER TABLE shape DROP COLUMN v');
  await waitForSetAside(world, branch, ['checked']);
  await waitUntilOthersEqual(world, branch, ['checked']);
  // A trigger's mind does not show: somebody must say so.
  await world.headOfficeDb.query('DROP TRIGGER refuses');
  expectSuccess(await world.applierCli(['branch', 'resume-table', branch.id, 'checked']));
  await waitForSetAside(world, branch, []);
  await world.waitUntilEqual(branch);
  // A branch that leaves the table out has nothing that is passed over.
  await world.headOfficeDb.query(
    `CREATE TRIGGER refuses AFTER INSERT ON checked FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not here'`,
  );
  const here = await valuesHere(world, 'checked');
  await branch.db.query("INSERT INTO checked VALUES (3, '3')");
  await waitForSetAside(world, branch, ['checked']);
  branch.configure({ tables: { exclude: [`${branch.schema}.checked`] } });
  await branch.agent.restart();
  await branch.agent.waitReady();
  await branch.db.query("INSERT INTO fine VALUES (5, '5')");
  await waitForSetAside(world, branch, []);
  await waitUntilOthersEqual(world, branch, ['checked']);
  t.equal(await valuesHere(world, 'checked'), here, 'its rows stay as they are');
  await until('complete', async () => (await headOfficeSays(world, branch)).completeThrough !== null);
  await branch.agent.stop();
});
