/**
 * Small bodies are spooled as a zstd frame that is not compressed (RFC 8878: one raw block). Every reader of batches reads
 * it like any other frame, and its bytes follow from its text alone. So the link may carry the text in another form, and
 * the head office still checks the digest over the same bytes (packing.ts).
 */

/** The most bytes of a text that is spooled so. A larger one compresses well by itself. */
export const MOST_STORED_BYTES = 16 * 1024;

const MAGIC = 0xfd2fb528;
/** One segment, whose size takes one byte or two. */
const SIZE_OF_ONE = 0x20;
const SIZE_OF_TWO = 0x60;
/** A size of two bytes begins to count here. */
const TWO_FROM = 256;
const BLOCK_HEADER_BYTES = 3;
const LAST_RAW_BLOCK = 1;

/** @param text at most MOST_STORED_BYTES */
export function storedFrame(text: Uint8Array): Buffer {
  const isShort = text.length < TWO_FROM;
  const head = Buffer.alloc(4 + 1 + (isShort ? 1 : 2) + BLOCK_HEADER_BYTES);
  head.writeUInt32LE(MAGIC, 0);
  head.writeUInt8(isShort ? SIZE_OF_ONE : SIZE_OF_TWO, 4);
  if (isShort) head.writeUInt8(text.length, 5);
  else head.writeUInt16LE(text.length - TWO_FROM, 5);
  head.writeUIntLE((text.length << 3) | LAST_RAW_BLOCK, head.length - BLOCK_HEADER_BYTES, BLOCK_HEADER_BYTES);
  return Buffer.concat([head, text]);
}

/** The text of a body that `storedFrame` has made; null: it is another body. */
export function storedText(body: Buffer): Buffer | null {
  const headBytes = body.length >= 5 && body[4] === SIZE_OF_ONE ? 9 : 10;
  const text = body.subarray(headBytes);
  if (text.length === 0 || text.length > MOST_STORED_BYTES) return null;
  const head = storedFrame(text).subarray(0, headBytes);
  return body.subarray(0, headBytes).equals(head) ? text : null;
}
