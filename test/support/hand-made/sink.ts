/** A sink of capture that a test feeds itself, group by group, beside a source that the test scripts. */
import { createTableFilter } from '../../../agent/source/table-filter.ts';
import { CaptureSink } from '../../../agent/stream/sink.ts';
import type { KnownCatalogue } from '../../../agent/stream/schema-changes.ts';
import type { SourceIdentity } from '../../../agent/source/connection.ts';
import type { SourceTable } from '../../../agent/binlog/table-map.ts';
import type { Position, Spool } from '../../../agent/spool/spool.ts';

export const UUID = '3e11fa47-71ca-11e1-9e33-c80aa9429562';
export const FILE = 'binlog.000001';
export const SALE: SourceTable = {
  schema: 'shop',
  name: 'sale',
  columns: [
    { name: 'id', type: 'int', key: 1, nullable: false, invisible: false },
    { name: 'v', type: 'int', nullable: true, invisible: false },
  ],
};
export const IDENTITY: SourceIdentity = {
  flavor: 'mysql',
  version: '9.7.4',
  server: UUID,
  gtids: true,
  lowerCaseNames: false,
};

export function newSink(spool: Spool, position: Position, catalogue: KnownCatalogue | null = null): CaptureSink {
  return new CaptureSink({
    spool,
    tableFilter: createTableFilter({ include: ['*.*'], exclude: [], map: {} }),
    identity: IDENTITY,
    catalogue,
    position,
    counters: {
      rows: () => undefined,
      group: () => undefined,
      connected: () => undefined,
      read: () => undefined,
      fault: () => undefined,
      epoch: () => undefined,
    },
    now: () => Date.now(),
    listener: {
      onSpooled: () => undefined,
      onQuiet: () => undefined,
      onUnlogged: () => undefined,
      onSetAside: () => undefined,
    },
  });
}

export const START: Position = {
  source: { server: UUID, gtidSet: '', file: FILE, offset: 4, committedAt: null },
  lastGroup: null,
};

export function beginGroup(
  sink: CaptureSink,
  number: number,
  offset: number,
  committedAt = '2026-11-23T10:00:00.000000Z',
): void {
  sink.begin({
    gtid: `${UUID}:${number}`,
    file: FILE,
    startOffset: offset,
    committedAt,
    originallyAt: committedAt,
    timestamp: 0,
  });
}
