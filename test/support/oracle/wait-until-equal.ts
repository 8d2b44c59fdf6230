import { setTimeout as delay } from 'node:timers/promises';
import { compareBranch, describeComparison } from '../../../deploy/rig/oracle/compare.ts';
import type { CompareOptions, Comparison } from '../../../deploy/rig/oracle/compare.ts';

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
  for (;;) {
    let last: string;
    let cause: unknown;
    const isLast = Date.now() + pauseMs > end;
    try {
      // One difference is enough to look again. Only the last time they are to be told.
      const comparison = await compareBranch(isLast ? options : { ...options, maxDifferences: 1 });
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
