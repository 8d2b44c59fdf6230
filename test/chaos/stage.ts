/**
 * The stage of `make chaos`: servers of its own, two branches that are written to, two appliers, and a bad link wherever
 * one program talks to another over a network.
 *
 *   paris (MySQL), lyon (MariaDB) ─ agents ─ proxy ─▶ broker ─ proxy ─ appliers ─ proxy ─▶ head office
 */
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import mysql from 'mysql2/promise';
import type { RowDataPacket } from 'mysql2/promise';
import { parse } from 'yaml';
import { BrokerServer } from '../../deploy/local/broker-server.ts';
import { DatabaseServer } from '../../deploy/local/database-server.ts';
import { FaultProxy } from '../../deploy/local/fault-proxy.ts';
import { temporaryDirectory } from '../../deploy/local/keeper.ts';
import type { Product } from '../../deploy/local/product.ts';
import { branchNames } from '../../shared/amqp-messages.ts';
import { dumpDatabase, restoreDatabase } from '../support/dump.ts';
import { expectSuccess, World } from '../support/world.ts';
import type { Branch } from '../support/world.ts';
import { Workload } from './workload.ts';

export interface StageBranch {
  readonly branch: Branch;
  readonly server: DatabaseServer;
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
      const link = await FaultProxy.open(broker.port);
      const branch = await world.addBranch(name, { source: server, config: { spool: { keepApplied: KEEP_APPLIED } } });
      const workload = new Workload(server, branch.schema);
      await workload.prepare();
      const stageBranch = { branch, server, link, workload };
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

  /** How each branch stands at the head office, at the broker, and by what agents and appliers say. */
  async findings(): Promise<string[]> {
    const connection = await mysql.createConnection({ ...login(this.headOffice), database: this.world.database });
    try {
      const [rows] = await connection.query<RowDataPacket[]>(
        `SELECT branch, state, epoch, received_seq, applied_seq, halt_code, halt_reason FROM tributary_branch`,
      );
      const queues = this.branches.map(async ({ branch }) => {
        const path = `/queues/${this.world.vhost}/${branchNames(branch.id).batches}`;
        const queue = (await this.world.managementApi('GET', path).catch(String)) as Record<string, unknown>;
        const { name, messages_ready, messages_unacknowledged, consumer_details } = queue;
        return JSON.stringify({ name, messages_ready, messages_unacknowledged, consumer_details });
      });
      const statuses = this.products.map(async product => {
        const status = await product.get('/api/status').catch(String);
        return JSON.stringify(status).slice(0, 4_000);
      });
      return [...rows.map(row => JSON.stringify(row)), ...(await Promise.all([...queues, ...statuses]))];
    } catch (error) {
      return [`the head office does not say: ${String(error)}`];
    } finally {
      connection.destroy();
    }
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
      ...this.branches.map(({ server }) => server.remove()),
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

function login({ host, port, user, password }: DatabaseServer) {
  return { host, port, user, password };
}

/** The agent reaches the broker over its bad link. */
function rerouteBroker({ branch, link }: Pick<StageBranch, 'branch' | 'link'>): void {
  const { broker } = parse(readFileSync(branch.agent.configFile, 'utf8')) as { broker: { url: string } };
  branch.configure({ broker: { url: broker.url.replace(/:\d+\//, `:${link.port}/`) } });
}
