/**
 * Merges the changes of a table without a key: its rows, and how the number of their copies changes. Pure.
 *
 * A row is identified by `_key`, the SHA-256 of its columns that are not NULL. So a column that is added with NULLs, or
 * that one branch lacks, changes no `_key`. Each copy is a row at the head office, numbered by `_copy`.
 *
 * Invariant: the copies of a row are numbered without a gap, and copies that are written later have higher numbers. New
 * copies are added after the last one, the last ones are removed first, and an exact number replaces all of them. So a
 * sweep, which deletes what was written before a snapshot began, deletes the lowest numbers.
 */
import { createHash, hash } from 'node:crypto';
import type { Change, CopyOp, TableDescription, Value } from '../../shared/batch/batch.ts';
import { addCopies, countCopies, noCopyChange, removeCopies } from '../../shared/batch/copies.ts';
import type { CopyChange } from '../../shared/batch/copies.ts';
import { LongValue, writeJson } from '../../shared/batch/long-value.ts';
import { columnKey } from '../../shared/identifiers.ts';

export type CopiesChange = Extract<Change, { readonly op: CopyOp }>;

/** Rows as columns, in the order of their keys, each with its `_key` in hexadecimal and its change. */
export interface CopySet {
  readonly rows: number;
  readonly columns: readonly (readonly Value[])[];
  readonly keys: readonly string[];
  readonly changes: readonly Readonly<CopyChange>[];
}

const NO_COPIES: CopySet = { rows: 0, columns: [], keys: [], changes: [] };

/** Makes a function that computes `_key` in hexadecimal. `columns[c][r]` in table order. */
function rowNamer(table: TableDescription): (columns: readonly (readonly Value[])[], row: number) => string {
  // MySQL ignores case in column names, and two versions of a table may have their columns in another order.
  const inOrder = table.columns
    .map(({ name }, index) => ({ name: columnKey(name), index }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  return (columns, row) => {
    const parts: Value[] = [];
    for (const { name, index } of inOrder) {
      const value = columns[index]![row] ?? null;
      if (value !== null) parts.push(name, value);
    }
    if (!parts.some(part => part instanceof LongValue)) return hash('sha256', ROW + JSON.stringify(parts), 'hex');
    // Hashes the same text as JSON.stringify would give, without holding a long value as a whole.
    const digest = createHash('sha256').update(ROW);
    for (const piece of writeJson(parts)) digest.update(piece);
    return digest.digest('hex');
  };
}

/** Distinguishes hashes of rows from hashes of keys. A table may hold both, if only some branches have a key. */
const ROW = 'row:';

interface Entry {
  readonly key: string;
  readonly values: readonly (readonly Value[])[];
  readonly row: number;
  readonly change: CopyChange;
}

/** Combines the changes of one table, in the order in which they come. */
export class CopiesBuilder {
  readonly #nameRow: (columns: readonly (readonly Value[])[], row: number) => string;
  readonly #entries = new Map<string, Entry>();

  constructor(table: TableDescription) {
    this.#nameRow = rowNamer(table);
  }

  add({ op, rows, values, copies }: CopiesChange): void {
    for (let row = 0; row < rows; row += 1) {
      const key = this.#nameRow(values, row);
      let entry = this.#entries.get(key);
      if (entry === undefined) this.#entries.set(key, (entry = { key, values, row, change: noCopyChange() }));
      const number = copies[row]!;
      if (op === 'add') addCopies(entry.change, number);
      else if (op === 'remove') removeCopies(entry.change, number);
      else countCopies(entry.change, number);
    }
  }

  build(): CopySet {
    const entries = [...this.#entries.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
    const [first] = entries;
    if (first === undefined) return NO_COPIES;
    return {
      rows: entries.length,
      columns: first.values.map((_, c) => entries.map(({ values, row }) => values[c]![row]!)),
      keys: entries.map(({ key }) => key),
      changes: entries.map(({ change }) => change),
    };
  }
}

/** The lowest and the highest number of a row's copies. */
export interface Numbers {
  readonly low: number;
  readonly high: number;
}

/** Copies above `keep` are deleted, those from `first` to `last` are written. None are written if `last` < `first`. */
export interface Rewrite {
  readonly keep: number;
  readonly first: number;
  readonly last: number;
}

/** @param present null: the row has no copy */
export function rewriteOf({ exact, fall, rise }: Readonly<CopyChange>, present: Numbers | null): Rewrite {
  if (exact !== null) return { keep: exact, first: 1, last: exact };
  if (present === null) return { keep: 0, first: 1, last: rise };
  const left = present.high - fall;
  const keep = left < present.low ? 0 : left;
  return { keep, first: keep + 1, last: keep + rise };
}
