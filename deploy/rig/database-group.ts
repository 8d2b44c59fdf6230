/**
 * Three MySQL servers as one group (InnoDB Cluster without its router): one takes writes, the others are read-only and
 * follow; when it is lost, another one takes its place by itself.
 *
 *   const group = await DatabaseGroup.start({ name: 'group' });
 *   await (await group.primary())?.kill();
 *   await group.mend();
 *   await group.remove();
 *
 * Programs reach the members as they would three machines: by one port, at an address each (`doors`), over links that
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
  group_replication_unreachable_majority_timeout: '0',
  group_replication_autorejoin_tries: '2016',
  group_replication_exit_state_action: 'READ_ONLY',
  group_replication_transaction_size_limit: '0',
} as const;

export interface DatabaseGroupOptions {
  readonly name: string;
  /** How many members. Default: 3. */
  readonly size?: number;
  readonly options?: ServerOptions;
}

/** A member that is being frozen accepts connections and never answers. */
const ASK_WITHIN_MS = 3_000;
const JOIN_WITHIN_MS = 90_000;
/** A member that was away has to catch up. */
const MEND_WITHIN_MS = 300_000;
const POLL_MS = 200;

/** A member that does not join by itself when it starts. */
const ALONE: ServerOptions = { 'loose-group-replication-start-on-boot': 'OFF' };

type Doors = readonly FaultProxy[];

/** A member as it sees itself and the others. */
export interface Standing {
  /** The member's own name among the others. */
  readonly id: string;
  readonly state: string;
  /** Which member it takes for the primary; null: none. */
  readonly primary: string | null;
  /** How many members it counts in the group. */
  readonly of: number;
  /** How many of these it sees that are not out of its reach, itself among them. */
  readonly sees: number;
  /** How many of these are online. */
  readonly seesOnline: number;
}

interface MemberStanding extends Standing {
  readonly server: DatabaseServer;
}

/** Whether a member belongs to a majority. One that has lost the others takes writes and never ends them. Pure. */
export function isOfMajority({ state, sees, of }: Standing): boolean {
  return state === 'ONLINE' && sees * 2 > of;
}

/**
 * The member that a majority of its group takes for the primary; undefined: there is none. One that was frozen believes
 * for a moment that it still is. Pure.
 */
export function primaryOf<S extends Standing>(standings: readonly S[]): S | undefined {
  const votes = (id: string): number => standings.filter(({ primary }) => primary === id).length;
  return standings.find(each => isOfMajority(each) && each.primary === each.id && votes(each.id) * 2 > each.of);
}

/**
 * Whether every member sees all of them online. One that was frozen believes for a moment that it still belongs to the
 * group, which has gone on without it: were another one lost now, none would have a majority. Pure.
 */
export function isWhole(standings: readonly Standing[], size: number): boolean {
  return standings.length === size && standings.every(each => each.state === 'ONLINE' && each.seesOnline === size);
}

export class DatabaseGroup {
  readonly members: readonly DatabaseServer[];
  /** To each member, in the same order: the same port at an address each. */
  readonly doors: Doors;
  readonly #links: MemberLinks | null;
  #parted: readonly FaultProxy[] = [];

  /** How many programs have doors of their own. */
  #others = 0;

  private constructor(members: readonly DatabaseServer[], doors: Doors, links: MemberLinks | null) {
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
    const group = new DatabaseGroup(members, await openDoors(members, 0), links);
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

  /** Doors for one more program, which whoever asks closes. */
  moreDoors(): Promise<Doors> {
    this.#others += 1;
    return openDoors(this.members, this.#others);
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
    await member.restart(ALONE);
    await this.join(member);
  }

  /** The member that takes writes; undefined while there is none. */
  async primary(): Promise<DatabaseServer | undefined> {
    return primaryOf(await this.#standings())?.server;
  }

  /**
   * Parts these members from the others, until `heal`.
   * @param how `cut`: they are told; `black-hole`: they hear nothing any more
   */
  async part(members: readonly DatabaseServer[], how: 'cut' | 'black-hole' = 'black-hole'): Promise<void> {
    await this.#sever(this.#links?.around(members.map(member => this.members.indexOf(member))), how);
  }

  /** Parts every member from every other one, until `heal`. */
  async scatter(how: 'cut' | 'black-hole' = 'black-hole'): Promise<void> {
    await this.#sever(this.#links?.all, how);
  }

  async #sever(links: readonly FaultProxy[] = [], how: 'cut' | 'black-hole'): Promise<void> {
    await this.heal();
    this.#parted = links;
    await Promise.all(links.map(link => link.set({ mode: how })));
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
    for (const member of this.members) member.resume();
    const down = this.members.filter(({ pid }) => pid === undefined);
    // With most of them down there is no group to join, and a member that tries by itself tries for a minute.
    const joins = down.length * 2 <= this.members.length;
    await Promise.all(down.map(member => (joins ? this.restart(member) : member.restart(ALONE))));
    for (;;) {
      const standings = await this.#standings();
      if (isWhole(standings, this.members.length)) return;
      const online = standings.filter(isOfMajority);
      if (Date.now() > end) throw new Error(`the group is not whole: ${JSON.stringify(standings.map(tell))}`);
      try {
        const out = standings.filter(({ state }) => state === 'ERROR' || state === 'OFFLINE');
        // Without a majority nobody can join: those that are in it wait for those that are not.
        if (online.length === 0 && out.length * 2 > this.members.length) await this.#begin();
        else if (online.length > 0) for (const { server } of out) await this.join(server);
      } catch {
        // It has just joined by itself, or the group has just changed: the next look tells.
      }
      await delay(POLL_MS);
    }
  }

  /** How each member that answers sees itself, for people. */
  async describe(): Promise<string[]> {
    return (await this.#standings()).map(tell);
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
    if (most !== undefined) await this.join(most.member, true);
  }

  /** As each member that answers sees itself. */
  async #standings(): Promise<MemberStanding[]> {
    const asked = this.members.map(async (server): Promise<MemberStanding[]> => {
      // Nobody is to wait for one that is frozen.
      if (!server.answers) return [];
      const rows = await ask(server, ASK_WITHIN_MS, async connection => {
        const [found] = await connection.query<RowDataPacket[]>(
          `SELECT MEMBER_ID AS id, MEMBER_ID = @@server_uuid AS own, MEMBER_STATE AS state, MEMBER_ROLE AS role
             FROM performance_schema.replication_group_members`,
        );
        return found;
      }).catch(() => null);
      if (rows === null) return [];
      const own = rows.find(row => Number(row['own']) === 1);
      const states = rows.map(row => String(row['state']));
      const seesOnline = states.filter(state => state === 'ONLINE').length;
      const sees = seesOnline + states.filter(state => state === 'RECOVERING').length;
      const primary = rows.find(row => row['role'] === 'PRIMARY');
      return [
        {
          server,
          id: String(own?.['id'] ?? server.name),
          state: String(own?.['state'] ?? 'OFFLINE'),
          primary: primary === undefined ? null : String(primary['id']),
          of: rows.length,
          sees,
          seesOnline,
        },
      ];
    });
    return (await Promise.all(asked)).flat();
  }
}

async function openDoors(members: readonly DatabaseServer[], program: number): Promise<Doors> {
  const port = await freePort();
  return Promise.all(
    members.map((member, at) =>
      FaultProxy.open(member.port, member.host, () => performance.now(), {
        host: `127.0.${program + 1}.${at + 1}`,
        port,
      }),
    ),
  );
}

function tell({ server, id, state, primary, of, sees, seesOnline }: MemberStanding): string {
  const view = `sees ${sees} of ${of}, ${seesOnline} of them online`;
  return `${server.name} (${id}) ${state}, ${view}, primary ${primary ?? 'none'}`;
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
    // What a member says of the others are notes.
    'log-error-verbosity': 3,
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
