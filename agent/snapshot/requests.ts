/** Queues the tables that people or the head office want copied, after the work that the snapshot already has. */
import type { BranchRequest } from '../../shared/protocol.ts';
import type { TableName } from '../../shared/table-name.ts';
import type { TableFilter } from '../source/table-filter.ts';
import type { CaptureSink } from '../stream/sink.ts';
import type { Spool } from '../spool/spool.ts';
import { idleProgress, queueRequests, queueTables, queueWhole } from '../spool/snapshot-progress.ts';
import type { QueuedTable, SnapshotProgress } from '../spool/snapshot-progress.ts';

export interface SnapshotRequestsOptions {
  readonly spool: Spool;
  readonly tableFilter: TableFilter;
  /** Its sink is null while the binlog is not being read. */
  readonly stream: { readonly sink: CaptureSink | null };
  readonly now: () => number;
}

export class SnapshotRequests {
  readonly #o: SnapshotRequestsOptions;

  constructor(options: SnapshotRequestsOptions) {
    this.#o = options;
  }

  /** Copies these tables again, or all if the list is empty, while changes go on. */
  take(tables: readonly QueuedTable[]): void {
    const { spool, stream } = this.#o;
    const position = spool.position();
    // Without a position an epoch is about to begin, with a snapshot of its own.
    if (position === null) return;
    const queue = (progress: SnapshotProgress): SnapshotProgress =>
      tables.length === 0 ? queueWhole(progress) : queueTables(progress, tables);
    if (stream.sink !== null) stream.sink.queueSnapshot(queue);
    else spool.savePosition(position, queue(spool.snapshot() ?? idleProgress()));
  }

  /** Copies what the head office requests, unless it was served: every answer repeats the open requests. */
  serve(requests: readonly BranchRequest[]): void {
    const { spool, tableFilter, stream, now } = this.#o;
    const sourceNames = (tables: readonly TableName[]): TableName[] =>
      tables.map(({ schema, name }) => ({ schema, name: tableFilter.sourceName(schema, name) }));
    const snapshots = requests.filter(({ kind }) => kind === 'snapshot');
    if (snapshots.length === 0) return;
    const done = new Set(spool.doneRequests());
    const open = snapshots
      .filter(({ id }) => !done.has(id))
      .map(({ id, tables }) => ({ id, tables: tables === null ? null : sourceNames(tables) }));
    stream.sink?.queueSnapshot(progress => queueRequests(progress, open, now()));
  }
}
