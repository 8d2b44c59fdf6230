/**
 * The agent's status: the JSON behind its page, `/api/status` and `tributary-agent status --json`.
 * Times are ISO 8601 in UTC; what is not known is null, never a guess.
 */

import type { TrafficStatus } from '../forward/traffic.ts';
import type { HistoryView } from '../../shared/process/recent.ts';
import type { HeardStanding } from '../spool/standing.ts';

/** A fault that lasts, with what to do about it. */
export interface StatusError {
  readonly code: string;
  readonly message: string;
  readonly hint: string;
  readonly since: string;
}

/**
 * - `starting`: not yet at the binlog
 * - `capturing`: reading changes as they are committed (a snapshot may run meanwhile)
 * - `set-aside`: the same, without tables of which something cannot be carried (`setAside`)
 * - `full`: waits for room in the spool
 * - `failing`: capture is down and retries
 * - `stopped`: capture is down and needs a person
 * - `superseded`: a newer epoch of this branch has replaced this one for good
 */
export type AgentState = 'starting' | 'capturing' | 'set-aside' | 'full' | 'failing' | 'stopped' | 'superseded';

export interface TableStatus {
  readonly schema: string;
  readonly name: string;
  /** Its name at the head office. */
  readonly target: string;
  /** Changed rows read since this process began. */
  readonly rows: number;
}

export interface SnapshotTableStatus {
  readonly schema: string;
  readonly name: string;
  readonly state: 'waiting' | 'copying' | 'done';
  readonly rows: number;
  readonly estimatedRows: number | null;
}

/** A table whose rows are passed over, or that a snapshot brings back after that. */
export interface SetAsideStatus extends StatusError {
  readonly schema: string;
  readonly name: string;
  readonly state: 'aside' | 'returning';
}

/** One run of `sync`: the link is open until everything that waits is at the head office. */
export interface SyncStatus {
  readonly state: 'running' | 'done' | 'failed';
  readonly startedAt: string;
  /** Batches that waited when it began, or came since. */
  readonly totalBatches: number;
  readonly doneBatches: number;
  readonly waitingBytes: number;
  /** Sent over the last minute. */
  readonly bytesPerSecond: number;
  /** At that rate; null: nothing moves, or it has ended. */
  readonly secondsLeft: number | null;
  readonly error: StatusError | null;
}

/** Text, or a time that the reader's browser shows in the reader's zone; ISO. */
export type Part = string | { readonly time: string };

/** Something that is wrong, and the one thing to do about it. */
export interface Reason {
  readonly kind: 'warn' | 'bad';
  readonly title: string;
  readonly text: string;
  readonly cure: string;
  /** For the person who is called; null: there is none. */
  readonly code: string | null;
  /** ISO; null: not known. */
  readonly since: string | null;
}

export interface Sentence {
  /** How it looks: in order; under way; waits for its hour; deserves a look; needs a person. */
  readonly kind: 'good' | 'busy' | 'idle' | 'warn' | 'bad';
  readonly says: readonly Part[];
  /** What of later sales, and when that ends; empty: there is nothing to say. */
  readonly later: readonly Part[];
  /** What is wrong, worst first. */
  readonly reasons: readonly Reason[];
  /** Sync now would bring something to the head office that otherwise waits. */
  readonly syncHelps: boolean;
}

export interface AgentStatus {
  readonly program: 'tributary-agent';
  readonly version: string;
  readonly branch: string;
  readonly now: string;
  readonly startedAt: string;
  readonly state: AgentState;
  readonly error: StatusError | null;
  readonly capture: {
    /** `MySQL 9.7.4 at 127.0.0.1:3306`; null before the first connection. */
    readonly source: string | null;
    readonly lagSeconds: number | null;
    /** Everything committed until then is in the spool. */
    readonly capturedThrough: string | null;
    readonly position: { readonly file: string; readonly offset: number; readonly gtidSet: string } | null;
    readonly transactions: number;
    /** How many seconds the database's clock is ahead of this machine's, as last seen; negative: behind. */
    readonly serverAheadSeconds: number;
    /** Until the branch database may purge binlogs that were not read, if capture reads no more; null: no limit, or not known. */
    readonly binlogSecondsLeft: number | null;
    readonly tables: readonly TableStatus[];
  };
  readonly spool: {
    readonly waitingBatches: number;
    readonly waitingBytes: number;
    readonly totalBytes: number;
    readonly maxBytes: number;
    readonly oldestWaitingAt: string | null;
    readonly freeDiskBytes: number;
    /** Free disk that capture leaves alone. */
    readonly minFreeBytes: number;
    /** Until spool, disk or binlog retention runs out at today's rate; null: not in sight. */
    readonly secondsUntilFull: number | null;
    /** What need not be sent any more because batches were merged, since the start. */
    readonly collapsed: { readonly changes: number; readonly bytes: number };
    /** Bytes that waited, over the last hours. */
    readonly history: HistoryView;
  };
  readonly stream: {
    readonly epoch: string;
    readonly head: number;
    /** Held by the broker. */
    readonly confirmed: number;
    /** Committed at the head office; null before its first answer. */
    readonly received: number | null;
    /** In the head office's tables. */
    readonly applied: number | null;
  };
  readonly link: {
    readonly broker: string;
    readonly up: boolean;
    readonly windowOpen: boolean;
    readonly windows: readonly string[];
    readonly timeZone: string;
    /** When an open window closes; null: it does not. */
    readonly closesAt: string | null;
    /** When a closed one opens. */
    readonly opensAt: string | null;
    readonly maxBytesPerSecond: number;
    /** So old changes may become before they are sent; 0: they are sent at once. */
    readonly freshnessSeconds: number;
    /** Whether changes wait in the spool until they are that old. */
    readonly holding: boolean;
    /** Of batches that the broker has not confirmed, those that wait included. */
    readonly unsentBytes: number;
    /** Bodies of batches since the start. */
    readonly sentBytes: number;
    /** Bytes on the line. */
    readonly traffic: TrafficStatus;
    /** Over the last minute. */
    readonly bytesPerSecond: number;
    /** Until everything is sent, at that rate; null: it is, or nothing moves. */
    readonly secondsLeft: number | null;
    readonly unconfirmedBytes: number;
    readonly lastAnswerAt: string | null;
    readonly error: StatusError | null;
  };
  readonly snapshot: {
    readonly startedAt: string | null;
    readonly secondsLeft: number | null;
    readonly tables: readonly SnapshotTableStatus[];
  } | null;
  readonly setAside: readonly SetAsideStatus[];
  readonly sync: SyncStatus | null;
  /** What the head office last said of this branch, also before a restart; null: it has not answered yet. */
  readonly headOffice: HeardStanding | null;
  /** Changed rows by the time of their commit, of the last two days. */
  readonly committed: {
    readonly everySeconds: number;
    /** Beginnings in seconds since 1970, oldest first, each with the rows; quarters of an hour without rows are left out. */
    readonly slots: readonly (readonly [from: number, rows: number])[];
  };
  readonly sentence: Sentence;
}
