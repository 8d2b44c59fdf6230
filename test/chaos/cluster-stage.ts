/**
 * A head office that fails over: three brokers as a cluster, three databases as a group, two appliers. Each program has
 * the addresses of all three, and a proxy to each:
 *
 *   paris (MySQL), lyon (MariaDB), nice (MySQL) ─ agents ═ 3 proxies ═▶ brokers ═ 3 proxies ═ appliers ═ 3 proxies ═▶ group
 *
 * Each agent and each applier has proxies of its own, so that a machine can be parted from the others with all that runs
 * on it. The brokers reach each other over links that can be cut, and so do the members of the group. Whatever befalls
 * the head office, it must cost no epoch, no copy of a table and no halt.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { BrokerCluster } from '../../deploy/rig/broker-cluster.ts';
import { nodeName } from '../../deploy/rig/broker-server.ts';
import type { BrokerServer } from '../../deploy/rig/broker-server.ts';
import type { Product } from '../../deploy/rig/daemon.ts';
import { DatabaseGroup } from '../../deploy/rig/database-group.ts';
import { DatabaseServer } from '../../deploy/rig/database-server.ts';
import type { Report } from '../../deploy/rig/errors.ts';
import { FaultProxy } from '../../deploy/rig/fault-proxy.ts';
import type { ServerAddress } from '../../deploy/rig/oracle/compare.ts';
import { branchNames } from '../../shared/broker/amqp-messages.ts';
import { until } from '../support/until.ts';
import { World } from '../support/world/world.ts';
import { addStageBranch, login, rowsOf, Stage } from './stage.ts';
import type { Link, StageBranch, StageParts } from './stage.ts';

/** What each branch's database is. */
const BRANCHES = { paris: 'mysql', lyon: 'mariadb', nice: 'mysql' } as const;
type BranchName = keyof typeof BRANCHES;

const LOOK_EVERY_MS = 100;
const RESTART_AFTER_MS = 2_000;

/** How an applier reaches each node's AMQP, each node's management, and each member. */
interface Ways {
  readonly broker: Link;
  readonly management: Link;
  readonly database: Link;
}

/** What shares a machine. */
export interface Machine {
  readonly node: BrokerServer;
  readonly member: DatabaseServer;
  readonly applier: Product;
}

/** What a branch has cost its head office: it must stay as it was. */
interface Cost {
  readonly epoch: string;
  readonly snapshots: number;
}

export class ClusterStage extends Stage {
  readonly brokers: BrokerCluster;
  readonly group: DatabaseGroup;
  readonly halts = false;
  /** To the member that takes writes. */
  readonly #door: FaultProxy;
  readonly #ways: ReadonlyMap<Product, Ways>;
  #parted: readonly FaultProxy[] = [];
  #cost: ReadonlyMap<string, Cost> = new Map();
  #moves = 0;

  private constructor(
    parts: StageParts,
    brokers: BrokerCluster,
    group: DatabaseGroup,
    door: FaultProxy,
    ways: ReadonlyMap<Product, Ways>,
  ) {
    super(parts);
    this.#ways = ways;
    this.brokers = brokers;
    this.group = group;
    this.#door = door;
  }

  /** @param names of BRANCHES */
  static async open(report: Report, names: readonly BranchName[] = ['paris', 'lyon', 'nice']): Promise<ClusterStage> {
    const [brokers, group, ...servers] = await Promise.all([
      BrokerCluster.start({ name: 'chaos-broker' }, report),
      DatabaseGroup.start({ name: 'chaos-group' }),
      ...names.map(name =>
        DatabaseServer.start({ flavor: BRANCHES[name], name: `chaos-${name}`, role: 'branch' }, report),
      ),
    ]);
    const [broker] = brokers.nodes;
    const [member] = group.members;
    if (broker === undefined || member === undefined) throw new Error('a cluster without nodes');
    if (!group.divisible) report('no IPv6 loopback address: the members of the group are not parted');
    const door = await FaultProxy.open(member.port);
    const { flavor, host, user, password, version } = member;
    const headOffice = { flavor, host, port: door.port, user, password, version };
    const world = await World.create({ broker, headOffice });
    const ways = new Map<Product, Ways>();
    for (const name of ['applier', 'applier-2']) {
      const way: Ways = {
        broker: await linkTo(brokers.nodes),
        management: await Promise.all(brokers.nodes.map(node => FaultProxy.open(node.managementPort, node.host))),
        database: ways.size === 0 ? group.doors : await group.moreDoors(),
      };
      const product = await world.applier({
        name,
        config: {
          onTableTrouble: 'halt',
          target: { host: way.database.map(each => each.host), port: way.database[0]?.port },
          broker: {
            url: way.broker.map(({ port }) => `amqp://${broker.user}@${broker.host}:${port}/${world.vhost}`),
            management: way.management.map(each => `http://${each.host}:${each.port}`),
            branchUrl: brokers.nodes.map(node => `amqp://${node.host}:${node.port}`),
          },
        },
      });
      ways.set(product, way);
    }
    const appliers = [...ways.keys()];
    const applierLinks = [...ways.values()].flatMap(way => [[...way.broker, ...way.management], way.database]);
    const branches: StageBranch[] = [];
    for (const [at, name] of names.entries()) {
      const server = servers[at];
      if (server === undefined) throw new Error('a server is missing');
      const link = await linkTo(brokers.nodes);
      const stageBranch = await addStageBranch(world, name, server, link, { changesTables: false, bigBlocks: 4 });
      await stageBranch.branch.db.query('CREATE TABLE moved (n INT PRIMARY KEY)');
      branches.push(stageBranch);
    }
    const stage = new ClusterStage({ world, branches, appliers, applierLinks }, brokers, group, door, ways);
    for (const applier of appliers) await (await applier.start()).waitReady();
    for (const { branch } of branches) await branch.startAgent();
    for (const { branch } of branches) await world.waitUntilEqual(branch);
    stage.#cost = await stage.#costNow();
    return stage;
  }

  get headOffice(): ServerAddress {
    return this.world.headOffice;
  }

  /** The machine with the node that leads the first branch's queue, the member that takes writes, and this applier. */
  async machineOf(applier: Product): Promise<Machine> {
    const path = `/queues/${this.world.vhost}/${branchNames(this.branches[0]?.branch.id ?? '').batches}`;
    const { leader } = (await this.world.managementApi('GET', path)) as { readonly leader?: string };
    const node = this.brokers.nodes.find(({ port }) => nodeName(port) === leader);
    const member = await this.group.primary();
    if (node === undefined || member === undefined) throw new Error('no node leads, or no member takes writes');
    return { node, member, applier };
  }

  /** Mends, and waits until every applier is ready. */
  async makeWhole(): Promise<void> {
    await this.mend();
    for (const applier of this.appliers) {
      applier.resume();
      // One that starts while the group has no primary ends, and here is no supervisor that starts it again.
      await until('an applier that is ready', async () => {
        if (!applier.running) await applier.start();
        const answer = await fetch(`${applier.url}/readyz`, { signal: AbortSignal.timeout(20_000) }).catch(() => null);
        return answer?.ok === true;
      });
    }
  }

  /**
   * Parts a machine from the others, until `mend`. The applier there reaches its own node and member, and no other.
   * @param how `cut`: they are told; `black-hole`: they hear nothing any more
   * @param alone whether branches do not reach it either
   */
  async part({ node, member, applier }: Machine, how: 'cut' | 'black-hole', alone: boolean): Promise<void> {
    const nodeAt = this.brokers.nodes.indexOf(node);
    const memberAt = this.group.members.indexOf(member);
    this.#parted = [...this.#ways].flatMap(([at, { broker, management, database }]) => {
      const isThere = at === applier;
      return [
        ...[broker, management].flatMap(link => link.filter((_, to) => (to === nodeAt) !== isThere)),
        ...database.filter((_, to) => (to === memberAt) !== isThere),
      ];
    });
    if (alone) this.#parted = [...this.#parted, ...this.branches.flatMap(({ link }) => link[nodeAt] ?? [])];
    await Promise.all([
      this.brokers.part([node], how),
      this.group.part([member], how),
      ...this.#parted.map(proxy => proxy.set({ mode: how })),
    ]);
  }

  /** Starts what is down, ends partitions, and has the group whole again. */
  async mend(): Promise<void> {
    await Promise.all(this.#parted.map(proxy => proxy.heal()));
    this.#parted = [];
    await this.brokers.join();
    for (const node of this.brokers.nodes) node.resume();
    await Promise.all(this.brokers.nodes.filter(({ pid }) => pid === undefined).map(node => node.restart()));
    await this.group.mend();
    await this.lookAtPrimary();
  }

  /** Every branch commits a row. Resolves when all of them are at the head office, whatever is down there. */
  async moved(): Promise<void> {
    this.#moves += 1;
    const n = this.#moves;
    await Promise.all(
      this.branches.map(({ source, branch }) =>
        rowsOf({ ...login(source.address), database: branch.schema }, `INSERT INTO moved VALUES (${n})`),
      ),
    );
    await until(
      `row ${n} of every branch`,
      async () => {
        const primary = await this.group.primary();
        if (primary === undefined) return false;
        const sql = `SELECT COUNT(*) AS arrived FROM moved WHERE n = ${n}`;
        const database = { ...login(primary), database: this.world.database };
        const [row] = await rowsOf(database, sql).catch(() => []);
        return Number(row?.['arrived']) === this.branches.length;
      },
      { everyMs: LOOK_EVERY_MS, detail: async () => (await this.findings()).join('\n') },
    );
  }

  /** Starts appliers that have ended by themselves, as systemd would, until aborted. */
  async supervise(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      for (const applier of this.appliers) if (!applier.running) await applier.start();
      await sleep(RESTART_AFTER_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  /** The stage itself looks at the member that takes writes. */
  async lookAtPrimary(): Promise<void> {
    let primary: DatabaseServer | undefined;
    await until('a member that takes writes', async () => (primary = await this.group.primary()) !== undefined);
    if (primary !== undefined) this.#door.lead(primary.port);
  }

  /** @throws when a branch has begun a new epoch, copied a table, or was halted */
  async audit(): Promise<void> {
    for (const [id, { epoch, snapshots }] of await this.#costNow()) {
      const before = this.#cost.get(id);
      if (epoch !== before?.epoch) throw new Error(`${id} has begun a new epoch`);
      if (snapshots !== before.snapshots) throw new Error(`${id} has copied tables again`);
    }
    const halts = this.appliers.flatMap(applier => applier.log().filter(({ msg }) => msg === 'The branch is halted.'));
    if (halts.length > 0) throw new Error(`halted: ${JSON.stringify(halts)}`);
  }

  override async findings(): Promise<string[]> {
    return [...(await super.findings()), ...(await this.group.describe())];
  }

  protected get headOfficeServers(): readonly (BrokerServer | DatabaseServer)[] {
    return [...this.brokers.nodes, ...this.group.members];
  }

  protected async removeHeadOffice(): Promise<void> {
    await Promise.all([this.brokers.remove(), this.group.remove(), this.#door.close()]);
  }

  async #costNow(): Promise<Map<string, Cost>> {
    const database = { ...login(this.headOffice), database: this.world.database };
    const rows = await rowsOf(database, 'SELECT branch, epoch FROM tributary_branch');
    const epochs = new Map(rows.map(row => [String(row['branch']), String(row['epoch'])]));
    return new Map(
      this.branches.map(({ branch }) => [
        branch.id,
        {
          epoch: epochs.get(branch.id) ?? 'none',
          snapshots: branch.agent.log().filter(({ msg }) => msg === 'A snapshot begins.').length,
        },
      ]),
    );
  }
}

/** A link to every node of the cluster. */
function linkTo(nodes: readonly BrokerServer[]): Promise<Link> {
  return Promise.all(nodes.map(({ port, host }) => FaultProxy.open(port, host)));
}
