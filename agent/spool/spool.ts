/**
 * The branch's memory of what the head office may not have yet: batches, and with each, in one transaction, the position
 * in the binlog that it reaches and the progress of a snapshot. A batch is forgotten only when the head office has
 * committed it (`receivedSeq`), and then kept for `keepApplied` in case the head office loses it again.
 *
 * Invariants:
 * - seq runs 1, 2, 3 … in an epoch, digests chain; computed in `append`, checked in `read`;
 * - base ≤ receivedSeq ≤ head ≤ tail. `tail` is the last batch written, `head` the last of a closed group: batches
 *   between them belong to an open group, are invisible to the forwarder, and are deleted by a start, because the
 *   position still stands before the group and it will be read again;
 * - `base` moves only by pruning, and pruning never passes `receivedSeq`.
 *
 * Pruning and a new epoch only move marks; the rows below are deleted afterwards in slices (`maintain`), so that no
 * call blocks for long, and counters are differences of running totals, so that a start reads no batch.
 */
import { statfsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { nextDigest } from '../../shared/batch/batch.ts';
import type { StreamMark } from '../../shared/batch/batch.ts';
import { assert, TributaryError } from '../../shared/errors.ts';
import type { AgentStream } from '../../shared/protocol.ts';
import { release } from '../../shared/release.ts';
import { measurePieces, readPiece, storeBody } from './bodies.ts';
import type { Position, SnapshotProgress } from './stored-state.ts';
import { ServerSeen } from './server-seen.ts';
import { directoryGone, integer, SpoolFile, text } from './spool-file.ts';
import type { Row } from './spool-file.ts';
import { changeHeld, forgetHeld, forgetUnkept, heldParts, heldTransactions, hold } from './held-rows.ts';
import type { BatchToAppend, HeldChange, SpoolOptions, SpoolUsage, StoredBatch } from './spool-types.ts';
import { deleteBatches, deleteBatchesAfter, loadState, startEpoch, storeState } from './stream-state.ts';
import type { SpoolMark, StreamState } from './stream-state.ts';

export type * from './spool-types.ts';
export { SPOOL_FILE_NAME } from './spool-file.ts';
export type { LastGroup, Position, SnapshotProgress, SnapshotTable } from './stored-state.ts';

/** What a batch takes beside its body; counted, so that a million tiny batches are not free. */
const BATCH_OVERHEAD_BYTES = 256;
/** What an append is taken to need of the disk: its pages, their copies in the log, and something to spare. */
const APPEND_BYTES = 1024 * 1024;
/** Receipts are kept by the slot of time, so that there are never more than about this many. */
const RECEIPT_SLOTS = 200;
const DONE_REQUESTS_KEPT = 1000;
/** How often somebody who waits for room looks at the disk again. */
const ROOM_POLL_MS = 1_000;
/** When room is short, this share of the limit is freed at once, so that not every append prunes. */
const ROOM_MARGIN = 0.02;

export class Spool {
  /** Resolves when the disk or the file has failed: the process must end. Never rejects. */
  readonly failed: Promise<TributaryError>;
  /** Which run of the branch's server was seen last. */
  readonly serverSeen: ServerSeen;
  readonly #file: SpoolFile;
  readonly #options: SpoolOptions;
  readonly #listeners = new Set<() => void>();
  readonly #closing = new AbortController();
  #state: StreamState;
  #tail: SpoolMark;
  /** Nothing more is stored by this process. */
  #givenUp = false;
  /** Digest of the batch read last, to check the chain without a second look-up. */
  #lastRead: StreamMark;

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
    this.#state = loadState(file, options.branch) ?? startEpoch(file, options.branch, 0, null, [], null, null);
    this.#tail = this.#state.head;
    this.#lastRead = this.#state.base;
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

  /** Whether this epoch has, or still waits for, the start of the snapshot that every epoch begins with. */
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
    assert(!(batch.open && batch.snapshot !== undefined), 'a snapshot marker inside an open group');
    const groupIsOpen = batch.open || this.#tail.seq > this.#state.head.seq;
    if (!this.#makeRoom(groupIsOpen)) {
      throw new TributaryError(
        'SPOOL_FULL',
        `The spool holds ${this.#totalBytes()} of ${this.#options.maxBytes} bytes.`,
      );
    }
    const before = this.#tail;
    const seq = before.seq + 1;
    const id = this.#state.firstId + seq;
    const { tail, next } = this.#file.transaction(() => {
      const { digest, bytes, inRow } = storeBody(this.#file, id, before.digest, batch.body);
      const reached: SpoolMark = { seq, digest, endBytes: before.endBytes + bytes + BATCH_OVERHEAD_BYTES };
      const state = batch.open ? this.#state : this.#closed(reached, batch.position, batch.snapshot);
      this.#file.run(
        'INSERT INTO batches (id, seq, previous, digest, rows, created_at, end_bytes, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)',
        id,
        seq,
        before.digest,
        digest,
        batch.rows,
        this.#options.now(),
        reached.endBytes,
        inRow,
      );
      if (!batch.open) {
        storeState(this.#file, this.#state, state);
        changeHeld(this.#file, batch.held ?? []);
      }
      return { tail: reached, next: state };
    });
    this.#tail = tail;
    this.#state = next;
    if (!batch.open) for (const listener of this.#listeners) listener();
    return { seq, digest: tail.digest };
  }

  /** Moves the position past groups without captured rows, or stores how far a snapshot is. Not inside an open group. */
  savePosition(position: Position, snapshot?: SnapshotProgress | null, held: readonly HeldChange[] = []): void {
    this.#throwIfGivenUp();
    assert(this.#tail.seq === this.#state.head.seq, 'a position saved inside an open group');
    this.#commit(this.#closed(this.#state.head, position, snapshot), held);
  }

  /**
   * Stores a part of a prepared transaction's rows, apart from the batches; gone after a restart unless a `keep` follows.
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

  /** A kept batch, open ones included; null where there is none. @throws TributaryError SPOOL_CORRUPT */
  read(seq: number): StoredBatch | null {
    if (seq <= this.#state.base.seq || seq > this.#tail.seq) return null;
    const id = this.#state.firstId + seq;
    const row = this.#file.get('SELECT * FROM batches WHERE id = ?', id);
    const inRow = row?.['body'];
    if (row === null || !(inRow instanceof Uint8Array) || integer(row, 'seq') !== seq) throw this.#damaged(seq);
    const previous = text(row, 'previous');
    const digest = text(row, 'digest');
    const before = this.#lastRead.seq === seq - 1 ? this.#lastRead.digest : this.#place(seq - 1).digest;
    const only = Buffer.from(inRow.buffer, inRow.byteOffset, inRow.byteLength);
    const { pieces, bytes } = only.length > 0 ? { pieces: 1, bytes: only.length } : measurePieces(this.#file, id);
    const piece = (index: number): Buffer => {
      const found = only.length > 0 && index === 0 ? only : readPiece(this.#file, id, index);
      if (found === null) throw this.#damaged(seq);
      return found;
    };
    const all = function* (): Generator<Buffer> {
      for (let index = 0; index < pieces; index += 1) yield piece(index);
    };
    const each = function* (): Generator<Buffer> {
      for (const next of all()) {
        yield next;
        if (next !== only) release(next);
      }
    };
    if (previous !== before || nextDigest(previous, each()) !== digest) throw this.#damaged(seq);
    this.#lastRead = { seq, digest };
    return {
      seq,
      previous,
      digest,
      bytes,
      pieces,
      piece,
      get body() {
        return only.length > 0 ? only : Buffer.concat([...all()]);
      },
      rows: integer(row, 'rows'),
      open: seq > this.#state.head.seq,
      createdAt: integer(row, 'created_at'),
    };
  }

  /** This spool's own digest through a closed batch; null where it was pruned or never was. */
  digestAt(seq: number): string | null {
    return seq < this.#state.base.seq || seq > this.#state.head.seq ? null : this.#place(seq).digest;
  }

  /** The head office has received everything up to this seq, which may have gone down. Prunes what was kept long enough. */
  advance(receivedSeq: number, acknowledgedEpoch: string | null): void {
    const { base, head } = this.#state;
    assert(
      receivedSeq >= base.seq && receivedSeq <= head.seq,
      `receivedSeq ${receivedSeq} is outside of ${base.seq} … ${head.seq}`,
    );
    if (receivedSeq !== this.#state.receivedSeq || acknowledgedEpoch !== this.#state.acknowledgedEpoch) {
      const slot = Math.ceil(this.#options.now() / this.#slotMs());
      const next: StreamState = {
        ...this.#state,
        receivedSeq,
        receivedEndBytes: this.#place(receivedSeq).endBytes,
        acknowledgedEpoch,
      };
      this.#file.transaction(() => {
        storeState(this.#file, this.#state, next);
        // A receipt above a mark that went down no longer says since when the head office has it.
        this.#file.run('DELETE FROM receipts WHERE received_seq > ?', receivedSeq);
        this.#file.run(
          `INSERT INTO receipts (slot, received_seq) VALUES (?, ?)
           ON CONFLICT (slot) DO UPDATE SET received_seq = excluded.received_seq`,
          slot,
          receivedSeq,
        );
      });
      this.#state = next;
    }
    this.maintain();
  }

  /** The head office has another epoch: the next hello claims to replace it. */
  claim(acknowledgedEpoch: string | null): void {
    if (acknowledgedEpoch !== this.#state.acknowledgedEpoch) this.#commit({ ...this.#state, acknowledgedEpoch });
  }

  /** A newer life of this branch is the valid one, for good. Survives a restart; `newEpoch` (by `enroll`) ends it. */
  supersede(): void {
    this.#commit({ ...this.#state, superseded: true });
  }

  /**
   * A new life: batches are dropped, a new random epoch begins at seq 0. One transaction.
   * @param acknowledgedEpoch default: unchanged, so that the new epoch replaces the one that the head office named last
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
      // A head office that was restored may have them open again: what this epoch serves, its own markers say.
      [],
      snapshot,
      position,
    );
    // What was prepared before is of another history, or in the snapshot's hands.
    forgetHeld(this.#file);
    this.#tail = this.#state.head;
    this.#lastRead = this.#state.base;
    for (const listener of this.#listeners) listener();
  }

  /**
   * A stored batch is damaged, so that what follows it can never be sent. An epoch without a position begins: the next
   * process begins it with a snapshot. Until this process has ended, capture may still be at work on the old epoch, and
   * its position would make the new one look complete: so nothing more is stored.
   */
  giveUp(): void {
    this.newEpoch(null, null);
    this.#givenUp = true;
  }

  usage(): SpoolUsage {
    const { receivedSeq, head, receivedEndBytes } = this.#state;
    const oldest = receivedSeq === head.seq ? null : this.#row(receivedSeq + 1, 'created_at');
    return {
      waitingBatches: head.seq - receivedSeq,
      waitingBytes: head.endBytes - receivedEndBytes,
      totalBytes: this.#totalBytes(),
      maxBytes: this.#options.maxBytes,
      fileBytes: this.#file.fileBytes(),
      freeDiskBytes: this.#freeDiskBytes(),
      oldestWaitingAt: oldest === null ? null : integer(oldest, 'created_at'),
      room: this.#makeRoom(this.#tail.seq > head.seq),
    };
  }

  /** Bytes of all kept batches, received or not, open group included; without a look at the disk. */
  get totalBytes(): number {
    return this.#totalBytes();
  }

  /** Whether a batch may be appended: `usage().room` without the rest. */
  hasRoom(): boolean {
    return this.#makeRoom(this.#tail.seq > this.#state.head.seq);
  }

  /** Resolves when a batch may be appended. @throws the signal's reason, or SPOOL_* */
  async whenRoom(signal?: AbortSignal): Promise<void> {
    while (!this.#makeRoom(this.#tail.seq > this.#state.head.seq)) {
      signal?.throwIfAborted();
      const signals = signal === undefined ? [this.#closing.signal] : [signal, this.#closing.signal];
      // Woken early by either: the next look tells what has happened.
      await sleep(ROOM_POLL_MS, undefined, { signal: AbortSignal.any(signals) }).catch(() => undefined);
    }
  }

  /** Calls back, synchronously and after the commit, whenever `head` has moved. @returns the way to stop it */
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
    this.#closing.abort();
    this.#file.close();
  }

  // -------------------------------------------------------------------------------------------------------------
  // Room

  /** Whether a batch may be appended, after forgetting received batches where that helps. */
  #makeRoom(groupIsOpen: boolean): boolean {
    return this.#unlessDiskIsFull(() => this.#tryToMakeRoom(groupIsOpen));
  }

  /** Housekeeping writes too; on a disk without a single free page it must wait, not end the process. */
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
      const excess = this.#totalBytes() - maxBytes;
      if (excess >= 0) this.#pruneBytes(excess + margin);
      if (this.#totalBytes() >= maxBytes) return false;
    }
    // Every append is judged by the same size, so that `room` and `append` never disagree; the floor gives way by one
    // large batch at most.
    let missing = minFreeBytes + APPEND_BYTES - this.#freeDiskBytes();
    if (missing <= 0) return true;
    // Free pages of the file are room as well. What is pruned here becomes such pages slice by slice.
    missing -= this.#file.freeBytes();
    if (missing <= 0) return true;
    if (!this.#deleteSlice()) {
      this.#pruneBytes(missing + margin);
      this.#deleteSlice();
    }
    return minFreeBytes + APPEND_BYTES - this.#freeDiskBytes() - this.#file.freeBytes() <= 0;
  }

  #totalBytes(): number {
    return this.#tail.endBytes - this.#state.base.endBytes;
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

  #slotMs(): number {
    return Math.max(1, Math.ceil(this.#options.keepAppliedMs / RECEIPT_SLOTS));
  }

  /** Forgets what was received so long ago that every moment of its slot is past. */
  #pruneExpired(): void {
    const slot = Math.floor((this.#options.now() - this.#options.keepAppliedMs) / this.#slotMs());
    const row = this.#file.get('SELECT max(received_seq) AS received_seq FROM receipts WHERE slot <= ?', slot);
    if (typeof row?.['received_seq'] !== 'number') return;
    const expired = Math.min(row['received_seq'], this.#state.receivedSeq);
    if (expired > this.#state.base.seq) this.#moveBase(expired);
    this.#file.run('DELETE FROM receipts WHERE slot <= ?', slot);
  }

  /** Forgets at least so many bytes of received batches, oldest first, or all of them. */
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
      `batch ${seq} must not be pruned: only ${this.#state.receivedSeq} is received`,
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

  #commit(next: StreamState, held: readonly HeldChange[] = []): void {
    this.#file.transaction(() => {
      storeState(this.#file, this.#state, next);
      changeHeld(this.#file, held);
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
    if (row === null) throw this.#damaged(seq);
    return row;
  }

  #throwIfGivenUp(): void {
    if (this.#givenUp) throw new TributaryError('SPOOL_CORRUPT', 'The spool was given up: this process must end.');
  }

  #damaged(seq: number): TributaryError {
    return new TributaryError('SPOOL_CORRUPT', `Batch ${seq} of the spool is missing or does not match its digest.`);
  }
}
