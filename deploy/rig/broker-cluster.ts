/**
 * A RabbitMQ cluster on loopback ports: brokers that share one cookie and one administrator. A quorum queue has a copy on
 * each of three nodes, so that one may fail; without two of three nothing is confirmed.
 *
 *   const cluster = await BrokerCluster.start({ name: 'cluster' });
 *   await Promise.all(cluster.nodes.slice(1).map(node => node.kill()));       // no majority is left
 *   await Promise.all(cluster.nodes.slice(1).map(node => node.restart()));    // whole again
 *   await cluster.part(cluster.nodes.slice(0, 1));                            // the first one is alone
 *   await cluster.join();
 *   await cluster.remove();
 */
import { randomBytes } from 'node:crypto';
import { aliveName, BrokerServer, nodeName } from './broker-server.ts';
import type { BrokerServerOptions, Cluster } from './broker-server.ts';
import type { Report } from './errors.ts';
import type { FaultProxy } from './fault-proxy.ts';
import { freePort } from './free-port.ts';
import { NodeLinks } from './node-links.ts';

/** As the guide has it (docs/failover.md): a frozen node counts as gone after some ten seconds, not a minute. */
export const CLUSTER_SETTINGS = { net_ticktime: '10' } as const;

export interface BrokerClusterOptions extends Pick<BrokerServerOptions, 'name' | 'config'> {
  /** How many nodes. Default: 3. */
  readonly size?: number;
}

export class BrokerCluster {
  /** Each is a broker of its own that tests may stop, kill, pause and restart. */
  readonly nodes: readonly BrokerServer[];
  readonly #links: NodeLinks;
  #parted: readonly FaultProxy[] = [];

  private constructor(nodes: readonly BrokerServer[], links: NodeLinks) {
    this.nodes = nodes;
    this.#links = links;
  }

  /** Starts all nodes. Resolves when each answers, which is after they have joined. */
  static async start(options: BrokerClusterOptions, report: Report = () => undefined): Promise<BrokerCluster> {
    const { name, size = 3, config = {} } = options;
    const ports: number[] = [];
    while (ports.length < size) ports.push(await freePort());
    const links = await NodeLinks.open(ports.map(aliveName));
    const cluster: Cluster = {
      ports,
      links,
      cookie: randomBytes(15).toString('hex'),
      password: randomBytes(12).toString('base64url'),
    };
    const started = await Promise.allSettled(
      ports.map((port, at) =>
        BrokerServer.start(
          { name: `${name}-${at + 1}`, config: { ...CLUSTER_SETTINGS, ...config }, port, cluster },
          report,
        ),
      ),
    );
    const nodes = started.filter(result => result.status === 'fulfilled').map(({ value }) => value);
    const made = new BrokerCluster(nodes, links);
    const failed = started.find(result => result.status === 'rejected');
    if (failed === undefined) return made;
    await made.remove();
    throw failed.reason;
  }

  /**
   * Parts these nodes from the others, until `join`.
   * @param how `cut`: they are told; `black-hole`: they hear nothing any more
   */
  async part(nodes: readonly BrokerServer[], how: 'cut' | 'black-hole' = 'black-hole'): Promise<void> {
    await this.#sever(this.#links.around(nodes.map(({ port }) => aliveName(port))), how);
  }

  /** Parts every node from every other one, until `join`. */
  async scatter(how: 'cut' | 'black-hole' = 'black-hole'): Promise<void> {
    await this.#sever(this.#links.all, how);
  }

  async #sever(links: readonly FaultProxy[], how: 'cut' | 'black-hole'): Promise<void> {
    await this.join();
    this.#parted = links;
    await Promise.all(links.map(link => link.set({ mode: how })));
  }

  async join(): Promise<void> {
    for (const link of this.#parted) await link.heal();
    this.#parted = [];
  }

  /** A node that has lost its disk joins again, empty, as the operations guide says: the others forget it first. */
  async replace(node: BrokerServer): Promise<void> {
    await node.kill();
    await node.wipe();
    const other = this.nodes.find(each => each !== node && each.pid !== undefined);
    if (other === undefined) throw new Error('no node runs that could forget the lost one');
    await other.control(['forget_cluster_node', nodeName(node.port)]);
    await node.restart();
  }

  /** Ends all nodes and deletes their directories. */
  async remove(): Promise<void> {
    await Promise.all(this.nodes.map(node => node.remove()));
    await this.#links.close();
  }
}
