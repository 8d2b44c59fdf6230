/**
 * A RabbitMQ cluster on loopback ports: brokers that share one name server, one cookie and one administrator. A quorum
 * queue has a copy on each of three nodes, so that one may fail; without two of three nothing is confirmed.
 *
 *   const cluster = await BrokerCluster.start({ name: 'cluster' });
 *   await Promise.all(cluster.nodes.slice(1).map(node => node.kill()));       // no majority is left
 *   await Promise.all(cluster.nodes.slice(1).map(node => node.restart()));    // whole again
 *   await cluster.remove();
 */
import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { BrokerServer, startEpmd } from './broker-server.ts';
import type { BrokerServerOptions, Cluster } from './broker-server.ts';
import type { Report } from './errors.ts';
import { freePort } from './free-port.ts';
import { findPrograms } from './install/programs.ts';
import { serverDirectory } from './keeper.ts';
import type { ServerProcess } from './server-process.ts';

export interface BrokerClusterOptions extends Pick<BrokerServerOptions, 'name' | 'config'> {
  /** How many nodes. Default: 3. */
  readonly size?: number;
}

export class BrokerCluster {
  /** Each is a broker of its own that tests may stop, kill, pause and restart. */
  readonly nodes: readonly BrokerServer[];
  readonly #directory: string;
  readonly #epmd: ServerProcess;

  private constructor(nodes: readonly BrokerServer[], directory: string, epmd: ServerProcess) {
    this.nodes = nodes;
    this.#directory = directory;
    this.#epmd = epmd;
  }

  /** Starts all nodes. Resolves when each answers, which is after they have joined. */
  static async start(options: BrokerClusterOptions, report: Report = () => undefined): Promise<BrokerCluster> {
    const { name, size = 3, ...rest } = options;
    const programs = await findPrograms('rabbitmq', report);
    const directory = serverDirectory(`${name}-epmd`);
    const ports: number[] = [];
    while (ports.length < size) ports.push(await freePort());
    const cluster: Cluster = {
      ports,
      epmdPort: await freePort(),
      cookie: randomBytes(15).toString('hex'),
      password: randomBytes(12).toString('base64url'),
    };
    const epmd = await startEpmd(name, directory, cluster.epmdPort, programs);
    const started = await Promise.allSettled(
      ports.map((port, at) => BrokerServer.start({ ...rest, name: `${name}-${at + 1}`, port, cluster }, report)),
    );
    const nodes = started.filter(result => result.status === 'fulfilled').map(({ value }) => value);
    const made = new BrokerCluster(nodes, directory, epmd);
    const failed = started.find(result => result.status === 'rejected');
    if (failed === undefined) return made;
    await made.remove();
    throw failed.reason;
  }

  /** Ends all nodes and deletes their directories. */
  async remove(): Promise<void> {
    await Promise.all(this.nodes.map(node => node.remove()));
    await this.#epmd.kill();
    await rm(this.#directory, { recursive: true, force: true });
  }
}
