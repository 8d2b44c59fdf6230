/**
 * The synchronous heart of capture: takes the reader's groups, collects their rows into batches, and puts each batch
 * with the position it reaches into the spool.
 *
 * One sink lives as long as one binlog connection; what it holds that is not in the spool is void with it.
 *
 * Phases: verifying (the last group already taken is read again and compared) → taking.
 * Invariants:
 * - The position moves only at the end of a group, in the same spool transaction as the rows before it.
 * - What a snapshot emits stands between groups, never between parts, and only once the stream has shown a sign of
 *   life that is younger than the snapshot's read.
 */
import { assert } from '../../shared/errors.ts';
import type { TributaryError } from '../../shared/errors.ts';
import type { QueuedTable, SnapshotProgress } from '../spool/snapshot-progress.ts';
import type { LastGroup, Position, Spool } from '../spool/spool.ts';
import { Batcher } from './batcher.ts';
import type { BatchDraft, KeyRecorder } from './change-buffer.ts';
import { Watermark } from './watermark.ts';
import type { EndMark } from './watermark.ts';
import { Cascades } from '../source/cascades.ts';
import type { GroupEnd, GroupSink, GroupStart, BinlogPosition, TableWriter, XaStep } from '../binlog/group-sink.ts';
import { BinlogRestart } from '../binlog-restart.ts';
import { CascadedTables } from './cascaded-tables.ts';
import { ParentRows } from './parent-rows.ts';
import { PendingSnapshots } from './pending-snapshots.ts';
import { XaRows } from './xa-rows.ts';
import { AbsentColumn } from '../binlog/row-image.ts';
import { RowIntake } from './row-intake.ts';
import { SchemaChanges } from './schema-changes.ts';
import type { KnownCatalogue } from './schema-changes.ts';
import type { TableFilter } from '../source/table-filter.ts';
import { comparePositions } from '../source/connection.ts';
import { SpoolWriter } from './spool-writer.ts';
import type { DdlStatement } from '../binlog/statements.ts';
import { CatalogueFacts } from '../source/catalogue-facts.ts';
import type { SourceTable } from '../binlog/table-map.ts';
import { CapturedPosition, identityOf, requireSameGroup } from './position.ts';

/** Changes in a batch. */
const TARGET_ROWS = 20_000;

/** What capture tells whoever counts. */
export interface CaptureCounters {
  rows(schema: string, name: string, op: 'upsert' | 'delete', rows: number): void;
  group(): void;
  /** A binlog connection is there. */
  connected(): void;
  /** An event of so many bytes was read. */
  read(bytes: number): void;
  fault(code: string): void;
  epoch(reason: string): void;
}

export interface SinkOptions {
  readonly spool: Spool;
  readonly tableFilter: TableFilter;
  /** What the catalogue says of tables, and where the binlog ended before it was asked. Default: nothing. */
  readonly catalogue?: KnownCatalogue;
  /** Tables are defined otherwise from now on: what was concluded from their definitions is void. */
  readonly onRedefined?: () => void;
  readonly server: string;
  readonly gtids: boolean;
  /** The server keeps names in lower case: statements may spell them in any way. */
  readonly lowerCaseNames: boolean;
  readonly position: Position;
  readonly counters: CaptureCounters;
  readonly now: () => number;
  /** A batch has been spooled. */
  readonly onSpooled: () => void;
  /** A group has ended or the server was heard; whoever decides about flushing and reading on looks now. */
  readonly onQuiet: () => void;
}

/** What a snapshot or a verification waits for: the stream at or past a place, heard since the wait began. */
interface Waiter {
  readonly place: BinlogPosition;
  readonly run: () => void;
}

export class CaptureSink implements GroupSink {
  readonly #o: SinkOptions;
  readonly #expected: LastGroup | null;
  #phase: 'verifying' | 'taking';
  #group: GroupStart | null = null;
  /** How far the server has been heard, which may be past the last group's end. */
  #place: BinlogPosition;
  readonly #position: CapturedPosition;
  readonly #watermark: Watermark;
  readonly #snapshots: PendingSnapshots;
  readonly #cascaded: CascadedTables;
  readonly #schema: SchemaChanges;
  readonly #batcher: Batcher;
  readonly #xaRows: XaRows;
  readonly #rows: RowIntake;
  readonly #parents: ParentRows;
  readonly #writer: SpoolWriter;
  #hasTaken = false;
  #waiters: Waiter[] = [];
  /** What was in the open batch when a call failed is lost: nothing may be stored after it. */
  #broken = false;
  /** Heartbeats since a group began last: that the stream idles, and for how long. */
  idleHeartbeats = 0;
  /** When the oldest change of the open batch was taken; null: the batch is empty. */
  openSince: number | null = null;

  constructor(options: SinkOptions) {
    this.#o = options;
    const { spool, tableFilter, catalogue = null, counters, now } = options;
    this.#expected = options.position.lastGroup;
    this.#phase = this.#expected === null ? 'taking' : 'verifying';
    this.#position = new CapturedPosition(options.position, options);
    this.#place = this.#position.end;
    this.#watermark = new Watermark(now);
    this.#snapshots = new PendingSnapshots(() => spool.snapshot());
    const captures = (schema: string, name: string): boolean => tableFilter.captures(schema, name);
    this.#cascaded = new CascadedTables({ copies: this.#snapshots, captures, now });
    const bounds = { targetBytes: () => this.targetBytes, targetRows: TARGET_ROWS };
    this.#batcher = new Batcher({ ...bounds, emit: draft => this.#spool(draft) });
    this.#xaRows = new XaRows({ ...bounds, spool, source: () => this.#position.current.source });
    this.#schema = new SchemaChanges({
      tableFilter,
      copies: this.#snapshots,
      catalogue,
      lowerCaseNames: options.lowerCaseNames,
      onRedefined: () => options.onRedefined?.(),
      clear: table => this.#rows.clear(table),
    });
    const following = {
      cascades: catalogue?.cascades ?? new Cascades(null),
      taking: () => this.#phase === 'taking',
      owe: (children: readonly QueuedTable[]) => this.#cascaded.add(children, () => this.#statementTime()),
    };
    this.#parents = new ParentRows({ ...following, captures });
    this.#rows = new RowIntake({
      ...following,
      tableFilter,
      facts: catalogue?.facts ?? CatalogueFacts.none(),
      batcher: this.#batcher,
      prepared: this.#xaRows,
      isRedefined: (schema, name) => this.#schema.isRedefined(schema, name),
      isVersioned: (schema, name) => this.#schema.isVersioned(schema, name),
      countRows: (schema, name, op, rows) => counters.rows(schema, name, op, rows),
      onRows: () => {
        this.openSince ??= now();
      },
    });
    this.#writer = new SpoolWriter({
      spool,
      position: this.#position,
      copies: this.#snapshots,
      prepared: this.#xaRows,
      now,
      onSpooled: options.onSpooled,
    });
  }

  get phase(): 'verifying' | 'taking' {
    return this.#phase;
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

  /** Everything that was committed until then is in the spool; null: not yet known. ISO time. */
  get capturedThrough(): string | null {
    return this.#watermark.time;
  }

  /** Tables whose definition or content was changed by a statement since this was last emptied. */
  get changedTables(): QueuedTable[] {
    return this.#snapshots.changedTables;
  }

  /** Where the group begins that is open. */
  get groupStart(): BinlogPosition {
    const group = this.#group;
    assert(group !== null, 'no group is open');
    return { file: group.file, offset: group.startOffset };
  }

  get betweenGroups(): boolean {
    return this.#group === null;
  }

  /** Between groups, with everything that was taken in the open batch or the spool. */
  get sound(): boolean {
    return !this.#broken && this.#group === null && this.#phase === 'taking';
  }

  /** A call has failed and what it was about is lost: this life of the stream must end. */
  get broken(): boolean {
    return this.#broken;
  }

  /** Until when, by our clock, all that was committed has been taken, in milliseconds; null: not yet known. */
  get takenUntilMs(): number | null {
    return this.#watermark.takenUntilMs(this.committedAt);
  }

  /** Whether the next end of the binlog is of use. */
  get wantsEndMark(): boolean {
    return this.#phase === 'taking' && this.#watermark.wantsMark;
  }

  /** The binlog ended there then. */
  noteEnd(mark: EndMark): void {
    this.#watermark.note(mark);
  }

  /**
   * Whether what held the stream up lies behind it: the server has no more, or a later group was taken.
   * @param place how far the stream had come then; null: it was not read
   */
  hasPassed(place: BinlogPosition | null): boolean {
    if (this.#phase === 'verifying') return false;
    return this.idleHeartbeats > 0 || (this.#hasTaken && (place === null || comparePositions(this.#place, place) > 0));
  }

  get empty(): boolean {
    return this.#batcher.empty;
  }

  /** Estimate of JSON that makes a body of the size aimed at, in bytes. */
  get targetBytes(): number {
    return this.#writer.targetBytes;
  }

  /** Whether all that is queued to be copied is what cascades may have changed, and more of that is likely to come. */
  cascadesWait(progress: SnapshotProgress, restUntilMs: number): boolean {
    return this.#cascaded.growing(progress, restUntilMs);
  }

  // Groups ------------------------------------------------------------------------------------------------------

  begin(group: GroupStart): void {
    assert(this.#group === null, 'a group begins inside a group');
    this.#group = group;
    this.idleHeartbeats = 0;
    if (this.#phase === 'verifying') return;
    this.#batcher.begin();
  }

  /** The reader remembers the answer, so it must not depend on the phase: writers do. */
  wants(schema: string, name: string): boolean {
    return this.#o.tableFilter.captures(schema, name) || this.#parents.wants(schema, name);
  }

  asBytes(schema: string, name: string, column: string): boolean {
    return this.#o.tableFilter.column(schema, name, column) === 'bytes';
  }

  table(definition: SourceTable): TableWriter | null {
    const { schema, name } = definition;
    return this.#o.tableFilter.captures(schema, name)
      ? this.#rows.writer(definition)
      : this.#parents.writer(definition);
  }

  truncate(schema: string, name: string): void {
    if (this.#phase === 'taking') this.#schema.truncate({ schema, name });
  }

  ddl(statement: DdlStatement): void {
    if (this.#phase === 'taking') this.#schema.take(statement, { after: this.#place, at: this.#statementTime() });
  }

  xa({ do: step, xid }: XaStep): void {
    const group = this.#group;
    assert(group !== null, 'an XA step outside a group');
    if (this.#phase === 'verifying') return;
    this.#parents.xa({ do: step, xid });
    switch (step) {
      case 'start':
        this.#xaRows.start(xid, group.gtid ?? `${group.file}:${group.startOffset}`);
        return;
      case 'prepare':
        this.#xaRows.prepared();
        return;
      case 'one-phase':
        this.#rows.takeHeld(this.#xaRows.committedAtOnce());
        return;
      case 'rollback':
        this.#xaRows.rolledBack(xid);
        return;
      case 'commit': {
        const bodies = this.#xaRows.committed(xid);
        if (bodies !== null) this.#rows.takeHeld(bodies);
        // It was prepared before this epoch began: nobody knows what it changed.
        else this.#snapshots.copyAll(this.#statementTime());
      }
    }
  }

  passes(error: TributaryError, table: QueuedTable | null): boolean {
    // The group that is read again to be compared was passed before.
    if (this.#phase === 'verifying') return true;
    if (table !== null && !this.#o.tableFilter.captures(table.schema, table.name)) {
      this.#parents.unread(table);
      return true;
    }
    if (!this.#snapshots.areAsked(table) && !this.#wasGenerated(error)) return false;
    // Again, from here on: what a running snapshot has read is older.
    const at = this.#statementTime();
    if (table !== null) this.#snapshots.copyAgain([{ schema: table.schema, name: table.name }], at);
    else this.#snapshots.copyAll(at);
    this.#o.counters.fault(error.code);
    return true;
  }

  /**
   * Whether a column that a change lacks may have been generated when the change was made, though it is not by now. What has
   * changed that is in the stream behind the change, and copies the table.
   */
  #wasGenerated(error: TributaryError): boolean {
    const { catalogue } = this.#o;
    if (!(error instanceof AbsentColumn) || !error.asGenerated || catalogue?.facts.flavor !== 'mariadb') return false;
    if (comparePositions(this.#place, catalogue.at) < 0) return true;
    throw new BinlogRestart(`${error.message} The catalogue is read again`);
  }

  end(mark: GroupEnd): void {
    const group = this.#group;
    assert(group !== null, 'a group ends outside a group');
    this.#group = null;
    const taken = identityOf(group, mark);
    if (this.#phase === 'verifying') {
      this.#verify(taken, mark);
      return;
    }
    this.#hasTaken = true;
    this.#position.take(taken, mark);
    this.#place = this.#position.end;
    this.#whole(() => this.#batcher.end());
    if (this.#snapshots.pending !== null) this.flush();
    this.#o.counters.group();
    this.#heard();
  }

  heartbeat(place: BinlogPosition): void {
    // A server that looks for the place to start at sends heartbeats meanwhile.
    if (this.#phase === 'verifying') return;
    this.idleHeartbeats += 1;
    // A heartbeat may name a place past groups that the server did not send because it filters nothing but its own
    // bookkeeping events; the position itself moves at groups only.
    if (comparePositions(place, this.#place) > 0) this.#place = place;
    this.#heard();
  }

  #verify(read: LastGroup, mark: GroupEnd): void {
    const expected = this.#expected;
    assert(expected !== null, 'nothing to verify');
    const isSameServer = this.#o.position.source.server === this.#o.server;
    requireSameGroup(expected, read, isSameServer);
    if (!isSameServer) {
      this.#position.moveTo(read, mark);
      this.#place = this.#position.end;
    }
    this.#phase = 'taking';
    this.#o.onQuiet();
  }

  #statementTime(): string {
    return this.#group?.committedAt ?? new Date(this.#o.now()).toISOString();
  }

  // Towards the spool -------------------------------------------------------------------------------------------

  /** Closes the open batch, or stores the position alone. Between groups only. */
  flush(): void {
    assert(this.#group === null, 'a flush inside a group');
    this.#whole(() => {
      this.#batcher.flush();
      this.openSince = null;
      this.#writer.savePosition();
    });
    this.#watermark.stored(this.committedAt);
  }

  /** A batch that fails on its way into the spool is gone from memory: the position must not pass it afterwards. */
  #whole(work: () => void): void {
    assert(!this.#broken, 'a sink is used after a failure');
    this.#broken = true;
    work();
    this.#broken = false;
  }

  #spool(draft: BatchDraft): void {
    this.#writer.append(draft);
    if (draft.part === null || draft.part.last) this.openSince = null;
  }

  // For the snapshot --------------------------------------------------------------------------------------------

  /**
   * Puts a snapshot's own batch into the stream at the place where the stream is, or only stores how far the snapshot
   * is. Between groups only.
   */
  emitSnapshot(draft: BatchDraft | null, advance: (progress: SnapshotProgress) => SnapshotProgress): void {
    this.flush();
    this.#whole(() => {
      const progress = advance(this.#snapshots.progress);
      if (draft === null) this.#writer.saveProgress(progress);
      else this.#writer.append(draft, progress);
    });
  }

  /** Changes what the snapshot is to do next; stored with the next position. */
  queueSnapshot(change: (progress: SnapshotProgress) => SnapshotProgress): void {
    this.#snapshots.change(change);
  }

  record(schema: string, name: string, recorder: KeyRecorder | null): void {
    this.#batcher.record(schema, this.#o.tableFilter.targetName(schema, name), recorder);
  }

  /**
   * Runs the callback between groups, once the stream is at or past the place and has been heard after this call.
   * Never, if the connection is lost before.
   */
  whenPast(place: BinlogPosition, run: () => void): void {
    this.#waiters.push({ place, run });
  }

  #heard(): void {
    this.#watermark.passed(this.#place);
    if (this.#batcher.empty) this.#watermark.stored(this.committedAt);
    if (this.#waiters.length > 0) {
      const isReached = ({ place }: Waiter): boolean => comparePositions(this.#place, place) >= 0;
      const reached = this.#waiters.filter(isReached);
      this.#waiters = this.#waiters.filter(waiter => !isReached(waiter));
      for (const { run } of reached) run();
    }
    this.#o.onQuiet();
  }
}
