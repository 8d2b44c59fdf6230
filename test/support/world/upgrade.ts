/** A branch's server under capture that is upgraded, or changes otherwise, with all rows compared at the end. */
import type { Test } from 'tap';
import { DatabaseServer } from '../../../deploy/rig/database-server.ts';
import type { DatabaseServerOptions } from '../../../deploy/rig/database-server.ts';
import type { DatabaseRelease } from '../../../deploy/rig/install/releases.ts';
import { createRig } from './capture-rig.ts';
import type { CaptureRig } from './capture-rig.ts';

interface Setting {
  readonly server: DatabaseServer;
  readonly rig: CaptureRig;
}

/** A server with a table that is captured. */
export async function setUp(t: Test, options: Omit<DatabaseServerOptions, 'name' | 'role'>): Promise<Setting> {
  const server = await DatabaseServer.start({ name: 'branch', role: 'branch', ...options }, line => t.comment(line));
  t.teardown(() => server.remove());
  const rig = await createRig(t, { source: server });
  await rig.db.query(
    `CREATE TABLE sale (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(40), e ENUM('a', 'é'), d DATETIME(3))`,
  );
  await sell(rig, 3);
  rig.start();
  await rig.caughtUp();
  await sell(rig, 3);
  await rig.caughtUp();
  return { server, rig };
}

/** Adds rows and changes some. */
export async function sell({ db }: CaptureRig, times: number): Promise<void> {
  for (let n = 0; n < times; n += 1) {
    await db.query(`INSERT INTO sale (v, e, d) VALUES ('é', 'é', '2026-11-30 12:00:00.125')`);
    await db.query(`UPDATE sale SET v = CONCAT(v, 'x'), e = 'a' WHERE id MOD 2 = 0 AND LENGTH(v) < 30`);
  }
}

/** Waits until all is captured, and compares every row. */
export async function equal(t: Test, rig: CaptureRig): Promise<void> {
  await rig.caughtUp();
  t.same(rig.replica().rows('sale'), await rig.sourceRows('sale'));
}

/** Capture goes on over an upgrade in place, and nothing is copied again. @param to default: the newest */
export async function upgradeInPlace(t: Test, from: DatabaseRelease, to?: DatabaseRelease): Promise<void> {
  const flavor = from.startsWith('mysql') ? 'mysql' : 'mariadb';
  const { server, rig } = await setUp(t, { flavor, release: from });
  const { epoch } = rig.spool.stream();
  // Some of what the old version has written is read through the new one.
  await rig.stop();
  await sell(rig, 5);
  await server.upgrade(to, line => t.comment(line));
  await rig.reconnect();
  await sell(rig, 5);
  await rig.restart();
  await equal(t, rig);
  t.equal(rig.spool.stream().epoch, epoch, `the same epoch at ${server.version}`);
  await t.test('and again while the agent runs', async t => {
    await sell(rig, 2);
    await server.restart();
    await rig.reconnect();
    await sell(rig, 2);
    await equal(t, rig);
    t.equal(rig.spool.stream().epoch, epoch);
  });
}
