/**
 * Collects row changes into the open batch: columns, one entry for each key, and parts where a transaction is larger than
 * a batch.
 *
 * Invariants:
 * - A key appears once in a batch: a later change to a row replaces the earlier one. Of tables whose history the head
 *   office keeps, the batch has the replaced ones too, apart from its changes (shared/batch/versions.ts).
 * - A batch ends at the end of a source transaction, or is a part. The head office applies parts together, so it never
 *   shows a state that the branch was not in.
 * - TRUNCATE and a changed table definition never share a batch with what came before them.
 *
 * Pure but for its output and the clock: closed drafts go to `output`, in order.
 */
import type { PartMark, TableDescription } from '../../shared/batch/batch.ts';
import { assert } from '../../shared/errors.ts';
import { tableKey } from '../../shared/table-name.ts';
import type { BatchDraft, BufferVersions, ChangeBuffer, KeyRecorder, TableWatch } from './change-buffer.ts';
import { KeyedBuffer } from './keyed-buffer.ts';
import { KeylessBuffer } from './keyless-buffer.ts';

/** The size at which a batch closes when a transaction ends; inside a transaction it closes at twice that size. */
export interface BatchTarget {
  /** JSON of the batch, estimated. */
  readonly bytes: number;
  /** Changes in the batch. */
  readonly rows: number;
}

/** Takes each closed draft. */
export interface BatchOutput {
  append(draft: BatchDraft): void;
}

export interface BatcherOptions {
  readonly target: BatchTarget;
  readonly output: BatchOutput;
  readonly now: () => number;
}

export class Batcher {
  readonly #o: BatcherOptions;
  readonly #tables = new Map<string, ChangeBuffer>();
  readonly #recorders = new Map<string, KeyRecorder>();
  readonly #watches = new Map<string, TableWatch>();
  /** Tables with changes in the open batch, in the order of their first change. */
  readonly #touched = new Set<ChangeBuffer>();
  /** Tables, by their names at the head office in lower case, whose history it keeps. */
  #history: ReadonlySet<string> = new Set();
  readonly #commit = { number: 0, time: 0 };
  #transactions = 0;
  #inGroup = false;
  /** Parts of the open transaction that were emitted. */
  #parts = 0;
  #openSince: number | null = null;

  constructor(options: BatcherOptions) {
    this.#o = options;
  }

  /** When the oldest change of the open batch came; null: the batch is empty. */
  get openSince(): number | null {
    return this.#openSince;
  }

  /** The buffer of a table. A changed definition closes the open batch first. */
  table(description: TableDescription): ChangeBuffer {
    const name = tableKey(description);
    const present = this.#tables.get(name);
    if (present) {
      if (sameDescription(present.description, description)) return present;
      this.flush();
      present.retired = true;
      this.#watches.get(name)?.redone();
    }
    const hasKey = description.columns.some(column => column.key !== undefined);
    const buffer = hasKey
      ? new KeyedBuffer(description, this.#keeps(description) ? this.#commit : null)
      : new KeylessBuffer(description);
    buffer.recorder = this.#recorders.get(name) ?? null;
    buffer.watch = this.#watches.get(name) ?? null;
    this.#tables.set(name, buffer);
    return buffer;
  }

  /**
   * From here on, batches have each change of these tables' rows, and only the last one of all others. Must be called
   * between groups, with an empty batch.
   */
  keepHistory(names: ReadonlySet<string>): void {
    assert(this.empty && !this.#inGroup, 'The tables with a history change inside a batch.');
    this.#history = names;
    for (const [name, buffer] of this.#tables) {
      if (buffer.keepsVersions === this.#keeps(buffer.description)) continue;
      buffer.retired = true;
      this.#tables.delete(name);
    }
  }

  #keeps({ name, columns }: TableDescription): boolean {
    return this.#history.has(name.toLowerCase()) && columns.some(column => column.key !== undefined);
  }

  /** Reports every key of the table that the stream emits from now on to the recorder; null stops that. */
  record(schema: string, name: string, recorder: KeyRecorder | null): void {
    const key = tableKey({ schema, name });
    if (recorder) this.#recorders.set(key, recorder);
    else this.#recorders.delete(key);
    const buffer = this.#tables.get(key);
    if (buffer) buffer.recorder = recorder;
  }

  /** Tells the watch what the stream says of the table from now on; null stops that. */
  watch(schema: string, name: string, watch: TableWatch | null): void {
    const key = tableKey({ schema, name });
    if (watch) this.#watches.set(key, watch);
    else this.#watches.delete(key);
    const buffer = this.#tables.get(key);
    if (buffer) buffer.watch = watch;
  }

  /** Must be called after each change to a buffer: notes it, and closes a part when the batch is far too large. */
  touched(buffer: ChangeBuffer): void {
    this.#openSince ??= this.#o.now();
    this.#touched.add(buffer);
    if (this.#isFull(2)) this.#close();
  }

  /** @param committedAt when the group was committed, in microseconds since 1970 */
  begin(committedAt = 0): void {
    assert(!this.#inGroup, 'A group begins inside a group.');
    this.#inGroup = true;
    this.#commit.number += 1;
    this.#commit.time = committedAt;
  }

  /** A source transaction ends. */
  end(): void {
    assert(this.#inGroup, 'A group ends outside a group.');
    this.#inGroup = false;
    if (this.#touched.size > 0 || this.#parts > 0) this.#transactions += 1;
    // The last part must not wait: the earlier ones cannot be sent without it.
    if (this.#parts > 0 || this.#isFull(1)) this.#close();
  }

  /** The table is empty now. This goes into a batch of its own, after what came before. */
  truncate(schema: string, name: string): void {
    this.flush();
    this.#watches.get(tableKey({ schema, name }))?.redone();
    this.#emit([{ schema, name, columns: [] }], [{ op: 'truncate', table: 0 }], 0, 0);
  }

  #isFull(times: number): boolean {
    let bytes = 0;
    let rows = 0;
    for (const buffer of this.#touched) {
      bytes += buffer.bytes;
      rows += buffer.rows;
    }
    return rows >= times * this.#o.target.rows || bytes >= times * this.#o.target.bytes;
  }

  /** Whether no change waits in the open batch. */
  get empty(): boolean {
    return this.#touched.size === 0 && this.#parts === 0;
  }

  /** Closes the open batch, if there is anything in it. */
  flush(): void {
    if (this.#touched.size > 0) this.#close();
  }

  #close(): void {
    const touched = [...this.#touched];
    // Before `changes`, which drops what was replaced.
    const history = touched.flatMap((buffer, table) => buffer.versions(table) ?? []);
    const changes = touched.flatMap((buffer, table) => buffer.changes(table));
    const rows = touched.reduce((sum, buffer) => sum + buffer.rows, 0);
    const bytes = touched.reduce((sum, buffer) => sum + buffer.bytes, 0);
    this.#touched.clear();
    const tables = touched.map(buffer => buffer.description);
    this.#emit(tables, changes, rows, bytes, history, touched);
    // Not earlier: the changes are views of the buffers.
    for (const buffer of touched) buffer.clear();
  }

  #emit(
    tables: readonly TableDescription[],
    changes: BatchDraft['changes'],
    rows: number,
    bytes: number,
    history: readonly BufferVersions[] = [],
    buffers: readonly ChangeBuffer[] = [],
  ): void {
    const part: PartMark | null =
      this.#inGroup || this.#parts > 0 ? { number: this.#parts + 1, last: !this.#inGroup } : null;
    const transactions = this.#transactions;
    this.#transactions = 0;
    this.#parts = part === null || part.last ? 0 : part.number;
    if (this.#parts === 0) this.#openSince = null;
    const versions = history.length === 0 ? {} : { history };
    const isMergeable = part === null && history.length === 0 && buffers.length > 0;
    const sample = isMergeable ? { sample: () => sampleOf(buffers) } : {};
    this.#o.output.append({ tables, changes, transactions, part, rows, bytes, ...versions, ...sample });
  }
}

function sampleOf(buffers: readonly ChangeBuffer[]): Uint32Array {
  const sample: number[] = [];
  for (const buffer of buffers) buffer.sampleKeys(sample);
  return Uint32Array.from(sample);
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
