/** The open batch's changes of a table with a key: one entry for each key, with its latest change. */
import type { Change, TableDescription, Value } from '../../shared/batch/batch.ts';
import type { WrittenChange } from '../../shared/batch/encoder.ts';
import { assert } from '../../shared/errors.ts';
import { tableKey, tableText } from '../../shared/table-name.ts';
import { JsonColumns } from '../values/json-columns.ts';
import { keyColumns, keyIdOf } from './change-buffer.ts';
import type { BufferVersions, ChangeBuffer, KeyRecorder, TableWatch } from './change-buffer.ts';
import { RowVersions } from './row-versions.ts';
import type { OpenCommit } from './row-versions.ts';
import { KeyIndex } from './key-index.ts';
import type { KeyId } from './key-index.ts';
import { sampleKeys, seedOf } from './key-sample.ts';

export class KeyedBuffer implements ChangeBuffer {
  readonly description: TableDescription;
  readonly keyIndexes: readonly number[];
  recorder: KeyRecorder | null = null;
  watch: TableWatch | null = null;
  retired = false;
  /** Rows that exist, with columns in table order. Whoever writes to it must then call `upsertWritten` or `updateWritten`. */
  readonly upserts: JsonColumns;
  /** Keys of rows that do not exist, with columns in key order. */
  readonly #deletes: JsonColumns;
  /** The place of each key's entry: i for upsert row i, −1 − i for delete entry i. */
  readonly #places = new KeyIndex();
  #placed = 0;
  #seed: number | undefined;
  /** Null: the head office keeps no history of the table. */
  readonly #versions: RowVersions | null;
  /** Entries that a later change has replaced, and that are no versions. */
  readonly #deadUpserts = new Set<number>();
  readonly #deadDeletes = new Set<number>();

  /** @param commit the open commit, if the head office keeps the table's history */
  constructor(description: TableDescription, commit: OpenCommit | null = null) {
    this.#versions = commit === null ? null : new RowVersions(commit);
    this.description = description;
    this.keyIndexes = keyColumns(description.columns);
    assert(this.keyIndexes.length > 0, `Table ${tableText(description)} has no key.`);
    this.upserts = new JsonColumns(description.columns.length);
    this.#deletes = new JsonColumns(this.keyIndexes.length);
  }

  get rows(): number {
    return this.#places.size + (this.#versions?.rows ?? 0);
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

  /** Rows exist with these values from now on. @param values values[c][r] */
  upsert(rows: number, values: readonly (readonly Value[])[]): void {
    this.upserts.append(rows, values);
    this.upsertWritten(rows, values);
  }

  /** The same for rows that were written to `upserts`. @param values must have at least the key's columns */
  upsertWritten(rows: number, values: readonly (readonly Value[])[]): void {
    const keys = this.#keysOf(values);
    for (let r = 0; r < rows; r++) this.#place(keys, r, this.#placed++);
    assert(this.#placed === this.upserts.rows, 'There are rows without a key, or keys without a row.');
  }

  /** Rows do not exist any more. @param keys keys[k][r] in key order */
  deleteKeys(rows: number, keys: readonly (readonly Value[])[]): void {
    const first = this.#deletes.rows;
    this.#deletes.append(rows, keys);
    for (let r = 0; r < rows; r++) this.#place(keys, r, -1 - (first + r));
  }

  /** An update. A row whose key bytes changed becomes a delete and an upsert. */
  update(rows: number, before: readonly (readonly Value[])[], after: readonly (readonly Value[])[]): void {
    this.upserts.append(rows, after);
    this.updateWritten(rows, before, after);
  }

  /** The same for rows whose after images were written to `upserts`. @param after must have at least the key's columns */
  updateWritten(rows: number, before: readonly (readonly Value[])[], after: readonly (readonly Value[])[]): void {
    const oldKeys = this.#keysOf(before);
    const newKeys = this.#keysOf(after);
    // The order of rows matters for a chain of key changes (1→2 after 2→3).
    for (let r = 0; r < rows; r++) {
      if (!oldKeys.every((column, k) => column[r] === newKeys[k]![r])) {
        this.deleteKeys(
          1,
          oldKeys.map(column => [column[r]!]),
        );
      }
      this.#place(newKeys, r, this.#placed++);
    }
    assert(this.#placed === this.upserts.rows, 'There are rows without a key, or keys without a row.');
  }

  #keysOf(values: readonly (readonly Value[])[]): readonly (readonly Value[])[] {
    return this.keyIndexes.map(index => values[index]!);
  }

  #place(keys: readonly (readonly Value[])[], r: number, place: number): void {
    const key: KeyId = keyIdOf(keys, r);
    const earlier = this.#places.set(key, place);
    this.#versions?.note(place >= 0 ? 'upsert' : 'delete');
    if (earlier !== undefined) this.#replace(earlier);
    this.recorder?.(key, 0);
    this.watch?.row(keys, r);
  }

  #replace(place: number): void {
    const [op, entry, dead] =
      place >= 0
        ? (['upsert', place, this.#deadUpserts] as const)
        : (['delete', -1 - place, this.#deadDeletes] as const);
    if (this.#versions?.replace(op, entry) !== true) dead.add(entry);
  }

  get keepsVersions(): boolean {
    return this.#versions !== null;
  }

  versions(table: number): BufferVersions | null {
    const versions = this.#versions;
    if (versions === null) return null;
    const { replaced } = versions;
    const changes: WrittenChange[] = [];
    if (replaced.delete.size > 0) changes.push({ op: 'delete', table, ...this.#deletes.only(replaced.delete) });
    if (replaced.upsert.size > 0) changes.push({ op: 'upsert', table, ...this.upserts.only(replaced.upsert) });
    return {
      versions: versions.of(table, { upsert: this.#deadUpserts, delete: this.#deadDeletes }),
      replaced: changes,
    };
  }

  changes(table: number): WrittenChange[] {
    const changes: WrittenChange[] = [];
    const { upsert, delete: deleted } = this.#versions?.replaced ?? NONE;
    const deletes = this.#deletes.without(union(this.#deadDeletes, deleted));
    if (deletes.rows > 0) changes.push({ op: 'delete', table, ...deletes });
    const upserts = this.upserts.without(union(this.#deadUpserts, upsert));
    if (upserts.rows > 0) changes.push({ op: 'upsert', table, ...upserts });
    return changes;
  }

  sampleKeys(sample: number[]): void {
    sampleKeys((this.#seed ??= seedOf(tableKey(this.description))), this.#places.keys(), sample);
  }

  clear(): void {
    this.upserts.clear();
    this.#deletes.clear();
    this.#places.clear();
    this.#placed = 0;
    this.#deadUpserts.clear();
    this.#deadDeletes.clear();
    this.#versions?.clear();
  }
}

const NONE: RowVersions['replaced'] = { upsert: new Set(), delete: new Set() };

function union(a: ReadonlySet<number>, b: ReadonlySet<number>): ReadonlySet<number> {
  return b.size === 0 ? a : new Set([...a, ...b]);
}
