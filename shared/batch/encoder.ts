/** Encodes a `BatchBody` as the bytes that are spooled and sent: JSON in frames of zstd. */
import { constants, zstdCompressSync } from 'node:zlib';
import type { BatchBody, Change } from './batch.ts';
import { splitJson, writeJson } from './long-value.ts';
import { MOST_STORED_BYTES, storedFrame } from './stored-frame.ts';
import type { LongValue } from './long-value.ts';
import { release } from '../release.ts';

const DEFAULT_LEVEL = 3;
const LEAST_MATCH = 5;
/** The minimum size of a buffer to compress into. */
const LEAST_CHUNK_BYTES = 1024;
const MOST_CHUNK_BYTES = 256 * 1024;
/** From this size on, a buffer is memory of its own that can be released. Unwritten parts cost nothing. */
const WHOLE_FROM_BYTES = 2 * 1024 * 1024;
/** The approximate size of JSON in one zstd frame. A body of the usual size is one frame. */
const FRAME_BYTES = 4 * 1024 * 1024;
/** The same for JSON of a long value, which takes memory already. */
const LONG_FRAME_BYTES = 1024 * 1024;

/** An upsert or a delete whose columns are already JSON: `json[c]` is the text between the brackets of column c. */
export interface WrittenChange {
  readonly op: 'upsert' | 'delete';
  readonly table: number;
  readonly rows: number;
  readonly json: readonly Buffer[];
  /** The long values whose names are in the JSON. */
  readonly long: ReadonlyMap<string, LongValue>;
}

/** A body before it is encoded. */
export type DraftBody = Omit<BatchBody, 'changes' | 'replaced'> & {
  readonly changes: readonly (Change | WrittenChange)[];
  readonly replaced?: readonly (Change | WrittenChange)[];
};

export interface EncoderOptions {
  readonly level?: number;
  /** Whether a small body is not compressed here, because the link packs it (stored-frame.ts). */
  readonly asText?: boolean;
}

/** A body as it is spooled and sent. The digest is over exactly these bytes. */
export function encodeBatch(body: DraftBody, options: EncoderOptions = {}): Buffer {
  const frames = [...encodeFrames(body, options)];
  return frames.length === 1 ? frames[0]! : Buffer.concat(frames);
}

/**
 * The same in pieces, each a zstd frame, made on demand. So a body with long values is never in memory as one piece.
 */
export function* encodeFrames(body: DraftBody, options: EncoderOptions = {}): Generator<Buffer, void, undefined> {
  const made = new Set<Uint8Array>();
  let held: Uint8Array[] = [];
  let bytes = 0;
  const compress = (): Buffer => {
    const whole = held.length === 1 ? held[0]! : Buffer.concat(held);
    const frame = zstdCompressSync(whole, {
      chunkSize: LEAST_CHUNK_BYTES + (bytes < WHOLE_FROM_BYTES ? Math.min(MOST_CHUNK_BYTES, bytes) : bytes),
      params: {
        [constants.ZSTD_c_compressionLevel]: options.level ?? DEFAULT_LEVEL,
        // In columns of digits, short matches cost more than they save.
        [constants.ZSTD_c_minMatch]: LEAST_MATCH,
      },
    });
    if (held.length > 1) release(whole);
    for (const piece of held) if (made.delete(piece)) release(piece);
    held = [];
    bytes = 0;
    return frame;
  };
  let isWhole = true;
  for (const piece of writeBody(body, made)) {
    const most = made.has(piece) ? LONG_FRAME_BYTES : FRAME_BYTES;
    if (bytes > 0 && bytes + piece.length > most) {
      isWhole = false;
      yield compress();
    }
    held.push(piece);
    bytes += piece.length;
  }
  yield options.asText === true && isWhole && bytes <= MOST_STORED_BYTES
    ? storedFrame(Buffer.concat(held))
    : compress();
}

/** @param made receives the large pieces that were made for this body alone */
function* writeBody(
  { changes, replaced, ...head }: DraftBody,
  made: Set<Uint8Array>,
): Generator<Uint8Array, void, undefined> {
  if (!changes.some(isWritten) && replaced === undefined) {
    yield* writeJson({ ...head, changes });
    return;
  }
  yield Buffer.from(`${JSON.stringify(head).slice(0, -1)},"changes":[`);
  yield* writeChanges(changes, made);
  if (replaced !== undefined) {
    yield Buffer.from('],"replaced":[');
    yield* writeChanges(replaced, made);
  }
  yield Buffer.from(']}');
}

function* writeChanges(
  changes: readonly (Change | WrittenChange)[],
  made: Set<Uint8Array>,
): Generator<Uint8Array, void, undefined> {
  for (const [index, change] of changes.entries()) {
    if (index > 0) yield Buffer.from(',');
    if (!isWritten(change)) {
      yield* writeJson(change);
      continue;
    }
    const { op, table, rows, json, long } = change;
    yield Buffer.from(`{"op":"${op}","table":${table},"rows":${rows},"${op === 'delete' ? 'keys' : 'values'}":[[`);
    for (const [c, column] of json.entries()) {
      if (c > 0) yield Buffer.from('],[');
      yield* splitJson(column, long, made);
    }
    yield Buffer.from(']]}');
  }
}

function isWritten(change: Change | WrittenChange): change is WrittenChange {
  return 'json' in change;
}
