/**
 * Copies rows that existed before capture began, without writing to the source. It takes one snapshot after the other,
 * table by table, chunk by chunk, mixed into the stream. keyed-snapshot.ts copies tables with a key,
 * keyless-snapshot.ts the others.
 *
 * A commit is in the binlog before a SELECT sees it. A view must have everything that the stream has emitted. On MySQL
 * with GTIDs the snapshot waits for these GTIDs. MariaDB reports the exact place of a consistent snapshot. On MySQL
 * without GTIDs the snapshot reads with locks, which waits for commits under way.
 *
 * A Snapshotter serves one binlog connection. If the connection is lost, the pending chunk is discarded. The spool
 * stores the progress in one transaction with the rows.
 */
import { randomUUID } from 'node:crypto';
import { TributaryError } from '../../shared/errors.ts';
import { pause } from '../../shared/pause.ts';
import { tableKey, tableText } from '../../shared/table-name.ts';
import { keyColumns } from '../stream/change-buffer.ts';
import type { FaultWatch } from '../fault-watch.ts';
import type { Spool } from '../spool/spool.ts';
import { KeylessSnapshot } from './keyless-snapshot.ts';
import type { KeylessSnapshotOptions } from './keyless-snapshot.ts';
import { KeyedSnapshot } from './keyed-snapshot.ts';
import { endMarker, startMarker } from './markers.ts';
import {
  beginProgress,
  currentTable,
  follow,
  hasQueue,
  idleProgress,
  updateTable,
} from '../spool/snapshot-progress.ts';
import type { QueuedTable, SnapshotProgress, SnapshotTable } from '../spool/snapshot-progress.ts';
import { SnapshotSource, refuseProblem } from './snapshot-source.ts';
import { between, hasChanged } from './stream-moments.ts';

/** A snapshot fills no more of the spool than this: the rest is for the changes that the branch makes meanwhile. */
const SHARE_OF_SPOOL = 0.5;
/** After a snapshot, the next one for cascades waits this many times as long as it took. */
const REST_FOR_CASCADES = 4;
const RETRY_MS = 1_000;
const WAIT_MS = 200;
/** A statement may be in the binlog a moment before the catalogue shows its effect. */
const SETTLED_MS = 1_000;
/** How often to look whether there is something to copy, so that an idle branch costs little. */
const IDLE_MS = 1_000;

export interface SnapshotterOptions extends KeylessSnapshotOptions {
  readonly spool: Spool;
  /** Takes faults that are retried. */
  readonly trouble: FaultWatch;
}

export class Snapshotter {
  readonly #o: SnapshotterOptions;
  readonly #source: SnapshotSource;
  readonly #keyed: KeyedSnapshot;
  readonly #keyless: KeylessSnapshot;
  /** Tables that statements have created or changed, and when to ask the catalogue whether they can be captured. */
  readonly #unchecked = new Map<string, { readonly table: QueuedTable; readonly from: number }>();
  #begunAt = 0;
  /** Until then, tables that cascades have changed wait, so that copying takes only a part of the time. */
  #restUntil = 0;

  constructor(options: SnapshotterOptions) {
    this.#o = options;
    this.#source = new SnapshotSource(options);
    this.#keyed = new KeyedSnapshot({ ...options, source: this.#source });
    this.#keyless = new KeylessSnapshot(options);
  }

  /** Works until aborted. Retries when its connection fails. @throws what a person must repair */
  async run(signal: AbortSignal): Promise<void> {
    // A function, because TypeScript would assume that the state is the same after an await.
    const stopping = (): boolean => signal.aborted;
    try {
      while (!stopping()) {
        try {
          const hasStepped = await this.#step(signal);
          this.#o.trouble.passed();
          if (!hasStepped) await pause(this.#done() ? IDLE_MS : WAIT_MS, signal);
        } catch (error) {
          // The table may have changed during the query. The stream will say so, but only later.
          this.#source.drop();
          this.#keyless.close();
          if (stopping()) return;
          if (!(error instanceof TributaryError) || !error.retryable) throw error;
          this.#o.trouble.note(error);
          this.#o.logger.warn({ err: error }, 'A snapshot chunk could not be read. It is read again.');
          await pause(RETRY_MS, signal);
        }
      }
    } finally {
      this.#source.drop();
      this.#keyless.close();
    }
  }

  /** Whether nothing is being copied, and nothing waits to be copied. */
  #done(): boolean {
    const progress = this.#o.spool.snapshot() ?? idleProgress();
    return progress.finished && !hasQueue(progress);
  }

  /** Takes the next step. @returns false: there is nothing to do */
  async #step(signal: AbortSignal): Promise<boolean> {
    await this.#checkChanged(this.#o.sink.changedTables.splice(0));
    const progress = this.#o.spool.snapshot() ?? idleProgress();
    if (!this.#o.sink.isTaking || this.#o.sink.isBehindCatalogue) return false;
    const usage = this.#o.spool.usage();
    if (!usage.room || usage.waitingBytes > usage.maxBytes * SHARE_OF_SPOOL) {
      this.#keyless.close();
      return false;
    }
    if (progress.finished) {
      if (!hasQueue(progress) || this.#o.sink.cascadesWait(progress, this.#restUntil)) return false;
      await this.#begin(progress, signal);
    } else if (!progress.started) {
      await this.#mark(progress, signal);
    } else {
      const table = currentTable(progress);
      if (table === null) await this.#finish(progress, signal);
      else await this.#copy(table, signal);
    }
    return true;
  }

  /** @throws TributaryError VALUE_UNSUPPORTED if a statement has changed a table so that its binlog does not show its rows */
  async #checkChanged(changed: readonly QueuedTable[]): Promise<void> {
    this.#source.forget(changed);
    const from = Date.now() + SETTLED_MS;
    for (const { schema, name } of changed) {
      this.#unchecked.set(tableKey({ schema, name }), { table: { schema, name }, from });
    }
    const due = [...this.#unchecked].filter(([, each]) => each.from <= Date.now());
    if (due.length === 0) return;
    await this.#source.refuseUnsupported(due.map(([, { table }]) => table));
    for (const [key] of due) this.#unchecked.delete(key);
  }

  /** Begins the next snapshot, of the queued tables that exist. */
  async #begin(progress: SnapshotProgress, signal: AbortSignal): Promise<void> {
    const all = await this.#source.tables();
    const wanted = progress.queuedWhole
      ? all
      : all.filter(table => progress.queued.some(each => each.schema === table.schema && each.name === table.name));
    for (const table of wanted) refuseProblem(table);
    const missing = progress.queued.filter(
      each => !all.some(table => table.schema === each.schema && table.name === each.name),
    );
    const fresh = beginProgress(randomUUID(), progress.queuedWhole, wanted);
    const next = { ...fresh, requests: progress.queuedRequests };
    await between(this.#o.sink, this.#o.sink.place, signal, () => {
      // Tables that were queued while the list was read wait for the snapshot after this one.
      this.#o.sink.emitSnapshot(startMarker(next, wanted, this.#o.tableFilter), now =>
        follow({ ...next, started: true }, progress, now),
      );
    });
    this.#begunAt = Date.now();
    this.#o.logger.info({ snapshot: next.id, tables: wanted.length }, 'A snapshot begins.');
    if (missing.length > 0) {
      const names = missing.map(tableText);
      this.#o.logger.warn({ tables: names }, 'Some tables to be copied do not exist, or the user may not see them.');
    }
  }

  /** Emits the start marker of an epoch whose first batch did not get into the spool. */
  async #mark(progress: SnapshotProgress, signal: AbortSignal): Promise<void> {
    const all = await this.#source.tables();
    const tables = all.filter(table =>
      progress.tables.some(each => each.schema === table.schema && each.name === table.name),
    );
    for (const table of tables) refuseProblem(table);
    await between(this.#o.sink, this.#o.sink.place, signal, () => {
      this.#o.sink.emitSnapshot(startMarker(progress, tables, this.#o.tableFilter), now => ({ ...now, started: true }));
    });
  }

  async #finish(progress: SnapshotProgress, signal: AbortSignal): Promise<void> {
    await between(this.#o.sink, this.#o.sink.place, signal, () => {
      this.#o.sink.emitSnapshot(endMarker(progress, this.#o.tableFilter), now => ({ ...now, finished: true }));
    });
    if (this.#begunAt > 0) this.#restUntil = Date.now() + REST_FOR_CASCADES * (Date.now() - this.#begunAt);
    const rows = progress.tables.reduce((sum, table) => sum + table.rows, 0);
    this.#o.logger.info({ snapshot: progress.id, tables: progress.tables.length, rows }, 'A snapshot has finished.');
  }

  async #copy(table: SnapshotTable, signal: AbortSignal): Promise<void> {
    const { sink } = this.#o;
    const definition = await this.#source.definition(table);
    this.#keyless.keep(definition);
    if (definition === null) {
      await between(sink, sink.place, signal, () => {
        if (!hasChanged(sink, table)) sink.emitSnapshot(null, now => updateTable(now, table, { state: 'done' }));
      });
      return;
    }
    const how = keyColumns(definition.columns).length === 0 ? this.#keyless : this.#keyed;
    await how.next(table, definition, signal);
  }
}
