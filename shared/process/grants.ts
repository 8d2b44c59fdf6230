/**
 * What `check --grants` prints: the minimal rights that a program needs, as statements and commands for the people who
 * administer the servers. It needs no connection and shows no password.
 */
import type { CommandOption } from './cli.ts';
import { ANY_HOST } from '../database/login.ts';

/** The option of both programs' `check`. */
export const GRANTS_OPTION: CommandOption = {
  flags: '--grants [host]',
  description: 'print the minimal rights as SQL for the user at this host (%: any), and check nothing',
};

/** The option of the applier's `check`. */
export const READER_OPTION: CommandOption = {
  flags: '--reader <user>',
  description: 'with --grants: print the rights of a user of reports, which reads the views and the tables of branches',
};

export interface Grants {
  /** Statements without a semicolon, for the administrator of the database. */
  readonly sql: readonly string[];
  /** Shell commands for RabbitMQ's machine; none if the other program does it. */
  readonly commands: readonly string[];
}

/** The host of `--grants [host]`; null: the option was not given. */
export function grantsHost(option: unknown): string | null {
  if (option === undefined) return null;
  return typeof option === 'string' ? option : ANY_HOST;
}

/** As input for `mysql`: everything else is a comment. */
export function renderGrants({ sql, commands }: Grants): string {
  const shell =
    commands.length === 0 ? [] : ['-- On RabbitMQ’s machine:', ...commands.map(command => `--   ${command}`)];
  return [...sql.map(statement => `${statement};`), ...shell].join('\n');
}
