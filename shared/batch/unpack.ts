/**
 * Unpacks a batch's bytes into its JSON, a frame at a time. Very long strings are taken out before JSON.parse, which
 * would copy them. They are not kept, but unpacked again when they are read.
 *
 * The bytes are hostile: sizes and structure are checked before anything is built from them. All faults throw
 * BATCH_INVALID or BATCH_TOO_LARGE.
 */
import { randomUUID } from 'node:crypto';
import { isAscii, isUtf8 } from 'node:buffer';
import { framesOf, refuse, refuseLarge } from './frames.ts';
import type { Frame } from './frames.ts';
import { JsonScan } from './json-scan.ts';
import type { JsonLimits } from './json-scan.ts';
import { LongJsonString } from './long-value.ts';
import type { Again } from './long-value.ts';
import { release, releaseGarbage } from '../release.ts';

/** The memory of a larger body is collected before the next body is unpacked. */
const LARGE_BYTES = 8 * 1024 * 1024;
/** Longer strings are taken out, the same that an agent reads in pieces. */
const LONG_STRING_BYTES = 1024 * 1024;
/**
 * An agent makes bodies of 4 MiB of JSON and at most one more row event, besides long values. That is two million
 * values of one digit and a comma. A table has three members per column. The widest object, a body, has eight.
 */
const LIMITS: JsonLimits = { depth: 8, containers: 500_000, values: 2_500_000, members: 16, allMembers: 600_000 };
/**
 * The most memory of the text without its long strings. A character beyond ASCII can make every character of its string
 * take two bytes. While the text is parsed, several copies of it exist.
 */
const MAX_TEXT_BYTES = 64 * 1024 * 1024;

/** Bytes of a value in a list besides its characters: its place, and the header of a string or a large number. */
const PLACE_BYTES = 32;

/** An agent's frames hold some megabytes each. Without a bound, a message could hold a hundred thousand empty ones. */
const MAX_FRAMES = 1_024;

/** A larger frame stays in memory as long as a long string in it, because unpacking it for each string is slow. */
const MOST_AGAIN_BYTES = 8 * 1024 * 1024;

/** Parsed JSON, and the long strings that were taken out of it. In the JSON a name takes the place of each. */
export interface Unpacked {
  readonly parsed: unknown;
  /** Whether strings may hold lone surrogates and must be looked at. */
  readonly surrogates: boolean;
  readonly long: ReadonlyMap<string, LongJsonString>;
  /** Bytes of the JSON. */
  readonly bytes: number;
  /** The approximate bytes that it takes in memory. */
  readonly heldBytes: number;
}

/**
 * Unpacks a body. Long strings read it again later, so its buffers must not change.
 * @param body in one or several buffers
 */
export function unpack(body: readonly Uint8Array[], maxUnpackedBytes: number): Unpacked {
  // The garbage of a large earlier body must not stay in memory together with this one.
  if (body.reduce((sum, part) => sum + part.byteLength, 0) > LARGE_BYTES) releaseGarbage();
  const long = new Map<string, LongJsonString>();
  const scanner = new Scanner(long);
  let frames = 0;
  let bytes = 0;
  for (const frame of framesOf(body)) {
    frames += 1;
    if (frames > MAX_FRAMES) refuseLarge(`it has more than ${MAX_FRAMES} frames`);
    const part = { frame, bytes: frame.unpack(maxUnpackedBytes - bytes) };
    bytes += part.bytes.length;
    scanner.scan(part);
  }
  const chunks = scanner.end();
  const text = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
  if (!isUtf8(text)) refuse('it is not UTF-8');
  const narrow = isAscii(text);
  // An escape may also make a string's characters two bytes each.
  const textBytes = narrow && !text.includes('\\u') ? text.length : 2 * text.length;
  requireRoom(textBytes);
  let parsed: unknown;
  try {
    parsed = JSON.parse(text.toString(narrow ? 'latin1' : 'utf8'));
  } catch (error) {
    refuse('it is not JSON', error);
  }
  // A lone surrogate can only come from an escape. It would silently become U+FFFD on its way to the server.
  const surrogates = text.includes('\\ud') || text.includes('\\uD');
  return { parsed, surrogates, long, bytes, heldBytes: textBytes + scanner.heldBytes };
}

function requireRoom(textBytes: number): void {
  if (textBytes <= MAX_TEXT_BYTES) return;
  refuseLarge(`its values below ${LONG_STRING_BYTES} bytes take more than ${MAX_TEXT_BYTES} bytes of memory`);
}

/** A frame, unpacked. */
interface Part {
  readonly frame: Frame;
  readonly bytes: Buffer;
}

/** Counts what JSON.parse would build, and takes the long strings out. */
class Scanner {
  readonly #long: Map<string, LongJsonString>;
  readonly #mark = randomUUID();
  readonly #scan = new JsonScan(LIMITS, refuse);
  readonly #chunks: Buffer[] = [];
  #keptBytes = 0;
  /** Frames that stay in memory for the long strings in them. */
  readonly #held = new Set<Buffer>();
  /** The pieces of the open string from earlier parts. */
  #open: (Buffer | Again)[] = [];
  /** The same pieces in memory, as long as the string is not long. */
  #openChunks: Buffer[] = [];
  #openBytes = 0;

  constructor(long: Map<string, LongJsonString>) {
    this.#long = long;
  }

  /** The bytes that long strings and the places of values keep in memory. */
  get heldBytes(): number {
    let bytes = this.#scan.values * PLACE_BYTES;
    for (const each of this.#held) bytes += each.length;
    return bytes;
  }

  /** Reads the next part of the text, and releases what is no longer needed. */
  scan(part: Part): void {
    const { bytes } = part;
    const before = this.#chunks.length;
    this.#scan.nextPart();
    let kept = 0;
    let at = 0;
    while (at < bytes.length) {
      if (!this.#scan.inString) {
        at = this.#scan.outside(bytes, at);
        if (at < 0) break;
      }
      const begin = at;
      const end = this.#scan.stringEnd(bytes, at);
      if (end < 0) {
        // The string continues in the next part.
        this.#keep(bytes, kept, begin);
        this.#goesOn(part, begin);
        if (this.#chunks.length === before && this.#openChunks.length === 0) this.#letGo(part);
        return;
      }
      if (this.#openBytes + end - begin > LONG_STRING_BYTES) {
        this.#keep(bytes, kept, begin);
        const name = `${this.#mark}${this.#long.size}`;
        this.#long.set(name, new LongJsonString([...this.#open, this.#stretch(part, begin, end)]));
        this.#chunks.push(Buffer.from(name));
        kept = end;
      } else for (const chunk of this.#openChunks) this.#keep(chunk, 0, chunk.length);
      this.#open = [];
      this.#openChunks = [];
      this.#openBytes = 0;
      at = end + 1;
    }
    this.#keep(bytes, kept, bytes.length);
  }

  /** The text, with names in place of its long strings. */
  end(): readonly Buffer[] {
    if (this.#scan.inString) refuse('a string does not end');
    return this.#chunks;
  }

  #keep(bytes: Buffer, from: number, to: number): void {
    if (to <= from) return;
    this.#keptBytes += to - from;
    requireRoom(this.#keptBytes);
    this.#chunks.push(bytes.subarray(from, to));
  }

  /** The open string reaches at least from there to the end of the part. */
  #goesOn(part: Part, from: number): void {
    const { bytes } = part;
    this.#open.push(this.#stretch(part, from, bytes.length));
    this.#openBytes += bytes.length - from;
    if (this.#openBytes > LONG_STRING_BYTES) this.#openChunks = [];
    else this.#openChunks.push(bytes.subarray(from));
  }

  /** A piece of a part for later use, either kept in memory or unpacked again. */
  #stretch({ frame, bytes }: Part, from: number, to: number): Buffer | Again {
    const size = bytes.length;
    if (size <= MOST_AGAIN_BYTES) {
      return { length: to - from, read: () => frame.unpack(size).subarray(from, to) };
    }
    this.#held.add(bytes);
    return bytes.subarray(from, to);
  }

  #letGo({ bytes }: Part): void {
    if (bytes.length <= MOST_AGAIN_BYTES) release(bytes);
  }
}
