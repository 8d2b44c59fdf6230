/** The least rights of the applier at the head office's database and at RabbitMQ. Pure. */
import type { Grants } from '../shared/process/grants.ts';
import { shellWord } from '../shared/process/shell-word.ts';
import { quoteAccount, quoteGrantedDatabase, quoteTable } from '../shared/database/sql.ts';
import { VIEWS } from './store/views.ts';
import type { ApplierConfig } from './config.ts';

/**
 * On the database alone, nothing global. ALTER also needs CREATE and INSERT. LOAD DATA … REPLACE needs DELETE. DROP is for
 * an empty table whose key or types differ: the applier drops it and makes it again. TRIGGER shows triggers, which would
 * change rows.
 */
export const TARGET_RIGHTS = [
  'SELECT',
  'INSERT',
  'UPDATE',
  'DELETE',
  'CREATE',
  'ALTER',
  'DROP',
  'LOCK TABLES',
  'TRIGGER',
] as const;

/** For the views for reports. Without it everything else works. */
export const VIEW_RIGHT = 'CREATE VIEW';

/** The names of branches' exchanges and queues, as a RabbitMQ pattern. */
const OURS = '^tributary\\.';
/** Answers go to a queue by its name, through the default exchange. */
const OURS_AND_DEFAULT = '^(tributary\\.|amq\\.default$)';

/** @param host the account's host: from where the user connects to the database */
export function applierGrants(config: ApplierConfig, host: string): Grants {
  return { sql: [targetGrant(config.target, host)], commands: brokerCommands(config.broker) };
}

export function targetGrant(target: Pick<ApplierConfig['target'], 'user' | 'database'>, host: string): string {
  const account = quoteAccount(target.user, host);
  return `GRANT ${[...TARGET_RIGHTS, VIEW_RIGHT].join(', ')} ON ${quoteGrantedDatabase(target.database)}.* TO ${account}`;
}

/** What a user of reports needs: to read the views and these tables. */
export function readerGrants(database: string, tables: readonly string[], user: string, host: string): Grants {
  const account = quoteAccount(user, host);
  return {
    sql: [...VIEWS, ...tables].map(table => `GRANT SELECT ON ${quoteTable(database, table)} TO ${account}`),
    commands: [],
  };
}

/**
 * Making users and permissions needs the tag administrator: RabbitMQ has no smaller one for that. The same user makes the
 * queues, with its permissions in the virtual host. With a management user of its own, the user of broker.url only reads
 * and answers.
 */
export function brokerCommands(
  broker: Pick<ApplierConfig['broker'], 'user' | 'vhost'> & { readonly management: { readonly user: string } },
): string[] {
  const { user, vhost, management } = broker;
  const vhostArgument = shellWord(vhost);
  const permissions = (name: string, configure: string, write: string): string =>
    `rabbitmqctl set_permissions -p ${vhostArgument} ${shellWord(name)} '${configure}' '${write}' '${OURS}'`;
  const administrator = `rabbitmqctl set_user_tags ${shellWord(management.user)} administrator`;
  if (management.user === user) return [administrator, permissions(user, OURS, OURS_AND_DEFAULT)];
  return [permissions(user, '^$', '^amq\\.default$'), administrator, permissions(management.user, OURS, OURS)];
}
