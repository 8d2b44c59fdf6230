/**
 * Unpacks values of MariaDB's COMPRESSED columns. A row image holds them as the server stores them: a length, then a
 * byte that says how the rest is packed. If it is packed, the unpacked length and the zlib data follow.
 *
 * Source: MariaDB 11.8, sql/field.cc (compress_zlib, Field_longstr::uncompress), sql/table.h.
 */
import { inflateRawSync, inflateSync } from 'node:zlib';
import { LONG_BYTES } from '../../shared/batch/long-value.ts';
import { longDecoder, textDecoder } from './charsets.ts';
import { lengthBytes } from './column-layout.ts';
import type { ColumnLayout } from './column-layout.ts';
import { TYPE } from './type-codes.ts';
import type { Cursor, Decoder } from './decoder.ts';

/** The high half of the first byte; 0 if the value is not packed. */
const ZLIB = 8;
/** Bits of the first byte: whether the data lacks a zlib header, and how many bytes the unpacked length takes. */
const WITHOUT_HEADER = 0x08;
const LENGTH_WIDTH = 0x07;
const MOST_LENGTH_WIDTH = 4;

export function isCompressed({ code }: Pick<ColumnLayout, 'code'>): boolean {
  return code === TYPE.varcharCompressed || code === TYPE.blobCompressed;
}

/** The decoder throws RangeError if a value is damaged or packed in an unknown way. */
export function compressedDecoder(layout: ColumnLayout, cursor: Cursor): Decoder {
  const prefix = lengthBytes(layout);
  const decode = textDecoder(layout.charset);
  const decodeLong = longDecoder(layout.charset) ?? decode;
  return bytes => {
    const start = cursor.at + prefix;
    // The value would end after the event; the caller reports that.
    if (start > bytes.length) return nothing(cursor, bytes);
    const end = start + bytes.readUIntLE(cursor.at, prefix);
    if (end > bytes.length) return nothing(cursor, bytes);
    cursor.at = end;
    const value = unpack(bytes.subarray(start, end));
    return value.length < LONG_BYTES ? decode(value, 0, value.length) : decodeLong(value, 0, value.length);
  };
}

function nothing(cursor: Cursor, bytes: Buffer): null {
  cursor.at = bytes.length + 1;
  return null;
}

function unpack(stored: Buffer): Buffer {
  const head = stored[0];
  // An empty value has no first byte.
  if (head === undefined) return stored;
  if (head === 0) return stored.subarray(1);
  const width = head & LENGTH_WIDTH;
  if (head >> 4 !== ZLIB || width < 1 || width > MOST_LENGTH_WIDTH || stored.length < 1 + width) {
    throw new RangeError(`a compressed value has an unknown format (${head})`);
  }
  const length = stored.readUIntBE(1, width);
  const inflate = (head & WITHOUT_HEADER) === 0 ? inflateSync : inflateRawSync;
  let value: Buffer;
  try {
    value = inflate(stored.subarray(1 + width), { maxOutputLength: Math.max(1, length) });
  } catch (error) {
    throw new RangeError(`a compressed value cannot be unpacked: ${String(error)}`, { cause: error });
  }
  if (value.length !== length)
    throw new RangeError(`a compressed value unpacks to ${value.length} bytes instead of ${length}`);
  return value;
}
