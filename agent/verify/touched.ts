/**
 * The last thing that the stream says about each row between two of its places. Pure.
 *
 * A view of the branch was taken somewhere in between. At the second place, a row that the stream does not mention is
 * as the view shows it. A row that it does mention is as its last change says, whatever the view shows.
 */
import { isVerifyMark } from '../../shared/batch/batch.ts';
import type { BatchBody, Change, TableDescription, Value } from '../../shared/batch/batch.ts';
import { markRow } from '../../shared/batch/row-sums.ts';
import type { RowMark, RowShape } from '../../shared/batch/row-sums.ts';
import { tableKey } from '../../shared/table-name.ts';
import { keyColumns, keyIdOf } from '../stream/change-buffer.ts';
import type { KeyId } from '../stream/key-index.ts';

/** A table to compare, described as in its batches. */
export interface ComparedTable {
  readonly description: TableDescription;
  readonly shape: RowShape;
  readonly buckets: number;
  /** Whether the sums are a sketch. */
  readonly sketch: boolean;
}

/** Rows that the stream mentions, as they are at the second place; null: the row does not exist. */
export type TouchedRows = ReadonlyMap<KeyId, RowMark | null>;

const NONE: TouchedRows = new Map();

export class Touched {
  readonly #tables = new Map<string, { readonly table: ComparedTable; readonly rows: Map<KeyId, RowMark | null> }>();
  /** Tables whose rows at the second place do not follow from the view and the stream. */
  readonly #unclear = new Set<string>();
  readonly #most: number;
  #noted = 0;

  /** @param most limit of the rows that the stream may mention */
  constructor(tables: readonly ComparedTable[], most: number) {
    this.#most = most;
    for (const table of tables) this.#tables.set(tableKey(table.description), { table, rows: new Map() });
  }

  /** The batches between the two places, in order. */
  take({ tables, changes }: BatchBody): void {
    for (const change of changes) {
      if (isVerifyMark(change) || !('table' in change)) continue;
      const description = tables[change.table]!;
      const found = this.#tables.get(tableKey(description));
      if (found === undefined) continue;
      if (!isRowChange(change) || !isSame(description, found.table.description)) {
        // It was truncated or redefined, or has no key: then it is unknown which of its rows the view has.
        this.#unclear.add(tableKey(description));
        continue;
      }
      this.#note(found.table, found.rows, change);
    }
  }

  #note(table: ComparedTable, rows: Map<KeyId, RowMark | null>, change: RowChange): void {
    this.#noted += change.rows;
    if (this.overflown) return;
    const keys =
      change.op === 'delete' ? change.keys : keyColumns(table.description.columns).map(index => change.values[index]!);
    for (let row = 0; row < change.rows; row += 1) {
      rows.set(keyIdOf(keys, row), change.op === 'delete' ? null : markOf(table, change.values, row));
    }
  }

  /** Whether more rows were changed than may be noted. */
  get overflown(): boolean {
    return this.#noted > this.#most;
  }

  get hasUnclear(): boolean {
    return this.#unclear.size > 0;
  }

  isUnclear({ description }: ComparedTable): boolean {
    return this.#unclear.has(tableKey(description));
  }

  rowsOf({ description }: ComparedTable): TouchedRows {
    return this.#tables.get(tableKey(description))?.rows ?? NONE;
  }
}

type RowChange = Extract<Change, { op: 'upsert' | 'delete' }>;

function isRowChange(change: Change): change is RowChange {
  return change.op === 'upsert' || change.op === 'delete';
}

function markOf(
  { shape, buckets, sketch }: ComparedTable,
  values: readonly (readonly Value[])[],
  row: number,
): RowMark {
  return markRow(
    shape,
    values.map(column => column[row]!),
    buckets,
    sketch,
  );
}

function isSame(a: TableDescription, b: TableDescription): boolean {
  return JSON.stringify(a.columns) === JSON.stringify(b.columns);
}
