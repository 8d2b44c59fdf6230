/**
 * A decoder for each column type. It reads a value's bytes at the cursor, moves the cursor past them, and returns the
 * wire value.
 *
 * This is the hottest code of capture. Decoders are closures, made once for each table definition. They index the
 * buffer themselves instead of calling its methods, and allocate only the values. A read past the buffer's end gives
 * nonsense, not an exception. So after each row, before handing it over, the caller checks that the cursor is not past
 * the end.
 */
import type { Value } from '../../shared/batch/batch.ts';
import { LONG_BYTES } from '../../shared/batch/long-value.ts';
import type { Base } from '../../shared/batch/type-table.ts';
import { EMPTY_MEMBER_KEY, UndecodableText, longDecoder, textDecoder } from './charsets.ts';
import { baseOf, lengthBytes } from './column-layout.ts';
import type { ColumnLayout } from './column-layout.ts';
import { compressedDecoder, isCompressed } from './compressed-column.ts';
import type { Cursor, Decoder, Skipper } from './decoder.ts';
import { jsonText } from './json-binary.ts';
import { decimalSize, decimalText, shortestFloat } from './number-text.ts';
import { epochSeconds, fractionBytes, fractionText, packedDate, packedDatetime, packedTime } from './temporal.ts';
import { TYPE } from './type-codes.ts';

const MAX_HIGH = 0x200000;

function signed64(high: number, low: number): Value {
  // Exact within ±2^53. With a high word of −2^21 the low word must not be 0: the number would be −2^53 itself.
  if (high < MAX_HIGH && (high > -MAX_HIGH || (high === -MAX_HIGH && low > 0))) return high * 0x100000000 + low;
  return ((BigInt(high) << 32n) | BigInt(low)).toString();
}

function unsigned64(high: number, low: number): Value {
  if (high < MAX_HIGH) return high * 0x100000000 + low;
  return ((BigInt(high) << 32n) | BigInt(low)).toString();
}

function u32(bytes: Buffer, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}

/** Reads a big-endian number of up to six bytes. */
export function bigEndian(bytes: Buffer, at: number, width: number): number {
  let value = 0;
  for (let i = 0; i < width; i++) value = value * 256 + bytes[at + i]!;
  return value;
}

/** Reads a little-endian number of up to four bytes. */
export function littleEndian(bytes: Buffer, at: number, width: number): number {
  let value = 0;
  for (let i = width - 1; i >= 0; i--) value = value * 256 + bytes[at + i]!;
  return value;
}

function tinyintDecoder({ unsigned }: ColumnLayout, cursor: Cursor): Decoder {
  return unsigned ? bytes => bytes[cursor.at++]! : bytes => (bytes[cursor.at++]! << 24) >> 24;
}

function smallintDecoder({ unsigned }: ColumnLayout, cursor: Cursor): Decoder {
  return bytes => {
    const at = cursor.at;
    cursor.at = at + 2;
    const value = bytes[at]! | (bytes[at + 1]! << 8);
    return unsigned ? value : (value << 16) >> 16;
  };
}

function mediumintDecoder({ unsigned }: ColumnLayout, cursor: Cursor): Decoder {
  return bytes => {
    const at = cursor.at;
    cursor.at = at + 3;
    const value = bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16);
    return unsigned ? value : (value << 8) >> 8;
  };
}

function intDecoder({ unsigned }: ColumnLayout, cursor: Cursor): Decoder {
  return bytes => {
    const at = cursor.at;
    cursor.at = at + 4;
    const value = bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
    return unsigned ? value >>> 0 : value;
  };
}

function bigintDecoder({ unsigned }: ColumnLayout, cursor: Cursor): Decoder {
  return bytes => {
    const at = cursor.at;
    cursor.at = at + 8;
    const low = u32(bytes, at);
    const high = u32(bytes, at + 4);
    return unsigned ? unsigned64(high, low) : signed64(high | 0, low);
  };
}

function yearDecoder(_: ColumnLayout, cursor: Cursor): Decoder {
  return bytes => {
    const value = bytes[cursor.at++]!;
    return value === 0 ? 0 : 1900 + value;
  };
}

function bitDecoder(layout: ColumnLayout, cursor: Cursor): Decoder {
  const width = (layout.meta + 7) >> 3;
  return bytes => {
    const at = cursor.at;
    cursor.at = at + width;
    if (width <= 6) return bigEndian(bytes, at, width);
    return unsigned64(bigEndian(bytes, at, width - 4), bigEndian(bytes, at + width - 4, 4));
  };
}

function floatDecoder(_: ColumnLayout, cursor: Cursor): Decoder {
  const bits = new Uint32Array(1);
  const single = new Float32Array(bits.buffer);
  return bytes => {
    bits[0] = u32(bytes, cursor.at);
    cursor.at += 4;
    const value = single[0]!;
    return Object.is(value, -0) ? '-0' : shortestFloat(value);
  };
}

function doubleDecoder(_: ColumnLayout, cursor: Cursor): Decoder {
  const bits = new Uint32Array(2);
  const double = new Float64Array(bits.buffer);
  return bytes => {
    const at = cursor.at;
    cursor.at = at + 8;
    bits[0] = u32(bytes, at);
    bits[1] = u32(bytes, at + 4);
    const value = double[0]!;
    return Object.is(value, -0) ? '-0' : value;
  };
}

function decimalDecoder(layout: ColumnLayout, cursor: Cursor): Decoder {
  const precision = layout.meta >> 8;
  const scale = layout.meta & 0xff;
  const width = decimalSize(precision, scale);
  const whole = precision - scale;
  const wholeWidth = decimalSize(whole, 0);
  if (whole < 1 || whole > 9 || scale > 9) {
    return bytes => {
      const at = cursor.at;
      cursor.at = at + width;
      return decimalText(bytes, at, precision, scale);
    };
  }
  // The fast path, for amounts of money: one group before the point and at most one after it.
  const signBit = 2 ** (8 * wholeWidth - 1);
  const tenToScale = 10 ** scale;
  const fractionWidth = width - wholeWidth;
  return bytes => {
    const at = cursor.at;
    cursor.at = at + width;
    let units = bigEndian(bytes, at, wholeWidth) - signBit;
    let fraction = bigEndian(bytes, at + wholeWidth, fractionWidth);
    let sign = '';
    if (units < 0) {
      sign = '-';
      units = -units - 1;
      fraction = 2 ** (8 * fractionWidth) - 1 - fraction;
    }
    if (scale === 0) return sign + String(units);
    return `${sign}${units}.${String(tenToScale + fraction).slice(1)}`;
  };
}

const FIRST_SECOND = '1970-01-01 00:00:00';

function dateDecoder(_: ColumnLayout, cursor: Cursor): Decoder {
  return bytes => {
    const at = cursor.at;
    cursor.at = at + 3;
    return packedDate(bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16));
  };
}

function datetimeDecoder({ meta: digits }: ColumnLayout, cursor: Cursor): Decoder {
  const extra = fractionBytes(digits);
  return bytes => {
    const at = cursor.at;
    cursor.at = at + 5 + extra;
    const text = packedDatetime(bigEndian(bytes, at, 5) - 0x8000000000);
    return extra === 0 ? text : text + fractionText(bigEndian(bytes, at + 5, extra), digits);
  };
}

function timestampDecoder({ meta: digits }: ColumnLayout, cursor: Cursor): Decoder {
  const extra = fractionBytes(digits);
  return bytes => {
    const at = cursor.at;
    cursor.at = at + 4 + extra;
    const seconds = bigEndian(bytes, at, 4);
    if (extra === 0) return epochSeconds(seconds);
    const fraction = bigEndian(bytes, at + 4, extra);
    // MariaDB also has timestamps within the first second of 1970. Only 0 itself is the zero timestamp.
    const text = seconds === 0 && fraction > 0 ? FIRST_SECOND : epochSeconds(seconds);
    return text + fractionText(fraction, digits);
  };
}

/** Whole and fraction are one big-endian number with an offset, so that negative times sort first. */
function timeDecoder({ meta: digits }: ColumnLayout, cursor: Cursor): Decoder {
  const extra = fractionBytes(digits);
  const unit = 2 ** (8 * extra);
  const offset = 0x800000 * unit;
  return bytes => {
    const at = cursor.at;
    cursor.at = at + 3 + extra;
    const value = bigEndian(bytes, at, 3 + extra) - offset;
    const magnitude = Math.abs(value);
    const fraction = magnitude % unit;
    const text = packedTime((magnitude - fraction) / unit) + fractionText(fraction, digits);
    return value < 0 ? `-${text}` : text;
  };
}

/** CHAR, VARCHAR, BINARY, VARBINARY. */
function stringDecoder(layout: ColumnLayout, cursor: Cursor): Decoder {
  const wide = lengthBytes(layout) === 2;
  const padded = layout.code === TYPE.string && layout.charset === 'binary';
  const decode = padded ? paddedDecoder(layout.meta) : textDecoder(layout.charset);
  return bytes => {
    let at = cursor.at;
    const length = wide ? bytes[at]! | (bytes[at + 1]! << 8) : bytes[at]!;
    at += wide ? 2 : 1;
    cursor.at = at + length;
    return decode(bytes, at, at + length);
  };
}

/** BINARY(n): the binlog strips trailing zero bytes, which are part of the value. */
function paddedDecoder(width: number): (bytes: Buffer, start: number, end: number) => string {
  return (bytes, start, end) => {
    if (end - start === width) return bytes.toString('base64', start, end);
    const whole = Buffer.alloc(width);
    bytes.copy(whole, 0, start, end);
    return whole.toString('base64');
  };
}

function blobDecoder(layout: ColumnLayout, cursor: Cursor): Decoder {
  const width = layout.meta;
  const decode = textDecoder(layout.charset);
  const decodeLong = longDecoder(layout.charset) ?? decode;
  return bytes => {
    const start = cursor.at + width;
    const end = start + littleEndian(bytes, cursor.at, width);
    cursor.at = end;
    return end - start < LONG_BYTES || end > bytes.length ? decode(bytes, start, end) : decodeLong(bytes, start, end);
  };
}

function jsonDecoder(layout: ColumnLayout, cursor: Cursor): Decoder {
  const width = layout.meta;
  return bytes => {
    const start = cursor.at + width;
    const end = start + littleEndian(bytes, cursor.at, width);
    cursor.at = end;
    return jsonText(bytes.subarray(start, end));
  };
}

function enumDecoder(layout: ColumnLayout, cursor: Cursor): Decoder {
  const width = layout.meta;
  // The server stores 0 for a value that is not a member, and prints it as ''.
  const texts = ['', ...layout.members];
  return bytes => {
    const index = littleEndian(bytes, cursor.at, width);
    cursor.at += width;
    const text = texts[index];
    if (index === 0 && layout.refusesErrorValue === true)
      throw new UndecodableText(EMPTY_MEMBER_KEY, bytes.subarray(0, 0));
    if (text === undefined) throw new RangeError(`ENUM index ${index} is beyond its ${layout.members.length} members`);
    return text;
  };
}

function setDecoder(layout: ColumnLayout, cursor: Cursor): Decoder {
  const width = layout.meta;
  const { members } = layout;
  const known = new Map<number, string>();
  return bytes => {
    const low = littleEndian(bytes, cursor.at, Math.min(width, 4));
    const high = width > 4 ? littleEndian(bytes, cursor.at + 4, width - 4) : 0;
    cursor.at += width;
    const bits = high === 0 ? known.get(low) : undefined;
    if (bits !== undefined) return bits;
    const chosen: string[] = [];
    for (let i = 0; i < width * 8; i++) {
      if (((i < 32 ? low >>> i : high >>> (i - 32)) & 1) === 0) continue;
      const member = members[i];
      if (member === undefined) throw new RangeError(`SET bit ${i} is beyond its ${members.length} members`);
      chosen.push(member);
    }
    const text = chosen.join(',');
    if (high === 0 && known.size < 256) known.set(low, text);
    return text;
  };
}

/** How a row image holds the values of a type. */
interface ImageType {
  readonly decoder: (layout: ColumnLayout, cursor: Cursor) => Decoder;
  /** The width of every value, from the type's metadata; null: each value has a length prefix. */
  readonly width: ((meta: number) => number) | null;
}

const STRING: ImageType = { decoder: stringDecoder, width: null };
const BLOB: ImageType = { decoder: blobDecoder, width: null };

const IMAGE_TYPES: Readonly<Record<Base, ImageType>> = {
  tinyint: { decoder: tinyintDecoder, width: () => 1 },
  smallint: { decoder: smallintDecoder, width: () => 2 },
  mediumint: { decoder: mediumintDecoder, width: () => 3 },
  int: { decoder: intDecoder, width: () => 4 },
  bigint: { decoder: bigintDecoder, width: () => 8 },
  bit: { decoder: bitDecoder, width: bits => (bits + 7) >> 3 },
  year: { decoder: yearDecoder, width: () => 1 },
  decimal: { decoder: decimalDecoder, width: meta => decimalSize(meta >> 8, meta & 0xff) },
  float: { decoder: floatDecoder, width: () => 4 },
  double: { decoder: doubleDecoder, width: () => 8 },
  date: { decoder: dateDecoder, width: () => 3 },
  time: { decoder: timeDecoder, width: digits => 3 + fractionBytes(digits) },
  datetime: { decoder: datetimeDecoder, width: digits => 5 + fractionBytes(digits) },
  timestamp: { decoder: timestampDecoder, width: digits => 4 + fractionBytes(digits) },
  char: STRING,
  varchar: STRING,
  binary: STRING,
  varbinary: STRING,
  enum: { decoder: enumDecoder, width: bytes => bytes },
  set: { decoder: setDecoder, width: bytes => bytes },
  tinytext: BLOB,
  text: BLOB,
  mediumtext: BLOB,
  longtext: BLOB,
  tinyblob: BLOB,
  blob: BLOB,
  mediumblob: BLOB,
  longblob: BLOB,
  geometry: BLOB,
  vector: BLOB,
  json: { decoder: jsonDecoder, width: null },
};

/** Makes the decoder of a column. `layout` must have a wire type (column-layout.ts). */
export function decoderOf(layout: ColumnLayout, cursor: Cursor): Decoder {
  return isCompressed(layout) ? compressedDecoder(layout, cursor) : IMAGE_TYPES[baseOf(layout)].decoder(layout, cursor);
}

/** Makes a function that moves the cursor past a column's value. */
export function skipperOf(layout: ColumnLayout, cursor: Cursor): Skipper {
  const width = IMAGE_TYPES[baseOf(layout)].width?.(layout.meta);
  if (width !== undefined) {
    return () => {
      cursor.at += width;
    };
  }
  const prefix = lengthBytes(layout);
  return bytes => {
    cursor.at += prefix + littleEndian(bytes, cursor.at, prefix);
  };
}
