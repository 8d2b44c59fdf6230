/** What `check` finds at RabbitMQ: the login, the version, and what each branch needs there. Writes nothing. */
import { connectBroker } from '../shared/broker/amqp.ts';
import { branchNames } from '../shared/broker/amqp-messages.ts';
import { codeOf } from '../shared/broker/amqp-link.ts';
import { brokerAccess } from '../shared/config/link-settings.ts';
import { TributaryError } from '../shared/errors.ts';
import { fault, faultOf, ok, warning } from '../shared/process/findings.ts';
import type { Finding } from '../shared/process/findings.ts';
import { managementApi } from './broker/management-api.ts';
import { Provisioning } from './broker/provisioning.ts';
import type { BrokerCluster, QueueConsumer } from './broker/provisioning.ts';
import type { ApplierConfig } from './config.ts';
import { shellWord } from '../shared/process/shell-word.ts';
import { brokerCommands } from './grants.ts';

/** What the head office's database says of the branches and appliers. */
export interface HeadOfficeFacts {
  /** Branches that were added and not removed. */
  readonly branches: readonly string[];
  /** Instances of the appliers that run. */
  readonly appliers: readonly string[];
}

type Broker = ApplierConfig['broker'];

/** With more, a frozen node keeps branches waiting for longer than the loss of anything else does. */
const MOST_TICK_SECONDS = 15;
/** From so many branches on, RabbitMQ's figures for its own page are worth saving (docs/sizing.md). */
const LARGE_FLEET = 500;

export async function checkBroker(broker: Broker, { branches, appliers }: HeadOfficeFacts): Promise<Finding[]> {
  const findings = [await checkLogin(broker)];
  const provisioning = new Provisioning(managementApi(broker), broker.vhost);
  try {
    findings.push(ok('broker.management', await provisioning.requireSupported()));
    await provisioning.requireMajority();
    findings.push(...clusterFindings(await provisioning.cluster(branches)));
    if (branches.length >= LARGE_FLEET) findings.push(ratesFinding(await provisioning.keepsRates()));
    if (await provisioning.hasGuest()) findings.push(guestFinding(broker));
    if (findings.some(({ level }) => level === 'fault')) return findings;
    if (branches.length > 0) findings.push(...consumerFindings(await provisioning.consumers(), branches, appliers));
  } catch (error) {
    return [...findings, managementFault(broker, error)];
  }
  for (const branch of branches) findings.push(await checkBranch(provisioning, branch));
  return findings;
}

async function checkLogin(broker: Broker): Promise<Finding> {
  try {
    const connection = await connectBroker({ ...brokerAccess(broker), purpose: 'tributary-applier check' });
    await connection.close();
    return ok('broker', `${String(broker.addresses)} accepts ${broker.user}`);
  } catch (error) {
    return loginFault(broker, error);
  }
}

/** Where RabbitMQ refuses, with the commands in their order. A wrong password hides what else is missing. */
function loginFault(broker: Broker, error: unknown): Finding {
  if (!(error instanceof TributaryError) || error.code !== 'BROKER_REFUSED') return faultOf('broker', error);
  const unknown = codeOf(error.cause) === 'ACCESS_REFUSED';
  const { user, vhost } = broker;
  const commands = [
    ...(unknown ? [`rabbitmqctl add_user ${shellWord(user)}`] : []),
    `rabbitmqctl add_vhost ${shellWord(vhost)}`,
    ...brokerCommands(broker),
  ];
  const hint =
    'add_user asks for the password: type that of broker.passwordFile. ' +
    `If the user ${user} exists: rabbitmqctl change_password ${shellWord(user)}`;
  return fault('broker', error.code, error.message, {
    statement: commands.join('; '),
    ...(unknown ? { hint } : {}),
  });
}

function managementFault(broker: Broker, error: unknown): Finding {
  if (!(error instanceof TributaryError) || error.code !== 'BROKER_REFUSED') return faultOf('broker.management', error);
  const { user } = broker.management;
  const another = user === broker.user ? [] : [`rabbitmqctl add_user ${shellWord(user)}`];
  return fault('broker.management', error.code, error.message, {
    statement: [...another, `rabbitmqctl set_user_tags ${shellWord(user)} administrator`].join('; '),
    hint: `first make the finding "broker" pass, if there is one`,
  });
}

function guestFinding(broker: Broker): Finding {
  const used = [broker.user, broker.management.user].includes('guest');
  return warning('broker.guest', 'RabbitMQ still has the user guest, whose password is known to everybody', {
    statement: 'rabbitmqctl delete_user guest',
    ...(used ? { hint: 'first give the applier a user of its own in broker.url and broker.management' } : {}),
  });
}

/** What a large fleet should not have. Pure. */
export function ratesFinding(keepsRates: boolean): Finding {
  const subject = 'broker.statistics';
  if (!keepsRates) return ok(subject, 'few, as is good for a large fleet');
  const text =
    'RabbitMQ keeps figures of each queue and connection every 5 s, which costs it nearly as much as the branches do';
  return warning(subject, text, {
    hint: 'put the settings for large fleets (docs/sizing.md) into rabbitmq.conf, and restart RabbitMQ',
  });
}

/** What a cluster's nodes lack, and alarms; of a single node only those. Pure. */
export function clusterFindings({ nodes, queues }: BrokerCluster): Finding[] {
  const alarms = nodes.flatMap(({ name, mem_alarm: memory, disk_free_alarm: disk }) =>
    memory || disk ? [`${name} (${[...(memory ? ['memory'] : []), ...(disk ? ['disk'] : [])].join(' and ')})`] : [],
  );
  const findings =
    alarms.length === 0
      ? []
      : [fault('broker.alarms', 'BROKER_BLOCKED', `RabbitMQ takes nothing: ${alarms.join(', ')}`)];
  if (nodes.length === 1) return findings;
  findings.push(...tickFindings(nodes));
  const down = nodes.filter(({ running }) => !running).map(({ name }) => name);
  const behind = queues.filter(({ members = [], online }) => (online?.length ?? members.length) < members.length);
  const led = [...Map.groupBy(queues, ({ leader }) => leader ?? 'nobody')].map(
    ([node, { length }]) => `${node} ${length}`,
  );
  const copies = `leaders of queues: ${led.sort().join(', ') || 'none yet'}`;
  if (down.length === 0 && behind.length === 0)
    return [...findings, ok('broker.cluster', `${nodes.length} nodes run; ${copies}`)];
  const missing =
    down.length > 0
      ? `${down.length} of ${nodes.length} nodes are down (${down.join(', ')}); another loss may stop everything`
      : `${behind.length} queues have a copy that does not take part, such as ${behind[0]?.name ?? ''}`;
  return [
    ...findings,
    warning('broker.cluster', `${missing}; ${copies}`, {
      hint: 'start the node, or see its log: rabbitmqctl cluster_status',
    }),
  ];
}

/** How soon a frozen node counts as gone. */
function tickFindings(nodes: BrokerCluster['nodes']): Finding[] {
  const ticks = nodes.flatMap(({ net_ticktime: seconds }) => (seconds === undefined ? [] : [seconds]));
  if (ticks.length === 0) return [];
  const most = Math.max(...ticks);
  const subject = 'broker.net_ticktime';
  if (most <= MOST_TICK_SECONDS) return [ok(subject, `${most} s`)];
  const text = `is ${most} s: branches that a frozen node serves stand still for about as long`;
  return [
    warning(subject, text, {
      hint: 'set net_ticktime = 10 in rabbitmq.conf of every node, and restart them one after the other',
    }),
  ];
}

/**
 * Programs that take branches' messages and are no applier of this head office. RabbitMQ gives each queue to one consumer
 * at a time, so such a program starves the appliers, and what it acknowledges arrives nowhere. Pure.
 */
export function consumerFindings(
  consumers: readonly QueueConsumer[],
  branches: readonly string[],
  appliers: readonly string[],
): Finding[] {
  const ours = new Set(branches.flatMap(branch => [branchNames(branch).batches, branchNames(branch).hello]));
  const foreign = consumers.filter(({ queue, tag }) => ours.has(queue) && !appliers.includes(tag));
  return [...Map.groupBy(foreign, ({ tag, host }) => `${tag} (at ${host ?? 'an unknown address'})`)].map(
    ([program, [first, ...more]]) =>
      fault(
        'broker.consumers',
        'BROKER_SETUP',
        `${program} consumes ${first?.queue ?? ''}${more.length === 0 ? '' : ` and ${more.length} more of our queues`}, ` +
          'and is not an applier of this head office',
        {
          hint:
            'stop that program, or give it a virtual host of its own: ' +
            'a copy of the head office, such as a staging system, must not use the same one',
        },
      ),
  );
}

async function checkBranch(provisioning: Provisioning, branch: string): Promise<Finding> {
  try {
    await provisioning.check(branch);
    return ok(`branch ${branch}`, 'RabbitMQ has all that it needs');
  } catch (error) {
    return faultOf(`branch ${branch}`, error);
  }
}
