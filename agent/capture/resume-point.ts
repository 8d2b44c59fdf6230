/** Where capture goes on: whether the server still has what comes after the position, and from where it is read. */
import type { SourceMark } from '../../shared/batch.ts';
import type { Position } from '../spool/spool.ts';
import type { BinlogStart } from './binlog-stream.ts';
import { MysqlGtidSet } from './gtid-set.ts';
import { comparePlaces } from './source.ts';
import type { SourceConnection, SourceIdentity } from './source.ts';

/**
 * Why capture cannot resume at the position, as far as the server can be asked before streaming; null: it may.
 * @param unbroken this process has begun the epoch and was not parted from the server since
 */
export async function whyLost(
  source: SourceConnection,
  identity: SourceIdentity,
  position: Position,
  unbroken: boolean,
): Promise<string | null> {
  const { source: mark, lastGroup } = position;
  // A server restored under its own identity and grown past the place would be resumed in silence.
  if (lastGroup === null && !unbroken && !(await isStillTheEnd(source, identity, mark))) {
    return 'no transaction was taken yet that could be read again and compared, and the server has gone on since';
  }
  if (identity.gtids) {
    if (mark.gtidSet === '' ? mark.server !== identity.server : !(await source.hasExecuted(mark.gtidSet))) {
      return 'the server has not executed transactions that were captured: it was restored or replaced';
    }
    // Asked here as well as by the server, which begins at its oldest file where the set is empty.
    if (await source.hasAllAfter(lastGroup?.gtidSetBefore ?? mark.gtidSet)) return null;
    return 'the binlog of what comes next, or of the last transaction taken, was purged';
  }
  // File and offset mean nothing on another server.
  if (mark.server !== identity.server) return `another server (${identity.server}) is behind the address`;
  if (comparePlaces(await source.binlogEnd(), mark) >= 0) return null;
  return 'the binlog ends before the place where capture stopped: it was reset, or the server restored';
}

/** Whether nothing was committed behind the mark. A restart alone begins a new file, which GTIDs do not mind. */
async function isStillTheEnd(source: SourceConnection, identity: SourceIdentity, mark: SourceMark): Promise<boolean> {
  if (mark.server !== identity.server) return false;
  const end = await source.binlogEnd();
  if (!identity.gtids) return comparePlaces(end, mark) === 0;
  return MysqlGtidSet.parse(end.gtidSet).toString() === MysqlGtidSet.parse(mark.gtidSet).toString();
}

/** Where to read the last group taken again; without one, where the epoch began. */
export function startOf(position: Position, identity: SourceIdentity): BinlogStart {
  const { source, lastGroup } = position;
  if (identity.gtids) return { kind: 'gtid', gtidSet: lastGroup?.gtidSetBefore ?? source.gtidSet };
  return lastGroup === null
    ? { kind: 'file', file: source.file, offset: source.offset }
    : { kind: 'file', file: lastGroup.file, offset: lastGroup.startOffset };
}
