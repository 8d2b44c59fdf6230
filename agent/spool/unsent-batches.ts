/**
 * Which batches of the spool may be merged, and which of them are worth it.
 *
 * While the link is away, a row that changes often is in many batches. If only its last change stays, the head office ends
 * with the same rows and less is sent. `Collapse` (agent/collapse) does that to ranges that this list names.
 *
 * Invariants:
 * - Only batches are listed that were never read for sending, and that this process has written. A batch of an earlier
 *   process may have been sent, by that process or by another one with a copy of the spool, whatever was confirmed.
 * - Whatever has a place of its own in the stream is a barrier, which empties the list: parts of a large transaction, a
 *   truncate, markers and rows of a snapshot or a comparison, rows with their history, another definition of a table,
 *   a body in pieces. So a listed range has only row changes of the same definitions, and nothing comes between them.
 * - A range ends with the list. So only what was written while it was merged must be numbered anew.
 *
 * What merging costs is bounded. It is tried only where the samples of keys promise that a third of the bytes goes, and
 * it writes at most MOST_WRITTEN bytes for each byte that it saves. A byte is saved only once. So all merges together
 * write at most MOST_WRITTEN times what capture has written, and where no row changes twice they do nothing.
 */
import type { TableDescription } from '../../shared/batch/batch.ts';
import { assert } from '../../shared/errors.ts';
import { nth } from '../../shared/nth.ts';
import { tableKey } from '../../shared/table-name.ts';

/** Bytes that merging may write for each byte that it saves. */
export const MOST_WRITTEN = 3;
/** Bytes after a range that may be written anew: they are in memory meanwhile. */
export const MOST_LATER_BYTES = 64 * 1024 * 1024;
/** Compressed bytes of a range. */
const MOST_READ_BYTES = 64 * 1024 * 1024;
/**
 * Bounds of what a range may become. The head office applies it in one transaction, and says nothing of its rows until its
 * last part has arrived. While it is merged, its keys are in memory.
 */
const MOST_MERGED_BYTES = 16 * 1024 * 1024;
export const MOST_MERGED_ROWS = 200_000;
/** The size of a merged batch at which the next part begins. */
export const MERGED_BATCH_BYTES = 320 * 1024;
/** Less is not worth a look. */
const LEAST_SAVED_BYTES = 16 * 1024;
const LEAST_SAVED_SHARE = 1 / 3;
/** What a batch takes apart from its rows: the names of tables and columns, the position, and a message's frames. */
const BATCH_BYTES = 600;
/** The next look is worth it after so much more, as a share of what is listed, or in bytes. */
const GROWN_SHARE = 0.1;
const GROWN_BYTES = 4 * 1024 * 1024;
/** More are not listed: then the oldest stay as they are. */
const MOST_ENTRIES = 4_096;

/** Adjacent batches that stay together: one as capture wrote it, or the parts that a merge has made. */
export interface Entry {
  first: number;
  last: number;
  readonly bytes: number;
  readonly rows: number;
  /** Hashes of some of its keys (agent/stream/key-sample.ts). */
  readonly sample: Uint32Array;
}

/** Batches to be merged, as they are listed at present. */
export interface MergeRange {
  readonly entries: readonly Entry[];
  readonly first: number;
  readonly last: number;
  readonly bytes: number;
  readonly rows: number;
}

export class UnsentBatches {
  #entries: Entry[] = [];
  #bytes = 0;
  /** Bytes listed since the last look. */
  #grown = 0;
  /** How much must be listed before the next look, after a merge that was not worth it. */
  #wanted = 0;
  /** The definitions of the tables in the list, as one object and as text. */
  readonly #definitions = new Map<string, { readonly description: TableDescription; readonly columns: string }>();

  get isEmpty(): boolean {
    return this.#entries.length === 0;
  }

  /** A batch that may be merged was written. */
  append(entry: Entry, tables: readonly TableDescription[]): void {
    if (tables.some(table => this.#isRedefined(table))) this.clear();
    for (const table of tables) this.#define(table);
    this.#entries.push(entry);
    this.#bytes += entry.bytes;
    this.#grown += entry.bytes;
    if (this.#entries.length > MOST_ENTRIES) this.#drop(this.#entries.length - MOST_ENTRIES);
  }

  /** A barrier: nothing before it is merged with what follows. */
  clear(): void {
    this.#entries = [];
    this.#definitions.clear();
    this.#bytes = 0;
    this.#grown = 0;
    this.#wanted = 0;
  }

  /** Batches up to this one may have been sent. */
  seal(through: number): void {
    const kept = this.#entries.findIndex(({ first }) => first > through);
    if (kept !== 0) this.#drop(kept < 0 ? this.#entries.length : kept);
  }

  /** The range whose merge promises to save most; null: none is worth it, or little has come since the last look. */
  worthMerging(): MergeRange | null {
    const enough = Math.min(GROWN_BYTES, Math.max(LEAST_SAVED_BYTES, this.#bytes * GROWN_SHARE));
    if (this.#grown < Math.max(enough, this.#wanted)) return null;
    this.#grown = 0;
    this.#wanted = 0;
    const seen = new Set<number>();
    let [bytes, rows, keptBytes, keptRows] = [0, 0, 0, 0];
    let best: { readonly from: number; readonly bytes: number; readonly rows: number } | null = null;
    let mostSaved = LEAST_SAVED_BYTES;
    for (let at = this.#entries.length - 1; at >= 0; at -= 1) {
      const entry = nth(this.#entries, at);
      const share = newShare(entry.sample, seen);
      bytes += entry.bytes;
      rows += entry.rows;
      keptBytes += share * Math.max(0, entry.bytes - BATCH_BYTES * (entry.last - entry.first + 1));
      keptRows += share * entry.rows;
      const merged = keptBytes + BATCH_BYTES * Math.ceil(keptBytes / MERGED_BATCH_BYTES);
      if (bytes > MOST_READ_BYTES || merged > MOST_MERGED_BYTES || keptRows > MOST_MERGED_ROWS) break;
      const saved = bytes - merged;
      if (saved < mostSaved || saved < bytes * LEAST_SAVED_SHARE) continue;
      mostSaved = saved;
      best = { from: at, bytes, rows };
    }
    if (best === null) return null;
    const entries = this.#entries.slice(best.from);
    const [first, last] = [nth(entries, 0).first, nth(entries, entries.length - 1).last];
    return { entries, first, last, bytes: best.bytes, rows: best.rows };
  }

  /** Whether the range may still be merged: none of it was sent, and no barrier has come after it. */
  holds({ entries: [first], last }: MergeRange): boolean {
    return first !== undefined && this.#entries.includes(first) && this.#entries.some(entry => entry.last === last);
  }

  /** The merge of the range was not worth it. The next one waits until half as much has come. */
  disappointed(range: MergeRange): void {
    this.#wanted = range.bytes / 2;
  }

  /** The batches of the range have become this entry, and those after it have new numbers. */
  replace(range: MergeRange, merged: Entry): void {
    assert(this.holds(range), 'Batches were merged that are not listed.');
    const from = this.#entries.indexOf(nth(range.entries, 0));
    this.#entries.splice(from, range.entries.length, merged);
    const shift = merged.last - range.last;
    for (const entry of this.#entries.slice(from + 1)) {
      entry.first += shift;
      entry.last += shift;
    }
    this.#bytes += merged.bytes - range.bytes;
    // What is left may be merged with older batches.
    this.#grown = this.#bytes;
  }

  #drop(count: number): void {
    for (const { bytes } of this.#entries.splice(0, count)) this.#bytes -= bytes;
  }

  #isRedefined(table: TableDescription): boolean {
    const known = this.#definitions.get(tableKey(table));
    return known !== undefined && known.description !== table && known.columns !== JSON.stringify(table.columns);
  }

  #define(table: TableDescription): void {
    const name = tableKey(table);
    const columns = this.#definitions.get(name)?.columns ?? JSON.stringify(table.columns);
    this.#definitions.set(name, { description: table, columns });
  }
}

/** The share of the sampled keys that were not seen yet; it adds them. */
function newShare(sample: Uint32Array, seen: Set<number>): number {
  if (sample.length === 0) return 1;
  const before = seen.size;
  for (const hash of sample) seen.add(hash);
  return (seen.size - before) / sample.length;
}
