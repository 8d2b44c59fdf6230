/**
 * A writer for each column type. It reads a value's bytes at the cursor, moves the cursor past them, and writes the
 * value into a column as JSON. It writes the value that value-decoders.ts returns for the same bytes, but for common
 * types it makes no JavaScript value. test/unit/agent/values/value-writers.test.ts compares the two.
 *
 * As in value-decoders.ts, a read past the buffer's end gives nonsense, not an exception, and the caller checks for it.
 * UTF-8 text is copied unchecked. Before the caller hands rows over, it checks each column that is marked `unchecked`.
 */
import { LONG_BYTES } from '../../shared/batch/long-value.ts';
import type { Base } from '../../shared/batch/type-table.ts';
import { longDecoder, textDecoder } from './charsets.ts';
import { baseOf, lengthBytes } from './column-layout.ts';
import type { ColumnLayout } from './column-layout.ts';
import { isCompressed } from './compressed-column.ts';
import { putDigits, putInteger } from './json-columns.ts';
import type { JsonColumn } from './json-columns.ts';
import { decimalSize } from './number-text.ts';
import { SECONDS_A_DAY, epochDay, fractionBytes } from './temporal.ts';
import { bigEndian, decoderOf, littleEndian } from './value-decoders.ts';
import type { Cursor } from './decoder.ts';

export type Writer = (bytes: Buffer, into: JsonColumn) => void;

const COMMA = 0x2c;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const MINUS = 0x2d;
const COLON = 0x3a;
const POINT = 0x2e;
const SPACE = 0x20;

/** Room for any date or time. */
const SHORT_ROOM = 48;
/** Room for the parts of a DECIMAL besides its digits: quotes, sign, zero, point and comma. */
const DECIMAL_ROOM = 8;

type MakeWriter = (layout: ColumnLayout, cursor: Cursor) => Writer;

const WRITERS: Readonly<Record<Base, MakeWriter>> = {
  tinyint: valueWriter,
  smallint: valueWriter,
  mediumint: valueWriter,
  int: valueWriter,
  bigint: valueWriter,
  bit: valueWriter,
  year: valueWriter,
  decimal: decimalWriter,
  float: valueWriter,
  double: valueWriter,
  date: dateWriter,
  time: valueWriter,
  datetime: datetimeWriter,
  timestamp: timestampWriter,
  char: textWriter,
  varchar: textWriter,
  tinytext: textWriter,
  text: textWriter,
  mediumtext: textWriter,
  longtext: textWriter,
  enum: valueWriter,
  set: valueWriter,
  binary: plainWriter,
  varbinary: plainWriter,
  tinyblob: plainWriter,
  blob: plainWriter,
  mediumblob: plainWriter,
  longblob: plainWriter,
  geometry: plainWriter,
  vector: plainWriter,
  json: valueWriter,
};

/** Makes the writer of a column. `layout` must have a wire type (column-layout.ts). */
export function writerOf(layout: ColumnLayout, cursor: Cursor): Writer {
  return isCompressed(layout) ? valueWriter(layout, cursor) : WRITERS[baseOf(layout)](layout, cursor);
}

/** Decodes the value and writes it. */
function valueWriter(layout: ColumnLayout, cursor: Cursor): Writer {
  const decode = decoderOf(layout, cursor);
  return (bytes, into) => into.put(decode(bytes));
}

/** Writes bytes as base64. */
function plainWriter(layout: ColumnLayout, cursor: Cursor): Writer {
  const decode = decoderOf(layout, cursor);
  return (bytes, into) => {
    const value = decode(bytes);
    if (typeof value === 'object') into.put(value);
    else into.putPlainText(String(value));
  };
}

/** DECIMAL: groups of up to nine digits; number-text.ts describes the format. */
function decimalWriter(layout: ColumnLayout, cursor: Cursor): Writer {
  const precision = layout.meta >> 8;
  const scale = layout.meta & 0xff;
  const wholeGroups = groupsOf(precision - scale, true);
  const fractionGroups = groupsOf(scale, false);
  const width = decimalSize(precision, scale);
  const room = precision + DECIMAL_ROOM;
  return (bytes, into) => {
    let from = cursor.at;
    cursor.at = from + width;
    into.reserve(room);
    const out = into.bytes;
    let at = into.end;
    out[at++] = QUOTE;
    // The sign is the first bit, inverted; negative numbers have all bits inverted.
    let flip = 0x80;
    let mask = 0;
    if (bytes[from]! < 0x80) {
      out[at++] = MINUS;
      flip = 0x7f;
      mask = 0xff;
    }
    const first = at;
    for (let g = 0; g < wholeGroups.length; g++) {
      const { digits, bytes: count } = wholeGroups[g]!;
      const value = readGroup(bytes, from, count, flip, mask);
      flip = mask;
      from += count;
      if (at > first) at = putDigits(out, at, value, digits);
      else if (value > 0) at = putInteger(out, at, value);
    }
    if (at === first) at = putInteger(out, at, 0);
    if (scale > 0) out[at++] = POINT;
    for (let g = 0; g < fractionGroups.length; g++) {
      const { digits, bytes: count } = fractionGroups[g]!;
      at = putDigits(out, at, readGroup(bytes, from, count, flip, mask), digits);
      flip = mask;
      from += count;
    }
    into.end = close(out, at);
  };
}

interface Group {
  readonly digits: number;
  readonly bytes: number;
}

/** Splits digits into groups of nine. The partial group comes first before the point, and last after it. */
function groupsOf(digits: number, partialFirst: boolean): readonly Group[] {
  const full = Array.from({ length: Math.floor(digits / 9) }, () => ({ digits: 9, bytes: 4 }));
  const rest = digits % 9;
  if (rest === 0) return full;
  const partial = { digits: rest, bytes: decimalSize(rest, 0) };
  return partialFirst ? [partial, ...full] : [...full, partial];
}

/** Reads a big-endian number, with its first byte xored with `flip` and the others with `mask`. */
function readGroup(bytes: Buffer, at: number, count: number, flip: number, mask: number): number {
  let value = bytes[at]! ^ flip;
  for (let i = 1; i < count; i++) value = value * 256 + (bytes[at + i]! ^ mask);
  return value;
}

function close(out: Buffer, at: number): number {
  out[at] = QUOTE;
  out[at + 1] = COMMA;
  return at + 2;
}

function putDate(out: Buffer, at: number, year: number, month: number, day: number): number {
  putDigits(out, at, year, 4);
  out[at + 4] = MINUS;
  putDigits(out, at + 5, month, 2);
  out[at + 7] = MINUS;
  return putDigits(out, at + 8, day, 2);
}

function putClock(out: Buffer, at: number, hours: number, minutes: number, seconds: number): number {
  putDigits(out, at, hours, 2);
  out[at + 2] = COLON;
  putDigits(out, at + 3, minutes, 2);
  out[at + 5] = COLON;
  return putDigits(out, at + 6, seconds, 2);
}

/** `.ffffff` with exactly `digits` digits. An odd number of digits is stored with one more digit, a 0. */
function putFraction(out: Buffer, at: number, stored: number, digits: number): number {
  if (digits === 0) return at;
  out[at] = POINT;
  return putDigits(out, at + 1, (digits & 1) === 1 ? Math.floor(stored / 10) : stored, digits);
}

/** DATE: day, month and year in 5, 4 and 15 bits. */
function dateWriter(_: ColumnLayout, cursor: Cursor): Writer {
  return (bytes, into) => {
    const from = cursor.at;
    cursor.at = from + 3;
    const packed = bytes[from]! | (bytes[from + 1]! << 8) | (bytes[from + 2]! << 16);
    into.reserve(SHORT_ROOM);
    const out = into.bytes;
    out[into.end] = QUOTE;
    into.end = close(out, putDate(out, into.end + 1, packed >> 9, (packed >> 5) & 15, packed & 31));
  };
}

/** DATETIME: year × 13 + month in 17 bits, 5 of day, 5 of hours, 6 of minutes, 6 of seconds; then the fraction. */
function datetimeWriter(layout: ColumnLayout, cursor: Cursor): Writer {
  const digits = layout.meta;
  const extra = fractionBytes(digits);
  return (bytes, into) => {
    const from = cursor.at;
    cursor.at = from + 5 + extra;
    // The first bit is always set.
    const days = ((bytes[from]! & 0x7f) << 15) | (bytes[from + 1]! << 7) | (bytes[from + 2]! >> 1);
    const clock = ((bytes[from + 2]! & 1) << 16) | (bytes[from + 3]! << 8) | bytes[from + 4]!;
    const months = days >> 5;
    const year = (months / 13) | 0;
    into.reserve(SHORT_ROOM);
    const out = into.bytes;
    let at = into.end;
    out[at] = QUOTE;
    at = putDate(out, at + 1, year, months - year * 13, days & 31);
    out[at] = SPACE;
    at = putClock(out, at + 1, clock >> 12, (clock >> 6) & 63, clock & 63);
    if (extra > 0) at = putFraction(out, at, bigEndian(bytes, from + 5, extra), digits);
    into.end = close(out, at);
  };
}

/** TIMESTAMP: seconds since 1970, then the fraction. The zero timestamp is all 0. */
function timestampWriter(layout: ColumnLayout, cursor: Cursor): Writer {
  const digits = layout.meta;
  const extra = fractionBytes(digits);
  let lastDay = -1;
  let date = '';
  return (bytes, into) => {
    const from = cursor.at;
    cursor.at = from + 4 + extra;
    const seconds = bigEndian(bytes, from, 4);
    const day = Math.floor(seconds / SECONDS_A_DAY);
    if (day !== lastDay) {
      lastDay = day;
      date = epochDay(day);
    }
    const clock = seconds - day * SECONDS_A_DAY;
    const hours = (clock / 3600) | 0;
    const minutes = (clock / 60) | 0;
    into.reserve(SHORT_ROOM);
    const out = into.bytes;
    let at = into.end;
    out[at++] = QUOTE;
    const fraction = extra === 0 ? 0 : bigEndian(bytes, from + 4, extra);
    // Only 0 itself is the zero timestamp. MariaDB has others within the first second of 1970.
    const text = seconds === 0 && fraction === 0 ? ZERO_DATE : date;
    for (let i = 0; i < text.length; i++) out[at++] = text.charCodeAt(i);
    out[at] = SPACE;
    at = putClock(out, at + 1, hours, minutes - hours * 60, clock - minutes * 60);
    if (extra > 0) at = putFraction(out, at, fraction, digits);
    into.end = close(out, at);
  };
}

const ZERO_DATE = '0000-00-00';

/** CHAR, VARCHAR and TEXT: copied as they are if they are ASCII or UTF-8 and need no escapes. */
function textWriter(layout: ColumnLayout, cursor: Cursor): Writer {
  const { charset } = layout;
  const isUtf8 = charset === 'utf8mb4' || charset === 'utf8mb3';
  if (!isUtf8 && charset !== 'ascii' && charset !== 'latin1') return valueWriter(layout, cursor);
  const prefix = lengthBytes(layout);
  const decode = textDecoder(charset);
  const decodeLong = longDecoder(charset);
  return (bytes, into) => {
    const start = cursor.at + prefix;
    const end = start + (prefix === 1 ? bytes[cursor.at]! : littleEndian(bytes, cursor.at, prefix));
    cursor.at = end;
    // The value would end after the buffer. The caller reports that.
    if (end > bytes.length) return;
    if (end - start >= LONG_BYTES && decodeLong !== null) {
      into.putLong(decodeLong(bytes, start, end));
      return;
    }
    into.reserve(end - start + 3);
    const out = into.bytes;
    let at = into.end;
    let bits = 0;
    out[at++] = QUOTE;
    for (let i = start; i < end; i++) {
      const byte = bytes[i]!;
      if (byte < SPACE || byte === QUOTE || byte === BACKSLASH) {
        into.putText(decode(bytes, start, end));
        return;
      }
      bits |= byte;
      out[at++] = byte;
    }
    if (bits >= 0x80) {
      if (!isUtf8) {
        into.putText(decode(bytes, start, end));
        return;
      }
      into.unchecked = true;
    }
    into.end = close(out, at);
  };
}
