/**
 * Three MySQL servers as one group (InnoDB Cluster without its router): one takes writes, the others are read-only and
 * follow; when it is lost, another one takes its place by itself.
 *
 *   const group = await DatabaseGroup.start({ name: 'group' });
 *   await (await group.primary())?.kill();
 *   await group.mend();
 *   await group.remove();
 *
 * Programs reach the members as they would three machines: by one port, at an address each (`doors`), over a link that
 * tests may cut. The members reach each other over links of their own (member-links.ts).
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { createConnection } from 'mysql2/promise';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import type { ServerOptions } from './database-options.ts';
import { DatabaseServer } from './database-server.ts';
import { FaultProxy } from './fault-proxy.ts';
import { freePort } from './free-port.ts';
import { MemberLinks } from './member-links.ts';

/** As the guide has them (docs/failover.md), beside what differs from member to member. */
export const GROUP_SETTINGS = {
  log_bin: 'binlog',
  gtid_mode: 'ON',
  enforce_gtid_consistency: 'ON',
  plugin_load_add: 'group_replication.so',
  group_replication_communication_stack: 'MYSQL',
  group_replication_start_on_boot: 'OFF',
  group_replication_recovery_get_public_key: 'ON',
  group_replication_member_expel_timeout: '0',
  group_replication_unreachable_majority_timeout: '5',
  group_replication_exit_state_action: 'READ_ONLY',
  group_replication_transaction_size_limit: '0',
} as const;

export interface DatabaseGroupOptions {
  readonly name: string;
  /** How many members. Default: 3. */
  readonly size?: number;
  readonly options?: ServerOptions;
}

/** A frozen member accepts connections and never answers. */
const ASK_WITHIN_MS = 3_000;
const JOIN_WITHIN_MS = 90_000;
/** A member that was away has to catch up. */
const MEND_WITHIN_MS = 300_000;
const POLL_MS = 200;

interface Standing {
  readonly server: DatabaseServer;
  readonly state: string;
  readonly role: string;
  /** How many members it sees that are not out of its reach. */
  readonly sees: number;
}

export class DatabaseGroup {
  readonly members: readonly DatabaseServer[];
  /** To each member, in the same order: the same port at an address each. */
  readonly doors: readonly FaultProxy[];
  readonly #links: MemberLinks | null;
  #parted: readonly FaultProxy[] = [];

  private constructor(members: readonly DatabaseServer[], doors: readonly FaultProxy[], links: MemberLinks | null) {
    this.members = members;
    this.doors = doors;
    this.#links = links;
    if (links !== null) links.members = members;
  }

  /** Resolves when every member is online; the first takes writes. */
  static async start({ name, size = 3, options = {} }: DatabaseGroupOptions): Promise<DatabaseGroup> {
    const ports: number[] = [];
    while (ports.length < size) ports.push(await freePort());
    const links = await MemberLinks.open(ports);
    const addresses = links?.addresses ?? ports.map(port => `127.0.0.1:${port}`);
    const groupName = randomUUID();
    const started = await Promise.allSettled(
      ports.map((port, at) =>
        DatabaseServer.start({
          flavor: 'mysql',
          name: `${name}-${at + 1}`,
          role: 'head-office',
          port,
          options: { ...memberOptions(groupName, addresses[at] ?? '', addresses), ...options },
        }),
      ),
    );
    const members = started.filter(result => result.status === 'fulfilled').map(({ value }) => value);
    const port = await freePort();
    const doors = await Promise.all(
      members.map((member, at) =>
        FaultProxy.open(member.port, member.host, () => performance.now(), { host: `127.0.1.${at + 1}`, port }),
      ),
    );
    const group = new DatabaseGroup(members, doors, links);
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

  /** Whether members can be parted from one another on this machine. */
  get divisible(): boolean {
    return this.#links !== null;
  }

  /** Lets a member join, again after it was away. @param first whether it begins the group */
  async join(member: DatabaseServer, first = false): Promise<void> {
    await ask(member, JOIN_WITHIN_MS, async connection => {
      // One that tries by itself is not to be in the way.
      await connection.query('STOP GROUP_REPLICATION');
      await connection.query(
        `CHANGE REPLICATION SOURCE TO SOURCE_USER = '${member.user}', SOURCE_PASSWORD = '${member.password}'
           FOR CHANNEL 'group_replication_recovery'`,
      );
      if (first) await connection.query('SET GLOBAL group_replication_bootstrap_group = ON');
      try {
        await connection.query('START GROUP_REPLICATION');
      } finally {
        if (first) await connection.query('SET GLOBAL group_replication_bootstrap_group = OFF');
      }
    });
  }

  /** Starts a member again, which joins by itself while there is a group. */
  restart(member: DatabaseServer): Promise<void> {
    return member.restart({ 'loose-group-replication-start-on-boot': 'ON' });
  }

  /** A member that has lost its disk joins again, empty. */
  async replace(member: DatabaseServer): Promise<void> {
    await member.kill();
    await member.wipe();
    await member.restart({ 'loose-group-replication-start-on-boot': 'OFF' });
    await this.join(member);
  }

  /** The member that takes writes; undefined while there is none. */
  async primary(): Promise<DatabaseServer | undefined> {
    const standings = await this.#standings();
    // One that has lost the others takes writes and never ends them.
    return standings.find(
      ({ role, state, sees }) => role === 'PRIMARY' && state === 'ONLINE' && sees * 2 > this.members.length,
    )?.server;
  }

  /**
   * Parts these members from the others, until `heal`.
   * @param how `cut`: they are told; `black-hole`: they hear nothing any more
   */
  async part(members: readonly DatabaseServer[], how: 'cut' | 'black-hole' = 'black-hole'): Promise<void> {
    await this.heal();
    this.#parted = this.#links?.around(members.map(member => this.members.indexOf(member))) ?? [];
    for (const link of this.#parted) await link.set({ mode: how });
  }

  async heal(): Promise<void> {
    for (const link of this.#parted) await link.heal();
    this.#parted = [];
  }

  /**
   * What the guide tells a person to do: starts members that are down, lets those join that do not by themselves, and
   * begins the group again with the member that has most where none takes writes. Resolves when all are online.
   */
  async mend(): Promise<void> {
    await this.heal();
    const end = Date.now() + MEND_WITHIN_MS;
    for (const member of this.members) {
      member.resume();
      if (member.pid === undefined) await this.restart(member);
    }
    for (;;) {
      const standings = await this.#standings();
      const online = standings.filter(({ state, sees }) => state === 'ONLINE' && sees * 2 > this.members.length);
      if (online.length === this.members.length) return;
      if (Date.now() > end) throw new Error(`the group is not whole: ${JSON.stringify(standings.map(tell))}`);
      try {
        const out = standings.filter(({ state }) => state === 'ERROR' || state === 'OFFLINE');
        if (out.length === this.members.length) await this.#begin();
        else if (online.length > 0) for (const { server } of out) await this.join(server);
      } catch {
        // It has just joined by itself, or the group has just changed: the next look tells.
      }
      await delay(POLL_MS);
    }
  }

  async remove(): Promise<void> {
    await Promise.all(this.members.map(member => member.remove()));
    await Promise.all(this.doors.map(door => door.close()));
    await this.#links?.close();
  }

  /** Begins the group again after all were lost, with the member whose transactions include those of the others. */
  async #begin(): Promise<void> {
    const held = await Promise.all(
      this.members.map(member =>
        ask(member, JOIN_WITHIN_MS, async connection => {
          await connection.query('STOP GROUP_REPLICATION');
          const [[row]] = await connection.query<RowDataPacket[]>(
            `SELECT CONCAT_WS(',', @@GLOBAL.gtid_executed, NULLIF(RECEIVED_TRANSACTION_SET, '')) AS gtids
               FROM (SELECT 1) one LEFT JOIN performance_schema.replication_connection_status
                 ON CHANNEL_NAME = 'group_replication_applier'`,
          );
          return { member, gtids: String(row?.['gtids']) };
        }),
      ),
    );
    let most = held[0];
    for (const other of held.slice(1)) {
      if (most === undefined) break;
      const sql = `SELECT GTID_SUBSET(${quote(most.gtids)}, ${quote(other.gtids)}) AS less`;
      const [row] = await ask(
        most.member,
        ASK_WITHIN_MS,
        async connection => (await connection.query<RowDataPacket[]>(sql))[0],
      );
      if (Number(row?.['less']) === 1) most = other;
    }
    if (most === undefined) return;
    await this.join(most.member, true);
    for (const { member } of held) if (member !== most.member) await this.join(member);
  }

  /** As each member that answers sees itself. */
  async #standings(): Promise<Standing[]> {
    const asked = this.members.map(async (server): Promise<Standing[]> => {
      if (server.pid === undefined) return [];
      const rows = await ask(server, ASK_WITHIN_MS, async connection => {
        const [found] = await connection.query<RowDataPacket[]>(
          `SELECT MEMBER_ID = @@server_uuid AS own, MEMBER_STATE AS state, MEMBER_ROLE AS role
             FROM performance_schema.replication_group_members`,
        );
        return found;
      }).catch(() => null);
      if (rows === null) return [];
      const own = rows.find(row => Number(row['own']) === 1);
      const sees = rows.filter(row => ['ONLINE', 'RECOVERING'].includes(String(row['state']))).length;
      return [{ server, state: String(own?.['state'] ?? 'OFFLINE'), role: String(own?.['role'] ?? ''), sees }];
    });
    return (await Promise.all(asked)).flat();
  }
}

function tell({ server, state, role, sees }: Standing): string {
  return `${server.name} ${state} ${role}, sees ${sees}`;
}

function quote(gtids: string): string {
  return `'${gtids.replaceAll(/\s/g, '')}'`;
}

/** @param address where the group's own messages go */
function memberOptions(groupName: string, address: string, seeds: readonly string[]): ServerOptions {
  const guided = Object.entries(GROUP_SETTINGS).map(([name, value]): [string, string] => [
    name.startsWith('group_') ? `loose-${name}` : name,
    value,
  ]);
  return {
    'performance-schema': 'ON',
    'performance-schema-max-table-instances': 200,
    'performance-schema-digests-size': 200,
    'performance-schema-events-statements-history-long-size': 0,
    'report-host': '127.0.0.1',
    ...Object.fromEntries(guided),
    'loose-group-replication-group-name': groupName,
    'loose-group-replication-local-address': address,
    'loose-group-replication-group-seeds': seeds.join(','),
    'loose-group-replication-ip-allowlist': '127.0.0.1/8,::1/128',
  };
}

async function ask<T>(
  { host, port, user, password }: DatabaseServer,
  withinMs: number,
  work: (connection: Connection) => Promise<T>,
): Promise<T> {
  const connection = await createConnection({ host, port, user, password, connectTimeout: ASK_WITHIN_MS });
  connection.on('error', () => undefined);
  const over = new AbortController();
  const late = delay(withinMs, undefined, { signal: over.signal }).then(() => {
    throw new Error(`the server at port ${port} did not answer within ${withinMs} ms`);
  });
  late.catch(() => undefined);
  try {
    return await Promise.race([work(connection), late]);
  } finally {
    over.abort();
    connection.destroy();
  }
}
