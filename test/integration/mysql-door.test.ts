import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import { sharedServers } from '../../deploy/rig/shared-servers.ts';
import type { MysqlSettings } from '../../shared/config/link-settings.ts';
import { closeQuietly, connectMysql, mysqlErrno, mysqlError } from '../../shared/database/mysql.ts';
import { Secret } from '../../shared/config/secret.ts';
import type { TlsSettings } from '../../shared/config/tls.ts';

const server = sharedServers().headOffice;
const PLAIN: TlsSettings = { mode: 'off', ca: null, cert: null, key: null, verifyName: true };
const settings: MysqlSettings = {
  host: server.host,
  port: server.port,
  user: server.user,
  password: Secret.of(server.password),
  tls: PLAIN,
};
const purpose = { side: 'target', name: 'mysql-door test' } as const;

void t.test('values come exactly as the server prints them, in the session that was asked for', async t => {
  const connection = await connectMysql(settings, { ...purpose, session: [`SET time_zone = '+00:00'`] });
  const [rows] = await connection.query<RowDataPacket[]>(
    `SELECT 18446744073709551615 AS big, CAST('2026-11-22 10:00:00.123456' AS DATETIME(6)) AS moment,
            @@session.time_zone AS zone, 'é🌊' AS text`,
  );
  t.match(rows[0], { big: '18446744073709551615', moment: '2026-11-22 10:00:00.123456', zone: '+00:00', text: 'é🌊' });
  await closeQuietly(connection);
});

void t.test('a statement that stalls destroys its connection within the deadline', async t => {
  const connection = await connectMysql(settings, { ...purpose, stallMs: 300 });
  await t.rejects(connection.query('SELECT SLEEP(20)'), {
    code: 'TARGET_UNREACHABLE',
    message: /no answer for 300 ms/,
  });
  await t.rejects(connection.query('SELECT 1'), 'and the connection is of no use any more');
  await closeQuietly(connection);
});

void t.test('a statement that the server works on is waited for, however long it takes', async t => {
  const connection = await connectMysql(settings, { ...purpose, stallMs: 5_000 });
  t.teardown(() => connection.destroy());
  await t.resolves(connection.query('SELECT SLEEP(7)'));
});

void t.test('a connection that is destroyed or closed does not wait for what the server is at', async t => {
  const destroy = (one: Connection): Promise<void> => {
    one.destroy();
    return Promise.resolve();
  };
  for (const end of [destroy, closeQuietly]) {
    const connection = await connectMysql(settings, purpose);
    const outstanding = [connection.query('SELECT SLEEP(20)'), connection.query('SELECT 1')];
    const all = Promise.allSettled(outstanding);
    await end(connection);
    const [first, second] = await all;
    t.match(first, { status: 'rejected', reason: { code: 'TARGET_UNREACHABLE' } });
    t.equal(second?.status, 'rejected');
    await t.rejects(connection.query('SELECT 1'));
    await closeQuietly(connection);
  }
});

void t.test('an idle connection is left alone, and so is a statement that finishes in time', async t => {
  const idle = async (before: (connection: Connection) => Promise<unknown>): Promise<void> => {
    const connection = await connectMysql(settings, { ...purpose, stallMs: 2_000 });
    await before(connection);
    await new Promise(resolve => setTimeout(resolve, 2_500));
    await t.resolves(connection.query('SELECT SLEEP(0.05)'));
    await closeQuietly(connection);
  };
  await Promise.all([
    idle(() => Promise.resolve()),
    idle(connection => t.resolves(connection.query('SELECT 1'))),
    idle(connection => t.rejects(connection.query('SELECT nonsense'), 'a fault counts as an answer')),
  ]);
});

void t.test('a wrong password, a missing database and a closed port each have their code', async t => {
  const wrong = { ...settings, password: Secret.of('wrong') };
  await t.rejects(connectMysql(wrong, purpose), { code: 'TARGET_ACCESS_DENIED', message: /as root|as / });
  await t.rejects(connectMysql({ ...settings, database: 'nowhere' }, purpose), {
    code: 'TARGET_SETTING',
    hint: /Create/,
  });
  await t.rejects(connectMysql({ ...settings, port: 1 }, { ...purpose, side: 'source' }), {
    code: 'SOURCE_UNREACHABLE',
  });
});

void t.test('a server that accepts and says nothing is given up', async t => {
  const mute = createServer(() => undefined);
  await new Promise<void>(resolve => mute.listen(0, '127.0.0.1', resolve));
  t.teardown(() => mute.close());
  const { port } = mute.address() as AddressInfo;
  await t.rejects(connectMysql({ ...settings, port }, { ...purpose, connectTimeoutMs: 300 }), {
    code: 'TARGET_UNREACHABLE',
  });
});

void t.test('TLS refuses a certificate that no authority vouches for, and the hint says what to do', async t => {
  const verified: MysqlSettings = { ...settings, host: 'localhost', tls: { ...PLAIN, mode: 'verify' } };
  await t.rejects(connectMysql(verified, purpose), { code: 'TARGET_UNREACHABLE', hint: /target\.tls\.ca/ });
});

void t.test('a statement’s own fault keeps its number', async t => {
  const connection = await connectMysql(settings, purpose);
  const error: unknown = await connection.query('SELECT * FROM nowhere.nothing').catch((caught: unknown) => caught);
  t.ok([1049, 1146].includes(mysqlErrno(error) ?? 0), String(mysqlErrno(error)));
  t.match(mysqlError(error, 'target', 'cannot read').message, /^cannot read: /);
  await closeQuietly(connection);
  await closeQuietly(connection);
  t.pass('closing twice is no fault');
});
