/**
 * What the spool keeps besides the batches: the position in the binlog and the progress of the snapshot. It is stored
 * as JSON in the same transaction as the batch that reaches it. It is validated when it is read, because a spool file
 * is input too.
 */
import * as z from 'zod';
import type { SourceMark, Value } from '../../shared/batch/batch.ts';
import { TributaryError } from '../../shared/errors.ts';
import type { TableName } from '../../shared/table-name.ts';

/** The last event group taken. When capture resumes, it is read again and compared, which reveals another history. */
export interface LastGroup {
  readonly gtid: string | null;
  readonly file: string;
  readonly startOffset: number;
  readonly committedAt: string | null;
  /** Commit time at the server that committed it first; null: unknown, or stored by an older agent. */
  readonly originallyAt: string | null;
  /** CRC32 over the group's events, hex. */
  readonly fingerprint: string;
  /** GTIDs executed before the group: where to start to read it again. */
  readonly gtidSetBefore: string;
}

/** The end of an event group: closed batches have everything before it. */
export interface Position {
  readonly source: SourceMark;
  readonly lastGroup: LastGroup | null;
}

export interface SnapshotTable extends TableName {
  readonly state: 'waiting' | 'copying' | 'done';
  /** Key of the last row copied, in key order; null: none yet. */
  readonly lastKey: readonly Value[] | null;
  readonly rows: number;
  readonly estimatedRows: number | null;
}

export interface SnapshotProgress {
  readonly id: string;
  /** It copies all tables of the branch, as at the start of an epoch: the end marker also sweeps every other table. */
  readonly whole: boolean;
  /** Ids of the requests that it serves. They are done when it ends. */
  readonly requests: readonly string[];
  /** The start marker is in the spool. */
  readonly started: boolean;
  /** The end marker is in the spool. */
  readonly finished: boolean;
  readonly tables: readonly SnapshotTable[];
  /** Tables for the next snapshot: those that DDL changed, or that were requested, while this one runs. */
  readonly queued: readonly QueuedTable[];
  /** The next snapshot is of all tables. */
  readonly queuedWhole: boolean;
  /** Ids of the requests that the next snapshot serves. */
  readonly queuedRequests: readonly string[];
  /**
   * Since when rows at the head office are out of date until this snapshot ends, because a statement changed them without
   * row events; ISO; null: they are not. `queuedStaleSince` is the same for the next snapshot.
   */
  readonly staleSince: string | null;
  readonly queuedStaleSince: string | null;
  /** The rules that chose the tables when this was stored; null: not stored yet. */
  readonly rules: StoredRules | null;
  /** Tables whose rows are passed over, and those of them that a snapshot brings back. */
  readonly setAside: readonly SetAsideTable[];
  /** When tables were tried again of which only their rows show whether the cause is gone; ms since 1970. */
  readonly returnsTried: readonly number[];
  /** When epochs began because of an answer, and when copies that an answer asked for were queued; ms since 1970. */
  readonly askedEpochs: readonly number[];
  readonly askedCopies: readonly number[];
  /** Why the epoch began, for people; null: not stored. */
  readonly epochReason: string | null;
}

/** A table of which something cannot be carried exactly, while everything else goes on. */
export interface SetAsideTable extends TableName {
  /** `aside`: its rows are passed over. `returning`: they are taken again, and a snapshot brings the others. */
  readonly state: 'aside' | 'returning';
  /** Its rows at the head office are those of this time, or older; ISO. */
  readonly since: string;
  /** What the cause shows itself in: the catalogue, which can be asked again, or only the rows. */
  readonly shownBy: 'catalogue' | 'rows';
  /** The stream has told the head office. */
  readonly told: boolean;
  readonly code: string;
  readonly message: string;
  readonly hint: string;
}

/** `tables` of the configuration. */
export interface StoredRules {
  readonly include: readonly string[];
  readonly exclude: readonly string[];
  readonly map: Readonly<Record<string, string>>;
  readonly columns: Readonly<Record<string, 'omit' | 'null' | 'hash' | 'bytes'>>;
  /** Fingerprint of the key with which columns are hashed; '': no column is hashed. */
  readonly hashedBy: string;
}

/** A table to copy. */
export type QueuedTable = TableName;

const positionSchema = z.object({
  source: z.object({
    server: z.string(),
    gtidSet: z.string(),
    file: z.string(),
    offset: z.number(),
    committedAt: z.string().nullable(),
  }),
  lastGroup: z
    .object({
      gtid: z.string().nullable(),
      file: z.string(),
      startOffset: z.number(),
      committedAt: z.string().nullable(),
      originallyAt: z.string().nullable().default(null),
      fingerprint: z.string(),
      gtidSetBefore: z.string(),
    })
    .nullable(),
});

const snapshotSchema = z.object({
  id: z.string(),
  whole: z.boolean(),
  requests: z.array(z.string()),
  started: z.boolean(),
  finished: z.boolean(),
  tables: z.array(
    z.object({
      schema: z.string(),
      name: z.string(),
      state: z.enum(['waiting', 'copying', 'done']),
      lastKey: z.array(z.union([z.string(), z.number(), z.null()])).nullable(),
      rows: z.number(),
      estimatedRows: z.number().nullable(),
    }),
  ),
  queued: z.array(z.object({ schema: z.string(), name: z.string() })),
  queuedWhole: z.boolean(),
  queuedRequests: z.array(z.string()).default([]),
  staleSince: z.string().nullable().default(null),
  queuedStaleSince: z.string().nullable().default(null),
  rules: z
    .object({
      include: z.array(z.string()),
      exclude: z.array(z.string()),
      map: z.record(z.string(), z.string()),
      columns: z.record(z.string(), z.enum(['omit', 'null', 'hash', 'bytes'])).default({}),
      hashedBy: z.string().default(''),
    })
    .nullable()
    .default(null),
  setAside: z
    .array(
      z.object({
        schema: z.string(),
        name: z.string(),
        state: z.enum(['aside', 'returning']),
        since: z.string(),
        shownBy: z.enum(['catalogue', 'rows']),
        told: z.boolean(),
        code: z.string(),
        message: z.string(),
        hint: z.string(),
      }),
    )
    .default([]),
  returnsTried: z.array(z.number()).default([]),
  askedEpochs: z.array(z.number()).default([]),
  askedCopies: z.array(z.number()).default([]),
  epochReason: z.string().nullable().default(null),
});

const requestsSchema = z.array(z.string());

/** @throws TributaryError SPOOL_CORRUPT */
export function readPosition(text: string): Position {
  return stored('position', positionSchema, text);
}

/** @throws TributaryError SPOOL_CORRUPT */
export function readSnapshot(text: string): SnapshotProgress {
  return stored('snapshot progress', snapshotSchema, text);
}

/** @throws TributaryError SPOOL_CORRUPT */
export function readRequests(text: string): string[] {
  return stored('list of done requests', requestsSchema, text);
}

function stored<T>(what: string, schema: z.ZodType<T>, text: string): T {
  try {
    return schema.parse(JSON.parse(text));
  } catch (error) {
    throw new TributaryError('SPOOL_CORRUPT', `The ${what} in the spool cannot be read.`, { cause: error });
  }
}
