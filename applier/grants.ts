/** The least rights of the applier at the head office's database and at RabbitMQ. Pure. */
import type { Grants } from '../shared/process/grants.ts';
import { shellWord } from '../shared/process/shell-word.ts';
import { quoteAccount, quoteGrantedDatabase } from '../shared/database/sql.ts';
import type { ApplierConfig } from './config.ts';

/**
 * On the database alone, nothing global. ALTER needs CREATE and INSERT beside it; LOAD DATA … REPLACE needs DELETE; an
 * empty table of another form is dropped to be made anew; TRIGGER shows the triggers that would change rows.
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

/** What branches' exchanges and queues are called, as a pattern of RabbitMQ's. */
const OURS = '^tributary\\.';
/** Answers go to a queue by its name, through the exchange without one. */
const OURS_AND_DEFAULT = '^(tributary\\.|amq\\.default$)';

/** @param host from where the user connects to the database, as the account has it */
export function applierGrants(config: ApplierConfig, host: string): Grants {
  return { sql: [targetGrant(config.target, host)], commands: brokerCommands(config.broker) };
}

export function targetGrant(target: ApplierConfig['target'], host: string): string {
  const account = quoteAccount(target.user, host);
  return `GRANT ${TARGET_RIGHTS.join(', ')} ON ${quoteGrantedDatabase(target.database)}.* TO ${account}`;
}

/**
 * Making users and permissions needs the tag administrator, for which RabbitMQ knows nothing smaller; queues are made
 * with the rights that the same user has in the virtual host. Where another user does that, url's only reads and answers.
 */
export function brokerCommands(broker: ApplierConfig['broker']): string[] {
  const { user, vhost, management } = broker;
  const vhostArgument = shellWord(vhost);
  const permissions = (name: string, configure: string, write: string): string =>
    `rabbitmqctl set_permissions -p ${vhostArgument} ${shellWord(name)} '${configure}' '${write}' '${OURS}'`;
  const administrator = `rabbitmqctl set_user_tags ${shellWord(management.user)} administrator`;
  if (management.user === user) return [administrator, permissions(user, OURS, OURS_AND_DEFAULT)];
  return [permissions(user, '^$', '^amq\\.default$'), administrator, permissions(management.user, OURS, OURS)];
}
