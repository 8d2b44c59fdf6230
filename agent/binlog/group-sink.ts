/** What the reader of the binlog hands over, and to whom. */
import type { Value } from '../../shared/batch/batch.ts';
import type { TributaryError } from '../../shared/errors.ts';
import type { TableName } from '../../shared/table-name.ts';
import type { DdlStatement } from './ddl-statements.ts';
import type { JsonColumns } from '../values/json-columns.ts';
import type { SourceTable } from './table-map.ts';

/** Where and when an event group begins. */
export interface GroupStart {
  /** `uuid:number`, `uuid:tag:number` (MySQL), `domain-server-number` (MariaDB); null: anonymous. */
  readonly gtid: string | null;
  readonly file: string;
  /** Offset of the group's first event. */
  readonly startOffset: number;
  /** Commit time at this server, ISO 8601 UTC with six fractional digits; whole seconds where the server tells no more. */
  readonly committedAt: string | null;
  /** Commit time at the server where it was committed first, in the same form; null: not told. */
  readonly originallyAt: string | null;
  /** The first event's header timestamp, seconds since 1970. */
  readonly timestamp: number;
}

/** Where an event group ends: the only places at which capture may resume. */
export interface GroupEnd {
  readonly gtid: string | null;
  readonly file: string;
  readonly endOffset: number;
  /** CRC32 over the types and bodies of the group's events, 8 hex digits: the same group read again gives the same. */
  readonly fingerprint: string;
}

export interface BinlogPosition {
  readonly file: string;
  readonly offset: number;
}

/**
 * Takes the rows of one table definition. All arrays are the reader's and are used again: copy what you keep.
 * `values[c][r]` is column c (in table order) of row r.
 */
export interface TableWriter {
  /**
   * Which columns of before images the writer reads (usually the key's): the others are skipped undecoded and their
   * arrays stay empty. Absent: all. Read once, when the writer is handed to the reader.
   */
  readonly beforeColumns?: readonly number[];
  /**
   * Columns that the writer reads of no image: their arrays stay empty, and images may lack them, as MariaDB's updates do
   * generated columns, VIRTUAL and STORED (a TableMap event does not tell which they are). Absent: none. Read once.
   */
  readonly ignoredColumns?: readonly number[];
  /**
   * Where the after images of the rows event that comes next go as JSON: `insert` and `update` get no more of them than the
   * values of `beforeColumns` then. Null or absent: they get all values.
   */
  into?(): JsonColumns | null;
  insert(rows: number, values: readonly (readonly Value[])[]): void;
  /** Before and after image of each row, in order. */
  update(rows: number, before: readonly (readonly Value[])[], after: readonly (readonly Value[])[]): void;
  delete(rows: number, before: readonly (readonly Value[])[]): void;
}

/**
 * A step of an XA transaction. `start` comes first in its group, before rows that do not count yet; the group ends with
 * `prepare` (they may count later) or `one-phase` (they count now). `commit` and `rollback` come in a later group of
 * their own.
 */
export interface XaStep {
  readonly do: 'start' | 'prepare' | 'one-phase' | 'commit' | 'rollback';
  /** The transaction's name, the same at each of its steps. */
  readonly xid: string;
}

/**
 * What a reader of the binlog hands over. Calls come as begin, any number of others, end; heartbeats only between groups.
 * Any of them may throw: that ends the stream with the error.
 */
export interface GroupSink {
  begin(group: GroupStart): void;
  /**
   * Whether the table's rows matter at all, captured or not: asked before its definition is judged, so that a table that is not
   * captured may have types, character sets or metadata that capture does not know.
   */
  wants(schema: string, name: string): boolean;
  /** Whether a text is carried as the bytes of its own character set. */
  asBytes(schema: string, name: string, column: string): boolean;
  /**
   * Who takes the table's rows? Asked once a definition, again when it changed and after GroupReader.forgetTables. null:
   * its rows are skipped unread. The writer is kept while the definition stays the same.
   */
  table(definition: SourceTable): TableWriter | null;
  truncate(schema: string, name: string): void;
  ddl(statement: DdlStatement): void;
  xa(step: XaStep): void;
  /**
   * Rows have changed in a way that the binlog does not tell exactly. True: a snapshot that follows will bring them, go
   * on without; false: the reader stops with the error.
   * @param table whose rows; null: any table's
   */
  passes(error: TributaryError, table: TableName | null): boolean;
  /** The group is whole, captured rows or not. */
  end(mark: GroupEnd): void;
  /**
   * The server has sent everything before this place. It sends these when it has been idle for the heartbeat period; with
   * GTIDs also, at a stream's start, for groups that it skipped, and then newer ones may follow at once.
   */
  heartbeat(place: BinlogPosition): void;
}
