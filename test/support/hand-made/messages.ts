/** Hellos, answers and headers of batches with nothing special about them; a test names only what it is about. */
import { firstDigest, nextDigest } from '../../../shared/batch/batch.ts';
import type { BatchHeader, StreamMark } from '../../../shared/batch/batch.ts';
import { readAnyAnswer, readAnyHello } from '../../../shared/broker/amqp-messages.ts';
import type { AgentReport, Answer, BranchRequest, Hello } from '../../../shared/protocol.ts';

const BRANCH = 'paris';
const EPOCH = 'epoch';
const REPORT: AgentReport = {
  version: 'test',
  capabilities: [],
  state: 'capturing',
  spoolBatches: 0,
  spoolBytes: 0,
  outlook: { binlogSecondsLeft: null, diskFreeBytes: 0, certificateExpiresAt: null },
  secondsUntilFull: null,
  captureLagSeconds: null,
  snapshot: null,
  windows: [],
  timeZone: 'UTC',
  source: null,
  error: null,
};

/** The mark before the first batch of an epoch. */
export function startOf(branch: string, epoch: string): StreamMark {
  return { seq: 0, digest: firstDigest(branch, epoch) };
}

export function makeReport(changes: Partial<AgentReport> = {}): AgentReport {
  return { ...REPORT, ...changes };
}

/** By default the hello of a branch without batches. */
export function makeHello(changes: Partial<Hello> = {}): Hello {
  const { branch = BRANCH, epoch = EPOCH } = changes;
  return {
    v: 1,
    branch,
    nonce: 'nonce',
    instance: 'instance',
    epoch,
    head: startOf(branch, epoch),
    baseSeq: 0,
    confirmed: 0,
    replaces: null,
    capturedThrough: null,
    sentAt: '2026-11-22T10:00:00.000Z',
    report: REPORT,
    ...changes,
  };
}

/** By default the answer to the hello of an epoch without batches that is registered. */
export function makeAnswer(changes: Partial<Answer> = {}): Answer {
  const start = startOf(BRANCH, EPOCH);
  return {
    v: 1,
    inReplyTo: 'nonce',
    baseEcho: 0,
    epoch: EPOCH,
    verdict: 'current',
    received: start,
    applied: start,
    queued: 0,
    resend: null,
    displaced: false,
    requests: [],
    halted: null,
    ...changes,
  };
}

/** The header of the batch that follows a mark. */
export function headerAfter(before: StreamMark, branch: string, epoch: string, body: Uint8Array): BatchHeader {
  return { branch, epoch, seq: before.seq + 1, previous: before.digest, digest: nextDigest(before.digest, body) };
}

/** A request for a snapshot of all tables. */
export function snapshotOfAll(id: string): BranchRequest {
  return { id, kind: 'snapshot', tables: null };
}

/** A whole hello. @throws TributaryError MESSAGE_INVALID */
export function readHello(body: Buffer): Hello {
  const hello = readAnyHello(body);
  if ('since' in hello) throw new Error('the hello is a brief one');
  return hello;
}

/** A whole answer. @throws TributaryError MESSAGE_INVALID */
export function readAnswer(body: Buffer): Answer {
  const answer = readAnyAnswer(body);
  if ('since' in answer) throw new Error('the answer is a brief one');
  return answer;
}
