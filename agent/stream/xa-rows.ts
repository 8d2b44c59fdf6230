/**
 * Rows of XA transactions between XA PREPARE and XA COMMIT.
 *
 * The binlog has a prepared transaction's rows at its PREPARE, in a group of their own, and says at a later place, after
 * any number of other groups and perhaps a day, whether they count. Until then they lie in the spool, apart from the
 * batches; at XA COMMIT they are taken as if they had been logged there, at XA ROLLBACK they are dropped. The locks of
 * a prepared transaction keep everybody else from its rows and from its tables' definitions, so nothing is overtaken.
 *
 * Invariants: rows are durable before the position passes their PREPARE; they are dropped in the same spool
 * transaction as the position that passes their COMMIT or ROLLBACK.
 *
 * An XA COMMIT of a transaction whose PREPARE came before this epoch finds nothing here: the caller has to look at the
 * tables.
 */
import { decodeBatch } from '../../shared/batch/decoder.ts';
import { encodeBatch } from '../../shared/batch/encoder.ts';
import type { BatchBody, SourceMark, TableDescription } from '../../shared/batch/batch.ts';
import { assert } from '../../shared/errors.ts';
import type { HeldChange, Spool } from '../spool/spool.ts';
import { Batcher } from './batcher.ts';
import { bodyOf } from './change-buffer.ts';
import type { ChangeBuffer } from './change-buffer.ts';

export interface XaRowsOptions {
  readonly spool: Pick<Spool, 'hold' | 'held' | 'heldParts'>;
  readonly targetBytes: () => number;
  readonly targetRows: number;
  readonly source: () => SourceMark;
}

export class XaRows {
  readonly #o: XaRowsOptions;
  /** XID → the key under which the spool holds its rows. */
  readonly #keys: Map<string, string>;
  #open: { readonly xid: string; readonly key: string; readonly batcher: Batcher } | null = null;
  #changes: HeldChange[] = [];

  constructor(options: XaRowsOptions) {
    this.#o = options;
    this.#keys = new Map(options.spool.held().map(({ xid, key }) => [xid, key]));
  }

  /** The open group is part of an XA transaction: its rows come here. */
  get taking(): boolean {
    return this.#open !== null;
  }

  /** What the spool has to do in one transaction with the next position. Empties the list. */
  takeChanges(): readonly HeldChange[] {
    const changes = this.#changes;
    this.#changes = [];
    return changes;
  }

  /** @param key names the group that is open */
  start(xid: string, key: string): void {
    assert(this.#open === null, 'an XA transaction begins inside another');
    let part = 0;
    const batcher = new Batcher({
      targetBytes: this.#o.targetBytes,
      targetRows: this.#o.targetRows,
      emit: draft => {
        const body = encodeBatch(bodyOf({ ...draft, part: null }, this.#o.source()));
        this.#o.spool.hold(key, (part += 1), body);
      },
    });
    this.#open = { xid, key, batcher };
  }

  table(description: TableDescription): ChangeBuffer {
    assert(this.#open !== null, 'rows of no XA transaction');
    return this.#open.batcher.table(description);
  }

  touched(buffer: ChangeBuffer): void {
    this.#open?.batcher.touched(buffer);
  }

  /** XA PREPARE: the open group's rows are held. */
  prepared(): void {
    const { xid, key } = this.#close();
    this.#keys.set(xid, key);
    this.#changes.push({ do: 'keep', key, xid });
  }

  /** XA COMMIT … ONE PHASE: the open group's rows count. Hands them over. */
  committedAtOnce(): Generator<BatchBody> {
    return this.#rows(this.#close().key);
  }

  /** XA COMMIT: hands the rows over, in order; null: they are not known here. */
  committed(xid: string): Generator<BatchBody> | null {
    const key = this.#keys.get(xid);
    this.#keys.delete(xid);
    return key === undefined ? null : this.#rows(key);
  }

  /** XA ROLLBACK: the rows never were. */
  rolledBack(xid: string): void {
    const key = this.#keys.get(xid);
    this.#keys.delete(xid);
    if (key !== undefined) this.#changes.push({ do: 'drop', key });
  }

  *#rows(key: string): Generator<BatchBody> {
    for (const body of this.#o.spool.heldParts(key)) yield decodeBatch(body);
    this.#changes.push({ do: 'drop', key });
  }

  #close(): { readonly xid: string; readonly key: string } {
    const open = this.#open;
    assert(open !== null, 'no XA transaction is open');
    this.#open = null;
    open.batcher.flush();
    return open;
  }
}
