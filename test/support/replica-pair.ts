/** Two servers of a branch, the second of which takes over from the first: asynchronously, known by GTIDs. */
import mysql from 'mysql2/promise';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { DatabaseServer } from '../../deploy/local/database-server.ts';
import type { Flavor } from '../../deploy/local/database-options.ts';

const DEADLINE_MS = 60_000;

export class ReplicaPair {
  readonly flavor: Flavor;
  readonly primary: DatabaseServer;
  readonly replica: DatabaseServer;

  private constructor(flavor: Flavor, primary: DatabaseServer, replica: DatabaseServer) {
    this.flavor = flavor;
    this.primary = primary;
    this.replica = replica;
  }

  static async start(flavor: Flavor): Promise<ReplicaPair> {
    const options = flavor === 'mariadb' ? { 'log-slave-updates': 'ON' } : {};
    const start = (name: string) => DatabaseServer.start({ flavor, name, role: 'branch', options });
    const [primary, replica] = await Promise.all([start('primary'), start('replica')]);
    const pair = new ReplicaPair(flavor, primary, replica);
    const { host, port, user, password } = primary;
    const db = await connectTo(replica);
    // What the replica opens first has other table ids than at the primary.
    for (const name of ['a', 'b', 'c']) await local(db, `CREATE TABLE mysql.other_${name} (id INT PRIMARY KEY)`);
    if (flavor === 'mysql') {
      await db.query(
        `CHANGE REPLICATION SOURCE TO SOURCE_HOST='${host}', SOURCE_PORT=${port}, SOURCE_USER='${user}',
           SOURCE_PASSWORD='${password}', SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1`,
      );
    } else {
      await db.query(
        `CHANGE MASTER TO MASTER_HOST='${host}', MASTER_PORT=${port}, MASTER_USER='${user}', MASTER_PASSWORD='${password}',
           MASTER_USE_GTID=slave_pos`,
      );
    }
    await db.query(flavor === 'mysql' ? 'START REPLICA' : 'START SLAVE');
    db.destroy();
    return pair;
  }

  /** The replica has executed all that the primary has. */
  async inStep(): Promise<void> {
    const [from, to] = await Promise.all([connectTo(this.primary), connectTo(this.replica)]);
    const executed = this.flavor === 'mysql' ? '@@GLOBAL.gtid_executed' : '@@GLOBAL.gtid_binlog_pos';
    const of = async (db: Connection): Promise<string> => {
      const [rows] = await db.query<RowDataPacket[]>(`SELECT ${executed} AS gtids`);
      return String(rows[0]?.['gtids']);
    };
    try {
      const wanted = await of(from);
      for (const until = Date.now() + DEADLINE_MS; (await of(to)) !== wanted;) {
        if (Date.now() > until) throw new Error(`the replica has ${await of(to)}, the primary ${wanted}`);
        await new Promise(resolve => setTimeout(resolve, 20));
      }
    } finally {
      from.destroy();
      to.destroy();
    }
  }

  /** The replica takes over nothing more. */
  async stopReplica(): Promise<void> {
    const db = await connectTo(this.replica);
    await db.query(this.flavor === 'mysql' ? 'STOP REPLICA' : 'STOP SLAVE');
    db.destroy();
  }

  /** The replica is the branch's server from now on. */
  async promote(): Promise<void> {
    const db = await connectTo(this.replica);
    await db.query(this.flavor === 'mysql' ? 'STOP REPLICA' : 'STOP SLAVE');
    await db.query(this.flavor === 'mysql' ? 'RESET REPLICA ALL' : 'RESET SLAVE ALL');
    db.destroy();
  }

  async remove(): Promise<void> {
    await Promise.all([this.primary.remove(), this.replica.remove()]);
  }
}

export async function connectTo({ host, port, user, password }: DatabaseServer): Promise<Connection> {
  const db = await mysql.createConnection({ host, port, user, password, timezone: 'Z', dateStrings: true });
  db.on('error', () => undefined);
  return db;
}

/** At this server alone. */
async function local(db: Connection, statement: string): Promise<void> {
  await db.query('SET SESSION sql_log_bin = 0');
  await db.query(statement);
  await db.query('SET SESSION sql_log_bin = 1');
}
