/**
 * The zstd frames of a body, which may come in several buffers. They are found without unpacking, and each is unpacked
 * alone, as often as needed. So only one frame of a body with a value of 64 MiB is unpacked in memory at a time.
 *
 * The bytes are hostile. Anything that is not a sequence of whole frames throws BATCH_INVALID. A frame that unpacks to
 * more than the limit throws BATCH_TOO_LARGE.
 */
import { zstdDecompressSync } from 'node:zlib';
import { TributaryError } from '../errors.ts';
import { release } from '../release.ts';

/** A frame is unpacked into buffers of this many times its size: one, if it compresses badly. */
const CHUNK_RATIO = 2;
const LEAST_CHUNK_BYTES = 16 * 1024;
const MOST_CHUNK_BYTES = 4 * 1024 * 1024 + 128 * 1024;

const ZSTD_MAGIC = 0xfd2fb528;
const RLE_BLOCK = 1;
const RESERVED_BLOCK = 3;

export function refuse(reason: string, cause?: unknown): never {
  throw new TributaryError('BATCH_INVALID', `The batch is malformed: ${reason}.`, { cause });
}

export function refuseLarge(reason: string, cause?: unknown): never {
  throw new TributaryError('BATCH_TOO_LARGE', `The batch is too large: ${reason}.`, { cause });
}

/** A frame somewhere in a body. The body's buffers must not change. */
export class Frame {
  readonly #body: Joined;
  readonly #from: number;
  readonly #to: number;

  constructor(body: Joined, from: number, to: number) {
    this.#body = body;
    this.#from = from;
    this.#to = to;
  }

  /** Unpacks it into a buffer of the caller's own. @throws BATCH_INVALID; BATCH_TOO_LARGE for more than `most` bytes */
  unpack(most: number): Buffer {
    const { bytes, copied } = this.#body.stretch(this.#from, this.#to);
    try {
      return zstdDecompressSync(bytes, {
        maxOutputLength: Math.max(1, most),
        chunkSize: Math.min(MOST_CHUNK_BYTES, Math.max(LEAST_CHUNK_BYTES, CHUNK_RATIO * bytes.length)),
      });
    } catch (error) {
      if (error instanceof RangeError) return refuseLarge(`it unpacks to more than ${most} bytes`, error);
      return refuse('it does not unpack', error);
    } finally {
      if (copied) release(bytes);
    }
  }
}

/** Finds the frames of a body, because Node's zstd silently ends after the first one. */
export function* framesOf(body: readonly Uint8Array[]): Generator<Frame, void, undefined> {
  const joined = new Joined(body);
  for (let at = 0; at < joined.length;) {
    const end = frameEnd(joined, at);
    yield new Frame(joined, at, end);
    at = end;
  }
}

/** Where the frame that begins at a place ends (RFC 8878, section 3.1.1). */
function frameEnd(bytes: Joined, from: number): number {
  if (bytes.readUInt(from, 4) !== ZSTD_MAGIC) refuse('it does not unpack');
  const descriptor = bytes.readUInt(from + 4, 1);
  const single = (descriptor & 0x20) !== 0;
  const contentSize = [single ? 1 : 0, 2, 4, 8][descriptor >> 6]!;
  const dictionary = [0, 1, 2, 4][descriptor & 3]!;
  let at = from + 5 + (single ? 0 : 1) + dictionary + contentSize;
  for (let last = false; !last;) {
    const header = bytes.readUInt(at, 3);
    last = (header & 1) === 1;
    const type = (header >> 1) & 3;
    if (type === RESERVED_BLOCK) refuse('it does not unpack');
    at += 3 + (type === RLE_BLOCK ? 1 : header >> 3);
  }
  at += (descriptor & 4) !== 0 ? 4 : 0;
  if (at > bytes.length) refuse('it does not unpack');
  return at;
}

/** Reads several buffers as if they were one. */
class Joined {
  readonly length: number;
  readonly #parts: readonly { readonly bytes: Buffer; readonly begin: number; readonly end: number }[];
  /** The part that was read last. The next read is usually in it too. */
  #near = 0;

  constructor(buffers: readonly Uint8Array[]) {
    let begin = 0;
    this.#parts = buffers.map(({ buffer, byteOffset, byteLength }) => {
      const part = { bytes: Buffer.from(buffer, byteOffset, byteLength), begin, end: begin + byteLength };
      begin = part.end;
      return part;
    });
    this.length = begin;
  }

  /** An unsigned integer, least byte first. @throws BATCH_INVALID if the bytes end too early */
  readUInt(at: number, size: 1 | 3 | 4): number {
    if (at + size > this.length) refuse('it does not unpack');
    const { bytes, begin, end } = this.#partAt(at);
    if (at + size <= end) return bytes.readUIntLE(at - begin, size);
    return this.stretch(at, at + size).bytes.readUIntLE(0, size);
  }

  /** The bytes at a place; a copy if they are not in one buffer. */
  stretch(from: number, to: number): { readonly bytes: Buffer; readonly copied: boolean } {
    const { bytes, begin, end } = this.#partAt(from);
    if (to <= end) return { bytes: bytes.subarray(from - begin, to - begin), copied: false };
    const inside = this.#parts.filter(part => part.begin < to && part.end > from);
    const slices = inside.map(part => part.bytes.subarray(Math.max(0, from - part.begin), to - part.begin));
    return { bytes: Buffer.concat(slices), copied: true };
  }

  #partAt(at: number): { readonly bytes: Buffer; readonly begin: number; readonly end: number } {
    const holds = (index: number): boolean => {
      const part = this.#parts[index];
      return part !== undefined && part.begin <= at && at < part.end;
    };
    if (!holds(this.#near)) this.#near = this.#parts.findIndex((_, index) => holds(index));
    return this.#parts[this.#near] ?? refuse('it does not unpack');
  }
}
