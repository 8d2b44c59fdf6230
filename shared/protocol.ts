/**
 * The rules between agent and head office as pure functions, from state and message to new state and reply. The model
 * test runs the same functions as production. See docs/explanation/protocol.md.
 */
import { firstDigest } from './batch/batch.ts';
import type { BatchHeader, StreamMark } from './batch/batch.ts';
import type { TableName } from './table-name.ts';

/** What an agent sends when it connects, every few seconds while it waits for something, and rarely otherwise. */
export interface Hello {
  readonly v: 1;
  readonly branch: string;
  /** Random, new for each hello. The answer repeats it. */
  readonly nonce: string;
  /** Identifies the agent's process. */
  readonly instance: string;
  readonly epoch: string;
  /** The last batch of a closed group. */
  readonly head: StreamMark;
  /** The last pruned batch. */
  readonly baseSeq: number;
  /** The broker has confirmed everything up to this batch. Goes back on a rewind. */
  readonly confirmed: number;
  /** The head office's epoch as of the last answer; null: none. This hello may supersede only that epoch. */
  readonly replaces: string | null;
  /** Everything committed at the branch until this time (ISO) is in batches up to head.seq; null: not known yet. */
  readonly capturedThrough: string | null;
  readonly sentAt: string;
  /** The next hello follows within this time, if the link stays up. Absent: within a few seconds (an older agent). */
  readonly nextWithinSeconds?: number | undefined;
  /**
   * The branch's server was restarted while the agent did not watch it, so changes that are not in the binlog may have
   * been made. The head office is asked for a comparison, in every hello until it has requested one.
   */
  readonly compare?: boolean | undefined;
  /** Why the epoch began, for people; in hellos until the head office has registered it, from agents that know it. */
  readonly epochReason?: string | undefined;
  /** For people and metrics, never for decisions. */
  readonly report: AgentReport;
}

/** An agent's state, for the head office's page and /metrics/branches. All numbers are finite. */
export interface AgentReport {
  readonly version: string;
  /** Kinds of requests that the agent can answer, beside snapshots; and `wake`, if it says hello when it is woken. */
  readonly capabilities: readonly string[];
  readonly state: string;
  readonly spoolBatches: number;
  readonly spoolBytes: number;
  readonly outlook: AgentOutlook;
  /** Seconds until spool, disk or binlog retention is used up at today's rate; null: not foreseeable. */
  readonly secondsUntilFull: number | null;
  readonly captureLagSeconds: number | null;
  readonly snapshot: {
    readonly tablesDone: number;
    readonly tables: number;
    readonly rows: number;
    /** At the present rate; null: not known. */
    readonly secondsLeft: number | null;
  } | null;
  readonly windows: readonly string[];
  /** `link.freshness`: changes may be that old before they are sent. Absent: they are sent at once. */
  readonly freshnessSeconds?: number | undefined;
  /** Bytes on the line, both ways, of the branch's present day and month. Absent: an older agent. */
  readonly traffic?: { readonly today: number; readonly month: number } | undefined;
  /** IANA name of the windows' time zone. */
  readonly timeZone: string;
  /** The branch's database, as in `MySQL 9.7.4 at 127.0.0.1:3306`; null: not connected yet. */
  readonly source: string | null;
  /** Tables that are set aside, or are being copied after that; at most MAX_REPORTED_TABLES. Absent: an older agent. */
  readonly setAside?: readonly ReportedTable[] | undefined;
  /** Changes when another configuration of `tables` counts. Absent: an older agent, or none counts yet. */
  readonly choice?: string | undefined;
  readonly error: string | null;
  /** That somebody has asked for a sync, in hellos until one with it was answered. */
  readonly sync?: AskedSync | undefined;
}

/** That somebody has asked a branch to send all that waits. */
export interface AskedSync {
  readonly id: string;
  /** ISO. */
  readonly at: string;
  /** At most MAX_ASKER characters. */
  readonly by: string;
}

export const MAX_ASKER = 200;

/** A report names no more tables. */
export const MAX_REPORTED_TABLES = 50;

/** A table that the branch does not carry at present. */
export interface ReportedTable extends TableName {
  /** Since when its rows here are out of date, ISO. */
  readonly since: string;
  readonly code: string;
  readonly reason: string;
}

/** When the agent's resources run out. */
export interface AgentOutlook {
  /**
   * Until the branch database may purge binlogs that capture has not read, if it reads no more; null: no limit, or not
   * known.
   */
  readonly binlogSecondsLeft: number | null;
  readonly diskFreeBytes: number;
  /** When the first certificate expires, ISO 8601; null: no certificate is used. */
  readonly certificateExpiresAt: string | null;
}

/** What the head office asks of a branch. A request is open, and in every answer, until a batch has answered it. */
export interface BranchRequest {
  readonly id: string;
  /**
   * `snapshot`: copy these tables; `verify`: compare them with the head office's rows; `rows`: say what these rows of
   * one table are, so that the head office can name what differs; `repair`: the same, and the head office takes them.
   */
  readonly kind: RequestKind;
  /** By source schema and the name at the head office; null: all tables. */
  readonly tables: readonly TableName[] | null;
  /** Of `verify`: the sums shall be a sketch (row-sketch.ts). */
  readonly sketch?: boolean | undefined;
  /** Of `rows` and `repair`: the names of the rows (row-sums.ts), one after the other in base64. */
  readonly rows?: string | undefined;
}

export type RequestKind = 'snapshot' | 'verify' | 'rows' | 'repair';

/** An agent with this capability makes sketches, and answers requests of the kinds `rows` and `repair`. */
export const ROWS_CAPABILITY = 'rows';

export type Verdict = 'current' | 'superseded' | 'unknown';

/** What the head office answers to exactly one hello. */
export interface Answer {
  readonly v: 1;
  readonly inReplyTo: string;
  /** The hello's baseSeq. */
  readonly baseEcho: number;
  /** The head office's epoch for the branch; null: none registered. */
  readonly epoch: string | null;
  readonly verdict: Verdict;
  readonly received: StreamMark;
  readonly applied: StreamMark;
  /** How many batches wait in the branch's queue. */
  readonly queued: number;
  readonly resend: { readonly from: number; readonly to: number } | null;
  /** The hello before came from another instance: the process was restarted, or there are two machines. */
  readonly displaced: boolean;
  /** Open requests, the oldest first. */
  readonly requests: readonly BranchRequest[];
  readonly halted: { readonly code: string; readonly reason: string } | null;
  /** What the head office understands beyond the first version of this protocol. Absent: nothing. */
  readonly capabilities?: readonly string[] | undefined;
  /**
   * Tables, by their names at the head office, whose history it keeps: batches are to keep each change of their rows
   * (shared/batch/versions.ts). Absent: none. An older agent ignores it.
   */
  readonly history?: readonly string[] | undefined;
  /** The batches by which this applier has kept a dictionary (shared/broker/slim-batch.ts). Absent: none. */
  readonly dictionaries?: readonly number[] | undefined;
  /** For people at the branch, never for decisions. Absent: an older head office, or the epoch is not current. */
  readonly standing?: SentStanding | undefined;
}

/** How a branch stands at the head office, as of an answer. */
export interface BranchStanding {
  /** By the head office's clock, ISO. */
  readonly at: string;
  /** Everything committed at the branch until then is there, but for tables that are set aside; ISO; null: never yet. */
  readonly completeThrough: string | null;
  /** Rows committed after that time may be missing, until a snapshot has ended or the quarantine is empty. */
  readonly incomplete: boolean;
  /** Rows and tables in quarantine. */
  readonly quarantined: number;
  readonly setAsideTables: number;
  /** Tables whose last comparison found a difference. */
  readonly differentTables: number;
}

type Trouble = Omit<BranchStanding, 'at' | 'completeThrough'>;
/** On the wire: what is in order is left out, since every answer carries it. */
export type SentStanding = Omit<BranchStanding, keyof Trouble> & {
  readonly [K in keyof Trouble]?: Trouble[K] | undefined;
};

export function sentStanding({ at, completeThrough, ...trouble }: BranchStanding): SentStanding {
  return { at, completeThrough, ...Object.fromEntries(Object.entries(trouble).filter(([, value]) => Boolean(value))) };
}

/** A time that is none is taken for not known. */
export function receivedStanding({ at, completeThrough, ...trouble }: SentStanding): BranchStanding {
  const { incomplete = false, quarantined = 0, setAsideTables = 0, differentTables = 0 } = trouble;
  const through = completeThrough !== null && isTime(completeThrough) ? completeThrough : null;
  return { at, completeThrough: through, incomplete, quarantined, setAsideTables, differentTables };
}

/** Whether the text is a time that can be read. */
export function isTime(text: string): boolean {
  return Number.isFinite(Date.parse(text));
}

/**
 * The head office takes from the stream which tables are set aside, and what it is complete as of then. For another head
 * office the agent says instead that nothing is complete beyond that time.
 */
export const KNOWS_SET_ASIDE = 'set-aside';
/** The head office reads when the next hello comes. Another one takes a branch for offline after 30 s without a hello. */
export const KNOWS_PACE = 'pace';
/** The head office reads brief hellos, and answers them briefly (shared/broker/brief.ts). */
export const KNOWS_BRIEF = 'brief';
/** The head office reads slim batches (shared/broker/slim-batch.ts). */
export const KNOWS_SLIM = 'slim';

// ---------------------------------------------------------------------------------------------------------------
// Head office

/** What the head office stores about a branch's stream. It is read and written under the lock on the branch's row. */
export interface HeadOfficeStream {
  readonly epoch: string | null;
  readonly superseded: readonly string[];
  readonly instance: string | null;
  readonly received: StreamMark;
  readonly applied: StreamMark;
}

/** What else the applier knows when it answers a hello. */
export interface HelloFacts {
  /** Messages in the branch's queue, and those that this applier has not acknowledged. */
  readonly queued: number;
  /** The lowest seq of an early batch in the inbox; null: there is none. */
  readonly firstEarly: number | null;
  readonly requests: readonly BranchRequest[];
  readonly halted: { readonly code: string; readonly reason: string } | null;
  /** Tables whose history is kept. */
  readonly history?: readonly string[];
  /** Batches of the hello's epoch by which dictionaries were kept. */
  readonly dictionaries?: readonly number[];
}

export interface HelloOutcome {
  readonly stream: HeadOfficeStream;
  /** A new epoch was registered: inbox, parts, snapshots and halt of the old one must be cleared with it. */
  readonly registered: boolean;
  readonly answer: Answer;
}

/** Judges a hello: registers an epoch that replaces exactly the present one, and makes the answer. */
export function receiveHello(stream: HeadOfficeStream, hello: Hello, facts: HelloFacts): HelloOutcome {
  let next = stream;
  let registered = false;
  let verdict: Verdict;
  let displaced = false;
  if (hello.epoch === stream.epoch) {
    verdict = 'current';
    displaced = stream.instance !== null && stream.instance !== hello.instance;
    if (stream.instance !== hello.instance) next = { ...stream, instance: hello.instance };
  } else if (stream.superseded.includes(hello.epoch)) {
    verdict = 'superseded';
  } else if (hello.replaces === stream.epoch) {
    verdict = 'current';
    registered = true;
    displaced = stream.instance !== null && stream.instance !== hello.instance;
    const start: StreamMark = { seq: 0, digest: firstDigest(hello.branch, hello.epoch) };
    next = {
      epoch: hello.epoch,
      superseded: stream.epoch === null ? stream.superseded : [...stream.superseded, stream.epoch],
      instance: hello.instance,
      received: start,
      applied: start,
    };
  } else {
    verdict = 'unknown';
  }
  const queued = facts.queued;
  const early = registered ? null : facts.firstEarly;
  const received = next.received;
  let resend: Answer['resend'] = null;
  if (verdict === 'current' && hello.confirmed > received.seq && queued === 0) {
    const to = early === null ? hello.confirmed : Math.min(hello.confirmed, early - 1);
    if (to > received.seq) resend = { from: received.seq + 1, to };
  }
  return {
    stream: next,
    registered,
    answer: {
      v: 1,
      inReplyTo: hello.nonce,
      baseEcho: hello.baseSeq,
      epoch: next.epoch,
      verdict,
      received,
      applied: next.applied,
      queued,
      resend,
      displaced,
      requests: facts.requests,
      // A new epoch ends a halt: the batch that caused it will never come again.
      halted: registered ? null : facts.halted,
      capabilities: [KNOWS_SET_ASIDE, KNOWS_PACE, KNOWS_BRIEF, KNOWS_SLIM],
      ...(facts.dictionaries === undefined || facts.dictionaries.length === 0
        ? {}
        : { dictionaries: facts.dictionaries }),
      ...(facts.history === undefined || facts.history.length === 0 ? {} : { history: facts.history }),
    },
  };
}

/** How far after `received` a batch may be to be kept in the inbox. */
export const EARLY_WINDOW = 1000;

/**
 * - `next`: the batch that follows; apply it.
 * - `early`: keep it in the inbox; `too-early`: acknowledge and drop it (the branch is asked for it again).
 * - `repeated`, `foreign`: acknowledge and drop it. `forked`: the same, and report it.
 */
export type BatchVerdict = 'next' | 'early' | 'too-early' | 'repeated' | 'foreign' | 'forked';

export function judgeBatch(stream: HeadOfficeStream, header: BatchHeader): BatchVerdict {
  if (header.epoch !== stream.epoch) return 'foreign';
  if (header.seq <= stream.received.seq) return 'repeated';
  if (header.seq === stream.received.seq + 1) return header.previous === stream.received.digest ? 'next' : 'forked';
  return header.seq <= stream.received.seq + EARLY_WINDOW ? 'early' : 'too-early';
}

// ---------------------------------------------------------------------------------------------------------------
// Agent

/** What the spool stores about the agent's stream. */
export interface AgentStream {
  readonly branch: string;
  readonly epoch: string;
  /** The last pruned batch. */
  readonly base: StreamMark;
  /** The last batch of a closed group. */
  readonly head: StreamMark;
  /** The last batch that the head office has received, as of the last answer acted on. It may go down. */
  readonly receivedSeq: number;
  /** The head office's epoch, as of the last answer acted on; null: it had none. */
  readonly acknowledgedEpoch: string | null;
  readonly superseded: boolean;
}

export type AgentAction =
  | { readonly do: 'ignore' }
  /** The answer contradicts itself or the hello, so no head office with these rules has sent it. Do not act on it. */
  | { readonly do: 'refuse'; readonly reason: string }
  /** Superseded for good: store that, stop, and report it. */
  | { readonly do: 'stop' }
  /** Store `acknowledgedEpoch`, stop sending, say hello again: the next hello claims to replace that epoch. */
  | { readonly do: 'claim'; readonly acknowledgedEpoch: string | null }
  | { readonly do: 'new-epoch'; readonly reason: 'forked' | 'behind' }
  /** Store `receivedSeq`; batches up to it may be forgotten; send again what is asked for. */
  | { readonly do: 'advance'; readonly receivedSeq: number; readonly resend: Answer['resend'] };

/**
 * What an agent does about an answer that its HelloLedger has accepted.
 * @param digestAt the agent's own digest at a batch; null: the batch was pruned
 */
export function judgeAnswer(
  stream: AgentStream,
  answer: Answer,
  digestAt: (seq: number) => string | null,
): AgentAction {
  if (stream.superseded) return { do: 'ignore' };
  const wrong = contradiction(stream, answer);
  if (wrong !== null) return { do: 'refuse', reason: wrong };
  if (answer.verdict === 'superseded') return { do: 'stop' };
  if (answer.epoch !== stream.epoch) return { do: 'claim', acknowledgedEpoch: answer.epoch };
  const { received } = answer;
  if (received.seq > stream.head.seq) return { do: 'new-epoch', reason: 'forked' };
  if (received.seq < stream.base.seq) {
    // An answer to a hello from before the last pruning is only old. An answer to a newer one proves that the head
    // office has lost batches that were pruned.
    return received.seq < answer.baseEcho ? { do: 'new-epoch', reason: 'behind' } : { do: 'ignore' };
  }
  if (digestAt(received.seq) !== received.digest) return { do: 'new-epoch', reason: 'forked' };
  return { do: 'advance', receivedSeq: received.seq, resend: answer.resend };
}

/** What is wrong with an answer to a hello of the present epoch; null: nothing is. */
function contradiction({ epoch, base, head }: AgentStream, answer: Answer): string | null {
  const { verdict, received, applied, baseEcho, resend } = answer;
  if ((verdict === 'current') !== (answer.epoch === epoch)) {
    return `it calls epoch ${epoch} ${verdict}, and has ${answer.epoch ?? 'none'}`;
  }
  if (verdict !== 'current') return resend === null ? null : 'it asks for batches of an epoch that it does not have';
  if (baseEcho > base.seq) return `it echoes a pruning through ${baseEcho}, and nothing beyond ${base.seq} was pruned`;
  if (applied.seq > received.seq) return `it has applied ${applied.seq} and received ${received.seq}`;
  if (resend === null) return null;
  const follows = resend.from === received.seq + 1 && resend.from <= resend.to && resend.to <= head.seq;
  return follows ? null : `it asks for ${resend.from} to ${resend.to} of ${head.seq}, having received ${received.seq}`;
}

/**
 * Which answers may be acted on: those to a hello of this process that is newer than the barrier and newer than the
 * hello of the last answer acted on. Each rewind, new epoch and start moves the barrier to the newest hello. (Not only
 * the answer to the newest hello: if hellos are faster than the round trip, there would never be one.)
 */
export class HelloLedger {
  /** Unanswered nonces in order of issue. Their number is limited; the oldest are forgotten. */
  readonly #nonces = new Map<string, number>();
  #issued = 0;
  #barrier = 0;

  static readonly maxOutstanding = 64;

  issue(nonce: string): void {
    this.#issued += 1;
    this.#nonces.set(nonce, this.#issued);
    for (const old of this.#nonces.keys()) {
      if (this.#nonces.size <= HelloLedger.maxOutstanding) break;
      this.#nonces.delete(old);
    }
  }

  /** Answers to hellos until now may not be acted on any more. */
  raiseBarrier(): void {
    this.#barrier = this.#issued;
  }

  /** Whether this process has sent a hello with this nonce that was not answered yet. */
  issued(nonce: string): boolean {
    return this.#nonces.has(nonce);
  }

  /** Whether the answer may be acted on: true at most once for each nonce. */
  accept(inReplyTo: string): boolean {
    const order = this.#nonces.get(inReplyTo);
    if (order === undefined || order <= this.#barrier) return false;
    this.#barrier = order;
    this.#nonces.delete(inReplyTo);
    return true;
  }
}
