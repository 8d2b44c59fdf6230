/**
 * `tributary_applier`: which appliers live, as each says of itself. For sharing the branches and for nothing else: that
 * two never write at once is held by the broker and by the lock on the branch's row.
 */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { readText } from './sql-values.ts';

/** One that has said nothing for longer is dead, as far as the others know. */
const LIVING_S = 15;
/** Names of those that never come back are kept no longer. */
const FORGOTTEN_AFTER_H = 24;

/** Notes that this applier lives. @returns all that do, this one included */
export async function noteApplier(connection: Connection, instance: string): Promise<string[]> {
  await connection.execute(
    `INSERT INTO tributary_applier (instance, seen_at) VALUES (?, UTC_TIMESTAMP(6))
     ON DUPLICATE KEY UPDATE seen_at = VALUES(seen_at)`,
    [instance],
  );
  await connection.query(
    `DELETE FROM tributary_applier WHERE seen_at < UTC_TIMESTAMP(6) - INTERVAL ${FORGOTTEN_AFTER_H} HOUR`,
  );
  return livingAppliers(connection);
}

/** The appliers that live, as each says of itself. */
export async function livingAppliers(connection: Connection): Promise<string[]> {
  const [rows] = await connection.query<RowDataPacket[]>(
    `SELECT instance FROM tributary_applier WHERE seen_at >= UTC_TIMESTAMP(6) - INTERVAL ${LIVING_S} SECOND`,
  );
  return rows.map(row => readText(row, 'instance'));
}

/** This applier ends. */
export async function forgetApplier(connection: Connection, instance: string): Promise<void> {
  await connection.execute('DELETE FROM tributary_applier WHERE instance = ?', [instance]);
}
