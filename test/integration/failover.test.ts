/**
 * The branch's server fails over to a replica behind the same address. Where that holds the same history, capture goes on
 * in it: the same epoch, and nothing is copied again. Where it lacks what was captured, a new epoch begins.
 */
import t from 'tap';
import type { Test } from 'tap';
import { DatabaseServer } from '../../deploy/rig/database-server.ts';
import { FaultProxy } from '../../deploy/rig/fault-proxy.ts';
import { promote, startReplica, stopReceiving, waitUntilReplicated } from '../../deploy/rig/replication.ts';
import { connectTo, createRig } from '../support/world/capture-rig.ts';
import type { CaptureRig } from '../support/world/capture-rig.ts';

// Each has servers of its own, and waits more than it works.
t.jobs = 2;

interface Setting {
  readonly rig: CaptureRig;
  readonly primary: DatabaseServer;
  readonly replica: DatabaseServer;
  /** Leads to the primary. */
  readonly door: FaultProxy;
}

async function setUp(t: Test, flavor: 'mysql' | 'mariadb'): Promise<Setting> {
  const primary = await DatabaseServer.start({ flavor, name: 'primary', role: 'branch' });
  t.teardown(() => primary.remove());
  const replica = await startReplica(primary, 'replica');
  t.teardown(() => replica.remove());
  await openOthers(replica);
  const door = await FaultProxy.open(primary.port);
  t.teardown(() => door.close());
  const { host, port } = door;
  const rig = await createRig(t, { source: { host, port, user: primary.user, password: primary.password } });
  await rig.db.query('CREATE TABLE sale (id INT PRIMARY KEY AUTO_INCREMENT, v INT NOT NULL)');
  await rig.db.query('CREATE TABLE stock (id INT PRIMARY KEY, left_over INT NOT NULL)');
  await rig.db.query('INSERT INTO stock VALUES (1, 0), (2, 0), (3, 0)');
  rig.start();
  await rig.caughtUp();
  return { rig, primary, replica, door };
}

/** What the replica opens first, by itself, has the table ids that the branch's tables have at the primary. */
async function openOthers(replica: DatabaseServer): Promise<void> {
  const db = await connectTo(replica);
  await db.query('SET SESSION sql_log_bin = 0');
  for (const name of ['a', 'b', 'c']) await db.query(`CREATE TABLE mysql.other_${name} (id INT PRIMARY KEY)`);
  db.destroy();
}

/** Sells until it is told to stop, or the server refuses. */
function sell(rig: CaptureRig): { stop: () => Promise<void> } {
  let going = true;
  const work = (async () => {
    for (let n = 1; going; n += 1) {
      await rig.db.query('START TRANSACTION');
      await rig.db.query('INSERT INTO sale (v) VALUES (?), (?)', [n, n]);
      await rig.db.query('UPDATE stock SET left_over = left_over + 1 WHERE id = ?', [1 + (n % 3)]);
      if (n % 7 === 0) await rig.db.query('DELETE FROM sale ORDER BY id LIMIT 3');
      await rig.db.query('COMMIT');
      await pause(3);
    }
  })().catch(() => undefined);
  return {
    stop: async () => {
      going = false;
      await work;
    },
  };
}

const pause = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms));

async function equal(t: Test, rig: CaptureRig): Promise<void> {
  await rig.caughtUp();
  for (const table of ['sale', 'stock']) t.same(rig.replica().rows(table), await rig.sourceRows(table), table);
}

for (const flavor of ['mysql', 'mariadb'] as const) {
  for (const way of ['cut', 'left hanging'] as const) {
    void t.test(
      `${flavor}: a failover under load to a replica in step (old connections ${way}) copies nothing`,
      async t => {
        const { rig, primary, replica, door } = await setUp(t, flavor);
        const { epoch } = rig.spool.stream();
        const { server } = rig.spool.position()?.source ?? {};
        const snapshots = rig.replica().starts.length;
        let selling = sell(rig);
        await pause(1_500);
        await selling.stop();
        await waitUntilReplicated(primary, replica);
        await promote(replica);
        door.lead(replica.port, way === 'cut' ? 'reset' : 'kept');
        await rig.reconnect();
        selling = sell(rig);
        await pause(1_500);
        await selling.stop();
        // A look through a new connection shows where the address leads; until then capture reads the old server.
        await rig.until('it reads the new server', () => rig.spool.position()?.source.server !== server);
        await equal(t, rig);
        t.equal(rig.spool.stream().epoch, epoch, 'the same epoch');
        t.equal(rig.replica().starts.length, snapshots, 'no snapshot');

        await t.test('and is resumed there, as at any server', async t => {
          await rig.stop();
          await rig.db.query('INSERT INTO sale (v) VALUES (777)');
          await rig.restart();
          await equal(t, rig);
          t.equal(rig.spool.stream().epoch, epoch, 'the same epoch');
        });
      },
    );
  }

  void t.test(`${flavor}: a replica that lacks what was captured is another history`, async t => {
    const { rig, primary, replica, door } = await setUp(t, flavor);
    const { epoch } = rig.spool.stream();
    await waitUntilReplicated(primary, replica);
    await stopReceiving(replica);
    await rig.db.query('INSERT INTO sale (v) VALUES (1), (2)');
    await rig.caughtUp();
    await promote(replica);
    door.lead(replica.port);
    await rig.reconnect();
    for (let n = 0; n < 20; n += 1) await rig.db.query('INSERT INTO sale (v) VALUES (?)', [100 + n]);
    await rig.until('a new epoch', () => rig.spool.stream().epoch !== epoch);
    await equal(t, rig);
  });
}
