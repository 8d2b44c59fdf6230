/**
 * How several appliers share the branches without a coordinator: each branch has its own order of preference among them
 * (rendezvous hashing), so one that leaves spreads its share over the rest, and one that comes takes only its own.
 */
import { createHash } from 'node:crypto';

const MAX_PRIORITY = 1_000;

/** How much a branch prefers an applier: the higher, the more. */
export function rendezvousPriority(branch: string, instance: string): number {
  const hash = createHash('sha256').update(`${branch}\n${instance}`).digest();
  return hash.readUInt32BE(0) % MAX_PRIORITY;
}

/** Whether the branch prefers none of the living to this one. */
export function isPreferred(branch: string, instance: string, living: readonly string[]): boolean {
  const own = rendezvousPriority(branch, instance);
  return living.every(other => {
    const its = rendezvousPriority(branch, other);
    // Of two that it likes as well, they must not each leave it to the other.
    return its < own || (its === own && other >= instance);
  });
}
