/** What a fleet costs applier and broker, minute by minute; and how large and how slow the pages about it are. */
import { readdirSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { RowDataPacket } from 'mysql2/promise';
import * as z from 'zod';
import type { BrokerServer } from '../../deploy/rig/broker-server.ts';
import type { Product } from '../../deploy/rig/daemon.ts';
import type { World } from '../support/world/world.ts';
import { cpuSeconds, residentMegabytes } from './report.ts';
import { numberOf } from './workload.ts';

const SAMPLE_MS = 5_000;

/** The least of a minute is what is left after garbage was collected. Memory is in MiB. */
export interface Sample {
  readonly resident: number;
  readonly heap: number;
  readonly external: number;
  readonly brokerResident: number;
  readonly brokerFiles: number;
  /** At the broker, and at MySQL. */
  readonly connections: number;
  readonly sessions: number;
}

export interface Watched {
  readonly minutes: readonly Sample[];
  /** Processor seconds a second. */
  readonly applierCores: number;
  readonly brokerCores: number;
  /** Written at the head office. */
  readonly rowsPerSecond: number;
}

const overview = z.object({ object_totals: z.object({ connections: z.number() }) });
const consumers = z.array(
  z.object({ queue: z.object({ name: z.string() }), consumer_tag: z.string(), active: z.boolean() }),
);
/** How much of the present is looked at for lags, and the bench's rows of which each batch has one. */
const LAGS_OF_S = 60;

export class FleetWatch {
  readonly #world: World;
  readonly #applier: Product;
  readonly #broker: BrokerServer;

  constructor(world: World, applier: Product, broker: BrokerServer) {
    this.#world = world;
    this.#applier = applier;
    this.#broker = broker;
  }

  get pid(): number {
    if (this.#applier.pid === undefined) throw new Error('the applier has ended');
    return this.#applier.pid;
  }

  get brokerPid(): number {
    if (this.#broker.pid === undefined) throw new Error('the broker has ended');
    return this.#broker.pid;
  }

  async watch(minutes: number, say: (sample: Sample, minute: number) => void): Promise<Watched> {
    const broker = this.brokerPid;
    const before = [cpuSeconds(this.pid), cpuSeconds(broker), await this.#rows()] as const;
    const began = performance.now();
    const found: Sample[] = [];
    while (found.length < minutes) {
      const samples: Sample[] = [];
      while (performance.now() - began < (found.length + 1) * 60_000) {
        await delay(SAMPLE_MS);
        // A machine that is too busy to answer in time is looked at again.
        samples.push(
          ...(await this.#sample(broker).then(
            one => [one],
            () => [],
          )),
        );
      }
      found.push(leastOf(samples));
      say(found.at(-1)!, found.length);
    }
    const seconds = (performance.now() - began) / 1_000;
    return {
      minutes: found,
      applierCores: (cpuSeconds(this.pid) - before[0]) / seconds,
      brokerCores: (cpuSeconds(broker) - before[1]) / seconds,
      rowsPerSecond: ((await this.#rows()) - before[2]) / seconds,
    };
  }

  /** The least of some tries, as a busy machine delays some of them. */
  async page(path: string): Promise<{ readonly kilobytes: number; readonly ms: number }> {
    const tries: number[] = [];
    let bytes = 0;
    for (let n = 0; n < 3; n += 1) {
      const began = performance.now();
      const got = await this.#applier.get(path);
      tries.push(performance.now() - began);
      bytes = Buffer.byteLength(typeof got === 'string' ? got : JSON.stringify(got));
    }
    return { kilobytes: bytes / 1_000, ms: Math.min(...tries) };
  }

  async #sample(broker: number): Promise<Sample> {
    const metrics = String(await this.#applier.get('/metrics'));
    const mebibytes = (name: string): number => Number(new RegExp(`^${name} (\\S+)`, 'm').exec(metrics)?.[1]) / 2 ** 20;
    const { object_totals: totals } = overview.parse(await this.#world.managementApi('GET', '/overview'));
    return {
      resident: residentMegabytes(this.pid).now,
      heap: mebibytes('nodejs_heap_size_used_bytes'),
      external: mebibytes('nodejs_external_memory_bytes'),
      brokerResident: residentMegabytes(broker).now,
      brokerFiles: readdirSync(`/proc/${broker}/fd`).length,
      connections: totals.connections,
      sessions: await numberOf(this.#world.headOfficeDb, 'SELECT COUNT(*) FROM INFORMATION_SCHEMA.PROCESSLIST'),
    };
  }

  #rows(): Promise<number> {
    const { headOfficeDb, database } = this.#world;
    return numberOf(headOfficeDb, `SELECT COALESCE(SUM(rows_written), 0) FROM ${database}.tributary_branch`);
  }
}

/** How many branches the broker serves each applier with, by its name. */
export async function consumersOf(world: World): Promise<ReadonlyMap<string, number>> {
  const all = consumers.parse(await world.managementApi('GET', `/consumers/${world.vhost}`));
  const active = all.filter(({ queue, active }) => active && queue.name.startsWith('tributary.batches.'));
  return new Map([...Map.groupBy(active, each => each.consumer_tag)].map(([tag, { length }]) => [tag, length]));
}

/** Milliseconds from each of the last minute's sales until it was written at the head office. */
export async function lagsOf(world: World): Promise<number[]> {
  const [rows] = await world.headOfficeDb.query<RowDataPacket[]>(
    `SELECT TIMESTAMPDIFF(MICROSECOND, CAST(item AS DATETIME(3)), _changed_at) / 1000 AS lag
       FROM ${world.database}.sales WHERE _changed_at > UTC_TIMESTAMP(6) - INTERVAL ${LAGS_OF_S} SECOND`,
  );
  return rows.map(row => Number(row['lag']));
}

function leastOf(samples: readonly Sample[]): Sample {
  const least = (field: keyof Sample): number => Math.min(...samples.map(sample => sample[field]));
  return {
    resident: least('resident'),
    heap: least('heap'),
    external: least('external'),
    brokerResident: least('brokerResident'),
    brokerFiles: least('brokerFiles'),
    connections: least('connections'),
    sessions: least('sessions'),
  };
}
