/**
 * A head office of one broker and one database, with two appliers:
 *
 *   paris (MySQL), lyon (MariaDB) ─ agents ─ proxy ─▶ broker ─ proxy ─ appliers ─ proxy ─▶ head office
 */
import { BrokerServer } from '../../deploy/rig/broker-server.ts';
import type { Product } from '../../deploy/rig/daemon.ts';
import { DatabaseServer } from '../../deploy/rig/database-server.ts';
import { FaultProxy } from '../../deploy/rig/fault-proxy.ts';
import type { Report } from '../../deploy/rig/errors.ts';
import { dumpDatabase, restoreDatabase } from '../support/world/dump.ts';
import { World } from '../support/world/world.ts';
import { addStageBranch, Stage } from './stage.ts';
import type { Copy, StageBranch, StageParts } from './stage.ts';

export class SingleStage extends Stage {
  readonly broker: BrokerServer;
  readonly headOffice: DatabaseServer;
  readonly halts = true;

  private constructor(parts: StageParts, broker: BrokerServer, headOffice: DatabaseServer) {
    super(parts);
    this.broker = broker;
    this.headOffice = headOffice;
  }

  static async open(report: Report): Promise<SingleStage> {
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
      const link = [await FaultProxy.open(broker.port)];
      branches.push(await addStageBranch(world, name, server, link, { changesTables: true, bigBlocks: 40 }));
    }
    for (const applier of appliers) await (await applier.start()).waitReady();
    for (const { branch } of branches) await branch.startAgent();
    return new SingleStage(
      { world, branches, appliers, applierLinks: [[applierLink], [targetLink]] },
      broker,
      headOffice,
    );
  }

  /** The head office's database at this moment, as a backup program takes it. */
  async dump(): Promise<Copy> {
    const path = this.newPath('dump');
    await dumpDatabase(this.headOffice, this.world.database, path);
    return { path };
  }

  /** Puts a dump in the database's place; the appliers must be down. */
  async restore(copy: Copy): Promise<void> {
    await restoreDatabase(this.headOffice, this.world.database, copy.path);
  }

  /** Each fault mends what it breaks. */
  mend(): Promise<void> {
    return Promise.resolve();
  }

  /** A lost spool or a head office that was restored costs a new epoch. */
  audit(): Promise<void> {
    return Promise.resolve();
  }

  protected get headOfficeServers(): readonly DatabaseServer[] {
    return [this.headOffice];
  }

  protected async removeHeadOffice(): Promise<void> {
    await Promise.all([this.broker.remove(), this.headOffice.remove()]);
  }
}
