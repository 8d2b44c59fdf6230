/** The interface between the binlog reader and the code that takes its groups. */
import type { Value } from '../../shared/batch/batch.ts';
import type { TributaryError } from '../../shared/errors.ts';
import type { TableName } from '../../shared/table-name.ts';
import type { DdlStatement } from './ddl-statements.ts';
import type { JsonColumns } from '../values/json-columns.ts';
import type { StoredColumn } from '../spool/stored-definitions.ts';
import type { SourceTable } from './table-map.ts';

/** Where and when an event group begins. */
export interface GroupStart {
  /** `uuid:number`, `uuid:tag:number` (MySQL), `domain-server-number` (MariaDB); null: anonymous. */
  readonly gtid: string | null;
  readonly file: string;
  /** Offset of the group's first event. */
  readonly startOffset: number;
  /** Commit time at this server, ISO 8601 UTC with six fractional digits; whole seconds if the server logs no more. */
  readonly committedAt: string | null;
  /** Commit time at the server that committed it first, in the same form; null: unknown. */
  readonly originallyAt: string | null;
  /** The first event's header timestamp, seconds since 1970. */
  readonly timestamp: number;
}

/** Where an event group ends. Capture may resume only at such a place. */
export interface GroupEnd {
  readonly gtid: string | null;
  readonly file: string;
  readonly endOffset: number;
  /** CRC32 over the types and bodies of the group's events, 8 hex digits. Reading a group again gives the same value. */
  readonly fingerprint: string;
}

export interface BinlogPosition {
  readonly file: string;
  readonly offset: number;
}

/**
 * Takes the rows of one table definition. The reader owns all arrays and reuses them: copy what you keep.
 * `values[c][r]` is column c (in table order) of row r.
 */
export interface TableWriter {
  /**
   * The columns of before images that the writer reads (usually the key's). The reader does not decode the others, and
   * their arrays stay empty. Absent: all. Read once, when the reader gets the writer.
   */
  readonly beforeColumns?: readonly number[];
  /**
   * Columns that the writer never reads. Their arrays stay empty, and images may lack them: MariaDB's updates lack
   * generated columns, VIRTUAL and STORED, and a TableMap event does not say which they are. Absent: none. Read once.
   */
  readonly ignoredColumns?: readonly number[];
  /**
   * Where the reader writes the after images of the next rows event, as JSON. `insert` and `update` then get only the
   * values of `beforeColumns`. Null or absent: they get all values.
   */
  into?(): JsonColumns | null;
  insert(rows: number, values: readonly (readonly Value[])[]): void;
  /** Before and after image of each row, in order. */
  update(rows: number, before: readonly (readonly Value[])[], after: readonly (readonly Value[])[]): void;
  delete(rows: number, before: readonly (readonly Value[])[]): void;
}

/**
 * A step of an XA transaction. `start` comes first in its group, before rows that are not committed yet. The group ends
 * with `prepare` (they may be committed later) or `one-phase` (they are committed now). `commit` and `rollback` come in a
 * later group of their own.
 */
export interface XaStep {
  readonly do: 'start' | 'prepare' | 'one-phase' | 'commit' | 'rollback';
  /** The transaction's name, the same at each of its steps. */
  readonly xid: string;
}

/**
 * Takes what the reader finds in the binlog. The calls for a group are `begin`, any number of others, `end`; heartbeats
 * come only between groups. Any call may throw: the stream then ends with that error.
 */
export interface GroupSink {
  begin(group: GroupStart): void;
  /**
   * Whether the table's rows are needed at all, captured or not. The reader asks before it reads the definition, so
   * that other tables may have types, character sets or metadata that capture does not know.
   */
  wants(schema: string, name: string): boolean;
  /** Whether a text column is sent as bytes in its own character set. */
  asBytes(schema: string, name: string, column: string): boolean;
  /**
   * The table's columns at this place, for a TableMap event that does not name them; null: they are not known, and the
   * rows up to the next TableMap event are passed by, because a snapshot will bring them.
   */
  columns(table: TableName): readonly StoredColumn[] | null;
  /**
   * The writer for the table's rows; null: the reader skips them. The reader asks once for each definition, and keeps the
   * writer until the definition changes or `ddl` says that definitions have changed.
   */
  table(definition: SourceTable): TableWriter | null;
  truncate(schema: string, name: string): void;
  /** @returns whether the writers that `table` returned are void, so that the reader must ask for them again */
  ddl(statement: DdlStatement): boolean;
  xa(step: XaStep): void;
  /**
   * Rows have changed in a way that the binlog does not describe exactly.
   * @param table the table that they belong to; null: any table
   * @returns whether to go on without them, because a snapshot will bring them; false: the reader stops with the error
   */
  passes(error: TributaryError, table: TableName | null): boolean;
  /** The group is complete, with or without captured rows. */
  end(mark: GroupEnd): void;
  /**
   * The server has sent everything before this place. It sends a heartbeat when it was idle for the heartbeat period. With
   * GTIDs it also sends heartbeats at the start of a stream, for groups that it skips; newer groups may follow at once.
   */
  heartbeat(place: BinlogPosition): void;
}
