/**
 * The network between the nodes of a cluster: each node reaches each other one over a link of its own, which tests may
 * cut. Two nodes are parted when both their links are.
 */
import { Epmd } from './epmd.ts';
import { FaultProxy } from './fault-proxy.ts';

/** Before a node has said where it listens. */
const NOWHERE = 9;

interface NodeLink {
  readonly from: string;
  readonly to: string;
  readonly proxy: FaultProxy;
}

export class NodeLinks {
  readonly #epmds = new Map<string, Epmd>();
  readonly #links: readonly NodeLink[];

  private constructor(links: readonly NodeLink[]) {
    this.#links = links;
  }

  /** @param nodes their names without a host */
  static async open(nodes: readonly string[]): Promise<NodeLinks> {
    const links: NodeLink[] = [];
    for (const from of nodes)
      for (const to of nodes) if (from !== to) links.push({ from, to, proxy: await FaultProxy.open(NOWHERE) });
    return new NodeLinks(links);
  }

  /** The name server that a node is to use. */
  async join(node: string): Promise<Epmd> {
    const epmd = await Epmd.open(to => this.#lead(node, to));
    this.#epmds.set(node, epmd);
    return epmd;
  }

  /** Both ways from these nodes to all others. */
  around(nodes: readonly string[]): FaultProxy[] {
    return this.#links.filter(({ from, to }) => nodes.includes(from) !== nodes.includes(to)).map(({ proxy }) => proxy);
  }

  /** Between all of them. */
  get all(): readonly FaultProxy[] {
    return this.#links.map(({ proxy }) => proxy);
  }

  async close(): Promise<void> {
    await Promise.all(this.#links.map(({ proxy }) => proxy.close()));
    await Promise.all([...this.#epmds.values()].map(epmd => epmd.close()));
  }

  /** Where the one finds the other now; undefined: it is down. */
  #lead(from: string, to: string): number | undefined {
    const port = this.#epmds.get(to)?.portOf(to);
    const link = this.#links.find(each => each.from === from && each.to === to);
    if (port === undefined || link === undefined) return undefined;
    link.proxy.lead(port, 'kept');
    return link.proxy.port;
  }
}
