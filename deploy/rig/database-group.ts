/**
 * Three MySQL servers as one group (InnoDB Cluster without its router): one takes writes, the others are read-only and
 * follow; when it is lost, another one takes its place by itself.
 *
 *   const group = await DatabaseGroup.start({ name: 'group' });
 *   await (await group.primary())?.kill();
 *   await group.remove();
 */
import { randomUUID } from 'node:crypto';
import { createConnection } from 'mysql2/promise';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import type { ServerOptions } from './database-options.ts';
import { DatabaseServer } from './database-server.ts';
import { freePort } from './free-port.ts';

export interface DatabaseGroupOptions {
  readonly name: string;
  /** How many members. Default: 3. */
  readonly size?: number;
  readonly options?: ServerOptions;
}

export class DatabaseGroup {
  readonly members: readonly DatabaseServer[];

  private constructor(members: readonly DatabaseServer[]) {
    this.members = members;
  }

  /** Resolves when every member is online. */
  static async start({ name, size = 3, options = {} }: DatabaseGroupOptions): Promise<DatabaseGroup> {
    const ports: number[] = [];
    while (ports.length < size) ports.push(await freePort());
    const seeds = ports.map(port => `127.0.0.1:${port}`);
    const groupName = randomUUID();
    const started = await Promise.allSettled(
      seeds.map((address, at) =>
        DatabaseServer.start({
          flavor: 'mysql',
          name: `${name}-${at + 1}`,
          role: 'head-office',
          options: { ...groupOptions(groupName, address, seeds), ...options },
        }),
      ),
    );
    const members = started.filter(result => result.status === 'fulfilled').map(({ value }) => value);
    const group = new DatabaseGroup(members);
    try {
      const failed = started.find(result => result.status === 'rejected');
      if (failed !== undefined) throw failed.reason;
      for (const [at, member] of members.entries()) await group.join(member, at === 0);
      return group;
    } catch (error) {
      await group.remove();
      throw error;
    }
  }

  /** Lets a member join, again after it was away. @param first whether it begins the group */
  async join(member: DatabaseServer, first = false): Promise<void> {
    await ask(member, async connection => {
      await connection.query(
        `CHANGE REPLICATION SOURCE TO SOURCE_USER = '${member.user}', SOURCE_PASSWORD = '${member.password}'
           FOR CHANNEL 'group_replication_recovery'`,
      );
      await connection.query(`SET GLOBAL group_replication_bootstrap_group = ${first ? 'ON' : 'OFF'}`);
      await connection.query('START GROUP_REPLICATION');
      await connection.query('SET GLOBAL group_replication_bootstrap_group = OFF');
    });
  }

  /** The member that takes writes; undefined while there is none. */
  async primary(): Promise<DatabaseServer | undefined> {
    for (const member of this.members) {
      if (member.pid === undefined) continue;
      const [row] = await ask(member, async connection => {
        const [rows] = await connection.query<RowDataPacket[]>(
          `SELECT 1 FROM performance_schema.replication_group_members
            WHERE MEMBER_ID = @@server_uuid AND MEMBER_ROLE = 'PRIMARY' AND MEMBER_STATE = 'ONLINE'`,
        );
        return rows;
      }).catch(() => []);
      if (row !== undefined) return member;
    }
    return undefined;
  }

  async remove(): Promise<void> {
    await Promise.all(this.members.map(member => member.remove()));
  }
}

/** @param address where the group's own messages go, beside the server's port */
function groupOptions(groupName: string, address: string, seeds: readonly string[]): ServerOptions {
  return {
    'skip-log-bin': false,
    'log-bin': 'binlog',
    'gtid-mode': 'ON',
    'enforce-gtid-consistency': 'ON',
    'performance-schema': 'ON',
    'performance-schema-max-table-instances': 200,
    'performance-schema-digests-size': 200,
    'performance-schema-events-statements-history-long-size': 0,
    'report-host': '127.0.0.1',
    'plugin-load-add': 'group_replication.so',
    'loose-group-replication-group-name': groupName,
    'loose-group-replication-local-address': address,
    'loose-group-replication-group-seeds': seeds.join(','),
    'loose-group-replication-start-on-boot': 'OFF',
    'loose-group-replication-recovery-get-public-key': 'ON',
    'loose-group-replication-ip-allowlist': '127.0.0.1/8',
    // A member that is silent for five seconds is suspected; it is expelled at once.
    'loose-group-replication-member-expel-timeout': 0,
  };
}

async function ask<T>(server: DatabaseServer, work: (connection: Connection) => Promise<T>): Promise<T> {
  const { host, port, user, password } = server;
  const connection = await createConnection({ host, port, user, password, connectTimeout: 5_000 });
  try {
    return await work(connection);
  } finally {
    connection.destroy();
  }
}
