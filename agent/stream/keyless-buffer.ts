/**
 * The open batch's changes of a table without a key. Only all its values identify a row, and there may be any number of
 * copies of it. For each row the buffer keeps how far the number of copies fell and how much it rose again from there;
 * shared/batch/copies.ts says why a sum is not enough.
 */
import { hash } from 'node:crypto';
import type { Change, CopyOp, TableDescription, Value } from '../../shared/batch/batch.ts';
import { addCopies, noCopyChange, removeCopies } from '../../shared/batch/copies.ts';
import type { CopyChange } from '../../shared/batch/copies.ts';
import { LongValue, wholeValue } from '../../shared/batch/long-value.ts';
import type { KeyId } from './key-index.ts';
import type { ChangeBuffer, KeyRecorder, TableWatch } from './change-buffer.ts';

/** Longer identities are hashed: they are kept besides the rows, and by snapshots for as long as a table is read. */
const MAX_ID_LENGTH = 64;

/** The identity of row `r` of a table without a key. Two are equal if and only if all columns are equal. */
export function rowIdOf(columns: readonly (readonly Value[])[], r: number): KeyId {
  let id = '';
  for (const column of columns) {
    const value = wholeValue(column[r]);
    id += typeof value === 'string' ? `s${value.length}:${value}` : `n${String(value)};`;
  }
  return id.length > MAX_ID_LENGTH ? hash('sha256', id, 'base64') : id;
}

export class KeylessBuffer implements ChangeBuffer {
  readonly description: TableDescription;
  recorder: KeyRecorder | null = null;
  watch: TableWatch | null = null;
  retired = false;
  /** Without a key no change replaces another. */
  readonly keepsVersions = false;
  bytes = 0;
  rows = 0;
  #columns: Value[][];
  #changes: CopyChange[] = [];
  /** Size of each row's values in bytes. */
  #sizes: number[] = [];
  #places = new Map<KeyId, number>();

  constructor(description: TableDescription) {
    this.description = description;
    this.#columns = description.columns.map(() => []);
  }

  versions(): null {
    return null;
  }

  insert(rows: number, values: readonly (readonly Value[])[]): void {
    for (let r = 0; r < rows; r++) this.#change('add', rowIdOf(values, r), values, r, 1);
  }

  delete(rows: number, before: readonly (readonly Value[])[]): void {
    for (let r = 0; r < rows; r++) this.#change('remove', rowIdOf(before, r), before, r, 1);
  }

  update(rows: number, before: readonly (readonly Value[])[], after: readonly (readonly Value[])[]): void {
    for (let r = 0; r < rows; r++) {
      const [from, to] = [rowIdOf(before, r), rowIdOf(after, r)];
      if (from === to) continue;
      this.#change('remove', from, before, r, 1);
      this.#change('add', to, after, r, 1);
    }
  }

  take(change: Change): void {
    if (change.op !== 'add' && change.op !== 'remove') return;
    const { op, rows, values, copies } = change;
    for (let r = 0; r < rows; r++) this.#change(op, rowIdOf(values, r), values, r, copies[r]!);
  }

  #change(op: 'add' | 'remove', id: KeyId, values: readonly (readonly Value[])[], r: number, copies: number): void {
    let place = this.#places.get(id);
    if (place === undefined) {
      place = this.#changes.push(noCopyChange()) - 1;
      this.#places.set(id, place);
      let size = 0;
      for (let c = 0; c < this.#columns.length; c++) {
        const value = values[c]![r]!;
        if (typeof value === 'string') size += value.length + 3;
        else size += value instanceof LongValue ? value.bytes : 5;
        this.#columns[c]!.push(value);
      }
      this.#sizes.push(size);
    }
    const change = this.#changes[place]!;
    const before = change.fall + change.rise;
    if (op === 'add') addCopies(change, copies);
    else removeCopies(change, copies);
    // Every copy counts with its full size, so that a part does not become too large at the head office.
    const more = change.fall + change.rise - before;
    this.rows += more;
    this.bytes += more * this.#sizes[place]!;
    this.recorder?.(id, op === 'add' ? copies : -copies);
    this.watch?.row(values, r);
  }

  changes(table: number): Change[] {
    const remove = this.#selected(
      'remove',
      table,
      this.#changes.map(({ fall }) => fall),
    );
    const add = this.#selected(
      'add',
      table,
      this.#changes.map(({ rise }) => rise),
    );
    return [remove, add].filter(change => change.rows > 0);
  }

  #selected(op: CopyOp, table: number, copies: readonly number[]): Extract<Change, { readonly op: CopyOp }> {
    const chosen = copies.flatMap((number, place) => (number > 0 ? [place] : []));
    return {
      op,
      table,
      rows: chosen.length,
      values: this.#columns.map(column => chosen.map(place => column[place]!)),
      copies: chosen.map(place => copies[place]!),
    };
  }

  /** No change replaces another. */
  sampleKeys(): void {
    return;
  }

  clear(): void {
    this.#columns = this.description.columns.map(() => []);
    this.#changes = [];
    this.#sizes = [];
    this.#places.clear();
    this.bytes = 0;
    this.rows = 0;
  }
}
