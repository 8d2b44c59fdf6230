/**
 * How far the stream has been taken: which groups, where the last one ended, and what tells it from any other.
 *
 * Invariant: it moves at the end of a group only.
 */
import type { SourceMark } from '../../shared/batch.ts';
import { TributaryError } from '../../shared/errors.ts';
import type { LastGroup, Position } from '../spool/spool.ts';
import { MysqlGtidSet } from './gtid-set.ts';
import type { GroupEnd, GroupStart, StreamPlace } from './group-sink.ts';

export interface TakenFrom {
  readonly server: string;
  /** The server's groups are known by MySQL's GTIDs. */
  readonly gtids: boolean;
}

export class TakenPosition {
  readonly #from: TakenFrom;
  readonly #executed: MysqlGtidSet;
  #end: StreamPlace;
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
    this.#executed = MysqlGtidSet.parse(position.source.gtidSet);
    this.#committedAt = position.source.committedAt;
    const { file, offset } = position.source;
    this.#end = { file, offset };
  }

  take(group: LastGroup, { file, endOffset }: GroupEnd): void {
    if (this.#from.gtids && group.gtid !== null) this.#executed.add(group.gtid);
    this.#end = { file, offset: endOffset };
    this.#committedAt = group.committedAt;
    this.#last = group;
    this.#current = null;
    this.saved = false;
  }

  /** Where the last group taken ends. */
  get end(): StreamPlace {
    return this.#end;
  }

  get gtidSet(): string {
    return this.#executed.toString();
  }

  get committedAt(): string | null {
    return this.#committedAt;
  }

  /** The end of the last group taken. Writing GTID sets out is dear, so only when a position is stored. */
  get current(): Position {
    if (this.#current) return this.#current;
    const { server, gtids } = this.#from;
    const gtidSet = gtids ? this.#executed.toString() : '';
    const source: SourceMark = { server, gtidSet, ...this.#end, committedAt: this.#committedAt };
    let last = this.#last;
    if (last !== null && gtids && last.gtid !== null) {
      const before = MysqlGtidSet.parse(gtidSet);
      before.remove(last.gtid);
      last = { ...last, gtidSetBefore: before.toString() };
    }
    this.#current = { source, lastGroup: last };
    return this.#current;
  }
}

/** What tells the group from any other, but for `gtidSetBefore`. */
export function identityOf({ gtid, file, startOffset, committedAt }: GroupStart, { fingerprint }: GroupEnd): LastGroup {
  return { gtid, file, startOffset, committedAt, fingerprint, gtidSetBefore: '' };
}

/** @throws TributaryError SOURCE_POSITION_LOST where another group than the one taken stands at its place */
export function verifySame(taken: LastGroup, read: LastGroup): void {
  const same =
    read.gtid === taken.gtid && read.committedAt === taken.committedAt && read.fingerprint === taken.fingerprint;
  if (same) return;
  throw new TributaryError(
    'SOURCE_POSITION_LOST',
    `the last group taken (${taken.gtid ?? `${taken.file}:${taken.startOffset}`}, ${taken.committedAt ?? 'no time'}) ` +
      `is another one there (${read.gtid ?? 'no GTID'}, ${read.committedAt ?? 'no time'})`,
  );
}
