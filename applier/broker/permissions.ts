/**
 * What a branch's user may do at the broker. Pure.
 *
 * RabbitMQ matches permissions as regular expressions anywhere in a name, so patterns are anchored and names are escaped.
 * Without anchors the user of `paris` could write to the exchange of `paris-2`; without escaping a dot would match any
 * character.
 */
import { branchNames } from '../../shared/broker/amqp-messages.ts';

export interface Permissions {
  readonly configure: string;
  readonly write: string;
  readonly read: string;
}

/** Matches no name, not even the empty one, which stands for queues that the server names. */
const NOTHING = '^$';

/** The rights of the branch's user in the virtual host. */
export function branchPermissions(branch: string): Permissions {
  const { exchange, answer } = branchNames(branch);
  return { configure: NOTHING, write: exactly(exchange), read: exactly(answer) };
}

/** Rights by routing key on topic exchanges: everything is allowed until something is defined. */
export const TOPIC_PERMISSIONS = { exchange: 'amq.topic', write: NOTHING, read: NOTHING } as const;

/** A pattern that matches this name and no other. */
export function exactly(name: string): string {
  return `^${name.replaceAll(/[\\^$.*+?()[\]{}|/-]/g, '\\$&')}$`;
}
