/**
 * The last group before the place where an epoch begins. It is stored as if it had been taken, so that capture can resume
 * before the branch has committed anything: the group is read again and compared, as after any other stop. Without it, a
 * branch that is enrolled in the evening and sells before the agent runs again would copy all its tables once more.
 */
import { randomInt } from 'node:crypto';
import { openBinlogStream } from '../binlog/binlog-stream.ts';
import type { BinlogConnection, BinlogStart } from '../binlog/binlog-stream.ts';
import { MysqlGtidSet } from '../binlog/gtid-set.ts';
import { GroupReader } from '../binlog/group-reader.ts';
import type { BinlogPosition, GroupEnd, GroupSink, GroupStart } from '../binlog/group-sink.ts';
import type { BinlogEnd, SourceConnection, SourceIdentity } from '../source/connection.ts';
import { describeError, TributaryError } from '../../shared/errors.ts';
import { formatDuration } from '../../shared/units.ts';
import type { Logger } from '../../shared/process/logging.ts';
import type { LastGroup } from '../spool/spool.ts';
import { identityOf } from '../stream/position.ts';

/** Without GTIDs the file is read from its beginning. A longer one is not read. */
const MAX_FILE_BYTES = 256 * 1024 * 1024;
const DEADLINE_MS = 15_000;
const HEARTBEAT_MS = 250;
const SILENCE_MS = 5_000;
/** The first event of a file. */
const FILE_START = 4;

export interface AnchorOptions {
  readonly connection: BinlogConnection;
  readonly logger: Logger;
}

/** @returns the group before `end`; null: there is none, or it takes too long to find */
export async function findAnchor(
  { connection, logger }: AnchorOptions,
  source: SourceConnection,
  identity: SourceIdentity,
  end: BinlogEnd,
): Promise<LastGroup | null> {
  try {
    const start = await startBefore(source, identity, end);
    if (start === null) return null;
    const found = await readLast(connection, start, end);
    if (found === null) return null;
    return { ...found, gtidSetBefore: await gtidsBefore(found, source, identity, end) };
  } catch (error) {
    logger.info(
      {},
      `The last transaction before the new epoch cannot be read (${describeError(error)}). If the agent stops before the ` +
        'first sale, it will copy all tables again.',
    );
    return null;
  }
}

async function startBefore(
  source: SourceConnection,
  identity: SourceIdentity,
  { file, offset, gtidSet }: BinlogEnd,
): Promise<BinlogStart | null> {
  if (!identity.gtids) return offset > MAX_FILE_BYTES ? null : { kind: 'file', file, offset: FILE_START };
  const before = MysqlGtidSet.parse(gtidSet);
  const last = before.lastOf(identity.server);
  if (last === null) return null;
  before.remove(last);
  return (await source.hasAllAfter(before.toString())) ? { kind: 'gtid', gtidSet: before.toString() } : null;
}

async function gtidsBefore(
  { gtid, file, startOffset }: LastGroup,
  source: SourceConnection,
  { gtids, flavor }: SourceIdentity,
  end: BinlogEnd,
): Promise<string> {
  if (gtid === null) return '';
  if (flavor === 'mariadb') return source.mariadbGtids({ file, offset: startOffset });
  if (!gtids) return '';
  const before = MysqlGtidSet.parse(end.gtidSet);
  before.remove(gtid);
  return before.toString();
}

/** Reads on to `end`, and no further. */
async function readLast(
  connection: BinlogConnection,
  start: BinlogStart,
  end: BinlogPosition,
): Promise<LastGroup | null> {
  const sink = new AnchorSink(start.kind === 'gtid' ? null : end);
  const reader = new GroupReader(sink, start.kind === 'file' ? start : null);
  const stream = await openBinlogStream({
    connection,
    serverId: randomInt(2 ** 31, 2 ** 32),
    start,
    heartbeatMs: HEARTBEAT_MS,
    silenceMs: SILENCE_MS,
    onEvent: event => {
      if (!sink.isDone) reader.handle(event);
    },
  });
  const deadline = Promise.withResolvers<never>();
  const late = new TributaryError('SOURCE_UNREACHABLE', `It was not read within ${formatDuration(DEADLINE_MS)}.`);
  const timer = setTimeout(() => deadline.reject(late), DEADLINE_MS);
  try {
    await Promise.race([
      sink.done,
      deadline.promise,
      stream.ended.then(error => {
        throw error;
      }),
    ]);
    return sink.last;
  } finally {
    clearTimeout(timer);
    await stream.close();
  }
}

/** Keeps what identifies the last group up to a place, or the first group if there is no place. */
class AnchorSink implements GroupSink {
  readonly #end: BinlogPosition | null;
  readonly #done = Promise.withResolvers<null>();
  #start: GroupStart | null = null;
  last: LastGroup | null = null;
  isDone = false;

  constructor(end: BinlogPosition | null) {
    this.#end = end;
  }

  get done(): Promise<null> {
    return this.#done.promise;
  }

  begin(group: GroupStart): void {
    this.#start = group;
  }

  end(mark: GroupEnd): void {
    const isPast = this.#end !== null && (mark.file !== this.#end.file || mark.endOffset > this.#end.offset);
    if (!isPast && this.#start !== null) this.last = identityOf(this.#start, mark);
    if (this.#end === null || isPast || mark.endOffset === this.#end.offset) this.#finish();
  }

  /** The server has no more. */
  heartbeat(): void {
    if (this.#end !== null) this.#finish();
  }

  #finish(): void {
    this.isDone = true;
    this.#done.resolve(null);
  }

  wants(): boolean {
    return false;
  }

  asBytes(): boolean {
    return false;
  }

  columns(): null {
    return null;
  }

  table(): null {
    return null;
  }

  ddl(): boolean {
    return false;
  }

  passes(): boolean {
    return true;
  }

  truncate(): void {
    // Only the group's identity matters.
  }

  xa(): void {
    // Only the group's identity matters.
  }
}
