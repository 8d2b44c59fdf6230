/** Where capture goes on: whether the server still has what comes after the position, and from where it is read. */
import { TributaryError } from '../../shared/errors.ts';
import type { Position } from '../spool/spool.ts';
import type { BinlogStart } from '../binlog/binlog-stream.ts';
import { MariadbGtidPosition, MysqlGtidSet } from '../binlog/gtid-set.ts';
import { comparePositions } from '../source/connection.ts';
import type { SourceConnection, SourceIdentity } from '../source/connection.ts';

/** A commit is in the binlog, and may have been captured, before it counts as executed. */
const EXECUTED_WITHIN_SECONDS = 5;

/** Where to resume, in the terms of the server that is there now; or why that cannot be. */
export type ResumePoint = { readonly lost: string } | { readonly at: Position };

const LACKING = 'the server has not executed transactions that were captured: it was restored or replaced';

/**
 * Where capture resumes, as far as the server can be asked before streaming. The last group taken is then read again and
 * compared (agent/stream/position.ts).
 * @param unbroken this process has begun the epoch and was not parted from the server since
 * @throws TributaryError SOURCE_UNREACHABLE while a replica has yet to execute what was captured and what it has received
 */
export async function resumePoint(
  source: SourceConnection,
  identity: SourceIdentity,
  position: Position,
  unbroken: boolean,
): Promise<ResumePoint> {
  const { source: mark, lastGroup } = position;
  const isSameServer = mark.server === identity.server;
  // A server restored under its own identity and grown past the place would be resumed in silence.
  if (lastGroup === null && !(unbroken && isSameServer)) return fromEnd(source, identity, position);
  if (identity.gtids) {
    if (mark.gtidSet === '' ? !isSameServer : !(await source.executes(mark.gtidSet, EXECUTED_WITHIN_SECONDS))) {
      await throwIfYetToExecute(source, mark.gtidSet);
      return { lost: LACKING };
    }
    // Asked here as well as by the server, which begins at its oldest file where the set is empty.
    if (await source.hasAllAfter(lastGroup?.gtidSetBefore ?? mark.gtidSet)) return { at: position };
    return { lost: 'the binlog of what comes next, or of the last transaction taken, was purged' };
  }
  if (isSameServer) {
    if (comparePositions(await source.binlogEnd(), mark) >= 0) return { at: position };
    return { lost: 'the binlog ends before the place where capture stopped: it was reset, or the server restored' };
  }
  if (identity.flavor === 'mariadb' && lastGroup !== null && lastGroup.gtid !== null && mark.gtidSet !== '') {
    const taken = MariadbGtidPosition.parse(mark.gtidSet);
    if (MariadbGtidPosition.parse(await source.mariadbGtids()).includes(taken)) return { at: position };
    await throwIfYetToExecute(source, mark.gtidSet);
    return { lost: LACKING };
  }
  // File and offset mean nothing on another server.
  return { lost: `another server (${identity.server}) is behind the address` };
}

/**
 * No transaction was taken yet that could be read again and compared: only where nothing was committed behind the mark. A
 * restart alone begins a new file, which GTIDs do not mind, nor do they another server.
 */
async function fromEnd(source: SourceConnection, identity: SourceIdentity, position: Position): Promise<ResumePoint> {
  const { source: mark } = position;
  const { file, offset, gtidSet } = await source.binlogEnd();
  const isEnd = identity.gtids
    ? (mark.server === identity.server || mark.gtidSet !== '') &&
      MysqlGtidSet.parse(gtidSet).toString() === MysqlGtidSet.parse(mark.gtidSet).toString()
    : mark.server === identity.server && comparePositions({ file, offset }, mark) === 0;
  if (isEnd) return { at: { ...position, source: { ...mark, server: identity.server, file, offset } } };
  return {
    lost: 'no transaction was taken yet that could be read again and compared, and the server has gone on since',
  };
}

/** A replica that was made the branch's server may still be at work on what it has received. */
async function throwIfYetToExecute(source: SourceConnection, gtidSet: string): Promise<void> {
  if (gtidSet === '' || !(await source.willExecute(gtidSet))) return;
  throw new TributaryError('SOURCE_UNREACHABLE', 'the server is a replica that has yet to execute what was captured', {
    hint: 'Nothing, unless it lasts: capture waits for it. Then look at the replica’s status.',
  });
}

/** Where to read the last group taken again; without one, where the epoch began. */
export function startOf(position: Position, identity: SourceIdentity): BinlogStart {
  const { source, lastGroup } = position;
  if (identity.gtids) return { kind: 'gtid', gtidSet: lastGroup?.gtidSetBefore ?? source.gtidSet };
  // MariaDB: at another server it stands elsewhere.
  if (lastGroup !== null && source.server !== identity.server) {
    return { kind: 'gtid', gtidSet: lastGroup.gtidSetBefore };
  }
  return lastGroup === null
    ? { kind: 'file', file: source.file, offset: source.offset }
    : { kind: 'file', file: lastGroup.file, offset: lastGroup.startOffset };
}
