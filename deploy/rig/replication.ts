/**
 * A pair of branch servers: a replica follows its primary asynchronously by GTID. The functions do what an operator
 * does at a failover. Clients use an address that leads to either server (`FaultProxy.lead`).
 */
import { createConnection } from 'mysql2/promise';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { DatabaseServer } from './database-server.ts';
import type { Flavor, ServerOptions } from './database-options.ts';

interface Words {
  /** Options of a replica: what it replays goes into its own binlog. */
  readonly options: Record<string, string>;
  /** Statements for the copy of a primary before it follows it. */
  readonly prepare: readonly string[];
  /** Statements for a former primary before it follows another. */
  readonly demote: readonly string[];
  readonly follow: (primary: DatabaseServer) => string;
  readonly start: string;
  readonly stop: string;
  readonly stopReceiving: string;
  readonly forget: string;
  /** One row with `gtids`: all that the server has committed. */
  readonly committed: string;
  /** One row with `outcome`, 0 when the server has committed all of them. */
  readonly wait: string;
}

const WORDS: Readonly<Record<Flavor, Words>> = {
  mysql: {
    options: {},
    prepare: [],
    demote: [],
    follow: ({ host, port, user, password }) =>
      `CHANGE REPLICATION SOURCE TO SOURCE_HOST = '${host}', SOURCE_PORT = ${port}, SOURCE_USER = '${user}',
         SOURCE_PASSWORD = '${password}', SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1, SOURCE_CONNECT_RETRY = 1`,
    start: 'START REPLICA',
    stop: 'STOP REPLICA',
    stopReceiving: 'STOP REPLICA IO_THREAD',
    forget: 'RESET REPLICA ALL',
    committed: 'SELECT @@GLOBAL.gtid_executed AS gtids',
    wait: 'SELECT WAIT_FOR_EXECUTED_GTID_SET(?, ?) AS outcome',
  },
  mariadb: {
    options: { 'log-slave-updates': 'ON' },
    // The copy has the primary's binlogs. A replica made from a backup has none, and files of the same names would be
    // taken for the primary's own.
    prepare: ['SET @place = @@GLOBAL.gtid_binlog_pos', 'RESET MASTER', 'SET GLOBAL gtid_slave_pos = @place'],
    demote: ['SET GLOBAL gtid_slave_pos = @@GLOBAL.gtid_binlog_pos'],
    follow: ({ host, port, user, password }) =>
      `CHANGE MASTER TO MASTER_HOST = '${host}', MASTER_PORT = ${port}, MASTER_USER = '${user}',
         MASTER_PASSWORD = '${password}', MASTER_USE_GTID = slave_pos, MASTER_CONNECT_RETRY = 1, MASTER_SSL = 0`,
    start: 'START SLAVE',
    stop: 'STOP SLAVE',
    stopReceiving: 'STOP SLAVE IO_THREAD',
    forget: 'RESET SLAVE ALL',
    committed: 'SELECT @@GLOBAL.gtid_current_pos AS gtids',
    wait: 'SELECT MASTER_GTID_WAIT(?, ?) AS outcome',
  },
};

/** Copies a primary, which is down for the time that takes, and lets the copy follow it. Resolves when it does. */
export async function startReplica(
  primary: DatabaseServer,
  name: string,
  options: ServerOptions = {},
): Promise<DatabaseServer> {
  const { flavor } = primary;
  await primary.stop();
  const replica = await DatabaseServer.start({
    flavor,
    name,
    role: 'branch',
    copyOf: primary,
    options: { ...WORDS[flavor].options, ...options },
  }).finally(() => primary.restart());
  await say(replica, [...WORDS[flavor].prepare, WORDS[flavor].follow(primary), WORDS[flavor].start]);
  return replica;
}

/** Lets a former primary follow the present one. It must hold nothing that the present one does not. */
export async function rejoin(former: DatabaseServer, primary: DatabaseServer): Promise<void> {
  const { demote, follow, start } = WORDS[former.flavor];
  await say(former, [...demote, follow(primary), start]);
}

/** The GTIDs of all that the server has committed, as it writes them. */
export function committedBy(server: DatabaseServer): Promise<string> {
  const { committed } = WORDS[server.flavor];
  return withConnection(server, async db => String((await oneRow(db, committed))['gtids']));
}

/** Waits until the replica has committed all that the primary has by now. @throws when it does not in time */
export async function waitUntilReplicated(
  primary: DatabaseServer,
  replica: DatabaseServer,
  withinSeconds = 60,
): Promise<void> {
  const { wait } = WORDS[primary.flavor];
  const gtids = await committedBy(primary);
  const outcome = await withConnection(replica, async db =>
    Number((await oneRow(db, wait, [gtids, withinSeconds]))['outcome']),
  );
  if (outcome !== 0) throw new Error(`${replica.name} lacks some of ${gtids} after ${withinSeconds} s`);
}

/** Stops receiving. From now on, a failover loses what the primary commits. */
export async function stopReceiving(replica: DatabaseServer): Promise<void> {
  await say(replica, [WORDS[replica.flavor].stopReceiving]);
}

/** Ends replication, and discards what was received but not replayed. */
export async function promote(replica: DatabaseServer): Promise<void> {
  const { stop, forget } = WORDS[replica.flavor];
  await say(replica, [stop, forget]);
}

async function say(server: DatabaseServer, statements: readonly string[]): Promise<void> {
  await withConnection(server, async db => {
    for (const statement of statements) await db.query(statement);
  });
}

async function oneRow(db: Connection, statement: string, values: readonly unknown[] = []): Promise<RowDataPacket> {
  const [rows] = await db.query<RowDataPacket[]>(statement, [...values]);
  const [row] = rows;
  if (row === undefined) throw new Error(`no row: ${statement}`);
  return row;
}

async function withConnection<T>(server: DatabaseServer, use: (db: Connection) => Promise<T>): Promise<T> {
  const { host, port, user, password } = server;
  const db = await createConnection({ host, port, user, password, connectTimeout: 10_000 });
  try {
    return await use(db);
  } finally {
    db.destroy();
  }
}
