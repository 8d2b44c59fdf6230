/** What people and the head office ask to be copied, put behind what the snapshot has to do already. */
import type { Ask } from '../../shared/protocol.ts';
import type { Selection } from '../capture/selection.ts';
import type { CaptureSink } from '../capture/sink.ts';
import type { Spool } from '../spool/spool.ts';
import { idleProgress, queueAsk, queueRequests, queueTables, queueWhole } from './progress.ts';
import type { QueuedTable, SnapshotProgress } from './progress.ts';

export interface SnapshotRequestsOptions {
  readonly spool: Spool;
  readonly selection: Selection;
  /** Null: the binlog is not being read. */
  readonly sink: () => CaptureSink | null;
}

export class SnapshotRequests {
  readonly #o: SnapshotRequestsOptions;

  constructor(options: SnapshotRequestsOptions) {
    this.#o = options;
  }

  /** Copies tables again (none named: all), while changes go on. */
  take(tables: readonly QueuedTable[]): void {
    const { spool, sink } = this.#o;
    const position = spool.position();
    // Without one an epoch is about to begin, with a snapshot of its own.
    if (position === null) return;
    const queue = (progress: SnapshotProgress): SnapshotProgress =>
      tables.length === 0 ? queueWhole(progress) : queueTables(progress, tables);
    const reading = sink();
    if (reading !== null) reading.queueSnapshot(queue);
    else spool.savePosition(position, queue(spool.snapshot() ?? idleProgress()));
  }

  /** Copies the tables that the head office asks for, unless that was served; it repeats what is open. */
  serveAsks(asks: readonly Ask[]): void {
    const { spool, selection, sink } = this.#o;
    const done = new Set(spool.doneRequests());
    for (const { id, kind, tables } of asks) {
      if (kind !== 'snapshot' || done.has(id)) continue;
      const named = (tables ?? []).map(({ schema, name }) => ({ schema, name: selection.sourceName(schema, name) }));
      sink()?.queueSnapshot(progress => queueAsk(progress, id, named));
    }
  }

  /** The same for all tables. */
  serve(requests: readonly string[]): void {
    const done = new Set(this.#o.spool.doneRequests());
    const open = requests.filter(request => !done.has(request));
    if (open.length > 0) this.#o.sink()?.queueSnapshot(progress => queueRequests(progress, open));
  }
}
