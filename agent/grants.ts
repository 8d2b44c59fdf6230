/** The least rights of an agent's user at the branch's database. Pure. */
import type { Grants } from '../shared/process/grants.ts';
import { quoteAccount } from '../shared/database/sql.ts';
import { missingRights } from './source/table-rights.ts';

/**
 * The same statements for MySQL and MariaDB: MariaDB accepts REPLICATION CLIENT as an older name of BINLOG MONITOR, and
 * reads comments of the form that holds SLAVE MONITOR, which MySQL skips.
 * @param include patterns of `tables.include`
 * @param host the account's host: from where the user connects
 */
export function agentGrants(user: string, include: readonly string[], host: string): Grants {
  const account = quoteAccount(user, host);
  const places = new Set(missingRights('SELECT', [], include, false).map(({ on }) => on));
  return {
    sql: [
      // SLAVE MONITOR shows whether the server is a replica. What a replica takes over may be missing from its binlog.
      `GRANT REPLICATION SLAVE, REPLICATION CLIENT /*M!100509 , SLAVE MONITOR */ ON *.* TO ${account}`,
      ...[...places].map(place => `GRANT SELECT ON ${place} TO ${account}`),
    ],
    commands: [],
  };
}
