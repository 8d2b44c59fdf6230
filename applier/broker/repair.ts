/**
 * Makes again what a broker has lost because its data was deleted, or restored from before a branch was added: virtual
 * host, exchanges, queues and users. The branches send the lost batches again by themselves.
 */
import { TributaryError } from '../../shared/errors.ts';
import type { TargetPool } from '../apply/connection-pool.ts';
import { readBrokerUser } from '../store/broker-users.ts';
import type { Provisioning } from './provisioning.ts';

/** Repairs the broker for branches that miss something there. */
export class BrokerRepair {
  readonly #pool: TargetPool;
  readonly #provisioning: Provisioning;
  readonly #applierUser: string;

  constructor(pool: TargetPool, provisioning: Provisioning, applierUser: string) {
    this.#pool = pool;
    this.#provisioning = provisioning;
    this.#applierUser = applierUser;
  }

  /**
   * Idempotent. A branch that belongs to another head office at this broker by now is left as it is: its user is the one
   * that the other head office has made.
   * @throws BROKER_…, TARGET_…: the first fault, after all branches were tried
   */
  async mend(branches: readonly string[]): Promise<void> {
    await this.#provisioning.ensureVhost(this.#applierUser);
    const faults: Error[] = [];
    for (const branch of branches) {
      try {
        const user = await this.#pool.use(connection => readBrokerUser(connection, branch));
        if (user === null && !(await this.#provisioning.hasUser(branch))) {
          throw new TributaryError('BROKER_SETUP', `The broker has no user for ${branch}.`, {
            hint: `Make it again with a new password: \`tributary-applier branch rotate ${branch} --out FILE\`.`,
          });
        }
        const [other] = await this.#provisioning.otherVhosts(branch);
        if (other !== undefined) {
          const text = `${branch} belongs to another head office at this broker (virtual host ${other}).`;
          const hint = `Remove it here: \`tributary-applier branch remove ${branch}\`.`;
          throw new TributaryError('BROKER_SETUP', text, { hint });
        }
        await this.#provisioning.ensure(branch, user);
      } catch (error) {
        faults.push(error instanceof Error ? error : new Error(String(error)));
      }
    }
    const [first] = faults;
    if (first !== undefined) throw first;
  }
}
