/**
 * What goes into the forwarder and what it says of itself. The states are explained in forwarder.ts.
 */
import type { TributaryError } from '../../shared/errors.ts';
import type { Answer } from '../../shared/protocol.ts';
import type { Spool } from '../spool/spool.ts';
import type { ConnectLink } from './broker-link.ts';
import type { HelloFacts } from './hello.ts';
import type { BackOffs, LinkPolicy } from './rate-limit.ts';

export type ForwarderState =
  'stopped' | 'closed' | 'connecting' | 'greeting' | 'streaming' | 'refused' | 'backing-off' | 'superseded' | 'failed';

export interface ForwarderOptions {
  readonly spool: Spool;
  readonly connect: ConnectLink;
  readonly policy: LinkPolicy;
  /** Called at each hello, synchronously: what it says must hold for the spool's head at that moment. */
  facts(): HelloFacts;
  readonly events: ForwarderEvents;
  readonly log: ForwarderLog;
  readonly now: () => number;
  /** In [0, 1). */
  readonly random: () => number;
  /** Between hellos; default 5,000. */
  readonly helloMs?: number;
  /** A hello without an answer for so long is given up; default 20,000. */
  readonly helloTimeoutMs?: number;
  /** Default 30,000; see sender.ts. */
  readonly stallMs?: number;
  /** Ceiling of what is on its way; default 4 MiB and 256 batches. */
  readonly windowBytes?: number;
  readonly windowMessages?: number;
  /** Default: BACK_OFFS of rate-limit.ts. */
  readonly backOffs?: BackOffs;
}

export interface ForwarderEvents {
  /** The spool must begin a new epoch (`Spool.newEpoch`); nothing is sent until it has. */
  onNewEpoch(reason: 'forked' | 'behind'): void;
  /** Superseded, or the spool failed. Nothing more will be sent. */
  onStopped(error: TributaryError): void;
  /** A fresh batch would leave at once. */
  onIdle(): void;
  /** An answer was acted on: open snapshot requests, a halt, the head office's watermarks. */
  onAnswer(answer: Answer): void;
}

/** The part of a logger that is needed here; pino's fits. */
export interface ForwarderLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

export interface ForwarderStatus {
  readonly state: ForwarderState;
  /** When it was entered, milliseconds since 1970. */
  readonly since: number;
  /** The last fault, until the next success. */
  readonly error: string | null;
  /** The same, with code and cure. */
  readonly fault: TributaryError | null;
  readonly connected: boolean;
  /** The broker has an alarm and takes nothing for now. */
  readonly blocked: boolean;
  /** Of the policy alone; `syncing` opens the link all the same. */
  readonly windowOpen: boolean;
  readonly windowChangesAt: number | null;
  readonly syncing: boolean;
  readonly confirmed: number;
  readonly inFlightBatches: number;
  readonly inFlightBytes: number;
  readonly windowBytes: number;
  readonly lastHelloAt: number | null;
  readonly lastAnswerAt: number | null;
  readonly lastAnswer: Answer | null;
  /** Since when another machine has been talking under this branch's identity; null: none that is known of. */
  readonly twinSince: number | null;
  readonly counters: Readonly<ForwarderCounters>;
}

/** Since the process started. */
export interface ForwarderCounters {
  /** Bodies handed to the broker, repeats included. */
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
  /** What stands in the way, as a sentence. */
  readonly hindrance: string;
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
