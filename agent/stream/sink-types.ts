/** What a sink is made with, and what it reports to. */
import type { TributaryError } from '../../shared/errors.ts';
import type { TableName } from '../../shared/table-name.ts';
import type { KnownCatalogue } from './schema-changes.ts';
import type { SourceIdentity } from '../source/connection.ts';
import type { TableFilter } from '../source/table-filter.ts';
import type { Position, Spool } from '../spool/spool.ts';

export type SinkState = 'resuming' | 'comparing' | 'between-groups' | 'in-group' | 'storing' | 'broken';

/** Counts what capture does. */
export interface CaptureCounters {
  rows(schema: string, name: string, op: 'upsert' | 'delete', rows: number): void;
  group(): void;
  /** A binlog connection is open. */
  connected(): void;
  /** An event of this many bytes was read. */
  read(bytes: number): void;
  fault(code: string): void;
  epoch(reason: string): void;
}

/** Hears what the sink does. */
export interface SinkListener {
  /** A batch is in the spool. */
  onSpooled(): void;
  /** A group has ended, or the server was heard: the time to flush, or to go on reading. */
  onQuiet(): void;
  /** Something has happened to tables that no statement in the binlog tells of. */
  onUnlogged(message: string): void;
  /** A table is set aside from here on. */
  onSetAside(table: TableName, error: TributaryError): void;
}

export interface SinkOptions {
  readonly spool: Spool;
  readonly tableFilter: TableFilter;
  readonly identity: Pick<SourceIdentity, 'server' | 'gtids' | 'lowerCaseNames'>;
  /** Null: nothing is known of tables. */
  readonly catalogue: KnownCatalogue | null;
  readonly position: Position;
  readonly counters: CaptureCounters;
  readonly now: () => number;
  /** Whether small batches are spooled as text, because the link packs them; default: they are not. */
  readonly packs?: () => boolean;
  readonly listener: SinkListener;
}
