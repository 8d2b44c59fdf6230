/** A backup of one database as operators take it: mysqldump, and mysql to put it back. */
import { readFileSync } from 'node:fs';
import type { DatabaseServer } from '../../../deploy/rig/database-server.ts';
import { run } from '../../../deploy/rig/run.ts';

/** Writes the database as it is at one moment, while it is in use. */
export async function dumpDatabase(server: DatabaseServer, database: string, file: string): Promise<void> {
  await client(server, 'mysqldump', [
    '--single-transaction',
    '--hex-blob',
    '--no-tablespaces',
    '--set-gtid-purged=OFF',
    `--result-file=${file}`,
    database,
  ]);
}

/** Replaces the database by what the file holds. Nobody else may use it meanwhile. */
export async function restoreDatabase(server: DatabaseServer, database: string, file: string): Promise<void> {
  await client(server, 'mysql', ['-e', `DROP DATABASE IF EXISTS ${database}; CREATE DATABASE ${database}`]);
  await client(server, 'mysql', [database], readFileSync(file, 'utf8'));
}

async function client(
  server: DatabaseServer,
  program: 'mysql' | 'mysqldump',
  args: readonly string[],
  input = '',
): Promise<void> {
  const login = ['--no-defaults', '-h', server.host, '-P', String(server.port), '-u', server.user];
  const { status, errors } = await run(server.programs.program(program), [...login, ...args], {
    environment: { ...server.programs.environment, MYSQL_PWD: server.password },
    input,
    timeoutMs: 120_000,
  });
  if (status !== 0) throw new Error(`${program} ended with ${status}: ${errors}`);
}
