/** Classifies errors of the binlog connections, by number, with one exception (SAME_SERVER_ID). */
import { mysqlError } from '../../shared/database/mysql.ts';
import { TributaryError } from '../../shared/errors.ts';

/** The host or user is refused, or lacks a right (1227: REPLICATION SLAVE, for the dump command). */
const ACCESS_DENIED: ReadonlySet<number> = new Set([1044, 1045, 1130, 1142, 1227, 1698, 1862, 3118, 3955]);

/** ER_MASTER_FATAL_ERROR_READING_BINLOG: the position is purged, beyond the end, of another history … */
const FATAL_READING_BINLOG = 1236;

/**
 * The only case in which error 1236 is not about the position. It has no number of its own, so its text decides. If it
 * counted as a lost position, a new epoch would begin whenever two agents use one server id.
 */
const SAME_SERVER_ID = /same server[_ ](?:uuid|id)/i;

function property(error: unknown, name: string): unknown {
  return typeof error === 'object' && error !== null ? (Reflect.get(error, name) as unknown) : undefined;
}

/** @param opening whether the stream is still being opened; a failure is SOURCE_UNREACHABLE then */
export function streamError(error: unknown, opening: boolean): TributaryError {
  if (error instanceof TributaryError) return error;
  const message = error instanceof Error ? error.message : String(error);
  const number = property(error, 'errno');
  if (number === FATAL_READING_BINLOG) {
    return SAME_SERVER_ID.test(message)
      ? new TributaryError('STREAM_ENDED', `Another client reads the binlog under this server id: ${message}`, {
          hint: 'Two agents must not share one identity: stop the other one.',
          cause: error,
        })
      : new TributaryError('SOURCE_POSITION_LOST', message, { cause: error });
  }
  if (typeof number === 'number' && ACCESS_DENIED.has(number)) {
    return new TributaryError('SOURCE_ACCESS_DENIED', message, {
      hint: 'Correct the password file, or grant REPLICATION SLAVE and REPLICATION CLIENT on *.* to the user.',
      cause: error,
    });
  }
  // An error without a code is a defect of this program or of a library. Reconnecting would not help.
  if (typeof property(error, 'code') !== 'string') {
    return new TributaryError('INTERNAL', `Reading the binlog failed: ${message}`, { cause: error });
  }
  return new TributaryError(opening ? 'SOURCE_UNREACHABLE' : 'STREAM_ENDED', message || 'The connection failed.', {
    cause: error,
    hint: opening ? mysqlError(error, 'source', '').hint : undefined,
  });
}
