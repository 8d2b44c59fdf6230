/** How the servers that tests run against read statements, in a session that is set as usual. */
import type { Dialect } from '../../../agent/binlog/sql-tokens.ts';

const USUAL = { backslash: true, ansi: false, nbspIsBlank: false };

export const MYSQL: Dialect = { ...USUAL, mariadb: false, version: 90_704 };
export const MARIADB: Dialect = { ...USUAL, mariadb: true, version: 110_809 };
