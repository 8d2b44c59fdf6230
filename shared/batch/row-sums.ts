/**
 * Compares tables of two databases by sums of row digests in buckets. Pure.
 *
 * A digest is SHA-256 over the canonical texts of the row's values, in the order of the branch's columns. The head
 * office may hold a value in a wider column, which prints it differently. So the text depends on the value alone:
 *
 * | kind | canonical text |
 * |---|---|
 * | integers, BIT, YEAR | decimal digits |
 * | DECIMAL | without zeros at either end |
 * | FLOAT, DOUBLE | the shortest that reads back as the same; −0 is "-0" |
 * | dates and times | without zeros at the end of the fraction |
 * | texts, ENUM, SET | as they are |
 * | JSON | as MySQL prints it, with marks for the types that the text does not show (typed-json.ts) |
 * | bytes, GEOMETRY, VECTOR | base64 |
 *
 * Sums are taken modulo 2³² over four lanes of the digest. XOR would not do: two equal rows of a table without a key
 * would cancel out. A row's key decides its bucket, so a different value changes one bucket only.
 */
import { createHash, hash } from 'node:crypto';
import type { Hash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import type { Value } from './batch.ts';
import { wireKind } from './column-type.ts';
import type { ColumnType } from './column-type.ts';
import { assert } from '../errors.ts';
import { LongValue } from './long-value.ts';
import type { WireKind } from './type-table.ts';
import { holdsTypes } from './typed-json.ts';

/** Per table. */
export const MAX_BUCKETS = 1_024;
const ROWS_PER_BUCKET = 250;
/** Rows, then four lanes of 32 bits. */
const WORDS = 5;
const WORD_BYTES = 4;

/** The columns of a row, in order, and those of its key, in key order. Without a key all columns identify the row. */
export interface RowShape {
  readonly types: readonly ColumnType[];
  readonly key: readonly number[];
}

/** What a row adds to the sums. */
export interface RowMark {
  readonly bucket: number;
  readonly digest: Buffer;
  /** What a sketch (row-sketch.ts) calls the row; null: the sums have no use for it. */
  readonly name: Buffer | null;
  /** JSON columns whose document holds types that its text does not show, by their places in the shape. */
  readonly typed: readonly number[];
}

/** Sums of a table's rows, by bucket. */
export interface RowSums {
  readonly buckets: number;
  /** The typed columns of all rows that were added. Not part of `toBytes`. */
  readonly typed: ReadonlySet<number>;
  readonly rows: number;
  add(row: RowMark): void;
  toBytes(): Buffer;
}

/** The bytes of a row's name: the beginning of the digest of its key or, without a key, of all its values. */
export const NAME_BYTES = 8;

const NONE: readonly number[] = [];

/** The number of buckets for a table of about this many rows. */
export function bucketsFor(rows: number | null): number {
  return Math.min(MAX_BUCKETS, Math.max(1, Math.ceil((rows ?? 0) / ROWS_PER_BUCKET)));
}

/**
 * @param values of the shape's columns, in order
 * @param named whether the sums are a sketch, which needs names and no buckets
 */
export function markRow(shape: RowShape, values: readonly Value[], buckets: number, named = false): RowMark {
  const { types, key } = shape;
  const texts = types.map((type, index) => canonicalText(values[index] ?? null, wireKind(type)));
  const digest = digestOf(texts);
  const typed = typedColumns(types, texts);
  if (named) {
    const identity = key.length === 0 ? digest : digestOf(key.map(index => texts[index]!));
    return { bucket: 0, digest, typed, name: identity.subarray(0, NAME_BYTES) };
  }
  if (key.length === 0) return { bucket: digest.readUInt32LE(WORDS * WORD_BYTES) % buckets, digest, typed, name: null };
  const name = key.map(index => String(texts[index])).join('\0');
  return { bucket: crc32(name) % buckets, digest, typed, name: null };
}

/**
 * The name of a row in hexadecimal, as `markRow` makes it.
 * @param identity the values of its key, in key order or, without a key, all its values
 */
export function rowName({ types, key }: RowShape, identity: readonly Value[]): string {
  const named = key.length === 0 ? types : key.map(index => types[index]!);
  const texts = named.map((type, place) => canonicalText(identity[place] ?? null, wireKind(type)));
  return digestOf(texts).toString('hex', 0, NAME_BYTES);
}

/** The values by which `rowName` names a row. @param values of the shape's columns, in order */
export function identityOf({ key }: RowShape, values: readonly Value[]): readonly Value[] {
  return key.length === 0 ? values : key.map(index => values[index]!);
}

/** Whether two values of a column are the same to a comparison. */
export function isSameValue(type: ColumnType, a: Value, b: Value): boolean {
  if (a === b) return true;
  const kind = wireKind(type);
  return digestOf([canonicalText(a, kind)]).equals(digestOf([canonicalText(b, kind)]));
}

function typedColumns(types: readonly ColumnType[], texts: readonly (string | LongValue | null)[]): readonly number[] {
  let found = NONE;
  for (let index = 0; index < types.length; index += 1) {
    if (types[index]!.base === 'json' && holdsTypes(texts[index]!)) found = [...found, index];
  }
  return found;
}

/** The canonical text of a value; null for NULL. */
export function canonicalText(value: Value, kind: WireKind): string | LongValue | null {
  if (value === null) return null;
  switch (kind) {
    case 'integer':
    case 'text':
    case 'json':
    case 'bytes':
      return value instanceof LongValue ? value : String(value);
    case 'decimal':
      return plainDecimal(String(value));
    case 'float':
      return realText(Math.fround(Number(value)));
    case 'double':
      return realText(Number(value));
    case 'temporal':
      return withoutFractionZeros(String(value));
  }
}

function realText(value: number): string {
  return Object.is(value, -0) ? '-0' : String(value);
}

function withoutFractionZeros(text: string): string {
  return text.includes('.') ? text.replace(/\.?0+$/, '') : text;
}

function plainDecimal(text: string): string {
  const [, sign = '', digits = text] = /^(-?)0*(\d.*)$/.exec(text) ?? [];
  const plain = withoutFractionZeros(digits);
  return plain === '0' ? plain : sign + plain;
}

/** Digests the texts, each followed by its length, so that different rows never give the same input. */
function digestOf(texts: readonly (string | LongValue | null)[]): Buffer {
  let long: Hash | null = null;
  let written = '';
  for (const text of texts) {
    if (text === null) written += '~|';
    else if (typeof text === 'string') written += `${text};${text.length}|`;
    else {
      long ??= createHash('sha256');
      long.update(written);
      let length = 0;
      for (const piece of text.pieces()) {
        long.update(piece);
        length += piece.length;
      }
      written = `;${length}|`;
    }
  }
  return long === null ? hash('sha256', written, 'buffer') : long.update(written).digest();
}

/** Rows and sums of their digests, by bucket. */
export class TableSums implements RowSums {
  readonly buckets: number;
  /** The typed columns of all rows that were added. Not part of `toBytes`. */
  readonly typed = new Set<number>();
  readonly #words: Uint32Array;

  constructor(buckets: number) {
    assert(Number.isInteger(buckets) && buckets >= 1 && buckets <= MAX_BUCKETS, `${buckets} buckets`);
    this.buckets = buckets;
    this.#words = new Uint32Array(buckets * WORDS);
  }

  add({ bucket, digest, typed }: RowMark): void {
    for (const column of typed) this.typed.add(column);
    const at = bucket * WORDS;
    // A Uint32Array wraps modulo 2³².
    this.#words[at]! += 1;
    for (let lane = 1; lane < WORDS; lane += 1) this.#words[at + lane]! += digest.readUInt32LE((lane - 1) * WORD_BYTES);
  }

  get rows(): number {
    let rows = 0;
    for (let bucket = 0; bucket < this.buckets; bucket += 1) rows += this.rowsIn(bucket);
    return rows;
  }

  rowsIn(bucket: number): number {
    return this.#words[bucket * WORDS]!;
  }

  /** The buckets that differ. */
  differing(other: TableSums): number[] {
    assert(other.buckets === this.buckets, `${this.buckets} buckets beside ${other.buckets}`);
    const found = new Set<number>();
    this.#words.forEach((word, index) => {
      if (word !== other.#words[index]) found.add(Math.floor(index / WORDS));
    });
    return [...found];
  }

  toBytes(): Buffer {
    const bytes = Buffer.alloc(this.#words.length * WORD_BYTES);
    this.#words.forEach((word, index) => bytes.writeUInt32LE(word, index * WORD_BYTES));
    return bytes;
  }

  /** Reads the bytes of `toBytes`; null if they are malformed. */
  static fromBytes(bytes: Buffer): TableSums | null {
    const buckets = bytes.length / (WORDS * WORD_BYTES);
    if (!Number.isInteger(buckets) || buckets < 1 || buckets > MAX_BUCKETS) return null;
    const sums = new TableSums(buckets);
    sums.#words.forEach((_, index) => (sums.#words[index] = bytes.readUInt32LE(index * WORD_BYTES)));
    return sums;
  }
}
