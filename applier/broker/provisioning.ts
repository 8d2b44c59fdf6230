/**
 * What a branch has at the broker: an exchange, three queues, bindings, a user and its rights. They are made through
 * RabbitMQ's management API, because a branch's user may configure nothing.
 *
 * Invariants: every step is idempotent, so that a repetition makes what is missing; whatever exists with other
 * properties is refused, never changed; a policy that would drop batches is an error.
 */
import * as z from 'zod';
import { branchNames, ROUTING_KEYS } from '../../shared/broker/amqp-messages.ts';
import { TributaryError } from '../../shared/errors.ts';
import { requireServer } from '../../shared/server-versions.ts';
import type { BrokerUser } from '../store/broker-users.ts';
import type { ManagementAnswer, ManagementApi } from './management-api.ts';
import { branchPermissions, TOPIC_PERMISSIONS } from './permissions.ts';

/** RabbitMQ's default of 20 deliveries drops a batch after 20 lost connections; without any limit it changes the order. */
const DELIVERY_LIMIT = 1_000_000;
/** An agent has two connections, and may replace each before the broker notices that the old one is dead. */
const MAX_CONNECTIONS = 16;
/** Three a connection. */
const MAX_CHANNELS = 64;
/**
 * The most that may wait for one branch at the broker. A branch that floods, or is halted for weeks, would otherwise fill
 * the broker's disk and stop all branches. What the broker refuses stays in the branch's spool and is sent again.
 */
const MAX_QUEUE_BYTES = 1024 * 1024 * 1024;

const HELLO_QUEUE = { 'x-queue-type': 'classic', 'x-max-length': 1, 'x-overflow': 'drop-head' } as const;
const BATCHES_QUEUE = {
  'x-queue-type': 'quorum',
  'x-single-active-consumer': true,
  'x-overflow': 'reject-publish',
  'x-delivery-limit': DELIVERY_LIMIT,
  'x-max-length-bytes': MAX_QUEUE_BYTES,
} as const;

const queueSchema = z.object({
  type: z.string().optional(),
  durable: z.boolean(),
  arguments: z.record(z.string(), z.unknown()),
});
type Queue = z.infer<typeof queueSchema>;

const userSchema = z.object({ password_hash: z.string(), hashing_algorithm: z.string() });

const grantedSchema = z.array(z.object({ user: z.string() }));
const namedSchema = z.array(z.object({ name: z.string() }));

const nodesSchema = z.array(z.object({ name: z.string(), running: z.boolean() }));
const overviewSchema = z.object({ product_name: z.string().default('RabbitMQ'), rabbitmq_version: z.string() });

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

/** Makes, checks and removes what branches have at the broker. */
export class Provisioning {
  readonly #api: ManagementApi;
  readonly #vhost: string;

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
    return `${product} ${version}`;
  }

  /**
   * RabbitMQ keeps each batch on the majority of its nodes, or does not confirm it.
   * @throws BROKER_UNCONFIRMED while fewer run
   */
  async requireMajority(): Promise<void> {
    const nodes = understood(nodesSchema, await this.#api.call('GET', ['nodes']));
    const down = nodes.filter(({ running }) => !running).map(({ name }) => name);
    if ((nodes.length - down.length) * 2 > nodes.length) return;
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
    await this.requireSupported();
    await this.#api.call('PUT', ['exchanges', vhost, names.exchange], {
      type: 'direct',
      durable: true,
      auto_delete: false,
      internal: false,
      arguments: {},
    });
    await this.#declareQueue(names.batches, BATCHES_QUEUE);
    await this.#declareQueue(names.hello, HELLO_QUEUE);
    await this.#declareQueue(names.answer, HELLO_QUEUE);
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
    await this.#api.call('PUT', ['user-limits', names.user, 'max-connections'], { value: MAX_CONNECTIONS });
    await this.#api.call('PUT', ['user-limits', names.user, 'max-channels'], { value: MAX_CHANNELS });
    await this.check(branch);
  }

  hasUser(branch: string): Promise<boolean> {
    return this.#exists(['users', branchNames(branch).user]);
  }

  /** Whether the user of a fresh RabbitMQ is there, whose password everybody knows. */
  hasGuest(): Promise<boolean> {
    return this.#exists(['users', 'guest']);
  }

  /** The branches whose user, permissions or exchange the broker lacks: a loss that no consumer of the applier notices. */
  async branchesLost(branches: readonly string[]): Promise<string[]> {
    const named = async (path: readonly string[]): Promise<Set<string>> =>
      new Set(understood(namedSchema, await this.#api.call('GET', path)).map(({ name }) => name));
    const users = await named(['users']);
    const exchanges = await named(['exchanges', this.#vhost]);
    const granted = understood(grantedSchema, await this.#api.call('GET', ['vhosts', this.#vhost, 'permissions']));
    const permitted = new Set(granted.map(({ user }) => user));
    return branches.filter(branch => {
      const { user, exchange } = branchNames(branch);
      return !users.has(user) || !permitted.has(user) || !exchanges.has(exchange);
    });
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
    const { status } = await this.#api.call('GET', ['vhosts', this.#vhost], undefined, [404]);
    if (status !== 404) return;
    await this.#api.call('PUT', ['vhosts', this.#vhost], {});
    const all = { configure: '.*', write: '.*', read: '.*' };
    await this.#api.call('PUT', ['permissions', this.#vhost, applierUser], all);
  }

  /** Deletes all of it, and ends the branch's connections. What is gone already is no fault. */
  async remove(branch: string): Promise<void> {
    const names = branchNames(branch);
    // The user first: its connections are closed, so nothing arrives while the rest is deleted.
    await this.#api.call('DELETE', ['users', names.user], undefined, [404]);
    await this.#api.call('DELETE', ['connections', 'username', names.user], undefined, [404]);
    await this.#api.call('DELETE', ['exchanges', this.#vhost, names.exchange], undefined, [404]);
    for (const queue of [names.batches, names.hello, names.answer]) {
      await this.#api.call('DELETE', ['queues', this.#vhost, queue], undefined, [404]);
    }
  }

  /**
   * Whether all that the branch needs is there and as it must be, effective policies included.
   * @throws BROKER_SETUP naming what is missing, or queue, setting and policy
   */
  async check(branch: string): Promise<void> {
    const names = branchNames(branch);
    const missing = await this.#missing(branch);
    if (missing.length > 0) {
      throw new TributaryError('BROKER_SETUP', `RabbitMQ lacks ${missing.join(', ')}.`, {
        hint: `A running applier makes it again within a minute. Otherwise run \`tributary-applier branch rotate ${branch} --out FILE\`, and enrol the branch with that file.`,
      });
    }
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
    for (const queue of [names.batches, names.hello, names.answer]) {
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
    const answer = await this.#api.call('GET', path, undefined, [404]);
    if (answer.status === 404) return false;
    const found = understood(permissionsSchema, answer);
    return Object.entries(branchPermissions(branch)).every(
      ([right, pattern]) => found[right as keyof typeof found] === pattern,
    );
  }

  async #exists(path: readonly string[]): Promise<boolean> {
    return (await this.#api.call('GET', path, undefined, [404])).status === 200;
  }

  async #declareQueue(name: string, args: Readonly<Record<string, unknown>>): Promise<void> {
    await this.#api.call('PUT', ['queues', this.#vhost, name], { durable: true, auto_delete: false, arguments: args });
  }

  async #bind(exchange: string, queue: string, routingKey: string): Promise<void> {
    await this.#api.call('POST', ['bindings', this.#vhost, 'e', exchange, 'q', queue], {
      routing_key: routingKey,
      arguments: {},
    });
  }
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
