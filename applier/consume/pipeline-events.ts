/** What pipelines report for metrics and the page. Listeners only count, they never decide. */
import type { ErrorCode } from '../../shared/errors.ts';
import type { BatchVerdict } from '../../shared/protocol.ts';
import type { BranchRow } from '../store/branch-row.ts';
import type { HelloResult } from './hello-handler.ts';

export interface AppliedCounts {
  readonly batches: number;
  readonly upserts: number;
  readonly deletes: number;
  /** Bytes of the compressed bodies. */
  readonly bytes: number;
  /** How long the transaction took. */
  readonly seconds: number;
}

/**
 * What was wrong with a batch: its sender, the branch that it names, its header or fragment, its digest. Or it was a
 * hello.
 */
export const REFUSAL_REASONS = ['sender', 'branch', 'malformed', 'digest', 'hello'] as const;
export type RefusalReason = (typeof REFUSAL_REASONS)[number];

export interface PipelineEvents {
  /** Batches were applied and committed. */
  applied(branch: string, counts: AppliedCounts, row: BranchRow): void;
  /** A batch was not applied; one that is `early` is kept. */
  ignored(branch: string, verdict: Exclude<BatchVerdict, 'next'>): void;
  /** A batch before those that have arrived is missing. */
  gap(branch: string): void;
  /** A message was refused: it is malformed, or the branch's own user did not publish it. */
  refused(branch: string, reason: RefusalReason): void;
  /** Something failed: the branch is halted, or it retries. */
  failed(branch: string, code: ErrorCode): void;
  /** `waiting`: messages in the branch's queue. */
  hello(branch: string, result: HelloResult, waiting: number): void;
}

/** Ignores every event: a base for listeners to some of them. */
export const NO_EVENTS: PipelineEvents = {
  applied: () => undefined,
  ignored: () => undefined,
  gap: () => undefined,
  refused: () => undefined,
  failed: () => undefined,
  hello: () => undefined,
};
