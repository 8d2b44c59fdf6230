/** Who waits for a row's lock at a MySQL server. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Connection, RowDataPacket } from 'mysql2/promise';

/**
 * The server renews INNODB_TRX only for those who have not looked for a tenth of a second: whoever asks more often sees the
 * same answer for ever. The rig's servers run without performance_schema.
 */
const RENEWED_AFTER_MS = 150;

/** @returns the ids of the sessions that use this database, wait for a row's lock and name the table in their statement */
export async function lockWaiters(db: Connection, database: string, table: string): Promise<number[]> {
  await sleep(RENEWED_AFTER_MS);
  const [rows] = await db.query<RowDataPacket[]>(
    `SELECT session.ID AS id FROM information_schema.INNODB_TRX trx
       JOIN information_schema.PROCESSLIST session ON session.ID = trx.trx_mysql_thread_id
      WHERE session.DB = ? AND trx.trx_state = 'LOCK WAIT' AND session.INFO LIKE ?`,
    [database, `%${table}%`],
  );
  return rows.map(row => Number(row['id']));
}
