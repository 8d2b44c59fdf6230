/**
 * The branch's durable memory: batches that the head office may not have yet. With each batch, in one transaction, it
 * stores the position in the binlog and the snapshot's progress that the batch reaches. A batch is kept until the head
 * office has committed it (`receivedSeq`), and for `keepApplied` after that, in case the head office loses it again.
 *
 * Invariants:
 * - seq runs 1, 2, 3 … in an epoch, and digests form a chain: computed in `append`, checked in `read`;
 * - base ≤ receivedSeq ≤ head ≤ tail. `tail` is the last batch written, `head` the last batch of a closed group.
 *   Batches between them belong to an open group. The forwarder does not see them. A start deletes them, because the
 *   position is still before the group, which will be read again;
 * - only pruning moves `base`, and it never passes `receivedSeq`;
 * - batches up to `sealed` keep their number and digest for good: they may have been sent. Those that a start finds are
 *   sealed. `collapse` may put other batches in the place of later ones (unsent-batches.ts), so `head` may go down, but
 *   never below `sealed`.
 *
 * Pruning and a new epoch only move marks; `maintain` deletes the rows below them later, in slices, so that no call blocks
 * for long. Counters are differences of running totals, so that a start reads no batch.
 */
import { statfsSync } from 'node:fs';
import type { StreamMark } from '../../shared/batch/batch.ts';
import { assert, TributaryError } from '../../shared/errors.ts';
import type { AgentStream } from '../../shared/protocol.ts';
import { Receipts } from './receipts.ts';
import type { Position, SnapshotProgress } from './stored-state.ts';
import { HistoryTables } from './history-tables.ts';
import { RowsOfDay } from './rows-of-day.ts';
import { ServerSeen } from './server-seen.ts';
import { Standing } from './standing.ts';
import { directoryGone, integer, SpoolFile, text } from './spool-file.ts';
import type { Row } from './spool-file.ts';
import { changeDefinitions, loadDefinitions } from './stored-definitions.ts';
import type { DefinitionChange, StoredDefinition } from './stored-definitions.ts';
import { changeHeld, forgetHeld, forgetUnkept, heldParts, heldTransactions, hold } from './held-rows.ts';
import type {
  BatchToAppend,
  HeldChange,
  MergeableBatch,
  MergedBatches,
  SpoolOptions,
  SpoolUsage,
  StoredBatch,
} from './spool-types.ts';
import {
  deleteBatches,
  deleteBatchesAfter,
  loadState,
  replaceBatches,
  startEpoch,
  storeState,
} from './stream-state.ts';
import { BATCH_OVERHEAD_BYTES, damaged, readBatch, writeBatch } from './stored-batch.ts';
import type { SpoolMark } from './stored-batch.ts';
import type { StreamState } from './stream-state.ts';

import { MOST_LATER_BYTES, MOST_WRITTEN, UnsentBatches } from './unsent-batches.ts';
import type { Entry, MergeRange } from './unsent-batches.ts';

export type * from './spool-types.ts';
export type { MergeRange } from './unsent-batches.ts';
export { SPOOL_FILE_NAME } from './spool-file.ts';
export type { LastGroup, Position, SnapshotProgress } from './stored-state.ts';

/** The disk space that an append is assumed to need: its pages, their copies in the log, and a reserve. */
const APPEND_BYTES = 1024 * 1024;
const DONE_REQUESTS_KEPT = 1000;
/** When room is short, this share of the limit is freed at once, so that not every append prunes. */
const ROOM_MARGIN = 0.02;

export class Spool {
  /** Resolves when the disk or the file has failed: the process must end. Never rejects. */
  readonly failed: Promise<TributaryError>;
  /** Which run of the branch's server was seen last. */
  readonly serverSeen: ServerSeen;
  /** Tables whose history the head office keeps. */
  readonly history: HistoryTables;
  /** What the head office last said of this branch. */
  readonly standing: Standing;
  /** Changed rows by the time of their commit. */
  readonly rowsOfDay: RowsOfDay;
  readonly #file: SpoolFile;
  readonly #options: SpoolOptions;
  readonly #listeners = new Set<() => void>();
  readonly #receipts: Receipts;
  #state: StreamState;
  #tail: SpoolMark;
  /** This process stores nothing more. */
  #givenUp = false;
  /** The batch read last: its digest checks the chain without another query. */
  #lastRead: StreamMark;
  /** The last batch that keeps its number and digest. */
  #sealed: number;
  readonly #unsent = new UnsentBatches();
  #collapsed = { changes: 0, bytes: 0 };

  /**
   * Locks the directory, deletes the parts of an unfinished group, begins a first epoch in a new spool.
   * @throws TributaryError ALREADY_RUNNING, SPOOL_FORMAT, SPOOL_CORRUPT, SPOOL_IO, CONFIG_UNREADABLE
   */
  static open(options: SpoolOptions): Spool {
    const file = new SpoolFile(options.directory);
    try {
      return new Spool(file, options);
    } catch (error) {
      file.close();
      throw error;
    }
  }

  private constructor(file: SpoolFile, options: SpoolOptions) {
    this.#file = file;
    this.#options = options;
    this.failed = file.failed;
    this.serverSeen = new ServerSeen(file);
    this.history = new HistoryTables(file);
    this.standing = new Standing(file);
    this.rowsOfDay = new RowsOfDay(file);
    this.#receipts = new Receipts(file, options.keepAppliedMs);
    this.#state = loadState(file, options.branch) ?? startEpoch(file, options.branch, 0, null, [], null, null);
    this.#tail = this.#state.head;
    this.#lastRead = this.#state.base;
    this.#sealed = this.#state.head.seq;
    deleteBatchesAfter(file, this.#state.firstId + this.#state.head.seq);
    forgetUnkept(file);
  }

  stream(): AgentStream {
    const { epoch, base, head, receivedSeq, acknowledgedEpoch, superseded } = this.#state;
    return {
      branch: this.#options.branch,
      epoch,
      base: { seq: base.seq, digest: base.digest },
      head: { seq: head.seq, digest: head.digest },
      receivedSeq,
      acknowledgedEpoch,
      superseded,
    };
  }

  /** Null until the first closed batch or `savePosition` of an epoch that began without one. */
  position(): Position | null {
    return this.#state.position;
  }

  snapshot(): SnapshotProgress | null {
    return this.#state.snapshot;
  }

  /** Whether this epoch has the start of the snapshot that every epoch begins with, or still waits for it. */
  isBegun(): boolean {
    return this.#state.head.seq > 0 || this.#state.snapshot?.started === false;
  }

  /** Ids of snapshot requests that were served; the newest thousand. */
  doneRequests(): readonly string[] {
    return this.#state.doneRequests;
  }

  /**
   * Stores a batch, and, unless it is `open`, with it the position and the snapshot's progress; durable on return.
   * @throws TributaryError SPOOL_FULL (nothing was stored), SPOOL_IO, SPOOL_CORRUPT
   */
  append(batch: BatchToAppend): StreamMark {
    this.#throwIfGivenUp();
    assert(!(batch.open && batch.snapshot !== undefined), 'A snapshot marker is inside an open group.');
    const groupIsOpen = batch.open || this.#tail.seq > this.#state.head.seq;
    if (!this.#makeRoom(groupIsOpen)) {
      throw new TributaryError('SPOOL_FULL', `The spool holds ${this.totalBytes} of ${this.#options.maxBytes} bytes.`);
    }
    const before = this.#tail;
    const { firstId } = this.#state;
    const file = this.#file;
    const { written, next } = file.transaction(() => {
      const { body, rows } = batch;
      const written = writeBatch(file, firstId, before, { body, rows, createdAt: this.#options.now() });
      const next = batch.open ? this.#state : this.#closed(written.reached, batch.position, batch.snapshot);
      if (!batch.open) {
        storeState(file, this.#state, next);
        changeHeld(file, batch.held ?? []);
        changeDefinitions(file, batch.definitions ?? []);
        if (batch.committed !== undefined) this.rowsOfDay.add(batch.committed, this.#options.now());
      }
      return { written, next };
    });
    const { reached, bytes, isWhole } = written;
    const { seq, digest } = reached;
    this.#tail = reached;
    this.#state = next;
    const entry = { first: seq, last: seq, bytes, rows: batch.rows };
    this.#list(groupIsOpen || !isWhole ? undefined : batch.mergeable, entry);
    if (!batch.open) for (const listener of this.#listeners) listener();
    return { seq, digest };
  }

  /** Moves the position past groups without captured rows, or stores how far a snapshot is. Not inside an open group. */
  savePosition(
    position: Position,
    snapshot?: SnapshotProgress | null,
    held: readonly HeldChange[] = [],
    definitions: readonly DefinitionChange[] = [],
  ): void {
    this.#throwIfGivenUp();
    assert(this.#tail.seq === this.#state.head.seq, 'A position was saved inside an open group.');
    this.#commit(this.#closed(this.#state.head, position, snapshot), held, definitions);
  }

  /** What the columns of tables are at the position, where the binlog does not say it. @throws TributaryError SPOOL_CORRUPT */
  definitions(): readonly StoredDefinition[] {
    return loadDefinitions(this.#file);
  }

  /**
   * Stores a part of a prepared transaction's rows, apart from the batches. It is gone after a restart unless a `keep` follows.
   * @throws TributaryError SPOOL_FULL at the disk's floor, SPOOL_IO
   */
  hold(key: string, part: number, body: Buffer): void {
    if (!this.#makeRoom(true)) throw new TributaryError('SPOOL_FULL', 'The disk has reached its floor.');
    hold(this.#file, key, part, body);
  }

  /** Prepared transactions whose rows are held. */
  held(): readonly { readonly key: string; readonly xid: string }[] {
    return heldTransactions(this.#file);
  }

  /** The parts under a key, in order. @throws TributaryError SPOOL_CORRUPT */
  heldParts(key: string): Generator<Buffer> {
    return heldParts(this.#file, key);
  }

  /** Deletes the parts of a group that will be read again. */
  discardOpenGroup(): void {
    forgetUnkept(this.#file);
    if (this.#tail.seq === this.#state.head.seq) return;
    deleteBatchesAfter(this.#file, this.#state.firstId + this.#state.head.seq);
    this.#tail = this.#state.head;
    if (this.#lastRead.seq > this.#tail.seq) this.#lastRead = this.#state.base;
  }

  /**
   * A kept batch, those of an open group included; null: there is none. Whoever reads it may send it: it is sealed.
   * @throws TributaryError SPOOL_CORRUPT
   */
  read(seq: number): StoredBatch | null {
    if (seq <= this.#state.base.seq || seq > this.#tail.seq) return null;
    const batch = this.#readAt(seq);
    this.#sealThrough(seq);
    return batch;
  }

  #readAt(seq: number): StoredBatch {
    const before = this.#lastRead.seq === seq - 1 ? this.#lastRead.digest : this.#place(seq - 1).digest;
    const id = this.#state.firstId + seq;
    const batch = readBatch(this.#file, { id, seq, before, open: seq > this.#state.head.seq });
    this.#lastRead = { seq, digest: batch.digest };
    return batch;
  }

  /** This spool's own digest through a closed batch; null: it was pruned, or never existed. */
  digestAt(seq: number): string | null {
    return seq < this.#state.base.seq || seq > this.#state.head.seq ? null : this.#place(seq).digest;
  }

  /** The head office has received everything up to this seq, which may have gone down. Prunes what was kept long enough. */
  advance(receivedSeq: number, acknowledgedEpoch: string | null): void {
    const { base, head } = this.#state;
    assert(
      receivedSeq >= base.seq && receivedSeq <= head.seq,
      `The batch number ${receivedSeq} is not between ${base.seq} and ${head.seq}.`,
    );
    // Another agent with a copy of this spool may have sent them.
    this.#sealThrough(receivedSeq);
    if (receivedSeq !== this.#state.receivedSeq || acknowledgedEpoch !== this.#state.acknowledgedEpoch) {
      const next: StreamState = {
        ...this.#state,
        receivedSeq,
        receivedEndBytes: this.#place(receivedSeq).endBytes,
        acknowledgedEpoch,
      };
      this.#file.transaction(() => {
        storeState(this.#file, this.#state, next);
        this.#receipts.note(receivedSeq, this.#options.now());
      });
      this.#state = next;
    }
    this.maintain();
  }

  /** The head office has another epoch, which the next hello claims to replace. */
  claim(acknowledgedEpoch: string | null): void {
    if (acknowledgedEpoch !== this.#state.acknowledgedEpoch) this.#commit({ ...this.#state, acknowledgedEpoch });
  }

  /** A newer epoch of this branch is the valid one, for good. Survives a restart; `newEpoch` (by `enroll`) ends it. */
  supersede(): void {
    this.#commit({ ...this.#state, superseded: true });
  }

  /**
   * Drops all batches and begins a new epoch with a random id at seq 0, in one transaction.
   * @param acknowledgedEpoch default: unchanged, so that the new epoch replaces exactly the one that the head office named last
   */
  newEpoch(
    snapshot: SnapshotProgress | null,
    position: Position | null,
    acknowledgedEpoch: string | null = this.#state.acknowledgedEpoch,
  ): void {
    this.#throwIfGivenUp();
    const firstId = this.#state.firstId + this.#tail.seq;
    this.#state = startEpoch(
      this.#file,
      this.#options.branch,
      firstId,
      acknowledgedEpoch,
      // A head office that was restored may have them open again. The markers of this epoch say what it serves.
      [],
      snapshot,
      position,
    );
    // Transactions that were prepared before belong to another history, or to the snapshot.
    forgetHeld(this.#file);
    this.#tail = this.#state.head;
    this.#lastRead = this.#state.base;
    this.#sealed = 0;
    this.#unsent.clear();
    for (const listener of this.#listeners) listener();
  }

  /**
   * A stored batch is damaged, so that what follows it can never be sent. Begins an epoch without a position; the next
   * process takes a snapshot for it. Until this process has ended, capture may still work on the old epoch, and its position
   * would make the new one look complete. So nothing more is stored.
   */
  giveUp(): void {
    try {
      this.newEpoch(null, null);
    } finally {
      this.#givenUp = true;
    }
  }

  // -------------------------------------------------------------------------------------------------------------
  // Collapse

  /** All batches that are there now keep their numbers. @returns the number of the last one of a closed group */
  seal(): number {
    const { seq } = this.#state.head;
    this.#sealThrough(seq);
    return seq;
  }

  /** Batches whose merge would save much (unsent-batches.ts); null: none. */
  worthMerging(): MergeRange | null {
    return this.#tail.seq === this.#state.head.seq ? this.#unsent.worthMerging() : null;
  }

  /** Whether the range may still be merged. */
  mayMerge(range: MergeRange): boolean {
    return this.#unsent.holds(range);
  }

  /** A batch of such a range, to be merged and not to be sent. @throws TributaryError SPOOL_CORRUPT */
  readUnsent(range: MergeRange, seq: number): StoredBatch {
    assert(this.#unsent.holds(range) && seq >= range.first && seq <= range.last, `Batch ${seq} is not to be merged.`);
    return this.#readAt(seq);
  }

  /** A range turned out not to be worth it. */
  leaveUnmerged(range: MergeRange): void {
    this.#unsent.disappointed(range);
  }

  /**
   * Puts batches in the place of a range, and gives the batches after it new numbers and digests, in one transaction that
   * is durable on return.
   * @returns false: nothing was done. A batch of the range may have been sent meanwhile, or a barrier has come after it; or
   *   it would write too much for what it saves, or there is no room
   * @throws TributaryError SPOOL_CORRUPT, SPOOL_IO
   */
  collapse(range: MergeRange, merged: MergedBatches): boolean {
    this.#throwIfGivenUp();
    if (!this.#unsent.holds(range)) return false;
    const { first, last } = range;
    const { head } = this.#state;
    assert(first > this.#sealed && this.#tail.seq === head.seq, `Batches from ${first} on must not be merged.`);
    const bytes = merged.bodies.reduce((sum, { body }) => sum + body.length, 0);
    // From running totals: what comes after the range may be too much to be read.
    const laterBytes = this.bytesAfter(last) - BATCH_OVERHEAD_BYTES * (head.seq - last);
    const written = bytes + laterBytes;
    if (laterBytes > MOST_LATER_BYTES || written > MOST_WRITTEN * (range.bytes - bytes)) {
      this.#unsent.disappointed(range);
      return false;
    }
    // In the log and in the file.
    const { minFreeBytes } = this.#options;
    if (this.#freeDiskBytes() < minFreeBytes + APPEND_BYTES + 2 * written) return false;
    const createdAt = integer(this.#row(first, 'created_at'), 'created_at');
    const later = Array.from({ length: head.seq - last }, (_, at) => this.#readAt(last + 1 + at));
    const before = this.#place(first - 1);
    const batches = [...merged.bodies.map(body => ({ ...body, createdAt })), ...later];
    const isDone = this.#unlessDiskIsFull(() => {
      this.#state = replaceBatches(this.#file, this.#state, before, batches);
      return true;
    });
    if (!isDone) return false;
    this.#tail = this.#state.head;
    if (this.#lastRead.seq >= first) this.#lastRead = this.#state.base;
    const rows = merged.bodies.reduce((sum, body) => sum + body.rows, 0);
    const { sample } = merged;
    this.#unsent.replace(range, { first, last: first + merged.bodies.length - 1, bytes, rows, sample });
    const { collapsed } = this;
    this.#collapsed = {
      changes: collapsed.changes + range.rows - rows,
      bytes: collapsed.bytes + range.bytes - bytes,
    };
    return true;
  }

  /** Changes and bytes that need not be sent any more, since the start. */
  get collapsed(): { readonly changes: number; readonly bytes: number } {
    return this.#collapsed;
  }

  #sealThrough(seq: number): void {
    if (seq <= this.#sealed) return;
    this.#sealed = seq;
    this.#unsent.seal(seq);
  }

  /** Lists a batch that was written, or takes it for a barrier. */
  #list(mergeable: MergeableBatch | undefined, batch: Omit<Entry, 'sample'>): void {
    if (mergeable === undefined) this.#unsent.clear();
    else if (!this.#unsent.isEmpty || this.#options.mayMerge?.() === true) {
      this.#unsent.append({ ...batch, sample: mergeable.sample() }, mergeable.tables);
    }
  }

  // -------------------------------------------------------------------------------------------------------------

  usage(): SpoolUsage {
    const { receivedSeq, head, receivedEndBytes } = this.#state;
    const oldest = receivedSeq === head.seq ? null : this.#row(receivedSeq + 1, 'created_at');
    return {
      waitingBatches: head.seq - receivedSeq,
      waitingBytes: head.endBytes - receivedEndBytes,
      totalBytes: this.totalBytes,
      maxBytes: this.#options.maxBytes,
      fileBytes: this.#file.fileBytes(),
      freeDiskBytes: this.#freeDiskBytes(),
      oldestWaitingAt: oldest === null ? null : integer(oldest, 'created_at'),
      room: this.#makeRoom(this.#tail.seq > head.seq),
    };
  }

  /** Bytes of the closed batches after this one, which is kept or was the last that was pruned. */
  bytesAfter(seq: number): number {
    return this.#state.head.endBytes - this.#place(seq).endBytes;
  }

  /** Whether the file can still be asked. The page is served a little longer. */
  get isOpen(): boolean {
    return this.#file.isOpen;
  }

  /** Bytes of all kept batches, received or not, those of an open group included. */
  get totalBytes(): number {
    return this.#tail.endBytes - this.#state.base.endBytes;
  }

  /** Whether a batch may be appended, as `usage().room`. */
  hasRoom(): boolean {
    return this.#makeRoom(this.#tail.seq > this.#state.head.seq);
  }

  /** Calls back whenever `head` has moved, synchronously and after the commit. @returns a function that ends this */
  onAppend(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** One slice of housekeeping: prunes, deletes, shrinks. @returns whether there is more to do */
  maintain(): boolean {
    return this.#unlessDiskIsFull(() => {
      this.#pruneExpired();
      return this.#deleteSlice() || this.#file.shrink();
    });
  }

  close(): void {
    this.#file.close();
  }

  // -------------------------------------------------------------------------------------------------------------
  // Room

  /** Whether a batch may be appended. Forgets received batches if that helps. */
  #makeRoom(groupIsOpen: boolean): boolean {
    return this.#unlessDiskIsFull(() => this.#tryToMakeRoom(groupIsOpen));
  }

  /** Housekeeping writes too. On a disk without a single free page it must wait instead of ending the process. */
  #unlessDiskIsFull(work: () => boolean): boolean {
    try {
      return work();
    } catch (error) {
      if (error instanceof TributaryError && error.code === 'SPOOL_FULL') return false;
      throw error;
    }
  }

  #tryToMakeRoom(groupIsOpen: boolean): boolean {
    const { maxBytes, minFreeBytes } = this.#options;
    const margin = Math.floor(maxBytes * ROOM_MARGIN);
    if (!groupIsOpen) {
      const excess = this.totalBytes - maxBytes;
      if (excess >= 0) this.#pruneBytes(excess + margin);
      if (this.totalBytes >= maxBytes) return false;
    }
    // Every append is assumed to have the same size, so that `room` and `append` never disagree. A large batch may take
    // the disk below the floor once.
    let missing = minFreeBytes + APPEND_BYTES - this.#freeDiskBytes();
    if (missing <= 0) return true;
    // Free pages of the file are room as well. Pruning turns batches into such pages, slice by slice.
    missing -= this.#file.freeBytes();
    if (missing <= 0) return true;
    if (!this.#deleteSlice()) {
      this.#pruneBytes(missing + margin);
      this.#deleteSlice();
    }
    return minFreeBytes + APPEND_BYTES - this.#freeDiskBytes() - this.#file.freeBytes() <= 0;
  }

  #freeDiskBytes(): number {
    if (this.#options.freeDiskBytes !== undefined) return this.#options.freeDiskBytes();
    const { directory } = this.#options;
    try {
      const disk = statfsSync(directory);
      return disk.bavail * disk.bsize;
    } catch (cause) {
      throw directoryGone(directory, cause);
    }
  }

  /** Forgets batches that were received long enough ago. */
  #pruneExpired(): void {
    const now = this.#options.now();
    const receivedSeq = this.#receipts.expired(now);
    if (receivedSeq === null) return;
    const expired = Math.min(receivedSeq, this.#state.receivedSeq);
    if (expired > this.#state.base.seq) this.#moveBase(expired);
    this.#receipts.forgetExpired(now);
  }

  /** Forgets at least this many bytes of received batches, oldest first, or all of them. */
  #pruneBytes(bytes: number): void {
    const { base, receivedSeq } = this.#state;
    if (receivedSeq === base.seq) return;
    let low = base.seq + 1;
    let high = receivedSeq;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if (this.#place(middle).endBytes - base.endBytes >= bytes) high = middle;
      else low = middle + 1;
    }
    this.#moveBase(low);
  }

  #moveBase(seq: number): void {
    assert(
      seq <= this.#state.receivedSeq,
      `Batch ${seq} must not be pruned, because only ${this.#state.receivedSeq} is received.`,
    );
    this.#commit({ ...this.#state, base: this.#place(seq) });
  }

  #deleteSlice(): boolean {
    return deleteBatches(this.#file, this.#state.firstId + this.#state.base.seq);
  }

  // -------------------------------------------------------------------------------------------------------------
  // State

  #closed(head: SpoolMark, position: Position, snapshot: SnapshotProgress | null | undefined): StreamState {
    const state: StreamState = { ...this.#state, head, position };
    if (snapshot === undefined) return state;
    const before = this.#state.snapshot;
    const ended = before !== null && !before.finished && (snapshot?.finished ?? true) ? before.requests : [];
    const doneRequests = [...this.#state.doneRequests, ...ended].slice(-DONE_REQUESTS_KEPT);
    return { ...state, snapshot, doneRequests };
  }

  #commit(next: StreamState, held: readonly HeldChange[] = [], definitions: readonly DefinitionChange[] = []): void {
    this.#file.transaction(() => {
      storeState(this.#file, this.#state, next);
      changeHeld(this.#file, held);
      changeDefinitions(this.#file, definitions);
    });
    this.#state = next;
  }

  #place(seq: number): SpoolMark {
    const { base, head } = this.#state;
    if (seq === base.seq) return base;
    if (seq === head.seq) return head;
    if (seq === this.#tail.seq) return this.#tail;
    const row = this.#row(seq, 'seq, digest, end_bytes');
    return { seq, digest: text(row, 'digest'), endBytes: integer(row, 'end_bytes') };
  }

  #row(seq: number, columns: string): Row {
    const row = this.#file.get(`SELECT ${columns} FROM batches WHERE id = ?`, this.#state.firstId + seq);
    if (row === null) throw damaged(seq);
    return row;
  }

  #throwIfGivenUp(): void {
    if (this.#givenUp) throw new TributaryError('SPOOL_CORRUPT', 'The spool was given up. This process must end.');
  }
}
