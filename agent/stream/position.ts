/**
 * How far the stream has been taken: which groups, where the last one ended, and what tells it from any other.
 *
 * Groups are known by MySQL's GTIDs, by MariaDB's (the last one of each domain), or by their place alone.
 *
 * Invariant: it moves at the end of a group only.
 */
import type { SourceMark } from '../../shared/batch/batch.ts';
import { TributaryError } from '../../shared/errors.ts';
import type { LastGroup, Position } from '../spool/spool.ts';
import { MariadbGtidPosition, MysqlGtidSet } from '../binlog/gtid-set.ts';
import type { GroupEnd, GroupStart, BinlogPosition } from '../binlog/group-sink.ts';

export interface TakenFrom {
  readonly server: string;
  /** The server's groups are known by MySQL's GTIDs. */
  readonly gtids: boolean;
}

export class CapturedPosition {
  readonly #from: TakenFrom;
  readonly #executed: MysqlGtidSet | MariadbGtidPosition;
  /** MariaDB: the last group but one in the domain of the last one; null: there was none. */
  #domainBefore: string | null = null;
  #end: BinlogPosition;
  #committedAt: string | null;
  /** The last group taken, but for `gtidSetBefore`. */
  #last: LastGroup | null;
  /** Built from the above when needed; null: they have changed since. */
  #current: Position | null;
  /** It is in the spool. */
  saved = true;

  constructor(position: Position, from: TakenFrom) {
    this.#from = from;
    this.#current = position;
    this.#last = position.lastGroup;
    const { gtidSet, committedAt, file, offset } = position.source;
    this.#executed = from.gtids ? MysqlGtidSet.parse(gtidSet) : MariadbGtidPosition.parse(gtidSet);
    this.#committedAt = committedAt;
    this.#end = { file, offset };
  }

  take(group: LastGroup, { file, endOffset }: GroupEnd): void {
    if (group.gtid !== null) {
      if (this.#executed instanceof MariadbGtidPosition) this.#domainBefore = this.#executed.lastOf(group.gtid);
      this.#executed.add(group.gtid);
    }
    this.#end = { file, offset: endOffset };
    this.#committedAt = group.committedAt;
    this.#last = group;
    this.#current = null;
    this.saved = false;
  }

  /** The last group taken, read again at another server: it stands elsewhere there. */
  moveTo(group: LastGroup, { file, endOffset }: GroupEnd): void {
    const { gtidSetBefore = '' } = this.#last ?? {};
    if (group.gtid !== null && this.#executed instanceof MariadbGtidPosition) {
      this.#domainBefore = MariadbGtidPosition.parse(gtidSetBefore).lastOf(group.gtid);
    }
    this.#end = { file, offset: endOffset };
    this.#committedAt = group.committedAt;
    this.#last = group;
    this.#current = null;
    this.saved = false;
  }

  /** Where the last group taken ends. */
  get end(): BinlogPosition {
    return this.#end;
  }

  /** MySQL's; '' where groups are not known by them. */
  get gtidSet(): string {
    return this.#from.gtids ? this.#executed.toString() : '';
  }

  get committedAt(): string | null {
    return this.#committedAt;
  }

  /** The end of the last group taken. Writing GTID sets out is dear, so only when a position is stored. */
  get current(): Position {
    if (this.#current) return this.#current;
    const gtidSet = this.#executed.toString();
    const source: SourceMark = { server: this.#from.server, gtidSet, ...this.#end, committedAt: this.#committedAt };
    let last = this.#last;
    if (last !== null && last.gtid !== null) last = { ...last, gtidSetBefore: this.#before(gtidSet, last.gtid) };
    this.#current = { source, lastGroup: last };
    return this.#current;
  }

  #before(gtidSet: string, last: string): string {
    if (this.#from.gtids) {
      const before = MysqlGtidSet.parse(gtidSet);
      before.remove(last);
      return before.toString();
    }
    const before = MariadbGtidPosition.parse(gtidSet);
    before.rewind(last, this.#domainBefore);
    return before.toString();
  }
}

/** What tells the group from any other, but for `gtidSetBefore`. */
export function identityOf(
  { gtid, file, startOffset, committedAt, originallyAt }: GroupStart,
  { fingerprint }: GroupEnd,
): LastGroup {
  return { gtid, file, startOffset, committedAt, originallyAt, fingerprint, gtidSetBefore: '' };
}

/**
 * @param isSameServer at another one that holds the same history, table ids and the time of the commit there differ: the GTID
 *   and the time of the first commit tell the group
 * @throws TributaryError SOURCE_POSITION_LOST where another group than the one taken stands at its place
 */
export function requireSameGroup(taken: LastGroup, read: LastGroup, isSameServer: boolean): void {
  const isSame = isSameServer
    ? read.committedAt === taken.committedAt && read.fingerprint === taken.fingerprint
    : taken.gtid !== null && firstCommit(read) !== null && firstCommit(read) === firstCommit(taken);
  if (isSame && read.gtid === taken.gtid) return;
  throw new TributaryError(
    'SOURCE_POSITION_LOST',
    `the last group taken (${taken.gtid ?? `${taken.file}:${taken.startOffset}`}, ${taken.committedAt ?? 'no time'}) ` +
      `is another one there (${read.gtid ?? 'no GTID'}, ${read.committedAt ?? 'no time'})`,
  );
}

/** MariaDB's replicas log the time of the first server; a spool of before knows the time at the server that was read. */
function firstCommit({ originallyAt, committedAt }: LastGroup): string | null {
  return originallyAt ?? committedAt;
}
