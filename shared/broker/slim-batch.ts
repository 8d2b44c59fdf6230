/**
 * A batch in as few bytes as possible, for a head office that knows this form (KNOWS_SLIM): a short binary header before
 * the content, and the text of a small body packed with an earlier one as dictionary (shared/batch/packing.ts).
 *
 * The receiver makes the same body and the same header of it as of a message of the usual form, and checks the same digest.
 * So what a slim message lacks or has wrong can only make it unreadable. It is then dropped and asked for again.
 */
import { nextDigest } from '../batch/batch.ts';
import type { BatchHeader } from '../batch/batch.ts';
import { pack, unpack } from '../batch/packing.ts';
import { MOST_STORED_BYTES, storedFrame, storedText } from '../batch/stored-frame.ts';
import { TributaryError } from '../errors.ts';
import { branchNames, ROUTING_KEYS } from './amqp-messages.ts';
import type { OutgoingMessage, ReceivedMessage } from './amqp-messages.ts';

/** A dictionary is the end of what was kept for it: column names and recent values. */
export const MOST_DICTIONARY_BYTES = 8 * 1024;
/** A dictionary is an earlier batch's, at most so many before. */
export const MOST_DISTANCE = 0xffff;

const VERSION = 1;
const FLAG = { packed: 1, keep: 2, follows: 4 } as const;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const UUID_BYTES = 16;
const DIGEST_BYTES = 32;
/** Enough to see that a body was damaged. Its whole digest is in the header of the batch that follows. */
const CHECK_BYTES = 8;
/** Where the parts of the header are. Epoch and previous digest are absent if the receiver knows them. */
const AT = { version: 0, flags: 1, seq: 2, distance: 8, through: 10, check: 16, epoch: 24, previous: 40 } as const;
const SHORT_PREFIX_BYTES = AT.epoch;
const PREFIX_BYTES = AT.previous + DIGEST_BYTES;
const SIX_BYTES = 6;
const MOST_IN_SIX_BYTES = 2 ** 48 - 1;

/** Bytes that both sides have, named by the batch with which they were kept. */
export interface Dictionary {
  readonly seq: number;
  readonly bytes: Buffer;
}

export interface SlimBatch {
  readonly header: BatchHeader;
  readonly body: Buffer;
  /** The head office keeps the text, after that of the dictionary, as a dictionary of this batch's name. */
  readonly keep: boolean;
  /** Everything that was committed at the branch until then is in batches up to this one, ISO; null: it does not say. */
  readonly through: string | null;
}

/** What the receiver remembers. */
export interface SlimMemory {
  /** The dictionary of this name, if it is still here. */
  find(epoch: string, seq: number): Dictionary | null;
  /** The last batch of this number that has arrived; null: it is forgotten. */
  arrived(seq: number): BatchHeader | null;
}

/** What a batch adds to a dictionary. */
export function grown(dictionary: Dictionary | null, seq: number, text: Buffer): Dictionary {
  const whole = Buffer.concat([dictionary?.bytes ?? Buffer.alloc(0), text]);
  return { seq, bytes: Buffer.from(whole.subarray(-MOST_DICTIONARY_BYTES)) };
}

/** @returns null: the batch can only be sent in the usual form */
export function slimMessage(
  { header, body, keep, through }: SlimBatch,
  dictionary: Dictionary | null,
  effort: 'thorough' | 'quick',
): OutgoingMessage | null {
  const { branch, epoch, seq, previous, digest } = header;
  const distance = dictionary === null ? 0 : seq - dictionary.seq;
  const throughMs = through === null ? 0 : Date.parse(through);
  const fits = distance >= 0 && distance <= MOST_DISTANCE && throughMs >= 0 && throughMs <= MOST_IN_SIX_BYTES;
  if (!UUID.test(epoch) || !fits) return null;
  const text = storedText(body);
  // Who has the dictionary has the batch before as well, or has lost both.
  const follows = text !== null && dictionary !== null;
  const prefix = Buffer.alloc(follows ? SHORT_PREFIX_BYTES : PREFIX_BYTES);
  prefix.writeUInt8(VERSION, AT.version);
  const flags = (text === null ? 0 : FLAG.packed) | (keep ? FLAG.keep : 0) | (follows ? FLAG.follows : 0);
  prefix.writeUInt8(flags, AT.flags);
  prefix.writeUIntBE(seq, AT.seq, SIX_BYTES);
  prefix.writeUInt16BE(text === null ? 0 : distance, AT.distance);
  prefix.writeUIntBE(Math.floor(throughMs), AT.through, SIX_BYTES);
  prefix.write(digest.slice(0, 2 * CHECK_BYTES), AT.check, 'hex');
  if (!follows) {
    prefix.write(epoch.replaceAll('-', ''), AT.epoch, 'hex');
    prefix.write(previous, AT.previous, 'hex');
  }
  const content = text === null ? body : pack(text, dictionary?.bytes ?? null, effort);
  return {
    exchange: branchNames(branch).exchange,
    routingKey: ROUTING_KEYS.batch,
    id: String(seq),
    type: 'slim',
    headers: {},
    body: Buffer.concat([prefix, content]),
  };
}

/**
 * @param branch the branch of the queue
 * @returns null: it needs something that is not remembered here
 * @throws TributaryError MESSAGE_INVALID
 */
export function readSlim(
  branch: string,
  { body: message }: Pick<ReceivedMessage, 'body'>,
  memory: SlimMemory,
): (SlimBatch & { readonly text: Buffer | null; readonly dictionary: Dictionary | null }) | null {
  if (message.length <= SHORT_PREFIX_BYTES) throw invalid(`${message.length} bytes`);
  const version = message.readUInt8(AT.version);
  if (version !== VERSION) throw invalid(`form ${version}`);
  const flags = message.readUInt8(AT.flags);
  const follows = (flags & FLAG.follows) !== 0;
  const prefixBytes = follows ? SHORT_PREFIX_BYTES : PREFIX_BYTES;
  if (message.length <= prefixBytes) throw invalid(`${message.length} bytes`);
  const seq = message.readUIntBE(AT.seq, SIX_BYTES);
  if (seq === 0) throw invalid('no number');
  const distance = message.readUInt16BE(AT.distance);
  const throughMs = message.readUIntBE(AT.through, SIX_BYTES);
  const before = follows ? memory.arrived(seq - 1) : null;
  if (follows && before === null) return null;
  const epoch = before?.epoch ?? uuidAt(message, AT.epoch);
  const previous = before?.digest ?? message.toString('hex', AT.previous, AT.previous + DIGEST_BYTES);
  const content = message.subarray(prefixBytes);
  let [body, text, dictionary]: [Buffer, Buffer | null, Dictionary | null] = [content, null, null];
  if ((flags & FLAG.packed) !== 0) {
    if (distance > 0) dictionary = memory.find(epoch, seq - distance);
    if (distance > 0 && dictionary === null) return null;
    try {
      text = unpack(content, dictionary?.bytes ?? null);
    } catch (error) {
      // Another machine with this identity may have sent the dictionary that is remembered here.
      if (dictionary !== null) return null;
      throw error;
    }
    if (text.length === 0 || text.length > MOST_STORED_BYTES) throw invalid(`a text of ${text.length} bytes`);
    body = storedFrame(text);
  }
  const digest = nextDigest(previous, body);
  if (!digest.startsWith(message.toString('hex', AT.check, AT.check + CHECK_BYTES))) {
    // Another machine with this identity may have sent what is remembered here.
    if (follows) return null;
    throw invalid(`batch ${seq} does not match its digest`);
  }
  const header = { branch, epoch, seq, previous, digest };
  const through = throughMs === 0 ? null : new Date(throughMs).toISOString();
  return { header, body, keep: (flags & FLAG.keep) !== 0, through, text, dictionary };
}

function uuidAt(bytes: Buffer, at: number): string {
  const hex = bytes.toString('hex', at, at + UUID_BYTES);
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}

function invalid(reason: string): TributaryError {
  return new TributaryError('MESSAGE_INVALID', `A slim batch is malformed: ${reason}.`);
}
