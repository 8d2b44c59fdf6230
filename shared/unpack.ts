/**
 * From a batch's bytes to its JSON: a frame at a time, and very long strings taken out before JSON.parse, which would
 * copy them. They are not kept either, but unpacked again where they are read.
 *
 * What comes here is hostile: sizes and structure are bounded before anything is built from them. Everything that is not
 * as it should be throws BATCH_INVALID or BATCH_TOO_LARGE.
 */
import { randomUUID } from 'node:crypto';
import { isAscii, isUtf8 } from 'node:buffer';
import { framesOf, refuse, refuseLarge } from './frames.ts';
import type { Frame } from './frames.ts';
import { LongJsonString } from './long-value.ts';
import type { Again } from './long-value.ts';
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

/** A frame that unpacks to more stays in memory as long as a long string in it: to unpack it for each would take long. */
const MOST_AGAIN_BYTES = 8 * 1024 * 1024;

/** JSON, parsed, and the strings that were taken out of it: each stands there as its name. */
export interface Unpacked {
  readonly parsed: unknown;
  /** Whether strings may hold lone surrogates and must be looked at. */
  readonly surrogates: boolean;
  readonly long: ReadonlyMap<string, LongJsonString>;
  readonly bytes: number;
}

/**
 * Long strings read the body again: its buffers must stay as they are for as long.
 * @param body in one or several buffers
 */
export function unpack(body: readonly Uint8Array[], maxUnpackedBytes: number): Unpacked {
  // What is left of a large body before it must not stand beside this one.
  if (body.reduce((sum, part) => sum + part.byteLength, 0) > SCAN_ABOVE_BYTES) releaseGarbage();
  const long = new Map<string, LongJsonString>();
  /** Not scanned, as long as all is small. */
  let parts: Part[] = [];
  let scanner: Scanner | null = null;
  let frames = 0;
  let bytes = 0;
  for (const frame of framesOf(body)) {
    frames += 1;
    if (frames > MAX_FRAMES) refuseLarge(`it has more than ${MAX_FRAMES} frames`);
    const part = { frame, bytes: frame.unpack(maxUnpackedBytes - bytes) };
    bytes += part.bytes.length;
    parts.push(part);
    if (bytes <= SCAN_ABOVE_BYTES) continue;
    scanner ??= new Scanner(long);
    for (const each of parts) scanner.scan(each);
    parts = [];
  }
  const chunks = scanner === null ? parts.map(part => part.bytes) : scanner.end();
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

/** A frame, unpacked. */
interface Part {
  readonly frame: Frame;
  readonly bytes: Buffer;
}

/** What stands there in a part, for later: at hand, or unpacked again. */
function stretch({ frame, bytes }: Part, from: number, to: number): Buffer | Again {
  if (bytes.length > MOST_AGAIN_BYTES) return bytes.subarray(from, to);
  const size = bytes.length;
  return { length: to - from, read: () => frame.unpack(size).subarray(from, to) };
}

/** Counts what JSON.parse would build, without building it, and takes the long strings out. */
class Scanner {
  readonly #long: Map<string, LongJsonString>;
  readonly #mark = randomUUID();
  readonly #chunks: Buffer[] = [];
  /** Of the string that is open: what earlier parts held of it. */
  #open: (Buffer | Again)[] = [];
  /** The same at hand, unless it is long by now. */
  #openChunks: Buffer[] = [];
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

  /** The next part of the text. What is needed of it no more is released. */
  scan(part: Part): void {
    const { bytes } = part;
    const before = this.#chunks.length;
    this.#slash = -1;
    let kept = 0;
    let at = 0;
    while (at < bytes.length) {
      if (!this.#inString) {
        at = this.#outside(bytes, at);
        if (at < 0) break;
      }
      const begin = at;
      const end = this.#stringEnd(bytes, at);
      if (end < 0) {
        // It goes on in the next part.
        this.#keep(bytes, kept, begin);
        this.#goesOn(part, begin);
        if (this.#chunks.length === before && this.#openChunks.length === 0) this.#letGo(part);
        return;
      }
      this.#inString = false;
      if (this.#openBytes + end - begin > LONG_STRING_BYTES) {
        this.#keep(bytes, kept, begin);
        const name = `${this.#mark}${this.#long.size}`;
        this.#long.set(name, new LongJsonString([...this.#open, stretch(part, begin, end)]));
        this.#chunks.push(Buffer.from(name));
        kept = end;
      } else this.#chunks.push(...this.#openChunks);
      this.#open = [];
      this.#openChunks = [];
      this.#openBytes = 0;
      at = end + 1;
    }
    this.#keep(bytes, kept, bytes.length);
  }

  /** The text, with names in place of its long strings. */
  end(): readonly Buffer[] {
    if (this.#inString) refuse('a string does not end');
    return this.#chunks;
  }

  #keep(bytes: Buffer, from: number, to: number): void {
    if (to > from) this.#chunks.push(bytes.subarray(from, to));
  }

  /** The open string reaches from there to the part's end at least. */
  #goesOn(part: Part, from: number): void {
    const { bytes } = part;
    this.#open.push(stretch(part, from, bytes.length));
    this.#openBytes += bytes.length - from;
    if (this.#openBytes > LONG_STRING_BYTES) this.#openChunks = [];
    else this.#openChunks.push(bytes.subarray(from));
  }

  #letGo({ bytes }: Part): void {
    if (bytes.length <= MOST_AGAIN_BYTES) release(bytes);
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
