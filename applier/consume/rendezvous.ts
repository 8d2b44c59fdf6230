/**
 * How several appliers share the branches without a coordinator (rendezvous hashing). Each branch has its own order of
 * preference among the appliers. If one stops, its branches are spread over the others; if one starts, it takes only
 * the branches that prefer it.
 */
import { createHash } from 'node:crypto';

const MAX_PRIORITY = 1_000;

/** How much a branch prefers an applier: a higher number is preferred. */
function rendezvousPriority(branch: string, instance: string): number {
  const hash = createHash('sha256').update(`${branch}\n${instance}`).digest();
  return hash.readUInt32BE(0) % MAX_PRIORITY;
}

/** Whether the branch prefers this applier to all others that are alive. */
export function isPreferred(branch: string, instance: string, living: readonly string[]): boolean {
  const own = rendezvousPriority(branch, instance);
  return living.every(other => {
    const its = rendezvousPriority(branch, other);
    // If two have the same priority, exactly one of them must be preferred.
    return its < own || (its === own && other >= instance);
  });
}
