/** When something happened at the branch, as the histories of tables say it. */
import type { SourceMark } from '../../shared/batch/batch.ts';
import { toDateTimeText, toMicroseconds } from '../../shared/batch/versions.ts';
import type { BranchRow } from '../store/branch-row.ts';

/**
 * The commit time of the last transaction in the source, as a DATETIME(6) in UTC. Without one, that of the last batch that
 * was applied, or the present.
 */
export function momentOf(source: SourceMark | null, { capturedThrough }: BranchRow): string {
  const iso = source?.committedAt ?? capturedThrough ?? new Date().toISOString();
  return toDateTimeText(toMicroseconds(iso.replace(' ', 'T')));
}
