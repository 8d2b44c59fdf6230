/**
 * Collects row changes into the open batch: columns, one entry a key, parts for what is larger than a batch.
 *
 * Invariants:
 * - Within a batch a key appears once: a later change to a row replaces the earlier one.
 * - A batch ends at the end of a source transaction, or is a part; parts are applied together by the head office, so
 *   it never shows a state that the branch was not in.
 * - TRUNCATE and a change of a table's definition never share a batch with what came before them.
 *
 * Pure but for its output: closed drafts go to `emit`, in order.
 */
import type { PartMark, TableDescription } from '../../shared/batch/batch.ts';
import { assert } from '../../shared/errors.ts';
import { tableKey } from '../../shared/table-name.ts';
import type { BatchDraft, ChangeBuffer, KeyRecorder } from './change-buffer.ts';
import { KeyedBuffer } from './keyed-buffer.ts';
import { KeylessBuffer } from './keyless-buffer.ts';

export interface BatcherOptions {
  /** Estimate of a batch's JSON at which it closes when a transaction ends; in mid-transaction, at twice as much. */
  readonly targetBytes: () => number;
  /** The same for the number of changes. */
  readonly targetRows: number;
  /** Takes each closed draft. */
  readonly emit: (draft: BatchDraft) => void;
}

export class Batcher {
  readonly #options: BatcherOptions;
  readonly #tables = new Map<string, ChangeBuffer>();
  readonly #recorders = new Map<string, KeyRecorder>();
  /** Tables touched in the open batch, in order of first touch. */
  readonly #touched = new Set<ChangeBuffer>();
  #transactions = 0;
  #inGroup = false;
  /** Parts emitted of the run that is open; 0: none is. */
  #parts = 0;

  constructor(options: BatcherOptions) {
    this.#options = options;
  }

  /** The buffer of a table; a changed definition closes the open batch first. */
  table(description: TableDescription): ChangeBuffer {
    const name = tableKey(description);
    const present = this.#tables.get(name);
    if (present) {
      if (sameDescription(present.description, description)) return present;
      this.flush();
      present.retired = true;
    }
    const hasKey = description.columns.some(column => column.key !== undefined);
    const buffer = hasKey ? new KeyedBuffer(description) : new KeylessBuffer(description);
    buffer.recorder = this.#recorders.get(name) ?? null;
    this.#tables.set(name, buffer);
    return buffer;
  }

  /** From now on tells the recorder every key of the table that is emitted; null ends that. */
  record(schema: string, name: string, recorder: KeyRecorder | null): void {
    const key = tableKey({ schema, name });
    if (recorder) this.#recorders.set(key, recorder);
    else this.#recorders.delete(key);
    const buffer = this.#tables.get(key);
    if (buffer) buffer.recorder = recorder;
  }

  /** To be called after each change to a buffer: notes it and closes a part when the batch is far too large. */
  touched(buffer: ChangeBuffer): void {
    this.#touched.add(buffer);
    if (this.#isFull(2)) this.#close();
  }

  begin(): void {
    assert(!this.#inGroup, 'a group begins inside a group');
    this.#inGroup = true;
  }

  /** A source transaction ends. @param counted whether it changed captured rows */
  end(): void {
    assert(this.#inGroup, 'a group ends outside a group');
    this.#inGroup = false;
    if (this.#touched.size > 0 || this.#parts > 0) this.#transactions += 1;
    // The last part waits for nothing: without it the earlier ones cannot be sent.
    if (this.#parts > 0 || this.#isFull(1)) this.#close();
  }

  /** Everything of this table that was there is gone. Stands alone, after what came before. */
  truncate(schema: string, name: string): void {
    this.flush();
    this.#emit([{ schema, name, columns: [] }], [{ op: 'truncate', table: 0 }], 0, 0);
  }

  #isFull(times: number): boolean {
    let bytes = 0;
    let rows = 0;
    for (const buffer of this.#touched) {
      bytes += buffer.bytes;
      rows += buffer.rows;
    }
    return rows >= times * this.#options.targetRows || bytes >= times * this.#options.targetBytes();
  }

  /** Nothing waits to be emitted. */
  get empty(): boolean {
    return this.#touched.size === 0 && this.#parts === 0;
  }

  /** Closes the open batch, if there is anything in it. */
  flush(): void {
    if (this.#touched.size > 0) this.#close();
  }

  #close(): void {
    const touched = [...this.#touched];
    const changes = touched.flatMap((buffer, table) => buffer.changes(table));
    const rows = touched.reduce((sum, buffer) => sum + buffer.rows, 0);
    const bytes = touched.reduce((sum, buffer) => sum + buffer.bytes, 0);
    this.#touched.clear();
    const tables = touched.map(buffer => buffer.description);
    this.#emit(tables, changes, rows, bytes);
    // Only now: the changes are views of what the buffers hold.
    for (const buffer of touched) buffer.clear();
  }

  #emit(tables: readonly TableDescription[], changes: BatchDraft['changes'], rows: number, bytes: number): void {
    const part: PartMark | null =
      this.#inGroup || this.#parts > 0 ? { number: this.#parts + 1, last: !this.#inGroup } : null;
    const transactions = this.#transactions;
    this.#transactions = 0;
    this.#parts = part === null || part.last ? 0 : part.number;
    this.#options.emit({ tables, changes, transactions, part, rows, bytes });
  }
}

function sameDescription(a: TableDescription, b: TableDescription): boolean {
  return (
    a === b ||
    (a.columns.length === b.columns.length &&
      a.columns.every((column, index) => {
        const other = b.columns[index]!;
        return column.name === other.name && column.type === other.type && column.key === other.key;
      }))
  );
}
