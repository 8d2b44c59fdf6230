/**
 * How the link carries a small body: its text, compressed with an earlier text of the same stream as dictionary. Column
 * names, types and the values that repeat then take next to nothing. The dictionary is bytes that both sides have.
 */
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { TributaryError } from '../errors.ts';
import { MOST_STORED_BYTES } from './stored-frame.ts';

/** In a few hundred bytes short matches count, and there is time to look for them. */
const LEVEL = { thorough: 19, quick: 3 } as const;
const LEAST_MATCH = 3;
const CHUNK_BYTES = 16 * 1024;

/** @param effort `thorough` takes a millisecond */
export function pack(text: Buffer, dictionary: Buffer | null, effort: keyof typeof LEVEL): Buffer {
  return zstdCompressSync(text, {
    chunkSize: CHUNK_BYTES,
    ...(dictionary === null ? {} : { dictionary }),
    params: {
      [constants.ZSTD_c_compressionLevel]: LEVEL[effort],
      [constants.ZSTD_c_minMatch]: LEAST_MATCH,
      // The digest of the body is checked, and the text ends where the message does.
      [constants.ZSTD_c_checksumFlag]: 0,
      [constants.ZSTD_c_contentSizeFlag]: 0,
    },
  });
}

/** @throws TributaryError MESSAGE_INVALID: it does not unpack with this dictionary, or is too long */
export function unpack(bytes: Buffer, dictionary: Buffer | null): Buffer {
  try {
    return zstdDecompressSync(bytes, {
      maxOutputLength: MOST_STORED_BYTES,
      chunkSize: CHUNK_BYTES,
      ...(dictionary === null ? {} : { dictionary }),
    });
  } catch (error) {
    throw new TributaryError('MESSAGE_INVALID', 'A packed body does not unpack.', { cause: error });
  }
}
