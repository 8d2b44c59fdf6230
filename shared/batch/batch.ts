/**
 * The batch: the unit that is spooled, sent, applied and acknowledged as a whole.
 *
 * Body = zstd(JSON), columnar. Column types decide how a value is written (see `ColumnDescription.type`), so that
 * no value needs a tag of its own:
 *
 * | source type | JSON |
 * |---|---|
 * | integers, YEAR, BIT | number if |v| ≤ 2^53 − 1, else decimal string |
 * | DECIMAL | string, as MySQL prints it (scale kept) |
 * | FLOAT | number: the shortest decimal that reads back as the same float32; −0 as "-0" |
 * | DOUBLE | number; −0 as "-0" |
 * | DATE, TIME, DATETIME | string, as MySQL prints it, with the column's fractional digits |
 * | TIMESTAMP | the same, in UTC |
 * | CHAR, VARCHAR, TEXT, ENUM, SET | string |
 * | JSON | string, as MySQL prints it; with marks where the text does not tell a value's type (typed-json.ts) |
 * | BINARY, VARBINARY, BLOB, GEOMETRY | base64 string (GEOMETRY: SRID and WKB as MySQL stores it) |
 * | NULL | null |
 *
 * Invariants: within a batch a key appears once; within a table truncate comes first, then deletes, then upserts.
 *
 * In a table without a key, the whole row is its identity, and there may be any number of copies of it. Changes of such
 * a table are `remove`, `add` and `count`, in this order, and a row appears at most once in each. A batch says how far
 * a row's number of copies fell (`remove`), and how far it then rose (`add`). So the head office, which may hold fewer
 * copies, ends with the right number.
 */
import { createHash } from 'node:crypto';
import type { LongValue } from './long-value.ts';

export const BATCH_VERSION = 1;

/** Tributary's own columns of tables at the head office. No source column may have such a name. */
export const RESERVED_COLUMNS: readonly string[] = ['_branch', '_batch', '_changed_at', '_key', '_copy'];

/** A value. Outside of a key, a string may be too long to be copied (LongValue). */
export type Value = string | number | LongValue | null;

/** A place in a branch's binlog: the end of an event group. */
export interface SourceMark {
  /** server_uuid (MySQL) or server_id (MariaDB). */
  readonly server: string;
  /** GTIDs executed up to this place; '' if GTIDs are off. */
  readonly gtidSet: string;
  readonly file: string;
  readonly offset: number;
  /** Commit time of the last group, ISO 8601 in UTC, with microseconds if the server gives them; null: none yet. */
  readonly committedAt: string | null;
}

/** The place of a batch among batches that must be applied together. The last one has `last: true`. */
export interface PartMark {
  readonly number: number;
  readonly last: boolean;
}

export interface ColumnDescription {
  readonly name: string;
  /** Canonical type text of column-type.ts, e.g. `bigint unsigned`, `varchar(60)`, `datetime(6)`. */
  readonly type: string;
  /** 1-based place in the row's identity (primary key); absent for other columns. */
  readonly key?: number;
}

export interface TableDescription {
  readonly schema: string;
  readonly name: string;
  /** Empty if the batch holds no rows of the table: for a truncate and for the end of a snapshot. */
  readonly columns: readonly ColumnDescription[];
}

export type CopyOp = 'remove' | 'add' | 'count';

/** `keys[k][r]` is key column k (in key order) of row r; `values[c][r]` is column c (in table order) of row r. */
export type Change =
  | { readonly op: 'truncate'; readonly table: number }
  | {
      readonly op: 'delete';
      readonly table: number;
      readonly rows: number;
      readonly keys: readonly (readonly Value[])[];
    }
  | {
      readonly op: 'upsert';
      readonly table: number;
      readonly rows: number;
      readonly values: readonly (readonly Value[])[];
    }
  /**
   * Changes of a table without a key. `copies[r]` copies of row r were removed (at most as many as there are), were
   * added, or are all that there are. `values[c][r]` as for an upsert.
   */
  | {
      readonly op: CopyOp;
      readonly table: number;
      readonly rows: number;
      readonly values: readonly (readonly Value[])[];
      readonly copies: readonly number[];
    }
  /**
   * A snapshot of these tables begins. `whole`: they are all the tables that the branch has (opens an epoch). Carries
   * the ids of the requests that it serves. Its batch holds no other changes than markers of snapshots.
   */
  | {
      readonly op: 'snapshot-start';
      readonly snapshot: string;
      readonly tables: readonly number[];
      readonly whole: boolean;
      readonly requests: readonly string[];
    }
  /**
   * Every row of these tables has been sent since the start marker. The head office deletes the branch's rows in them
   * that were not written since; with `whole` also the branch's rows in all other tables.
   */
  | {
      readonly op: 'snapshot-end';
      readonly snapshot: string;
      readonly tables: readonly number[];
      readonly whole: boolean;
      readonly requests: readonly string[];
    }
  | VerifyMark;

/**
 * A verification (row-sums.ts), which is only sent if the head office has asked for one. Each marker is alone in its
 * batch. `verify-start`: the head office sums up its rows of these tables at this place of the stream. `buckets[i]` is
 * the number of buckets of table i. A table without columns cannot be compared. `whole`: these are all the tables of
 * the branch. `verify-sums`, for each table: the branch's sums at the same place in base64, or why there are none
 * (`problem`, with empty `sums`), and the JSON columns that hold types which their text does not show (`typed`).
 * `verify-end` closes the request. With a `problem` the branch has given up, and tables that have no verdict yet will
 * not get one.
 */
export type VerifyMark =
  | {
      readonly op: 'verify-start';
      readonly verification: string;
      readonly request: string;
      readonly tables: readonly number[];
      readonly buckets: readonly number[];
      readonly whole: boolean;
    }
  | {
      readonly op: 'verify-sums';
      readonly verification: string;
      readonly table: number;
      readonly sums: string;
      readonly typed: readonly string[];
      readonly problem: string | null;
    }
  | {
      readonly op: 'verify-end';
      readonly verification: string;
      readonly request: string;
      readonly problem: string | null;
    };

export function isVerifyMark(change: { readonly op: string }): change is VerifyMark {
  return change.op === 'verify-start' || change.op === 'verify-sums' || change.op === 'verify-end';
}

export interface BatchBody {
  readonly v: typeof BATCH_VERSION;
  readonly source: SourceMark;
  /** How many source transactions end in this batch. */
  readonly transactions: number;
  readonly part: PartMark | null;
  readonly tables: readonly TableDescription[];
  readonly changes: readonly Change[];
}

/** One batch in its stream. Digests are 64 lower-case hex digits. */
export interface BatchHeader {
  readonly branch: string;
  readonly epoch: string;
  readonly seq: number;
  readonly previous: string;
  readonly digest: string;
}

/** A place in a stream: the batch `seq` (0: before the first) and the digest up to it. */
export interface StreamMark {
  readonly seq: number;
  readonly digest: string;
}

/** The digest before the first batch of an epoch. It covers branch and epoch, so that streams never mix. */
export function firstDigest(branch: string, epoch: string): string {
  return createHash('sha256').update(`tributary/1/${branch}/${epoch}`).digest('hex');
}

/** The digest up to a batch: SHA-256 over the previous digest and the compressed body. */
export function nextDigest(previous: string, body: Uint8Array | Iterable<Uint8Array>): string {
  const hash = createHash('sha256').update(previous);
  for (const part of body instanceof Uint8Array ? [body] : body) hash.update(part);
  return hash.digest('hex');
}
