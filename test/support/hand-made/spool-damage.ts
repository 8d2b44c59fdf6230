/** Damages a spool as a failing disk does: one bit of a stored batch. */
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';

/** Where in a body a bit is flipped: behind the header of zstd's frame, in the first page that the body stands in. */
const FLIPPED_AT = 20;

/**
 * Flips a bit in the body of the last batch, and nowhere else: SQLite itself says whether the place was a live one.
 * @param file of a spool that no process holds
 * @throws where it holds no batch
 */
export function flipBitOfLastBatch(file: string): void {
  const body = lastBody(file);
  const bytes = readFileSync(file);
  const begins = body.subarray(0, FLIPPED_AT + 1);
  for (let at = bytes.indexOf(begins); at >= 0; at = bytes.indexOf(begins, at + 1)) {
    const place = at + FLIPPED_AT;
    writeByte(file, place, (bytes[place] ?? 0) ^ 0b100);
    if (!lastBody(file).equals(body)) return;
    // What a page that was moved has left behind.
    writeByte(file, place, bytes[place] ?? 0);
  }
  throw new Error('the body of the last batch is not found in the file');
}

/** Of a spool that no process holds. */
function lastBody(file: string): Buffer {
  const database = new DatabaseSync(file);
  try {
    const body = database.prepare('SELECT body FROM batches ORDER BY id DESC LIMIT 1').get()?.['body'];
    if (!(body instanceof Uint8Array) || body.length <= FLIPPED_AT) throw new Error('the spool holds no batch');
    return Buffer.from(body);
  } finally {
    database.close();
  }
}

function writeByte(file: string, place: number, byte: number): void {
  const handle = openSync(file, 'r+');
  writeSync(handle, Buffer.from([byte]), 0, 1, place);
  closeSync(handle);
}
