/**
 * What goes into the spool and what comes out of it.
 */
import type { Position, SnapshotProgress } from './stored-state.ts';

export interface SpoolOptions {
  readonly directory: string;
  readonly branch: string;
  /** Limit of all batches together; an open group may pass it. */
  readonly maxBytes: number;
  /** How long batches are kept that the head office has. */
  readonly keepAppliedMs: number;
  /** What must stay free on the disk, whatever happens. */
  readonly minFreeBytes: number;
  readonly now: () => number;
  /** Free bytes on the spool's disk; default: statfs. Injected by tests. */
  readonly freeDiskBytes?: () => number;
}

export interface BatchToAppend {
  /**
   * In one or several buffers. Several are made as they are asked for, and the spool releases them: a body of 64 MiB is
   * never in memory whole.
   */
  readonly body: Buffer | Iterable<Buffer>;
  readonly rows: number;
  /** Reached with this batch; of no effect while the group is open. */
  readonly position: Position;
  /** undefined: unchanged; null: it has ended, and its requests are done. Not with an open batch. */
  readonly snapshot?: SnapshotProgress | null;
  /** A part that is not the last: not part of `head` until the group's last part is appended. */
  readonly open: boolean;
  /** What happens to rows of prepared transactions in the same transaction. Not with an open batch. */
  readonly held?: readonly HeldChange[];
}

/**
 * Rows of a prepared (XA) transaction: `keep` makes those that were put under the key durable beyond a restart, as the
 * position passes the PREPARE; `drop` forgets them.
 */
export type HeldChange =
  { readonly do: 'keep'; readonly key: string; readonly xid: string } | { readonly do: 'drop'; readonly key: string };

export interface StoredBatch {
  readonly seq: number;
  readonly previous: string;
  readonly digest: string;
  /** Of its body. */
  readonly bytes: number;
  /** How many messages carry it. */
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
  /** Closed batches that the head office has not said it received. */
  readonly waitingBatches: number;
  readonly waitingBytes: number;
  /** All kept batches, received or not, open group included. */
  readonly totalBytes: number;
  readonly maxBytes: number;
  readonly fileBytes: number;
  readonly freeDiskBytes: number;
  readonly oldestWaitingAt: number | null;
  /** A batch may be appended. */
  readonly room: boolean;
}
