/**
 * Times when rows may have been written that the binlog does not show: the server wrote no binlog, kept databases out of it,
 * or logged statements instead of rows. Even if such a setting was seen only once, the spool remembers that all tables must be
 * copied, because the setting may be right again at the next check. "Captured through" stands still until the copy is done.
 */
import { TributaryError } from '../../shared/errors.ts';
import { throwFaults } from '../../shared/process/findings.ts';
import type { Finding } from '../../shared/process/findings.ts';
import type { Logger } from '../../shared/process/logging.ts';
import { earlier, idleProgress, markStale, queueWhole, redefined } from '../spool/snapshot-progress.ts';
import type { Spool } from '../spool/spool.ts';

const SUBJECTS: ReadonlySet<string> = new Set([
  'source.log_bin',
  'source.binlog_filter',
  'source.log_replica_updates',
  'source.log_slave_updates',
  'source.binlog_format',
  'source.binlog_row_image',
]);

/** The server commits rows that its binlog does not show, or may do so. */
export class UnloggedWrites extends TributaryError {
  constructor(message: string, options: { hint?: string; cause?: unknown } = {}) {
    super('SOURCE_SETTING', message, options);
  }
}

/** @throws UnloggedWrites if a finding is about such a setting; otherwise what the first fault says */
export function throwSettingFaults(findings: readonly Finding[]): void {
  try {
    throwFaults(findings);
  } catch (error) {
    if (!(error instanceof TributaryError)) throw error;
    if (!findings.some(({ level, subject }) => level === 'fault' && SUBJECTS.has(subject))) throw error;
    const hint = `${error.hint}; then all tables are copied again automatically`;
    throw new UnloggedWrites(error.message, { hint, cause: error });
  }
}

/**
 * Notes in the spool that all tables must be copied again. Must be called while the binlog is not being read.
 * @param capturedThrough what was reported so far, ISO
 * @param rightAt when the settings were last seen to be right, ISO
 */
export function queueMissedTables(
  { spool, logger }: { readonly spool: Spool; readonly logger: Logger },
  capturedThrough: string | null,
  rightAt: string | null,
): void {
  const position = spool.position();
  // Without a position an epoch is about to begin, with a snapshot of all tables.
  if (position === null) return;
  const seenSince = new Date((spool.serverSeen.last?.startedAt ?? 0) * 1_000).toISOString();
  // Up to this time the binlog has shown everything.
  const since = earlier(rightAt, capturedThrough ?? position.source.committedAt ?? seenSince);
  const progress = spool.snapshot() ?? idleProgress();
  const next = markStale(queueWhole(progress.tables.reduce(redefined, progress)), since);
  if (JSON.stringify(next) === JSON.stringify(progress)) return;
  spool.discardOpenGroup();
  spool.savePosition(position, next);
  logger.warn({ since }, 'Rows may have been written that the binlog does not show. All tables are copied again.');
}
