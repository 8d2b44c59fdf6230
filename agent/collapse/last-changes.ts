/**
 * Finds the last change of each row in batches that are merged. Bodies come from the last to the first: then the first
 * change of a key that is met is its last one, and all earlier ones are superseded. Pure.
 *
 * Changes of a table without a key supersede nothing. They all stay, in their order.
 */
import { isVerifyMark } from '../../shared/batch/batch.ts';
import type { BatchBody, Change, CopyOp } from '../../shared/batch/batch.ts';
import { assert } from '../../shared/errors.ts';
import { nth } from '../../shared/nth.ts';
import { tableKey } from '../../shared/table-name.ts';
import { keyColumns, keyIdOf } from '../stream/change-buffer.ts';
import type { KeyId } from '../stream/key-index.ts';
import { sampleKeys, seedOf } from '../stream/key-sample.ts';

/** Changes that a merged batch may have. */
export type MergeableChange = Extract<Change, { readonly op: 'upsert' | 'delete' | CopyOp }>;

/** Which rows of each change of a body stay: their numbers, in order; null: all. */
export type Kept = readonly (readonly number[] | null)[];

/** The changes of a body. @throws TributaryError INTERNAL for a body that must not be merged */
export function mergeableChanges({ changes, versions }: BatchBody): readonly MergeableChange[] {
  assert(versions === undefined, 'A batch with versions of rows is to be merged.');
  return changes.map(change => {
    const isRows = change.op !== 'truncate' && change.op !== 'snapshot-start' && change.op !== 'snapshot-end';
    assert(isRows && !isVerifyMark(change), `A batch with a change ${change.op} is to be merged.`);
    return change;
  });
}

/** How many changes it stands for: each copy of a row counts. */
export function changesIn(change: MergeableChange): number {
  return 'copies' in change ? change.copies.reduce((sum, copies) => sum + copies, 0) : change.rows;
}

export class LastChanges {
  readonly #seen = new Map<string, Set<KeyId>>();
  #rows = 0;

  /** Changes that stay. */
  get rows(): number {
    return this.#rows;
  }

  /** Takes the body before those that were taken. */
  take(body: BatchBody): Kept {
    const tables = body.tables.map(({ columns, ...name }) => ({ key: keyColumns(columns), name: tableKey(name) }));
    return mergeableChanges(body).map(change => {
      const table = nth(tables, change.table);
      if (change.op !== 'upsert' && change.op !== 'delete') {
        this.#rows += changesIn(change);
        return null;
      }
      const keys = change.op === 'delete' ? change.keys : table.key.map(index => nth(change.values, index));
      let seen = this.#seen.get(table.name);
      if (seen === undefined) this.#seen.set(table.name, (seen = new Set()));
      const kept: number[] = [];
      for (let row = 0; row < change.rows; row += 1) {
        const before = seen.size;
        seen.add(keyIdOf(keys, row));
        if (seen.size > before) kept.push(row);
      }
      this.#rows += kept.length;
      return kept.length === change.rows ? null : kept;
    });
  }

  /** A sample of the keys that stay. */
  sample(): Uint32Array {
    const sample: number[] = [];
    for (const [table, keys] of this.#seen) sampleKeys(seedOf(table), keys, sample);
    return Uint32Array.from(sample);
  }
}
