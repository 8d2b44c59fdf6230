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
import { CapturedThrough } from './watermark.ts';
import type { EndMark } from './watermark.ts';
import { Cascades } from '../source/cascades.ts';
import type { GroupEnd, GroupSink, GroupStart, StreamPlace, TableWriter, XaStep } from '../binlog/group-sink.ts';
import { LookAgain } from '../binlog-restart.ts';
import { OwedTables } from './cascaded-tables.ts';
import { ParentRows } from './parent-rows.ts';
import { PendingCopies } from './pending-snapshots.ts';
import { PreparedRows } from './xa-rows.ts';
import { AbsentColumn } from '../binlog/row-image.ts';
import { RowIntake } from './row-intake.ts';
import { SchemaChanges } from './schema-changes.ts';
import type { KnownCatalogue } from './schema-changes.ts';
import type { Selection } from '../source/table-filter.ts';
import { comparePlaces } from '../source/connection.ts';
import { SpoolWriter } from './spool-writer.ts';
import type { DdlStatement } from '../binlog/statements.ts';
import { Facts } from '../source/catalogue-facts.ts';
import type { SourceTable } from '../binlog/table-map.ts';
import { TakenPosition, identityOf, verifySame } from './position.ts';

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
  readonly selection: Selection;
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
  readonly place: StreamPlace;
  readonly run: () => void;
}

export class CaptureSink implements GroupSink {
  readonly #o: SinkOptions;
  readonly #expected: LastGroup | null;
  #phase: 'verifying' | 'taking';
  #group: GroupStart | null = null;
  /** How far the server has been heard, which may be past the last group's end. */
  #place: StreamPlace;
  readonly #position: TakenPosition;
  readonly #through: CapturedThrough;
  readonly #copies: PendingCopies;
  readonly #owed: OwedTables;
  readonly #schema: SchemaChanges;
  readonly #batcher: Batcher;
  readonly #prepared: PreparedRows;
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
    const { spool, selection, catalogue = null, counters, now } = options;
    this.#expected = options.position.lastGroup;
    this.#phase = this.#expected === null ? 'taking' : 'verifying';
    this.#position = new TakenPosition(options.position, options);
    this.#place = this.#position.end;
    this.#through = new CapturedThrough(now);
    this.#copies = new PendingCopies(() => spool.snapshot());
    const captures = (schema: string, name: string): boolean => selection.captures(schema, name);
    this.#owed = new OwedTables({ copies: this.#copies, captures, now });
    const bounds = { targetBytes: () => this.targetBytes, targetRows: TARGET_ROWS };
    this.#batcher = new Batcher({ ...bounds, emit: draft => this.#spool(draft) });
    this.#prepared = new PreparedRows({ ...bounds, spool, source: () => this.#position.current.source });
    this.#schema = new SchemaChanges({
      selection,
      copies: this.#copies,
      catalogue,
      lowerCaseNames: options.lowerCaseNames,
      onRedefined: () => options.onRedefined?.(),
      clear: table => this.#rows.clear(table),
    });
    const following = {
      cascades: catalogue?.cascades ?? new Cascades(null),
      taking: () => this.#phase === 'taking',
      owe: (children: readonly QueuedTable[]) => this.#owed.add(children, () => this.#statementTime()),
    };
    this.#parents = new ParentRows({ ...following, captures });
    this.#rows = new RowIntake({
      ...following,
      selection,
      facts: catalogue?.facts ?? Facts.none(),
      batcher: this.#batcher,
      prepared: this.#prepared,
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
      copies: this.#copies,
      prepared: this.#prepared,
      now,
      onSpooled: options.onSpooled,
    });
  }

  get phase(): 'verifying' | 'taking' {
    return this.#phase;
  }

  get place(): StreamPlace {
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
    return this.#through.time;
  }

  /** Tables whose definition or content was changed by a statement since this was last emptied. */
  get changedTables(): QueuedTable[] {
    return this.#copies.changedTables;
  }

  /** Where the group begins that is open. */
  get groupStart(): StreamPlace {
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
    return this.#through.takenUntilMs(this.committedAt);
  }

  /** Whether the next end of the binlog is of use. */
  get wantsEndMark(): boolean {
    return this.#phase === 'taking' && this.#through.wantsMark;
  }

  /** The binlog ended there then. */
  noteEnd(mark: EndMark): void {
    this.#through.note(mark);
  }

  /**
   * Whether what held the stream up lies behind it: the server has no more, or a later group was taken.
   * @param place how far the stream had come then; null: it was not read
   */
  hasPassed(place: StreamPlace | null): boolean {
    if (this.#phase === 'verifying') return false;
    return this.idleHeartbeats > 0 || (this.#hasTaken && (place === null || comparePlaces(this.#place, place) > 0));
  }

  get empty(): boolean {
    return this.#batcher.empty;
  }

  /** Estimate of JSON that makes a body of the size aimed at, in bytes. */
  get targetBytes(): number {
    return this.#writer.targetBytes;
  }

  /** Whether all that is queued to be copied is what cascades may have changed, and more of that is likely to come. */
  owesMore(progress: SnapshotProgress, restUntilMs: number): boolean {
    return this.#owed.growing(progress, restUntilMs);
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
    return this.#o.selection.captures(schema, name) || this.#parents.wants(schema, name);
  }

  asBytes(schema: string, name: string, column: string): boolean {
    return this.#o.selection.column(schema, name, column) === 'bytes';
  }

  table(definition: SourceTable): TableWriter | null {
    const { schema, name } = definition;
    return this.#o.selection.captures(schema, name) ? this.#rows.writer(definition) : this.#parents.writer(definition);
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
        this.#prepared.start(xid, group.gtid ?? `${group.file}:${group.startOffset}`);
        return;
      case 'prepare':
        this.#prepared.prepared();
        return;
      case 'one-phase':
        this.#rows.takeHeld(this.#prepared.committedAtOnce());
        return;
      case 'rollback':
        this.#prepared.rolledBack(xid);
        return;
      case 'commit': {
        const bodies = this.#prepared.committed(xid);
        if (bodies !== null) this.#rows.takeHeld(bodies);
        // It was prepared before this epoch began: nobody knows what it changed.
        else this.#copies.copyAll(this.#statementTime());
      }
    }
  }

  passes(error: TributaryError, table: QueuedTable | null): boolean {
    // The group that is read again to be compared was passed before.
    if (this.#phase === 'verifying') return true;
    if (table !== null && !this.#o.selection.captures(table.schema, table.name)) {
      this.#parents.unread(table);
      return true;
    }
    if (!this.#copies.areAsked(table) && !this.#wasGenerated(error)) return false;
    // Again, from here on: what a running snapshot has read is older.
    const at = this.#statementTime();
    if (table !== null) this.#copies.copyAgain([{ schema: table.schema, name: table.name }], at);
    else this.#copies.copyAll(at);
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
    if (comparePlaces(this.#place, catalogue.at) < 0) return true;
    throw new LookAgain(`${error.message} The catalogue is read again`);
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
    if (this.#copies.pending !== null) this.flush();
    this.#o.counters.group();
    this.#heard();
  }

  heartbeat(place: StreamPlace): void {
    // A server that looks for the place to start at sends heartbeats meanwhile.
    if (this.#phase === 'verifying') return;
    this.idleHeartbeats += 1;
    // A heartbeat may name a place past groups that the server did not send because it filters nothing but its own
    // bookkeeping events; the position itself moves at groups only.
    if (comparePlaces(place, this.#place) > 0) this.#place = place;
    this.#heard();
  }

  #verify(read: LastGroup, mark: GroupEnd): void {
    const expected = this.#expected;
    assert(expected !== null, 'nothing to verify');
    const isSameServer = this.#o.position.source.server === this.#o.server;
    verifySame(expected, read, isSameServer);
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
    this.#through.stored(this.committedAt);
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
      const progress = advance(this.#copies.progress);
      if (draft === null) this.#writer.saveProgress(progress);
      else this.#writer.append(draft, progress);
    });
  }

  /** Changes what the snapshot is to do next; stored with the next position. */
  queueSnapshot(change: (progress: SnapshotProgress) => SnapshotProgress): void {
    this.#copies.change(change);
  }

  record(schema: string, name: string, recorder: KeyRecorder | null): void {
    this.#batcher.record(schema, this.#o.selection.targetName(schema, name), recorder);
  }

  /**
   * Runs the callback between groups, once the stream is at or past the place and has been heard after this call.
   * Never, if the connection is lost before.
   */
  whenPast(place: StreamPlace, run: () => void): void {
    this.#waiters.push({ place, run });
  }

  #heard(): void {
    this.#through.passed(this.#place);
    if (this.#batcher.empty) this.#through.stored(this.committedAt);
    if (this.#waiters.length > 0) {
      const isReached = ({ place }: Waiter): boolean => comparePlaces(this.#place, place) >= 0;
      const reached = this.#waiters.filter(isReached);
      this.#waiters = this.#waiters.filter(waiter => !isReached(waiter));
      for (const { run } of reached) run();
    }
    this.#o.onQuiet();
  }
}
