/**
 * Turns binlog events into event groups: begin, rows and statements, end.
 *
 * It tracks where groups begin and end, because a position must be the end of a group. States (only `#enter` changes
 * them):
 *
 *   outside ──GTID──▶ opened ──BEGIN, XA START, rows──▶ inside ──Xid, COMMIT, XA PREPARE──▶ outside
 *                       └──any other statement, such as DDL──▶ outside
 *   any ──an exception──▶ failed
 *
 * A server that logs no GTID event opens the group with its first statement. MariaDB's GTID event leads to `inside` at
 * once, except before a standalone statement.
 *
 * Invariants: an unknown event type is an error unless the server marks it as ignorable; nothing that could have changed
 * a captured row is skipped. group-rows.ts handles the rows.
 */
import { TributaryError, assert } from '../../shared/errors.ts';
import { StateMachine } from '../state-machine.ts';
import type { Transitions } from '../state-machine.ts';
import { crc32 } from '../values/crc32.ts';
import {
  EVENT,
  FLAG_ARTIFICIAL,
  FLAG_IGNORABLE,
  isoMicroseconds,
  readFormatDescription,
  readGtid,
  readHeartbeat,
  readMariadbGtid,
  readOnePhase,
  readQuery,
  readRotate,
  readTaggedGtid,
  readTransactionPayload,
} from './events.ts';
import type { FormatDescription, RawEvent, GtidMark } from './events.ts';
import { GroupRows, rowsKindOf } from './group-rows.ts';
import type { GroupSink, BinlogPosition } from './group-sink.ts';
import { classifyStatement, xidText } from './statements.ts';
import { queryText } from './query-text.ts';
import { ServerCharsets } from '../values/server-charsets.ts';
import { beginningOf } from './sql-tokens.ts';
import { RolledBackRows } from './rolled-back-rows.ts';

export type ReaderState = 'outside' | 'opened' | 'inside' | 'failed';

const TRANSITIONS: Transitions<ReaderState> = {
  outside: ['opened', 'failed'],
  opened: ['inside', 'outside', 'failed'],
  inside: ['outside', 'failed'],
  failed: [],
};

/** For a group whose first event has neither a GTID nor a commit time. */
const UNNAMED: GtidMark = { gtid: null, committedAt: null, originallyAt: null };
/** Offsets in event headers have 32 bits; files can be longer. */
const OFFSET_WRAP = 2 ** 32;

const FORMAT_HINT =
  "Run: SET GLOBAL binlog_format = 'ROW'. Add binlog_format=ROW below [mysqld] in my.cnf, and look for sessions that set " +
  'binlog_format. Then run `tributary-agent snapshot`: it copies all tables, and capture goes on.';
const REPORT_HINT = 'Report it. Capture stops here so that it skips nothing.';

function unsupported(message: string, hint: string): TributaryError {
  return new TributaryError('EVENT_UNSUPPORTED', message, { hint });
}

/** Turns events into calls of a sink. */
export class GroupReader {
  readonly #sink: GroupSink;
  readonly #rows: GroupRows;
  readonly #charsets: ServerCharsets | undefined;
  readonly #machine = new StateMachine<ReaderState>('The group reader', TRANSITIONS, 'outside');
  /** The server that wrote the current file. */
  #server: FormatDescription = { mariadb: false, version: 0 };
  #file: string;
  #offset: number;
  /** GTID of the open group. */
  #gtid: string | null = null;
  #fingerprint = 0;
  #alterPending = false;
  /** Name of the XA transaction in the open group; null: the group is no XA transaction. */
  #xid: string | null = null;

  /**
   * @param start where the stream begins; a Rotate event overrides it
   * @param charsets of the server; default: the built-in ones only
   * @param rolledBack rows that earlier readers of this binlog found to be rolled back
   */
  constructor(
    sink: GroupSink,
    start: BinlogPosition | null = null,
    charsets?: ServerCharsets,
    rolledBack: RolledBackRows = new RolledBackRows(),
  ) {
    this.#sink = sink;
    this.#charsets = charsets;
    this.#rows = new GroupRows(sink, charsets, rolledBack);
    this.#file = start?.file ?? '';
    this.#offset = start?.offset ?? 0;
  }

  get state(): ReaderState {
    return this.#machine.state;
  }

  /** The only place where the state changes. @throws TributaryError INTERNAL */
  #enter(state: ReaderState): void {
    this.#machine.enter(state);
  }

  /**
   * Handles the next event.
   * @throws TributaryError if capture cannot continue, or the sink's own error; the reader is `failed` after that
   */
  handle(event: RawEvent): void {
    assert(this.state !== 'failed', 'A group reader that has failed was given an event.');
    try {
      this.#take(event);
    } catch (error) {
      this.#enter('failed');
      throw error;
    }
  }

  #take(event: RawEvent): void {
    const offsetBefore = this.#offset;
    if (event.type !== EVENT.rotate && event.type !== EVENT.heartbeat && event.type !== EVENT.heartbeatV2) {
      this.#moveOffset(event);
    }
    switch (event.type) {
      case EVENT.gtid:
      case EVENT.anonymousGtid:
        this.#begin(event, readGtid(event.body, event.type === EVENT.anonymousGtid), offsetBefore);
        return;
      case EVENT.taggedGtid:
        this.#begin(event, readTaggedGtid(event.body), offsetBefore);
        return;
      case EVENT.mariadbGtid: {
        const { gtid, standalone, alterPending, prepares } = readMariadbGtid(event);
        this.#begin(event, { ...UNNAMED, gtid }, offsetBefore);
        if (!standalone) this.#enter('inside');
        this.#alterPending = alterPending;
        if (prepares !== null) this.#startXa(xidText(prepares.global, prepares.branch, prepares.format));
        return;
      }
      case EVENT.rotate: {
        this.#requireOutside('a new binlog file');
        const { file, offset } = readRotate(event.body);
        this.#file = file;
        this.#offset = offset;
        return;
      }
      case EVENT.formatDescription:
        this.#requireOutside('a new binlog file');
        this.#server = readFormatDescription(event.body);
        return;
      case EVENT.heartbeat:
      case EVENT.heartbeatV2:
        if (this.state === 'outside') this.#sink.heartbeat(readHeartbeat(event, this.#server.mariadb));
        return;
      case EVENT.transactionPayload:
        this.#requireGroup(event);
        this.#count(event);
        for (const inner of readTransactionPayload(event.body)) this.#inGroup(inner, false, offsetBefore);
        return;
      default:
        this.#inGroup(event, true, offsetBefore);
        return;
    }
  }

  /**
   * Handles events inside a group, and events without changes. @param counts whether the event is part of the
   * fingerprint
   */
  #inGroup(event: RawEvent, counts: boolean, offsetBefore: number): void {
    const { type, body } = event;
    const kind = rowsKindOf(type);
    if (kind !== undefined) {
      this.#requireGroup(event);
      if (counts) this.#count(event);
      this.#rows.take(kind, type, body);
      return;
    }
    switch (type) {
      case EVENT.tableMap:
        this.#requireGroup(event);
        if (counts) this.#count(event);
        this.#rows.map(body, this.#server.mariadb);
        return;
      case EVENT.query:
      case EVENT.queryCompressed: {
        this.#query(event, counts, offsetBefore);
        return;
      }
      case EVENT.xid:
        this.#requireGroup(event);
        if (counts) this.#count(event);
        this.#end();
        return;
      case EVENT.xaPrepare:
        this.#requireGroup(event);
        if (counts) this.#count(event);
        if (this.#xid === null) {
          throw unsupported('The binlog holds an XA PREPARE without an XA START before it.', REPORT_HINT);
        }
        this.#sink.xa({ do: readOnePhase(body) ? 'one-phase' : 'prepare', xid: this.#xid });
        this.#xid = null;
        this.#end();
        return;
      case EVENT.beginLoadQuery:
      case EVENT.executeLoadQuery:
        this.#passOrThrow(
          new TributaryError('SOURCE_SETTING', 'The binlog holds LOAD DATA as a statement, without its rows.', {
            hint: FORMAT_HINT,
          }),
        );
        return;
      case EVENT.incident:
        throw new TributaryError('SOURCE_POSITION_LOST', 'The server says that changes are missing from its binlog.');
      // They hold values for the next statement. What to do depends on that statement.
      case EVENT.intvar:
      case EVENT.rand:
      case EVENT.userVar:
      // They do not concern rows.
      case EVENT.stop:
      case EVENT.ignorable:
      case EVENT.rowsQuery:
      case EVENT.previousGtids:
      case EVENT.transactionContext:
      case EVENT.viewChange:
      case EVENT.annotateRows:
      case EVENT.binlogCheckpoint:
      case EVENT.mariadbGtidList:
      case EVENT.startEncryption:
        return;
      default:
        if ((event.flags & FLAG_IGNORABLE) !== 0) return;
        throw unsupported(
          `The binlog holds an event of type ${type}, which this version of the agent does not know.`,
          'Upgrade the agent. Until then capture stops here so that it skips nothing.',
        );
    }
  }

  /** Updates the offset. Events inside a transaction of MariaDB have none. */
  #moveOffset(event: RawEvent): void {
    if (event.nextPosition === 0 || (event.flags & FLAG_ARTIFICIAL) !== 0) return;
    let base = Math.floor(this.#offset / OFFSET_WRAP) * OFFSET_WRAP;
    if (base + event.nextPosition < this.#offset) base += OFFSET_WRAP;
    this.#offset = base + event.nextPosition;
  }

  #requireOutside(what: string): void {
    if (this.state === 'outside') return;
    throw new TributaryError('EVENT_MALFORMED', `A transaction has no end; ${what} follows it.`);
  }

  #requireGroup(event: RawEvent): void {
    if (this.state === 'opened') this.#enter('inside');
    if (this.state === 'inside') return;
    throw new TributaryError('EVENT_MALFORMED', `An event of type ${event.type} is outside any transaction.`);
  }

  #count(event: RawEvent): void {
    this.#fingerprint = crc32(event.body, 0, event.body.length, (this.#fingerprint ^ event.type) >>> 0);
  }

  #begin(event: RawEvent, { gtid, committedAt, originallyAt }: GtidMark, offsetBefore: number): void {
    this.#requireOutside('another transaction');
    this.#gtid = gtid;
    this.#fingerprint = 0;
    this.#alterPending = false;
    this.#xid = null;
    this.#enter('opened');
    this.#count(event);
    const startOffset = event.nextPosition === 0 ? offsetBefore : this.#offset - event.length;
    this.#rows.begin(gtid ?? `${this.#file}:${startOffset}`);
    this.#sink.begin({
      gtid,
      file: this.#file,
      startOffset,
      committedAt: committedAt ?? isoMicroseconds(event.timestamp * 1_000_000),
      originallyAt,
      timestamp: event.timestamp,
    });
  }

  #startXa(xid: string): void {
    if (this.#xid !== null) return;
    this.#xid = xid;
    this.#sink.xa({ do: 'start', xid });
  }

  #end(): void {
    if (this.#xid !== null) {
      throw unsupported('The binlog holds an XA transaction that is neither prepared nor committed.', REPORT_HINT);
    }
    this.#rows.end();
    this.#enter('outside');
    this.#sink.end({
      gtid: this.#gtid,
      file: this.#file,
      endOffset: this.#offset,
      fingerprint: this.#fingerprint.toString(16).padStart(8, '0'),
    });
  }

  #query(event: RawEvent, counts: boolean, offsetBefore: number): void {
    const query = readQuery(event.body, event.type === EVENT.queryCompressed);
    const { schema } = query;
    const { text, dialect } = queryText(query, this.#charsets ?? ServerCharsets.builtIn(this.#server.mariadb));
    const statement = classifyStatement(text, schema, { ...this.#server, ...dialect });
    if (this.state === 'outside') {
      // MariaDB sends a comment in place of an event that this client did not request.
      if (statement.kind === 'harmless' && text.startsWith('#')) return;
      this.#begin(event, UNNAMED, offsetBefore);
    } else if (counts) {
      this.#count(event);
    }
    const opened = this.state === 'opened';
    switch (statement.kind) {
      case 'begin':
        if (opened) this.#enter('inside');
        return;
      case 'xa-start':
        if (opened) this.#enter('inside');
        this.#startXa(statement.xid);
        return;
      case 'commit':
        this.#end();
        return;
      case 'xa-commit':
      case 'xa-rollback': {
        const ended = statement.kind === 'xa-commit' ? 'commit' : 'rollback';
        if (this.#xid === null) this.#sink.xa({ do: ended, xid: statement.xid });
        else if (ended === 'commit') this.#sink.xa({ do: 'one-phase', xid: this.#xid });
        if (ended === 'commit') this.#xid = null;
        this.#end();
        return;
      }
      case 'rollback': {
        this.#rows.rollBack(0);
        this.#end();
        return;
      }
      case 'savepoint':
        this.#rows.savepoint(statement.name);
        return;
      case 'rollback-to':
        this.#rows.rollbackTo(statement.name);
        return;
      case 'xa-end':
      case 'xa-prepare':
        return;
      case 'harmless':
        break;
      case 'truncate':
        this.#sink.truncate(statement.table.schema, statement.table.name);
        break;
      case 'ddl':
        if (!this.#alterPending && this.#sink.ddl(statement.ddl)) this.#rows.forgetTables();
        break;
      case 'dml':
        this.#passOrThrow(
          new TributaryError('SOURCE_SETTING', `The binlog holds a statement instead of rows: ${beginningOf(text)}`, {
            hint: FORMAT_HINT,
          }),
        );
        break;
      case 'unknown':
        throw unsupported(
          `The binlog holds a statement that the agent does not recognise: ${beginningOf(text)}`,
          REPORT_HINT,
        );
    }
    // Without a BEGIN before it, the statement is the whole group.
    if (opened) this.#end();
  }

  /** The binlog does not say exactly what changed. Continues only if a snapshot will bring the rows. */
  #passOrThrow(error: TributaryError): void {
    if (!this.#sink.passes(error, null)) throw error;
  }
}
