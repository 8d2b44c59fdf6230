/**
 * Rows of XA transactions between XA PREPARE and XA COMMIT.
 *
 * The binlog has a prepared transaction's rows at its PREPARE, in a group of their own. It says later, after any number of
 * other groups and perhaps a day, whether they were committed. Until then the spool holds them apart from the batches. At
 * XA COMMIT they are taken as if they had been logged there; at XA ROLLBACK they are dropped. The locks of a prepared
 * transaction keep others away from its rows and from its tables' definitions, so nothing overtakes them.
 *
 * Invariants: rows are durable before the position passes their PREPARE; they are dropped in the same spool transaction
 * as the position that passes their COMMIT or ROLLBACK.
 *
 * Tables whose rows were passed by are held as tables without columns: at XA COMMIT the caller must have them copied, unless
 * they are set aside. This class does not know a transaction whose PREPARE came before this epoch, or of which nobody knows
 * whose rows were passed by: at its XA COMMIT the caller must have all tables copied.
 */
import { decodeBatch } from '../../shared/batch/decoder.ts';
import { encodeBatch } from '../../shared/batch/encoder.ts';
import type { BatchBody, TableDescription } from '../../shared/batch/batch.ts';
import { assert } from '../../shared/errors.ts';
import { tableKey } from '../../shared/table-name.ts';
import type { HeldChange, Spool } from '../spool/spool.ts';
import type { BatchSize } from './batch-size.ts';
import { Batcher } from './batcher.ts';
import { bodyOf } from './change-buffer.ts';
import type { BatchDraft, ChangeBuffer } from './change-buffer.ts';
import type { CapturedPosition } from './position.ts';

export interface XaRowsOptions {
  readonly spool: Pick<Spool, 'hold' | 'held' | 'heldParts'>;
  readonly size: BatchSize;
  readonly position: CapturedPosition;
  readonly now: () => number;
}

interface OpenXa {
  readonly xid: string;
  readonly key: string;
  readonly batcher: Batcher;
  readonly append: (draft: BatchDraft) => void;
}

export class XaRows {
  readonly #o: XaRowsOptions;
  /** The key under which the spool holds the rows of each XID. */
  readonly #keys: Map<string, string>;
  #open: OpenXa | null = null;
  /** Tables of which rows of the open transaction were passed by; null: nobody knows which. */
  #passed: Map<string, TableDescription> | null = new Map();
  #changes: HeldChange[] = [];

  constructor(options: XaRowsOptions) {
    this.#o = options;
    this.#keys = new Map(options.spool.held().map(({ xid, key }) => [xid, key]));
  }

  /** Whether the open group belongs to an XA transaction, so that its rows come here. */
  get isOpen(): boolean {
    return this.#open !== null;
  }

  /** The changes that the spool must make in one transaction with the next position. Empties the list. */
  takeChanges(): readonly HeldChange[] {
    const changes = this.#changes;
    this.#changes = [];
    return changes;
  }

  /** @param key identifies the open group */
  start(xid: string, key: string): void {
    assert(this.#open === null, 'An XA transaction begins inside another one.');
    const { spool, size, position, now } = this.#o;
    let part = 0;
    const append = (draft: BatchDraft): void => {
      spool.hold(key, (part += 1), encodeBatch(bodyOf({ ...draft, part: null }, position.current.source)));
    };
    this.#open = { xid, key, append, batcher: new Batcher({ target: size, output: { append }, now }) };
  }

  table(description: TableDescription): ChangeBuffer {
    assert(this.#open !== null, 'Rows came for an XA transaction that is not open.');
    return this.#open.batcher.table(description);
  }

  touched(buffer: ChangeBuffer): void {
    this.#open?.batcher.touched(buffer);
  }

  /** Rows of the open group were passed by. @param table their table, without columns; null: not known */
  passedBy(table: TableDescription | null): void {
    if (!this.isOpen) return;
    if (table === null) this.#passed = null;
    else this.#passed?.set(tableKey(table), table);
  }

  /** XA PREPARE: the spool keeps the open group's rows. */
  prepared(): void {
    const passed = this.#passed;
    const { xid, key, append } = this.#close();
    if (passed === null) {
      this.#changes.push({ do: 'drop', key });
      return;
    }
    if (passed.size > 0) append(naming([...passed.values()]));
    this.#keys.set(xid, key);
    this.#changes.push({ do: 'keep', key, xid });
  }

  /** XA COMMIT … ONE PHASE: the open group's rows are committed. @returns them, in order */
  committedAtOnce(): Generator<BatchBody> {
    return this.#rows(this.#close().key);
  }

  /** XA COMMIT. @returns the transaction's rows, in order; null: they are unknown */
  committed(xid: string): Generator<BatchBody> | null {
    const key = this.#keys.get(xid);
    this.#keys.delete(xid);
    return key === undefined ? null : this.#rows(key);
  }

  /** XA ROLLBACK: drops the rows. */
  rolledBack(xid: string): void {
    const key = this.#keys.get(xid);
    this.#keys.delete(xid);
    if (key !== undefined) this.#changes.push({ do: 'drop', key });
  }

  *#rows(key: string): Generator<BatchBody> {
    for (const body of this.#o.spool.heldParts(key)) yield decodeBatch(body);
    this.#changes.push({ do: 'drop', key });
  }

  #close(): OpenXa {
    const open = this.#open;
    assert(open !== null, 'No XA transaction is open.');
    this.#open = null;
    this.#passed = new Map();
    open.batcher.flush();
    return open;
  }
}

/** A part that only names tables. */
function naming(tables: readonly TableDescription[]): BatchDraft {
  return { tables, changes: [], transactions: 0, part: null, rows: 0, bytes: 0 };
}
