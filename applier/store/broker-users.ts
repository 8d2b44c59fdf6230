/**
 * `tributary_broker_user`: the salted hash of each branch's broker password, as RabbitMQ shows it. With it the applier
 * can make a user again after the broker has lost its data, and the branch's password stays valid.
 */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { readText } from './sql-values.ts';

export interface BrokerUser {
  readonly passwordHash: string;
  /** RabbitMQ's name of the algorithm, e.g. `rabbit_password_hashing_sha256`. */
  readonly algorithm: string;
}

export async function saveBrokerUser(connection: Connection, branch: string, user: BrokerUser): Promise<void> {
  await connection.execute('REPLACE INTO tributary_broker_user (branch, password_hash, algorithm) VALUES (?, ?, ?)', [
    branch,
    user.passwordHash,
    user.algorithm,
  ]);
}

export async function readBrokerUser(connection: Connection, branch: string): Promise<BrokerUser | null> {
  const [rows] = await connection.execute<RowDataPacket[]>(
    'SELECT password_hash, algorithm FROM tributary_broker_user WHERE branch = ?',
    [branch],
  );
  const row = rows[0];
  return row === undefined
    ? null
    : { passwordHash: readText(row, 'password_hash'), algorithm: readText(row, 'algorithm') };
}
