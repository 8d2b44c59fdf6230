/**
 * What `check --grants` prints: the least rights that a program needs, as statements and commands to be run by those who
 * administer the servers. Needs no connection, and shows no password.
 */
import type { CommandOption } from './cli.ts';
import { ANY_HOST } from '../database/login.ts';

/** The option of both programs' `check`. */
export const GRANTS_OPTION: CommandOption = {
  flags: '--grants [host]',
  description: 'print the least rights as SQL, for the user as it connects from host (%: any), and look at nothing',
};

export interface Grants {
  /** Statements without a semicolon, for the database's administrator. */
  readonly sql: readonly string[];
  /** Commands of a shell on RabbitMQ's machine; none where the other program sees to it. */
  readonly commands: readonly string[];
}

/** The host of `--grants [host]`; null: the option was not given. */
export function grantsHost(option: unknown): string | null {
  if (option === undefined) return null;
  return typeof option === 'string' ? option : ANY_HOST;
}

/** As text that `mysql` takes whole: what is not for it is a comment. */
export function renderGrants({ sql, commands }: Grants): string {
  const shell =
    commands.length === 0 ? [] : ['-- On RabbitMQ’s machine:', ...commands.map(command => `--   ${command}`)];
  return [...sql.map(statement => `${statement};`), ...shell].join('\n');
}
