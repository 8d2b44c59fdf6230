/** What capture is made with, and what it says of itself. */
import type { TributaryError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/process/logging.ts';
import type { BinlogConnection } from '../binlog/binlog-stream.ts';
import type { SourceConnection, SourceIdentity } from '../source/connection.ts';
import type { TableFilter } from '../source/table-filter.ts';
import type { Spool } from '../spool/spool.ts';
import type { CaptureCounters } from '../stream/sink.ts';

/** How capture learns about the link, which decides when a batch leaves for the spool. */
export interface Link {
  /** Whether the forwarder could send a new batch at once. */
  readonly canSend: () => boolean;
  /** Whether the link is up, so that changes wait only briefly. */
  readonly online: () => boolean;
  /** How long changes gather in the open batch while the link is up; 0: a lone commit leaves at once. */
  readonly gatherMs: () => number;
  /** Whether small batches are spooled as text, because the link packs them. */
  readonly packs: () => boolean;
}

export interface CaptureOptions extends Link {
  readonly branch: string;
  readonly spool: Spool;
  readonly tableFilter: TableFilter;
  readonly connection: BinlogConnection;
  /** @param stallMs longest silence of a query, if it is not the usual one */
  readonly connect: (stallMs?: number) => Promise<SourceConnection>;
  readonly logger: Logger;
  readonly counters: CaptureCounters;
  readonly now: () => number;
}

export type SessionState = 'resuming' | 'streaming' | 'waiting-for-room' | 'ended';

export type CaptureState = 'stopped' | 'connecting' | 'backing-off' | 'halted' | Exclude<SessionState, 'ended'>;

export interface CaptureStatus {
  readonly state: CaptureState;
  /** What keeps capture from going on; a fault that is retried stays here until the stream has passed what it held up. */
  readonly error: TributaryError | null;
  /** When it came first, ISO. */
  readonly errorSince: string | null;
  readonly identity: SourceIdentity | null;
  /** Seconds that capture is behind the branch; 0: it has seen everything; null: unknown. */
  readonly lagSeconds: number | null;
  readonly capturedThrough: string | null;
  /** Seconds until the server may purge binlogs that were not read, if capture reads no more; null: no limit, or unknown. */
  readonly binlogSecondsLeft: number | null;
  /** How many seconds the server's clock is ahead of this machine's, as last seen; negative: behind. */
  readonly serverAheadSeconds: number;
  /** Events read since the process began; together with the state it shows whether capture moves. */
  readonly events: number;
}
