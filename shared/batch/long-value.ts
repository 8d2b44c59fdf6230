/**
 * A value that is too long to copy. A document of 64 MiB is held once, as the bytes in which it came, and read in
 * pieces of text. It takes the place of a string in a batch's columns, but never in a key.
 *
 * Invariant: joined, the pieces are exactly the string that a shorter value would be. No piece ends within a character.
 */
import { isUtf8 } from 'node:buffer';
import { randomUUID } from 'node:crypto';
import { assert } from '../errors.ts';
import { release } from '../release.ts';

/** Bytes from which a value is read in pieces. */
export const LONG_BYTES = 1024 * 1024;
/**
 * The approximate bytes of a piece. It is a multiple of 3, so that pieces of base64 join without padding. Strings of
 * this size live in V8's young generation, which is collected often. So only a few megabytes of pieces exist at a time.
 */
const PIECE_BYTES = 48 * 1024;

/** The start of the names of long values. Nobody who writes values can guess it, and it never leaves this process. */
const MARK = randomUUID();
let named = 0;
/** The long values that JSON.stringify meets while `writeJson` runs. */
let collected: Map<string, LongValue> | null = null;

export abstract class LongValue {
  /** A name that takes its place in JSON until `splitJson` replaces it. */
  readonly name = `${MARK}:${(named += 1)}`;
  /** The approximate bytes of all pieces as UTF-8. */
  abstract readonly bytes: number;
  abstract pieces(): Generator<string, void, undefined>;

  /** The whole value, for uses that need it. */
  toString(): string {
    return [...this.pieces()].join('');
  }

  toJSON(): string {
    assert(collected !== null, 'a long value is written as JSON outside of writeJson');
    collected.set(this.name, this);
    return this.name;
  }
}

/** The value as one string, for comparisons and for a row's identity. */
export function wholeValue<T>(value: T | LongValue): T | string {
  return value instanceof LongValue ? value.toString() : value;
}

/** The first characters of a value, for people. The rest of a long value is not read. */
export function beginning(value: string | number | LongValue | null, characters: number): string {
  let text = value instanceof LongValue ? '' : String(value);
  if (value instanceof LongValue) {
    for (const piece of value.pieces()) {
      text += piece;
      if (text.length >= characters) break;
    }
  }
  return text.slice(0, characters).toWellFormed();
}

/** Stored bytes, as base64. */
export class LongBytes extends LongValue {
  readonly bytes: number;
  readonly #stored: Buffer;

  constructor(stored: Buffer) {
    super();
    this.#stored = stored;
    this.bytes = Math.ceil(stored.length / 3) * 4;
  }

  *pieces(): Generator<string, void, undefined> {
    for (let at = 0; at < this.#stored.length; at += PIECE_BYTES) {
      yield this.#stored.toString('base64', at, at + PIECE_BYTES);
    }
  }
}

/** Text in UTF-8, which the caller has checked. */
export class LongText extends LongValue {
  readonly #stored: Buffer;

  constructor(stored: Buffer) {
    super();
    this.#stored = stored;
  }

  get bytes(): number {
    return this.#stored.length;
  }

  *pieces(): Generator<string, void, undefined> {
    for (let at = 0; at < this.#stored.length;) {
      const to = characterStart(this.#stored, at + PIECE_BYTES);
      yield this.#stored.toString('utf8', at, to);
      at = to;
    }
  }
}

/** Bytes that are unpacked again for each use, into a buffer that belongs to the caller. */
export interface Again {
  readonly length: number;
  read(): Buffer;
}

/** The text between two quotes in JSON, with its escapes, in one or several buffers. */
export class LongJsonString extends LongValue {
  readonly bytes: number;
  readonly #parts: readonly (Buffer | Again)[];

  constructor(parts: readonly (Buffer | Again)[]) {
    super();
    this.#parts = parts;
    this.bytes = parts.reduce((sum, part) => sum + part.length, 0);
  }

  /** @throws SyntaxError, also if it is not UTF-8 */
  *pieces(): Generator<string, void, undefined> {
    /** The beginning of a character or an escape that continues in the next buffer. */
    let rest: Buffer = Buffer.alloc(0);
    for (const stretch of this.#parts) {
      const part = Buffer.isBuffer(stretch) ? stretch : stretch.read();
      for (let at = 0; at < part.length; at += PIECE_BYTES) {
        const slice = part.subarray(at, at + PIECE_BYTES);
        const bytes = rest.length === 0 ? slice : Buffer.concat([rest, slice]);
        const end = escapeStart(bytes, characterStart(bytes, bytes.length));
        rest = Buffer.from(bytes.subarray(end));
        if (end > 0) yield unescaped(bytes.subarray(0, end));
      }
      if (part !== stretch) release(part);
    }
    if (rest.length > 0) yield unescaped(rest);
  }
}

function unescaped(bytes: Buffer): string {
  if (!isUtf8(bytes)) throw new SyntaxError('it is not UTF-8');
  const text = bytes.toString('utf8');
  if (!bytes.includes(0x5c) && !/[\0-\x1f]/.test(text)) return text;
  return String(JSON.parse(`"${text}"`));
}

/** The last place at or before `at` that is not within a UTF-8 character. */
function characterStart(bytes: Buffer, at: number): number {
  if (at >= bytes.length) {
    // The last character may be cut off. Its first byte says how long it is.
    for (let back = 1; back <= 3 && back <= bytes.length; back += 1) {
      const byte = bytes[bytes.length - back]!;
      if ((byte & 0xc0) === 0x80) continue;
      const needs = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
      return needs > back ? bytes.length - back : bytes.length;
    }
    return bytes.length;
  }
  let start = at;
  while (start > at - 4 && start > 0 && (bytes[start]! & 0xc0) === 0x80) start -= 1;
  return start;
}

/** The last place at or before `end` that is neither within an escape nor between the two escapes of one character. */
function escapeStart(bytes: Buffer, end: number): number {
  let at = bytes.indexOf(0x5c);
  while (at >= 0 && at < end) {
    let length = bytes[at + 1] === 0x75 ? 6 : 2;
    // \uD8xx to \uDBxx begin a pair.
    if (length === 6 && /^[dD][89abAB]/.test(bytes.toString('latin1', at + 2, at + 4))) length = 12;
    if (at + length > end) return at;
    // Without a second escape it is a lone surrogate.
    if (length === 12 && !(bytes[at + 6] === 0x5c && bytes[at + 7] === 0x75)) length = 6;
    const next = bytes.indexOf(0x5c, at + length);
    at = next;
  }
  return end;
}

/** A value as JSON in pieces: long values are written piece by piece. Without long values it is one piece. */
export function* writeJson(value: unknown): Generator<Buffer, void, undefined> {
  const long = new Map<string, LongValue>();
  collected = long;
  let text: string;
  try {
    text = JSON.stringify(value);
  } finally {
    collected = null;
  }
  yield* splitJson(Buffer.from(text), long);
}

/**
 * The same for JSON that already exists and holds the names of these long values.
 * @param made receives the buffers that were made for this; the caller may release them after use
 */
export function* splitJson(
  json: Buffer,
  long: ReadonlyMap<string, LongValue>,
  made: Set<Uint8Array> = new Set(),
): Generator<Buffer, void, undefined> {
  let at = 0;
  for (let place = long.size === 0 ? -1 : json.indexOf(MARK); place >= 0; place = json.indexOf(MARK, at)) {
    const end = json.indexOf(0x22, place);
    const value = long.get(json.toString('latin1', place, end));
    assert(value !== undefined, 'a long value that nobody knows');
    yield json.subarray(at, place);
    for (const piece of value.pieces()) {
      const written = Buffer.from(JSON.stringify(piece).slice(1, -1));
      made.add(written);
      yield written;
    }
    at = end;
  }
  yield json.subarray(at);
}
