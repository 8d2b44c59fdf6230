/** Which server a connection leads to. */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { databaseProduct, requireServer } from '../server-versions.ts';

/** @throws TributaryError SOURCE_SETTING or TARGET_SETTING for a server that is not supported on that side */
export async function requireSupported(connection: Connection, side: 'source' | 'target'): Promise<void> {
  const [rows] = await connection.query<RowDataPacket[]>('SELECT VERSION() AS version');
  const version = String(rows[0]?.['version']);
  requireServer(side, databaseProduct(version), version);
}
