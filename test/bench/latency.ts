/**
 * latency/{10,100,1000}-tps/{p50,p99}: from a commit at the branch to the row's being visible at the head office, with
 * agent, broker and applier as real processes and the link open.
 *
 * One connection sells one row a transaction at an even rate, whether or not the last has come back; a row's clock
 * starts when the branch's server has answered its INSERT. Another connection asks the head office for the greatest id a
 * millisecond after the last answer, and an answer's arrival is when its rows were visible. Both answers come to one
 * process, so there is one clock; the asking itself costs this machine part of a core.
 * Rows become visible in the order of their ids, because each batch is applied whole.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { World } from '../support/world/world.ts';
import { createBenchWorld } from './backlog.ts';
import { alone, percentile } from './report.ts';
import type { Bench } from './servers.ts';
import { connectTo, numberOf, randomNumbers, SALES_DDL, SALES_TABLE, saleValues } from './workload.ts';

const RATES = [10, 100, 1_000] as const;
/** Rounds of one rate follow each other in one run of the programs. */
const WINDOW_MS = 6_000;
/** A link that has just come up, and compilers that are cold, are no part of it. */
const SETTLE_MS = 3_000;
const VISIBLE_WITHIN_MS = 30_000;
const POLL_MS = 1;
/** The aim for a lone commit, told in the report. */
const AIM_MS = 100;

export async function benchLatency(bench: Bench): Promise<void> {
  const { report, servers } = bench;
  const world = await createBenchWorld(servers);
  try {
    await world.startApplier({ config: { log: { level: 'info' } } });
    const branch = await world.addBranch('latency', {
      source: await servers.branch(),
      setup: [SALES_DDL],
      config: { log: { level: 'info' } },
    });
    await branch.startAgent();
    const shop = new Shop(bench, world, branch.schema);
    await shop.open();
    try {
      await shop.sell(100, SETTLE_MS);
      for (const rate of RATES) {
        const name = `latency/${rate}-tps`;
        if (!bench.wants(`${name}/p50`) && !bench.wants(`${name}/p99`)) continue;
        const p50: number[] = [];
        const p99: number[] = [];
        for (let round = 0; round < bench.rounds; round += 1) {
          const latencies = await shop.sell(rate, WINDOW_MS);
          p50.push(percentile(latencies, 0.5));
          p99.push(percentile(latencies, 0.99));
          const commits = `${latencies.length} commits in ${WINDOW_MS / 1_000} s`;
          report.say(`${name}: ${commits}: p50 ${p50.at(-1)!.toFixed(1)} ms, p99 ${p99.at(-1)!.toFixed(1)} ms`);
        }
        report.add(alone(`${name}/p50`, 'ms', p50), alone(`${name}/p99`, 'ms', p99));
      }
    } finally {
      shop.close();
    }
    const comparison = await world.waitUntilEqual(branch);
    report.note(
      `latency: from the branch's answer to COMMIT until a SELECT at the head office, once a millisecond, shows the row; least and greatest of ${bench.rounds} windows of ${WINDOW_MS / 1_000} s; the aim is ${AIM_MS} ms at 10-tps p50. ${comparison.rowsCompared} rows equal in the end.`,
    );
  } finally {
    await world.remove();
  }
}

class Shop {
  readonly #bench: Bench;
  readonly #world: World;
  readonly #schema: string;
  readonly #random = randomNumbers(3);
  #branch: Awaited<ReturnType<typeof connectTo>> | null = null;
  #headOffice: Awaited<ReturnType<typeof connectTo>> | null = null;
  #lastId = 0;

  constructor(bench: Bench, world: World, schema: string) {
    this.#bench = bench;
    this.#world = world;
    this.#schema = schema;
  }

  async open(): Promise<void> {
    const { servers } = this.#bench;
    this.#branch = await connectTo(await servers.branch(), this.#schema);
    this.#headOffice = await connectTo(await servers.headOffice(), this.#world.database);
    await this.#visible(0);
  }

  close(): void {
    this.#branch?.destroy();
    this.#headOffice?.destroy();
  }

  /** Sells at this rate for a while; milliseconds of each commit until it was visible. */
  async sell(perSecond: number, forMs: number): Promise<number[]> {
    const first = this.#lastId + 1;
    const count = Math.round((perSecond * forMs) / 1_000);
    const committed = new Float64Array(count);
    const visible = new Float64Array(count);
    const watching = this.#watch(first, visible);
    const began = performance.now();
    const answers: Promise<void>[] = [];
    for (let sold = 0; sold < count; sold += 1) {
      const due = began + (sold * 1_000) / perSecond;
      const early = due - performance.now();
      if (early > 0) await delay(early);
      answers.push(this.#insert(first + sold, sold, committed));
    }
    this.#lastId += count;
    await Promise.all(answers);
    await watching;
    return Array.from(committed, (at, sold) => Math.max(0, visible[sold]! - at));
  }

  async #insert(id: number, place: number, committed: Float64Array): Promise<void> {
    await this.#branch!.query(`INSERT INTO ${SALES_TABLE} VALUES ${saleValues(id, this.#random)}`);
    committed[place] = performance.now();
  }

  /** Notes when each id from `first` on has become visible. */
  async #watch(first: number, visible: Float64Array): Promise<void> {
    let seen = 0;
    let progressAt = performance.now();
    while (seen < visible.length) {
      const greatest = await this.#greatest();
      const now = performance.now();
      const reached = Math.min(visible.length, greatest - first + 1);
      if (reached > seen) progressAt = now;
      for (; seen < reached; seen += 1) visible[seen] = now;
      if (now - progressAt > VISIBLE_WITHIN_MS) throw new Error(`id ${first + seen} is not visible at the head office`);
      await delay(POLL_MS);
    }
  }

  #greatest(): Promise<number> {
    return numberOf(this.#headOffice!, `SELECT COALESCE(MAX(id), 0) FROM ${SALES_TABLE}`);
  }

  /** Waits for the table itself: the first batch makes it. */
  async #visible(id: number): Promise<void> {
    const end = Date.now() + VISIBLE_WITHIN_MS;
    for (;;) {
      try {
        if ((await this.#greatest()) >= id) return;
      } catch (error) {
        if (Date.now() > end) throw error;
      }
      await delay(50);
    }
  }
}
