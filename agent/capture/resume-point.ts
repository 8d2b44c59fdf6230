/** Where capture goes on: whether the server still has what comes after the position, and from where it is read. */
import type { Position } from '../spool/spool.ts';
import type { BinlogStart } from './binlog-stream.ts';
import { comparePlaces } from './source.ts';
import type { SourceConnection, SourceIdentity } from './source.ts';

/** Why capture cannot resume at the position, as far as the server can be asked before streaming; null: it may. */
export async function whyLost(
  source: SourceConnection,
  identity: SourceIdentity,
  position: Position,
): Promise<string | null> {
  const { source: mark } = position;
  if (identity.gtids) {
    if (mark.gtidSet === '' ? mark.server !== identity.server : !(await source.hasExecuted(mark.gtidSet))) {
      return 'the server has not executed transactions that were captured: it was restored or replaced';
    }
    // Asked here as well as by the server, which begins at its oldest file where the set is empty.
    if (await source.hasAllAfter(position.lastGroup?.gtidSetBefore ?? mark.gtidSet)) return null;
    return 'the binlog of what comes next, or of the last transaction taken, was purged';
  }
  // File and offset mean nothing on another server.
  if (mark.server !== identity.server) return `another server (${identity.server}) is behind the address`;
  if (comparePlaces(await source.binlogEnd(), mark) >= 0) return null;
  return 'the binlog ends before the place where capture stopped: it was reset, or the server restored';
}

/** Where to read the last group taken again; without one, where the epoch began. */
export function startOf(position: Position, identity: SourceIdentity): BinlogStart {
  const { source, lastGroup } = position;
  if (identity.gtids) return { kind: 'gtid', gtidSet: lastGroup?.gtidSetBefore ?? source.gtidSet };
  return lastGroup === null
    ? { kind: 'file', file: source.file, offset: source.offset }
    : { kind: 'file', file: lastGroup.file, offset: lastGroup.startOffset };
}
