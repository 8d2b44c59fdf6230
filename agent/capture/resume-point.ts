/** Where capture resumes: whether the server still has what comes after the position, and from where it is read. */
import { TributaryError } from '../../shared/errors.ts';
import type { Position } from '../spool/spool.ts';
import type { BinlogStart } from '../binlog/binlog-stream.ts';
import { MariadbGtidPosition, MysqlGtidSet } from '../binlog/gtid-set.ts';
import { comparePositions } from '../source/connection.ts';
import type { SourceConnection, SourceIdentity } from '../source/connection.ts';

/** A commit is in the binlog, and may be captured, before the server counts it as executed. */
const EXECUTED_WITHIN_SECONDS = 5;

/** Where to resume, in terms of the present server; or why that is impossible. */
export type ResumePoint = { readonly lost: string } | { readonly at: Position };

const LACKING = 'The server lacks transactions that were captured: it was restored or replaced.';

/**
 * Where capture resumes, as far as the server knows before the stream begins. The last group taken is then read again and
 * compared (agent/stream/position.ts).
 * @param unbroken this process has begun the epoch, and has not lost the server since
 * @throws TributaryError SOURCE_UNREACHABLE while a replica must still execute captured transactions that it has received
 */
export async function resumePoint(
  source: SourceConnection,
  identity: SourceIdentity,
  position: Position,
  unbroken: boolean,
): Promise<ResumePoint> {
  const { source: mark, lastGroup } = position;
  const isSameServer = mark.server === identity.server;
  // Otherwise capture would resume silently at a server that was restored under its own identity and has grown past the place.
  if (lastGroup === null && !(unbroken && isSameServer)) return fromEnd(source, identity, position);
  if (identity.gtids) {
    if (mark.gtidSet === '' ? !isSameServer : !(await source.executes(mark.gtidSet, EXECUTED_WITHIN_SECONDS))) {
      await throwIfYetToExecute(source, mark.gtidSet);
      return { lost: LACKING };
    }
    // The server checks this too, but begins at its oldest file if the set is empty.
    if (await source.hasAllAfter(lastGroup?.gtidSetBefore ?? mark.gtidSet)) return { at: position };
    return { lost: 'The server has purged the binlog after the position, or the one with the last transaction taken.' };
  }
  if (isSameServer) {
    if (comparePositions(await source.binlogEnd(), mark) >= 0) return { at: position };
    return {
      lost: 'The binlog ends before the place where capture stopped: it was reset, or the server was restored.',
    };
  }
  if (identity.flavor === 'mariadb' && lastGroup !== null && lastGroup.gtid !== null && mark.gtidSet !== '') {
    const taken = MariadbGtidPosition.parse(mark.gtidSet);
    if (MariadbGtidPosition.parse(await source.mariadbGtids()).includes(taken)) return { at: position };
    await throwIfYetToExecute(source, mark.gtidSet);
    return { lost: LACKING };
  }
  // File and offset mean nothing on another server.
  return { lost: `Another server (${identity.server}) answers at the address.` };
}

/**
 * No transaction was taken yet that could be read again and compared, so capture resumes only if nothing was committed after
 * the position. With GTIDs a new file, as after a restart, and another server make no difference.
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
    lost: 'No transaction was taken yet that could be compared, and the server has committed others since.',
  };
}

/** A replica that became the branch's server may still be executing what it has received. */
async function throwIfYetToExecute(source: SourceConnection, gtidSet: string): Promise<void> {
  if (gtidSet === '' || !(await source.willExecute(gtidSet))) return;
  throw new TributaryError(
    'SOURCE_UNREACHABLE',
    'The server is a replica that has not executed all captured transactions yet.',
    {
      hint: 'Nothing: capture waits for it. If it lasts, look at the status of the replica.',
    },
  );
}

/** Where to read the last group taken again; if there is none, where the epoch began. */
export function startOf(position: Position, identity: SourceIdentity): BinlogStart {
  const { source, lastGroup } = position;
  if (identity.gtids) return { kind: 'gtid', gtidSet: lastGroup?.gtidSetBefore ?? source.gtidSet };
  // MariaDB: at another server the group is at another place.
  if (lastGroup !== null && source.server !== identity.server) {
    return { kind: 'gtid', gtidSet: lastGroup.gtidSetBefore };
  }
  return lastGroup === null
    ? { kind: 'file', file: source.file, offset: source.offset }
    : { kind: 'file', file: lastGroup.file, offset: lastGroup.startOffset };
}
