/** One round of chaos: faults under load, then whatever a supervisor or a person would do, then the comparison. */
import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Product } from '../../deploy/rig/daemon.ts';
import { waitUntilEqual } from '../support/oracle/wait-until-equal.ts';
import { Chance } from './chance.ts';
import { Cures } from './cures.ts';
import type { Faults, Memory } from './fault.ts';
import type { Stage } from './stage.ts';

const MOST_FAULTS_A_ROUND = 5;
const HEALTHY_WITHIN_MS = 60_000;
const CALLED_EVERY_MS = 1_000;

/** As an ended program's last words begin. */
const PASSING = /^(TARGET_UNREACHABLE|TARGET_SETTING|TARGET_BUSY|SPOOL_IO|SPOOL_CORRUPT): /m;

export class Round<S extends Stage> {
  /** The faults in their order. */
  readonly drawn: string[] = [];
  /** What was done and when, line by line. */
  readonly story: string[] = [];
  rows = 0;
  transactions = 0;
  readonly #stage: S;
  readonly #seed: string;
  readonly #withinMs: number;
  readonly #cures: Cures;

  /** @param seed of this very round. @param withinMs in which all must be equal once the faults are over */
  constructor(stage: S, seed: string, withinMs: number) {
    this.#stage = stage;
    this.#seed = seed;
    this.#withinMs = withinMs;
    this.#cures = new Cures(stage, done => this.#tell(`cure: ${done}`));
  }

  /** @returns the round in a line. @throws when the ends stay different, or a program or a branch needs what nobody named */
  async play(faults: Faults<S>, memory: Memory): Promise<string> {
    await this.#break(faults, memory);
    await this.#endLoad();
    const healed = await this.#supervise();
    const started = Date.now();
    this.rows = await this.#compare(memory);
    await this.#stage.audit();
    const took = ((Date.now() - started) / 1000).toFixed(1);
    if (this.#cures.count > 0) healed.push(`${this.#cures.count} cures`);
    return `${this.drawn.join(', ')}${healed.length > 0 ? ` (${healed.join(', ')})` : ''}: ${this.rows} rows equal after ${took} s`;
  }

  #tell(what: string): void {
    this.story.push(`${new Date().toISOString()} ${what}`);
  }

  async #break(faults: Faults<S>, memory: Memory): Promise<void> {
    const stage = this.#stage;
    const chance = new Chance(this.#seed);
    for (const { branch, workload } of stage.branches)
      workload.start(new Chance(`${this.#seed}/${branch.schema.split('_')[0]}`));
    const weights = Object.fromEntries(Object.entries(faults).map(([name, { weight }]) => [name, weight]));
    const together = chance.below(3) === 0;
    const running: Promise<void>[] = [];
    for (let i = chance.between(1, MOST_FAULTS_A_ROUND); i > 0; i -= 1) {
      await sleep(chance.between(100, 1_500));
      const name = chance.weighted(weights);
      const fault = faults[name];
      if (fault === undefined) throw new Error(`no fault ${name}`);
      const call = {
        stage,
        memory,
        chance: new Chance(`${this.#seed}/${this.drawn.length}`),
        note: (text: string) => this.#tell(`${name}: ${text}`),
      };
      this.drawn.push(name);
      this.#tell(`${name} begins`);
      const run = fault.run(call).then(() => this.#tell(`${name} is over`));
      // Another process group's start or stop must not meet its own kill: only faults of links overlap with others.
      if (together && name.startsWith('link-')) {
        run.catch(() => undefined);
        running.push(run);
      } else await run;
    }
    await Promise.all(running);
    await sleep(chance.between(0, 1_000));
  }

  async #endLoad(): Promise<void> {
    const { branches, links } = this.#stage;
    for (const proxy of links.flat()) await proxy.heal();
    await this.#stage.mend();
    for (const { workload } of branches) {
      this.transactions += workload.committed;
      await workload.stop();
    }
    // A table that was changed at the head office is looked at when somebody writes to it.
    if (!this.drawn.some(name => name.startsWith('target-ddl'))) return;
    for (const { workload } of branches) await workload.touchAll();
  }

  /** @returns what had to be started or enrolled again */
  async #supervise(): Promise<string[]> {
    const healed: string[] = [];
    for (const product of this.#stage.products) {
      if (product.running) continue;
      // What ends with a fault that passes is started again by its supervisor, as systemd would.
      const last = product.logTail(4);
      if (!PASSING.test(last)) throw new Error(`a ${product.program} has ended by itself\n${last}`);
      healed.push(`${product.program} started again`);
      await product.start();
    }
    // Only what may halt a branch may cost it its registration; an idle agent's next answer takes half a minute.
    if (!this.#stage.halts) return healed;
    const superseded = await Promise.all(this.#stage.branches.map(({ branch }) => isSuperseded(branch.agent)));
    for (const [at, stageBranch] of this.#stage.branches.entries()) {
      if (superseded[at] !== true) continue;
      healed.push(`${basename(stageBranch.branch.folder)} enrolled again`);
      await this.#stage.enrolAgain(stageBranch);
    }
    return healed;
  }

  /** @returns how many rows are equal */
  async #compare(memory: Memory): Promise<number> {
    const { branches, world } = this.#stage;
    const over = new AbortController();
    const called = this.#answerCalls(over.signal);
    const compared = (async () => {
      for (const stageBranch of memory.unseen) await this.#cures.compare(stageBranch);
      memory.unseen.clear();
      let rows = 0;
      for (const { branch } of branches) {
        const options = world.compareOptions(branch, { maxDifferences: 5 });
        rows += (await waitUntilEqual(options, { deadlineMs: this.#withinMs })).rowsCompared;
      }
      return rows;
    })();
    // Whichever fails first has the reason.
    compared.catch(() => undefined);
    try {
      return await Promise.race([compared, called.then(() => compared)]);
    } finally {
      over.abort();
    }
  }

  /** Until all is equal; rejects at once for a call that nobody can answer. */
  async #answerCalls(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#cures.look();
      await sleep(CALLED_EVERY_MS);
    }
  }
}

/** Whether the agent has said for good that another life of its branch is the valid one. */
async function isSuperseded(agent: Product): Promise<boolean> {
  const asked = Date.now();
  const end = asked + HEALTHY_WITHIN_MS;
  for (;;) {
    try {
      const status = (await agent.get('/api/status')) as { state: string; link: { lastAnswerAt: string | null } };
      if (status.state === 'superseded') return true;
      // An answer from before tells nothing: another life may have been registered since.
      if (status.link.lastAnswerAt !== null && Date.parse(status.link.lastAnswerAt) > asked) return false;
    } catch {
      // It is starting.
    }
    if (Date.now() > end) return false;
    await sleep(200);
  }
}
