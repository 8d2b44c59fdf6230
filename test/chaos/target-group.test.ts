/**
 * The head office's database is a group of three servers, whose addresses target.host lists. The applier finds the one
 * that takes writes, waits for a limit to be raised, and goes on by itself when that server dies while a branch sells.
 */
import { connect, createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { createConnection } from 'mysql2/promise';
import type { RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import { DatabaseGroup } from '../../deploy/rig/database-group.ts';
import type { DatabaseServer } from '../../deploy/rig/database-server.ts';
import { freePort } from '../../deploy/rig/free-port.ts';
import type { ApplierStatus } from '../../applier/web/status.ts';
import { Load, LOAD_TABLES } from '../support/world/load.ts';
import { until } from '../support/until.ts';
import { createWorld } from '../support/world/world.ts';

const SEED = 20261130;
/** Between what a sale needs and what the test's large transaction needs. */
const SIZE_LIMIT = 300_000;

/** An address of a server's own: three machines have one port. */
async function lead(host: string, port: number, to: () => number): Promise<Server> {
  const server = createServer((socket: Socket) => {
    const upstream = connect(to(), '127.0.0.1');
    for (const [from, other] of [
      [socket, upstream],
      [upstream, socket],
    ] as const) {
      from.on('data', data => other.write(data));
      from.on('error', () => other.destroy());
      from.on('close', () => other.destroy());
    }
  });
  await new Promise<void>(resolve => server.listen(port, host, resolve));
  return server;
}

const group = await DatabaseGroup.start({ name: 'target-group' });
t.teardown(() => group.remove());
const [first] = group.members;
if (first === undefined) throw new Error('a group without members');
const port = await freePort();
/** Where the test itself looks. */
let looking: DatabaseServer = first;
const servers = await Promise.all([
  lead('127.0.0.2', port, () => looking.port),
  ...group.members.map((member, at) => lead(`127.0.0.${5 - at}`, port, () => member.port)),
]);
t.teardown(() => servers.forEach(server => server.close()));

const { user, password, flavor, version } = first;
const headOffice = { flavor, version, host: '127.0.0.2', port, user, password };
const world = await createWorld(t, { headOffice });
// The primary is the last one of them.
const applier = await world.startApplier({ config: { target: { host: ['127.0.0.3', '127.0.0.4', '127.0.0.5'] } } });
const paris = await world.addBranch('paris', {
  setup: [...LOAD_TABLES, 'CREATE TABLE told (what VARCHAR(80) PRIMARY KEY, note LONGTEXT)'],
});
await paris.startAgent();

async function everywhere(sql: string): Promise<void> {
  for (const member of group.members) {
    const connection = await createConnection({ host: '127.0.0.1', port: member.port, user, password });
    await connection.query(sql);
    await connection.end();
  }
}

await t.test('the server that takes writes is found', async t => {
  await paris.db.query("INSERT INTO told VALUES ('first', NULL)");
  await world.waitUntilEqual(paris);
  const { stdout } = await world.applierCli(['check']);
  t.match(stdout, /ok +target\.group: .*ONLINE PRIMARY/);
  t.match(stdout, /warning +target\.group_replication_transaction_size_limit: is 143 MiB/);
});

await t.test('a transaction above the group’s limit waits, says why, and goes in when it is raised', async t => {
  await everywhere(`SET GLOBAL group_replication_transaction_size_limit = ${SIZE_LIMIT}`);
  await paris.db.query("INSERT INTO told VALUES ('large', REPEAT(SHA2(RAND(), 256), 15000))");
  const waiting = async () => ((await applier.get('/api/status')) as ApplierStatus).branches[0]?.waiting ?? null;
  await until('it waits', async () => (await waiting()) !== null);
  t.match(await waiting(), { code: 'TARGET_SETTING', hint: /group_replication_transaction_size_limit = 0/ });
  await everywhere('SET GLOBAL group_replication_transaction_size_limit = 0');
  await world.waitUntilEqual(paris);
  t.equal(await waiting(), null);
});

await t.test('the server that takes writes is killed while the branch sells', async t => {
  const load = new Load(paris.source, { schema: paris.schema, seed: SEED, sessions: 2, pauseMs: 20 });
  await until('sales', () => load.committed > 20);
  await looking.kill();
  await paris.db.query("INSERT INTO told VALUES ('killed', NULL)");
  await until('another one takes writes', async () => {
    const primary = await group.primary();
    if (primary !== undefined) looking = primary;
    return primary !== undefined;
  });
  const own = await createConnection({ host: '127.0.0.1', port: looking.port, user, password });
  t.teardown(() => own.destroy());
  await until('the sale at the head office', async () => {
    const sql = `SELECT 1 FROM ${world.database}.told WHERE what = 'killed'`;
    const [rows] = await own.query<RowDataPacket[]>(sql);
    return rows.length > 0;
  });
  await load.stop();
  t.ok((await world.waitUntilEqual(paris)).rowsCompared > 0);
});
