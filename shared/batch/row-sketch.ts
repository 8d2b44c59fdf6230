/**
 * Sums of rows from which the rows that differ can be named: an invertible Bloom filter (Eppstein, Goodrich, Uyeda,
 * Varghese 2011, "What's the difference?"). Pure.
 *
 * Every row is added to three buckets, one of each part. A bucket counts its rows, and sums their names, digests and
 * checks. The difference of two sketches holds only the rows that differ, because equal rows cancel out. A bucket that
 * holds one of them shows its name. Taking it out of its other buckets leaves others alone there, and so on. About
 * three buckets for two rows are enough. A changed row counts as two: what either side holds. Rarely a few rows share all
 * their buckets and cannot be told apart. Each comparison has a salt of its own, so that the next one places them anew.
 *
 * Sums are taken modulo a prime, so that several copies of one row can be divided by their number.
 */
import { crc32 } from 'node:zlib';
import { assert } from '../errors.ts';
import { NAME_BYTES } from './row-sums.ts';
import type { RowMark, RowSums } from './row-sums.ts';
import { TableSums } from './row-sums.ts';

/** The most rows of one table that are named. */
export const MAX_NAMED_ROWS = 500;
const PARTS = 3;
/** Two rows meet in all three parts once in 262,144 times. */
const LEAST_IN_PART = 64;
/** If more buckets are left that hold several rows, the names of the others are of little use. */
const MOST_LEFT = 12;
/** With three parts, a few hundred changed rows, in 24 KiB. */
const MOST_IN_PART = 341;
const ROWS_PER_BUCKET = 25;
/** Rows, two words of the name, two of the digest, the check. */
const WORDS = 6;
const WORD_BYTES = 4;
/** The place of the check among the words of a row. */
const CHECK = 4;
/** The largest prime below 2³². */
const PRIME = 4_294_967_291;
const PLACE_BITS = 21;
const PLACE_MASK = 2 ** PLACE_BITS - 1;

/** The number of buckets of a sketch for a table of about this many rows. */
export function sketchBucketsFor(rows: number | null): number {
  return PARTS * Math.min(MOST_IN_PART, Math.max(LEAST_IN_PART, Math.ceil((rows ?? 0) / ROWS_PER_BUCKET)));
}

/** Empty sums. @param salt decides the places of rows in a sketch; both sides use the verification's id */
export function emptySums(buckets: number, sketch: boolean, salt: string): RowSums {
  return sketch ? new RowSketch(buckets, salt) : new TableSums(buckets);
}

/** Reads the bytes of sums; null if they are malformed. */
export function readSums(bytes: Buffer, sketch: boolean, salt: string): TableSums | RowSketch | null {
  return sketch ? RowSketch.fromBytes(bytes, salt) : TableSums.fromBytes(bytes);
}

/** Whether this number of buckets is possible. */
export function isSketchSize(buckets: number): boolean {
  return Number.isInteger(buckets) && buckets >= PARTS && buckets <= PARTS * MOST_IN_PART && buckets % PARTS === 0;
}

export class RowSketch implements RowSums {
  readonly buckets: number;
  readonly typed = new Set<number>();
  readonly #words: Uint32Array;
  readonly #salt: string;
  readonly #shape: Shape;

  constructor(buckets: number, salt: string) {
    assert(isSketchSize(buckets), `a sketch of ${buckets} buckets`);
    this.buckets = buckets;
    this.#words = new Uint32Array(buckets * WORDS);
    this.#salt = salt;
    this.#shape = { buckets, salt: crc32(salt) };
  }

  add({ name, digest, typed }: RowMark): void {
    assert(name !== null, 'A row without a name is added to a sketch.');
    for (const column of typed) this.typed.add(column);
    addTo(this.#words, this.#shape, wordsOf(name, digest), 1);
  }

  get rows(): number {
    let rows = 0;
    for (let bucket = 0; bucket < this.buckets / PARTS; bucket += 1) rows += this.#words[bucket * WORDS]!;
    return rows;
  }

  /** The buckets that differ. */
  differing(other: RowSketch): number {
    return countBuckets(this.#minus(other));
  }

  /** The rows that differ; null: there are too many to name them. */
  differingRows(other: RowSketch): NamedRows | null {
    const words = this.#minus(other);
    const names = new Set<string>();
    const waiting = Array.from({ length: this.buckets }, (_, bucket) => bucket);
    // Each row that is taken out lets three buckets be looked at again. More than this is no real difference.
    for (let left = this.buckets * (1 + 2 * PARTS); waiting.length > 0 && left > 0; left -= 1) {
      const bucket = waiting.pop()!;
      const row = onlyRow(words, this.#shape, bucket);
      if (row === null) continue;
      names.add(nameText(row.words));
      addTo(words, this.#shape, row.words, PRIME - row.copies);
      for (let part = 0; part < PARTS; part += 1) waiting.push(bucketOf(row.words, part, this.#shape));
    }
    const left = countBuckets(words);
    return left > MOST_LEFT || names.size > MAX_NAMED_ROWS ? null : { names: [...names], complete: left === 0 };
  }

  #minus(other: RowSketch): Uint32Array {
    assert(other.buckets === this.buckets && other.#salt === this.#salt, 'The sketches are of two comparisons.');
    return this.#words.map((word, index) => (word + PRIME - other.#words[index]!) % PRIME);
  }

  toBytes(): Buffer {
    const bytes = Buffer.alloc(this.#words.length * WORD_BYTES);
    this.#words.forEach((word, index) => bytes.writeUInt32LE(word, index * WORD_BYTES));
    return bytes;
  }

  /** Reads the bytes of `toBytes`; null if they are malformed. */
  static fromBytes(bytes: Buffer, salt: string): RowSketch | null {
    const buckets = bytes.length / (WORDS * WORD_BYTES);
    if (!isSketchSize(buckets)) return null;
    const sketch = new RowSketch(buckets, salt);
    for (let index = 0; index < sketch.#words.length; index += 1) {
      const word = bytes.readUInt32LE(index * WORD_BYTES);
      if (word >= PRIME) return null;
      sketch.#words[index] = word;
    }
    return sketch;
  }
}

/** Rows that differ. */
export interface NamedRows {
  /** In hexadecimal. */
  readonly names: readonly string[];
  /** Whether these are all. */
  readonly complete: boolean;
}

/** What decides the buckets of rows. */
interface Shape {
  readonly buckets: number;
  readonly salt: number;
}

/** The buckets that hold anything. */
function countBuckets(words: Uint32Array): number {
  let found = 0;
  for (let at = 0; at < words.length; at += WORDS) {
    if (words.subarray(at, at + WORDS).some(word => word !== 0)) found += 1;
  }
  return found;
}

/** Two words of the name, two of the digest, and the check of these four. */
type Words = readonly number[];

function wordsOf(name: Buffer, digest: Buffer): Words {
  const words = [
    name.readUInt32LE(0) % PRIME,
    name.readUInt32LE(WORD_BYTES) % PRIME,
    // The name of a row without a key is the beginning of its digest.
    digest.readUInt32LE(NAME_BYTES) % PRIME,
    digest.readUInt32LE(NAME_BYTES + WORD_BYTES) % PRIME,
  ];
  words.push(checkOf(words));
  return words;
}

/** A number that follows from all bits of the first four words. */
function checkOf(words: Words): number {
  let check = 0;
  for (let word = 0; word < CHECK; word += 1) {
    check = mixed(check ^ words[word]!);
  }
  return check % PRIME;
}

/** Every bit of the result depends on every bit of the number (the end of MurmurHash3). */
function mixed(number: number): number {
  let bits = Math.imul(number ^ (number >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return (bits ^ (bits >>> 16)) >>> 0;
}

/** The row's bucket in a part. */
function bucketOf(words: Words, part: number, { buckets, salt }: Shape): number {
  const low = mixed(words[2]! ^ salt);
  const high = mixed(words[3]! ^ salt);
  const inPart = buckets / PARTS;
  const places = part === 0 ? low & PLACE_MASK : part === 1 ? high & PLACE_MASK : restOf(low, high);
  return part * inPart + (places % inPart);
}

function restOf(low: number, high: number): number {
  return (low >>> PLACE_BITS) + (high >>> PLACE_BITS) * 2 ** (32 - PLACE_BITS);
}

/** Adds copies of a row, modulo the prime. */
function addTo(sums: Uint32Array, shape: Shape, words: Words, copies: number): void {
  for (let part = 0; part < PARTS; part += 1) {
    const at = bucketOf(words, part, shape) * WORDS;
    sums[at] = (sums[at]! + copies) % PRIME;
    for (let word = 0; word <= CHECK; word += 1) {
      const sum = sums[at + 1 + word]! + times(words[word]!, copies);
      sums[at + 1 + word] = sum < PRIME ? sum : sum - PRIME;
    }
  }
}

/** The row that is alone in a bucket, with the number of its copies modulo the prime; null: there is not one alone. */
function onlyRow(
  sums: Uint32Array,
  shape: Shape,
  bucket: number,
): { readonly words: Words; readonly copies: number } | null {
  const copies = sums[bucket * WORDS]!;
  if (copies === 0) return null;
  const inverse = inverseOf(copies);
  const words = Array.from(sums.subarray(bucket * WORDS + 1, (bucket + 1) * WORDS), sum => times(sum, inverse));
  const part = Math.floor(bucket / (shape.buckets / PARTS));
  if (words[CHECK] !== checkOf(words) || bucketOf(words, part, shape) !== bucket) return null;
  return { words, copies };
}

function times(a: number, b: number): number {
  if (b === 1) return a;
  return Number((BigInt(a) * BigInt(b)) % BigInt(PRIME));
}

/** By Fermat. */
function inverseOf(value: number): number {
  if (value === 1 || value === PRIME - 1) return value;
  let result = 1;
  let base = value;
  for (let exponent = PRIME - 2; exponent > 0; exponent = Math.floor(exponent / 2)) {
    if (exponent % 2 === 1) result = times(result, base);
    base = times(base, base);
  }
  return result;
}

function nameText(words: Words): string {
  const bytes = Buffer.alloc(NAME_BYTES);
  bytes.writeUInt32LE(words[0]!, 0);
  bytes.writeUInt32LE(words[1]!, WORD_BYTES);
  return bytes.toString('hex');
}
