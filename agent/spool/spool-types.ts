/** What goes into the spool, and what comes out of it. */
import type { TableDescription } from '../../shared/batch/batch.ts';
import type { CommittedRows } from './rows-of-day.ts';
import type { DefinitionChange } from './stored-definitions.ts';
import type { Position, SnapshotProgress } from './stored-state.ts';

export interface SpoolOptions {
  readonly directory: string;
  readonly branch: string;
  /** Limit of all batches together. An open group may exceed it. */
  readonly maxBytes: number;
  /** How long batches are kept after the head office has received them. */
  readonly keepAppliedMs: number;
  /** Disk space that always stays free. */
  readonly minFreeBytes: number;
  readonly now: () => number;
  /** Free bytes on the spool's disk; default: statfs. Injected by tests. */
  readonly freeDiskBytes?: () => number;
  /** Whether batches that are written now are likely to wait, so that merging them may be worth it. Default: never. */
  readonly mayMerge?: () => boolean;
}

export interface BatchToAppend {
  /**
   * One buffer or several. Several are made on demand, and the spool releases them, so that a body of 64 MiB is never in
   * memory as a whole.
   */
  readonly body: Buffer | Iterable<Buffer>;
  readonly rows: number;
  /** The position that this batch reaches. It has no effect while the group is open. */
  readonly position: Position;
  /** undefined: unchanged; null: the snapshot has ended, and its requests are done. Not with an open batch. */
  readonly snapshot?: SnapshotProgress | null;
  /** It is a part and not the last one: `head` moves only with the group's last part. */
  readonly open: boolean;
  /** Changes to rows of prepared transactions, in the same transaction. Not with an open batch. */
  readonly held?: readonly HeldChange[];
  /** Changes to the tables' definitions, in the same transaction. Not with an open batch. */
  readonly definitions?: readonly DefinitionChange[];
  /** It has only row changes and may be merged with others (unsent-batches.ts). Absent: it stays as it is. */
  readonly mergeable?: MergeableBatch;
  /** The changed rows of the whole group, to be counted by their time. Not with an open batch, nor with a snapshot's own. */
  readonly committed?: CommittedRows;
}

/** What is needed to know whether merging a batch with others is worth it. */
export interface MergeableBatch {
  readonly tables: readonly TableDescription[];
  /** Hashes of some of its keys; called at most once, before `append` returns. */
  readonly sample: () => Uint32Array;
}

/** What a range of batches becomes. */
export interface MergedBatches {
  readonly bodies: readonly { readonly body: Buffer; readonly rows: number }[];
  readonly sample: Uint32Array;
}

/**
 * A change to the rows of a prepared (XA) transaction. `keep` makes the rows under the key survive a restart; it comes
 * when the position passes the PREPARE. `drop` deletes them.
 */
export type HeldChange =
  { readonly do: 'keep'; readonly key: string; readonly xid: string } | { readonly do: 'drop'; readonly key: string };

export interface StoredBatch {
  readonly seq: number;
  readonly previous: string;
  readonly digest: string;
  /** Size of its body. */
  readonly bytes: number;
  /** How many messages it takes. */
  readonly pieces: number;
  /** One of them, from 0. @throws TributaryError SPOOL_CORRUPT */
  piece(index: number): Buffer;
  /** All of them joined. */
  readonly body: Buffer;
  readonly rows: number;
  readonly open: boolean;
  /** Milliseconds since 1970. */
  readonly createdAt: number;
}

export interface SpoolUsage {
  /** Closed batches that the head office has not confirmed. */
  readonly waitingBatches: number;
  readonly waitingBytes: number;
  /** All kept batches, received or not, including those of an open group. */
  readonly totalBytes: number;
  readonly maxBytes: number;
  readonly fileBytes: number;
  readonly freeDiskBytes: number;
  readonly oldestWaitingAt: number | null;
  /** A batch may be appended. */
  readonly room: boolean;
}
