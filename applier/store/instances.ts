/**
 * `tributary_applier`: the appliers that are alive; each records itself here. It is only for sharing the branches: the
 * broker and the lock on the branch's row make sure that two appliers never write at once.
 */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { readText } from './sql-values.ts';

/** An applier that has recorded nothing for longer counts as dead. */
const LIVING_S = 15;
/** After this time the name of a dead applier is deleted. */
const FORGOTTEN_AFTER_H = 24;

/** Notes that this applier is alive. @returns all that are, this one included */
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

/** The appliers that are alive, as each has recorded itself. */
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
