/**
 * The faults of the cluster stage: of a broker's nodes, of the database group's members, and of machines that hold one of
 * each and an applier. Each lasts as long as the seed says, and is mended by what whoever runs the servers would do.
 */
import { basename, dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { BrokerServer } from '../../deploy/rig/broker-server.ts';
import type { Product } from '../../deploy/rig/daemon.ts';
import type { DatabaseServer } from '../../deploy/rig/database-server.ts';
import type { Chance } from './chance.ts';
import type { ClusterStage, Machine } from './cluster-stage.ts';
import { COMMON_FAULTS, killed, someApplier } from './common-faults.ts';
import type { FaultCall, Faults } from './fault.ts';
import { SOURCE_FAULTS } from './source-faults.ts';

type Call = FaultCall<ClusterStage>;

/** Sometimes shorter than anything takes to notice, sometimes longer. */
const aWhile = (chance: Chance): Promise<void> =>
  sleep(chance.pick([1_000, 4_000, 9_000, 16_000]) + chance.below(2_000));

/** The same, or until every branch has moved on by itself: what is left must do without what is lost. */
async function untilNoticed(call: Call): Promise<void> {
  if (call.chance.below(3) > 0) await aWhile(call.chance);
  else await movedAlone(call);
}

async function movedAlone(call: Call): Promise<void> {
  const over = new AbortController();
  const supervised = call.stage.supervise(over.signal);
  try {
    await call.stage.moved();
  } finally {
    over.abort();
    await supervised;
  }
  call.note('every branch has moved on');
}

const someNode = ({ stage, chance }: Call): BrokerServer => chance.pick(stage.brokers.nodes);

/** Mostly the member that takes writes: the loss of another one is hardly noticed. */
async function someMember({ stage, chance }: Call): Promise<DatabaseServer> {
  const other = chance.pick(stage.group.members);
  return chance.below(4) === 0 ? other : ((await stage.group.primary()) ?? other);
}

/** All but one. */
function most<T>(all: readonly T[], chance: Chance): readonly T[] {
  const left = chance.pick(all);
  return all.filter(each => each !== left);
}

async function restartNodes(nodes: readonly BrokerServer[]): Promise<void> {
  await Promise.all(nodes.map(node => node.restart()));
}

const NODE_FAULTS: Faults<ClusterStage> = {
  'node-killed': {
    weight: 4,
    run: async call => {
      const node = someNode(call);
      call.note(node.name);
      await node.kill();
      await untilNoticed(call);
      await node.restart();
    },
  },
  'node-frozen': {
    weight: 4,
    run: async call => {
      const node = someNode(call);
      call.note(node.name);
      node.pause();
      await untilNoticed(call);
      node.resume();
    },
  },
  'node-parted': {
    weight: 3,
    run: async call => {
      const node = someNode(call);
      const how = call.chance.pick(['cut', 'black-hole'] as const);
      call.note(`${node.name}, ${how}`);
      await call.stage.brokers.part([node], how);
      await untilNoticed(call);
      await call.stage.brokers.join();
    },
  },
  'node-emptied': {
    weight: 1,
    run: async call => {
      const node = someNode(call);
      call.note(node.name);
      await call.stage.brokers.replace(node);
    },
  },
  'nodes-restarted-in-turn': {
    weight: 1,
    run: async ({ stage }) => {
      for (const node of stage.brokers.nodes) await node.restart();
    },
  },
  'two-nodes-killed': {
    weight: 2,
    run: async call => {
      const lost = most(call.stage.brokers.nodes, call.chance);
      await Promise.all(lost.map(node => node.kill()));
      await aWhile(call.chance);
      await restartNodes(lost);
    },
  },
  'all-nodes-killed': {
    weight: 1,
    run: async ({ stage, chance }) => {
      await Promise.all(stage.brokers.nodes.map(node => node.kill()));
      await aWhile(chance);
      await restartNodes(stage.brokers.nodes);
    },
  },
};

const MEMBER_FAULTS: Faults<ClusterStage> = {
  'member-killed': {
    weight: 4,
    run: async call => {
      const member = await someMember(call);
      call.note(member.name);
      await member.kill();
      await untilNoticed(call);
      await call.stage.mend();
    },
  },
  'member-frozen': {
    weight: 4,
    run: async call => {
      const member = await someMember(call);
      call.note(member.name);
      member.pause();
      await untilNoticed(call);
      member.resume();
      await call.stage.mend();
    },
  },
  'member-parted': {
    weight: 3,
    run: async call => {
      const { group } = call.stage;
      const member = await someMember(call);
      const how = call.chance.pick(['cut', 'black-hole'] as const);
      // The appliers may still reach it, and then have to see that it is alone.
      const door = call.chance.below(2) === 0 ? group.doors[group.members.indexOf(member)] : undefined;
      call.note(`${member.name}, ${how}${door === undefined ? '' : ', from the appliers too'}`);
      await group.part([member], how);
      await door?.set({ mode: how });
      await untilNoticed(call);
      await door?.heal();
      await call.stage.mend();
    },
  },
  'member-emptied': {
    weight: 1,
    run: async call => {
      const member = await someMember(call);
      call.note(member.name);
      await call.stage.group.replace(member);
      await call.stage.mend();
    },
  },
  'members-restarted-in-turn': {
    weight: 1,
    run: async ({ stage }) => {
      for (const member of stage.group.members) {
        await stage.group.restart(member);
        await stage.mend();
      }
    },
  },
  'two-members-killed': {
    weight: 2,
    run: async call => {
      const lost = most(call.stage.group.members, call.chance);
      await Promise.all(lost.map(member => member.kill()));
      await aWhile(call.chance);
      await call.stage.mend();
    },
  },
};

async function someMachine(call: Call): Promise<Machine> {
  const machine = { node: someNode(call), member: await someMember(call), applier: someApplier(call) };
  call.note([machine.node.name, machine.member.name, nameOf(machine.applier)].join(', '));
  return machine;
}

const nameOf = (product: Product): string => basename(dirname(product.configFile));

/** A node, a member and an applier on one machine. */
const MACHINE_FAULTS: Faults<ClusterStage> = {
  'machine-killed': {
    weight: 3,
    run: async call => {
      const { node, member, applier } = await someMachine(call);
      await Promise.all([node.kill(), member.kill(), killed(applier, call.chance)]);
      await untilNoticed(call);
      await call.stage.mend();
    },
  },
  'machine-frozen': {
    weight: 3,
    run: async call => {
      const { node, member, applier } = await someMachine(call);
      for (const each of [node, member, applier]) each.pause();
      await untilNoticed(call);
      for (const each of [node, member, applier]) each.resume();
      await call.stage.mend();
    },
  },
  'machines-scattered': {
    weight: 1,
    run: async call => {
      const { brokers, group } = call.stage;
      const how = call.chance.pick(['cut', 'black-hole'] as const);
      call.note(how);
      await Promise.all([brokers.scatter(how), group.scatter(how)]);
      await aWhile(call.chance);
      await Promise.all([brokers.join(), group.heal()]);
      // Nobody has lost anything but the network.
      await movedAlone(call);
      await call.stage.mend();
    },
  },
  'machine-parted': {
    weight: 3,
    run: async call => {
      const machine = await someMachine(call);
      const how = call.chance.pick(['cut', 'black-hole'] as const);
      // Branches that still reach it have to see that it is alone.
      const alone = call.chance.below(2) === 0;
      call.note(`${how}${alone ? ', from the branches too' : ''}`);
      await call.stage.part(machine, how, alone);
      await untilNoticed(call);
      await call.stage.mend();
    },
  },
};

/** Of a branch's own servers those that cost nothing. */
const { 'source-killed': sourceKilled, 'source-failover-clean': failover } = SOURCE_FAULTS;

export const CLUSTER_FAULTS: Faults<ClusterStage> = {
  ...Object.fromEntries(Object.entries(COMMON_FAULTS).map(([name, { run }]) => [name, { weight: 1, run }])),
  ...(sourceKilled === undefined ? {} : { 'source-killed': { ...sourceKilled, weight: 1 } }),
  ...(failover === undefined ? {} : { 'source-failover-clean': { ...failover, weight: 1 } }),
  ...NODE_FAULTS,
  ...MEMBER_FAULTS,
  ...MACHINE_FAULTS,
};
