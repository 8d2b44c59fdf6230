/**
 * The head office's database is a group of three servers, whose addresses target.host lists. The applier finds the one
 * that takes writes, waits for a limit to be raised, and goes on by itself when that server dies while a branch sells.
 */
import { createConnection } from 'mysql2/promise';
import type { RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import { DatabaseGroup } from '../../deploy/rig/database-group.ts';
import type { DatabaseServer } from '../../deploy/rig/database-server.ts';
import { FaultProxy } from '../../deploy/rig/fault-proxy.ts';
import type { ApplierStatus } from '../../applier/web/status.ts';
import { Load, LOAD_TABLES } from '../support/world/load.ts';
import { until } from '../support/until.ts';
import { createWorld } from '../support/world/world.ts';

const SEED = 20261130;
/** Between what a sale needs and what the test's large transaction needs. */
const SIZE_LIMIT = 300_000;

// As MySQL has them: a limit, and a member that has lost the others waits for them for ever.
const usual = {
  'loose-group-replication-transaction-size-limit': 150_000_000,
  'loose-group-replication-unreachable-majority-timeout': 0,
};
const group = await DatabaseGroup.start({ name: 'target-group', options: usual });
t.teardown(() => group.remove());
const [first] = group.members;
if (first === undefined) throw new Error('a group without members');
/** Where the test itself looks. */
let looking: DatabaseServer = first;
const door = await FaultProxy.open(first.port);
t.teardown(() => door.close());

const { user, password, flavor, version } = first;
const headOffice = { flavor, version, host: door.host, port: door.port, user, password };
const world = await createWorld(t, { headOffice });
// The primary is the last one of them.
const host = group.doors.map(each => each.host).reverse();
// People read at the last member, which follows.
const reader = group.members[2];
if (reader === undefined) throw new Error('a group of three');
const target = { host, port: group.doors[0]?.port, readHost: host[0] };
const applier = await world.startApplier({ config: { target } });
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

await t.test('the page reads its rows where target.readHost says', async t => {
  let rows: readonly (readonly (string | null)[])[] = [];
  await until('the row on the page', async () => {
    rows = ((await applier.get('/api/tables/told/rows')) as { readonly rows: typeof rows }).rows;
    return rows.length > 0;
  });
  t.match(rows[0], [paris.id, 'first']);
  const connection = await createConnection({ host: '127.0.0.1', port: reader.port, user, password });
  t.teardown(() => connection.destroy());
  const [pages] = await connection.query<RowDataPacket[]>(
    "SELECT 1 FROM performance_schema.session_connect_attrs WHERE ATTR_VALUE = 'tributary-applier page'",
  );
  t.equal(pages.length, 1, 'the reader has the page’s session');
  t.match((await world.applierCli(['check'])).stdout, /ok +target\.readHost: /);
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

/** Sells, and waits for it at the member that takes writes by then. */
async function sold(what: string, lost: DatabaseServer): Promise<void> {
  await paris.db.query('INSERT INTO told VALUES (?, NULL)', [what]);
  await until('another one takes writes', async () => {
    const primary = await group.primary();
    if (primary === undefined || primary === lost) return false;
    looking = primary;
    door.lead(primary.port);
    return true;
  });
  const own = await createConnection({ host: '127.0.0.1', port: looking.port, user, password });
  try {
    await until('the sale at the head office', async () => {
      const sql = `SELECT 1 FROM ${world.database}.told WHERE what = ?`;
      const [rows] = await own.query<RowDataPacket[]>(sql, [what]);
      return rows.length > 0;
    });
  } finally {
    own.destroy();
  }
}

await t.test('the server that takes writes is killed while the branch sells', async t => {
  const load = new Load(paris.source, { schema: paris.schema, seed: SEED, sessions: 2, pauseMs: 20 });
  await until('sales', () => load.committed > 20);
  const lost = looking;
  await lost.kill();
  await sold('killed', lost);
  await load.stop();
  t.ok((await world.waitUntilEqual(paris)).rowsCompared > 0);
});

await t.test('the server that takes writes is parted from the others, and works on a commit for ever', async t => {
  if (!group.divisible) {
    t.comment('not done: this machine has no IPv6 loopback address');
    return;
  }
  await group.mend();
  const lost = looking;
  await group.part([lost]);
  await sold('parted', lost);
  await group.mend();
  t.ok((await world.waitUntilEqual(paris)).rowsCompared > 0);
});
