/**
 * Turns raw binlog events into whole event groups: begin, rows and statements, end.
 *
 * Keeps its own account of groups, because a position may only ever be one where a group ended. States:
 *
 *   outside ──GTID──▶ opened ──BEGIN, XA START──▶ inside ──Xid, COMMIT, XA end──▶ outside
 *                       └──any other statement (DDL …)──▶ outside
 *   outside ──BEGIN (servers that log no GTID event)──▶ inside
 *   any ──an exception──▶ dead
 *
 * MariaDB's GTID events lead to `inside` at once, or, for a standalone statement, to `opened`.
 *
 * Invariants: an event type that is not known is an error unless the server marks it as ignorable; nothing is skipped that
 * could have changed a captured row. Rows are group-rows.ts's.
 */
import { TributaryError, assert } from '../../shared/errors.ts';
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

export type { RawEvent } from './events.ts';
export type { GroupEnd, GroupSink, GroupStart, BinlogPosition, TableWriter, XaStep } from './group-sink.ts';
export type { DdlStatement } from './statements.ts';
export type { SourceColumn, SourceTable } from './table-map.ts';

type State = 'outside' | 'opened' | 'inside' | 'dead';

/** What a group is called whose first event tells neither name nor time. */
const UNNAMED: GtidMark = { gtid: null, committedAt: null, originallyAt: null };
/** Offsets in event headers have 32 bits; files can be longer. */
const OFFSET_WRAP = 2 ** 32;

const FORMAT_HINT =
  "Run: SET GLOBAL binlog_format = 'ROW'; add binlog_format=ROW below [mysqld] in my.cnf, and look for sessions that set " +
  'binlog_format. Then `tributary-agent snapshot` copies all tables and lets capture go on.';

function unsupported(message: string, hint: string): TributaryError {
  return new TributaryError('EVENT_UNSUPPORTED', message, { hint });
}

/** Turns raw events into the calls of a sink. */
export class GroupReader {
  readonly #sink: GroupSink;
  readonly #rows: GroupRows;
  readonly #charsets: ServerCharsets | undefined;
  #state: State = 'outside';
  /** Of the server that has written the file that is read. */
  #server: FormatDescription = { mariadb: false, version: 0 };
  #file: string;
  #offset: number;
  /** Of the open group. */
  #gtid: string | null = null;
  #fingerprint = 0;
  #alterPending = false;
  /** Name of the XA transaction that the open group is; null: it is none. */
  #xid: string | null = null;

  /**
   * @param start where the stream begins, until a Rotate event says so itself
   * @param charsets of the server; default: only those that are built in
   * @param undone what earlier readers of this binlog have found to be undone
   */
  constructor(
    sink: GroupSink,
    start: BinlogPosition | null = null,
    charsets?: ServerCharsets,
    undone: RolledBackRows = new RolledBackRows(),
  ) {
    this.#sink = sink;
    this.#charsets = charsets;
    this.#rows = new GroupRows(sink, charsets, undone);
    this.#file = start?.file ?? '';
    this.#offset = start?.offset ?? 0;
  }

  /** The sink is asked again for every table, whether its definition changed or not. */
  forgetTables(): void {
    this.#rows.forgetTables();
  }

  /**
   * Takes the next event.
   * @throws TributaryError whatever makes further capture impossible, and whatever the sink throws; the reader is dead then
   */
  handle(event: RawEvent): void {
    assert(this.#state !== 'dead', 'an event was given to a group reader that had failed');
    try {
      this.#take(event);
    } catch (error) {
      this.#state = 'dead';
      throw error;
    }
  }

  #take(event: RawEvent): void {
    const before = this.#offset;
    if (event.type !== EVENT.rotate && event.type !== EVENT.heartbeat && event.type !== EVENT.heartbeatV2) {
      this.#move(event);
    }
    switch (event.type) {
      case EVENT.gtid:
      case EVENT.anonymousGtid:
        this.#begin(event, readGtid(event.body, event.type === EVENT.anonymousGtid), 'opened', before);
        return;
      case EVENT.taggedGtid:
        this.#begin(event, readTaggedGtid(event.body), 'opened', before);
        return;
      case EVENT.mariadbGtid: {
        const { gtid, standalone, alterPending, prepares } = readMariadbGtid(event);
        this.#begin(event, { ...UNNAMED, gtid }, standalone ? 'opened' : 'inside', before);
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
        if (this.#state === 'outside') this.#sink.heartbeat(readHeartbeat(event, this.#server.mariadb));
        return;
      case EVENT.transactionPayload:
        this.#requireGroup(event);
        this.#count(event);
        for (const inner of readTransactionPayload(event.body)) this.#inGroup(inner, false, before);
        return;
      default:
        this.#inGroup(event, true, before);
        return;
    }
  }

  /** Events of a group's inside, and those that say nothing. `counts`: part of the fingerprint by themselves. */
  #inGroup(event: RawEvent, counts: boolean, before: number): void {
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
        this.#query(event, counts, before);
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
          throw unsupported(
            'The binlog holds XA PREPARE of a transaction that did not begin with XA START.',
            'Report it; capture stops here so that nothing is skipped.',
          );
        }
        this.#sink.xa({ do: readOnePhase(body) ? 'one-phase' : 'prepare', xid: this.#xid });
        this.#xid = null;
        this.#end();
        return;
      case EVENT.beginLoadQuery:
      case EVENT.executeLoadQuery:
        this.#pass(
          new TributaryError('SOURCE_SETTING', 'The binlog holds LOAD DATA as a statement.', { hint: FORMAT_HINT }),
        );
        return;
      case EVENT.incident:
        throw new TributaryError('SOURCE_POSITION_LOST', 'The server says that changes are missing from its binlog.');
      // Values for a statement that follows: the statement decides.
      case EVENT.intvar:
      case EVENT.rand:
      case EVENT.userVar:
      // Nothing about rows.
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
          `The binlog holds an event of type ${type}, which this version does not know.`,
          'Upgrade the agent; until then capture stops here so that nothing is skipped.',
        );
    }
  }

  /** Follows the offset. Events inside of MariaDB's transactions have none. */
  #move(event: RawEvent): void {
    if (event.nextPosition === 0 || (event.flags & FLAG_ARTIFICIAL) !== 0) return;
    let base = Math.floor(this.#offset / OFFSET_WRAP) * OFFSET_WRAP;
    if (base + event.nextPosition < this.#offset) base += OFFSET_WRAP;
    this.#offset = base + event.nextPosition;
  }

  #requireOutside(what: string): void {
    if (this.#state === 'outside') return;
    throw new TributaryError('EVENT_MALFORMED', `A transaction without an end is followed by ${what}.`);
  }

  #requireGroup(event: RawEvent): void {
    if (this.#state === 'opened') this.#state = 'inside';
    if (this.#state === 'inside') return;
    throw new TributaryError('EVENT_MALFORMED', `An event of type ${event.type} stands outside of any transaction.`);
  }

  #count(event: RawEvent): void {
    this.#fingerprint = crc32(event.body, 0, event.body.length, (this.#fingerprint ^ event.type) >>> 0);
  }

  #begin(event: RawEvent, { gtid, committedAt, originallyAt }: GtidMark, state: State, before: number): void {
    this.#requireOutside('another transaction');
    this.#gtid = gtid;
    this.#fingerprint = 0;
    this.#alterPending = false;
    this.#xid = null;
    this.#state = state;
    this.#count(event);
    const startOffset = event.nextPosition === 0 ? before : this.#offset - event.length;
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
      throw unsupported(
        'The binlog holds an XA transaction that ends neither prepared nor committed.',
        'Report it; capture stops here so that nothing is skipped.',
      );
    }
    this.#rows.end();
    this.#state = 'outside';
    this.#sink.end({
      gtid: this.#gtid,
      file: this.#file,
      endOffset: this.#offset,
      fingerprint: this.#fingerprint.toString(16).padStart(8, '0'),
    });
  }

  #query(event: RawEvent, counts: boolean, before: number): void {
    const query = readQuery(event.body, event.type === EVENT.queryCompressed);
    const { schema } = query;
    const { text, dialect } = queryText(query, this.#charsets ?? ServerCharsets.builtIn(this.#server.mariadb));
    const statement = classifyStatement(text, schema, { ...this.#server, ...dialect });
    if (this.#state === 'outside') {
      // MariaDB stands a comment in for an event that this client did not ask for.
      if (statement.kind === 'harmless' && text.startsWith('#')) return;
      this.#begin(event, UNNAMED, 'opened', before);
    } else if (counts) {
      this.#count(event);
    }
    const opened = this.#state === 'opened';
    switch (statement.kind) {
      case 'begin':
        this.#state = 'inside';
        return;
      case 'xa-start':
        this.#state = 'inside';
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
        this.#rows.undo(0);
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
        if (!this.#alterPending) this.#sink.ddl(statement.ddl);
        break;
      case 'dml':
        this.#pass(
          new TributaryError('SOURCE_SETTING', `Rows were changed by a statement in the binlog: ${beginningOf(text)}`, {
            hint: FORMAT_HINT,
          }),
        );
        break;
      case 'unknown':
        throw unsupported(
          `The binlog holds a statement that is not recognised: ${beginningOf(text)}`,
          'Report it; capture stops here so that nothing is skipped.',
        );
    }
    // Without a BEGIN before it, the statement is the group.
    if (opened) this.#end();
  }

  /** The binlog does not tell exactly what has changed: goes on only if a snapshot will. */
  #pass(error: TributaryError): void {
    if (!this.#sink.passes(error, null)) throw error;
  }
}
