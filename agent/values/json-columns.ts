/**
 * A batch's columns, already as the JSON that is sent: the text between the brackets of each column's array, with a
 * comma after each value. Most values of the stream are written here straight from their bytes (value-writers.ts). They
 * never become JavaScript values, so they make no garbage and need no JSON.stringify.
 *
 * Invariant: between rows, all columns of one JsonColumns hold the same number of values, each of them well-formed JSON
 * in ASCII or UTF-8.
 */
import { isUtf8 } from 'node:buffer';
import { assert } from '../../shared/errors.ts';
import type { Value } from '../../shared/batch/batch.ts';
import type { WrittenChange } from '../../shared/batch/encoder.ts';
import type { LongValue } from '../../shared/batch/long-value.ts';

/** The most memory of closed batches that is kept for later ones, over all tables. */
const MOST_KEPT_BYTES = 8 * 1024 * 1024;
/** A column's first buffer. Each larger one is twice the size. */
const LEAST_BYTES = 1024;
/** Strings up to this length are written character by character. */
const SHORT = 48;
/** The bytes of a text longer than this are counted before room is made for it, instead of estimated. */
const LONG = 4096;
/** Room for the digits of a safe integer, its sign and a comma. */
const NUMBER_ROOM = 24;

const COMMA = 0x2c;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const ZERO = 0x30;
const MINUS = 0x2d;
const BILLION = 1_000_000_000;

/** Free buffers by size; the most recently used is last. */
const kept = new Map<number, Buffer[]>();
let keptBytes = 0;

function take(size: number): Buffer {
  const found = kept.get(size)?.pop();
  if (found === undefined) return Buffer.allocUnsafeSlow(size);
  keptBytes -= size;
  return found;
}

function give(memory: Buffer): void {
  if (keptBytes + memory.length > MOST_KEPT_BYTES) return;
  keptBytes += memory.length;
  const same = kept.get(memory.length);
  if (same === undefined) kept.set(memory.length, [memory]);
  else same.push(memory);
}

const NONE = Buffer.alloc(0);

/** One column. Writers of values use its fields directly, because they are capture's hottest code. */
export class JsonColumn {
  bytes: Buffer = NONE;
  /** Where the next value begins. */
  end = 0;
  /** Whether bytes of 0x80 and above were copied that are not checked to be UTF-8 yet. */
  unchecked = false;
  /** Long values by their names in `bytes`; null: none. */
  long: Map<string, LongValue> | null = null;
  longBytes = 0;

  /** Makes room for `more` bytes. */
  reserve(more: number): void {
    const needed = this.end + more;
    if (needed <= this.bytes.length) return;
    let size = Math.max(LEAST_BYTES, this.bytes.length);
    while (size < needed) size *= 2;
    const larger = take(size);
    this.bytes.copy(larger, 0, 0, this.end);
    if (this.bytes.length > 0) give(this.bytes);
    this.bytes = larger;
  }

  /** Adds a value that is too long to copy: the JSON holds only its name. */
  putLong(value: LongValue): void {
    (this.long ??= new Map()).set(value.name, value);
    this.longBytes += value.bytes;
    this.#putPlain(value.name, true);
  }

  putNull(): void {
    this.reserve(5);
    const { bytes, end } = this;
    bytes[end] = 0x6e;
    bytes[end + 1] = 0x75;
    bytes[end + 2] = 0x6c;
    bytes[end + 3] = 0x6c;
    bytes[end + 4] = COMMA;
    this.end = end + 5;
  }

  putNumber(value: number): void {
    if (!Number.isSafeInteger(value)) {
      // JSON.stringify would make it null, a wrong value that nobody notices.
      if (!Number.isFinite(value)) throw new RangeError(`${value} is not a number that a batch can carry`);
      this.#putPlain(String(value), false);
      return;
    }
    this.reserve(NUMBER_ROOM);
    const { bytes } = this;
    let at = this.end;
    let rest = value;
    if (rest < 0) {
      bytes[at++] = MINUS;
      rest = -rest;
    }
    at = putInteger(bytes, at, rest);
    bytes[at] = COMMA;
    this.end = at + 1;
  }

  putText(text: string): void {
    if (text.length <= SHORT && this.#putShort(text)) return;
    const json = JSON.stringify(text);
    this.reserve(1 + (json.length > LONG ? Buffer.byteLength(json) : 3 * json.length));
    const end = this.end + this.bytes.write(json, this.end);
    this.bytes[end] = COMMA;
    this.end = end + 1;
  }

  /** Adds ASCII text in which nothing needs an escape, such as base64. */
  putPlainText(text: string): void {
    this.#putPlain(text, true);
  }

  put(value: Value): void {
    if (value === null) this.putNull();
    else if (typeof value === 'number') this.putNumber(value);
    else if (typeof value === 'string') this.putText(value);
    else this.putLong(value);
  }

  #putPlain(text: string, quoted: boolean): void {
    this.reserve(text.length + 3);
    const { bytes } = this;
    let at = this.end;
    if (quoted) bytes[at++] = QUOTE;
    at += bytes.write(text, at, 'latin1');
    if (quoted) bytes[at++] = QUOTE;
    bytes[at] = COMMA;
    this.end = at + 1;
  }

  /** Returns false, and writes nothing, if the text needs escapes or encoding. */
  #putShort(text: string): boolean {
    this.reserve(text.length + 3);
    const { bytes } = this;
    let at = this.end;
    bytes[at++] = QUOTE;
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      if (code < 0x20 || code >= 0x7f || code === QUOTE || code === BACKSLASH) return false;
      bytes[at++] = code;
    }
    bytes[at] = QUOTE;
    bytes[at + 1] = COMMA;
    this.end = at + 2;
    return true;
  }

  /** Where the value that begins at `start` ends, its comma included. */
  valueEnd(start: number): number {
    const { bytes } = this;
    let at = start;
    if (bytes[at] === QUOTE) {
      at += 1;
      while (bytes[at] !== QUOTE) at += bytes[at] === BACKSLASH ? 2 : 1;
    }
    while (bytes[at] !== COMMA) at += 1;
    return at + 1;
  }

  /** Empties the column and returns its buffer for reuse. */
  clear(): void {
    if (this.bytes.length > 0) give(this.bytes);
    this.bytes = NONE;
    this.end = 0;
    this.unchecked = false;
    this.long = null;
    this.longBytes = 0;
  }
}

/** Writes a safe integer ≥ 0 in decimal and returns where it ends. The caller has made room for it. */
export function putInteger(bytes: Buffer, at: number, value: number): number {
  if (value < BILLION) return putSmall(bytes, at, value);
  const billions = Math.floor(value / BILLION);
  return putDigits(bytes, putSmall(bytes, at, billions), value - billions * BILLION, 9);
}

/** The same for a number below 10⁹. */
function putSmall(bytes: Buffer, at: number, value: number): number {
  let width = 1;
  for (let limit = 10; value >= limit; limit *= 10) width += 1;
  return putDigits(bytes, at, value, width);
}

/** Writes exactly `width` digits (at most nine), padded with zeros. Returns where they end. */
export function putDigits(bytes: Buffer, at: number, value: number, width: number): number {
  let rest = value;
  for (let place = at + width - 1; place >= at; place--) {
    const tens = (rest / 10) | 0;
    bytes[place] = ZERO + rest - tens * 10;
    rest = tens;
  }
  return at + width;
}

/** Rows of one table, column by column. */
export class JsonColumns {
  readonly columns: readonly JsonColumn[];
  readonly #marks: number[];
  #rows = 0;

  constructor(count: number) {
    this.columns = Array.from({ length: count }, () => new JsonColumn());
    this.#marks = this.columns.map(() => 0);
  }

  get rows(): number {
    return this.#rows;
  }

  get bytes(): number {
    let sum = 0;
    for (let c = 0; c < this.columns.length; c++) sum += this.columns[c]!.end + this.columns[c]!.longBytes;
    return sum;
  }

  /** @param values values[c][r] */
  append(rows: number, values: readonly (readonly Value[])[]): void {
    assert(values.length === this.columns.length, 'rows have other columns than their table');
    for (let c = 0; c < this.columns.length; c++) {
      const column = this.columns[c]!;
      const from = values[c]!;
      for (let r = 0; r < rows; r++) column.put(from[r]!);
    }
    this.#rows += rows;
  }

  /** To be called before rows are written to the columns. Until `keep`, `undo` takes them back. */
  begin(): void {
    for (let c = 0; c < this.columns.length; c++) this.#marks[c] = this.columns[c]!.end;
  }

  /** Keeps the rows that were written since `begin`. */
  keep(rows: number): void {
    this.#rows += rows;
  }

  /** Discards what was written since `begin`. */
  undo(): void {
    this.columns.forEach((column, c) => {
      column.end = this.#marks[c]!;
      column.unchecked = false;
    });
  }

  /** Checks what was copied unchecked since `begin`. Returns whether it is UTF-8. */
  check(): boolean {
    for (let c = 0; c < this.columns.length; c++) {
      const column = this.columns[c]!;
      if (!column.unchecked) continue;
      if (!isUtf8(column.bytes.subarray(this.#marks[c], column.end))) return false;
      column.unchecked = false;
    }
    return true;
  }

  /** Drops rows, and returns the JSON of the columns without brackets. It is valid until the next change. */
  without(dropped: ReadonlySet<number>): Pick<WrittenChange, 'rows' | 'json' | 'long'> {
    if (dropped.size > 0) for (const column of this.columns) this.#drop(column, dropped);
    this.#rows -= dropped.size;
    const json = this.columns.map(({ bytes, end }) => bytes.subarray(0, Math.max(0, end - 1)));
    const long = new Map(this.columns.flatMap(column => [...(column.long ?? [])]));
    return { rows: this.#rows, json, long };
  }

  /** Copies of some rows, as `without` returns them. To be called before `without`. */
  only(chosen: ReadonlySet<number>): Pick<WrittenChange, 'rows' | 'json' | 'long'> {
    const json = this.columns.map(column => {
      const pieces: Buffer[] = [];
      let from = 0;
      for (let row = 0; row < this.#rows; row++) {
        const end = column.valueEnd(from);
        if (chosen.has(row)) pieces.push(column.bytes.subarray(from, end));
        from = end;
      }
      const all = Buffer.concat(pieces);
      return all.subarray(0, Math.max(0, all.length - 1));
    });
    return { rows: chosen.size, json, long: new Map(this.columns.flatMap(column => [...(column.long ?? [])])) };
  }

  /** Removes the dropped rows from a column. */
  #drop(column: JsonColumn, dropped: ReadonlySet<number>): void {
    const { bytes } = column;
    let to = 0;
    let from = 0;
    for (let row = 0; row < this.#rows; row++) {
      const end = column.valueEnd(from);
      if (!dropped.has(row)) {
        if (to !== from) bytes.copyWithin(to, from, end);
        to += end - from;
      }
      from = end;
    }
    column.end = to;
  }

  clear(): void {
    for (const column of this.columns) column.clear();
    this.#rows = 0;
  }
}
