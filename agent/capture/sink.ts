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
import { encodeBatch } from '../../shared/batch-codec.ts';
import type { SourceMark, TableDescription } from '../../shared/batch.ts';
import { TributaryError, assert } from '../../shared/errors.ts';
import { queueTables, queueWhole, idleProgress } from '../snapshot/progress.ts';
import type { QueuedTable, SnapshotProgress } from '../snapshot/progress.ts';
import type { LastGroup, Position, Spool } from '../spool/spool.ts';
import { Batcher, bodyOf } from './batcher.ts';
import type { BatchDraft, KeyRecorder } from './batcher.ts';
import { MysqlGtidSet } from './gtid-set.ts';
import type { GroupEnd, GroupSink, GroupStart, StreamPlace, TableWriter } from './group-reader.ts';
import type { Selection } from './selection.ts';
import { comparePlaces } from './source.ts';
import type { DdlStatement } from './statements.ts';
import type { SourceTable } from './table-map.ts';

/** Bytes of a compressed batch that is aimed at: a second or a few of a poor link, thousands of rows. */
const TARGET_BODY_BYTES = 128 * 1024;
/** Bounds of the estimate of JSON that makes such a body. */
const LEAST_JSON_BYTES = 128 * 1024;
const MOST_JSON_BYTES = 4 * 1024 * 1024;
const TARGET_ROWS = 20_000;

/** What capture tells whoever counts. */
export interface CaptureCounters {
  rows(schema: string, name: string, op: 'upsert' | 'delete', rows: number): void;
  group(): void;
  fault(code: string): void;
  epoch(reason: string): void;
}

export interface SinkOptions {
  readonly spool: Spool;
  readonly selection: Selection;
  readonly server: string;
  readonly gtids: boolean;
  readonly position: Position;
  readonly counters: CaptureCounters;
  readonly now: () => number;
  /** A batch has been spooled. */
  readonly onSpooled: () => void;
  /** A group has ended or the server was heard; whoever decides about flushing and reading on looks now. */
  readonly onQuiet: () => void;
}

/** What a snapshot waits for: the stream at or past a place, heard since the wait began. */
interface Waiter {
  readonly place: StreamPlace;
  readonly run: () => void;
}

export class CaptureSink implements GroupSink {
  readonly #o: SinkOptions;
  readonly #batcher: Batcher;
  readonly #executed: MysqlGtidSet;
  readonly #expected: LastGroup | null;
  #phase: 'verifying' | 'taking';
  /** How far the server has been heard, which may be past the last group's end. */
  #place: StreamPlace;
  #endOfLast: StreamPlace;
  /** The last group taken, but for `gtidSetBefore`. */
  #last: LastGroup | null;
  /** Built from the above when needed; null: they have changed since. */
  #position: Position | null;
  #positionSaved = true;
  #group: GroupStart | null = null;
  #committedAt: string | null;
  #waiter: Waiter | null = null;
  #capturedThrough: string | null = null;
  #snapshotChange: SnapshotProgress | null = null;
  /** JSON bytes a compressed byte stands for, as lately seen. */
  #ratio = 6;
  /** When the oldest change of the open batch was taken; null: the batch is empty. */
  openSince: number | null = null;
  /** Tables whose definition or content was changed by a statement since this was last emptied. */
  readonly changedTables: QueuedTable[] = [];

  constructor(options: SinkOptions) {
    this.#o = options;
    this.#position = options.position;
    this.#last = options.position.lastGroup;
    this.#expected = options.position.lastGroup;
    this.#phase = this.#expected === null ? 'taking' : 'verifying';
    this.#executed = MysqlGtidSet.parse(options.position.source.gtidSet);
    this.#committedAt = options.position.source.committedAt;
    const { file, offset } = options.position.source;
    this.#place = { file, offset };
    this.#endOfLast = this.#place;
    this.#batcher = new Batcher({
      targetBytes: () => this.targetBytes,
      targetRows: TARGET_ROWS,
      emit: draft => this.#spool(draft),
    });
  }

  get phase(): 'verifying' | 'taking' {
    return this.#phase;
  }

  get place(): StreamPlace {
    return this.#place;
  }

  get gtidSet(): string {
    return this.#executed.toString();
  }

  get committedAt(): string | null {
    return this.#committedAt;
  }

  /** Everything that was committed until then is in the spool; null: not yet known. ISO time. */
  get capturedThrough(): string | null {
    return this.#capturedThrough;
  }

  get betweenGroups(): boolean {
    return this.#group === null;
  }

  get empty(): boolean {
    return this.#batcher.empty;
  }

  // Groups ------------------------------------------------------------------------------------------------------

  begin(group: GroupStart): void {
    assert(this.#group === null, 'a group begins inside a group');
    this.#group = group;
    if (this.#phase === 'verifying') return;
    this.#batcher.begin();
  }

  /** The reader remembers the answer, so it must not depend on the phase: writers do. */
  wants(schema: string, name: string): boolean {
    return this.#o.selection.captures(schema, name);
  }

  table(definition: SourceTable): TableWriter | null {
    const { schema, name } = definition;
    if (!this.wants(schema, name)) return null;
    if (!definition.columns.some(column => column.key !== undefined)) {
      throw new TributaryError(
        'SOURCE_TABLE',
        `table ${schema}.${name} has no primary key: its rows have no identity`,
        {
          hint: `ALTER TABLE … ADD PRIMARY KEY, or exclude it: tables.exclude: ["${schema}.${name}"]`,
        },
      );
    }
    const description: TableDescription = {
      schema,
      name: this.#o.selection.targetName(schema, name),
      columns: definition.columns.map(column => ({
        name: column.name,
        type: column.type,
        ...(column.key === undefined ? {} : { key: column.key }),
      })),
    };
    const buffer = this.#batcher.table(description);
    const { counters } = this.#o;
    const take = (op: 'upsert' | 'delete', rows: number, change: () => void): void => {
      // The group that is read again to be compared was taken before.
      if (this.#phase === 'verifying') return;
      change();
      counters.rows(schema, name, op, rows);
      this.openSince ??= this.#o.now();
      this.#batcher.touched(buffer);
    };
    return {
      beforeColumns: buffer.keyIndexes,
      insert: (rows, values) => take('upsert', rows, () => buffer.upsert(rows, values)),
      update: (rows, before, after) => take('upsert', rows, () => buffer.update(rows, before, after)),
      delete: (rows, before) =>
        take('delete', rows, () => {
          const keys = buffer.keyIndexes.map(index => before[index]!);
          buffer.delete(rows, keys);
        }),
    };
  }

  truncate(schema: string, name: string): void {
    if (this.#phase === 'verifying' || !this.wants(schema, name)) return;
    this.#clearTable(schema, name);
  }

  ddl(statement: DdlStatement): void {
    if (this.#phase === 'verifying') return;
    const { selection } = this.#o;
    const touched = statement.tables.filter(table => selection.captures(table.schema, table.name));
    switch (statement.kind) {
      case 'create-table':
      case 'create-index':
      case 'drop-index':
      case 'create-database':
      case 'alter-database':
        return;
      case 'drop-table':
        for (const table of touched) this.#clearTable(table.schema, table.name);
        return;
      case 'rename-table':
      case 'alter-table': {
        for (const { from } of statement.renames) {
          if (selection.captures(from.schema, from.name)) this.#clearTable(from.schema, from.name);
        }
        const gone = new Set(statement.renames.map(({ from }) => `${from.schema}.${from.name}`));
        const copied = touched.filter(table => !gone.has(`${table.schema}.${table.name}`));
        const back = statement.renames.map(({ to }) => to).filter(to => selection.captures(to.schema, to.name));
        this.#changeTables([...copied, ...back]);
        return;
      }
      case 'drop-database':
        // What was in it is known to the head office alone: a snapshot of all that is left sweeps the rest.
        this.#changeSnapshot(queueWhole(this.#snapshot()));
        return;
    }
  }

  end(mark: GroupEnd): void {
    const group = this.#group;
    assert(group !== null, 'a group ends outside a group');
    this.#group = null;
    const taken: LastGroup = {
      gtid: group.gtid,
      file: group.file,
      startOffset: group.startOffset,
      committedAt: group.committedAt,
      fingerprint: mark.fingerprint,
      gtidSetBefore: '',
    };
    if (this.#phase === 'verifying') {
      this.#verify(taken);
      return;
    }
    if (this.#o.gtids && group.gtid !== null) this.#executed.add(group.gtid);
    this.#place = { file: mark.file, offset: mark.endOffset };
    this.#endOfLast = this.#place;
    this.#committedAt = group.committedAt;
    this.#last = taken;
    this.#position = null;
    this.#positionSaved = false;
    this.#batcher.end();
    if (this.#snapshotChange !== null) this.flush();
    this.#o.counters.group();
    this.#heard();
  }

  heartbeat(place: StreamPlace): void {
    // A server that looks for the place to start at sends heartbeats meanwhile.
    if (this.#phase === 'verifying') return;
    // A heartbeat may name a place past groups that the server did not send because it filters nothing but its own
    // bookkeeping events; the position itself moves at groups only.
    if (comparePlaces(place, this.#place) > 0) this.#place = place;
    if (this.#batcher.empty) this.#capturedThrough = new Date(this.#o.now() - 1000).toISOString();
    this.#heard();
  }

  #verify(read: LastGroup): void {
    const expected = this.#expected;
    assert(expected !== null, 'nothing to verify');
    if (
      read.gtid !== expected.gtid ||
      read.committedAt !== expected.committedAt ||
      read.fingerprint !== expected.fingerprint
    ) {
      throw lost(
        `the last group taken (${expected.gtid ?? `${expected.file}:${expected.startOffset}`}, ` +
          `${expected.committedAt ?? 'no time'}) is another one there (${read.gtid ?? 'no GTID'}, ${read.committedAt ?? 'no time'})`,
      );
    }
    this.#phase = 'taking';
    this.#o.onQuiet();
  }

  // Statements that change tables -------------------------------------------------------------------------------

  #clearTable(schema: string, name: string): void {
    this.#batcher.truncate(schema, this.#o.selection.targetName(schema, name));
    this.changedTables.push({ schema, name });
  }

  #changeTables(tables: readonly QueuedTable[]): void {
    if (tables.length === 0) return;
    this.changedTables.push(...tables);
    this.#changeSnapshot(queueTables(this.#snapshot(), tables));
  }

  #snapshot(): SnapshotProgress {
    return this.#snapshotChange ?? this.#o.spool.snapshot() ?? idleProgress();
  }

  #changeSnapshot(progress: SnapshotProgress): void {
    this.#snapshotChange = progress;
  }

  // Towards the spool -------------------------------------------------------------------------------------------

  /** Closes the open batch, or stores the position alone. Between groups only. */
  flush(): void {
    assert(this.#group === null, 'a flush inside a group');
    this.#batcher.flush();
    this.openSince = null;
    if (!this.#positionSaved || this.#snapshotChange !== null) {
      this.#o.spool.savePosition(this.#currentPosition(), this.#snapshotChange ?? undefined);
      this.#positionSaved = true;
      this.#snapshotChange = null;
    }
    this.#capturedThrough ??= this.#committedAt;
    if (this.#committedAt !== null && this.#capturedThrough !== null && this.#committedAt > this.#capturedThrough) {
      this.#capturedThrough = this.#committedAt;
    }
  }

  /**
   * Puts a snapshot's own batch into the stream at the place where the stream is, or only stores how far the snapshot
   * is. Between groups only.
   */
  emitSnapshot(draft: BatchDraft | null, advance: (progress: SnapshotProgress) => SnapshotProgress): void {
    this.flush();
    const progress = advance(this.#snapshot());
    if (draft === null) this.#o.spool.savePosition(this.#currentPosition(), progress);
    else this.#append(draft, progress);
  }

  /** Changes what the snapshot is to do next; stored with the next position. */
  queueSnapshot(change: (progress: SnapshotProgress) => SnapshotProgress): void {
    this.#changeSnapshot(change(this.#snapshot()));
  }

  /** Estimate of JSON that makes a body of the size aimed at, in bytes. */
  get targetBytes(): number {
    return clamp(TARGET_BODY_BYTES * this.#ratio, LEAST_JSON_BYTES, MOST_JSON_BYTES);
  }

  #spool(draft: BatchDraft): void {
    this.#append(draft, undefined);
    if (draft.part === null || draft.part.last) this.openSince = null;
  }

  #append(draft: BatchDraft, snapshot: SnapshotProgress | undefined): void {
    const open = draft.part !== null && !draft.part.last;
    const position = this.#currentPosition();
    const bytes = encodeBatch(bodyOf(draft, position.source));
    if (draft.bytes > LEAST_JSON_BYTES / 4) this.#ratio = clamp(draft.bytes / bytes.length, 1, 64);
    const progress = open ? undefined : (snapshot ?? this.#snapshotChange ?? undefined);
    this.#o.spool.append({
      body: bytes,
      rows: draft.rows,
      position,
      open,
      ...(progress === undefined ? {} : { snapshot: progress }),
    });
    if (!open) {
      this.#positionSaved = true;
      if (snapshot === undefined) this.#snapshotChange = null;
    }
    this.#o.onSpooled();
  }

  /** The end of the last group taken. Writing GTID sets out is dear, so only when a position is stored. */
  #currentPosition(): Position {
    if (this.#position) return this.#position;
    const gtidSet = this.#o.gtids ? this.#executed.toString() : '';
    const source: SourceMark = {
      server: this.#o.server,
      gtidSet,
      file: this.#endOfLast.file,
      offset: this.#endOfLast.offset,
      committedAt: this.#committedAt,
    };
    let last = this.#last;
    if (last !== null && this.#o.gtids && last.gtid !== null) {
      const before = MysqlGtidSet.parse(gtidSet);
      before.remove(last.gtid);
      last = { ...last, gtidSetBefore: before.toString() };
    }
    this.#position = { source, lastGroup: last };
    return this.#position;
  }

  // For the snapshot --------------------------------------------------------------------------------------------

  record(schema: string, name: string, recorder: KeyRecorder | null): void {
    this.#batcher.record(schema, this.#o.selection.targetName(schema, name), recorder);
  }

  /**
   * Runs the callback between groups, once the stream is at or past the place and has been heard after this call.
   * One at a time. Never, if the connection is lost before.
   */
  whenPast(place: StreamPlace, run: () => void): void {
    assert(this.#waiter === null, 'two wait for the stream at once');
    this.#waiter = { place, run };
  }

  #heard(): void {
    const waiter = this.#waiter;
    if (waiter && comparePlaces(this.#place, waiter.place) >= 0) {
      this.#waiter = null;
      waiter.run();
    }
    this.#o.onQuiet();
  }
}

function lost(message: string): TributaryError {
  return new TributaryError('SOURCE_POSITION_LOST', message);
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}
