/**
 * The applier's status and that of the fleet: the JSON behind its page, `/api/status` and
 * `tributary-applier status --json`. Times are ISO 8601 in UTC; what is not known is null.
 */
import type { AgentReport } from '../../shared/protocol.ts';
import type { HistoryView } from '../../shared/process/recent.ts';
import type { BranchContents } from '../branches/branch-detail.ts';
import type { BranchState } from '../branches/branch-state.ts';

/** A fault that passes by itself, or that a person corrects outside the batch. The applier retries. */
export interface WaitingStatus {
  readonly code: string;
  readonly reason: string;
  readonly hint: string;
  /** When the first of the tries in a row failed. */
  readonly since: string;
  readonly tries: number;
}

export interface BranchStatus {
  readonly branch: string;
  /** The worst of `states`. */
  readonly state: BranchState;
  /** All that hold, worst first. */
  readonly states: readonly BranchState[];
  /** Last hello or batch. */
  readonly lastSeenAt: string | null;
  /** The head office holds all that the branch had committed then. */
  readonly completeThrough: string | null;
  readonly lagSeconds: number | null;
  /** How far behind it may be by its own `link.freshness`; 0: it sends at once. */
  readonly allowedLagSeconds: number;
  /** Whether it is online; null: it was never seen. */
  readonly online: boolean | null;
  /** Batches that the branch has (or had, when last seen) and the head office has not applied. */
  readonly backlogBatches: number | null;
  /** Batches applied a second, over the last minute. */
  readonly batchesPerSecond: number;
  readonly rowsPerSecond: number;
  /** Until the backlog is applied at that rate; null: there is none, or nothing moves. */
  readonly secondsLeft: number | null;
  /** When a branch that is not online should be heard from; null: it is online, or was never seen. */
  readonly expectedAt: string | null;
  /** From then on it counts as overdue. */
  readonly overdueAt: string | null;
  readonly receivedSeq: number;
  readonly appliedSeq: number;
  /** Rows written for it since this applier began. */
  readonly rowsWritten: number;
  readonly halted: {
    readonly code: string;
    readonly reason: string;
    readonly hint: string;
    /** The batch that halted it. */
    readonly seq: number;
    readonly since: string;
  } | null;
  /** Why applying waits; null: it does not. Only this applier knows: it is not in the database. */
  readonly waiting: WaitingStatus | null;
  /** Since when rows of it may be missing here; null: none are. */
  readonly incompleteSince: string | null;
  /** Entries in quarantine: rows that cannot be applied, and tables that do not fit. */
  readonly quarantined: number;
  /** When a table was last compared with the branch’s; null: never. */
  readonly verifiedAt: string | null;
  /** Tables that are set aside. */
  readonly setAsideTables: number;
  /** Tables whose rows are written without their history. */
  readonly stoppedHistories: number;
  /** Tables whose last comparison found a difference. */
  readonly differentTables: number;
  /** The last report of its agent. */
  readonly report: AgentReport | null;
}

/** One branch in detail. */
export interface BranchDetail extends BranchContents {
  readonly status: BranchStatus;
  readonly connectedSince: string | null;
  readonly addedAt: string;
  readonly epoch: string | null;
  /** Batches that it had not delivered, over the last hours, as far as this applier has been running. */
  readonly backlog: HistoryView;
}

export interface DependencyStatus {
  readonly name: string;
  readonly up: boolean;
  readonly error: { readonly code: string; readonly message: string; readonly hint: string } | null;
}

/** Sums over all branches, and which part of them is shown. */
export interface FleetSummary {
  readonly branches: number;
  /** Those that need a person, now or soon. */
  readonly troubled: number;
  /** Branches by each state that holds. */
  readonly states: Readonly<Record<BranchState, number>>;
  /** The oldest “complete as of”; null: none is known. */
  readonly completeThrough: string | null;
  /** What waits at the branches, by their last reports. */
  readonly spoolBytes: number;
  readonly rowsPerSecond: number;
  /** Branches that fit what was asked for. */
  readonly fitting: number;
  /** From 1. */
  readonly page: number;
  readonly pages: number;
}

export interface ApplierStatus {
  readonly program: 'tributary-applier';
  readonly version: string;
  /** This applier among several. */
  readonly instance: string;
  readonly now: string;
  readonly startedAt: string;
  readonly target: DependencyStatus;
  readonly broker: DependencyStatus;
  readonly fleet: FleetSummary;
  /** In `/api/status` the first hundred of those that were asked for, trouble first. */
  readonly branches: readonly BranchStatus[];
}
