/**
 * The session that writes the head office's rows: strict, exact, in UTC, and with short timeouts.
 *
 * Invariants: every mode that exactness depends on is set and read back before the first row. A frozen applier loses
 * its transaction, and with it the fence on the branch's row, within `SESSION_TIMEOUT_S`.
 */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { TributaryError } from '../../shared/errors.ts';
import { targetError } from './target-error.ts';

/** Seconds of a client's silence, or of waiting for a lock, after which the server gives up. */
export const SESSION_TIMEOUT_S = 10;

/**
 * Strict for every engine. Branches hold zero and partial dates (no NO_ZERO_DATE, no NO_ZERO_IN_DATE), and
 * dates such as 30 February. Backslashes escape, as LOAD DATA's clauses expect.
 */
const SQL_MODE = 'NO_AUTO_VALUE_ON_ZERO,STRICT_ALL_TABLES,ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION';

/** Settings that are set and then checked. Names and values are constants of this file. */
const SETTINGS: readonly (readonly [name: string, value: string])[] = [
  ['sql_mode', SQL_MODE],
  ['time_zone', '+00:00'],
  ['transaction_isolation', 'READ-COMMITTED'],
  ['wait_timeout', String(SESSION_TIMEOUT_S)],
  ['net_read_timeout', String(SESSION_TIMEOUT_S)],
  ['net_write_timeout', String(SESSION_TIMEOUT_S)],
  ['innodb_lock_wait_timeout', String(SESSION_TIMEOUT_S)],
  ['lock_wait_timeout', String(SESSION_TIMEOUT_S)],
  // Rounding gives only a note, which is not counted without this.
  ['sql_notes', '1'],
  // Without this, a long list of keys to delete causes a scan of the whole table.
  ['range_optimizer_max_mem_size', '0'],
  ['character_set_client', 'utf8mb4'],
  ['character_set_connection', 'utf8mb4'],
  ['autocommit', '1'],
];

export interface TargetSession {
  /** Whether the server accepts LOAD DATA LOCAL. */
  readonly localInfile: boolean;
  readonly maxAllowedPacket: number;
  /** Whether the server ignores case in names of tables (lower_case_table_names). */
  readonly foldsTables: boolean;
}

const sessions = new WeakMap<Connection, TargetSession>();

/**
 * Sets and checks the session of a connection to the target database; call it once for each new connection.
 * @throws TributaryError TARGET_SETTING if a mode does not hold, TARGET_UNREACHABLE
 */
export async function prepareTargetSession(connection: Connection): Promise<TargetSession> {
  try {
    await connection.query('SET NAMES utf8mb4 COLLATE utf8mb4_0900_bin');
    await connection.query(`SET ${SETTINGS.map(([name, value]) => `SESSION ${name} = ${literal(value)}`).join(', ')}`);
    const names = SETTINGS.map(([name]) => `CAST(@@SESSION.${name} AS CHAR) AS ${name}`).join(', ');
    const [rows] = await connection.query<RowDataPacket[]>(
      `SELECT ${names}, @@GLOBAL.local_infile AS local_infile, @@SESSION.max_allowed_packet AS packet,
         @@lower_case_table_names > 0 AS folds`,
    );
    const row = rows[0];
    if (row === undefined)
      throw new TributaryError('TARGET_SETTING', 'The server returned no settings of the session.');
    for (const [name, value] of SETTINGS) {
      if (normal(String(row[name])) !== normal(value)) {
        throw new TributaryError(
          'TARGET_SETTING',
          `The session's ${name} is ${String(row[name])} instead of ${value}.`,
        );
      }
    }
    const session = {
      localInfile: Number(row['local_infile']) === 1,
      maxAllowedPacket: Number(row['packet']),
      foldsTables: Number(row['folds']) === 1,
    };
    sessions.set(connection, session);
    return session;
  } catch (error) {
    throw targetError(error, 'Preparing a session at the head office');
  }
}

/** What is known of a connection that `prepareTargetSession` has prepared. */
export function targetSession(connection: Connection): TargetSession {
  const session = sessions.get(connection);
  if (session === undefined) throw new TributaryError('INTERNAL', 'A connection to the target is used unprepared.');
  return session;
}

function literal(value: string): string {
  return /^\d+$/.test(value) ? value : `'${value}'`;
}

/** The server lists modes in an order of its own. */
function normal(value: string): string {
  return value.split(',').sort().join(',');
}
