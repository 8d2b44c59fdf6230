/**
 * Copies rows that existed before capture began, without writing to the source. It takes one snapshot after the other,
 * table by table, chunk by chunk, mixed into the stream. keyed-snapshot.ts copies tables with a key,
 * keyless-snapshot.ts the others.
 *
 * A commit is in the binlog before a SELECT sees it. A view must have everything that the stream has emitted. On MySQL
 * with GTIDs the snapshot waits for these GTIDs. MariaDB reports the exact place of a consistent snapshot. On MySQL
 * without GTIDs the snapshot reads with locks, which waits for commits under way.
 *
 * A table that cannot be copied is set aside, and the others go on. Every RETURN_LOOK_MS the catalogue is asked whether
 * the cause is gone; where only the rows can show it, the table is tried again after pauses that grow.
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
  forgetSetAside,
  hasQueue,
  idleProgress,
  queueTables,
  returned,
  returning,
  setAsideEntry,
  updateTable,
} from '../spool/snapshot-progress.ts';
import type {
  QueuedTable,
  SetAsideTable,
  SnapshotProgress,
  SnapshotTable,
  Trouble,
} from '../spool/snapshot-progress.ts';
import { noted, pauseMs, RETURNS_TRIED } from '../growing-pause.ts';
import { troubleOf } from '../source/preflight.ts';
import { unsupportedError } from '../source/catalogue-facts.ts';
import type { CapturedTable } from '../source/tables.ts';
import { SnapshotSource } from './snapshot-source.ts';
import { between, hasChanged } from './stream-moments.ts';

/** A snapshot fills no more of the spool than this: the rest is for the changes that the branch makes meanwhile. */
const SHARE_OF_SPOOL = 0.5;
/** After a snapshot, the next one for cascades waits this many times as long as it took. */
const REST_FOR_CASCADES = 4;
const RETRY_MS = 1_000;
const WAIT_MS = 200;
/** How often to look whether tables that are set aside can be copied again. */
const RETURN_LOOK_MS = 10_000;
/** A statement may be in the binlog a moment before the catalogue shows its effect. */
const SETTLED_MS = 1_000;
/** How often to look whether there is something to copy, so that an idle branch costs little. */
const IDLE_MS = 1_000;

/** Faults of a copy that concern its table alone. */
const OF_THE_TABLE: ReadonlySet<string> = new Set(['VALUE_UNSUPPORTED', 'SOURCE_TABLE']);

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
  #lookedForReturnsAt = 0;
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
    await this.#checkChanged(this.#o.sink.changedTables.splice(0), signal);
    await this.#lookForReturns(signal);
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

  /** Looks at tables that statements have changed: whether the binlog shows their rows, and whether they can return. */
  async #checkChanged(changed: readonly QueuedTable[], signal: AbortSignal): Promise<void> {
    this.#source.forget(changed);
    const from = Date.now() + SETTLED_MS;
    for (const { schema, name } of changed) {
      this.#unchecked.set(tableKey({ schema, name }), { table: { schema, name }, from });
    }
    const due = [...this.#unchecked].filter(([, each]) => each.from <= Date.now());
    if (due.length === 0) return;
    const unsupported = await this.#source.unsupported(due.map(([, { table }]) => table));
    await this.#setAside(
      unsupported.map(table => ({ table, trouble: { error: unsupportedError(table), shownBy: 'catalogue' } })),
      signal,
    );
    for (const [key] of due) this.#unchecked.delete(key);
    const { setAside } = this.#o.spool.snapshot() ?? idleProgress();
    const back = setAside.filter(
      each => each.state === 'aside' && due.some(([, { table }]) => tableKey(table) === tableKey(each)),
    );
    await this.#queueReturns(back, false);
  }

  /** Looks whether tables that are set aside can be copied again. */
  async #lookForReturns(signal: AbortSignal): Promise<void> {
    const { setAside } = this.#o.spool.snapshot() ?? idleProgress();
    const aside = setAside.filter(({ state }) => state === 'aside');
    if (aside.length === 0 || signal.aborted || Date.now() - this.#lookedForReturnsAt < RETURN_LOOK_MS) return;
    this.#lookedForReturnsAt = Date.now();
    await this.#queueReturns(aside, true);
  }

  /** Queues those of the tables that can be copied, as far as the catalogue says. @param pauses whether to wait between tries */
  async #queueReturns(aside: readonly SetAsideTable[], pauses: boolean): Promise<void> {
    if (aside.length === 0) return;
    const { identity, sink, spool } = this.#o;
    const all = await this.#source.tables();
    const tried = spool.snapshot()?.returnsTried ?? [];
    const mayTry = !pauses || pauseMs(tried, RETURNS_TRIED, Date.now()) === 0;
    const back = aside.filter(each => {
      const table = all.find(({ schema, name }) => schema === each.schema && name === each.name);
      if (table === undefined || troubleOf(identity, table) !== null) return false;
      return each.shownBy === 'catalogue' || mayTry;
    });
    if (back.length === 0) return;
    const isTried = pauses && back.some(({ shownBy }) => shownBy === 'rows');
    const names = back.map(({ schema, name }) => ({ schema, name }));
    sink.queueSnapshot(progress => ({
      ...queueTables(progress, names),
      returnsTried: isTried ? noted(progress.returnsTried, Date.now()) : progress.returnsTried,
    }));
    this.#o.logger.info({ tables: names.map(tableText) }, 'Tables that were set aside are copied again.');
  }

  /** @throws the first table's error, if capture is to halt at it */
  async #setAside(
    troubled: readonly { readonly table: QueuedTable; readonly trouble: Trouble }[],
    signal: AbortSignal,
  ): Promise<void> {
    const { sink, tableFilter } = this.#o;
    const [first] = troubled;
    if (first === undefined) return;
    if (tableFilter.onTableTrouble === 'halt') throw first.trouble.error;
    await between(sink, sink.place, signal, () => {
      for (const { table, trouble } of troubled) sink.setAside(table, trouble);
    });
  }

  /** Sets aside those of the tables that the catalogue shows to be impossible. @returns whether there were any */
  async #setImpossibleAside(tables: readonly CapturedTable[], signal: AbortSignal): Promise<boolean> {
    const troubled = tables.flatMap(table => {
      const error = troubleOf(this.#o.identity, table);
      return error === null ? [] : [{ table, trouble: { error, shownBy: 'catalogue' } as const }];
    });
    await this.#setAside(troubled, signal);
    return troubled.length > 0;
  }

  /** Begins the next snapshot, of the queued tables that exist. */
  async #begin(progress: SnapshotProgress, signal: AbortSignal): Promise<void> {
    const all = await this.#source.tables();
    const wanted = progress.queuedWhole
      ? all
      : all.filter(table => progress.queued.some(each => each.schema === table.schema && each.name === table.name));
    const isAside = ({ schema, name }: QueuedTable): boolean =>
      setAsideEntry(progress, { schema, name })?.state === 'aside' &&
      !progress.queued.some(each => each.schema === schema && each.name === name);
    const possible = wanted.filter(table => !isAside(table) || troubleOf(this.#o.identity, table) === null);
    // What is left in the queue comes with the next step.
    if (await this.#setImpossibleAside(possible, signal)) return;
    const missing = progress.queued.filter(
      each => !all.some(table => table.schema === each.schema && table.name === each.name),
    );
    const fresh = beginProgress(randomUUID(), progress.queuedWhole, possible);
    const next = { ...fresh, requests: progress.queuedRequests };
    const isGone = ({ schema, name }: QueuedTable): boolean =>
      next.whole && !all.some(table => table.schema === schema && table.name === name);
    const begun = (now: SnapshotProgress): SnapshotProgress =>
      returning(forgetSetAside(follow({ ...next, started: true }, progress, now), isGone), possible);
    await between(this.#o.sink, this.#o.sink.place, signal, () => {
      // Tables that were queued while the list was read wait for the snapshot after this one.
      this.#o.sink.markSnapshot(begun, now => startMarker(now, possible, this.#o.tableFilter));
    });
    this.#begunAt = Date.now();
    this.#o.logger.info({ snapshot: next.id, tables: possible.length }, 'A snapshot begins.');
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
    if (await this.#setImpossibleAside(tables, signal)) return;
    const begun = (now: SnapshotProgress): SnapshotProgress => returning({ ...now, started: true }, tables);
    await between(this.#o.sink, this.#o.sink.place, signal, () => {
      this.#o.sink.markSnapshot(begun, now => startMarker(now, tables, this.#o.tableFilter));
    });
  }

  async #finish(progress: SnapshotProgress, signal: AbortSignal): Promise<void> {
    await between(this.#o.sink, this.#o.sink.place, signal, () => {
      const ended = (now: SnapshotProgress): SnapshotProgress => returned({ ...now, finished: true });
      this.#o.sink.markSnapshot(ended, now => endMarker(now, this.#o.tableFilter));
    });
    if (this.#begunAt > 0) this.#restUntil = Date.now() + REST_FOR_CASCADES * (Date.now() - this.#begunAt);
    const rows = progress.tables.reduce((sum, table) => sum + table.rows, 0);
    this.#o.logger.info({ snapshot: progress.id, tables: progress.tables.length, rows }, 'A snapshot has finished.');
  }

  /** Copies some of the table; sets it aside if that is impossible. */
  async #copy(table: SnapshotTable, signal: AbortSignal): Promise<void> {
    try {
      await this.#copySome(table, signal);
    } catch (error) {
      const isOfTable = error instanceof TributaryError && OF_THE_TABLE.has(error.code);
      if (!isOfTable || this.#o.sink.isBroken) throw error;
      this.#keyless.close();
      await this.#setAside([{ table, trouble: { error, shownBy: 'rows' } }], signal);
    }
  }

  async #copySome(table: SnapshotTable, signal: AbortSignal): Promise<void> {
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
