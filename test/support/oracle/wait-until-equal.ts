import { setTimeout as delay } from 'node:timers/promises';
import { compareBranch, describeComparison } from '../../../deploy/rig/oracle/compare.ts';
import type { CompareOptions, Comparison } from '../../../deploy/rig/oracle/compare.ts';

/**
 * For a wait: looks whether both sides are equal. One difference is enough to look again, and it most likely still is
 * where it was.
 */
export function createLook(options: CompareOptions): () => Promise<Comparison> {
  let first: string | undefined;
  return async () => {
    const comparison = await compareBranch({ ...options, maxDifferences: 1, first });
    first = comparison.differences[0]?.table;
    return comparison;
  };
}

/**
 * Compares at growing intervals until both sides are equal.
 * @throws at the deadline, with the first differences or the last error in its message
 */
export async function waitUntilEqual(
  options: CompareOptions,
  { deadlineMs = 60_000 }: { readonly deadlineMs?: number } = {},
): Promise<Comparison> {
  const end = Date.now() + deadlineMs;
  let pauseMs = 100;
  const look = createLook(options);
  for (;;) {
    let last: string;
    let cause: unknown;
    const isLast = Date.now() + pauseMs > end;
    try {
      const comparison = await (isLast ? compareBranch(options) : look());
      if (comparison.equal) return comparison;
      last = describeComparison(comparison);
    } catch (error) {
      // A head office that is being restarted, or a table altered in between: only the deadline makes it a failure.
      cause = error;
      last = `could not compare: ${error instanceof Error ? error.message : String(error)}`;
    }
    if (isLast) {
      throw new Error(`branch ${options.branchId} and head office are not equal after ${deadlineMs} ms\n${last}`, {
        cause,
      });
    }
    await delay(pauseMs);
    pauseMs = Math.min(pauseMs * 1.5, 2_000);
  }
}
