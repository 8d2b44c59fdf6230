/** Connections of the tests' own to the rig's servers. */
import mysql from 'mysql2/promise';
import type { Connection, ConnectionOptions } from 'mysql2/promise';
import type { ServerAddress } from '../../../deploy/rig/oracle/compare.ts';

/** A server's handle has more fields than the library takes, hence the choice of four. */
export function connectTo(
  { host, port, user, password }: ServerAddress,
  options: ConnectionOptions = {},
): Promise<Connection> {
  return mysql.createConnection({ host, port, user, password, ...options });
}

/** On a connection that is closed afterwards: the test's own may have died with the server. */
export async function runStatements(server: ServerAddress, ...statements: readonly string[]): Promise<void> {
  const connection = await connectTo(server);
  try {
    for (const statement of statements) await connection.query(statement);
  } finally {
    connection.destroy();
  }
}
