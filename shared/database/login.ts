/** What both programs tell administrators to do when a database user cannot log in. */
import type { Secret } from '../config/secret.ts';
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

/** How a corrected password takes effect. */
export function passwordHint(password: Secret, program: 'tributary-agent' | 'tributary-applier'): string {
  return password.isCredential
    ? `Correct the password file and run \`systemctl restart ${program}\`: systemd passes the file on at the start.`
    : 'Correct the password file: it is read again at each attempt.';
}
