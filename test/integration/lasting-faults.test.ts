/** A fault that comes back at each attempt is shown as what it is, all the time, since when it comes, and until it is mended. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import { DatabaseServer } from '../../deploy/rig/database-server.ts';
import { TributaryError } from '../../shared/errors.ts';
import { runningClock } from '../support/world/clock.ts';
import { createRig } from '../support/world/capture-rig.ts';

void t.test(
  'an event that is damaged in the binlog is told without a pause, until the binlog is whole again',
  async t => {
    const server = await DatabaseServer.start({ flavor: 'mysql', name: 'damaged', role: 'branch' });
    t.teardown(() => server.remove());
    const rig = await createRig(t, { source: server });
    const { db } = rig;
    await db.query('CREATE TABLE sale (id INT PRIMARY KEY, v VARCHAR(100))');
    rig.start();
    await rig.caughtUp();
    await db.query("INSERT INTO sale VALUES (1, 'before')");
    await rig.caughtUp();
    await rig.stop();
    await db.query("INSERT INTO sale VALUES (2, 'sound')");
    await db.query("INSERT INTO sale VALUES (3, 'abcdefghijklmnop')");
    const [[end]] = await db.query<RowDataPacket[]>('SHOW BINARY LOG STATUS');
    const file = join(server.directory, 'data', String(end?.['File']));
    const sound = readFileSync(file);
    const damaged = Buffer.from(sound);
    damaged.write('X', damaged.lastIndexOf('abcdefghijklmnop'));
    writeFileSync(file, damaged);

    const capture = rig.start();
    await rig.until('it says so', () => capture.status().error?.code === 'EVENT_MALFORMED');
    const { errorSince } = capture.status();
    const shown = new Set<string>();
    await rig.until('some more attempts', () => {
      const status = capture.status();
      shown.add(`${status.error?.code} since ${status.errorSince}`);
      return rig.faults.filter(code => code === 'EVENT_MALFORMED').length > 4;
    });
    t.same([...shown], [`EVENT_MALFORMED since ${errorSince}`], 'all the time, since the first');
    writeFileSync(file, sound);
    await rig.until('it is passed', () => capture.status().error === null);
    await rig.caughtUp();
    t.same(rig.replica().rows('sale'), await rig.sourceRows('sale'));
  },
);

void t.test('a copy that gets nowhere is told after some minutes, while the stream goes on', async t => {
  const clock = runningClock();
  let broken = true;
  const rig = await createRig(t, {
    now: clock.now,
    onSource: source => {
      const cells = source.cells.bind(source);
      source.cells = async sql => {
        if (broken && sql.includes('`sale`')) throw new TributaryError('SOURCE_UNREACHABLE', 'a chunk cannot be read');
        return cells(sql);
      };
    },
  });
  await rig.db.query('CREATE TABLE sale (id INT PRIMARY KEY)');
  await rig.db.query('INSERT INTO sale VALUES (1)');
  const capture = rig.start();
  await rig.until('it is tried', () => rig.log.some(line => line.includes('read again')));
  t.equal(capture.status().error, null, 'a fault that passes is none');
  clock.advance(4 * 60_000);
  await rig.until('it is told', () => capture.status().error?.message === 'a chunk cannot be read');
  t.equal(capture.status().state, 'streaming');
  broken = false;
  await rig.until('it has passed', () => capture.status().error === null);
  await rig.caughtUp();
  t.same(rig.replica().rows('sale'), [{ id: 1 }]);
});
