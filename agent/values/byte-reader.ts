/**
 * Reads the body of an event with bounds checks. Row images are not read with it: they need to be faster
 * (value-decoders.ts).
 *
 * Invariant: no read goes past the end. A body that is too short is EVENT_MALFORMED, never a wrong value.
 */
import { TributaryError } from '../../shared/errors.ts';

export class ByteReader {
  readonly bytes: Buffer;
  readonly end: number;
  /** What is being read, for the error: `Rotate event`. */
  readonly what: string;
  at: number;

  constructor(bytes: Buffer, what: string, at = 0, end = bytes.length) {
    this.bytes = bytes;
    this.what = what;
    this.at = at;
    this.end = end;
    if (at > end || end > bytes.length) this.fail('ends too early');
  }

  get left(): number {
    return this.end - this.at;
  }

  fail(problem: string): never {
    throw new TributaryError('EVENT_MALFORMED', `The ${this.what} ${problem}.`);
  }

  /** Skips `length` bytes and returns where they begin. */
  skip(length: number): number {
    const at = this.at;
    if (length < 0 || length > this.end - at) this.fail('ends too early');
    this.at = at + length;
    return at;
  }

  u8(): number {
    return this.bytes.readUInt8(this.skip(1));
  }

  u16(): number {
    return this.bytes.readUInt16LE(this.skip(2));
  }

  u32(): number {
    return this.bytes.readUInt32LE(this.skip(4));
  }

  u48(): number {
    return this.bytes.readUIntLE(this.skip(6), 6);
  }

  u64(): number {
    return this.#safe(Number(this.bytes.readBigUInt64LE(this.skip(8))));
  }

  #safe(value: number): number {
    if (!Number.isSafeInteger(value)) this.fail('holds a number that is too large');
    return value;
  }

  /** A length-encoded integer of the MySQL protocol. */
  lengthCoded(): number {
    const first = this.u8();
    if (first < 251) return first;
    if (first === 252) return this.u16();
    if (first === 253) return this.bytes.readUIntLE(this.skip(3), 3);
    if (first === 254) return this.u64();
    return this.fail('holds a malformed length');
  }

  /** A view of the buffer, not a copy. */
  slice(length: number): Buffer {
    const at = this.skip(length);
    return this.bytes.subarray(at, at + length);
  }

  text(length: number): string {
    const at = this.skip(length);
    return this.bytes.toString('utf8', at, at + length);
  }

  rest(): Buffer {
    return this.slice(this.left);
  }
}
