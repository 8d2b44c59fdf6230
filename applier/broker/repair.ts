/**
 * Makes again what a broker has lost: its data was deleted, or restored from before a branch was added. Batches that
 * were lost with it the branches send again; here only virtual host, exchange, queues and users are looked after.
 */
import { TributaryError } from '../../shared/errors.ts';
import type { TargetPool } from '../apply/connection-pool.ts';
import { readBrokerUser } from '../store/broker-users.ts';
import type { Provisioning } from './provisioning.ts';

export class BrokerRepair {
  readonly #pool: TargetPool;
  readonly #provisioning: Provisioning;
  readonly #applierUser: string;

  constructor(pool: TargetPool, provisioning: Provisioning, applierUser: string) {
    this.#pool = pool;
    this.#provisioning = provisioning;
    this.#applierUser = applierUser;
  }

  /** Idempotent. @throws BROKER_…, TARGET_…; the first fault, after all branches were tried */
  async mend(branches: readonly string[]): Promise<void> {
    await this.#provisioning.ensureVhost(this.#applierUser);
    const faults: Error[] = [];
    for (const branch of branches) {
      try {
        const user = await this.#pool.use(connection => readBrokerUser(connection, branch));
        if (user === null && !(await this.#provisioning.hasUser(branch))) {
          throw new TributaryError('BROKER_SETUP', `The broker has no user for ${branch}.`, {
            hint: `tributary-applier branch add ${branch} --out FILE makes it again; with the old enrolment file as FILE its password stays.`,
          });
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
