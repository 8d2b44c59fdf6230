/** The least rights of an agent's user at the branch's database. Pure. */
import type { Grants } from '../shared/process/grants.ts';
import { quoteAccount } from '../shared/database/sql.ts';
import { missingSelects } from './source/select-rights.ts';

/**
 * The same for MySQL and MariaDB, which takes REPLICATION CLIENT as an older name of BINLOG MONITOR; what MariaDB alone
 * knows stands in a comment that it alone reads.
 * @param include patterns of `tables.include`
 * @param host from where the user connects, as the account has it
 */
export function agentGrants(user: string, include: readonly string[], host: string): Grants {
  const account = quoteAccount(user, host);
  const places = new Set(missingSelects([], include, false).map(({ on }) => on));
  return {
    sql: [
      // SLAVE MONITOR: whether the server is itself a replica, whose changes may be missing from its binlog.
      `GRANT REPLICATION SLAVE, REPLICATION CLIENT /*M!100509 , SLAVE MONITOR */ ON *.* TO ${account}`,
      ...[...places].map(place => `GRANT SELECT ON ${place} TO ${account}`),
    ],
    commands: [],
  };
}
