/** The contract with zongji and the servers behind it: what the door promises, on real servers. */
import { createServer, connect as connectSocket } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import type { RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import { openBinlogStream } from '../../agent/binlog/binlog-stream.ts';
import type { BinlogStreamOptions } from '../../agent/binlog/binlog-stream.ts';
import { EVENT, readHeartbeat, readRotate } from '../../agent/binlog/events.ts';
import type { RawEvent } from '../../agent/binlog/events.ts';
import { sharedServers } from '../../deploy/rig/shared-servers.ts';
import type { DatabaseAddress } from '../../deploy/rig/shared-servers.ts';
import { binlogEnd, connect, readGroups } from '../support/hand-made/binlog-recorder.ts';
import { until } from '../support/until.ts';

let serverId = 3_900_000_000 - (process.pid % 100_000) * 20;

function options(
  address: Pick<DatabaseAddress, 'host' | 'port' | 'user' | 'password'>,
  more: Pick<BinlogStreamOptions, 'start' | 'onEvent'> & Partial<BinlogStreamOptions>,
): BinlogStreamOptions {
  const { host, port, user, password } = address;
  serverId += 1;
  return { connection: { host, port, user, password }, serverId, heartbeatMs: 300, silenceMs: 5000, ...more };
}

/** Resolves when `test` has been true of an event. */
function waiter(test: (event: RawEvent) => boolean) {
  const seen = Promise.withResolvers<undefined>();
  return {
    seen: seen.promise,
    onEvent: (event: RawEvent) => {
      if (test(event)) seen.resolve(undefined);
    },
  };
}

const isHeartbeat = (event: RawEvent) => event.type === EVENT.heartbeat || event.type === EVENT.heartbeatV2;

for (const flavor of ['mysql', 'mariadb'] as const) {
  const server = () => (flavor === 'mysql' ? sharedServers().branchMysql : sharedServers().branchMariadb);
  const schema = `door_${flavor}_${process.pid}`;
  const user = `door_own_${process.pid}`;

  void t.test(`${flavor}: packets arrive raw, in order, with the server's own positions and checksums`, async t => {
    const connection = await connect(server());
    t.teardown(async () => {
      await connection.query(`DROP DATABASE IF EXISTS ${schema}`);
      await connection.query(`DROP USER IF EXISTS '${user}'@'%'`);
      await connection.end();
    });
    await connection.query(`CREATE USER '${user}'@'%' IDENTIFIED BY 'pw-${user}'`);
    await connection.query(`GRANT REPLICATION SLAVE ON *.* TO '${user}'@'%'`);
    await connection.query(`CREATE DATABASE ${schema}`);
    await connection.query(`CREATE TABLE ${schema}.t (id INT PRIMARY KEY, v VARCHAR(20))`);
    const start = await binlogEnd(connection, flavor === 'mariadb');
    await connection.query(`INSERT INTO ${schema}.t VALUES (1, 'a'), (2, 'b')`);
    const end = await binlogEnd(connection, flavor === 'mariadb');
    const events: RawEvent[] = [];
    const wait = waiter(isHeartbeat);
    const stream = await openBinlogStream(
      options(
        { ...server(), user, password: `pw-${user}` },
        {
          start,
          onEvent: event => {
            events.push({ ...event, body: Buffer.from(event.body) });
            wait.onEvent(event);
          },
        },
      ),
    );
    t.equal(stream.mariadb, flavor === 'mariadb');
    await wait.seen;
    await stream.close();
    t.equal((await stream.ended).code, 'STREAM_ENDED');
    const [rotate, format] = events;
    t.equal(rotate?.type, EVENT.rotate);
    t.same(readRotate(rotate?.body ?? Buffer.alloc(0)), { file: start.file, offset: start.offset });
    t.equal(format?.type, EVENT.formatDescription);
    t.ok(events.some(({ type }) => type === EVENT.writeRows || type === EVENT.writeRowsV1));
    const commit = events.find(({ type }) => type === EVENT.xid);
    t.equal(commit?.nextPosition, end.offset);
    const heartbeat = events.find(isHeartbeat);
    t.ok(heartbeat);
    if (heartbeat) {
      const place = readHeartbeat(heartbeat, flavor === 'mariadb');
      t.same(place, { file: end.file, offset: end.offset });
    }
    // KILL is asked for by then; the server takes a moment to carry it out.
    await until('neither connection to be left at the server', async () => {
      const [threads] = await connection.query<RowDataPacket[]>('SHOW PROCESSLIST');
      return !threads.some(({ User }) => User === user);
    });
  });

  void t.test(`${flavor}: a group read again has the same fingerprint, from a GTID start too`, async t => {
    const connection = await connect(server());
    const other = `${schema}_again`;
    t.teardown(async () => {
      await connection.query(`DROP DATABASE IF EXISTS ${other}`);
      await connection.end();
    });
    await connection.query(`CREATE DATABASE ${other}`);
    await connection.query(`CREATE TABLE ${other}.t (id INT PRIMARY KEY, v VARCHAR(20))`);
    const start = await binlogEnd(connection, flavor === 'mariadb');
    const [rows] = await connection.query<RowDataPacket[]>(
      flavor === 'mysql' ? 'SELECT @@global.gtid_executed AS g' : 'SELECT @@global.gtid_binlog_pos AS g',
    );
    const gtidSet = String(rows[0]?.['g']).replace(/\s/g, '');
    await connection.query(`INSERT INTO ${other}.t VALUES (1, 'a')`);
    await connection.query('BEGIN');
    await connection.query(`UPDATE ${other}.t SET v = 'b'`);
    await connection.query(`INSERT INTO ${other}.t VALUES (2, 'c')`);
    await connection.query('COMMIT');
    const first = await readGroups(server(), other, start, 2);
    const again = await readGroups(server(), other, { kind: 'gtid', gtidSet }, 2);
    t.same(
      again.map(({ start, end }) => [start, end]),
      first.map(({ start, end }) => [start, end]),
    );
    t.same(
      first.map(({ changes }) => changes.map(({ op }) => op)),
      [['insert'], ['update', 'insert']],
    );
  });

  void t.test(`${flavor}: a killed dump thread ends the stream`, async t => {
    const connection = await connect(server());
    t.teardown(() => connection.end());
    const wait = waiter(() => true);
    const stream = await openBinlogStream(
      options(server(), { start: await binlogEnd(connection, flavor === 'mariadb'), onEvent: wait.onEvent }),
    );
    await wait.seen;
    const [threads] = await connection.query<RowDataPacket[]>('SHOW PROCESSLIST');
    // The newest dump thread is this test's own.
    const dump = threads
      .filter(({ Command }) => /Binlog Dump/.test(String(Command)))
      .map(({ Id }) => Number(Id))
      .sort((a, b) => b - a)[0];
    await connection.query(`KILL ${String(dump)}`);
    t.equal((await stream.ended).code, 'STREAM_ENDED');
    await stream.close();
  });

  void t.test(`${flavor}: a place that the binlog does not hold is a lost position`, async t => {
    const stream = await openBinlogStream(
      options(server(), { start: { kind: 'file', file: 'binlog.999999', offset: 4 }, onEvent: () => undefined }),
    );
    t.equal((await stream.ended).code, 'SOURCE_POSITION_LOST');
    await stream.close();
  });
}

void t.test('a listener that throws ends the stream with its own error, and no event follows', async t => {
  let calls = 0;
  const fault = new Error('listener');
  const stream = await openBinlogStream(
    options(sharedServers().branchMysql, {
      start: { kind: 'gtid', gtidSet: '' },
      onEvent: () => {
        calls += 1;
        throw fault;
      },
    }),
  );
  const error = await stream.ended;
  t.equal(error.code, 'INTERNAL');
  t.equal(error.cause, fault);
  await stream.close();
  t.equal(calls, 1);
});

void t.test('a paused stream delivers nothing, and everything in order when it goes on', async t => {
  const server = sharedServers().branchMysql;
  const connection = await connect(server);
  const schema = `door_pause_${process.pid}`;
  t.teardown(async () => {
    await connection.query(`DROP DATABASE IF EXISTS ${schema}`);
    await connection.end();
  });
  await connection.query(`CREATE DATABASE ${schema}`);
  await connection.query(`CREATE TABLE ${schema}.t (id INT PRIMARY KEY, v LONGTEXT)`);
  const start = await binlogEnd(connection, false);
  for (let id = 0; id < 20; id++) {
    await connection.query(`INSERT INTO ${schema}.t VALUES (${id}, REPEAT('x', 40000))`);
  }
  const end = await binlogEnd(connection, false);
  const positions: number[] = [];
  const done = Promise.withResolvers<undefined>();
  const paused = Promise.withResolvers<undefined>();
  const stream = await openBinlogStream(
    options(server, {
      start,
      onEvent: event => {
        if (event.nextPosition === 0 || isHeartbeat(event)) return;
        positions.push(event.nextPosition);
        if (positions.length === 3) {
          stream.pause();
          paused.resolve(undefined);
        }
        if (event.nextPosition === end.offset) done.resolve(undefined);
      },
    }),
  );
  await paused.promise;
  await new Promise(resolve => setTimeout(resolve, 300));
  t.equal(positions.length, 3);
  stream.resume();
  await done.promise;
  t.same(
    positions,
    [...positions].sort((a, b) => a - b),
  );
  await stream.close();
});

void t.test('silence is noticed: a link that swallows everything ends the stream', async t => {
  const server = sharedServers().branchMysql;
  const sockets: Socket[] = [];
  let open = true;
  const proxy = createServer(client => {
    const upstream = connectSocket(server.port, server.host);
    sockets.push(client, upstream);
    for (const socket of [client, upstream]) socket.on('error', () => undefined);
    client.on('data', data => open && upstream.write(data));
    upstream.on('data', data => open && client.write(data));
  });
  await new Promise<void>(resolve => proxy.listen(0, '127.0.0.1', resolve));
  const { port } = proxy.address() as AddressInfo;
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    proxy.close();
  });
  const connection = await connect(server);
  const start = await binlogEnd(connection, false);
  await connection.end();
  const wait = waiter(isHeartbeat);
  const stream = await openBinlogStream(
    options({ ...server, host: '127.0.0.1', port }, { start, silenceMs: 1000, onEvent: wait.onEvent }),
  );
  await wait.seen;
  open = false;
  t.match(await stream.ended, { code: 'STREAM_ENDED', message: /was silent for \d+ ms/ });
  await stream.close();
});

void t.test('a wrong password, a missing right and a closed port are told apart', async t => {
  const server = sharedServers().branchMysql;
  const start = { kind: 'gtid', gtidSet: '' } as const;
  const ignore = { start, onEvent: () => undefined };
  await t.rejects(openBinlogStream(options({ ...server, password: 'wrong' }, ignore)), {
    code: 'SOURCE_ACCESS_DENIED',
  });
  await t.rejects(openBinlogStream(options({ ...server, port: 1 }, ignore)), { code: 'SOURCE_UNREACHABLE' });
  const connection = await connect(server);
  const user = `door_${process.pid}`;
  t.teardown(async () => {
    await connection.query(`DROP USER IF EXISTS '${user}'@'%'`);
    await connection.end();
  });
  await connection.query(`CREATE USER '${user}'@'%' IDENTIFIED BY 'pw-${user}'`);
  const stream = await openBinlogStream(options({ ...server, user, password: `pw-${user}` }, ignore));
  t.equal((await stream.ended).code, 'SOURCE_ACCESS_DENIED');
  await stream.close();
  await t.rejects(
    openBinlogStream(
      options(server, { start: { kind: 'file', file: 'b.1', offset: 2 ** 32 }, onEvent: () => undefined }),
    ),
    { code: 'SOURCE_POSITION_LOST' },
  );
});

void t.test(
  'MySQL: compressed transactions, tagged GTIDs, XA in one phase and CREATE … SELECT arrive as groups',
  async t => {
    const server = sharedServers().branchMysql;
    const connection = await connect(server);
    const schema = `door_kinds_${process.pid}`;
    t.teardown(async () => {
      await connection.query(`DROP DATABASE IF EXISTS ${schema}`);
      await connection.end();
    });
    await connection.query(`CREATE DATABASE ${schema}`);
    await connection.query(`USE ${schema}`);
    await connection.query('CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(2000))');
    const start = await binlogEnd(connection, false);
    await connection.query('SET SESSION binlog_transaction_compression = ON');
    await connection.query('BEGIN');
    for (let id = 0; id < 300; id++) await connection.query(`INSERT INTO t VALUES (${id}, REPEAT('${id} ', 100))`);
    await connection.query('COMMIT');
    await connection.query('SET SESSION binlog_transaction_compression = OFF');
    await connection.query("SET SESSION gtid_next = 'AUTOMATIC:tag_a'");
    await connection.query("INSERT INTO t VALUES (1000, 'tagged')");
    await connection.query("SET SESSION gtid_next = 'AUTOMATIC'");
    await connection.query("XA START 'x'");
    await connection.query("INSERT INTO t VALUES (1001, 'xa')");
    await connection.query("XA END 'x'");
    await connection.query("XA COMMIT 'x' ONE PHASE");
    await connection.query('CREATE TABLE u (PRIMARY KEY (id)) SELECT * FROM t WHERE id >= 1000');
    const groups = await readGroups(server, schema, start, 4);
    const rows = groups[0]?.changes.flatMap(({ after }) => after) ?? [];
    t.equal(rows.length, 300);
    t.equal(rows[299]?.[1], '299 '.repeat(100));
    t.match(groups[1]?.end.gtid, /^[0-9a-f-]{36}:tag_a:\d+$/);
    t.match(groups[1]?.start.committedAt, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
    t.same(
      groups[2]?.changes.map(({ op }) => op),
      ['insert'],
    );
    t.same(
      groups[3]?.changes.map(({ op }) => op),
      ['ddl', 'insert'],
    );
    for (let i = 1; i < groups.length; i++) {
      t.ok((groups[i]?.start.startOffset ?? 0) >= (groups[i - 1]?.end.endOffset ?? Infinity));
    }
  },
);

void t.test('MariaDB: compressed events arrive as rows', async t => {
  const server = sharedServers().branchMariadb;
  const connection = await connect(server);
  const schema = `door_packed_${process.pid}`;
  t.teardown(async () => {
    await connection.query('SET GLOBAL log_bin_compress = OFF');
    await connection.query(`DROP DATABASE IF EXISTS ${schema}`);
    await connection.end();
  });
  await connection.query(`CREATE DATABASE ${schema}`);
  await connection.query(`CREATE TABLE ${schema}.t (id INT PRIMARY KEY, v VARCHAR(2000))`);
  const start = await binlogEnd(connection, true);
  await connection.query('SET GLOBAL log_bin_compress = ON');
  await connection.query(`INSERT INTO ${schema}.t VALUES (1, REPEAT('x', 1500)), (2, 'y')`);
  await connection.query(`UPDATE ${schema}.t SET v = REPEAT('z', 1500) WHERE id = 1`);
  const types = new Set<number>();
  const groups = await readGroups(server, schema, start, 2, event => types.add(event.type));
  t.ok(types.has(EVENT.writeRowsCompressedV1) || types.has(EVENT.writeRowsCompressed));
  t.same(groups[0]?.changes[0]?.after, [
    [1, 'x'.repeat(1500)],
    [2, 'y'],
  ]);
  t.same(groups[1]?.changes[0]?.after, [[1, 'z'.repeat(1500)]]);
});
