/**
 * A head office for tests: a database and a virtual host of its own on the shared servers, a registry, and as many
 * fleets (appliers) as the test wants.
 */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import mysql from 'mysql2/promise';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { RowWriter } from '../../../applier/apply/row-writer.ts';
import { noteLost } from '../../../applier/store/lost-tables.ts';
import { Addresses } from '../../../shared/addresses.ts';
import { ManagementApi } from '../../../applier/broker/management-api.ts';
import { Provisioning } from '../../../applier/broker/provisioning.ts';
import { readEnrolment } from '../../../shared/config/enrolment.ts';
import { BranchAdmin } from '../../../applier/branches/branch-admin.ts';
import { readBranch } from '../../../applier/store/branch-row.ts';
import type { BranchRow } from '../../../applier/store/branch-row.ts';
import { Fleet } from '../../../applier/consume/fleet.ts';
import { NO_EVENTS } from '../../../applier/consume/pipeline-events.ts';
import type { PipelineEvents } from '../../../applier/consume/pipeline-events.ts';
import type { Pauses } from '../../../applier/consume/retry-policy.ts';
import type { Quotas } from '../../../applier/transaction/quotas.ts';
import type { RowWriting } from '../../../applier/apply/row-writer.ts';
import { TargetPool } from '../../../applier/apply/connection-pool.ts';
import { startSharedServers, SERVERS_VARIABLE, sharedServers } from '../../../deploy/rig/shared-servers.ts';
import type { DatabaseAddress } from '../../../deploy/rig/shared-servers.ts';
import { connectBroker } from '../../../shared/broker/amqp.ts';
import type { BrokerConnection } from '../../../shared/broker/amqp.ts';
import { silentLogger } from '../silent-logger.ts';
import type { Logger } from '../../../shared/process/logging.ts';
import { mysqlErrno } from '../../../shared/database/mysql.ts';
import { HandMadeBranch, HEARTBEAT_SECONDS } from '../hand-made/branch.ts';
import { until } from '../until.ts';

const POOL_SIZE = 4;
/** ER_CLIENT_INTERACTION_TIMEOUT: before the statement, so that it was not carried out. */
const SESSION_TIMED_OUT = 4031;

export interface FleetChoices {
  readonly rows?: RowWriting;
  readonly instance?: string;
  readonly events?: Partial<PipelineEvents>;
  readonly logger?: Logger;
  readonly quotas?: Quotas;
  /** Default: halt, so that a test sees the fault. */
  readonly onTableTrouble?: 'set-aside' | 'halt';
  readonly pauses?: Pauses;
  /** Opens connections to the database, e.g. through a proxy. */
  readonly connectTarget?: () => Promise<Connection>;
  /** Told of each connection to the broker, to be able to cut it. */
  readonly onConnection?: (connection: BrokerConnection) => void;
  /** Of a proxy before the broker. */
  readonly brokerPort?: number;
}

export class HeadOffice {
  readonly provisioning: Provisioning;
  readonly registry: BranchAdmin;
  readonly rows: RowWriter;
  readonly api: ManagementApi;
  readonly vhost: string;
  /** With the database. */
  readonly server: DatabaseAddress;
  readonly #database: string;
  readonly #directory: string;
  readonly #pool: TargetPool;
  readonly #cleanups: (() => Promise<void>)[] = [];

  /**
   * Uses the servers that the environment names, or starts those that are missing.
   * @param database another server for the database
   */
  static async open(database?: DatabaseAddress): Promise<HeadOffice> {
    const servers = await startSharedServers(['headOffice', 'broker']);
    const before = process.env[SERVERS_VARIABLE];
    process.env[SERVERS_VARIABLE] = servers.environment[SERVERS_VARIABLE];
    const office = new HeadOffice(
      `consume_${randomBytes(4).toString('hex')}`,
      await mkdtemp(join(tmpdir(), 'head-office-')),
      database ?? sharedServers().headOffice,
    );
    office.#cleanups.push(async () => {
      if (before === undefined) Reflect.deleteProperty(process.env, SERVERS_VARIABLE);
      else process.env[SERVERS_VARIABLE] = before;
      await servers.stop();
    });
    const { broker } = sharedServers();
    const { host, port, user, password } = office.server;
    const admin = await mysql.createConnection({ host, port, user, password });
    await admin.query(`CREATE DATABASE ${office.#database}`);
    await admin.end();
    office.#cleanups.push(async () => {
      const last = await mysql.createConnection({ host, port, user, password });
      await last.query(`DROP DATABASE ${office.#database}`);
      await last.end();
    });
    await office.api.call('PUT', ['vhosts', office.vhost]);
    await office.api.call('PUT', ['permissions', office.vhost, broker.user], {
      configure: '.*',
      write: '.*',
      read: '.*',
    });
    office.#cleanups.push(async () => {
      await office.api.call('DELETE', ['vhosts', office.vhost]);
    });
    return office;
  }

  private constructor(name: string, directory: string, server: DatabaseAddress) {
    const { broker } = sharedServers();
    this.server = server;
    this.#database = name;
    this.vhost = name;
    this.#directory = directory;
    this.#pool = new TargetPool({ connect: () => this.connect(), size: POOL_SIZE });
    this.rows = new RowWriter({
      connect: () => this.connect(),
      database: name,
      onChanged: async (table, server) => {
        await noteLost(this.#pool, table, server);
      },
    });
    this.api = new ManagementApi({
      addresses: new Addresses([{ secure: false, host: broker.host, port: broker.managementPort, path: '' }]),
      user: broker.user,
      password: broker.password,
      tls: {},
    });
    this.provisioning = new Provisioning(this.api, this.vhost);
    this.registry = new BranchAdmin({
      pool: this.#pool,
      provisioning: this.provisioning,
      rows: this.rows,
      address: { addresses: [{ secure: false, host: broker.host, port: broker.port }], vhost: this.vhost, ca: null },
      headOffice: 'test',
      actor: 'ana at hq, command line',
    });
  }

  /** @param through the port of a proxy before the database */
  async connect(through?: number): Promise<Connection> {
    const { host, user, password } = this.server;
    const port = through ?? this.server.port;
    return mysql.createConnection({
      host,
      port,
      user,
      password,
      database: this.#database,
      charset: 'utf8mb4',
      timezone: 'Z',
      supportBigNumbers: true,
      bigNumberStrings: true,
      dateStrings: true,
    });
  }

  /** Connects to the broker as a branch, which is added the first time. */
  async branch(name: string): Promise<HandMadeBranch> {
    const file = join(this.#directory, `${name}.yaml`);
    const enrolment = existsSync(file) ? await readEnrolment(file) : await this.registry.add(name, file);
    const branch = await HandMadeBranch.connect(enrolment);
    this.#cleanups.push(() => branch.close());
    return branch;
  }

  /** Starts an applier. */
  async fleet(choices: FleetChoices = {}): Promise<Fleet> {
    const { broker } = sharedServers();
    const fleet = new Fleet({
      connectTarget: choices.connectTarget ?? (() => this.connect()),
      broker: {
        connect: async purpose => {
          const connection = await connectBroker({
            url: `amqp://${broker.user}@${broker.host}:${choices.brokerPort ?? broker.port}/${this.vhost}`,
            password: broker.password,
            purpose,
            heartbeatSeconds: HEARTBEAT_SECONDS,
          });
          choices.onConnection?.(connection);
          return connection;
        },
      },
      rows: choices.rows ?? this.rows,
      instance: choices.instance ?? 'one',
      logger: choices.logger ?? silentLogger(),
      events: { ...NO_EVENTS, ...choices.events },
      poolSize: 4,
      onTableTrouble: choices.onTableTrouble ?? 'halt',
      ...(choices.quotas === undefined ? {} : { quotas: choices.quotas }),
      ...(choices.pauses === undefined ? {} : { pauses: choices.pauses }),
    });
    await fleet.start();
    this.#cleanups.push(() => fleet.stop());
    return fleet;
  }

  /** Once more for each session that the server has ended: while this process was held, it heard nothing of any of them. */
  async use<T>(work: (connection: Connection) => Promise<T>): Promise<T> {
    for (let left = POOL_SIZE; ; left -= 1) {
      try {
        return await this.#pool.use(work);
      } catch (error) {
        if (mysqlErrno(error) !== SESSION_TIMED_OUT || left === 0) throw error;
      }
    }
  }

  async query(sql: string, values: readonly (string | number)[] = []): Promise<RowDataPacket[]> {
    return this.use(async connection => (await connection.query<RowDataPacket[]>(sql, [...values]))[0]);
  }

  async row(branch: string): Promise<BranchRow> {
    const row = await this.use(connection => readBranch(connection, branch));
    if (row === null) throw new Error(`no row for ${branch}`);
    return row;
  }

  /** Rows of the branch in table `sales`, as id → item. */
  async sales(branch: string): Promise<Record<string, string>> {
    const rows = await this.query('SELECT id, item FROM sales WHERE _branch = ? ORDER BY id', [branch]);
    return Object.fromEntries(rows.map(row => [String(row['id']), String(row['item'])]));
  }

  /** Waits until the branch's row is as wanted. */
  async until(branch: string, wanted: (row: BranchRow) => boolean, what: string): Promise<BranchRow> {
    let row = await this.row(branch);
    const holds = async (): Promise<boolean> => wanted((row = await this.row(branch)));
    await until(what, holds, { detail: () => `the row is ${JSON.stringify(row)}` });
    return row;
  }

  async applied(branch: string, seq: number): Promise<BranchRow> {
    return this.until(branch, row => row.stream.applied.seq >= seq, `applied ${seq} of ${branch}`);
  }

  /** Waits until nothing is left in the queue, acknowledged ones included. */
  async drained(branch: string): Promise<void> {
    const connection = await connectBroker({
      url: `amqp://${sharedServers().broker.user}@${sharedServers().broker.host}:${sharedServers().broker.port}/${this.vhost}`,
      password: sharedServers().broker.password,
      purpose: 'test drained',
    });
    try {
      await until(`the end of the queue of ${branch}`, async () => {
        return (await connection.queueDepth(`tributary.batches.${branch}`)).messages === 0;
      });
    } finally {
      await connection.close();
    }
  }

  async close(): Promise<void> {
    await this.#pool.close();
    for (const cleanup of this.#cleanups.reverse()) await cleanup();
    await rm(this.#directory, { recursive: true });
  }
}
