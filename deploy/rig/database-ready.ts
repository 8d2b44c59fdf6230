/** Waits until a database server that is being started answers a query. */
import { setTimeout as delay } from 'node:timers/promises';
import { createConnection } from 'mysql2/promise';
import type { RowDataPacket } from 'mysql2/promise';
import { LocalServerError } from './errors.ts';
import type { ServerProcess } from './server-process.ts';

/** Crash recovery of a large test on a busy machine takes its time. */
const DEADLINE_MS = 120_000;
const POLL_MS = 50;
const CONNECT_TIMEOUT_MS = 5_000;

export type Login = { user: string; password: string } & ({ socketPath: string } | { host: string; port: number });

/** Resolves to the server's version. @throws SERVER_NOT_STARTED with the end of the log when it ends or is silent. */
export async function waitForDatabase(server: ServerProcess, login: Login, name: string): Promise<string> {
  const deadline = Date.now() + DEADLINE_MS;
  let ended: string | undefined;
  void server.exited.then(how => (ended = how));
  let last: unknown;
  for (;;) {
    if (ended !== undefined) throw notStarted(server, `${name} ended while it was starting (${ended})`);
    if (Date.now() > deadline) throw notStarted(server, `${name} does not answer after ${DEADLINE_MS / 1000} s`, last);
    try {
      const connection = await createConnection({ ...login, connectTimeout: CONNECT_TIMEOUT_MS });
      const [rows] = await connection.query<RowDataPacket[]>('SELECT VERSION() AS version');
      await connection.end();
      return String(rows[0]?.['version']);
    } catch (error) {
      // The server is up and refuses the user: waiting does not help.
      if ((error as NodeJS.ErrnoException).code === 'ER_ACCESS_DENIED_ERROR')
        throw notStarted(server, `${name} refuses its own root`, error);
      last = error;
      await delay(POLL_MS);
    }
  }
}

function notStarted(server: ServerProcess, message: string, cause?: unknown): LocalServerError {
  return new LocalServerError(
    'SERVER_NOT_STARTED',
    `${message}; its log ends:\n${server.logTail()}`,
    `The whole log: ${server.logFile}`,
    cause,
  );
}
