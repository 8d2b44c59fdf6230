/**
 * Settings of the branch's server that are changed while the agent is connected. Running sessions notice nothing of it, so
 * the agent looks at them through a new connection now and then; what it sees even once ends in a copy of all tables.
 */
import t from 'tap';
import type { Test } from 'tap';
import { DatabaseServer } from '../../deploy/rig/database-server.ts';
import { promote, rejoin, startReplica, waitUntilReplicated } from '../../deploy/rig/replication.ts';
import { staleSince } from '../../agent/spool/snapshot-progress.ts';
import type { SourceConnection } from '../../agent/source/connection.ts';
import { connectTo, createRig } from '../support/world/capture-rig.ts';
import type { CaptureRig } from '../support/world/capture-rig.ts';

// Each has servers of its own, and waits more than it works.
t.jobs = 2;

const FLAVORS = ['mysql', 'mariadb'] as const;

/** Settings that hide rows, and how each is right. */
const SETTINGS = {
  binlog_row_image: { hiding: 'MINIMAL', right: 'FULL' },
  binlog_format: { hiding: 'STATEMENT', right: 'ROW' },
} as const;

interface Branch {
  readonly rig: CaptureRig;
  /** Lets the agent's next look go through a new connection, as it would some seconds later. */
  readonly endLook: () => void;
}

async function newBranch(t: Test, server: DatabaseServer): Promise<Branch> {
  const open = new Set<SourceConnection>();
  const rig = await createRig(t, { source: server, onSource: source => open.add(source) });
  await rig.db.query('CREATE TABLE sale (id INT PRIMARY KEY, v VARCHAR(20), w INT NOT NULL DEFAULT 7, x TEXT)');
  await rig.db.query("INSERT INTO sale VALUES (1, 'old', 1, 'long'), (2, 'old', 2, 'long'), (3, 'old', 3, 'long')");
  rig.start();
  await rig.caughtUp();
  // A transaction by which the history is known from then on.
  await rig.db.query("UPDATE sale SET v = 'older' WHERE id = 3");
  await rig.caughtUp();
  const endLook = (): void => {
    for (const source of open) source.destroy();
    open.clear();
  };
  return { rig, endLook };
}

/** In a session of its own, as settings are taken over at its begin. */
async function change(rig: CaptureRig, id: number): Promise<void> {
  await rig.reconnect();
  await rig.db.query(`INSERT INTO sale (id, v) VALUES (${id}, 'new')`);
  await rig.db.query("UPDATE sale SET v = concat(v, '!') WHERE id = 1");
  await rig.db.query(`UPDATE sale SET x = 'longer' WHERE id = ${id}`);
  await rig.db.query(`DELETE FROM sale WHERE id = ${id - 8}`);
}

async function equal(t: Test, rig: CaptureRig): Promise<void> {
  await rig.caughtUp();
  t.same(rig.replica().rows('sale'), await rig.sourceRows('sale'));
}

async function isTold(t: Test, { rig, endLook }: Branch, says: RegExp): Promise<void> {
  endLook();
  await rig.until('it says so', () => rig.capture?.status().error?.code === 'SOURCE_SETTING');
  t.match(rig.capture?.status().error?.message, says);
}

for (const flavor of FLAVORS) {
  void t.test(`${flavor}: a global setting that hides rows`, async t => {
    const server = await DatabaseServer.start({ flavor, name: 'settings', role: 'branch' });
    t.teardown(() => server.remove());
    const admin = await connectTo(server);
    t.teardown(() => admin.destroy());

    for (const [name, { hiding, right }] of Object.entries(SETTINGS)) {
      await t.test(`${name}=${hiding}, seen by the agent, before a row is written: all is copied`, async t => {
        t.teardown(() => admin.query(`SET GLOBAL ${name} = '${right}'`));
        const branch = await newBranch(t, server);
        const { rig } = branch;
        for (const id of [10, 11]) {
          await admin.query(`SET GLOBAL ${name} = '${hiding}'`);
          await isTold(t, branch, new RegExp(`${name}: is ${hiding}`));
          t.not(staleSince(rig.spool.snapshot()), null, 'a copy is owed');
          await change(rig, id);
          await admin.query(`SET GLOBAL ${name} = '${right}'`);
          await rig.reconnect();
          await equal(t, rig);
          await rig.until('nothing is wrong any more', () => rig.capture?.status().error === null);
        }
        t.equal(rig.epochs.length, 1, 'the history is the same, the second time as well');
      });

      await t.test(`${name}=${hiding}, set back at once: what the binlog cannot tell is copied`, async t => {
        t.teardown(() => admin.query(`SET GLOBAL ${name} = '${right}'`));
        const { rig } = await newBranch(t, server);
        await admin.query(`SET GLOBAL ${name} = '${hiding}'`);
        await change(rig, 12);
        await admin.query(`SET GLOBAL ${name} = '${right}'`);
        await rig.reconnect();
        await equal(t, rig);
      });
    }
  });

  void t.test(
    `${flavor}: a server that becomes a replica, and does not log what it takes over, is noticed`,
    async t => {
      const options = { [flavor === 'mysql' ? 'log-replica-updates' : 'log-slave-updates']: 'OFF' };
      const server = await DatabaseServer.start({ flavor, name: 'unlogging', role: 'branch', options });
      t.teardown(() => server.remove());
      const other = await startReplica(server, 'other');
      t.teardown(() => other.remove());
      const branch = await newBranch(t, server);
      const { rig } = branch;
      await waitUntilReplicated(server, other);
      await promote(other);
      const db = await connectTo(other);
      t.teardown(() => db.destroy());
      await db.query(`INSERT INTO ${rig.schema}.sale VALUES (20, 'taken over', 1, NULL)`);
      await db.query(`UPDATE ${rig.schema}.sale SET v = 'taken over' WHERE id = 1`);
      await db.query(`DELETE FROM ${rig.schema}.sale WHERE id = 2`);
      const before = Date.now();
      await rejoin(server, other);
      await waitUntilReplicated(other, server);
      const { capture } = rig;
      const claim = (): string | null => capture?.status().capturedThrough ?? null;
      const notices = (): boolean => capture?.status().error !== null;
      await rig.until('a claim that is wrong, or word of it', () => notices() || Date.parse(claim() ?? '') > before);
      await isTold(t, branch, /is OFF, and this server is a replica/);
      t.ok(Date.parse(claim() ?? '') <= before, 'what is complete is bounded by the time before');
      await promote(server);
      await equal(t, rig);
      t.equal((await rig.sourceRows('sale')).length, 3);
    },
  );
}
