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
import { BATCH_VERSION } from '../../shared/batch.ts';
import type {
  BatchBody,
  Change,
  ColumnDescription,
  PartMark,
  SourceMark,
  TableDescription,
  Value,
} from '../../shared/batch.ts';
import { assert } from '../../shared/errors.ts';

/** A batch's content before it has a place in the stream. */
export interface BatchDraft {
  readonly tables: readonly TableDescription[];
  readonly changes: readonly Change[];
  readonly transactions: number;
  readonly part: PartMark | null;
  /** Changes (rows) in it. */
  readonly rows: number;
  /** Estimate of the JSON's size in bytes; what `maxBytes` bounds. */
  readonly bytes: number;
}

/** The draft as the body of a batch that reaches this place in the source. */
export function bodyOf(draft: BatchDraft, source: SourceMark): BatchBody {
  const { transactions, part, tables, changes } = draft;
  return { v: BATCH_VERSION, source, transactions, part, tables, changes };
}

/** A row's identity as a map key: equal exactly where all key columns are equal byte for byte. */
export type KeyId = string | number;

/** Identity of row `r`, from its key columns in key order. */
export function keyIdOf(keys: readonly (readonly Value[])[], r: number): KeyId {
  if (keys.length === 1) {
    const value = keys[0]![r];
    // A primary key holds no NULL.
    assert(value !== undefined && value !== null, 'a key column is shorter than its rows');
    return value;
  }
  // Length-prefixed, so that ('a', 'bc') and ('ab', 'c') differ whatever the values hold.
  let id = '';
  for (const column of keys) {
    const value = column[r];
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

/** What a snapshot needs to know: the keys of a table that the stream has emitted since a moment. */
export type KeyRecorder = (key: KeyId) => void;

/** One table's changes in the open batch. */
export class TableBuffer {
  readonly description: TableDescription;
  readonly keyIndexes: readonly number[];
  recorder: KeyRecorder | null = null;
  /** Another definition of the table has taken its place. */
  retired = false;
  bytes = 0;
  #columns: Value[][];
  #deleted: Value[][];
  /** Place of a key's entry: upsert row i as i, delete entry i as −1 − i. */
  #places = new Map<KeyId, number>();
  #upserts = 0;
  #deletes = 0;
  /** Entries that a later change has replaced. */
  #deadUpserts = new Set<number>();
  #deadDeletes = new Set<number>();

  constructor(description: TableDescription) {
    this.description = description;
    this.keyIndexes = keyColumns(description.columns);
    assert(this.keyIndexes.length > 0, `table ${description.schema}.${description.name} has no key`);
    this.#columns = description.columns.map(() => []);
    this.#deleted = this.keyIndexes.map(() => []);
  }

  /** Changes that the batch would carry. */
  get rows(): number {
    return this.#places.size;
  }

  /** The row exists with these values from now on. @param values values[c][r] */
  upsert(rows: number, values: readonly (readonly Value[])[]): void {
    const keys = this.keyIndexes.map(index => values[index]!);
    for (let r = 0; r < rows; r++) this.#place(keyIdOf(keys, r), this.#upserts++);
    let bytes = 0;
    for (let c = 0; c < this.#columns.length; c++) {
      const into = this.#columns[c]!;
      const from = values[c]!;
      for (let r = 0; r < rows; r++) {
        const value = from[r]!;
        bytes += typeof value === 'string' ? value.length + 3 : 5;
        into.push(value);
      }
    }
    this.bytes += bytes;
  }

  /** The row does not exist from now on. @param keys keys[k][r] in key order */
  delete(rows: number, keys: readonly (readonly Value[])[]): void {
    for (let r = 0; r < rows; r++) {
      this.#place(keyIdOf(keys, r), -1 - this.#deletes++);
      for (let k = 0; k < this.#deleted.length; k++) this.#deleted[k]!.push(keys[k]![r]!);
    }
    this.bytes += rows * 12 * keys.length;
  }

  /** An update: rows whose key bytes changed are a delete and an upsert. */
  update(rows: number, before: readonly (readonly Value[])[], after: readonly (readonly Value[])[]): void {
    const oldKeys = this.keyIndexes.map(index => before[index]!);
    const newKeys = this.keyIndexes.map(index => after[index]!);
    for (let r = 0; r < rows; r++) {
      if (oldKeys.every((column, k) => column[r] === newKeys[k]![r])) continue;
      // Row by row, in order: a chain of key changes (1→2 after 2→3) depends on it.
      this.#updateInOrder(rows, oldKeys, newKeys, after);
      return;
    }
    this.upsert(rows, after);
  }

  #updateInOrder(
    rows: number,
    oldKeys: readonly (readonly Value[])[],
    newKeys: readonly (readonly Value[])[],
    after: readonly (readonly Value[])[],
  ): void {
    for (let r = 0; r < rows; r++) {
      if (!oldKeys.every((column, k) => column[r] === newKeys[k]![r])) {
        this.delete(
          1,
          oldKeys.map(column => [column[r]!]),
        );
      }
      this.upsert(
        1,
        after.map(column => [column[r]!]),
      );
    }
  }

  #place(key: KeyId, place: number): void {
    const earlier = this.#places.get(key);
    if (earlier !== undefined) {
      if (earlier >= 0) this.#deadUpserts.add(earlier);
      else this.#deadDeletes.add(-1 - earlier);
    }
    this.#places.set(key, place);
    this.recorder?.(key);
  }

  /** The batch's changes of this table: deletes, then upserts. */
  changes(table: number): Change[] {
    const changes: Change[] = [];
    const deletes = this.#deletes - this.#deadDeletes.size;
    if (deletes > 0) {
      changes.push({ op: 'delete', table, rows: deletes, keys: living(this.#deleted, this.#deadDeletes) });
    }
    const upserts = this.#upserts - this.#deadUpserts.size;
    if (upserts > 0) {
      changes.push({ op: 'upsert', table, rows: upserts, values: living(this.#columns, this.#deadUpserts) });
    }
    return changes;
  }

  /** Empty again, for the next batch; the recorder stays. */
  clear(): void {
    this.#columns = this.description.columns.map(() => []);
    this.#deleted = this.keyIndexes.map(() => []);
    this.#places.clear();
    this.#deadUpserts.clear();
    this.#deadDeletes.clear();
    this.#upserts = 0;
    this.#deletes = 0;
    this.bytes = 0;
  }
}

/** The columns without the dead rows. */
function living(columns: Value[][], dead: ReadonlySet<number>): Value[][] {
  if (dead.size === 0) return columns;
  // The rows are chosen once, not once a column: with a hot table this is a good part of capture's time.
  const kept: number[] = [];
  for (let row = 0; row < (columns[0]?.length ?? 0); row++) if (!dead.has(row)) kept.push(row);
  return columns.map(column => kept.map(row => column[row]!));
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
  readonly #tables = new Map<string, TableBuffer>();
  readonly #recorders = new Map<string, KeyRecorder>();
  /** Tables touched in the open batch, in order of first touch. */
  readonly #touched = new Set<TableBuffer>();
  #transactions = 0;
  #inGroup = false;
  /** Parts emitted of the run that is open; 0: none is. */
  #parts = 0;

  constructor(options: BatcherOptions) {
    this.#options = options;
  }

  /** The buffer of a table; a changed definition closes the open batch first. */
  table(description: TableDescription): TableBuffer {
    const name = tableKey(description.schema, description.name);
    const present = this.#tables.get(name);
    if (present) {
      if (sameDescription(present.description, description)) return present;
      this.flush();
      present.retired = true;
    }
    const buffer = new TableBuffer(description);
    buffer.recorder = this.#recorders.get(name) ?? null;
    this.#tables.set(name, buffer);
    return buffer;
  }

  /** From now on tells the recorder every key of the table that is emitted; null ends that. */
  record(schema: string, name: string, recorder: KeyRecorder | null): void {
    const key = tableKey(schema, name);
    if (recorder) this.#recorders.set(key, recorder);
    else this.#recorders.delete(key);
    const buffer = this.#tables.get(key);
    if (buffer) buffer.recorder = recorder;
  }

  /** To be called after each change to a buffer: notes it and closes a part when the batch is far too large. */
  touched(buffer: TableBuffer): void {
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
    for (const buffer of touched) buffer.clear();
    this.#touched.clear();
    const tables = touched.map(buffer => buffer.description);
    this.#emit(tables, changes, rows, bytes);
  }

  #emit(tables: readonly TableDescription[], changes: readonly Change[], rows: number, bytes: number): void {
    const part: PartMark | null =
      this.#inGroup || this.#parts > 0 ? { number: this.#parts + 1, last: !this.#inGroup } : null;
    const transactions = this.#transactions;
    this.#transactions = 0;
    this.#parts = part === null || part.last ? 0 : part.number;
    this.#options.emit({ tables, changes, transactions, part, rows, bytes });
  }
}

export function tableKey(schema: string, name: string): string {
  return JSON.stringify([schema, name]);
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
