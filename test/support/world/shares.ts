/** Which of several appliers a branch prefers, as they agree on it without a coordinator. */
import { hostname } from 'node:os';
import { isPreferred } from '../../../applier/consume/rendezvous.ts';
import type { Product } from '../../../deploy/rig/daemon.ts';
import type { World } from './world.ts';

/** What an applier of this machine calls itself. */
export function instanceOf(applier: Product): string {
  return `${hostname()}:${new URL(applier.url).port}`;
}

/** The next name for a branch of this world that prefers `first` to `second`. */
export function nameThatPrefers(world: World, first: Product, second: Product): string {
  for (let i = 0; ; i += 1) {
    const name = `shop${i}`;
    const id = `${name}-${world.id}`;
    const taken = world.branches.some(branch => branch.id === id);
    if (!taken && isPreferred(id, instanceOf(first), [instanceOf(second)])) return name;
  }
}
