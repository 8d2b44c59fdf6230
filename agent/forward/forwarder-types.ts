/** What the forwarder needs, and what it reports. forwarder.ts explains the states. */
import type { TributaryError } from '../../shared/errors.ts';
import type { Answer } from '../../shared/protocol.ts';
import type { Spool } from '../spool/spool.ts';
import type { ConnectLink, ForwardLink } from './broker-link.ts';
import type { HelloFacts } from './hello.ts';
import type { BackOffs, LinkPolicy } from './rate-limit.ts';

export type ForwarderState =
  'stopped' | 'closed' | 'connecting' | 'greeting' | 'streaming' | 'refused' | 'backing-off' | 'superseded' | 'failed';

export interface ForwarderOptions {
  readonly spool: Spool;
  readonly connect: ConnectLink;
  readonly policy: LinkPolicy;
  /** Called at each hello, synchronously: the facts must be true for the spool's head at that moment. */
  readonly facts: () => HelloFacts;
  /** As `capturedThrough` of the facts, for each batch that is sent. Default: null. */
  readonly through?: () => string | null;
  readonly events: ForwarderEvents;
  readonly log: ForwarderLog;
  readonly now: () => number;
  /** In [0, 1). */
  readonly random: () => number;
  /** Between hellos while an answer is awaited; default 5,000. */
  readonly helloMs?: number;
  /** Between hellos while nothing is; default: by the policy's freshness (hello-pace.ts). */
  readonly idleHelloMs?: number;
  /** After this time without an answer a hello counts as lost; default 20,000. */
  readonly helloTimeoutMs?: number;
  /** Default 30,000; see sender.ts. */
  readonly stallMs?: number;
  /** The most that may be in flight; default 4 MiB and 256 batches. */
  readonly windowBytes?: number;
  readonly windowMessages?: number;
  /** Default: BACK_OFFS of rate-limit.ts. */
  readonly backOffs?: BackOffs;
}

export interface ForwarderEvents {
  /** The spool must begin a new epoch (`Spool.newEpoch`). Nothing is sent until then. */
  onNewEpoch(reason: 'forked' | 'behind'): void;
  /** The epoch is superseded, or the spool failed. Nothing more will be sent. */
  onStopped(error: TributaryError): void;
  /** A new batch would be sent at once. */
  onIdle(): void;
  /** An answer was acted on. It has the open requests, a halt, and the head office's watermarks. */
  onAnswer(answer: Answer): void;
}

/** What the parts of the forwarder report to it. */
export interface ForwarderHost {
  /** Runs what a timer, a link or a promise has caused. An error ends the forwarder. */
  guarded(work: () => void): void;
  linkOpened(link: ForwardLink): void;
  /** The link could not be opened, broke, or may be broken. A link that is open must be dropped. */
  linkFailed(error: unknown): void;
  /** @returns whether the answer is to a hello of this process */
  answered(body: Buffer): boolean;
  /** The head office wants a hello now. */
  woken(): void;
  /** The broker has confirmed a batch. */
  batchConfirmed(): void;
  /**
   * The broker has refused a batch (nack). Everything from the lowest unconfirmed batch on must be sent again, later.
   */
  batchRefused(error: TributaryError): void;
  /** Everything that may be sent at present was sent. */
  pumped(): void;
  /** Changes the state; `why` is a sentence for the log. */
  enter(state: ForwarderState, why: string): void;
  /** This epoch is superseded for good. */
  superseded(): void;
}

/** The part of a pino logger that is needed here. */
export interface ForwarderLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

export interface ForwarderStatus {
  readonly state: ForwarderState;
  /** When the state was entered, milliseconds since 1970. */
  readonly since: number;
  /** The last fault, until the next success. */
  readonly error: string | null;
  /** The same, with code and hint. */
  readonly fault: TributaryError | null;
  readonly connected: boolean;
  /** The broker has an alarm and takes no messages for now. */
  readonly blocked: boolean;
  /** By the policy alone: `syncing` opens the link outside the windows. */
  readonly windowOpen: boolean;
  readonly windowChangesAt: number | null;
  readonly syncing: boolean;
  readonly confirmed: number;
  /** Batches wait in the spool until they are as old as the policy's freshness, or somebody asks for them. */
  readonly holding: boolean;
  readonly inFlightBatches: number;
  readonly inFlightBytes: number;
  readonly windowBytes: number;
  readonly lastHelloAt: number | null;
  readonly lastAnswerAt: number | null;
  readonly lastAnswer: Answer | null;
  /** Since when another machine has used this branch's identity; null: no such machine is known. */
  readonly duplicateSince: number | null;
  readonly counters: Readonly<ForwarderCounters>;
}

/** Since the process started. */
export interface ForwarderCounters {
  /** Bodies given to the broker, repeats included. */
  sentBytes: number;
  sentBatches: number;
  confirmedBytes: number;
  confirmedBatches: number;
  rewinds: number;
  refusals: number;
  connections: number;
  failedConnections: number;
  hellos: number;
  answers: number;
  ignoredAnswers: number;
}

export interface SyncProgress {
  readonly waitingBatches: number;
  readonly waitingBytes: number;
  /** By the broker, since the process started. */
  readonly confirmedBytes: number;
  /** Why not everything is at the head office yet, as a sentence. */
  readonly obstacle: string;
}

export function freshCounters(): ForwarderCounters {
  return {
    sentBytes: 0,
    sentBatches: 0,
    confirmedBytes: 0,
    confirmedBatches: 0,
    rewinds: 0,
    refusals: 0,
    connections: 0,
    failedConnections: 0,
    hellos: 0,
    answers: 0,
    ignoredAnswers: 0,
  };
}
