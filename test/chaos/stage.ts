/**
 * The stage of `make chaos`: servers of its own, two branches that are written to, two appliers, and a bad link wherever
 * one program talks to another over a network.
 *
 *   paris (MySQL), lyon (MariaDB) ─ agents ─ proxy ─▶ broker ─ proxy ─ appliers ─ proxy ─▶ head office
 *
 * Behind the address of paris and of lyon a standby may take the server's place (branch-source.ts).
 */
import { cpSync, existsSync, lstatSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import mysql from 'mysql2/promise';
import type { RowDataPacket } from 'mysql2/promise';
import { parse } from 'yaml';
import { BrokerServer } from '../../deploy/rig/broker-server.ts';
import { DatabaseServer } from '../../deploy/rig/database-server.ts';
import type { Flavor } from '../../deploy/rig/database-options.ts';
import { FaultProxy } from '../../deploy/rig/fault-proxy.ts';
import { temporaryDirectory } from '../../deploy/rig/keeper.ts';
import type { Product } from '../../deploy/rig/daemon.ts';
import { branchNames } from '../../shared/broker/amqp-messages.ts';
import { quoteName } from '../../shared/database/sql.ts';
import type { ServerAddress } from '../../deploy/rig/oracle/compare.ts';
import { dumpDatabase, restoreDatabase } from '../support/world/dump.ts';
import { expectSuccess, World } from '../support/world/world.ts';
import type { Branch } from '../support/world/world.ts';
import { BranchSource } from './branch-source.ts';
import { Workload } from './workload.ts';

export interface StageBranch {
  readonly branch: Branch;
  readonly source: BranchSource;
  /** From the agent to the broker. */
  readonly link: FaultProxy;
  readonly workload: Workload;
}

/** A copy of something, to be put back later. */
export interface Copy {
  readonly path: string;
}

interface StageParts {
  readonly world: World;
  readonly broker: BrokerServer;
  readonly headOffice: DatabaseServer;
  readonly branches: readonly StageBranch[];
  readonly appliers: readonly Product[];
  readonly applierLink: FaultProxy;
  readonly targetLink: FaultProxy;
}

/** What tells one server's history from another's. */
const SERVER_FACTS: Readonly<Record<Flavor, string>> = {
  mysql: '@@server_uuid, @@GLOBAL.gtid_executed, @@GLOBAL.gtid_purged',
  mariadb: '@@GLOBAL.gtid_binlog_state, @@GLOBAL.gtid_current_pos',
};

/** How long received batches are kept: longer than a round, so that a restored head office is sent them again. */
const KEEP_APPLIED = '48h';

export class Stage {
  readonly world: World;
  readonly broker: BrokerServer;
  readonly headOffice: DatabaseServer;
  readonly branches: readonly StageBranch[];
  readonly appliers: readonly Product[];
  /** From the appliers to the broker, and to the head office's database. */
  readonly applierLink: FaultProxy;
  readonly targetLink: FaultProxy;
  #copies = 0;

  private constructor(parts: StageParts) {
    this.world = parts.world;
    this.broker = parts.broker;
    this.headOffice = parts.headOffice;
    this.branches = parts.branches;
    this.appliers = parts.appliers;
    this.applierLink = parts.applierLink;
    this.targetLink = parts.targetLink;
  }

  static async open(report: (line: string) => void): Promise<Stage> {
    const [broker, headOffice, ...servers] = await Promise.all([
      BrokerServer.start({ name: 'chaos-broker' }, report),
      DatabaseServer.start({ flavor: 'mysql', name: 'chaos-head-office', role: 'head-office' }, report),
      DatabaseServer.start({ flavor: 'mysql', name: 'chaos-paris', role: 'branch' }, report),
      DatabaseServer.start({ flavor: 'mariadb', name: 'chaos-lyon', role: 'branch' }, report),
    ]);
    const world = await World.create({ broker, headOffice });
    const applierLink = await FaultProxy.open(broker.port);
    const targetLink = await FaultProxy.open(headOffice.port);
    const appliers: Product[] = [];
    for (const name of ['applier', 'applier-2']) {
      const product = await world.applier({
        name,
        config: {
          onTableTrouble: 'halt',
          target: { port: targetLink.port },
          broker: {
            url: `amqp://${broker.user}@${broker.host}:${applierLink.port}/${world.vhost}`,
            branchUrl: `amqp://${broker.host}:${broker.port}`,
          },
        },
      });
      appliers.push(product);
    }
    const branches: StageBranch[] = [];
    for (const [index, name] of ['paris', 'lyon'].entries()) {
      const server = servers[index];
      if (server === undefined) throw new Error('a server is missing');
      const source = await BranchSource.open(server);
      const link = await FaultProxy.open(broker.port);
      const branch = await world.addBranch(name, {
        source: source.address,
        config: { onTableTrouble: 'halt', spool: { keepApplied: KEEP_APPLIED } },
      });
      const workload = new Workload(source.address, branch.schema);
      await workload.prepare();
      const stageBranch = { branch, source, link, workload };
      rerouteBroker(stageBranch);
      branches.push(stageBranch);
    }
    for (const applier of appliers) await (await applier.start()).waitReady();
    for (const { branch } of branches) await branch.startAgent();
    return new Stage({ world, broker, headOffice, branches, appliers, applierLink, targetLink });
  }

  get products(): readonly Product[] {
    return this.world.products;
  }

  /** The spool as it is on disk, if there is one; only while the agent is not running. */
  copySpool({ branch }: StageBranch): Copy {
    const path = this.#newPath('spool');
    // After a loss, the agent may not have begun a new one yet.
    if (existsSync(branch.spoolDirectory)) cpSync(branch.spoolDirectory, path, { recursive: true });
    return { path };
  }

  putSpoolBack({ branch }: StageBranch, copy: Copy): void {
    rmSync(branch.spoolDirectory, { recursive: true, force: true });
    if (existsSync(copy.path)) cpSync(copy.path, branch.spoolDirectory, { recursive: true });
  }

  /** The head office's database at this moment, as a backup program takes it. */
  async dump(): Promise<Copy> {
    const path = this.#newPath('dump');
    await dumpDatabase(this.headOffice, this.world.database, path);
    return { path };
  }

  /** Puts a dump in the database's place; the appliers must be down. */
  async restore(copy: Copy): Promise<void> {
    await restoreDatabase(this.headOffice, this.world.database, copy.path);
  }

  /** What the halt of a superseded agent tells a person to do. */
  async enrolAgain(stageBranch: StageBranch): Promise<void> {
    const { branch } = stageBranch;
    await branch.agent.stop();
    expectSuccess(await branch.cli(['enroll', join(branch.folder, 'enrolment')]));
    rerouteBroker(stageBranch);
    await branch.agent.start();
  }

  /** How each branch stands at the head office, at the broker, by what agents and appliers say, and at its own server. */
  async findings(): Promise<string[]> {
    const said = await Promise.allSettled([
      rowsOf(
        { ...login(this.headOffice), database: this.world.database },
        `SELECT branch, state, epoch, received_seq, applied_seq, halt_code, halt_reason FROM tributary_branch`,
      ),
      ...this.branches.map(async ({ branch }) => {
        const path = `/queues/${this.world.vhost}/${branchNames(branch.id).batches}`;
        const queue = (await this.world.managementApi('GET', path)) as Record<string, unknown>;
        const { name, messages_ready, messages_unacknowledged } = queue;
        return [{ name, messages_ready, messages_unacknowledged, consumers: consumersOf(queue) }];
      }),
      ...this.products.map(async product => [await product.get('/api/status')]),
      ...this.branches.map(({ source }) =>
        rowsOf(source.primary, `SELECT @@server_id, @@log_bin, ${SERVER_FACTS[source.primary.flavor]}`),
      ),
    ]);
    return said.flatMap(answer =>
      answer.status === 'fulfilled'
        ? answer.value.map(line => JSON.stringify(line).slice(0, 4_000))
        : [`no answer: ${String(answer.reason)}`],
    );
  }

  /** Copies into the folder what tells how it came about: logs, configuration and spools, and how tables are defined. */
  async keepTraces(folder: string): Promise<void> {
    rmSync(folder, { recursive: true, force: true });
    cpSync(this.world.directory, folder, { recursive: true, filter: source => !lstatSync(source).isSocket() });
    const servers = [this.headOffice, ...this.branches.flatMap(({ source }) => source.servers)];
    for (const { name, logFile } of servers) cpSync(logFile, join(folder, `${name}.log`));
    await keepDefinitions(this.headOffice, this.world.database, join(folder, 'head-office.sql'));
    for (const { branch, source } of this.branches)
      await keepDefinitions(source.primary, branch.schema, join(folder, `${source.name}.sql`));
  }

  async remove(): Promise<void> {
    for (const product of this.products) {
      product.resume();
      await product.kill9();
    }
    for (const { link } of this.branches) await link.close();
    await this.applierLink.close();
    await this.targetLink.close();
    await Promise.all([
      this.broker.remove(),
      this.headOffice.remove(),
      ...this.branches.map(({ source }) => source.remove()),
    ]);
    rmSync(this.world.directory, { recursive: true, force: true });
  }

  #newPath(kind: string): string {
    this.#copies += 1;
    const folder = join(temporaryDirectory(), 'copies');
    mkdirSync(folder, { recursive: true });
    return join(folder, `${kind}-${this.#copies}`);
  }
}

/** Who consumes a queue, and whose turn it is. */
function consumersOf(queue: Readonly<Record<string, unknown>>): unknown[] {
  const consumers = Array.isArray(queue['consumer_details']) ? (queue['consumer_details'] as unknown[]) : [];
  return consumers.map(consumer => {
    const { consumer_tag, activity_status } = consumer as Readonly<Record<string, unknown>>;
    return [consumer_tag, activity_status];
  });
}

/** For a connection of mysql2. */
export function login({ host, port, user, password }: ServerAddress) {
  return { host, port, user, password };
}

async function rowsOf(server: ServerAddress & { readonly database?: string }, sql: string): Promise<RowDataPacket[]> {
  const { database } = server;
  const connection = await mysql.createConnection({
    ...login(server),
    ...(database === undefined ? {} : { database }),
  });
  try {
    const [rows] = await connection.query<RowDataPacket[]>(sql);
    return rows;
  } finally {
    connection.destroy();
  }
}

/** For whoever reads it: a server that does not answer is told of in the file. */
async function keepDefinitions(server: ServerAddress, database: string, file: string): Promise<void> {
  const text = await (async () => {
    const tables = await rowsOf({ ...login(server), database }, 'SHOW TABLES');
    const made = tables.map(async row => {
      const name = String(Object.values(row)[0]);
      const [table] = await rowsOf({ ...login(server), database }, `SHOW CREATE TABLE ${quoteName(name)}`);
      return `${String(table?.['Create Table'])};\n`;
    });
    const triggers = await rowsOf({ ...login(server), database }, 'SHOW TRIGGERS');
    return [...(await Promise.all(made)), ...triggers.map(trigger => JSON.stringify(trigger))].join('\n');
  })().catch(String);
  writeFileSync(file, text);
}

/** The agent reaches the broker over its bad link. */
function rerouteBroker({ branch, link }: Pick<StageBranch, 'branch' | 'link'>): void {
  const { broker } = parse(readFileSync(branch.agent.configFile, 'utf8')) as { broker: { url: string } };
  branch.configure({ broker: { url: broker.url.replace(/:\d+\//, `:${link.port}/`) } });
}
