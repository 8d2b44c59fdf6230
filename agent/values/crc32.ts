/**
 * CRC32 as in zlib, over parts of buffers. Most events of small transactions are a few dozen bytes long. There a call
 * into the runtime, and the view that it needs, cost several times as much as the checksum itself.
 */
import { crc32 as runtimeCrc32 } from 'node:zlib';

/** From this length on the runtime is faster, because it uses the processor's CRC instructions. */
const LONG = 256;

/** TABLES[k][b]: the effect of byte b on the checksum, k bytes before the end of a word. */
const TABLES = Array.from({ length: 4 }, () => new Int32Array(256));

for (let byte = 0; byte < 256; byte++) {
  let sum = byte;
  for (let bit = 0; bit < 8; bit++) sum = (sum & 1) === 1 ? (sum >>> 1) ^ 0xedb88320 : sum >>> 1;
  TABLES[0]![byte] = sum;
}
for (let k = 1; k < 4; k++) {
  for (let byte = 0; byte < 256; byte++) {
    const sum = TABLES[k - 1]![byte]!;
    TABLES[k]![byte] = (sum >>> 8) ^ TABLES[0]![sum & 0xff]!;
  }
}

const [LAST, THIRD, SECOND, FIRST] = TABLES as [Int32Array, Int32Array, Int32Array, Int32Array];

/** The checksum of bytes[start, end), unsigned. @param before the checksum of the bytes before them */
export function crc32(bytes: Buffer, start: number, end: number, before = 0): number {
  if (end - start >= LONG) return runtimeCrc32(bytes.subarray(start, end), before);
  let sum = ~before;
  let at = start;
  for (; at + 4 <= end; at += 4) {
    sum ^= bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
    sum = FIRST[sum & 0xff]! ^ SECOND[(sum >>> 8) & 0xff]! ^ THIRD[(sum >>> 16) & 0xff]! ^ LAST[sum >>> 24]!;
  }
  for (; at < end; at++) sum = (sum >>> 8) ^ LAST[(sum ^ bytes[at]!) & 0xff]!;
  return ~sum >>> 0;
}
