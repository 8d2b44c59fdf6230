/**
 * Merges consecutive batches into as few writes as possible. For each table it makes runs of truncate, deletes and
 * upserts. A run has each key once, in key order.
 *
 * Invariants: applying the runs in order has the same effect as applying the batches one after the other. The last
 * change of a key wins, and changes of a row's number of copies are combined (copies.ts). A run never crosses a change
 * of the table's definition. A truncate drops the changes before it, because it deletes all rows. Tables do not depend
 * on each other, so each table's runs may be written together.
 */
import { isVerifyMark } from '../../shared/batch/batch.ts';
import type { BatchBody, RowChange, TableDescription, Value } from '../../shared/batch/batch.ts';
import { columnType } from '../../shared/batch/column-type.ts';
import { wireKind } from '../../shared/batch/column-type.ts';
import { CopiesBuilder } from './copies.ts';
import type { CopiesChange, CopySet } from './copies.ts';
import { wholeValue } from '../../shared/batch/long-value.ts';
import { tableKey } from '../../shared/table-name.ts';
import { keyOf } from './target-table.ts';

/** Rows as columns: `columns[c][r]`. */
export interface RowSet {
  readonly rows: number;
  readonly columns: readonly (readonly Value[])[];
  /** For a table without a key: each row's `_key`, in hexadecimal, and `_copy`. */
  readonly copies?: { readonly keys: readonly string[]; readonly numbers: readonly number[] };
}

/** What to write to one table, in this order. */
export interface Run {
  readonly table: TableDescription;
  readonly truncate: boolean;
  /** Key columns in key order. */
  readonly deletes: RowSet;
  /** All columns. */
  readonly upserts: RowSet;
  /** For a table without a key, which has no deletes and upserts. */
  readonly copies: CopySet;
}

const NO_ROWS: RowSet = { rows: 0, columns: [] };

/** Merges the row changes of bodies; markers are ignored. */
export function mergeBodies(bodies: readonly BatchBody[]): Run[] {
  const tables = new Map<string, RunBuilder[]>();
  for (const body of bodies) {
    // One name for each table and body, however many changes it has.
    const names = body.tables.map(tableKey);
    const definitions = body.tables.map(table => JSON.stringify(table.columns));
    for (const change of body.changes) {
      if (change.op === 'snapshot-start' || change.op === 'snapshot-end' || isVerifyMark(change)) continue;
      const name = names[change.table]!;
      const definition = definitions[change.table]!;
      let runs = tables.get(name);
      if (runs === undefined || change.op === 'truncate') tables.set(name, (runs = []));
      let run = runs.at(-1);
      if (run?.definition !== definition) {
        run = new RunBuilder(body.tables[change.table]!, definition, change.op === 'truncate');
        runs.push(run);
      }
      if (change.op !== 'truncate') run.add(change);
    }
  }
  return [...tables.values()].flat().map(run => run.build());
}

/** Collects the changes of one table, and finds the last one of each key. */
class RunBuilder {
  readonly definition: string;
  readonly #table: TableDescription;
  readonly #truncate: boolean;
  readonly #changes: RowChange[] = [];
  readonly #key: readonly number[];
  readonly #copies: CopiesBuilder;

  constructor(table: TableDescription, definition: string, truncate: boolean) {
    this.#table = table;
    this.definition = definition;
    this.#truncate = truncate;
    this.#key = keyOf(table);
    this.#copies = new CopiesBuilder(table);
  }

  add(change: RowChange | CopiesChange): void {
    if (change.op !== 'delete' && change.op !== 'upsert') this.#copies.add(change);
    else if (change.rows > 0) this.#changes.push(change);
  }

  build(): Run {
    const places = this.#key.map((_, place) => place);
    const plain = this.#plain();
    const picks = plain === null ? this.#last() : null;
    return {
      table: this.#table,
      truncate: this.#truncate,
      deletes: picks === null ? whole(plain?.deletes, places) : gather(picks.deletes, places),
      upserts: picks === null ? whole(plain?.upserts, this.#key) : gather(picks.upserts, this.#key),
      copies: this.#copies.build(),
    };
  }

  /** The changes, if they come from one batch: it already has each key once. Null if there are several batches. */
  #plain(): { readonly deletes: RowChange | undefined; readonly upserts: RowChange | undefined } | null {
    const ops = this.#changes.map(change => change.op).join(' ');
    if (!['', 'delete', 'upsert', 'delete upsert'].includes(ops)) return null;
    const [deletes, upserts] = (['delete', 'upsert'] as const).map(op => this.#changes.find(each => each.op === op));
    return { deletes, upserts };
  }

  #last(): Picks {
    // Backwards, the first occurrence of a key is its last change.
    const seen = new Set<string | number>();
    const picks: Picks = { deletes: new Pick(), upserts: new Pick() };
    const nameKey = keyNamer(this.#table, this.#key);
    for (let at = this.#changes.length - 1; at >= 0; at -= 1) {
      const change = this.#changes[at]!;
      const values = valuesOf(change);
      const keys = change.op === 'delete' ? change.keys : this.#key.map(index => change.values[index]!);
      const pick = change.op === 'delete' ? picks.deletes : picks.upserts;
      for (let row = change.rows - 1; row >= 0; row -= 1) {
        const before = seen.size;
        seen.add(nameKey(keys, row));
        if (seen.size > before) pick.add(values, row);
      }
    }
    return picks;
  }
}

interface Picks {
  readonly deletes: Pick;
  readonly upserts: Pick;
}

/** Rows picked from changes: row `rows[i]` of `sources[i]`. */
class Pick {
  readonly sources: (readonly (readonly Value[])[])[] = [];
  readonly rows: number[] = [];

  add(source: readonly (readonly Value[])[], row: number): void {
    this.sources.push(source);
    this.rows.push(row);
  }
}

function valuesOf(change: RowChange): readonly (readonly Value[])[] {
  return change.op === 'delete' ? change.keys : change.values;
}

/** Makes a function that gives equal results for equal keys only. To the server, 0 and −0 are the same key. */
export function keyNamer(
  table: TableDescription,
  key: readonly number[],
): (keys: readonly (readonly Value[])[], row: number) => string | number {
  const isReal = key.map(index => {
    const kind = wireKind(columnType(table.columns[index]!.type));
    return kind === 'float' || kind === 'double';
  });
  const part = (value: Value, place: number): string | number =>
    value === '-0' && isReal[place] === true ? 0 : (wholeValue(value) ?? '');
  if (key.length === 1) return (keys, row) => part(keys[0]![row]!, 0);
  return (keys, row) => {
    let name = '';
    for (let place = 0; place < keys.length; place += 1) {
      const text = String(part(keys[place]![row]!, place));
      name += `${text.length}:${text}`;
    }
    return name;
  };
}

/** All rows of a change in the order of their key columns. Most are in that order already. */
function whole(change: RowChange | undefined, key: readonly number[]): RowSet {
  if (change === undefined) return NO_ROWS;
  const { rows } = change;
  const source = valuesOf(change);
  const keys = key.map(index => source[index]!);
  if (isSorted(keys, rows)) return { rows, columns: source };
  const order = sortedOrder(keys, rows);
  return { rows, columns: source.map(values => Array.from(order, row => values[row]!)) };
}

/** The picked rows in the order of their key columns. */
function gather(pick: Pick, key: readonly number[]): RowSet {
  const rows = pick.rows.length;
  const [source] = pick.sources;
  if (source === undefined) return NO_ROWS;
  const keys = key.map(index => column(pick, index, null));
  const order = isSorted(keys, rows) ? null : sortedOrder(keys, rows);
  return { rows, columns: source.map((_, index) => column(pick, index, order)) };
}

function column(pick: Pick, index: number, order: Uint32Array | null): Value[] {
  const { sources, rows } = pick;
  const values = new Array<Value>(rows.length);
  for (let i = 0; i < rows.length; i += 1) {
    const at = order === null ? i : order[i]!;
    values[i] = sources[at]![index]![rows[at]!]!;
  }
  return values;
}

function isSorted(keys: readonly (readonly Value[])[], rows: number): boolean {
  for (let row = 1; row < rows; row += 1) {
    if (compareRows(keys, row - 1, row) > 0) return false;
  }
  return true;
}

function sortedOrder(keys: readonly (readonly Value[])[], rows: number): Uint32Array {
  const order = new Uint32Array(rows);
  for (let row = 0; row < rows; row += 1) order[row] = row;
  const [first] = keys;
  if (keys.length === 1 && first !== undefined && first.every(value => typeof value === 'number')) {
    const numbers = Float64Array.from(first);
    return order.sort((a, b) => numbers[a]! - numbers[b]!);
  }
  return order.sort((a, b) => compareRows(keys, a, b));
}

function compareRows(keys: readonly (readonly Value[])[], a: number, b: number): number {
  for (const values of keys) {
    const order = compareValues(values[a]!, values[b]!);
    if (order !== 0) return order;
  }
  return 0;
}

/** Close to the server's order: numbers before texts, large integers by their digits. It only affects speed. */
function compareValues(a: Value, b: Value): number {
  if (a === b) return 0;
  if (typeof a === 'number') return typeof b === 'number' ? a - b : -1;
  if (typeof b === 'number') return 1;
  return (a ?? '') < (b ?? '') ? -1 : 1;
}
