/**
 * A head office with two honest branches and one that has gone bad, and the oracle: the still branch's rows and stream, and
 * all that is nobody's, are as they were; the victim's rows are exactly what it sold, and its next batch is applied.
 */
import type { Test } from 'tap';
import type { BranchRow } from '../../../applier/store/branch-row.ts';
import type { Fleet } from '../../../applier/consume/fleet.ts';
import { branchNames } from '../../../shared/broker/amqp-messages.ts';
import type { Answer } from '../../../shared/protocol.ts';
import { quoteName } from '../../../shared/database/sql.ts';
import { sharedServers } from '../../../deploy/rig/shared-servers.ts';
import { upsert } from './branch.ts';
import type { HandMadeBranch } from './branch.ts';
import { HeadOffice } from '../world/head-office.ts';
import type { FleetChoices } from '../world/head-office.ts';
import { RawAmqp } from './raw-amqp.ts';

/** Its name begins as the bad one's does: a pattern without an anchor would let that one in. */
const VICTIM = 'bad-2';
const BAD = 'bad';
/** Has sold before and says nothing any more. */
const STILL = 'still';
/** The bad branch's own tables begin so; all others are looked at. */
export const OWN_TABLES = 'own_';
/** When somebody was last heard of. */
const NEWS = ['tributary_applier', 'tributary_contact'];

export class HostileStage {
  readonly office: HeadOffice;
  readonly victim: HandMadeBranch;
  readonly bad: HandMadeBranch;
  readonly fleet: Fleet;
  #sold = 0;
  #replaces: string | null = null;

  static async open(t: Test, choices: FleetChoices = {}): Promise<HostileStage> {
    const office = await HeadOffice.open();
    t.teardown(() => office.close());
    const fleet = await office.fleet(choices);
    const stage = new HostileStage(office, fleet, await office.branch(VICTIM), await office.branch(BAD));
    const still = await office.branch(STILL);
    await still.hello();
    await still.send(still.make([upsert([[1, 'kept']])]));
    await office.applied(STILL, 1);
    await stage.victim.hello();
    await stage.sell();
    await stage.renew();
    return stage;
  }

  private constructor(office: HeadOffice, fleet: Fleet, victim: HandMadeBranch, bad: HandMadeBranch) {
    this.office = office;
    this.fleet = fleet;
    this.victim = victim;
    this.bad = bad;
  }

  /** The victim sells something, and the head office has it. @throws at a deadline far beyond any delay */
  async sell(): Promise<void> {
    this.#sold += 1;
    await this.victim.send(this.victim.make([upsert([[this.#sold, `sale ${this.#sold}`]])]));
    await this.office.applied(VICTIM, this.#sold);
  }

  /** A new life of the bad branch, and a person who lets it go on where it was halted for something malformed. */
  async renew(): Promise<void> {
    const { halted } = await this.newLife();
    if (halted !== null) await this.fleet.retry(BAD);
  }

  /** A new life of the bad branch, by its own means alone. */
  async newLife(): Promise<Answer> {
    this.bad.newEpoch();
    const answer = await this.bad.hello({ replaces: this.#replaces });
    this.#replaces = this.bad.epoch;
    return answer;
  }

  /** The bad branch is halted. */
  halted(): Promise<BranchRow> {
    return this.office.until(BAD, row => row.state === 'halted', `a halt of ${BAD}`);
  }

  /** Everything that is not the bad branch's nor the victim's: rows, columns of tables, streams of other branches. */
  async others(): Promise<unknown> {
    const tables = await this.office.query(
      `SELECT TABLE_NAME AS name FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = DATABASE() ORDER BY TABLE_NAME`,
    );
    const found: Record<string, unknown> = {};
    for (const { name } of tables.map(row => ({ name: String(row['name']) }))) {
      if (name.startsWith(OWN_TABLES) || NEWS.includes(name)) continue;
      const columns = await this.office.query(`SHOW COLUMNS FROM ${quoteName(name)}`);
      const owner = columns.map(column => String(column['Field'])).find(each => ['_branch', 'branch'].includes(each));
      const where = owner === undefined ? '' : ` WHERE ${quoteName(owner)} NOT IN ('${BAD}', '${VICTIM}')`;
      found[name] = { columns, rows: await this.office.query(`SELECT * FROM ${quoteName(name)}${where}`) };
    }
    return found;
  }

  /** Everything that the victim has sold, and nothing else, is at the head office. */
  async victimIsWhole(t: Test): Promise<void> {
    const sold = Array.from({ length: this.#sold }, (_, i) => [String(i + 1), `sale ${i + 1}`]);
    t.strictSame(await this.office.sales(VICTIM), Object.fromEntries(sold), 'the victim’s rows are what it has sold');
  }

  /** Does something, and asserts that nothing of others has changed and that the victim goes on. */
  async unharmed<T>(t: Test, attack: () => Promise<T>): Promise<T> {
    const before = await this.others();
    const result = await attack();
    t.strictSame(await this.others(), before, 'nothing of others has changed');
    await this.sell();
    await this.victimIsWhole(t);
    return result;
  }

  /** A connection by hand as the bad branch's own user. */
  async connect(t: Test): Promise<RawAmqp> {
    const { broker } = sharedServers();
    const { user } = branchNames(BAD);
    const { password } = this.bad.enrolment.broker;
    const raw = await RawAmqp.connect({
      host: broker.host,
      port: broker.port,
      vhost: this.office.vhost,
      user,
      password,
    });
    t.teardown(() => raw.close());
    return raw;
  }
}
