/** What must not go wrong in capture when something happens at a bad moment; each was found by review, not by luck. */
import type { RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import type { Test } from 'tap';
import { DatabaseServer } from '../../deploy/rig/database-server.ts';
import { TributaryError } from '../../shared/errors.ts';
import { createRig } from '../support/world/capture-rig.ts';
import type { CaptureRig } from '../support/world/capture-rig.ts';

const sleep = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms));

void t.test('a table that is made while an epoch begins is not missed', async t => {
  let made = false;
  const rig = await createRig(t, {
    onSource: source => {
      const binlogEnd = source.binlogEnd.bind(source);
      source.binlogEnd = async () => {
        if (!made) {
          made = true;
          await rig.db.query('CREATE TABLE late (id INT PRIMARY KEY)');
          await rig.db.query('INSERT INTO late VALUES (1)');
        }
        return binlogEnd();
      };
    },
  });
  await rig.db.query('CREATE TABLE sale (id INT PRIMARY KEY)');
  rig.start();
  await rig.caughtUp();
  t.same(rig.replica().rows('late'), [{ id: 1 }]);
});

void t.test('a primary key that changes in the middle of a snapshot does not stop it', async t => {
  let reads = 0;
  const rig = await createRig(t, {
    onSource: source => {
      const cells = source.cells.bind(source);
      source.cells = async sql => {
        if (sql.includes('`sale`')) reads += 1;
        if (reads === 2) await rig.db.query('ALTER TABLE sale DROP PRIMARY KEY, ADD PRIMARY KEY (v, id)');
        return cells(sql);
      };
    },
  });
  await rig.db.query('CREATE TABLE sale (id INT NOT NULL PRIMARY KEY, v INT NOT NULL)');
  const values = Array.from({ length: 3000 }, (_, i) => `(${i}, ${3000 - i})`).join(',');
  await rig.db.query(`INSERT INTO sale VALUES ${values}`);
  rig.start();
  await rig.caughtUp();
  t.same(rig.replica().rows('sale'), await rig.sourceRows('sale'));
  t.same(rig.faults, []);
});

/** A rig whose table is changed when the first chunk of it has been read, and before the stream says anything of it. */
async function changedWhileCopied(t: Test, statements: readonly string[]): Promise<CaptureRig> {
  let changed = false;
  const rig = await createRig(t, {
    onSource: source => {
      const cells = source.cells.bind(source);
      source.cells = async sql => {
        const read = await cells(sql);
        if (sql.includes('`sale`') && !changed) {
          changed = true;
          for (const statement of statements) await rig.db.query(statement);
        }
        return read;
      };
    },
  });
  await rig.db.query('CREATE TABLE sale (id INT PRIMARY KEY, v INT)');
  await rig.db.query('INSERT INTO sale VALUES (1, 1), (2, 2)');
  rig.start();
  await rig.caughtUp();
  t.ok(changed);
  return rig;
}

void t.test('a chunk that was read before its table was emptied is void', async t => {
  const rig = await changedWhileCopied(t, ['TRUNCATE TABLE sale', 'INSERT INTO sale VALUES (3, 3)']);
  t.same(rig.replica().rows('sale'), [{ id: 3, v: 3 }]);
});

void t.test('a chunk that was read before its table was defined otherwise is void', async t => {
  const rig = await changedWhileCopied(t, ['ALTER TABLE sale DROP COLUMN v, ADD COLUMN w INT DEFAULT 5']);
  t.same(rig.replica().rows('sale'), [
    { id: 1, w: 5 },
    { id: 2, w: 5 },
  ]);
  const columns = rig.bodies().flatMap(({ tables, changes }) =>
    changes.flatMap(change => {
      const table = change.op === 'upsert' ? tables[change.table] : undefined;
      return table?.name === 'sale' ? [table.columns.map(({ name }) => name).join()] : [];
    }),
  );
  t.same([...new Set(columns)], ['id,w'], 'no row is sent under a definition that is no longer true');
});

void t.test('a disk without room neither ends the process nor loses what was taken', async t => {
  let free = 1e12;
  const rig = await createRig(t, { spool: { freeDiskBytes: () => free, minFreeBytes: 2 ** 20 } });
  await rig.db.query('CREATE TABLE sale (id INT PRIMARY KEY)');
  rig.start();
  await rig.caughtUp();
  free = 0;
  for (let id = 1; id <= 5; id++) {
    await rig.db.query(`INSERT INTO sale VALUES (${id})`);
    await sleep(100);
  }
  await sleep(500);
  t.same(rig.replica().rows('sale'), []);
  await rig.stop();
  t.same(rig.replica().rows('sale'), [], 'nor does a stop move the position past them');
  const restarted = rig.restart();
  await sleep(300);
  free = 1e12;
  await restarted;
  await rig.caughtUp();
  t.equal(rig.replica().rows('sale').length, 5);
});

void t.test('an append that fails voids the connection, not the rows', async t => {
  const rig = await createRig(t);
  await rig.db.query('CREATE TABLE sale (id INT PRIMARY KEY)');
  rig.start();
  await rig.caughtUp();
  const { spool } = rig;
  const append = spool.append.bind(spool);
  let failures = 3;
  spool.append = batch => {
    if (failures-- > 0) throw new TributaryError('SPOOL_FULL', 'the disk is full');
    return append(batch);
  };
  await rig.db.query('INSERT INTO sale VALUES (1)');
  await rig.caughtUp();
  t.same(rig.replica().rows('sale'), [{ id: 1 }]);
  t.ok(rig.faults.includes('SPOOL_FULL'));
});

void t.test('a superseded branch captures no more, and begins no life by itself', async t => {
  const rig = await createRig(t);
  await rig.db.query('CREATE TABLE sale (id INT PRIMARY KEY)');
  const capture = rig.start();
  await rig.caughtUp();
  const { epoch } = rig.spool.stream();
  rig.spool.supersede();
  capture.beginNewEpoch('a test');
  await rig.until('it has stopped', () => capture.status().error?.code === 'EPOCH_SUPERSEDED');
  await rig.restart();
  await rig.until('it has stopped', () => rig.capture?.status().error?.code === 'EPOCH_SUPERSEDED');
  t.equal(rig.spool.stream().epoch, epoch);
  t.ok(rig.spool.stream().superseded);
});

void t.test('an epoch that the head office has made necessary is remembered, and one of the source is not', async t => {
  const rig = await createRig(t);
  await rig.db.query('CREATE TABLE sale (id INT PRIMARY KEY)');
  let capture = rig.start();
  await rig.caughtUp();
  t.same(rig.spool.snapshot()?.askedEpochs, []);
  for (let n = 1; n <= 2; n += 1) {
    capture.beginNewEpoch('a test');
    await rig.until('it has begun', () => rig.spool.snapshot()?.askedEpochs.length === n);
  }
  await rig.caughtUp();
  await rig.restart();
  t.equal(rig.spool.snapshot()?.askedEpochs.length, 2, 'after a restart, and a snapshot that has ended');
  capture = rig.capture ?? capture;
  await rig.caughtUp();
});

void t.test('two tables under one name are refused', async t => {
  const rig = await createRig(t, { rules: schema => ({ map: { [`${schema}.a`]: 'b' } }) });
  await rig.db.query('CREATE TABLE a (id INT PRIMARY KEY)');
  await rig.db.query('CREATE TABLE b (id INT PRIMARY KEY)');
  const capture = rig.start();
  await rig.until('it says so', () => capture.status().error?.code === 'SOURCE_TABLE');
  t.match(capture.status().error?.message, /would have this name/);
  await rig.db.query('DROP TABLE b');
  await rig.caughtUp();
  await rig.db.query('CREATE TABLE b (id INT PRIMARY KEY)');
  await rig.db.query('INSERT INTO a VALUES (1)');
  await rig.db.query('INSERT INTO b VALUES (1)');
  await rig.until('it says so of a later one', () => capture.status().error?.code === 'SOURCE_TABLE');
});

void t.test('"captured through" claims no more than is so', async t => {
  const rig = await createRig(t);
  const { db } = rig;
  await db.query('CREATE TABLE sale (id INT PRIMARY KEY)');
  await db.query('INSERT INTO sale VALUES (1)');
  const capture = rig.start();
  await rig.caughtUp();
  const through = (): number => Date.parse(capture.status().capturedThrough ?? '');
  const later = Date.now();
  await rig.until('an idle server moves it', () => through() > later);
  t.ok(through() <= Date.now());

  await t.test('a statement that changes rows without row events holds it until they are copied', async t => {
    // The snapshot cannot go on while the table is locked.
    await db.query('LOCK TABLES sale WRITE');
    await db.query('ALTER TABLE sale ADD v INT NOT NULL DEFAULT 7');
    const after = Date.now();
    await sleep(3_000);
    t.ok(through() <= after, 'held');
    await db.query('UNLOCK TABLES');
    await rig.until('it goes on', () => through() > after + 3_000);
    t.same(rig.replica().rows('sale'), [{ id: 1, v: 7 }]);
  });
});

void t.test('lower_case_table_names=1: statements mean the tables of the rows, however they are spelled', async t => {
  const server = await DatabaseServer.start({
    flavor: 'mariadb',
    name: 'folding',
    role: 'branch',
    options: { 'lower-case-table-names': 1 },
  });
  t.teardown(() => server.remove());
  const rig = await createRig(t, { source: server });
  const { db, schema } = rig;
  await db.query('CREATE TABLE Sale (id INT PRIMARY KEY)');
  await db.query('INSERT INTO Sale VALUES (1), (2)');
  rig.start();
  await rig.caughtUp();
  t.equal(rig.replica().rows('sale').length, 2);
  await db.query('TRUNCATE TABLE SALE');
  await db.query('INSERT INTO sale VALUES (3)');
  await rig.caughtUp();
  t.same(rig.replica().rows('sale'), [{ id: 3 }]);
  await db.query(`ALTER TABLE ${schema.toUpperCase()}.SALE ADD v INT NOT NULL DEFAULT 1`);
  await rig.caughtUp();
  t.same(rig.replica().rows('sale'), [{ id: 3, v: 1 }]);
  await db.query('DROP TABLE SALE');
  await rig.caughtUp();
  t.same(rig.replica().rows('sale'), []);
});

void t.test('another history at the place of the last group is a new epoch', async t => {
  const server = await DatabaseServer.start({
    flavor: 'mysql',
    name: 'reset',
    role: 'branch',
    options: { 'gtid-mode': 'OFF', 'enforce-gtid-consistency': 'OFF' },
  });
  t.teardown(() => server.remove());
  const rig = await createRig(t, { source: server });
  const { db } = rig;
  await db.query('CREATE TABLE sale (id INT PRIMARY KEY, v TEXT)');
  rig.start();
  await rig.caughtUp();
  await rig.stop();

  await t.test('where the place is in the middle of an event', async t => {
    const epochs = rig.epochs.length;
    await db.query('RESET BINARY LOGS AND GTIDS');
    await db.query("INSERT INTO sale VALUES (1, repeat('x', 60000))");
    await rig.restart();
    await rig.caughtUp();
    t.equal(rig.epochs.length, epochs + 1);
    t.equal(rig.replica().rows('sale').length, 1);
  });

  await t.test('where it is an event in the middle of a transaction', async t => {
    if (!rig.running) await rig.restart();
    await rig.caughtUp();
    // From the stream: after a snapshot alone no group was taken.
    await db.query("REPLACE INTO sale VALUES (1, repeat('y', 60000))");
    await rig.caughtUp();
    const epochs = rig.epochs.length;
    await rig.stop();
    const position = rig.spool.position();
    if (position?.lastGroup === null || position === null) throw new Error('no group was taken');
    const { file, startOffset } = position.lastGroup;
    const [events] = await db.query<RowDataPacket[]>(`SHOW BINLOG EVENTS IN '${file}' FROM ${startOffset}`);
    const inner = events.find(event => event['Event_type'] === 'Table_map');
    rig.spool.savePosition({ ...position, lastGroup: { ...position.lastGroup, startOffset: Number(inner?.['Pos']) } });
    rig.start();
    await rig.caughtUp();
    t.equal(rig.epochs.length, epochs + 1);
  });
});

void t.test('a server that keeps databases out of its binlog is refused', async t => {
  const options = { 'binlog-ignore-db': 'hidden' };
  const server = await DatabaseServer.start({ flavor: 'mysql', name: 'filter', role: 'branch', options });
  t.teardown(() => server.remove());
  const rig = await createRig(t, { source: server });
  await rig.db.query('CREATE TABLE sale (id INT PRIMARY KEY)');
  const capture = rig.start();
  await rig.until('it says so', () => capture.status().error?.code === 'SOURCE_SETTING');
  t.match(capture.status().error?.message, /binlog_ignore_db=hidden/);
});
