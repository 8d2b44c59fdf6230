/**
 * A branch's server is upgraded in place, gets a new identity, or begins to use GTIDs: capture goes on where the binlog goes
 * on, and copies all tables where it does not. Every test ends in a comparison of all rows. More upgrades: test/servers.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { connectTo } from '../support/world/capture-rig.ts';
import { equal, sell, setUp, upgradeInPlace } from '../support/world/upgrade.ts';

// Each has servers of its own, and waits more than it works.
t.jobs = 2;

void t.test('MariaDB 10.5 to the newest', t => upgradeInPlace(t, 'mariadb-10.5'));

for (const gtids of [true, false]) {
  void t.test(`auto.cnf is deleted, ${gtids ? 'with' : 'without'} GTIDs`, async t => {
    const off = { 'gtid-mode': 'OFF', 'enforce-gtid-consistency': 'OFF' };
    const { server, rig } = await setUp(t, { flavor: 'mysql', options: gtids ? {} : off });
    const { epoch } = rig.spool.stream();
    await sell(rig, 1);
    await server.stop();
    await rm(join(server.directory, 'data/auto.cnf'));
    await server.restart();
    await rig.reconnect();
    await sell(rig, 3);
    await rig.until('the new server', () => rig.spool.position()?.source.server !== undefined);
    // Without GTIDs nothing tells that this is the same binlog: an unnecessary copy is safe.
    if (gtids) await equal(t, rig);
    else await rig.until('a new epoch', () => rig.spool.stream().epoch !== epoch);
    await equal(t, rig);
    t.equal(rig.spool.stream().epoch === epoch, gtids, gtids ? 'the same epoch' : 'all is copied');
  });
}

void t.test('GTIDs are switched on, and off again, step by step under load', async t => {
  const options = { 'gtid-mode': 'OFF', 'enforce-gtid-consistency': 'OFF' };
  const { server, rig } = await setUp(t, { flavor: 'mysql', options });
  const admin = await connectTo(server);
  t.teardown(() => admin.destroy());
  let going = true;
  const load = (async () => {
    while (going) {
      await sell(rig, 1);
      await delay(20);
    }
  })();
  const steps = ['OFF_PERMISSIVE', 'ON_PERMISSIVE', 'ON'];
  for (const consistency of ['WARN', 'ON']) {
    await admin.query(`SET GLOBAL enforce_gtid_consistency = ${consistency}`);
  }
  const soon = (): Promise<void> => new Promise(resolve => setTimeout(resolve, 300));
  for (const mode of [...steps, ...steps.slice(0, 2).reverse(), 'OFF', ...steps]) {
    await admin.query(`SET GLOBAL gtid_mode = ${mode}`);
    await soon();
  }
  going = false;
  await load;
  await equal(t, rig);
  // A restart of the agent looks at the server anew.
  await rig.stop();
  await sell(rig, 3);
  await rig.restart();
  await equal(t, rig);
  await server.restart({ 'gtid-mode': 'ON', 'enforce-gtid-consistency': 'ON' });
  await rig.reconnect();
  await sell(rig, 3);
  await equal(t, rig);
});
