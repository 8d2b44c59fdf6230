/**
 * The batch: the unit of everything. Spooled, sent, applied and acknowledged whole.
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
 * A table none of whose columns has a place in a key has no identity but the whole row, of which there may be any number
 * of copies. Its changes are `remove`, `add` and `count`, in this order; a row appears in each once at most. What a
 * batch's transactions have done to a row is how far its number of copies fell (`remove`) and by how much it rose again
 * from there (`add`): so the head office, where fewer may be, ends with what came last.
 */
import { createHash } from 'node:crypto';
import type { LongValue } from './long-value.ts';

export const BATCH_VERSION = 1;

/** Columns that every consolidated table has, or may have, for itself: no source column may be called so. */
export const RESERVED_COLUMNS: readonly string[] = ['_branch', '_batch', '_changed_at', '_key', '_copy'];

/** A string may be one that is too long to be copied. Not in a key. */
export type Value = string | number | LongValue | null;

/** A place in a branch's binlog: the end of an event group. */
export interface SourceMark {
  /** server_uuid (MySQL) or server_id (MariaDB). */
  readonly server: string;
  /** Executed GTIDs through this place; '' where GTIDs are off. */
  readonly gtidSet: string;
  readonly file: string;
  readonly offset: number;
  /** Commit time of the last group, ISO 8601 UTC with microseconds where the server gives them; null if none yet. */
  readonly committedAt: string | null;
}

/** Which part of a run of batches that must be applied together this one is; the last has `last: true`. */
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
  /** Empty where the batch holds no rows of the table: for truncate and for the end of a snapshot. */
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
   * Of a table without a key. `copies[r]` copies of row r are gone (as many as there are), are there besides, or are
   * all that there are. `values[c][r]` as for an upsert.
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
   * the ids of the requests that it serves. Stands alone in its batch with snapshot-end, as tables' definitions do.
   */
  | {
      readonly op: 'snapshot-start';
      readonly snapshot: string;
      readonly tables: readonly number[];
      readonly whole: boolean;
      readonly requests: readonly string[];
    }
  /**
   * Every row of these tables that existed has been sent since the start marker: the head office deletes the branch's
   * rows in them that nothing has written since; with `whole` also the branch's rows in all other tables.
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
 * A verification (row-sums.ts), only sent to a head office that has asked for one; each mark stands alone in its batch.
 * `verify-start`: what the head office holds of these tables at this place of the stream, with all before it applied, is
 * to be compared. `buckets[i]` is into how many buckets the rows of table i go; a table without columns cannot be
 * compared. `whole`: they are all the tables that the branch has. Then for each table `verify-sums`: the branch's sums
 * at that very place in base64, or why there are none (`problem`, and `sums` is empty), and the names of the JSON columns
 * of which a document holds types that its text does not tell (`typed`). `verify-end` closes the request;
 * with a `problem` the branch has given it up, and tables asked for that have no verdict of it will have none.
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

/** Place in a stream: the batch `seq` (0: before the first) and the digest through it. */
export interface StreamMark {
  readonly seq: number;
  readonly digest: string;
}

/** The digest before the first batch of an epoch: it covers branch and epoch, so that streams never mix. */
export function firstDigest(branch: string, epoch: string): string {
  return createHash('sha256').update(`tributary/1/${branch}/${epoch}`).digest('hex');
}

/** The digest through a batch: SHA-256 over the previous digest and the compressed body. */
export function nextDigest(previous: string, body: Uint8Array | Iterable<Uint8Array>): string {
  const hash = createHash('sha256').update(previous);
  for (const part of body instanceof Uint8Array ? [body] : body) hash.update(part);
  return hash.digest('hex');
}
