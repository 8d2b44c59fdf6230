/**
 * The head office's database is a pair: a replica follows asynchronously, and takes over when the server that takes writes
 * is lost. It lacks the newest transactions: of batches that branches know to be applied, of tables that it has never
 * seen, of columns. Nobody stops the applier meanwhile. Each branch sends again what is missing, in the same epoch and
 * without a copy of a table.
 */
import { join } from 'node:path';
import type { RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import { DatabaseServer } from '../../deploy/rig/database-server.ts';
import { FaultProxy } from '../../deploy/rig/fault-proxy.ts';
import { promote, startReplica, stopReceiving, waitUntilReplicated } from '../../deploy/rig/replication.ts';
import { connectTo, runStatements } from '../support/world/database.ts';
import { Load, LOAD_TABLES, testSeed } from '../support/world/load.ts';
import { until } from '../support/until.ts';
import { createWorld, expectSuccess } from '../support/world/world.ts';

const seed = testSeed();
t.comment(`SEED=${seed}`);
const takesRows = { 'local-infile': 'ON' };
const primary = await DatabaseServer.start({
  flavor: 'mysql',
  name: 'head-primary',
  role: 'branch',
  options: takesRows,
});
t.teardown(() => primary.remove());
const replica = await startReplica(primary, 'head-replica', takesRows);
t.teardown(() => replica.remove());
await runStatements(replica, 'SET GLOBAL super_read_only = ON');

/** Where the test looks. */
const looking = await FaultProxy.open(primary.port);
t.teardown(() => looking.close());
const { user, password, flavor, version } = primary;
const headOffice = { flavor, version, host: looking.host, port: looking.port, user, password };
const world = await createWorld(t, { headOffice });
// Two machines: one port, an address each.
const doors: FaultProxy[] = [];
for (const [at, server] of [replica, primary].entries()) {
  const port = doors[0]?.port ?? 0;
  const near = { host: `127.0.9.${at + 1}`, port };
  doors.push(await FaultProxy.open(server.port, server.host, undefined, near));
}
t.teardown(() => Promise.all(doors.map(door => door.close())));
const applier = await world.startApplier({
  config: { target: { host: doors.map(door => door.host), port: doors[0]?.port } },
});
const paris = await world.addBranch('paris', {
  setup: [...LOAD_TABLES, 'CREATE TABLE old (id INT PRIMARY KEY)', 'INSERT INTO old VALUES (1), (2)'],
});
await paris.startAgent();
await world.waitUntilEqual(paris);

const snapshots = (): number => paris.agent.log().filter(({ msg }) => msg === 'A snapshot begins.').length;
async function registered(server: DatabaseServer): Promise<{ readonly epoch: string; readonly applied: number }> {
  const db = await connectTo(server);
  try {
    const sql = `SELECT epoch, applied_seq FROM ${world.database}.tributary_branch WHERE branch = ?`;
    const [[row]] = await db.query<RowDataPacket[]>(sql, [paris.id]);
    return { epoch: String(row?.['epoch']), applied: Number(row?.['applied_seq']) };
  } finally {
    db.destroy();
  }
}

await t.test('a replica that lacks what branches know to be applied takes over under a running applier', async t => {
  await waitUntilReplicated(primary, replica);
  await stopReceiving(replica);
  const load = new Load(paris.source, { schema: paris.schema, seed, sessions: 2, pauseMs: 20 });
  await paris.db.query('CREATE TABLE young (id INT PRIMARY KEY, note VARCHAR(40))');
  await paris.db.query("INSERT INTO young VALUES (1, 'the replica has never seen this table')");
  await paris.db.query('ALTER TABLE old ADD COLUMN word VARCHAR(20) NULL');
  await paris.db.query("INSERT INTO old VALUES (3, 'nor this column')");
  await paris.db.query('DELETE FROM old WHERE id = 1');
  await until('sales', () => load.committed > 40);
  // The newest of it is at the primary, and the branch has been told so.
  await until('the primary to be ahead', async () => {
    const [ahead, behind] = [await registered(primary), await registered(replica)];
    return ahead.applied > behind.applied + 5;
  });
  const late = await world.addBranch('late', {
    setup: ['CREATE TABLE sale (id INT PRIMARY KEY)', 'INSERT INTO sale VALUES (1), (2)'],
  });
  await late.startAgent();
  await world.waitUntilEqual(late);
  const before = { ...(await registered(primary)), snapshots: snapshots() };
  await primary.kill();
  await promote(replica);
  await runStatements(replica, 'SET GLOBAL super_read_only = OFF, GLOBAL read_only = OFF');
  looking.lead(replica.port);
  const behind = await registered(replica);
  t.ok(behind.applied < before.applied, 'the replica lacks batches');
  await until('sales after the failover', () => load.committed > 80);
  await load.stop();
  t.ok((await world.waitUntilEqual(paris)).rowsCompared > 0);
  t.equal((await registered(replica)).epoch, before.epoch, 'the same epoch');
  t.equal(snapshots(), before.snapshots, 'no table was copied again');
  t.ok(applier.running, 'the applier went on');

  // It was added since, and the new server has never heard of it: it is added once more.
  await late.db.query('INSERT INTO sale VALUES (3)');
  await late.agent.stop();
  const file = join(late.folder, 'again.enrolment');
  expectSuccess(await world.applierCli(['branch', 'add', late.id, '--out', file]));
  expectSuccess(await late.cli(['enroll', file]));
  await late.startAgent();
  t.ok((await world.waitUntilEqual(late)).rowsCompared > 0);
});
