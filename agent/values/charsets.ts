/**
 * Maps the binlog's collation ids to character sets, and decodes their bytes exactly into JavaScript strings.
 *
 * Invariant: bytes decode to exactly the text that the server itself would convert them to, or decoding throws. Nothing
 * is replaced by U+FFFD. Other character sets are decoded with tables (server-charsets.ts).
 *
 * Sources: INFORMATION_SCHEMA.COLLATIONS of MySQL 9.7 and MariaDB 11.8; MariaDB strings/ctype-uca1400.h (ids from
 * 2048).
 */
import { isAscii, isUtf8 } from 'node:buffer';
import { LongBytes, LongText } from '../../shared/batch/long-value.ts';
import type { LongValue } from '../../shared/batch/long-value.ts';

export type Charset = 'binary' | 'ascii' | 'latin1' | 'utf8mb3' | 'utf8mb4' | 'ucs2' | 'utf16' | 'utf16le' | 'utf32';

export interface CharsetFacts {
  /** The most bytes that one character takes. It converts lengths: binlog metadata gives them in bytes. */
  readonly maxBytes: number;
  /** Whether a text can take more bytes in utf8mb4 than in this character set. */
  readonly growsInUtf8: boolean;
}

/** A character set that is not built in, with its own decoder. */
export interface ForeignCharset extends CharsetFacts {
  readonly name: string;
  readonly decode: TextDecode;
}

export const CHARSETS: Readonly<Record<Charset, CharsetFacts>> = {
  binary: { maxBytes: 1, growsInUtf8: false },
  ascii: { maxBytes: 1, growsInUtf8: false },
  latin1: { maxBytes: 1, growsInUtf8: true },
  utf8mb3: { maxBytes: 3, growsInUtf8: false },
  utf8mb4: { maxBytes: 4, growsInUtf8: false },
  ucs2: { maxBytes: 2, growsInUtf8: true },
  utf16: { maxBytes: 4, growsInUtf8: true },
  utf16le: { maxBytes: 4, growsInUtf8: true },
  utf32: { maxBytes: 4, growsInUtf8: false },
};

export function charsetFacts(charset: Charset | ForeignCharset): CharsetFacts {
  return typeof charset === 'string' ? CHARSETS[charset] : charset;
}

/** Whether this is the name of a built-in character set. */
export function isBuiltIn(name: string): name is Charset {
  return Object.hasOwn(CHARSETS, name);
}

/** Collation ids that MySQL and MariaDB share, as inclusive ranges. */
const RANGES: readonly (readonly [Charset, ...(readonly [number, number])[]])[] = [
  ['binary', [63, 63]],
  ['ascii', [11, 11], [65, 65]],
  ['latin1', [5, 5], [8, 8], [15, 15], [31, 31], [47, 49], [94, 94]],
  ['utf8mb3', [33, 33], [76, 76], [83, 83], [192, 215], [223, 223]],
  ['utf8mb4', [45, 46], [224, 247]],
  ['ucs2', [35, 35], [90, 90], [128, 151], [159, 159]],
  ['utf16', [54, 55], [101, 124]],
  ['utf16le', [56, 56], [62, 62]],
  ['utf32', [60, 61], [160, 183]],
];

/** MySQL only: the 0900 collations. */
const MYSQL_RANGES: typeof RANGES = [['utf8mb4', [255, 323]]];

/** MariaDB only: Croatian, Myanmar and Thai additions; the UCA 14.0.0 collations. */
const MARIADB_RANGES: typeof RANGES = [
  ['utf8mb3', [576, 578], [2048, 2303]],
  ['utf8mb4', [608, 610], [2304, 2559]],
  ['ucs2', [640, 642], [2560, 2815]],
  ['utf16', [672, 674], [2816, 3071]],
  ['utf32', [736, 738], [3072, 3327]],
];

/** The id of a NO PAD collation of MariaDB is that of the padded one plus this. */
const MARIADB_NOPAD = 1024;

function lookUp(ranges: typeof RANGES, id: number): Charset | null {
  for (const [charset, ...bounds] of ranges) {
    if (bounds.some(([first, last]) => id >= first && id <= last)) return charset;
  }
  return null;
}

/** The character set of a collation id; null if it is not a built-in one. */
export function charsetOfCollation(id: number, mariadb: boolean): Charset | null {
  if (!mariadb) return lookUp(RANGES, id) ?? lookUp(MYSQL_RANGES, id);
  if (id >= MARIADB_NOPAD && id < 2 * MARIADB_NOPAD) return lookUp(RANGES, id - MARIADB_NOPAD);
  return lookUp(RANGES, id) ?? lookUp(MARIADB_RANGES, id);
}

/**
 * Takes the place of a character set's name in the error about an ENUM's error value in a key, if the ENUM has the
 * member ''.
 */
export const EMPTY_MEMBER_KEY = "ENUM key with a member '', whose error value would be the same";

/** Thrown by a decoder if the bytes are not text in the character set. The caller adds table and column. */
export class UndecodableText extends Error {
  constructor(charset: string, bytes: Uint8Array) {
    super(`bytes 0x${Buffer.from(bytes.subarray(0, 16)).toString('hex')} are no ${charset} text`);
    this.name = 'UndecodableText';
  }
}

/**
 * The characters 0x80–0x9F of MySQL's latin1: cp1252, with C1 controls for the five bytes that cp1252 leaves undefined.
 */
const LATIN1_HIGH =
  '\u20ac\u0081\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\u008d\u017d\u008f' +
  '\u0090\u2018\u2019\u201c\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\u009d\u017e\u0178';

/** Up to this length, decoding in JavaScript is faster than a call into the runtime. */
const SHORT = 16;

/**
 * The text of ASCII bytes; null if one is not ASCII. Unrolled by four: `String.fromCharCode` with a fixed number of
 * arguments makes flat strings without leaving JavaScript. That is several times as fast as a call into the runtime.
 */
function shortAscii(bytes: Buffer, start: number, end: number): string | null {
  let text = '';
  let at = start;
  for (; at + 4 <= end; at += 4) {
    const a = bytes[at]!;
    const b = bytes[at + 1]!;
    const c = bytes[at + 2]!;
    const d = bytes[at + 3]!;
    if ((a | b | c | d) >= 0x80) return null;
    text += String.fromCharCode(a, b, c, d);
  }
  for (; at < end; at++) {
    const a = bytes[at]!;
    if (a >= 0x80) return null;
    text += String.fromCharCode(a);
  }
  return text;
}

function decodeUtf8(charset: 'utf8mb3' | 'utf8mb4', bytes: Buffer, start: number, end: number): string {
  if (end - start <= SHORT) {
    const text = shortAscii(bytes, start, end);
    if (text !== null) return text;
  }
  const text = bytes.toString('utf8', start, end);
  // A replacement character may have been stored as such, so only the bytes show whether they are UTF-8.
  if (text.includes('\ufffd') && !isUtf8(bytes.subarray(start, end))) {
    throw new UndecodableText(charset, bytes.subarray(start, end));
  }
  return text;
}

function decodeAscii(bytes: Buffer, start: number, end: number): string {
  for (let at = start; at < end; at++) {
    if (bytes[at]! >= 0x80) throw new UndecodableText('ascii', bytes.subarray(start, end));
  }
  return bytes.toString('latin1', start, end);
}

function decodeLatin1(bytes: Buffer, start: number, end: number): string {
  if (end - start <= SHORT) {
    const text = shortAscii(bytes, start, end);
    if (text !== null) return text;
  }
  return bytes
    .toString('latin1', start, end)
    .replace(/[\u0080-\u009f]/g, character => LATIN1_HIGH.charAt(character.charCodeAt(0) - 0x80));
}

function decodeUnits(charset: Charset, bytes: Buffer, start: number, end: number): string {
  const slice = bytes.subarray(start, end);
  try {
    if (charset === 'utf32') {
      if (slice.length % 4 !== 0) throw new UndecodableText(charset, slice);
      let text = '';
      for (let at = 0; at < slice.length; at += 4) text += String.fromCodePoint(slice.readUInt32BE(at));
      if (!text.isWellFormed()) throw new UndecodableText(charset, slice);
      return text;
    }
    if (slice.length % 2 !== 0) throw new UndecodableText(charset, slice);
    const text = (charset === 'utf16le' ? slice : Buffer.from(slice).swap16()).toString('utf16le');
    // ucs2 can store a lone surrogate, but JSON in UTF-8 cannot carry it.
    if (!text.isWellFormed()) throw new UndecodableText(charset, slice);
    return text;
  } catch (error) {
    if (error instanceof RangeError) throw new UndecodableText(charset, slice);
    throw error;
  }
}

export type TextDecode = (bytes: Buffer, start: number, end: number) => string;

/** The exact decoder of a character set. The decoder throws UndecodableText. */
export function textDecoder(charset: Charset | ForeignCharset): TextDecode {
  if (typeof charset !== 'string') return charset.decode;
  switch (charset) {
    case 'utf8mb3':
    case 'utf8mb4':
      return (bytes, start, end) => decodeUtf8(charset, bytes, start, end);
    case 'ascii':
      return decodeAscii;
    case 'latin1':
      return decodeLatin1;
    case 'binary':
      return (bytes, start, end) => bytes.toString('base64', start, end);
    default:
      return (bytes, start, end) => decodeUnits(charset, bytes, start, end);
  }
}

/**
 * The decoder that reads large values without copying them; null if the character set has none. It throws
 * UndecodableText.
 */
export function longDecoder(
  charset: Charset | ForeignCharset,
): ((bytes: Buffer, start: number, end: number) => LongValue) | null {
  switch (charset) {
    case 'binary':
      return (bytes, start, end) => new LongBytes(bytes.subarray(start, end));
    case 'utf8mb3':
    case 'utf8mb4':
    case 'ascii':
      return (bytes, start, end) => {
        const stored = bytes.subarray(start, end);
        if (!(charset === 'ascii' ? isAscii(stored) : isUtf8(stored))) throw new UndecodableText(charset, stored);
        return new LongText(stored);
      };
    default:
      return null;
  }
}
