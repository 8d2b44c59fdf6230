/**
 * CRC32, as zlib has it, over parts of buffers. Most events of small transactions are a few dozen bytes long, where a
 * call into the runtime and the view that it takes cost several times what the sum does.
 */
import { crc32 as runtimeCrc32 } from 'node:zlib';

/** From here on the runtime, which has instructions for it, is faster. */
const LONG = 256;

/** TABLES[k][b]: what byte b does to the sum from k bytes before the end of a word. */
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

/** Of bytes[start, end), going on from the sum of what came before; unsigned. */
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
