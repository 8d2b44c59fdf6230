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
import { encodeFrames } from '../../shared/batch-codec.ts';
import type { BatchBody, SourceMark, TableDescription } from '../../shared/batch.ts';
import { TributaryError, assert } from '../../shared/errors.ts';
import { emptied, idleProgress, markStale, queueTables, queueWhole, redefined } from '../snapshot/progress.ts';
import type { QueuedTable, SnapshotProgress } from '../snapshot/progress.ts';
import type { LastGroup, Position, Spool } from '../spool/spool.ts';
import { Batcher, TableBuffer, bodyOf, tableKey } from './batcher.ts';
import type { BatchDraft, ChangeBuffer, KeyRecorder } from './batcher.ts';
import { Cascades } from './cascades.ts';
import { CompressionEffort } from './effort.ts';
import { MysqlGtidSet } from './gtid-set.ts';
import type { GroupEnd, GroupSink, GroupStart, StreamPlace, TableWriter, XaStep } from './group-reader.ts';
import { LookAgain } from './look-again.ts';
import { PreparedRows } from './prepared-rows.ts';
import type { Selection } from './selection.ts';
import { comparePlaces } from './source.ts';
import type { DdlStatement } from './statements.ts';
import { Facts } from './table-facts.ts';
import type { SourceTable } from './table-map.ts';
import { viewTable } from './table-view.ts';

/**
 * Bytes of a compressed batch that is aimed at: thousands of rows, ten seconds of a poor link. The larger, the fewer
 * versions of a row that changes often are sent; what holds a batch, at the head office too, must hold as much.
 */
const TARGET_BODY_BYTES = 320 * 1024;
/** Bounds of the estimate of JSON that makes such a body. */
const LEAST_JSON_BYTES = 128 * 1024;
const MOST_JSON_BYTES = 4 * 1024 * 1024;
const TARGET_ROWS = 20_000;

/** Tables that cascades change are copied when these have been quiet for so long, or have gone on for so long. */
const CASCADES_QUIET_MS = 2_000;
const CASCADES_MOST_MS = 60_000;

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
  readonly catalogue?: { readonly facts: Facts; readonly cascades?: Cascades; readonly at: StreamPlace };
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

/** Where the binlog ended, and when that was: the server's time, and ours in milliseconds. */
export interface EndMark {
  readonly place: StreamPlace;
  readonly at: string;
  readonly localMs: number;
}

export class CaptureSink implements GroupSink {
  readonly #o: SinkOptions;
  readonly #cascades: Cascades;
  /** Tables that cascades may have changed; since when one is to be copied, and when the last was added. */
  readonly #owed = new Set<string>();
  #owedSince = 0;
  #owedAt = 0;
  readonly #batcher: Batcher;
  readonly #prepared: PreparedRows;
  readonly #effort: CompressionEffort;
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
  #waiters: Waiter[] = [];
  #capturedThrough: string | null = null;
  #snapshotChange: SnapshotProgress | null = null;
  /** An end of the binlog that the stream has not reached yet, and the last one that it has. */
  #endMark: EndMark | null = null;
  #reached: EndMark | null = null;
  /** How far the server's clock is ahead of ours. */
  #skewMs = 0;
  /** What was in the open batch when a call failed is lost: nothing may be stored after it. */
  #broken = false;
  /** Source table by the name that the head office knows. */
  readonly #targets = new Map<string, string>();
  /** Tables whose definition has changed since the catalogue was asked. */
  readonly #redefined = new Set<string>();
  /** JSON bytes a compressed byte stands for, as lately seen. */
  #ratio = 6;
  /** When the oldest change of the open batch was taken; null: the batch is empty. */
  openSince: number | null = null;
  /** Tables whose definition or content was changed by a statement since this was last emptied. */
  readonly changedTables: QueuedTable[] = [];

  constructor(options: SinkOptions) {
    this.#o = options;
    this.#effort = new CompressionEffort(options.now());
    this.#cascades = options.catalogue?.cascades ?? new Cascades(null);
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
    this.#prepared = new PreparedRows({
      spool: options.spool,
      targetBytes: () => this.targetBytes,
      targetRows: TARGET_ROWS,
      source: () => this.#currentPosition().source,
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

  /** Until when, by our clock, all that was committed has been taken, in milliseconds; null: not yet known. */
  get takenUntilMs(): number | null {
    const last = this.#committedAt === null ? null : Date.parse(this.#committedAt) - this.#skewMs;
    if (this.#reached === null) return last;
    return Math.max(this.#reached.localMs, last ?? 0);
  }

  /** Whether the next end of the binlog is of use: one at a time, so that a busy stream reaches it. */
  get wantsEndMark(): boolean {
    return this.#phase === 'taking' && this.#endMark === null;
  }

  /**
   * The binlog ended there then: once the stream is past the place, everything that was committed before is taken.
   * A heartbeat alone does not tell when it was sent: it may have waited in the socket behind a backlog or a pause.
   */
  noteEnd(mark: EndMark): void {
    this.#endMark = mark;
    this.#skewMs = Date.parse(mark.at) - mark.localMs;
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
    if (isSequence(definition)) return null;
    const facts = this.#o.catalogue?.facts ?? Facts.none();
    // MySQL's TableMap tells all; MariaDB's catalogue knows of its tables what the binlog does not.
    if (facts.flavor === 'mariadb' && this.#redefined.has(tableKey(schema, name))) {
      throw new LookAgain(`table ${schema}.${name} was redefined: the catalogue is read again`);
    }
    const view = viewTable(definition, facts.of(schema, name), this.#o.selection);
    const description: TableDescription = {
      schema,
      name: this.#o.selection.targetName(schema, name),
      columns: view.columns,
    };
    this.#claimTarget(schema, name, description.name);
    const following = this.#cascades.of(schema, name);
    /** Places of the columns whose change other tables follow. */
    const followed = definition.columns.flatMap((column, index) =>
      following?.columns.has(column.name) ? [index] : [],
    );
    const follow = (): void => {
      if (following !== null && this.#phase === 'taking' && !this.#prepared.taking) this.#owe(following.children);
    };
    let buffer = this.#batcher.table(description);
    const { counters } = this.#o;
    const present = (): ChangeBuffer => {
      if (this.#prepared.taking) return this.#prepared.table(description);
      // A definition that was left and came back: its rows belong into the buffer of today.
      if (buffer.retired) buffer = this.#batcher.table(description);
      return buffer;
    };
    const take = (op: 'upsert' | 'delete', rows: number, change: (into: ChangeBuffer) => void): void => {
      // The group that is read again to be compared was taken before.
      if (this.#phase === 'verifying') return;
      const into = present();
      change(into);
      if (this.#prepared.taking) {
        this.#prepared.touched(into);
        return;
      }
      counters.rows(schema, name, op, rows);
      this.openSince ??= this.#o.now();
      this.#batcher.touched(into);
    };
    const pick = view.pick ?? (columns => columns);
    /** Where the after images that are to be taken next have been written; null: nowhere yet. */
    let written: TableBuffer | null = null;
    return {
      // Without a key, a row is known by all that it held.
      ...(view.keys.length === 0 ? {} : { beforeColumns: [...new Set([...view.keys, ...followed])] }),
      ignoredColumns: view.ignored,
      into: () => {
        const into = view.pick === null && this.#phase === 'taking' ? present() : null;
        written = into instanceof TableBuffer ? into : null;
        return written?.upserts ?? null;
      },
      insert: (rows, values) =>
        take('upsert', rows, into => {
          if (written === null) into.insert(rows, pick(values));
          else written.upsertWritten(rows, values);
        }),
      update: (rows, before, after) => {
        const changed = (index: number): boolean =>
          view.ignored.includes(index) || before[index]!.some((value, r) => value !== after[index]![r]);
        if (followed.some(changed)) follow();
        take('upsert', rows, into => {
          if (written === null) into.update(rows, pick(before), pick(after));
          else written.updateWritten(rows, before, after);
        });
      },
      delete: (rows, before) => {
        follow();
        take('delete', rows, into => into.delete(rows, pick(before)));
      },
    };
  }

  truncate(schema: string, name: string): void {
    const table = this.#spelled({ schema, name });
    if (this.#phase === 'verifying' || !this.wants(table.schema, table.name)) return;
    this.#clearTable(table);
  }

  xa({ do: step, xid }: XaStep): void {
    const group = this.#group;
    assert(group !== null, 'an XA step outside a group');
    if (this.#phase === 'verifying') return;
    switch (step) {
      case 'start':
        this.#prepared.start(xid, group.gtid ?? `${group.file}:${group.startOffset}`);
        return;
      case 'prepare':
        this.#prepared.prepared();
        return;
      case 'one-phase':
        this.#takeHeld(this.#prepared.committedAtOnce());
        return;
      case 'rollback':
        this.#prepared.rolledBack(xid);
        return;
      case 'commit': {
        const bodies = this.#prepared.committed(xid);
        if (bodies !== null) this.#takeHeld(bodies);
        // It was prepared before this epoch began: nobody knows what it changed.
        else this.#changeSnapshot(markStale(queueWhole(this.#snapshot()), this.#statementTime()));
      }
    }
  }

  passes(error: TributaryError, table: QueuedTable | null): boolean {
    // The group that is read again to be compared was passed before.
    if (this.#phase === 'verifying') return true;
    const { queued, queuedWhole, whole, finished, tables } = this.#snapshot();
    const named = finished ? queued : [...queued, ...tables];
    const asked =
      queuedWhole ||
      (whole && !finished) ||
      (table !== null && named.some(each => each.schema === table.schema && each.name === table.name));
    if (!asked) return false;
    // Again, from here on: what a running snapshot has read is older.
    if (table !== null) this.#changeTables([{ schema: table.schema, name: table.name }]);
    else this.#changeSnapshot(markStale(queueWhole(this.#snapshot()), this.#statementTime()));
    this.#o.counters.fault(error.code);
    return true;
  }

  /** Rows of a prepared transaction, as if they had been logged in this group. */
  #takeHeld(bodies: Iterable<BatchBody>): void {
    for (const { tables, changes } of bodies) {
      for (const change of changes) {
        if (!('rows' in change)) continue;
        const description = tables[change.table];
        assert(description !== undefined, 'held rows name no table');
        const buffer = this.#batcher.table(description);
        buffer.take(change);
        const source = this.#targets.get(JSON.stringify([description.schema, description.name])) ?? description.name;
        const following = this.#cascades.of(description.schema, source);
        if (following !== null) this.#owe(following.children);
        const op = change.op === 'delete' || change.op === 'remove' ? 'delete' : 'upsert';
        this.#o.counters.rows(description.schema, description.name, op, change.rows);
        this.openSince ??= this.#o.now();
        this.#batcher.touched(buffer);
      }
    }
  }

  ddl(logged: DdlStatement): void {
    if (this.#phase === 'verifying') return;
    const { selection } = this.#o;
    const statement = {
      ...logged,
      tables: logged.tables.map(table => this.#spelled(table)),
      renames: logged.renames.map(({ from, to }) => ({ from: this.#spelled(from), to: this.#spelled(to) })),
    };
    const touched = statement.tables.filter(table => selection.captures(table.schema, table.name));
    this.#noteRedefined([...touched, ...statement.renames.map(({ to }) => to)]);
    if (touched.length > 0 && this.#cascades.tracked) this.#noteForeignKeys(statement.text, touched);
    switch (statement.kind) {
      case 'create-index':
      case 'drop-index':
        if (statement.touchesUniqueKeys) this.#changeTables(this.#withoutPrimaryKey(touched));
        return;
      case 'create-table':
      case 'create-database':
      case 'alter-database':
        return;
      case 'drop-table':
        for (const table of touched) this.#clearTable(table);
        return;
      case 'rename-table':
      case 'alter-table': {
        const there = afterRenames(touched, statement.renames);
        // A name that is taken again at once, as in a swap, keeps its rows until the snapshot has brought the new ones.
        const gone = touched.filter(table => !there.some(each => isSame(each, table)));
        for (const table of gone) this.#clearTable(table);
        if (!statement.leavesRows) this.#changeTables(there);
        else {
          this.changedTables.push(...there);
          if (statement.touchesUniqueKeys) this.#changeTables(this.#withoutPrimaryKey(there));
        }
        return;
      }
      case 'drop-database':
        if (!selection.mayCaptureIn(statement.schema)) return;
        // What was in it is known to the head office alone: a snapshot of all that is left sweeps the rest.
        this.changedTables.push(...this.#snapshot().tables);
        this.#changeSnapshot(markStale(queueWhole(this.#snapshot()), this.#statementTime()));
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
    this.#whole(() => this.#batcher.end());
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

  /** A table's name as rows and the catalogue have it. */
  #spelled({ schema, name }: QueuedTable): QueuedTable {
    return this.#o.lowerCaseNames ? { schema: schema.toLowerCase(), name: name.toLowerCase() } : { schema, name };
  }

  /** Statements before the place where the catalogue was asked are known to it. */
  #noteRedefined(tables: readonly QueuedTable[]): void {
    const { catalogue, onRedefined } = this.#o;
    // The end of the group before: the statement itself is behind it.
    if (catalogue === undefined || comparePlaces(this.#place, catalogue.at) < 0) return;
    for (const { schema, name } of tables) this.#redefined.add(tableKey(schema, name));
    if (tables.length > 0) onRedefined?.();
  }

  /** Foreign keys that come are looked up before the next row is read; where one goes, it may have cascaded before. */
  #noteForeignKeys(text: string, tables: readonly QueuedTable[]): void {
    if (/\bDROP\s+(?:FOREIGN|CONSTRAINT)\b/i.test(text)) this.#changeTables(tables);
    const { catalogue } = this.#o;
    if (catalogue === undefined || comparePlaces(this.#place, catalogue.at) < 0) return;
    if (/\b(?:REFERENCES|FOREIGN)\b/i.test(text)) {
      throw new LookAgain('foreign keys have changed: the catalogue is read again');
    }
  }

  /** Two source tables under one name would mix their rows at the head office unseen. */
  #claimTarget(schema: string, name: string, target: string): void {
    const key = JSON.stringify([schema, target]);
    const holder = this.#targets.get(key) ?? name;
    if (holder !== name) {
      throw new TributaryError('SOURCE_TABLE', `tables ${holder} and ${name} of ${schema} are both to be ${target}`, {
        hint: `Give one of them another name in tables.map, or exclude it.`,
      });
    }
    this.#targets.set(key, name);
  }

  /** Rows of these tables may have changed without a word in the binlog: they are copied again, and stale until then. */
  #owe(children: readonly QueuedTable[]): void {
    const captured = children.filter(({ schema, name }) => this.#o.selection.captures(schema, name));
    if (captured.length === 0) return;
    const now = this.#o.now();
    const before = this.#snapshot();
    const next = queueTables(
      before,
      captured.map(({ schema, name }) => ({ schema, name })),
    );
    if (next !== before) this.#owedSince = now;
    this.#owedAt = now;
    for (const { schema, name } of captured) this.#owed.add(tableKey(schema, name));
    if (next === before && before.queuedStaleSince !== null) return;
    this.#changeSnapshot(markStale(next, this.#statementTime()));
  }

  /** Whether all that is queued to be copied is what cascades may have changed, and more of that is likely to come. */
  owesMore({ queued, queuedWhole }: SnapshotProgress, restUntilMs: number): boolean {
    if (queuedWhole || !queued.every(({ schema, name }) => this.#owed.has(tableKey(schema, name)))) return false;
    const now = this.#o.now();
    return now < restUntilMs || (now - this.#owedAt < CASCADES_QUIET_MS && now - this.#owedSince < CASCADES_MOST_MS);
  }

  /** Those in which a unique key may be what identifies rows: a table that is identified otherwise now is copied anew. */
  #withoutPrimaryKey(tables: readonly QueuedTable[]): QueuedTable[] {
    const facts = this.#o.catalogue?.facts ?? Facts.none();
    return tables.filter(({ schema, name }) => !facts.of(schema, name).hasPrimaryKey);
  }

  #statementTime(): string {
    return this.#group?.committedAt ?? new Date(this.#o.now()).toISOString();
  }

  #clearTable(table: QueuedTable): void {
    const target = this.#o.selection.targetName(table.schema, table.name);
    this.#batcher.truncate(table.schema, target);
    this.#targets.delete(JSON.stringify([table.schema, target]));
    this.changedTables.push(table);
    const progress = this.#snapshot();
    const next = emptied(progress, table);
    if (next !== progress) this.#changeSnapshot(next);
  }

  #changeTables(tables: readonly QueuedTable[]): void {
    if (tables.length === 0) return;
    this.changedTables.push(...tables);
    const restarted = tables.reduce(redefined, this.#snapshot());
    this.#changeSnapshot(markStale(queueTables(restarted, tables), this.#statementTime()));
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
    this.#whole(() => {
      this.#batcher.flush();
      this.openSince = null;
      if (!this.#positionSaved || this.#snapshotChange !== null) {
        const held = this.#prepared.takeChanges();
        this.#o.spool.savePosition(this.#currentPosition(), this.#snapshotChange ?? undefined, held);
        this.#positionSaved = true;
        this.#snapshotChange = null;
      }
    });
    this.#tellThrough();
  }

  /** All that was taken is in the spool: says until when that is everything. */
  #tellThrough(): void {
    const { at = null } = this.#reached ?? {};
    // A session can set the time that its statements are logged with: into the future, too.
    const plausible = this.#committedAt !== null && Date.parse(this.#committedAt) <= this.#o.now() + this.#skewMs;
    for (const time of [plausible ? this.#committedAt : null, at]) {
      if (time === null) continue;
      if (this.#capturedThrough === null || Date.parse(time) > Date.parse(this.#capturedThrough)) {
        this.#capturedThrough = time;
      }
    }
  }

  /** A batch that fails on its way into the spool is gone from memory: the position must not pass it afterwards. */
  #whole(work: () => void): void {
    assert(!this.#broken, 'a sink is used after a failure');
    this.#broken = true;
    work();
    this.#broken = false;
  }

  /**
   * Puts a snapshot's own batch into the stream at the place where the stream is, or only stores how far the snapshot
   * is. Between groups only.
   */
  emitSnapshot(draft: BatchDraft | null, advance: (progress: SnapshotProgress) => SnapshotProgress): void {
    this.flush();
    this.#whole(() => {
      const progress = advance(this.#snapshot());
      // What was prepared or ended is stored: the flush has just moved the position past it.
      if (draft === null) this.#o.spool.savePosition(this.#currentPosition(), progress);
      else this.#append(draft, progress);
    });
  }

  /** Changes what the snapshot is to do next; stored with the next position. */
  queueSnapshot(change: (progress: SnapshotProgress) => SnapshotProgress): void {
    const progress = this.#snapshot();
    const next = change(progress);
    if (next !== progress) this.#changeSnapshot(next);
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
    const progress = open ? undefined : (snapshot ?? this.#snapshotChange ?? undefined);
    let bytes = 0;
    const level = this.#effort.level(draft.bytes, this.#o.now());
    const frames = function* (): Generator<Buffer> {
      for (const frame of encodeFrames(bodyOf(draft, position.source), { level })) {
        bytes += frame.length;
        yield frame;
      }
    };
    this.#o.spool.append({
      body: frames(),
      rows: draft.rows,
      position,
      open,
      ...(open ? {} : { held: this.#prepared.takeChanges() }),
      ...(progress === undefined ? {} : { snapshot: progress }),
    });
    if (draft.bytes > LEAST_JSON_BYTES / 4) this.#ratio = clamp(draft.bytes / bytes, 1, 64);
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
   * Never, if the connection is lost before.
   */
  whenPast(place: StreamPlace, run: () => void): void {
    this.#waiters.push({ place, run });
  }

  #heard(): void {
    if (this.#endMark !== null && comparePlaces(this.#place, this.#endMark.place) >= 0) {
      this.#reached = this.#endMark;
      this.#endMark = null;
    }
    if (this.#batcher.empty) this.#tellThrough();
    if (this.#waiters.length > 0) {
      const isReached = ({ place }: Waiter): boolean => comparePlaces(this.#place, place) >= 0;
      const reached = this.#waiters.filter(isReached);
      this.#waiters = this.#waiters.filter(waiter => !isReached(waiter));
      for (const { run } of reached) run();
    }
    this.#o.onQuiet();
  }
}

const SEQUENCE_COLUMNS =
  'next_not_cached_value minimum_value maximum_value start_value increment cache_size cycle_option cycle_count';

/** MariaDB logs what a SEQUENCE hands out as rows of a table of its name: a counter, not data. */
function isSequence({ columns }: SourceTable): boolean {
  return (
    columns.every(column => column.key === undefined) && columns.map(({ name }) => name).join(' ') === SEQUENCE_COLUMNS
  );
}

/** Which of the names that a statement speaks of stand for a table once it has renamed some, one after the other. */
function afterRenames(tables: readonly QueuedTable[], renames: DdlStatement['renames']): QueuedTable[] {
  const made = renames.map(({ to }) => to);
  let there = tables.filter(table => !made.some(to => isSame(to, table)));
  for (const { from, to } of renames) {
    there = [...there.filter(table => !isSame(table, from)), ...tables.filter(table => isSame(table, to))];
  }
  return there;
}

function isSame(a: QueuedTable, b: QueuedTable): boolean {
  return a.schema === b.schema && a.name === b.name;
}

function lost(message: string): TributaryError {
  return new TributaryError('SOURCE_POSITION_LOST', message);
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}
