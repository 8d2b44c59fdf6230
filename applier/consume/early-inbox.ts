/**
 * A branch's early batches: which of them wait in `tributary_inbox`, and when their turn comes.
 *
 * Invariants: an entry here may be out of date, so it is checked against the stream when its turn comes, and deleted if
 * it does not follow. Early bodies are bounded in bytes: a batch that finds no room is dropped, and the branch is asked
 * for it again.
 */
import type { HeadOfficeStream } from '../../shared/protocol.ts';
import { judgeBatch } from '../../shared/protocol.ts';
import { deleteInboxEntry, MAX_EARLY_BYTES, putInbox, readInbox } from '../store/inbox.ts';
import type { EarlyEntries } from '../store/inbox.ts';
import { lockBranch, isUnchanged } from '../store/branch-row.ts';
import type { BranchRow } from '../store/branch-row.ts';
import type { TargetPool } from '../apply/connection-pool.ts';
import { PREFETCH } from '../transaction/quotas.ts';
import { bytesOf } from '../transaction/unit.ts';
import type { Arrival } from '../transaction/unit.ts';
import type { RejectionLog } from './rejection-log.ts';

/** A larger batch is not kept: the branch is asked for it again. */
const MAX_EARLY_BODY_BYTES = 16 * 1024 * 1024;

export class EarlyInbox {
  readonly #branch: string;
  readonly #pool: TargetPool;
  #seqs = new Set<number>();
  #bytes = 0;

  constructor(branch: string, pool: TargetPool) {
    this.#branch = branch;
    this.#pool = pool;
  }

  /** Takes over what was read from the table. */
  load(entries: EarlyEntries): void {
    this.#seqs = new Set(entries.seqs);
    this.#bytes = entries.bytes;
  }

  /** Whether an entry waits at or below this seq. */
  hasThrough(seq: number): boolean {
    for (const early of this.#seqs) if (early <= seq) return true;
    return false;
  }

  /** Forgets the entries that are received by now. */
  forgetThrough(received: number): void {
    for (const seq of [...this.#seqs]) if (seq <= received) this.#seqs.delete(seq);
    if (this.#seqs.size === 0) this.#bytes = 0;
  }

  /**
   * Commits early batches to the inbox, under the lock on the branch's row.
   * @returns the row, and what was kept; null: the row has changed and nothing was written
   */
  async keep(
    row: BranchRow,
    early: readonly Arrival[],
  ): Promise<{ readonly row: BranchRow | null; readonly kept: ReadonlySet<Arrival> | null }> {
    const kept = new Set<Arrival>();
    let bytes = this.#bytes;
    for (const arrival of early) {
      const length = bytesOf(arrival);
      if (this.#seqs.has(arrival.header.seq) || length > MAX_EARLY_BODY_BYTES) continue;
      if (bytes + length > MAX_EARLY_BYTES) continue;
      bytes += length;
      kept.add(arrival);
    }
    const locked = await this.#pool.transact(async connection => {
      const now = await lockBranch(connection, this.#branch);
      if (now !== null && isUnchanged(now, row)) {
        for (const { header, body } of kept) await putInbox(connection, 'early', header, body);
      }
      return now;
    });
    if (locked === null || !isUnchanged(locked, row)) return { row: locked, kept: null };
    this.#bytes = bytes;
    for (const arrival of kept) this.#seqs.add(arrival.header.seq);
    return { row: locked, kept };
  }

  /** Lengthens a chain of batches by those from the inbox whose turn has come. */
  async extend(
    stream: HeadOfficeStream,
    chain: readonly Arrival[],
    rejections: RejectionLog,
  ): Promise<readonly Arrival[]> {
    const extended = [...chain];
    let ahead = stream;
    for (const { header } of chain) ahead = { ...ahead, received: header };
    while (extended.length < PREFETCH) {
      const next = await this.#next(ahead, rejections);
      if (next === null) break;
      extended.push(next);
      ahead = { ...ahead, received: next.header };
    }
    return extended;
  }

  /** The entry that follows next in the stream; null: there is none, or it was deleted because it does not follow. */
  async #next(stream: HeadOfficeStream, rejections: RejectionLog): Promise<Arrival | null> {
    const seq = stream.received.seq + 1;
    if (!this.#seqs.has(seq)) return null;
    const entry = await this.#pool.use(connection => readInbox(connection, this.#branch, seq));
    const arrival =
      entry === null ? null : { header: entry.header, body: entry.body, acknowledge: () => undefined, decoded: null };
    if (arrival !== null && judgeBatch(stream, arrival.header) === 'next') return arrival;
    await this.#pool.use(connection => deleteInboxEntry(connection, this.#branch, seq));
    this.#seqs.delete(seq);
    if (arrival !== null) rejections.dropped(arrival, 'forked');
    return null;
  }
}
