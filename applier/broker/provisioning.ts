/**
 * What a branch has at the broker: an exchange, three queues, bindings, a user and its rights. They are made through
 * RabbitMQ's management API, because a branch's user may configure nothing.
 *
 * Invariants: every step is idempotent, so that a repetition makes what is missing; a queue that exists with other
 * properties, or with fewer copies than there are nodes, is made anew, but never while it holds batches; a policy that
 * would drop batches is an error.
 */
import * as z from 'zod';
import { branchNames, ROUTING_KEYS } from '../../shared/broker/amqp-messages.ts';
import { TributaryError } from '../../shared/errors.ts';
import { requireServer } from '../../shared/server-versions.ts';
import type { BrokerUser } from '../store/broker-users.ts';
import type { ManagementAnswer, ManagementApi } from './management-api.ts';
import { branchPermissions, TOPIC_PERMISSIONS } from './permissions.ts';
import { PROBE_QUEUE } from './probe.ts';

/** RabbitMQ's default of 20 deliveries drops a batch after 20 lost connections; without any limit it changes the order. */
const DELIVERY_LIMIT = 1_000_000;
/**
 * An agent has a connection with two channels (an older one has two connections), and may replace it before the broker
 * notices that the old one is dead. Only a broker of one node has these limits: with several, each login asks all of
 * them how many connections the user has, and waits 10 s for a frozen one.
 */
const USER_LIMITS = { 'max-connections': 16, 'max-channels': 64 } as const;
/**
 * The most that may wait for one branch at the broker. A branch that floods, or is halted for weeks, would otherwise fill
 * the broker's disk and stop all branches. What the broker refuses stays in the branch's spool and is sent again.
 */
const MAX_QUEUE_BYTES = 1024 * 1024 * 1024;

/** In a cluster a queue has as many copies as there are nodes, up to this number. */
const MOST_COPIES = 5;
/** A queue that outlives the loss of a node. */
const REPLICATED = {
  'x-queue-type': 'quorum',
  'x-quorum-initial-group-size': MOST_COPIES,
  'x-queue-leader-locator': 'balanced',
  // How long to wait for a consumer whose node is gone, before another one is served: 60 s by default. From 4.3 on; older
  // brokers ignore it.
  'x-consumer-disconnected-timeout': 2_000,
} as const;
/** Of hellos and answers only the newest counts, and each is followed by another one. */
const NEWEST = { 'x-max-length': 1, 'x-overflow': 'drop-head' } as const;
const ANSWER_QUEUE = { ...REPLICATED, ...NEWEST } as const;
const HELLO_QUEUE = { ...ANSWER_QUEUE, 'x-single-active-consumer': true } as const;
/** Where the broker is one node: a quorum queue would cost it twice the memory, and writes to its disk. */
const ANSWER_QUEUE_ALONE = { 'x-queue-type': 'classic', ...NEWEST } as const;
const HELLO_QUEUE_ALONE = { ...ANSWER_QUEUE_ALONE, 'x-single-active-consumer': true } as const;
const BATCHES_QUEUE = {
  ...REPLICATED,
  'x-single-active-consumer': true,
  'x-overflow': 'reject-publish',
  'x-delivery-limit': DELIVERY_LIMIT,
  'x-max-length-bytes': MAX_QUEUE_BYTES,
} as const;

const queueSchema = z.object({
  type: z.string().optional(),
  durable: z.boolean(),
  arguments: z.record(z.string(), z.unknown()),
  /** Nodes that have a copy; a classic queue has none. */
  members: z.array(z.string()).optional(),
  messages: z.number().optional(),
});
type Queue = z.infer<typeof queueSchema>;
const queuesSchema = z.array(
  queueSchema.extend({
    name: z.string(),
    leader: z.string().optional(),
    /** Copies that take part at present. */
    online: z.array(z.string()).nullish(),
  }),
);
export type ListedQueue = z.infer<typeof queuesSchema>[number];

const userSchema = z.object({ password_hash: z.string(), hashing_algorithm: z.string() });

const grantedSchema = z.array(z.object({ user: z.string() }));
const rightsSchema = z.array(z.object({ vhost: z.string() }));
const namedSchema = z.array(z.object({ name: z.string() }));

const nodesSchema = z.array(
  z.object({
    name: z.string(),
    running: z.boolean(),
    mem_alarm: z.boolean().default(false),
    disk_free_alarm: z.boolean().default(false),
    /** Seconds; text while it changes. */
    net_ticktime: z.number().optional().catch(undefined),
  }),
);
type Nodes = z.infer<typeof nodesSchema>;

/** RabbitMQ's nodes and what they hold of the branches' queues. */
export interface BrokerCluster {
  readonly nodes: Nodes;
  readonly queues: readonly ListedQueue[];
}
const overviewSchema = z.object({
  product_name: z.string().default('RabbitMQ'),
  rabbitmq_version: z.string(),
  rates_mode: z.string().optional(),
});

const permissionsSchema = z.object({ configure: z.string(), write: z.string(), read: z.string() });

const bindingsSchema = z.array(z.object({ destination: z.string(), routing_key: z.string() }));

const consumersSchema = z.array(
  z.object({
    queue: z.object({ name: z.string() }),
    consumer_tag: z.string(),
    channel_details: z.object({ peer_host: z.string().optional() }).or(z.array(z.unknown())),
  }),
);

/** Who takes messages from a queue. */
export interface QueueConsumer {
  readonly queue: string;
  /** An applier's is the name of its instance. */
  readonly tag: string;
  /** From where it is connected; null: unknown. */
  readonly host: string | null;
}

const policySchema = z.object({
  name: z.string(),
  pattern: z.string(),
  'apply-to': z.string(),
  priority: z.number(),
  definition: z.record(z.string(), z.unknown()),
});
export type Policy = z.infer<typeof policySchema>;
const policiesSchema = z.array(policySchema);

/** What is asked of the broker for each of many branches is asked again after this time. */
const KNOWN_FOR_MS = 5_000;

/** Makes, checks and removes what branches have at the broker. */
export class Provisioning {
  readonly #api: ManagementApi;
  readonly #vhost: string;
  #isSupported = false;
  /** As last asked for branches that are made. */
  #nodesKnown: Nodes = [];
  #nodesAskedAt = -Infinity;

  constructor(api: ManagementApi, vhost: string) {
    this.#api = api;
    this.#vhost = vhost;
  }

  /** @returns what the broker is, as text @throws BROKER_SETUP for a broker that is not supported */
  async requireSupported(): Promise<string> {
    const { product_name: product, rabbitmq_version: version } = understood(
      overviewSchema,
      await this.#api.call('GET', ['overview']),
    );
    requireServer('broker', product, version);
    this.#isSupported = true;
    return `${product} ${version}`;
  }

  /**
   * RabbitMQ keeps each batch on the majority of its nodes, or does not confirm it. A node that is parted from the others
   * sees none of them; then another one is asked from now on.
   * @throws BROKER_UNCONFIRMED while fewer run
   */
  async requireMajority(): Promise<void> {
    let nodes: Nodes = [];
    let down: string[] = [];
    for (let asked = 0; asked < this.#api.places; asked += 1) {
      nodes = await this.#nodes();
      down = nodes.filter(({ running }) => !running).map(({ name }) => name);
      if ((nodes.length - down.length) * 2 > nodes.length) return;
      this.#api.leave();
    }
    const text = `${down.length} of RabbitMQ’s ${nodes.length} nodes are down (${down.join(', ')}): it confirms no batch.`;
    throw new TributaryError('BROKER_UNCONFIRMED', text, { hint: 'Start them. Nothing is lost meanwhile.' });
  }

  /**
   * Makes everything that the branch needs, as far as it is missing.
   * @param login the user's new password, or the hash of the one that it had; null: an existing user stays as it is
   * @throws BROKER_UNREACHABLE, BROKER_REFUSED, BROKER_SETUP
   */
  async ensure(branch: string, login: string | BrokerUser | null): Promise<void> {
    const names = branchNames(branch);
    const vhost = this.#vhost;
    // A broker with thousands of queues takes its time to say what it is.
    if (!this.#isSupported) await this.requireSupported();
    await this.#api.call('PUT', ['exchanges', vhost, names.exchange], {
      type: 'direct',
      durable: true,
      auto_delete: false,
      internal: false,
      arguments: {},
    });
    const nodes = await this.#nodesLately();
    for (const [queue, wanted] of queuesOf(branch, nodes.length))
      await this.#declareQueue(queue, wanted, running(nodes));
    await this.#bind(names.exchange, names.batches, ROUTING_KEYS.batch);
    await this.#bind(names.exchange, names.hello, ROUTING_KEYS.hello);
    if (login !== null || !(await this.hasUser(branch))) {
      if (login === null) throw new TributaryError('INTERNAL', `a new user for ${branch} without a password`);
      const secret =
        typeof login === 'string'
          ? { password: login }
          : { password_hash: login.passwordHash, hashing_algorithm: login.algorithm };
      await this.#api.call('PUT', ['users', names.user], { ...secret, tags: '' });
    }
    await this.#api.call('PUT', ['permissions', vhost, names.user], branchPermissions(branch));
    await this.#api.call('PUT', ['topic-permissions', vhost, names.user], TOPIC_PERMISSIONS);
    for (const [limit, value] of Object.entries(USER_LIMITS)) {
      const path = ['user-limits', names.user, limit];
      if (nodes.length === 1) await this.#api.call('PUT', path, { value });
      else await this.#api.call('DELETE', path, undefined, { accepted: [404] });
    }
    // The rest was made just now.
    await this.#checkQueue(branch);
  }

  /** Makes the queue by which appliers see whether their node takes part. Idempotent. */
  async ensureProbe(): Promise<void> {
    await this.#declareQueue(PROBE_QUEUE, ANSWER_QUEUE, running(await this.#nodes()));
  }

  hasUser(branch: string): Promise<boolean> {
    return this.#exists(['users', branchNames(branch).user]);
  }

  /** Whether the user of a fresh RabbitMQ is there, whose password everybody knows. */
  hasGuest(): Promise<boolean> {
    return this.#exists(['users', 'guest']);
  }

  /**
   * The branches whose user, permissions or exchange the broker lacks, or that have a queue as an earlier version made it,
   * or as a smaller cluster had it: what no consumer of the applier notices.
   */
  async branchesLost(branches: readonly string[]): Promise<string[]> {
    const named = async (path: readonly string[]): Promise<Set<string>> =>
      new Set(understood(namedSchema, await this.#api.call('GET', path)).map(({ name }) => name));
    const users = await named(['users']);
    const exchanges = await named(['exchanges', this.#vhost]);
    const granted = understood(grantedSchema, await this.#api.call('GET', ['vhosts', this.#vhost, 'permissions']));
    const permitted = new Set(granted.map(({ user }) => user));
    const nodes = await this.#nodes();
    const queues = new Map((await this.#queues()).map(queue => [queue.name, queue]));
    return branches.filter(branch => {
      const { user, exchange } = branchNames(branch);
      return (
        !users.has(user) ||
        !permitted.has(user) ||
        !exchanges.has(exchange) ||
        queuesOf(branch, nodes.length).some(([name, wanted]) => mayReplace(queues.get(name), wanted, running(nodes)))
      );
    });
  }

  /** Whether the broker keeps figures of each queue and connection over time, for its own page. */
  async keepsRates(): Promise<boolean> {
    const { rates_mode: mode } = understood(overviewSchema, await this.#api.call('GET', ['overview']));
    return mode !== undefined && mode !== 'none';
  }

  /** The nodes, and the queues of these branches that are there. */
  async cluster(branches: readonly string[]): Promise<BrokerCluster> {
    const ours = new Set(branches.flatMap(queueNames));
    const queues = await this.#queues();
    return { nodes: await this.#nodes(), queues: queues.filter(({ name }) => ours.has(name)) };
  }

  async #queues(): Promise<ListedQueue[]> {
    // Without statistics, which take the broker's time.
    const columns = 'name,type,durable,arguments,members,online,leader,messages';
    const query = `disable_stats=true&enable_queue_totals=true&columns=${columns}`;
    return understood(queuesSchema, await this.#api.call('GET', ['queues', this.#vhost], undefined, { query }));
  }

  async #nodesLately(): Promise<Nodes> {
    if (performance.now() - this.#nodesAskedAt > KNOWN_FOR_MS) {
      this.#nodesKnown = await this.#nodes();
      this.#nodesAskedAt = performance.now();
    }
    return this.#nodesKnown;
  }

  async #nodes(): Promise<Nodes> {
    return understood(nodesSchema, await this.#api.call('GET', ['nodes']));
  }

  /** Everybody who takes messages from a queue of the virtual host. */
  async consumers(): Promise<QueueConsumer[]> {
    const found = understood(consumersSchema, await this.#api.call('GET', ['consumers', this.#vhost]));
    return found.map(({ queue, consumer_tag: tag, channel_details: channel }) => ({
      queue: queue.name,
      tag,
      host: Array.isArray(channel) ? null : (channel.peer_host ?? null),
    }));
  }

  /** The hash of the user's password as the broker stores it. @throws BROKER_SETUP when there is no such user */
  async userOf(branch: string): Promise<BrokerUser> {
    const user = understood(userSchema, await this.#api.call('GET', ['users', branchNames(branch).user]));
    return { passwordHash: user.password_hash, algorithm: user.hashing_algorithm };
  }

  /** Makes the virtual host if it is not there, and gives the applier its rights in it. */
  async ensureVhost(applierUser: string): Promise<void> {
    const { status } = await this.#api.call('GET', ['vhosts', this.#vhost], undefined, { accepted: [404] });
    if (status !== 404) return;
    await this.#api.call('PUT', ['vhosts', this.#vhost], {});
    const all = { configure: '.*', write: '.*', read: '.*' };
    await this.#api.call('PUT', ['permissions', this.#vhost, applierUser], all);
  }

  /**
   * Other virtual hosts in which the branch's user has rights. They are those of other head offices at this broker: users
   * are the broker's, and a branch belongs to one head office.
   */
  async otherVhosts(branch: string): Promise<string[]> {
    if (!this.#isSupported) await this.requireSupported();
    const path = ['users', branchNames(branch).user, 'permissions'];
    const answer = await this.#api.call('GET', path, undefined, { accepted: [404] });
    if (answer.status === 404) return [];
    return understood(rightsSchema, answer).flatMap(({ vhost }) => (vhost === this.#vhost ? [] : [vhost]));
  }

  /**
   * Deletes all of it, and ends the branch's connections. What is gone already is no fault. Where another head office at
   * this broker has the branch by now, the user and its connections stay: they are to that one.
   */
  async remove(branch: string): Promise<void> {
    const names = branchNames(branch);
    // The user first: its connections are closed, so nothing arrives while the rest is deleted.
    const isElsewhere = (await this.otherVhosts(branch)).length > 0;
    const user = isElsewhere ? ['permissions', this.#vhost, names.user] : ['users', names.user];
    await this.#api.call('DELETE', user, undefined, { accepted: [404] });
    if (!isElsewhere) {
      await this.#api.call('DELETE', ['connections', 'username', names.user], undefined, { accepted: [404] });
    }
    await this.#api.call('DELETE', ['exchanges', this.#vhost, names.exchange], undefined, { accepted: [404] });
    for (const queue of queueNames(branch)) {
      await this.#api.call('DELETE', ['queues', this.#vhost, queue], undefined, { accepted: [404] });
    }
  }

  /**
   * Whether all that the branch needs is there and as it must be, effective policies included.
   * @throws BROKER_SETUP naming what is missing, or queue, setting and policy
   */
  async check(branch: string): Promise<void> {
    const missing = await this.#missing(branch);
    if (missing.length > 0) {
      throw new TributaryError('BROKER_SETUP', `RabbitMQ lacks ${missing.join(', ')}.`, {
        hint: `A running applier makes it again within a minute. Otherwise run \`tributary-applier branch rotate ${branch} --out FILE\`, and enrol the branch with that file.`,
      });
    }
    await this.#checkQueue(branch);
  }

  /** @throws BROKER_SETUP naming queue, setting and policy */
  async #checkQueue(branch: string): Promise<void> {
    const names = branchNames(branch);
    const queue = understood(queueSchema, await this.#api.call('GET', ['queues', this.#vhost, names.batches]));
    // The policies themselves: the queue's own account of its effective policy lags some seconds behind.
    const policies = understood(policiesSchema, await this.#api.call('GET', ['policies', this.#vhost]));
    const operators = understood(policiesSchema, await this.#api.call('GET', ['operator-policies', this.#vhost]));
    const effective = [...effectivePolicies(policies, names.batches), ...effectivePolicies(operators, names.batches)];
    const faults = queueFaults(queue, effective);
    if (faults.length === 0) return;
    throw new TributaryError('BROKER_SETUP', `${names.batches}: ${faults.join('; ')}.`, {
      hint:
        effective.length === 0
          ? 'Delete the queue once it is empty: the running applier makes it again.'
          : `Change the policy ${effective.map(policy => policy.name).join(', ')} so that it does not match queues named tributary.batches.*: rabbitmqctl list_policies -p ${this.#vhost}.`,
    });
  }

  /** What `ensure` makes and the broker does not have, in words. */
  async #missing(branch: string): Promise<string[]> {
    const names = branchNames(branch);
    const missing: string[] = [];
    if (!(await this.hasUser(branch))) missing.push(`the user ${names.user}`);
    else if (!(await this.#hasPermissions(branch))) missing.push(`permissions of the user ${names.user}`);
    for (const queue of queueNames(branch)) {
      if (!(await this.#exists(['queues', this.#vhost, queue]))) missing.push(`the queue ${queue}`);
    }
    const exchange = ['exchanges', this.#vhost, names.exchange];
    if (!(await this.#exists(exchange))) return [...missing, `the exchange ${names.exchange}`];
    const bound = understood(bindingsSchema, await this.#api.call('GET', [...exchange, 'bindings', 'source']));
    for (const [queue, key] of [
      [names.batches, ROUTING_KEYS.batch],
      [names.hello, ROUTING_KEYS.hello],
    ] as const) {
      if (!bound.some(({ destination, routing_key }) => destination === queue && routing_key === key))
        missing.push(`the binding of ${queue}`);
    }
    return missing;
  }

  async #hasPermissions(branch: string): Promise<boolean> {
    const path = ['permissions', this.#vhost, branchNames(branch).user];
    const answer = await this.#api.call('GET', path, undefined, { accepted: [404] });
    if (answer.status === 404) return false;
    const found = understood(permissionsSchema, answer);
    return Object.entries(branchPermissions(branch)).every(
      ([right, pattern]) => found[right as keyof typeof found] === pattern,
    );
  }

  async #exists(path: readonly string[]): Promise<boolean> {
    return (await this.#api.call('GET', path, undefined, { accepted: [404] })).status === 200;
  }

  /**
   * Makes the queue, anew where it exists otherwise. That the management API deletes it helps also where a classic queue's
   * node is down: to declare that one would never end.
   */
  async #declareQueue(name: string, wanted: Arguments, nodes: number): Promise<void> {
    const path = ['queues', this.#vhost, name];
    const answer = await this.#api.call('GET', path, undefined, { accepted: [404] });
    if (answer.status !== 404) {
      if (!mayReplace(understood(queueSchema, answer), wanted, nodes)) return;
      await this.#api.call('DELETE', path, undefined, { accepted: [404] });
    }
    await this.#api.call('PUT', path, { durable: true, auto_delete: false, arguments: wanted });
  }

  async #bind(exchange: string, queue: string, routingKey: string): Promise<void> {
    await this.#api.call('POST', ['bindings', this.#vhost, 'e', exchange, 'q', queue], {
      routing_key: routingKey,
      arguments: {},
    });
  }
}

function running(nodes: Nodes): number {
  return nodes.filter(node => node.running).length;
}

type Arguments = Readonly<Record<string, unknown>>;

/**
 * A branch's queues with their arguments.
 * @param nodes of the broker, those that are down included
 */
export function queuesOf(branch: string, nodes: number): (readonly [string, Arguments])[] {
  const { batches, hello, answer } = branchNames(branch);
  const [hellos, answers] = nodes > 1 ? [HELLO_QUEUE, ANSWER_QUEUE] : [HELLO_QUEUE_ALONE, ANSWER_QUEUE_ALONE];
  return [
    [batches, BATCHES_QUEUE],
    [hello, hellos],
    [answer, answers],
  ];
}

function queueNames(branch: string): readonly string[] {
  const { batches, hello, answer } = branchNames(branch);
  return [batches, hello, answer];
}

/**
 * Whether a queue must and may be made (anew): it is not there, has other arguments, or fewer copies than nodes run. A
 * hello or an answer in it is followed by another one. Batches in it would come again too, but there may be a gigabyte of
 * them; so their queue is left as it is until it is empty. A quorum queue does what a classic one does, so it stays. Pure.
 */
export function mayReplace(queue: Queue | undefined, wanted: Arguments, runningNodes: number): boolean {
  if (queue === undefined) return true;
  // What the broker does not say is no reason to delete anything.
  if (wanted === BATCHES_QUEUE && queue.messages !== 0) return false;
  const isOther = Object.entries(wanted).some(
    ([name, value]) => queue.arguments[name] !== value && !(name === 'x-queue-type' && value === 'classic'),
  );
  return isOther || !queue.durable || (queue.members?.length ?? MOST_COPIES) < Math.min(MOST_COPIES, runningNodes);
}

/**
 * The policies that may be in force for a quorum queue: those of the highest priority that match. RabbitMQ applies one of
 * them, and does not say which. Pure.
 */
export function effectivePolicies(policies: readonly Policy[], queue: string): Policy[] {
  const matching = policies.filter(
    policy => ['queues', 'quorum_queues', 'all'].includes(policy['apply-to']) && matches(policy.pattern, queue),
  );
  const highest = Math.max(...matching.map(policy => policy.priority));
  return matching.filter(policy => policy.priority === highest);
}

/** What is wrong with a queue for batches; pure. */
export function queueFaults(queue: Queue, policies: readonly Policy[]): string[] {
  const faults: string[] = [];
  const type = queue.type ?? queue.arguments['x-queue-type'];
  if (type !== 'quorum') faults.push(`it is a ${String(type)} queue instead of a quorum queue`);
  if (!queue.durable) faults.push('it is not durable');
  if (queue.arguments['x-single-active-consumer'] !== true) faults.push('it has no single active consumer');
  const overflow = queue.arguments['x-overflow'];
  if (overflow !== 'reject-publish') faults.push(`overflow ${JSON.stringify(overflow)} drops batches silently`);
  for (const { name, definition } of policies) {
    const policyOverflow = definition['overflow'];
    if (policyOverflow !== undefined && policyOverflow !== 'reject-publish') {
      faults.push(`policy ${name} sets overflow ${JSON.stringify(policyOverflow)}, which drops batches`);
    }
    for (const limit of ['message-ttl', 'expires', 'max-age']) {
      if (definition[limit] !== undefined) faults.push(`policy ${name} sets ${limit}, which drops batches`);
    }
    const deliveries = definition['delivery-limit'];
    if (typeof deliveries === 'number' && deliveries >= 0 && deliveries < DELIVERY_LIMIT) {
      faults.push(`policy ${name} limits deliveries to ${deliveries}, after which a batch is dropped`);
    }
  }
  return faults;
}

/** RabbitMQ's patterns are Erlang's; one that JavaScript does not understand counts as a match, to be on the safe side. */
function matches(pattern: string, name: string): boolean {
  try {
    return new RegExp(pattern).test(name);
  } catch {
    return true;
  }
}

function understood<T>(schema: z.ZodType<T>, answer: ManagementAnswer): T {
  const result = schema.safeParse(answer.body);
  if (result.success) return result.data;
  throw new TributaryError('BROKER_SETUP', 'RabbitMQ’s management API answers in a form that is not understood.', {
    hint: 'Is it RabbitMQ that answers at broker.management, or another server or a proxy?',
  });
}
