/**
 * Writes what stays of several batches into as few as possible. If it takes more than one, they are the parts of one
 * transaction: the head office applies them together, so it never shows a state that the branch was not in. Pure.
 *
 * Invariants: over all parts a key appears once, so the order of parts matters only for tables without a key, whose
 * changes stay in their order. The last part has the position of the last body, and counts the transactions of all.
 */
import { BATCH_VERSION } from '../../shared/batch/batch.ts';
import type { BatchBody, CopyOp, SourceMark, TableDescription, Value } from '../../shared/batch/batch.ts';
import { sizeOf } from '../../shared/batch/decoder.ts';
import { encodeBatch } from '../../shared/batch/encoder.ts';
import { assert } from '../../shared/errors.ts';
import { nth } from '../../shared/nth.ts';
import { tableKey } from '../../shared/table-name.ts';
import { MERGED_BATCH_BYTES } from '../spool/unsent-batches.ts';
import { changesIn, mergeableChanges } from './last-changes.ts';
import type { Kept, MergeableChange } from './last-changes.ts';

/** There is time to save bytes (agent/stream/compression-level.ts). */
const LEVEL = 8;
/** The next part begins when one has so much. */
export interface PartLimits {
  readonly rows: number;
  readonly jsonBytes: number;
  /** Compressed, by the size of the batches that the rows are from. */
  readonly bytes: number;
}

const LIMITS: PartLimits = { rows: 20_000, jsonBytes: 4 * 1024 * 1024, bytes: MERGED_BATCH_BYTES };

type CopiesChange = Extract<MergeableChange, { readonly op: CopyOp }>;

interface OpenTable {
  readonly description: TableDescription;
  readonly deletes: Value[][];
  readonly upserts: Value[][];
  /** Of a table without a key, all from one body. */
  copies: readonly CopiesChange[];
}

export interface MergedBody {
  readonly body: Buffer;
  readonly rows: number;
}

export class MergedBodies {
  readonly #limits: PartLimits;
  readonly #made: MergedBody[] = [];
  #tables = new Map<string, OpenTable>();
  #rows = 0;
  #json = 0;
  #bytes = 0;
  #transactions = 0;
  #source: SourceMark | null = null;

  constructor(limits = LIMITS) {
    this.#limits = limits;
  }

  /**
   * Takes the body after those that were taken.
   * @param bytes its compressed size
   */
  take(body: BatchBody, kept: Kept, bytes: number): void {
    const changes = mergeableChanges(body);
    const rows = changes.reduce((sum, change, at) => sum + (kept[at]?.length ?? changesIn(change)), 0);
    if (this.#mustClose(body, changes) && rows > 0) this.#close(false);
    this.#source = body.source;
    this.#transactions += body.transactions;
    if (rows === 0) return;
    changes.forEach((change, at) => this.#add(nth(body.tables, change.table), change, kept[at] ?? null));
    const share = rows / changes.reduce((sum, change) => sum + changesIn(change), 0);
    this.#rows += rows;
    this.#json += share * sizeOf(body).unpacked;
    this.#bytes += share * bytes;
  }

  /** All bodies were taken. */
  end(): readonly MergedBody[] {
    this.#close(true);
    return this.#made;
  }

  #mustClose(body: BatchBody, changes: readonly MergeableChange[]): boolean {
    const { rows, jsonBytes, bytes } = this.#limits;
    if (this.#rows >= rows || this.#json >= jsonBytes || this.#bytes >= bytes) return true;
    return changes.some(change => {
      const open = this.#tables.get(tableKey(nth(body.tables, change.table)));
      return isOfCopies(change) && open !== undefined && open.copies.length > 0;
    });
  }

  #add(description: TableDescription, change: MergeableChange, kept: readonly number[] | null): void {
    if (kept?.length === 0 || change.rows === 0) return;
    const name = tableKey(description);
    let table = this.#tables.get(name);
    if (table === undefined) {
      table = { description, deletes: [], upserts: [], copies: [] };
      this.#tables.set(name, table);
    }
    assert(
      table.description.columns.length === description.columns.length,
      'Batches with different definitions of a table are merged.',
    );
    if (isOfCopies(change)) table.copies = [...table.copies, change];
    else if (change.op === 'delete') addRows(table.deletes, change.keys, kept);
    else addRows(table.upserts, change.values, kept);
  }

  #close(last: boolean): void {
    // It may be without rows, as the batch of an update that left a row without a key as it was.
    assert(this.#source !== null, 'No batches are merged.');
    const tables = [...this.#tables.values()];
    const changes = tables.flatMap(({ deletes, upserts, copies }, table): MergeableChange[] => [
      ...deletes.slice(0, 1).map(({ length }) => ({ op: 'delete' as const, table, rows: length, keys: deletes })),
      ...upserts.slice(0, 1).map(({ length }) => ({ op: 'upsert' as const, table, rows: length, values: upserts })),
      ...copies.map(change => ({ ...change, table })),
    ]);
    const isOnly = last && this.#made.length === 0;
    const body = encodeBatch(
      {
        v: BATCH_VERSION,
        source: this.#source,
        transactions: last ? this.#transactions : 0,
        part: isOnly ? null : { number: this.#made.length + 1, last },
        tables: tables.map(({ description }) => description),
        changes,
      },
      { level: LEVEL },
    );
    this.#made.push({ body, rows: this.#rows });
    this.#tables = new Map();
    this.#rows = 0;
    this.#json = 0;
    this.#bytes = 0;
  }
}

function isOfCopies(change: MergeableChange): change is CopiesChange {
  return change.op !== 'upsert' && change.op !== 'delete';
}

/** Adds rows to columns. */
function addRows(columns: Value[][], values: readonly (readonly Value[])[], kept: readonly number[] | null): void {
  values.forEach((from, index) => {
    const to = (columns[index] ??= []);
    if (kept === null) for (const value of from) to.push(value);
    else for (const row of kept) to.push(from[row] ?? null);
  });
}
