/** Faults that every stage has: of links, agents and appliers. Each mends what it breaks. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Product } from '../../deploy/rig/daemon.ts';
import type { FaultProxy } from '../../deploy/rig/fault-proxy.ts';
import type { Chance } from './chance.ts';
import { briefly, some } from './fault.ts';
import type { FaultCall, Faults } from './fault.ts';
import type { Link } from './stage.ts';

export const someApplier = ({ stage, chance }: FaultCall): Product => chance.pick(stage.appliers);

async function all(link: Link, change: (proxy: FaultProxy) => Promise<void>): Promise<void> {
  await Promise.all(link.map(change));
}

function reset(link: Link): void {
  for (const proxy of link) proxy.reset();
}

async function withLink(call: FaultCall, fault: (link: Link) => Promise<void>): Promise<void> {
  const link = call.chance.pick(call.stage.links);
  await fault(link);
  await all(link, each => each.heal());
}

export async function killed(product: Product, chance: Chance): Promise<void> {
  await product.kill9();
  await sleep(chance.between(0, 1_500));
  await product.start();
}

export const COMMON_FAULTS: Faults = {
  'link-cut': {
    weight: 4,
    run: call =>
      withLink(call, async link => {
        await all(link, each => each.set({ mode: 'cut' }));
        await briefly(call.chance);
      }),
  },
  'link-cut-in-mid-frame': {
    weight: 5,
    run: call =>
      withLink(call, async link => {
        const bytes = call.chance.between(1, 200_000);
        const direction = call.chance.pick(['up', 'down'] as const);
        await Promise.race([...link.map(each => each.cutAfter(bytes, direction)), sleep(4_000)]);
      }),
  },
  'link-half-open': {
    weight: 3,
    run: call =>
      withLink(call, async link => {
        for (const each of link) each.halfOpen();
        await briefly(call.chance);
      }),
  },
  'link-black-hole': {
    weight: 3,
    run: call =>
      withLink(call, async link => {
        await all(link, each => each.set({ mode: 'black-hole' }));
        await briefly(call.chance);
      }),
  },
  'link-refused': {
    weight: 2,
    run: call =>
      withLink(call, async link => {
        await all(link, each => each.set({ mode: 'refuse' }));
        reset(link);
        await briefly(call.chance);
      }),
  },
  'link-reset': {
    weight: 2,
    run: call =>
      withLink(call, async link => {
        for (let i = call.chance.between(1, 4); i > 0; i -= 1) {
          reset(link);
          await sleep(call.chance.between(50, 600));
        }
      }),
  },
  'link-slow': {
    weight: 3,
    run: call =>
      withLink(call, async link => {
        const slow = { bytesPerSecond: call.chance.between(4, 100) * 1024, delayMs: call.chance.between(0, 300) };
        await all(link, each => each.set(slow));
        await briefly(call.chance);
      }),
  },
  'link-duplicates': {
    weight: 3,
    run: async call => {
      const { link } = some(call);
      await all(link, each => each.set({ duplicate: true }));
      reset(link);
      await briefly(call.chance);
      await all(link, each => each.heal());
      reset(link);
    },
  },
  'agent-killed': { weight: 5, run: call => killed(some(call).branch.agent, call.chance) },
  'agent-stopped': {
    weight: 2,
    run: async call => {
      const { agent } = some(call).branch;
      await agent.stop(5_000);
      await agent.start();
    },
  },
  'agent-frozen': {
    weight: 2,
    run: async call => {
      const { agent } = some(call).branch;
      agent.pause();
      await briefly(call.chance);
      agent.resume();
    },
  },
  'applier-killed': { weight: 5, run: call => killed(someApplier(call), call.chance) },
  'applier-stopped': {
    weight: 2,
    run: async call => {
      const applier = someApplier(call);
      await applier.stop(5_000);
      await applier.start();
    },
  },
  'applier-frozen': {
    weight: 4,
    run: async call => {
      const applier = someApplier(call);
      applier.pause();
      await sleep(call.chance.between(500, 6_000));
      applier.resume();
    },
  },
};
