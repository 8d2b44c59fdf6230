/**
 * From a batch's bytes to its JSON: zstd frames one after the other, so that a body of any size is unpacked a frame at a
 * time, and very long strings taken out before JSON.parse, which would copy them.
 *
 * What comes here is hostile: sizes and structure are bounded before anything is built from them. Everything that is not
 * as it should be throws BATCH_INVALID or BATCH_TOO_LARGE.
 */
import { randomUUID } from 'node:crypto';
import { isAscii, isUtf8 } from 'node:buffer';
import { zstdDecompressSync } from 'node:zlib';
import { TributaryError } from './errors.ts';
import { LongJsonString } from './long-value.ts';
import { release, releaseGarbage } from './release.ts';

/** Bodies above this are scanned before JSON.parse, whose result may take ten times the text. */
const SCAN_ABOVE_BYTES = 8 * 1024 * 1024;
/** Strings above this are taken out. No text that is not a column's value may be so long. */
const LONG_STRING_BYTES = 4 * 1024 * 1024;
const MAX_DEPTH = 8;
/** Arrays and objects in one body; values are counted apart. */
const MAX_CONTAINERS = 1_000_000;
/**
 * Reading them holds up every other branch. What an agent makes is 8 MiB of JSON and one row event more, unless values
 * are long: four million values of one digit and a comma.
 */
const MAX_VALUES = 5_000_000;

/** An agent makes one of some megabytes each. Without a bound a message could hold some hundred thousand empty ones. */
const MAX_FRAMES = 1_024;

/** A string's end is looked for by hand that far, before it is searched for. */
const NEAR_BYTES = 64;

/** Frames from this size on are unpacked into one piece of memory of the size that a frame has, about. */
const LARGE_FRAME_BYTES = 1024 * 1024;
const LARGE_CHUNK_BYTES = 4 * 1024 * 1024 + 128 * 1024;
const SMALL_CHUNK_BYTES = 16 * 1024;

const ZSTD_MAGIC = 0xfd2fb528;
const RLE_BLOCK = 1;
const RESERVED_BLOCK = 3;

/** JSON, parsed, and the strings that were taken out of it: each stands there as its name. */
export interface Unpacked {
  readonly parsed: unknown;
  /** Whether strings may hold lone surrogates and must be looked at. */
  readonly surrogates: boolean;
  readonly long: ReadonlyMap<string, LongJsonString>;
  readonly bytes: number;
}

export function refuse(reason: string, cause?: unknown): never {
  throw new TributaryError('BATCH_INVALID', `The batch is malformed: ${reason}.`, { cause });
}

export function refuseLarge(reason: string, cause?: unknown): never {
  throw new TributaryError('BATCH_TOO_LARGE', `The batch is too large: ${reason}.`, { cause });
}

/** @param body in one or several buffers */
export function unpack(body: readonly Uint8Array[], maxUnpackedBytes: number): Unpacked {
  // What is left of a large body before it must not stand beside this one.
  if (body.reduce((sum, part) => sum + part.byteLength, 0) > SCAN_ABOVE_BYTES) releaseGarbage();
  const parts: Buffer[] = [];
  let bytes = 0;
  for (const frame of framesOf(body)) {
    if (parts.length === MAX_FRAMES) refuseLarge(`it has more than ${MAX_FRAMES} frames`);
    const part = unpackFrame(frame, maxUnpackedBytes - bytes, maxUnpackedBytes);
    bytes += part.length;
    parts.push(part);
  }
  const large = bytes > SCAN_ABOVE_BYTES;
  const long = new Map<string, LongJsonString>();
  const chunks = large ? new Scanner(long).scan(parts) : parts;
  const text = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
  if (!isUtf8(text)) refuse('it is not UTF-8');
  let parsed: unknown;
  try {
    parsed = JSON.parse(text.toString(isAscii(text) ? 'latin1' : 'utf8'));
  } catch (error) {
    refuse('it is not JSON', error);
  }
  // A lone surrogate can only have come as an escape; it would silently become U+FFFD on its way to the server.
  return { parsed, surrogates: text.includes('\\ud') || text.includes('\\uD'), long, bytes };
}

function unpackFrame(frame: Uint8Array, room: number, most: number): Buffer {
  try {
    return zstdDecompressSync(frame, {
      maxOutputLength: Math.max(1, room),
      chunkSize: frame.length < LARGE_FRAME_BYTES ? SMALL_CHUNK_BYTES : LARGE_CHUNK_BYTES,
    });
  } catch (error) {
    const tooLarge = error instanceof RangeError;
    return tooLarge ? refuseLarge(`it unpacks to more than ${most} bytes`, error) : refuse('it does not unpack', error);
  }
}

/** Node's zstd ends at the first frame's end without a word, so frames are told apart here. */
function* framesOf(body: readonly Uint8Array[]): Generator<Uint8Array, void, undefined> {
  let held: Buffer[] = [];
  /** What the held bytes stand in, unless it is the caller's. */
  let joined: Buffer | null = null;
  for (const part of body) {
    held.push(Buffer.from(part.buffer, part.byteOffset, part.byteLength));
    const bytes = held.length === 1 ? held[0]! : Buffer.concat(held);
    if (joined !== null) release(joined);
    joined = held.length === 1 ? null : bytes;
    let at = 0;
    for (;;) {
      const length = frameLength(bytes, at);
      if (length === null) break;
      yield bytes.subarray(at, at + length);
      at += length;
    }
    held = at < bytes.length ? [bytes.subarray(at)] : [];
  }
  if (held.length > 0) refuse('it does not unpack');
}

/** Bytes of the frame that begins there (RFC 8878, section 3.1.1); null: it goes on after the end. */
function frameLength(bytes: Buffer, from: number): number | null {
  if (bytes.length < from + 5) return null;
  if (bytes.readUInt32LE(from) !== ZSTD_MAGIC) refuse('it does not unpack');
  const descriptor = bytes[from + 4]!;
  const single = (descriptor & 0x20) !== 0;
  const contentSize = [single ? 1 : 0, 2, 4, 8][descriptor >> 6]!;
  const dictionary = [0, 1, 2, 4][descriptor & 3]!;
  let at = from + 5 + (single ? 0 : 1) + dictionary + contentSize;
  for (let last = false; !last;) {
    if (bytes.length < at + 3) return null;
    const header = bytes.readUIntLE(at, 3);
    last = (header & 1) === 1;
    const type = (header >> 1) & 3;
    if (type === RESERVED_BLOCK) refuse('it does not unpack');
    at += 3 + (type === RLE_BLOCK ? 1 : header >> 3);
  }
  at += (descriptor & 4) !== 0 ? 4 : 0;
  return at <= bytes.length ? at - from : null;
}

/** Counts what JSON.parse would build, without building it, and takes the long strings out. */
class Scanner {
  readonly #long: Map<string, LongJsonString>;
  readonly #mark = randomUUID();
  readonly #chunks: Buffer[] = [];
  /** Of the string that is open: what earlier parts held of it. */
  #open: Buffer[] = [];
  #openBytes = 0;
  #inString = false;
  /** The byte that follows is the escaped one. */
  #escaped = false;
  /** The first backslash of this part that has not been passed. */
  #slash = -1;
  #depth = 0;
  #containers = 0;
  #values = 0;

  constructor(long: Map<string, LongJsonString>) {
    this.#long = long;
  }

  scan(parts: readonly Buffer[]): readonly Buffer[] {
    for (const part of parts) this.#part(part);
    if (this.#inString) refuse('a string does not end');
    return this.#chunks;
  }

  #part(part: Buffer): void {
    this.#slash = -1;
    let kept = 0;
    let at = 0;
    while (at < part.length) {
      if (!this.#inString) {
        at = this.#outside(part, at);
        if (at < 0) break;
      }
      const begin = at;
      const end = this.#stringEnd(part, at);
      if (end < 0) {
        // It goes on in the next part.
        if (begin > kept) this.#chunks.push(part.subarray(kept, begin));
        this.#open.push(part.subarray(begin));
        this.#openBytes += part.length - begin;
        return;
      }
      this.#inString = false;
      if (this.#openBytes + end - begin > LONG_STRING_BYTES) {
        if (begin > kept) this.#chunks.push(part.subarray(kept, begin));
        const name = `${this.#mark}${this.#long.size}`;
        this.#long.set(name, new LongJsonString([...this.#open, part.subarray(begin, end)]));
        this.#chunks.push(Buffer.from(name));
        kept = end;
      } else this.#chunks.push(...this.#open);
      this.#open = [];
      this.#openBytes = 0;
      at = end + 1;
    }
    if (kept < part.length) this.#chunks.push(part.subarray(kept));
  }

  /** @returns where the next string begins, behind its quote; −1: in a later part */
  #outside(part: Buffer, from: number): number {
    for (let at = from; at < part.length; at += 1) {
      const byte = part[at]!;
      if (byte === 0x22) {
        this.#inString = true;
        return at + 1;
      } else if (byte === 0x2c) {
        this.#values += 1;
        if (this.#values > MAX_VALUES) refuse('it holds too many arrays or values');
      } else if (byte === 0x5b || byte === 0x7b) {
        this.#containers += 1;
        this.#depth += 1;
        if (this.#depth > MAX_DEPTH) refuse('it is nested too deeply');
        if (this.#containers > MAX_CONTAINERS) refuse('it holds too many arrays or values');
      } else if (byte === 0x5d || byte === 0x7d) {
        this.#depth -= 1;
      }
    }
    return -1;
  }

  /** @returns where the string's closing quote is; −1: in a later part */
  #stringEnd(part: Buffer, from: number): number {
    let at = from;
    if (this.#escaped) {
      this.#escaped = false;
      at += 1;
    }
    let quote = -2;
    for (;;) {
      // A short way by hand, where a call for each of millions of escapes would take long; a long way by search.
      const near = Math.min(part.length, at + NEAR_BYTES);
      for (; at < near; at += 1) {
        const byte = part[at]!;
        if (byte === 0x22) return at;
        if (byte === 0x5c) at += 1;
      }
      if (at > part.length) this.#escaped = true;
      if (at >= part.length) return -1;
      if (quote !== -1 && quote < at) quote = part.indexOf(0x22, at);
      const slash = this.#nextSlash(part, at);
      if (slash === part.length || (quote >= 0 && quote < slash)) return quote;
      at = slash;
    }
  }

  /** Looked for once, not for each string anew: that would take hours where there are many strings and no backslash. */
  #nextSlash(part: Buffer, from: number): number {
    if (this.#slash < from) {
      const found = part.indexOf(0x5c, from);
      this.#slash = found < 0 ? part.length : found;
    }
    return this.#slash;
  }
}
