/** What both programs tell administrators to do when a database user cannot log in. */
import { quoteAccount } from './sql.ts';

/** Stands for the password, which is only in its file. */
export const PASSWORD_PLACEHOLDER = '<the password from the file>';

/** Any machine: from where the user connects is not known here. */
export const ANY_HOST = '%';

/** Statements, as one line, that create a user or give it the password. */
export function loginStatements(user: string, sql: readonly string[]): string {
  const account = quoteAccount(user, ANY_HOST);
  const password = `IDENTIFIED BY '${PASSWORD_PLACEHOLDER}'`;
  return [`CREATE USER IF NOT EXISTS ${account} ${password}`, `ALTER USER ${account} ${password}`, ...sql].join('; ');
}
