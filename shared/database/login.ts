/** How a database user is let in: what both programs tell administrators to run. */
import { quoteAccount } from './sql.ts';

/** What stands for a password that only its file tells. */
export const PASSWORD_PLACEHOLDER = '<what the file says>';

/** Any machine: who connects from where is not known here. */
export const ANY_HOST = '%';

/** What lets a user in that is not there yet, or has another password, as one line. */
export function loginStatements(user: string, sql: readonly string[]): string {
  const account = quoteAccount(user, ANY_HOST);
  const password = `IDENTIFIED BY '${PASSWORD_PLACEHOLDER}'`;
  return [`CREATE USER IF NOT EXISTS ${account} ${password}`, `ALTER USER ${account} ${password}`, ...sql].join('; ');
}
