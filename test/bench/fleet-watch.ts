/** What a fleet costs applier and broker, minute by minute; and how large and how slow the pages about it are. */
import { setTimeout as delay } from 'node:timers/promises';
import * as z from 'zod';
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
}

const overview = z.object({ object_totals: z.object({ connections: z.number() }) });
const nodes = z.array(z.object({ os_pid: z.coerce.number(), fd_used: z.number() }));

export class FleetWatch {
  readonly #world: World;
  readonly #applier: Product;

  constructor(world: World, applier: Product) {
    this.#world = world;
    this.#applier = applier;
  }

  get pid(): number {
    if (this.#applier.pid === undefined) throw new Error('the applier has ended');
    return this.#applier.pid;
  }

  async brokerPid(): Promise<number> {
    return (await this.#node()).os_pid;
  }

  async watch(minutes: number, say: (sample: Sample, minute: number) => void): Promise<Watched> {
    const broker = await this.brokerPid();
    const before = [cpuSeconds(this.pid), cpuSeconds(broker)] as const;
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
      brokerFiles: (await this.#node()).fd_used,
      connections: totals.connections,
      sessions: await numberOf(this.#world.headOfficeDb, 'SELECT COUNT(*) FROM INFORMATION_SCHEMA.PROCESSLIST'),
    };
  }

  async #node(): Promise<z.infer<typeof nodes>[number]> {
    const [node] = nodes.parse(await this.#world.managementApi('GET', '/nodes'));
    if (node === undefined) throw new Error('the broker has no node');
    return node;
  }
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
