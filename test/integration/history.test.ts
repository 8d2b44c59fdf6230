/**
 * A branch's binlog that no longer holds what capture read last, or holds another history in its place: purged while the
 * agent was away, or the server restored under its own identity and grown past the old mark. Never resumed in silence.
 */
import type { RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import type { Test } from 'tap';
import { DatabaseServer } from '../../deploy/rig/database-server.ts';
import type { CaptureRig } from '../support/world/capture-rig.ts';
import { createRig } from '../support/world/capture-rig.ts';

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
/** More than were there before the restore. */
const NEW_TRANSACTIONS = 60;

async function equal(rig: CaptureRig): Promise<boolean> {
  await rig.caughtUp();
  return JSON.stringify(rig.replica().rows('sale')) === JSON.stringify(await rig.sourceRows('sale'));
}

/**
 * Capture takes a transaction, by which the place is known from then on, and is stopped. Without one any change at the
 * server's end would be reason enough for an epoch.
 */
async function stopBehind(t: Test, rig: CaptureRig): Promise<void> {
  await rig.db.query("INSERT INTO sale SELECT MAX(id) + 1, 'taken' FROM sale");
  t.ok(await equal(rig));
  await rig.stop();
  t.type(rig.spool.position()?.lastGroup?.file, 'string', 'a transaction was taken');
}

/** The branch lives on from a backup that did not hold this row, which its binlog does not tell. */
async function restore({ db }: CaptureRig, reset: string, missing: number): Promise<void> {
  await db.query(reset);
  await db.query('SET SESSION sql_log_bin = 0');
  await db.query(`DELETE FROM sale WHERE id = ${missing} OR id >= 100`);
  await db.query('SET SESSION sql_log_bin = 1');
  for (let i = 0; i < NEW_TRANSACTIONS; i += 1) await db.query(`INSERT INTO sale VALUES (${100 + i}, 'other')`);
}

for (const [name, { flavor, options, reset }] of Object.entries(SERVERS)) {
  void t.test(`${name}: the binlog of what capture has not read is gone`, async t => {
    const server = await DatabaseServer.start({ flavor, name: 'history', role: 'branch', options });
    t.teardown(() => server.remove());
    const rig = await createRig(t, { source: server });
    const { db } = rig;
    await db.query('CREATE TABLE sale (id INT PRIMARY KEY, v VARCHAR(20))');
    await db.query("INSERT INTO sale VALUES (1, 'old'), (2, 'old'), (3, 'old')");
    rig.start();
    t.ok(await equal(rig));
    t.equal(rig.epochs.length, 1);

    /** Capture runs and has taken all; the rows are those that each test begins with. @returns how many epochs there were */
    const begin = async (t: Test): Promise<number> => {
      if (!rig.running) await rig.restart();
      await db.query("REPLACE INTO sale VALUES (1, 'old'), (2, 'old'), (3, 'old')");
      t.ok(await equal(rig));
      return rig.epochs.length;
    };

    await t.test('purged while the agent was away: a new epoch finds what was written and deleted', async t => {
      const epochs = await begin(t);
      await stopBehind(t, rig);
      await db.query("UPDATE sale SET v = 'changed' WHERE id = 1");
      await db.query('DELETE FROM sale WHERE id = 2');
      await db.query('FLUSH BINARY LOGS');
      await db.query("INSERT INTO sale VALUES (50, 'new')");
      const [logs] = await db.query<RowDataPacket[]>('SHOW BINARY LOGS');
      await db.query(`PURGE BINARY LOGS TO '${String(logs.at(-1)?.['Log_name'])}'`);
      await rig.restart();
      t.ok(await equal(rig), 'equal row by row');
      t.equal(rig.epochs.length, epochs + 1);
    });

    await t.test(
      'restored under its own identity and grown past the old mark: a new epoch, nothing skipped',
      async t => {
        const epochs = await begin(t);
        await stopBehind(t, rig);
        await restore(rig, reset, 3);
        await rig.restart();
        t.ok(await equal(rig), 'equal row by row');
        t.equal(rig.epochs.length, epochs + 1);
      },
    );

    await t.test('sales while the agent was away, before any transaction was taken: the epoch goes on', async t => {
      const epochs = (await begin(t)) + 1;
      rig.capture?.beginNewEpoch('the test');
      await rig.until('a copy of all', () => rig.epochs.length === epochs && rig.spool.snapshot()?.finished === true);
      await rig.stop();
      await db.query("INSERT INTO sale VALUES (7, 'sold meanwhile')");
      await rig.restart();
      t.ok(await equal(rig), 'equal row by row');
      t.equal(rig.epochs.length, epochs);
    });

    await t.test('the same right after an epoch began, when no transaction was taken yet', async t => {
      const epochs = (await begin(t)) + 1;
      await db.query("INSERT INTO sale VALUES (5, 'not in the backup')");
      rig.capture?.beginNewEpoch('the test');
      await rig.until('a copy of all', () => rig.epochs.length === epochs && rig.spool.snapshot()?.finished === true);
      await rig.restart();
      await rig.until('the stream', () => rig.capture?.status().state === 'streaming');
      t.equal(rig.epochs.length, epochs, 'where nothing was committed the epoch goes on');
      await rig.stop();
      await restore(rig, reset, 5);
      await rig.restart();
      t.ok(await equal(rig), 'equal row by row');
      t.equal(rig.epochs.length, epochs + 1);
    });
  });
}
