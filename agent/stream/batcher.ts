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
import { BATCH_VERSION } from '../../shared/batch/batch.ts';
import type { Change, ColumnDescription, PartMark, SourceMark, TableDescription, Value } from '../../shared/batch/batch.ts';
import type { DraftBody, WrittenChange } from '../../shared/batch/encoder.ts';
import { assert } from '../../shared/errors.ts';
import { wholeValue } from '../../shared/batch/long-value.ts';
import { tableKey, tableText } from '../../shared/table-name.ts';
import { CopyBuffer } from './keyless-buffer.ts';
import { JsonColumns } from '../values/json-columns.ts';
import { KeyPlaces } from './key-index.ts';
import type { KeyId } from './key-index.ts';

export type { KeyId } from './key-index.ts';

/** A batch's content before it has a place in the stream. */
export interface BatchDraft {
  readonly tables: readonly TableDescription[];
  /** Written ones are valid only while the draft is being emitted. */
  readonly changes: readonly (Change | WrittenChange)[];
  readonly transactions: number;
  readonly part: PartMark | null;
  /** Changes (rows) in it. */
  readonly rows: number;
  /** Size of its rows' JSON in bytes, those that were replaced included; what `targetBytes` bounds. */
  readonly bytes: number;
}

/** The draft as the body of a batch that reaches this place in the source. */
export function bodyOf(draft: BatchDraft, source: SourceMark): DraftBody {
  const { transactions, part, tables, changes } = draft;
  return { v: BATCH_VERSION, source, transactions, part, tables, changes };
}

/** Identity of row `r`, from its key columns in key order. */
export function keyIdOf(keys: readonly (readonly Value[])[], r: number): KeyId {
  if (keys.length === 1) {
    const value = keys[0]![r];
    // A primary key holds no NULL.
    assert(value !== undefined && value !== null, 'a key column is shorter than its rows');
    return wholeValue(value);
  }
  // Length-prefixed, so that ('a', 'bc') and ('ab', 'c') differ whatever the values hold.
  let id = '';
  for (const column of keys) {
    const value = wholeValue(column[r]);
    id += typeof value === 'string' ? `s${value.length}:${value}` : `n${String(value)};`;
  }
  return id;
}

/** Indexes of the key columns, in key order. */
export function keyColumns(columns: readonly ColumnDescription[]): number[] {
  return columns
    .map((column, index) => ({ index, key: column.key ?? 0 }))
    .filter(({ key }) => key > 0)
    .sort((a, b) => a.key - b.key)
    .map(({ index }) => index);
}

/**
 * What a snapshot needs to know: the keys of a table that the stream has emitted since a moment. Of a table without a key
 * `key` is the row's identity, and `copies` says how many more of the row there are; else it is 0.
 */
export type KeyRecorder = (key: KeyId, copies: number) => void;

/** One table's changes in the open batch. Rows come as all columns: `values[c][r]`. */
export interface ChangeBuffer {
  readonly description: TableDescription;
  recorder: KeyRecorder | null;
  /** Another definition of the table has taken its place. */
  retired: boolean;
  /** Of JSON, replaced entries included. */
  readonly bytes: number;
  /** Changes that the batch would carry. */
  readonly rows: number;
  insert(rows: number, values: readonly (readonly Value[])[]): void;
  update(rows: number, before: readonly (readonly Value[])[], after: readonly (readonly Value[])[]): void;
  delete(rows: number, before: readonly (readonly Value[])[]): void;
  /** A change that another buffer of the table has given. */
  take(change: Change): void;
  /** The batch's changes of this table, in the order of their doing. To be called once, `clear` must follow. */
  changes(table: number): (Change | WrittenChange)[];
  /** Empty again, for the next batch; the recorder stays. */
  clear(): void;
}

/** The changes of a table with a key. */
export class TableBuffer implements ChangeBuffer {
  readonly description: TableDescription;
  readonly keyIndexes: readonly number[];
  recorder: KeyRecorder | null = null;
  retired = false;
  /** Rows that exist, in table order; who writes to it himself calls `upsertWritten` or `updateWritten` afterwards. */
  readonly upserts: JsonColumns;
  /** Keys, in key order, of rows that do not exist. */
  readonly #deletes: JsonColumns;
  /** Place of a key's entry: upsert row i as i, delete entry i as −1 − i. */
  readonly #places = new KeyPlaces();
  #placed = 0;
  /** Entries that a later change has replaced. */
  readonly #deadUpserts = new Set<number>();
  readonly #deadDeletes = new Set<number>();

  constructor(description: TableDescription) {
    this.description = description;
    this.keyIndexes = keyColumns(description.columns);
    assert(this.keyIndexes.length > 0, `table ${tableText(description)} has no key`);
    this.upserts = new JsonColumns(description.columns.length);
    this.#deletes = new JsonColumns(this.keyIndexes.length);
  }

  get rows(): number {
    return this.#places.size;
  }

  get bytes(): number {
    return this.upserts.bytes + this.#deletes.bytes;
  }

  insert(rows: number, values: readonly (readonly Value[])[]): void {
    this.upsert(rows, values);
  }

  delete(rows: number, before: readonly (readonly Value[])[]): void {
    this.deleteKeys(rows, this.#keysOf(before));
  }

  take(change: Change): void {
    if (change.op === 'upsert') this.upsert(change.rows, change.values);
    if (change.op === 'delete') this.deleteKeys(change.rows, change.keys);
  }

  /** The row exists with these values from now on. @param values values[c][r] */
  upsert(rows: number, values: readonly (readonly Value[])[]): void {
    this.upserts.append(rows, values);
    this.upsertWritten(rows, values);
  }

  /** The same for rows that were written to `upserts`. @param values of the key's columns at least */
  upsertWritten(rows: number, values: readonly (readonly Value[])[]): void {
    const keys = this.#keysOf(values);
    for (let r = 0; r < rows; r++) this.#place(keyIdOf(keys, r), this.#placed++);
    assert(this.#placed === this.upserts.rows, 'rows without a key, or keys without a row');
  }

  /** The row does not exist from now on. @param keys keys[k][r] in key order */
  deleteKeys(rows: number, keys: readonly (readonly Value[])[]): void {
    const first = this.#deletes.rows;
    this.#deletes.append(rows, keys);
    for (let r = 0; r < rows; r++) this.#place(keyIdOf(keys, r), -1 - (first + r));
  }

  /** An update: rows whose key bytes changed are a delete and an upsert. */
  update(rows: number, before: readonly (readonly Value[])[], after: readonly (readonly Value[])[]): void {
    this.upserts.append(rows, after);
    this.updateWritten(rows, before, after);
  }

  /** The same for rows whose after images were written to `upserts`. @param after of the key's columns at least */
  updateWritten(rows: number, before: readonly (readonly Value[])[], after: readonly (readonly Value[])[]): void {
    const oldKeys = this.#keysOf(before);
    const newKeys = this.#keysOf(after);
    // Row by row, in order: a chain of key changes (1→2 after 2→3) depends on it.
    for (let r = 0; r < rows; r++) {
      if (!oldKeys.every((column, k) => column[r] === newKeys[k]![r])) {
        this.deleteKeys(
          1,
          oldKeys.map(column => [column[r]!]),
        );
      }
      this.#place(keyIdOf(newKeys, r), this.#placed++);
    }
    assert(this.#placed === this.upserts.rows, 'rows without a key, or keys without a row');
  }

  #keysOf(values: readonly (readonly Value[])[]): readonly (readonly Value[])[] {
    return this.keyIndexes.map(index => values[index]!);
  }

  #place(key: KeyId, place: number): void {
    const earlier = this.#places.set(key, place);
    if (earlier !== undefined) {
      if (earlier >= 0) this.#deadUpserts.add(earlier);
      else this.#deadDeletes.add(-1 - earlier);
    }
    this.recorder?.(key, 0);
  }

  changes(table: number): WrittenChange[] {
    const changes: WrittenChange[] = [];
    const deletes = this.#deletes.without(this.#deadDeletes);
    if (deletes.rows > 0) changes.push({ op: 'delete', table, ...deletes });
    const upserts = this.upserts.without(this.#deadUpserts);
    if (upserts.rows > 0) changes.push({ op: 'upsert', table, ...upserts });
    return changes;
  }

  clear(): void {
    this.upserts.clear();
    this.#deletes.clear();
    this.#places.clear();
    this.#placed = 0;
    this.#deadUpserts.clear();
    this.#deadDeletes.clear();
  }
}

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
    const buffer = hasKey ? new TableBuffer(description) : new CopyBuffer(description);
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
