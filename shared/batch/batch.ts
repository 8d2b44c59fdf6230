/**
 * The batch: the unit that is spooled, sent, applied and acknowledged as a whole.
 *
 * The body is columnar JSON, compressed with zstd. A column's type decides how its values are written
 * (`ColumnDescription.type`), so no value needs a tag:
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
 * | JSON | string, as MySQL prints it; with marks if the text does not show a value's type (typed-json.ts) |
 * | BINARY, VARBINARY, BLOB, GEOMETRY | base64 string (GEOMETRY: SRID and WKB as MySQL stores it) |
 * | NULL | null |
 *
 * Invariants: in the changes of a batch a key appears once; within a table truncate comes first, then deletes, then upserts.
 *
 * In a table without a key, the whole row is its identity, and there may be any number of copies of it. Changes of such
 * a table are `remove`, `add` and `count`, in this order, and a row appears at most once in each. A batch says by how
 * much a row's number of copies fell (`remove`), and by how much it then rose (`add`). So the head office ends with the
 * right number even if it held fewer copies.
 */
import { createHash } from 'node:crypto';
import type { LongValue } from './long-value.ts';

export const BATCH_VERSION = 1;

/** Tributary's own columns in tables at the head office. No source column may have one of these names. */
export const RESERVED_COLUMNS: readonly string[] = ['_branch', '_batch', '_changed_at', '_key', '_copy'];

/** A value. A string outside the key may be too long to copy (LongValue). */
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

/** A batch's place among the parts of one transaction, which are applied together. */
export interface PartMark {
  readonly number: number;
  readonly last: boolean;
}

export interface ColumnDescription {
  readonly name: string;
  /** Canonical type text of column-type.ts, e.g. `bigint unsigned`, `varchar(60)`, `datetime(6)`. */
  readonly type: string;
  /** 1-based place in the key that identifies the row; absent for other columns. */
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
   * Changes of a table without a key. `copies[r]` copies of row r were removed (at most as many as exist) or added, or
   * are the exact number. `values[c][r]` as for an upsert.
   */
  | {
      readonly op: CopyOp;
      readonly table: number;
      readonly rows: number;
      readonly values: readonly (readonly Value[])[];
      readonly copies: readonly number[];
    }
  /**
   * A snapshot of these tables begins. `whole`: these are all tables of the branch. `requests`: the requests that it
   * answers. Its batch holds only snapshot markers.
   */
  | {
      readonly op: 'snapshot-start';
      readonly snapshot: string;
      readonly tables: readonly number[];
      readonly whole: boolean;
      readonly requests: readonly string[];
    }
  /**
   * All rows of these tables were sent since the start marker. The head office deletes the branch's rows in them that
   * were not written since then; with `whole` also its rows in all other tables.
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
 * A verification (row-sums.ts), sent only if the head office has requested one. Each marker is alone in its batch.
 * `verify-start`: the head office sums up its rows of these tables at this place in the stream. `buckets[i]` is the
 * number of buckets of table i. A table without columns cannot be compared. `whole`: these are all tables of the
 * branch. `verify-sums`, for each table: the branch's sums at the same place in base64, or the reason for having none
 * (`problem`, with empty `sums`). `typed` names the JSON columns with types that their text does not show. `verify-end`
 * closes the request. With a `problem`, the branch has given up, and the remaining tables get no verdict. `sketch`: the
 * sums are a sketch (row-sketch.ts).
 *
 * `verify-rows` answers a request for rows of one table: what they are at this place in the stream. `values` has those
 * that exist (`copies[r]` times, if the table has no key; otherwise `copies` is empty). `absent` has the names of those
 * that do not, in base64. Rows that the stream has changed since they were read are in neither. `last` closes the
 * request.
 */
export type VerifyMark =
  | {
      readonly op: 'verify-start';
      readonly verification: string;
      readonly request: string;
      readonly tables: readonly number[];
      readonly buckets: readonly number[];
      readonly whole: boolean;
      readonly sketch?: true;
    }
  | {
      readonly op: 'verify-sums';
      readonly verification: string;
      readonly table: number;
      readonly sums: string;
      readonly typed: readonly string[];
      readonly problem: string | null;
      readonly sketch?: true;
    }
  | RowsMark
  | {
      readonly op: 'verify-end';
      readonly verification: string;
      readonly request: string;
      readonly problem: string | null;
    };

/** When the changes of a table were committed. Its lists have an entry for each commit, in order. */
export interface TableVersions {
  readonly table: number;
  /** Times of commits in microseconds since 1970, each less the one before it (the first less 0). */
  readonly commits: readonly number[];
  /** How many rows of the table's upserts in `changes` each commit has. Their rows are in the order of commits. */
  readonly upserts: readonly number[];
  readonly deletes: readonly number[];
  /** The same for `replaced`. */
  readonly replacedUpserts: readonly number[];
  readonly replacedDeletes: readonly number[];
}

/** An upsert or a delete. */
export type RowChange = Extract<Change, { readonly op: 'upsert' | 'delete' }>;
export interface RowsMark {
  readonly op: 'verify-rows';
  readonly verification: string;
  readonly request: string;
  readonly table: number;
  readonly rows: number;
  readonly values: readonly (readonly Value[])[];
  readonly copies: readonly number[];
  readonly absent: string;
  readonly last: boolean;
}

const VERIFY_OPS: ReadonlySet<string> = new Set(['verify-start', 'verify-sums', 'verify-rows', 'verify-end']);

export function isVerifyMark(change: { readonly op: string }): change is VerifyMark {
  return VERIFY_OPS.has(change.op);
}

export interface BatchBody {
  readonly v: typeof BATCH_VERSION;
  readonly source: SourceMark;
  /** The number of source transactions that end in this batch. */
  readonly transactions: number;
  readonly part: PartMark | null;
  readonly tables: readonly TableDescription[];
  readonly changes: readonly Change[];
  /** Of tables whose history the head office keeps (versions.ts). Absent: of none. */
  readonly versions?: readonly TableVersions[];
  /** Their changes that later ones in this batch have replaced, at most one upsert and one delete for each table. */
  readonly replaced?: readonly RowChange[];
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

/**
 * The digest before the first batch of an epoch. It covers branch and epoch, so that batches of two streams never fit
 * together.
 */
export function firstDigest(branch: string, epoch: string): string {
  return createHash('sha256').update(`tributary/1/${branch}/${epoch}`).digest('hex');
}

/** The digest up to a batch: SHA-256 over the previous digest and the compressed body. */
export function nextDigest(previous: string, body: Uint8Array | Iterable<Uint8Array>): string {
  const hash = createHash('sha256').update(previous);
  for (const part of body instanceof Uint8Array ? [body] : body) hash.update(part);
  return hash.digest('hex');
}
