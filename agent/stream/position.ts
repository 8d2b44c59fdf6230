/**
 * How far the stream was taken: which groups, where the last one ended, and what identifies it.
 *
 * Groups are identified by MySQL's GTIDs, by MariaDB's GTIDs (the last one of each domain), or by their place alone.
 *
 * Invariant: the position moves only at the end of a group.
 */
import type { SourceMark } from '../../shared/batch/batch.ts';
import { TributaryError } from '../../shared/errors.ts';
import type { LastGroup, Position } from '../spool/spool.ts';
import { MariadbGtidPosition, MysqlGtidSet } from '../binlog/gtid-set.ts';
import type { GroupEnd, GroupStart, BinlogPosition } from '../binlog/group-sink.ts';

export interface TakenFrom {
  readonly server: string;
  /** MySQL's GTIDs identify the server's groups. */
  readonly gtids: boolean;
}

export class CapturedPosition {
  readonly #from: TakenFrom;
  readonly #executed: MysqlGtidSet | MariadbGtidPosition;
  /** MariaDB: the group before the last one in the same domain; null: there was none. */
  #domainBefore: string | null = null;
  #end: BinlogPosition;
  #committedAt: string | null;
  /** The last group taken, without `gtidSetBefore`. */
  #last: LastGroup | null;
  /** Built from the fields above when needed; null: they have changed since. */
  #current: Position | null;
  /** Whether the spool has it. */
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

  /** The last group taken was read again at another server, where it is at another place. */
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

  /** MySQL's GTIDs; '' if they do not identify groups. */
  get gtidSet(): string {
    return this.#from.gtids ? this.#executed.toString() : '';
  }

  get committedAt(): string | null {
    return this.#committedAt;
  }

  /** The end of the last group taken. Printing GTID sets is expensive, so it happens only when a position is stored. */
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

/** What identifies the group, without `gtidSetBefore`. */
export function identityOf(
  { gtid, file, startOffset, committedAt, originallyAt }: GroupStart,
  { fingerprint }: GroupEnd,
): LastGroup {
  return { gtid, file, startOffset, committedAt, originallyAt, fingerprint, gtidSetBefore: '' };
}

/**
 * @param isSameServer false: another server with the same history, where table ids and the time of the commit differ; there
 *   the GTID and the time of the first commit identify the group
 * @throws TributaryError SOURCE_POSITION_LOST if another group than the one taken is at its place
 */
export function requireSameGroup(taken: LastGroup, read: LastGroup, isSameServer: boolean): void {
  const isSame = isSameServer
    ? read.committedAt === taken.committedAt && read.fingerprint === taken.fingerprint
    : taken.gtid !== null && firstCommit(read) !== null && firstCommit(read) === firstCommit(taken);
  if (isSame && read.gtid === taken.gtid) return;
  throw new TributaryError(
    'SOURCE_POSITION_LOST',
    `The last group taken was ${taken.gtid ?? `${taken.file}:${taken.startOffset}`} (${taken.committedAt ?? 'no time'}), ` +
      `but the server has ${read.gtid ?? 'no GTID'} (${read.committedAt ?? 'no time'}) in its place.`,
  );
}

/** MariaDB's replicas log the time of the first server; an older spool has only the time at the server that was read. */
function firstCommit({ originallyAt, committedAt }: LastGroup): string | null {
  return originallyAt ?? committedAt;
}
