/** What the open batch consists of: drafts, the changes of each table, and the identity of rows. */
import { BATCH_VERSION } from '../../shared/batch/batch.ts';
import type {
  Change,
  ColumnDescription,
  PartMark,
  SourceMark,
  TableDescription,
  TableVersions,
  Value,
} from '../../shared/batch/batch.ts';
import type { DraftBody, WrittenChange } from '../../shared/batch/encoder.ts';
import { wholeValue } from '../../shared/batch/long-value.ts';
import { assert } from '../../shared/errors.ts';
import type { KeyId } from './key-index.ts';

/** A batch's content before it has a place in the stream. */
export interface BatchDraft {
  readonly tables: readonly TableDescription[];
  /** Changes that are written as JSON already are valid only while the draft is being emitted. */
  readonly changes: readonly (Change | WrittenChange)[];
  /** Of tables whose history the head office keeps; absent: of none. */
  readonly history?: readonly BufferVersions[];
  readonly transactions: number;
  readonly part: PartMark | null;
  /**
   * Makes a sample of its keys (key-sample.ts); valid only while the draft is being emitted. Absent: the batch must stay as
   * it is, and may not be merged with others.
   */
  readonly sample?: () => Uint32Array;
  /** Changes (rows) in it. */
  readonly rows: number;
  /** Size of its rows' JSON in bytes, including rows that were replaced. BatchSize limits it. */
  readonly bytes: number;
}

/** When the changes of a table were committed, and those that were replaced. */
export interface BufferVersions {
  readonly versions: TableVersions;
  readonly replaced: readonly WrittenChange[];
}

/** The draft as the body of a batch that reaches this place in the source. */
export function bodyOf(draft: BatchDraft, source: SourceMark): DraftBody {
  const { transactions, part, tables, changes, history } = draft;
  const body = { v: BATCH_VERSION, source, transactions, part, tables, changes } as const;
  if (history === undefined) return body;
  return {
    ...body,
    versions: history.map(({ versions }) => versions),
    replaced: history.flatMap(({ replaced }) => replaced),
  };
}

/** Identity of row `r`, from its key columns in key order. */
export function keyIdOf(keys: readonly (readonly Value[])[], r: number): KeyId {
  if (keys.length === 1) {
    const value = keys[0]![r];
    // A primary key holds no NULL.
    assert(value !== undefined && value !== null, 'A key column has fewer values than there are rows.');
    return wholeValue(value);
  }
  // Length-prefixed, so that ('a', 'bc') and ('ab', 'c') differ whatever the values hold.
  let id = '';
  for (const column of keys) {
    const value = wholeValue(column[r]);
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

/**
 * Tells a snapshot the keys of a table that the stream emits. For a table without a key, `key` is the row's identity, and
 * `copies` says how many more copies of the row there are; otherwise it is 0.
 */
export type KeyRecorder = (key: KeyId, copies: number) => void;

/** Is told what the stream says of a table. */
export interface TableWatch {
  /**
   * A row has changed.
   * @param identity columns of its key in key order or, without a key, all columns; the row is row `r` of them
   */
  row(identity: readonly (readonly Value[])[], r: number): void;
  /** The table was emptied or has another definition. */
  redone(): void;
}

/** One table's changes in the open batch. Rows come as all columns: `values[c][r]`. */
export interface ChangeBuffer {
  readonly description: TableDescription;
  recorder: KeyRecorder | null;
  watch: TableWatch | null;
  /** Another definition of the table has replaced it. */
  retired: boolean;
  /** Size of its JSON, including replaced entries. */
  readonly bytes: number;
  /** Changes that the batch would hold. */
  readonly rows: number;
  insert(rows: number, values: readonly (readonly Value[])[]): void;
  update(rows: number, before: readonly (readonly Value[])[], after: readonly (readonly Value[])[]): void;
  delete(rows: number, before: readonly (readonly Value[])[]): void;
  /** Takes a change that another buffer of the table has returned. */
  take(change: Change): void;
  /** Whether it notes in which commit each change was made. */
  readonly keepsVersions: boolean;
  /** What it notes of that, and the changes that were replaced. Must be called before `changes`. */
  versions(table: number): BufferVersions | null;
  /** The batch's changes of this table, in the order in which they apply. Must be called once, and `clear` must follow. */
  changes(table: number): (Change | WrittenChange)[];
  /** Adds a sample of its keys (key-sample.ts). Must be called before `clear`. */
  sampleKeys(sample: number[]): void;
  /** Empties the buffer for the next batch. The recorder stays. */
  clear(): void;
}
