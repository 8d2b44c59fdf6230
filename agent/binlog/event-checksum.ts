/**
 * Verifies the checksums of events, and finds where their bodies end.
 *
 * The FormatDescription event of a file says whether its events have checksums. An artificial Rotate event comes before
 * the first one. It has a checksum if its last four bytes match.
 */
import { TributaryError } from '../../shared/errors.ts';
import { crc32 } from '../values/crc32.ts';
import { EVENT, HEADER_BYTES } from './events.ts';

const CHECKSUM_BYTES = 4;
const ALGORITHM_NONE = 0;
const ALGORITHM_CRC32 = 1;
/** LOG_EVENT_BINLOG_IN_USE_F: set in an open file's first event after its checksum was made. */
const FLAG_IN_USE = 0x01;
const FLAGS_AT = 17;

export class EventChecksum {
  /** Whether events have checksums; null: no FormatDescription event yet. */
  #enabled: boolean | null = null;

  /**
   * Checks the event in bytes[at, end) and returns where its body ends.
   * @throws TributaryError EVENT_MALFORMED
   */
  verify(type: number, bytes: Buffer, at: number, end: number): number {
    if (type === EVENT.formatDescription) return this.#formatDescription(bytes, at, end);
    if (this.#enabled === false) return end;
    const bodyEnd = end - CHECKSUM_BYTES;
    if (bodyEnd >= at + HEADER_BYTES && crc32(bytes, at, bodyEnd) === bytes.readUInt32LE(bodyEnd)) {
      return bodyEnd;
    }
    if (this.#enabled === null) return end;
    throw new TributaryError('EVENT_MALFORMED', `The checksum of an event of type ${type} is wrong.`);
  }

  /** This event ends with the file's checksum algorithm and room for a checksum, used or not. */
  #formatDescription(bytes: Buffer, at: number, end: number): number {
    const bodyEnd = end - CHECKSUM_BYTES;
    const algorithm = bytes[bodyEnd - 1];
    if (algorithm === ALGORITHM_NONE) {
      this.#enabled = false;
      return bodyEnd;
    }
    if (algorithm !== ALGORITHM_CRC32) {
      throw new TributaryError(
        'EVENT_MALFORMED',
        `The binlog has checksums of an unknown kind (${String(algorithm)}).`,
      );
    }
    const event = Buffer.from(bytes.subarray(at, bodyEnd));
    event.writeUInt8(event.readUInt8(FLAGS_AT) & ~FLAG_IN_USE, FLAGS_AT);
    if (crc32(event, 0, event.length) !== bytes.readUInt32LE(bodyEnd)) {
      throw new TributaryError('EVENT_MALFORMED', 'The checksum of a FormatDescription event is wrong.');
    }
    this.#enabled = true;
    return bodyEnd;
  }
}
