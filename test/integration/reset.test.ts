/**
 * The branch's binlog is reset while capture reads it. The server goes on sending heartbeats of the file that it has deleted,
 * so nothing in the stream tells of it.
 */
import t from 'tap';
import { DatabaseServer } from '../../deploy/rig/database-server.ts';
import { createRig } from '../support/world/capture-rig.ts';
import type { CaptureRig } from '../support/world/capture-rig.ts';

// Each has servers of its own, and waits more than it works.
t.jobs = 2;

const SERVERS = {
  'MySQL with GTIDs': { flavor: 'mysql', options: {}, reset: 'RESET BINARY LOGS AND GTIDS' },
  'MySQL without GTIDs': {
    flavor: 'mysql',
    options: { 'gtid-mode': 'OFF', 'enforce-gtid-consistency': 'OFF' },
    reset: 'RESET BINARY LOGS AND GTIDS',
  },
  MariaDB: { flavor: 'mariadb', options: {}, reset: 'RESET MASTER' },
} as const;

for (const [name, { flavor, options, reset }] of Object.entries(SERVERS)) {
  void t.test(`${name}: a binlog that is reset while it is read is a lost position, at once`, async t => {
    const server = await DatabaseServer.start({ flavor, name: 'reset', role: 'branch', options });
    t.teardown(() => server.remove());
    const rig = await createRig(t, { source: server });
    const { db } = rig;
    await db.query('CREATE TABLE sale (id INT PRIMARY KEY, v LONGTEXT)');
    rig.start();
    await rig.caughtUp();
    const equal = async (): Promise<void> => {
      await rig.caughtUp();
      const lengths = (rows: Awaited<ReturnType<CaptureRig['sourceRows']>>) =>
        rows.map(({ id, v }) => [id, String(v).length]);
      t.same(lengths(rig.replica().rows('sale')), lengths(await rig.sourceRows('sale')));
    };

    await t.test('and nothing is written after it', async t => {
      await db.query("INSERT INTO sale VALUES (1, 'taken')");
      await equal();
      await db.query(reset);
      await rig.until('a new epoch', () => rig.epochs.length === 2);
      t.equal(rig.faults.at(-1), 'SOURCE_POSITION_LOST');
      await equal();
    });

    await t.test('and rows follow at once', async () => {
      await db.query("INSERT INTO sale VALUES (2, 'taken')");
      await equal();
      await db.query(reset);
      for (let id = 3; id < 20; id += 1) await db.query("INSERT INTO sale VALUES (?, 'after')", [id]);
      await rig.until('a new epoch', () => rig.epochs.length === 3);
      await equal();
    });

    await t.test(
      'and rows follow at once that take the new binlog beyond the place where the old one ended',
      async () => {
        await db.query("INSERT INTO sale VALUES (20, 'taken')");
        await equal();
        await db.query(reset);
        await db.query("INSERT INTO sale VALUES (21, repeat('x', 300000))");
        await rig.until('a new epoch', () => rig.epochs.length === 4);
        await equal();
      },
    );

    await t.test('again and again, while rows are copied', async () => {
      const values = Array.from({ length: 3000 }, (_, i) => `(${1000 + i}, repeat('y', 500))`).join(',');
      await db.query(`INSERT INTO sale VALUES ${values}`);
      for (let times = 0; times < 4; times += 1) {
        await db.query(reset);
        for (let i = 0; i < 10; i += 1) {
          await db.query('UPDATE sale SET v = ? WHERE id = ?', ['z'.repeat(100 * times + i), 1000 + i]);
        }
        await new Promise(resolve => setTimeout(resolve, 300 * times));
      }
      await equal();
    });
  });
}
