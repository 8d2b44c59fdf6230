/**
 * Times in which rows may have been written that the binlog does not tell of: the server wrote none, kept databases out of
 * it, or logged what rows cannot be read from. What was seen of it, even once, is remembered in the spool as a copy of all
 * tables that is owed, since the setting may be right again by the next look; "captured through" stands still until then.
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

/** The server commits, or may, what its binlog does not tell of. */
export class UnloggedWrites extends TributaryError {
  constructor(message: string, options: { hint?: string; cause?: unknown } = {}) {
    super('SOURCE_SETTING', message, options);
  }
}

/** @throws UnloggedWrites where a finding shows such a setting, else what the first fault says */
export function throwSettingFaults(findings: readonly Finding[]): void {
  try {
    throwFaults(findings);
  } catch (error) {
    if (!(error instanceof TributaryError)) throw error;
    if (!findings.some(({ level, subject }) => level === 'fault' && SUBJECTS.has(subject))) throw error;
    const hint = `${error.hint}; then all tables are copied again by themselves`;
    throw new UnloggedWrites(error.message, { hint, cause: error });
  }
}

/**
 * Notes in the spool that all tables are to be copied again. To be called while the binlog is not being read.
 * @param capturedThrough what was claimed so far, ISO
 * @param rightAt when the settings were last seen to be right, ISO
 */
export function queueMissedTables(
  { spool, logger }: { readonly spool: Spool; readonly logger: Logger },
  capturedThrough: string | null,
  rightAt: string | null,
): void {
  const position = spool.position();
  // Without one an epoch is about to begin, with a copy of all.
  if (position === null) return;
  const seenSince = new Date((spool.serverSeen.last?.startedAt ?? 0) * 1_000).toISOString();
  // Up to then the binlog has told everything.
  const since = earlier(rightAt, capturedThrough ?? position.source.committedAt ?? seenSince);
  const progress = spool.snapshot() ?? idleProgress();
  const next = markStale(queueWhole(progress.tables.reduce(redefined, progress)), since);
  if (JSON.stringify(next) === JSON.stringify(progress)) return;
  spool.discardOpenGroup();
  spool.savePosition(position, next);
  logger.warn({ since }, 'rows may have been written that the binlog does not tell of: all tables are copied again');
}
