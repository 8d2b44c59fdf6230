/**
 * Names at the broker and its kinds of messages: batch, hello, answer and wake. Pure: there is no connection here.
 *
 * No message has a content type, so that no client library parses a body by itself. A message that
 * arrives is not trusted: its size is checked before it is parsed, and every field is validated. A message that is not
 * valid throws MESSAGE_INVALID. The receiver acknowledges it, reports it and does not use it.
 */
import * as z from 'zod';
import { MAX_HISTORY_TABLES } from '../batch/versions.ts';
import type { BatchHeader } from '../batch/batch.ts';
import { BRANCH_ID } from '../branch-id.ts';
import { TributaryError } from '../errors.ts';
import { scanJson } from '../batch/json-scan.ts';
import type { JsonLimits } from '../batch/json-scan.ts';
import { MAX_ASKER, MAX_REPORTED_TABLES } from '../protocol.ts';
import type { Answer, Hello } from '../protocol.ts';
import { asBrief, briefOf, completed } from './brief.ts';
import type { BriefMessage } from './brief.ts';

/**
 * A larger batch is always sent as several messages, and on a slow line so are smaller ones. It is far below the
 * broker's limit, because an applier has as many messages in memory as it prefetches.
 */
export const FRAGMENT_BYTES = 4 * 1024 * 1024;
/** Fragments of one batch: 96 MiB. An applier has them all in memory, so this must be less than its prefetch. */
export const MAX_FRAGMENTS = 24;
/** Hellos and answers are small. A larger one comes from a broken or hostile program. */
export const MAX_HELLO_BYTES = 256 * 1024;
export const MAX_ANSWER_BYTES = 256 * 1024;

/**
 * What JSON.parse may build from a hello or an answer. An answer names a few thousand tables at most, and no object has
 * more than 16 members. Messages of a newer program may have more.
 */
const MESSAGE_LIMITS: JsonLimits = { depth: 8, containers: 10_000, values: 20_000, members: 64, allMembers: 20_000 };
/**
 * A batch has seven headers. The library decodes all of them before they can be counted; more than this are refused.
 */
const MAX_HEADERS = 32;

/** A day. No agent pauses for so long between two hellos. */
const MAX_NEXT_WITHIN_SECONDS = 86_400;

/** An applier keeps two; what is beyond this number is not of this protocol. */
const MAX_DICTIONARIES = 16;

/** The version of hello and answer. */
const MESSAGE_VERSION = 1;

export const ROUTING_KEYS = { batch: 'batch', hello: 'hello' } as const;

/** The names of what one branch has at the broker. */
export interface BranchNames {
  /** Direct exchange. The branch may publish only here. */
  readonly exchange: string;
  /** Quorum queue, single active consumer, reject-publish. */
  readonly batches: string;
  /** Its length is one: the newest hello replaces an older one. */
  readonly hello: string;
  /** Its length is one: the newest answer replaces an older one. The branch may read only this queue. */
  readonly answer: string;
  readonly user: string;
}

/** @throws TributaryError CONFIG_INVALID when the id does not follow the grammar of branch ids */
export function branchNames(branch: string): BranchNames {
  if (!BRANCH_ID.test(branch)) {
    throw new TributaryError('CONFIG_INVALID', `"${branch}" is not a branch id.`, {
      hint: 'Use lower-case letters, digits and hyphens, at most 63, and begin with a letter or digit.',
    });
  }
  return {
    exchange: `tributary.branch.${branch}`,
    batches: `tributary.batches.${branch}`,
    hello: `tributary.hello.${branch}`,
    answer: `tributary.answer.${branch}`,
    user: `branch-${branch}`,
  };
}

/** A message to be sent. `id` identifies it among those in flight, for a return by the broker. */
export interface OutgoingMessage {
  readonly exchange: string;
  readonly routingKey: string;
  readonly id: string;
  readonly type: 'batch' | 'slim' | 'hello' | 'answer' | 'wake' | 'probe';
  readonly headers: Readonly<Record<string, string | number>>;
  readonly body: Buffer;
}

/** A message as it arrived. The sender has written all fields; the broker has checked only `userId`. */
export interface ReceivedMessage {
  readonly queue: string;
  readonly exchange: string;
  readonly routingKey: string;
  readonly messageId: string | null;
  readonly type: string | null;
  /** The authenticated user that published it; null: the sender did not set it, so it was not checked. */
  readonly userId: string | null;
  readonly redelivered: boolean;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly body: Buffer;
  /** For the acknowledgement, on the channel that it came from. */
  readonly deliveryTag: number;
}

/** Which piece of a batch's body a message has. */
export interface Fragment {
  /** From 0. */
  readonly index: number;
  readonly count: number;
}

/** A batch in one message. */
export function batchMessage(header: BatchHeader, body: Buffer): OutgoingMessage {
  return {
    exchange: branchNames(header.branch).exchange,
    routingKey: ROUTING_KEYS.batch,
    id: `${header.branch}/${header.epoch}/${header.seq}`,
    type: 'batch',
    headers: { ...header },
    body,
  };
}

/** One piece of a batch that is sent as several messages; at most FRAGMENT_BYTES long. */
export function fragmentMessage(header: BatchHeader, { index, count }: Fragment, body: Buffer): OutgoingMessage {
  const whole = batchMessage(header, body);
  return {
    ...whole,
    id: `${whole.id}/${index}`,
    headers: { ...whole.headers, fragment: index, fragments: count },
  };
}

/** @param base the hello before, if the head office has it for certain and knows brief hellos; null: say everything */
export function helloMessage(hello: Hello, base: Hello | null = null): OutgoingMessage {
  const { v, nonce } = hello;
  const brief = base === null ? null : briefOf(base, hello, base.nonce, { v, nonce });
  return {
    exchange: branchNames(hello.branch).exchange,
    routingKey: ROUTING_KEYS.hello,
    id: nonce,
    type: 'hello',
    headers: {},
    body: Buffer.from(JSON.stringify(brief ?? hello)),
  };
}

/**
 * An answer is published to the default exchange, which puts it into the branch's answer queue.
 * @param base the answer before, if the hello builds on the one to which that was; null: say everything
 */
export function answerMessage(branch: string, answer: Answer, base: Answer | null = null): OutgoingMessage {
  const { v, inReplyTo } = answer;
  const brief = base === null ? null : briefOf(base, answer, base.inReplyTo, { v, inReplyTo });
  return {
    exchange: '',
    routingKey: branchNames(branch).answer,
    id: `answer/${inReplyTo}`,
    type: 'answer',
    headers: {},
    body: Buffer.from(JSON.stringify(brief ?? answer)),
  };
}

/** Has an agent say hello at once. It says nothing else, so nothing depends on whether it arrives, or how often. */
export function wakeMessage(branch: string): OutgoingMessage {
  const { answer } = branchNames(branch);
  return { exchange: '', routingKey: answer, id: `wake/${branch}`, type: 'wake', headers: {}, body: Buffer.from('{}') };
}
/** The most characters of the names of rows in a request. */
const MAX_ROW_NAMES = 16 * 1024;

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const digest = z.string().regex(/^[0-9a-f]{64}$/);
const name = z.string().min(1).max(128);
const text = z.string().max(4096);
const time = z.string().max(40);
const finite = z.number();
const mark = z.strictObject({ seq: count, digest });

const batchHeaderSchema = z.object({
  branch: z.string().regex(BRANCH_ID),
  epoch: name,
  seq: count.min(1),
  previous: digest,
  digest,
});

const fragmentSchema = z.object({
  fragment: count.optional(),
  fragments: count.min(2).max(MAX_FRAGMENTS).optional(),
});

// Unknown keys are dropped and not refused, so that an older head office can read a newer agent's hello.
const helloSchema = z.object({
  v: z.literal(1),
  branch: z.string().regex(BRANCH_ID),
  nonce: name,
  instance: name,
  epoch: name,
  head: mark,
  baseSeq: count,
  confirmed: count,
  replaces: name.nullable(),
  capturedThrough: time.nullable(),
  sentAt: time,
  nextWithinSeconds: z.number().int().min(1).max(MAX_NEXT_WITHIN_SECONDS).optional(),
  compare: z.boolean().optional(),
  epochReason: text.optional(),
  report: z.object({
    version: z.string().max(64),
    capabilities: z.array(z.string().max(64)).max(64),
    state: z.string().max(64),
    spoolBatches: count,
    spoolBytes: count,
    outlook: z.object({
      binlogSecondsLeft: finite.nullable(),
      diskFreeBytes: count,
      certificateExpiresAt: time.nullable(),
    }),
    secondsUntilFull: finite.nullable(),
    captureLagSeconds: finite.nullable(),
    snapshot: z.object({ tablesDone: count, tables: count, rows: count, secondsLeft: finite.nullable() }).nullable(),
    windows: z.array(z.string().max(64)).max(256),
    freshnessSeconds: z.number().int().min(0).max(MAX_NEXT_WITHIN_SECONDS).optional(),
    traffic: z.object({ today: count, month: count }).optional(),
    timeZone: z.string().max(64),
    source: z.string().max(300).nullable(),
    setAside: z
      .array(z.object({ schema: name, name, since: time, code: z.string().max(64), reason: text }))
      .max(MAX_REPORTED_TABLES)
      .optional(),
    choice: z.string().max(64).optional(),
    error: text.nullable(),
    sync: z.object({ id: name, at: time, by: z.string().max(MAX_ASKER) }).optional(),
  }),
});

const answerSchema = z.object({
  v: z.literal(1),
  inReplyTo: name,
  baseEcho: count,
  epoch: name.nullable(),
  verdict: z.enum(['current', 'superseded', 'unknown']),
  received: mark,
  applied: mark,
  queued: count,
  resend: z.object({ from: count.min(1), to: count.min(1) }).nullable(),
  displaced: z.boolean(),
  requests: z
    .array(
      z.object({
        id: name,
        kind: z.enum(['snapshot', 'verify', 'rows', 'repair']),
        tables: z
          .array(z.object({ schema: name, name }))
          .max(1000)
          .nullable(),
        sketch: z.boolean().optional(),
        rows: z.string().max(MAX_ROW_NAMES).optional(),
      }),
    )
    .max(1000),
  halted: z.object({ code: z.string().max(64), reason: text }).nullable(),
  capabilities: z.array(z.string().max(64)).max(64).optional(),
  history: z.array(name).max(MAX_HISTORY_TABLES).optional(),
  dictionaries: z.array(count).max(MAX_DICTIONARIES).optional(),
  standing: z
    .object({
      at: time,
      completeThrough: time.nullable(),
      incomplete: z.boolean().optional(),
      quarantined: count.optional(),
      setAsideTables: count.optional(),
      differentTables: count.optional(),
    })
    .optional(),
});

/** @throws TributaryError MESSAGE_INVALID */
export function readBatchHeader(message: ReceivedMessage): BatchHeader {
  if (message.type !== 'batch') throw invalid('batch', `type is ${JSON.stringify(message.type?.slice(0, 64))}`);
  const headers = Object.keys(message.headers).length;
  if (headers > MAX_HEADERS) throw invalid('batch', `${headers} headers, at most ${MAX_HEADERS} are allowed`);
  return validated('batch', batchHeaderSchema, message.headers);
}

/** Which fragment of a batch a message is; null: it is a whole batch. @throws TributaryError MESSAGE_INVALID */
export function readFragment(message: ReceivedMessage): Fragment | null {
  const { fragment, fragments } = validated('batch', fragmentSchema, message.headers);
  if (fragments === undefined && fragment === undefined) return null;
  if (fragments === undefined || fragment === undefined || fragment >= fragments) {
    throw invalid('batch', `fragment ${String(fragment)} of ${String(fragments)}`);
  }
  const { length } = message.body;
  if (length > FRAGMENT_BYTES || length === 0) {
    throw invalid('batch', `a fragment of ${length} bytes`);
  }
  return { index: fragment, count: fragments };
}

/** A hello, or a brief one that builds on the hello before. @throws TributaryError MESSAGE_INVALID */
export function readAnyHello(body: Buffer): Hello | BriefMessage {
  const value = parsed('hello', body, MAX_HELLO_BYTES);
  refuseNewer('hello', value, 'Upgrade the applier: the agent at the branch is newer. It keeps everything until then.');
  return asBrief(value) ?? validated('hello', helloSchema, value);
}

/** @throws TributaryError MESSAGE_INVALID */
export function completedHello(base: Hello, brief: BriefMessage): Hello {
  return validated('hello', helloSchema, completed(base, brief));
}

/** An answer, or a brief one that builds on the answer before. @throws TributaryError MESSAGE_INVALID */
export function readAnyAnswer(body: Buffer): Answer | BriefMessage {
  const value = parsed('answer', body, MAX_ANSWER_BYTES);
  refuseNewer(
    'answer',
    value,
    'Upgrade the agent: the applier at the head office is newer. The spool keeps everything until then.',
  );
  return asBrief(value) ?? validated('answer', answerSchema, value);
}

/** To which hello a message is an answer; null: it does not say. */
export function repliedTo(answer: Answer | BriefMessage): string | null {
  if ('inReplyTo' in answer) return answer.inReplyTo;
  const { inReplyTo } = answer.changes;
  return typeof inReplyTo === 'string' ? inReplyTo : null;
}

/** @throws TributaryError MESSAGE_INVALID */
export function completedAnswer(base: Answer, brief: BriefMessage): Answer {
  return validated('answer', answerSchema, completed(base, brief));
}

/**
 * The version changes only if a program that does not know it must not act on the message; what may be ignored is a new
 * key. So a later version does not mean that the message is malformed, but that this program is too old.
 */
function refuseNewer(what: string, value: unknown, hint: string): void {
  const version = typeof value === 'object' && value !== null && 'v' in value ? value.v : undefined;
  if (typeof version !== 'number' || version <= MESSAGE_VERSION) return;
  const message = `A ${what} of version ${version} cannot be read; this program knows ${MESSAGE_VERSION}.`;
  throw new TributaryError('MESSAGE_INVALID', message, { hint });
}

function parsed(what: string, body: Buffer, limit: number): unknown {
  if (body.length > limit) throw invalid(what, `${body.length} bytes, at most ${limit} are allowed`);
  scanJson(body, MESSAGE_LIMITS, reason => {
    throw invalid(what, reason);
  });
  try {
    return JSON.parse(body.toString('utf8'));
  } catch (error) {
    throw invalid(what, 'it is not JSON', error);
  }
}

function validated<T>(what: string, schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const first = result.error.issues[0];
  throw invalid(what, first === undefined ? 'it has another structure' : `${first.path.join('.')}: ${first.message}`);
}

function invalid(what: string, reason: string, cause?: unknown): TributaryError {
  return new TributaryError('MESSAGE_INVALID', `A ${what} message is malformed: ${reason}.`, { cause });
}

/** What was read before: hundreds of hellos are looked at every second, and few of them are new. */
const stored = new WeakMap<object, Hello | null>();

/** A hello that was stored as JSON; null: there is none, or it has another version. */
export function storedHello(value: unknown): Hello | null {
  if (typeof value !== 'object' || value === null) return null;
  const known = stored.get(value);
  if (known !== undefined) return known;
  const result = helloSchema.safeParse(value);
  const hello = result.success ? result.data : null;
  stored.set(value, hello);
  return hello;
}
