/**
 * Rows that were written while the branch's server kept them out of its binlog: without a binlog, behind a filter, or after
 * it had closed its binlog for an error. Capture never sees them in the stream, so it must remember that it saw the setting.
 */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { DatabaseServer } from '../../deploy/rig/database-server.ts';
import type { ServerOptions } from '../../deploy/rig/database-options.ts';
import { staleSince } from '../../agent/spool/snapshot-progress.ts';
import { createRig } from '../support/world/capture-rig.ts';
import type { CaptureRig } from '../support/world/capture-rig.ts';

// Each has servers of its own, and waits more than it works.
t.jobs = 2;

const FLAVORS = ['mysql', 'mariadb'] as const;

/** Settings that keep rows out of the binlog, and how each is taken back. */
const UNLOGGED: Readonly<Record<string, (schema: string) => { given: ServerOptions; taken: ServerOptions }>> = {
  'without a binlog': () => ({ given: { 'skip-log-bin': true }, taken: { 'skip-log-bin': false } }),
  'with a filter for databases': schema => ({
    given: { 'binlog-ignore-db': schema },
    taken: { 'binlog-ignore-db': false },
  }),
};

async function change({ db }: CaptureRig): Promise<void> {
  await db.query("INSERT INTO sale VALUES (4, 'unlogged')");
  await db.query("UPDATE sale SET v = 'changed' WHERE id = 1");
  await db.query('DELETE FROM sale WHERE id = 2');
  await db.query('CREATE TABLE made (id INT PRIMARY KEY)');
  await db.query('INSERT INTO made VALUES (1)');
  await db.query('DROP TABLE gone');
}

async function newRig(t: Test, server: DatabaseServer): Promise<CaptureRig> {
  const rig = await createRig(t, { source: server });
  await rig.db.query('CREATE TABLE sale (id INT PRIMARY KEY, v VARCHAR(20))');
  await rig.db.query('CREATE TABLE gone (id INT PRIMARY KEY)');
  await rig.db.query("INSERT INTO sale VALUES (1, 'old'), (2, 'old'), (3, 'old')");
  await rig.db.query('INSERT INTO gone VALUES (1)');
  rig.start();
  await rig.caughtUp();
  // A transaction by which the history is known from then on.
  await rig.db.query("UPDATE sale SET v = 'older' WHERE id = 3");
  await rig.caughtUp();
  await rig.until('it claims something', () => (rig.capture?.status().capturedThrough ?? null) !== null);
  return rig;
}

async function sameRows(t: Test, rig: CaptureRig): Promise<void> {
  await rig.caughtUp();
  for (const table of ['sale', 'made']) t.same(rig.replica().rows(table), await rig.sourceRows(table), table);
  t.same(rig.replica().rows('gone'), [], 'a table that was dropped meanwhile');
}

for (const flavor of FLAVORS) {
  for (const [name, settings] of Object.entries(UNLOGGED)) {
    void t.test(`${flavor}: rows of a time ${name} are copied once the setting is right again`, async t => {
      const server = await DatabaseServer.start({ flavor, name: 'unlogged', role: 'branch' });
      t.teardown(() => server.remove());
      const rig = await newRig(t, server);
      const { given, taken } = settings(rig.schema);
      await server.restart(given);
      const before = Date.now();
      await rig.until('it says so', () => rig.capture?.status().error?.code === 'SOURCE_SETTING');
      await rig.reconnect();
      await change(rig);
      // What was seen outlives the process.
      await rig.stop();
      await server.restart(taken);
      await rig.reconnect();
      const since = staleSince(rig.spool.snapshot());
      t.ok(since !== null && Date.parse(since) < before, 'what is complete is bounded by the time before');
      // Nothing can be copied while the table is locked.
      await rig.db.query('LOCK TABLES sale WRITE, made WRITE');
      await rig.restart();
      await rig.until('the stream', () => rig.capture?.status().state === 'streaming');
      await rig.until('a claim', () => (rig.capture?.status().capturedThrough ?? null) !== null);
      t.ok(Date.parse(rig.capture?.status().capturedThrough ?? '') < before, 'nothing more is claimed meanwhile');
      await rig.db.query('UNLOCK TABLES');
      await sameRows(t, rig);
      t.equal(rig.epochs.length, 1, 'the history is the same');
      await rig.until('it claims more', () => Date.parse(rig.capture?.status().capturedThrough ?? '') > before);
    });
  }

  void t.test(`${flavor}: a server that closes its binlog for an error, and goes on without, is noticed`, async t => {
    const options = flavor === 'mysql' ? { 'binlog-error-action': 'IGNORE_ERROR' } : {};
    const server = await DatabaseServer.start({ flavor, name: 'closed', role: 'branch', options });
    t.teardown(() => server.remove());
    const rig = await newRig(t, server);
    const data = join(server.directory, 'data');
    // MySQL takes the next free number, of which there is none behind this one.
    const obstacle = join(data, flavor === 'mysql' ? 'binlog.2147483647' : 'binlog.000002');
    mkdirSync(obstacle);
    await rig.db.query('FLUSH BINARY LOGS').catch(() => undefined);
    await change(rig);
    await rig.until('it says so', () => rig.capture?.status().error?.code === 'SOURCE_SETTING');
    t.match(rig.capture?.status().error?.message, /writes no binlog/);
    rmSync(obstacle, { recursive: true });
    await server.restart();
    await rig.reconnect();
    await sameRows(t, rig);
  });
}
