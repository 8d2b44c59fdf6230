/** What pipelines tell of themselves, for metrics and the page. Listeners only count: they never decide. */
import type { ErrorCode } from '../../shared/errors.ts';
import type { BatchVerdict } from '../../shared/protocol.ts';
import type { BranchRow } from '../store/branch-row.ts';
import type { HelloResult } from './hello-handler.ts';

export interface AppliedCounts {
  readonly batches: number;
  readonly upserts: number;
  readonly deletes: number;
  /** Of the compressed bodies. */
  readonly bytes: number;
  /** How long the transaction took. */
  readonly seconds: number;
}

/** What was wrong with a message: its sender, the branch it names, its header or fragment, its digest; or it is a hello. */
export const REFUSAL_REASONS = ['sender', 'branch', 'malformed', 'digest', 'hello'] as const;
export type RefusalReason = (typeof REFUSAL_REASONS)[number];

export interface PipelineEvents {
  /** Committed. */
  applied(branch: string, counts: AppliedCounts, row: BranchRow): void;
  /** A batch was not applied now; `early` ones are kept. */
  ignored(branch: string, verdict: Exclude<BatchVerdict, 'next'>): void;
  /** Batches came out of order: one or more before them are missing. */
  gap(branch: string): void;
  /** A message was thrown away: malformed, or not from the branch's own user. */
  refused(branch: string, reason: RefusalReason): void;
  halted(branch: string, row: BranchRow): void;
  /** Something failed that no batch is to blame for, and is tried again. */
  retried(branch: string, code: ErrorCode): void;
  /** `waiting`: messages in the branch's queue. */
  hello(branch: string, result: HelloResult, waiting: number): void;
  /** The head office is complete as of this time (ISO 8601). */
  complete(branch: string, through: string | null): void;
}

/** Listens to nothing; a base for listeners that want only some. */
export const NO_EVENTS: PipelineEvents = {
  applied: () => undefined,
  ignored: () => undefined,
  gap: () => undefined,
  refused: () => undefined,
  halted: () => undefined,
  retried: () => undefined,
  hello: () => undefined,
  complete: () => undefined,
};
