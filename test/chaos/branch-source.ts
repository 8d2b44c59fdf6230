/**
 * A branch's database as its applications and its agent see it: one address, behind which one of two servers answers.
 *
 * States: a primary alone, or with a standby that follows it. A failover makes the standby the primary; the server that
 * it replaces becomes the standby if it holds nothing more than the new primary, else it is thrown away, and the next
 * failover begins with a new standby, copied from the primary.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { DatabaseServer } from '../../deploy/rig/database-server.ts';
import { FaultProxy } from '../../deploy/rig/fault-proxy.ts';
import {
  committedBy,
  promote,
  rejoin,
  startReplica,
  stopReceiving,
  waitUntilReplicated,
} from '../../deploy/rig/replication.ts';
import type { DatabaseAddress } from '../../deploy/rig/shared-servers.ts';
import type { Chance } from './chance.ts';

/**
 * - `clean`: nothing more is written at the old server, and the new one has all of it
 * - `crash`: at any moment; whatever was replicated by then is what remains
 * - `lossy`: the new server has heard of nothing for a while, so that it lacks transactions that the agent has captured
 */
export type Failover = 'clean' | 'crash' | 'lossy';

/** A standby that lags further behind has met a fault and is made anew. */
const CATCHES_UP_WITHIN_S = 20;

export class BranchSource {
  readonly name: string;
  /** What the agent and the applications are told. */
  readonly address: DatabaseAddress;
  readonly #door: FaultProxy;
  #primary: DatabaseServer;
  #standby: DatabaseServer | null = null;
  #copies = 0;

  private constructor(primary: DatabaseServer, door: FaultProxy) {
    const { name, flavor, host, user, password, version } = primary;
    this.name = name;
    this.address = { flavor, host, port: door.port, user, password, version };
    this.#primary = primary;
    this.#door = door;
  }

  /** Takes the server over. */
  static async open(primary: DatabaseServer): Promise<BranchSource> {
    return new BranchSource(primary, await FaultProxy.open(primary.port));
  }

  /** The server that answers at the address. */
  get primary(): DatabaseServer {
    return this.#primary;
  }

  get servers(): readonly DatabaseServer[] {
    return this.#standby === null ? [this.#primary] : [this.#primary, this.#standby];
  }

  /** What happens to the primary next cannot be followed by a standby. */
  async dropStandby(): Promise<void> {
    const standby = this.#standby;
    this.#standby = null;
    await standby?.remove();
  }

  /** @returns how it went, for people */
  async failOver(how: Failover, chance: Chance): Promise<string> {
    const standby = await this.#readyStandby();
    const old = this.#primary;
    if (how === 'lossy') {
      await stopReceiving(standby);
      await sleep(chance.between(1_000, 4_000));
    }
    if (how === 'clean') {
      // Whatever is under way at the old server is not known to anybody but itself.
      await this.#door.set({ mode: 'cut' });
      await waitUntilReplicated(old, standby);
    }
    const end = chance.pick(['killed', 'frozen'] as const);
    if (end === 'killed') await old.kill();
    else old.pause();
    await promote(standby);
    const committed = await committedBy(standby);
    this.#door.lead(standby.port);
    await this.#door.heal();
    this.#primary = standby;
    this.#standby = null;
    if (end === 'frozen') old.resume();
    else await old.restart();
    // By now the new server has committed more; what counts is what it had from the old one.
    const equal = (await committedBy(old)) === committed;
    if (equal) {
      await rejoin(old, standby);
      this.#standby = old;
    } else await old.remove();
    return `${this.name} ${end}, ${standby.name} took over with ${equal ? 'all' : 'less than all'} of it`;
  }

  async remove(): Promise<void> {
    await this.#door.close();
    await Promise.all(this.servers.map(server => server.remove()));
  }

  async #readyStandby(): Promise<DatabaseServer> {
    if (this.#standby !== null) {
      const usable = await waitUntilReplicated(this.#primary, this.#standby, CATCHES_UP_WITHIN_S).then(
        () => true,
        () => false,
      );
      if (usable) return this.#standby;
      await this.dropStandby();
    }
    this.#copies += 1;
    const standby = await startReplica(this.#primary, `${this.name}-${this.#copies}`);
    this.#standby = standby;
    await waitUntilReplicated(this.#primary, standby);
    return standby;
  }
}
