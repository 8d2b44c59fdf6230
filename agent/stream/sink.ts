/**
 * The synchronous core of capture: takes the reader's groups, collects their rows into batches, and writes each batch
 * into the spool together with the position that it reaches.
 *
 * A sink lives as long as one binlog connection; whatever it holds that is not in the spool is void after that.
 *
 * States (only `#enter` changes them):
 *
 *   resuming        waits for the last group that was taken, which is read again     ──begin──▶ comparing
 *   comparing       inside that group                                               ──end, the same group──▶ between-groups
 *   between-groups  all that was taken is in the open batch or in the spool         ──begin──▶ in-group
 *                                                                                   ──end, flush, snapshot──▶ storing
 *   in-group        takes rows and statements                                       ──end──▶ between-groups
 *   storing         writes into the spool                                           ──▶ between-groups | broken
 *   broken          writing failed, and what was to be written is lost; for good
 *
 * An epoch that has taken no group yet begins with between-groups.
 *
 * Invariants:
 * - The position moves only at the end of a group, in the same spool transaction as the rows before it.
 * - Rows of a table are passed over only once the table is set aside: the progress says so in the spool transaction that
 *   moves the position past them, and the stream tells the head office before anything else.
 * - What a snapshot emits stands between groups, never between parts, and only after the stream was heard again since the
 *   snapshot read it.
 */
import type { TributaryError } from '../../shared/errors.ts';
import { StateMachine } from '../state-machine.ts';
import type { Transitions } from '../state-machine.ts';
import { toldSetAside } from '../spool/snapshot-progress.ts';
import type { QueuedTable, SnapshotProgress, Trouble } from '../spool/snapshot-progress.ts';
import type { LastGroup } from '../spool/spool.ts';
import { BatchSize } from './batch-size.ts';
import { Batcher } from './batcher.ts';
import type { BatchDraft, KeyRecorder, TableWatch } from './change-buffer.ts';
import { Watermark } from './watermark.ts';
import type { EndMark } from './watermark.ts';
import { Cascades } from '../source/cascades.ts';
import type { GroupEnd, GroupSink, GroupStart, BinlogPosition, TableWriter, XaStep } from '../binlog/group-sink.ts';
import { BinlogRestart, UnnamedColumns } from '../binlog-restart.ts';
import { CascadedTables } from './cascaded-tables.ts';
import { Definitions } from './definitions.ts';
import { OpenGroup } from './open-group.ts';
import { ParentRows } from './parent-rows.ts';
import { PendingSnapshots } from './pending-snapshots.ts';
import { XaRows } from './xa-rows.ts';
import { AbsentColumn } from '../binlog/row-image.ts';
import { RowIntake, SharedTarget } from './row-intake.ts';
import { SchemaChanges } from './schema-changes.ts';
import { setAsideMarker, withoutColumns } from './set-aside.ts';
import type { SinkOptions, SinkState } from './sink-types.ts';
import { comparePositions } from '../source/connection.ts';
import { SpoolWriter } from './spool-writer.ts';
import type { DdlStatement } from '../binlog/statements.ts';
import { CatalogueFacts, unsupportedError } from '../source/catalogue-facts.ts';
import { UnfitDefinition } from '../binlog/table-map.ts';
import type { SourceTable } from '../binlog/table-map.ts';
import type { StoredColumn } from '../spool/stored-definitions.ts';
import { toMicroseconds } from '../../shared/batch/versions.ts';
import { tableText, tableTexts } from '../../shared/table-name.ts';
import { CapturedPosition, identityOf, requireSameGroup } from './position.ts';

export type * from './sink-types.ts';

const TRANSITIONS: Transitions<SinkState> = {
  resuming: ['comparing'],
  comparing: ['between-groups'],
  'between-groups': ['in-group', 'storing'],
  'in-group': ['between-groups'],
  storing: ['between-groups', 'broken'],
  broken: [],
};

/** Seq of an epoch's first batch, which holds no rows. */
const START_MARKER = 1;

/** A snapshot or a verification that waits until the stream is at or past a place, and was heard since. */
interface Waiter {
  readonly place: BinlogPosition;
  readonly run: () => void;
}

export class CaptureSink implements GroupSink {
  readonly #o: SinkOptions;
  readonly #machine: StateMachine<SinkState>;
  readonly #group: OpenGroup;
  /** How far the server was heard, which may be past the end of the last group. */
  #place: BinlogPosition;
  readonly #position: CapturedPosition;
  readonly #watermark: Watermark;
  readonly #snapshots: PendingSnapshots;
  readonly #cascaded: CascadedTables;
  readonly #definitions: Definitions;
  readonly #schema: SchemaChanges;
  readonly #size = new BatchSize();
  readonly #batcher: Batcher;
  /** Tables whose history the head office keeps, as the batcher knows them. */
  #history: ReadonlySet<string>;
  readonly #xaRows: XaRows;
  readonly #rows: RowIntake;
  readonly #parents: ParentRows;
  readonly #writer: SpoolWriter;
  #hasTaken = false;
  #waiters: Waiter[] = [];
  #idleHeartbeats = 0;

  constructor(options: SinkOptions) {
    this.#o = options;
    const { spool, tableFilter, identity, catalogue, position, counters, now, listener } = options;
    const isFresh = position.lastGroup === null;
    this.#machine = new StateMachine('The sink', TRANSITIONS, isFresh ? 'between-groups' : 'resuming');
    this.#group = new OpenGroup(now);
    this.#position = new CapturedPosition(position, identity);
    this.#place = this.#position.end;
    this.#watermark = new Watermark(now);
    this.#snapshots = new PendingSnapshots(spool);
    this.#cascaded = new CascadedTables({ snapshots: this.#snapshots, tableFilter, now });
    this.#definitions = new Definitions(spool.definitions(), catalogue, spool.stream().head.seq <= START_MARKER);
    this.#schema = new SchemaChanges({
      tableFilter,
      definitions: this.#definitions,
      snapshots: this.#snapshots,
      catalogue,
      lowerCaseNames: identity.lowerCaseNames,
    });
    this.#xaRows = new XaRows({ spool, size: this.#size, position: this.#position, now });
    this.#writer = new SpoolWriter({
      spool,
      size: this.#size,
      position: this.#position,
      snapshots: this.#snapshots,
      xaRows: this.#xaRows,
      definitions: this.#definitions,
      now,
      packs: options.packs ?? (() => false),
      listener,
    });
    this.#batcher = new Batcher({ target: this.#size, output: this.#writer, now });
    this.#history = spool.history.names;
    this.#batcher.keepHistory(this.#history);
    const cascades = catalogue?.cascades ?? new Cascades(null);
    this.#setUnsupportedAside();
    this.#parents = new ParentRows({ cascades, tableFilter, group: this.#group, cascaded: this.#cascaded });
    this.#rows = new RowIntake({
      tableFilter,
      facts: catalogue?.facts ?? CatalogueFacts.none(),
      cascades,
      group: this.#group,
      batcher: this.#batcher,
      xaRows: this.#xaRows,
      schema: this.#schema,
      snapshots: this.#snapshots,
      cascaded: this.#cascaded,
      counters,
    });
  }

  get state(): SinkState {
    return this.#machine.state;
  }

  /** The only place where the state changes. @throws TributaryError INTERNAL */
  #enter(state: SinkState): void {
    this.#machine.enter(state);
  }

  /** Whether the last group taken was read again and compared, so that new groups are taken. */
  get isTaking(): boolean {
    return this.state !== 'resuming' && this.state !== 'comparing';
  }

  get isBetweenGroups(): boolean {
    return this.state === 'between-groups';
  }

  /** Whether writing has failed, so that this connection's stream must end. */
  get isBroken(): boolean {
    return this.state === 'broken';
  }

  get place(): BinlogPosition {
    return this.#place;
  }

  get gtidSet(): string {
    return this.#position.gtidSet;
  }

  get committedAt(): string | null {
    return this.#position.committedAt;
  }

  /** The spool holds everything that was committed until then; null: not yet known. ISO time. */
  get capturedThrough(): string | null {
    // Asked by what hears of a batch that was just spooled: with it the spool has everything that was taken.
    if (this.state === 'storing' && this.#batcher.empty) this.#watermark.stored(this.committedAt);
    return this.#watermark.time;
  }

  /** Tables whose definition or content a statement has changed since this list was last emptied. */
  get changedTables(): QueuedTable[] {
    return this.#snapshots.changedTables;
  }

  /** Where the open group begins. */
  get groupStart(): BinlogPosition {
    return this.#group.place;
  }

  /** Heartbeats since the last group began: whether the stream idles, and for how long. */
  get idleHeartbeats(): number {
    return this.#idleHeartbeats;
  }

  /** When the oldest change of the open batch was taken; null: the batch is empty. */
  get openSince(): number | null {
    return this.#batcher.openSince;
  }

  /** Until when, by our clock, everything that was committed was taken, in milliseconds; null: not yet known. */
  get takenUntilMs(): number | null {
    return this.#watermark.takenUntilMs(this.committedAt);
  }

  /** How many seconds the server's clock is ahead of ours; negative: behind. */
  get serverAheadSeconds(): number {
    return this.#watermark.aheadSeconds;
  }

  /** Whether the sink can use another end of the binlog. */
  get wantsEndMark(): boolean {
    return this.isTaking && this.#watermark.wantsMark;
  }

  /** The server was asked where its binlog ends. */
  noteEnd(mark: EndMark): void {
    this.#watermark.note(mark);
  }

  /**
   * Whether the stream has passed what held it up: the server has no more, or a later group was taken.
   * @param place how far the stream had come when it was held up; null: it was not read
   */
  hasPassed(place: BinlogPosition | null): boolean {
    if (!this.isTaking) return false;
    return this.#idleHeartbeats > 0 || (this.#hasTaken && (place === null || comparePositions(this.#place, place) > 0));
  }

  get isEmpty(): boolean {
    return this.#batcher.empty;
  }

  /** Estimate of the JSON that makes a batch of the usual size, in bytes. */
  get targetBytes(): number {
    return this.#size.bytes;
  }

  /** Whether a copy would only begin anew: rows of tables that are not known yet may be passed by. */
  get isBehindCatalogue(): boolean {
    return this.#definitions.isBehindCatalogue;
  }

  /** Whether the snapshot queue holds only tables that cascades may have changed, and more are likely to come. */
  cascadesWait(progress: SnapshotProgress, restUntilMs: number): boolean {
    return this.#cascaded.growing(progress, restUntilMs);
  }

  // -------------------------------------------------------------------------------------------------------------
  // Groups

  begin(group: GroupStart): void {
    if (this.isBetweenGroups) this.#followHistory();
    this.#enter(this.state === 'resuming' ? 'comparing' : 'in-group');
    this.#group.begin(group, this.state === 'in-group');
    this.#idleHeartbeats = 0;
    if (this.#group.isNew) this.#batcher.begin(toMicroseconds(this.#group.committedAt));
  }

  /** The head office may have answered that it keeps the history of other tables. */
  #followHistory(): void {
    const { names } = this.#o.spool.history;
    if (names === this.#history) return;
    this.flush();
    this.#history = names;
    this.#batcher.keepHistory(names);
  }

  /** The reader keeps the answer, so it must not depend on the state. The writers do depend on it. */
  wants(schema: string, name: string): boolean {
    return this.#o.tableFilter.captures(schema, name) || this.#parents.wants(schema, name);
  }

  asBytes(schema: string, name: string, column: string): boolean {
    return this.#o.tableFilter.column(schema, name, column) === 'bytes';
  }

  columns(table: QueuedTable): readonly StoredColumn[] | null {
    const found = this.#definitions.columns(table);
    if (found !== null || !this.#group.isNew) return found;
    if (this.#isSetAside(table)) {
      this.#passOver(table);
      return null;
    }
    const isAsked = this.#o.catalogue?.facts.wasAsked(table) === true;
    if (this.#definitions.needsCatalogue(table, isAsked)) {
      throw new UnnamedColumns(
        `The binlog does not name the columns of ${tableText(table)}; the catalogue is read for them.`,
        [{ schema: table.schema, name: table.name }],
      );
    }
    this.#passBy(table);
    return null;
  }

  /** Rows of the table are not read. */
  #passBy({ schema, name }: QueuedTable): void {
    if (!this.#o.tableFilter.captures(schema, name)) {
      this.#parents.unread({ schema, name });
      return;
    }
    const at = this.#group.committedAt;
    this.#xaRows.passedBy(withoutColumns({ schema, name }, this.#o.tableFilter));
    if (this.#definitions.mayHaveRead({ schema, name })) this.#snapshots.copyAgain([{ schema, name }], at);
    else this.#snapshots.passedBy({ schema, name }, at);
  }

  table(definition: SourceTable): TableWriter | null {
    const { schema, name } = definition;
    if (this.#group.isNew) this.#definitions.confirm({ schema, name });
    return this.#o.tableFilter.captures(schema, name)
      ? this.#rows.writer(definition)
      : this.#parents.writer(definition);
  }

  truncate(schema: string, name: string): void {
    if (this.#group.isNew) this.#clear(this.#schema.truncate({ schema, name }));
  }

  ddl(statement: DdlStatement): boolean {
    if (!this.#group.isNew) return false;
    const { emptied, redefined } = this.#schema.take(statement, {
      start: this.#group.place,
      at: this.#group.committedAt,
    });
    this.#clear(emptied);
    return redefined;
  }

  #clear(tables: readonly QueuedTable[]): void {
    for (const table of tables) this.#rows.clear(table);
  }

  xa(step: XaStep): void {
    if (!this.#group.isNew) return;
    this.#parents.xa(step);
    this.#rows.xa(step);
  }

  passes(error: TributaryError, table: QueuedTable | null): boolean {
    // The group that is read again was passed before.
    if (!this.#group.isNew) return true;
    if (error instanceof SharedTarget) return false;
    if (table !== null && this.#isSetAside(table)) {
      this.#passOver(table);
      return true;
    }
    if (table !== null && error instanceof UnfitDefinition && this.#definitions.refute(table)) {
      this.#passBy(table);
      this.#o.counters.fault(error.code);
      this.#o.listener.onUnlogged(`${error.message} The table is copied again.`);
      return true;
    }
    if (table !== null && !this.#o.tableFilter.captures(table.schema, table.name)) {
      this.#parents.unread(table);
      return true;
    }
    const { name, schema } = table ?? { name: '', schema: '' };
    const isBack = table !== null && this.#snapshots.isReturning({ schema, name });
    if (isBack || (!this.#snapshots.willCopy(table) && !this.#wasGenerated(error))) {
      if (table === null || this.#o.tableFilter.onTableTrouble === 'halt') return false;
      this.#setAside({ schema, name }, { error, shownBy: 'rows' }, this.#group.committedAt);
      this.#passOver({ schema, name });
      return true;
    }
    // The copy must begin anew from here: what a running snapshot has read is older.
    const at = this.#group.committedAt;
    this.#xaRows.passedBy(table === null ? null : withoutColumns({ schema, name }, this.#o.tableFilter));
    if (table !== null) this.#snapshots.copyAgain([{ schema, name }], at);
    else this.#snapshots.copyAll(at);
    this.#o.counters.fault(error.code);
    return true;
  }

  // -------------------------------------------------------------------------------------------------------------
  // Tables that are set aside

  #isSetAside({ schema, name }: QueuedTable): boolean {
    return this.#snapshots.isSetAside({ schema, name });
  }

  /** Rows that nobody reads have changed. Those that they cascade to are copied, as below a table that is not captured. */
  #passOver(table: QueuedTable): void {
    this.#xaRows.passedBy(withoutColumns(table, this.#o.tableFilter));
    this.#parents.unread(table);
  }

  #setAside(table: QueuedTable, trouble: Trouble, at: string): void {
    if (!this.#snapshots.setAside(table, trouble, at)) return;
    this.#o.counters.fault(trouble.error.code);
    this.#o.listener.onSetAside(table, trouble.error);
  }

  /** Tables whose rows do not follow from the binlog, by the catalogue. With `halt` it was not read without an error. */
  #setUnsupportedAside(): void {
    for (const table of this.#o.catalogue?.facts.unsupported ?? []) {
      const { schema, name } = table;
      if (!this.#o.tableFilter.captures(schema, name)) continue;
      this.#setAside({ schema, name }, { error: unsupportedError(table), shownBy: 'catalogue' }, this.#takenUntil());
    }
  }

  /** Until when the groups that were taken go, ISO. */
  #takenUntil(): string {
    return this.committedAt ?? new Date(this.#o.now()).toISOString();
  }

  /** Sets a table aside from this place on. Between groups only. */
  setAside({ schema, name }: QueuedTable, trouble: Trouble): void {
    this.#setAside({ schema, name }, trouble, this.#takenUntil());
    this.#tellSetAside();
    this.flush();
  }

  /** The stream tells the head office, before it goes on. */
  #tellSetAside(): void {
    const { untold } = this.#snapshots;
    if (untold.length === 0) return;
    this.flush();
    this.#store(() => {
      this.#writer.append(setAsideMarker(untold, this.#o.tableFilter), toldSetAside(this.#snapshots.progress));
    });
  }

  /**
   * Whether a column that a change lacks may have been generated when the change was made, though it is not any more. The
   * statement that changed it comes later in the stream, and has the table copied.
   */
  #wasGenerated(error: TributaryError): boolean {
    const { catalogue } = this.#o;
    if (!(error instanceof AbsentColumn) || !error.asGenerated || catalogue?.facts.flavor !== 'mariadb') return false;
    if (comparePositions(this.#group.place, catalogue.at) < 0) return true;
    throw new BinlogRestart(`${error.message} The catalogue is read again.`);
  }

  end(mark: GroupEnd): void {
    const taken = identityOf(this.#group.start, mark);
    this.#group.end();
    if (this.state === 'comparing') {
      this.#resume(taken, mark);
      return;
    }
    this.#hasTaken = true;
    this.#position.take(taken, mark);
    this.#place = this.#position.end;
    this.#enter('between-groups');
    this.#store(() => this.#batcher.end());
    if (this.#snapshots.pending !== null) this.flush();
    this.#o.counters.group();
    this.#heard();
  }

  heartbeat(place: BinlogPosition): void {
    // While the server looks for the place to start at, it sends heartbeats too.
    if (this.state === 'resuming') return;
    this.#idleHeartbeats += 1;
    // A heartbeat may name a place past the last group: the server skips only events of its own bookkeeping. The position
    // itself moves at groups only.
    if (comparePositions(place, this.#place) > 0) this.#place = place;
    this.#heard();
  }

  #resume(read: LastGroup, mark: GroupEnd): void {
    const { lastGroup, source } = this.#o.position;
    const isSameServer = source.server === this.#o.identity.server;
    if (lastGroup !== null) requireSameGroup(lastGroup, read, isSameServer);
    if (!isSameServer) {
      this.#position.moveTo(read, mark);
      this.#place = this.#position.end;
    }
    this.#enter('between-groups');
    this.#o.listener.onQuiet();
  }

  #heard(): void {
    this.#reach();
    this.#tellSetAside();
    this.#watermark.passed(this.#place);
    if (this.#batcher.empty) this.#watermark.stored(this.committedAt);
    if (this.#waiters.length > 0) {
      const isReached = ({ place }: Waiter): boolean => comparePositions(this.#place, place) >= 0;
      const reached = this.#waiters.filter(isReached);
      this.#waiters = this.#waiters.filter(waiter => !isReached(waiter));
      for (const { run } of reached) run();
    }
    this.#o.listener.onQuiet();
  }

  /**
   * The definitions of the catalogue may count from here on.
   * @throws BinlogRestart if tables have changed in secret: what the reader knows of them is void
   */
  #reach(): void {
    const changed = this.#definitions.reach(this.#place);
    const captured = changed.filter(({ schema, name }) => this.#o.tableFilter.captures(schema, name));
    this.#snapshots.copyAgain(captured, new Date(this.#o.now()).toISOString());
    // An idle table keeps the definition that it had here, whatever happens to it while the agent is away.
    if (this.#definitions.hasChanges && this.isBetweenGroups) this.flush();
    if (changed.length === 0) return;
    const message = `The columns of ${tableTexts(changed)} have changed without a statement in the binlog.`;
    this.#o.listener.onUnlogged(message);
    throw new BinlogRestart(`${message} They are read anew.`);
  }

  // -------------------------------------------------------------------------------------------------------------
  // Into the spool: between groups only

  /** Closes the open batch, or stores the position alone. */
  flush(): void {
    this.#store(() => {
      this.#batcher.flush();
      this.#writer.savePosition();
    });
    this.#watermark.stored(this.committedAt);
  }

  /** A batch that fails on its way into the spool is gone from memory: the position must not pass it afterwards. */
  #store(work: () => void): void {
    this.#enter('storing');
    try {
      work();
    } catch (error) {
      this.#enter('broken');
      throw error;
    }
    this.#enter('between-groups');
  }

  /** Puts the start or the end of a snapshot into the stream. @param marker of the progress that it brings about */
  markSnapshot(
    advance: (progress: SnapshotProgress) => SnapshotProgress,
    marker: (reached: SnapshotProgress) => BatchDraft,
  ): void {
    this.#tellSetAside();
    this.emitSnapshot(marker(advance(this.#snapshots.progress)), advance);
  }

  /** Puts a batch of a snapshot into the stream at its present place. Null: only stores the snapshot's progress. */
  emitSnapshot(draft: BatchDraft | null, advance: (progress: SnapshotProgress) => SnapshotProgress): void {
    this.#tellSetAside();
    this.flush();
    this.#store(() => {
      const progress = advance(this.#snapshots.progress);
      if (draft === null) this.#writer.saveProgress(progress);
      else this.#writer.append(draft, progress);
    });
  }

  // -------------------------------------------------------------------------------------------------------------
  // For the snapshot and the verification

  /** Changes what the snapshot does next. Stored with the next position. */
  queueSnapshot(change: (progress: SnapshotProgress) => SnapshotProgress): void {
    this.#snapshots.change(change);
  }

  record(schema: string, name: string, recorder: KeyRecorder | null): void {
    this.#batcher.record(schema, this.#o.tableFilter.targetName(schema, name), recorder);
  }

  /** Tells the watch what the stream says of a table, by its name at the head office, from now on; null stops that. */
  watch(schema: string, target: string, watch: TableWatch | null): void {
    this.#batcher.watch(schema, target, watch);
  }

  /**
   * Runs the callback between groups, once the stream is at or past the place and was heard after this call. If the
   * connection ends before, it never does.
   */
  whenPast(place: BinlogPosition, run: () => void): void {
    this.#waiters.push({ place, run });
  }
}
