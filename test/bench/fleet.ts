/**
 * fleet/…: what 200 branches cost the head office, and whether they all come back when all were cut off at once.
 *
 * The branches are light: the agent's own forwarder and spool, without a database behind them; broker, applier and
 * MySQL are real. Each branch sends one small batch every BATCH_EVERY_MS, at its own time. No rival.
 *
 * - `applier-cpu`: processor milliseconds of the applier a branch and second; `applier-memory`: resident, a branch;
 * - `memory-growth`, `heap-growth`, `connection-growth`: what the applier holds resident and in its heap, and the broker's
 *   connections, in the last of WATCH_MINUTES by what they were in the first: 1 is flat;
 * - `storm/links`: every connection reset at once, until each branch has an answer again; `storm/broker`: the broker
 *   restarted, from its being up again.
 */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import * as z from 'zod';
import { brokerLink } from '../../agent/forward/broker-link.ts';
import { Forwarder } from '../../agent/forward/forwarder.ts';
import { Spool } from '../../agent/spool/spool.ts';
import type { Product } from '../../deploy/rig/daemon.ts';
import { FaultProxy } from '../../deploy/rig/fault-proxy.ts';
import { encodeBatch } from '../../shared/batch/encoder.ts';
import { readEnrolment } from '../../shared/config/enrolment.ts';
import type { Enrolment } from '../../shared/config/enrolment.ts';
import { SALES, upsert } from '../support/hand-made/branch.ts';
import { makeReport } from '../support/hand-made/messages.ts';
import { expectSuccess } from '../support/world/world.ts';
import type { World } from '../support/world/world.ts';
import { createBenchWorld } from './backlog.ts';
import { alone, cpuSeconds, residentMegabytes } from './report.ts';
import type { Bench } from './servers.ts';
import { numberOf } from './workload.ts';

const BRANCHES = 200;
const BATCH_EVERY_MS = 10_000;
const WATCH_MINUTES = 5;
const SAMPLE_MS = 5_000;
const DEADLINE_MS = 180_000;

export async function benchFleet(bench: Bench): Promise<void> {
  if (!bench.wants('fleet')) return;
  const { report, servers } = bench;
  const broker = await servers.broker();
  const proxy = await FaultProxy.open(broker.port, broker.host);
  const world = await createBenchWorld(servers);
  const folder = mkdtempSync(join(tmpdir(), 'tributary-fleet-'));
  const branches: LightBranch[] = [];
  try {
    const url = `amqp://${proxy.host}:${proxy.port}`;
    const applier = await world.startApplier({ config: { broker: { branchUrl: url }, log: { level: 'info' } } });
    const pid = (): number => {
      if (applier.pid === undefined) throw new Error('the applier has ended');
      return applier.pid;
    };
    const empty = residentMegabytes(pid()).now;
    for (const enrolment of await enrolAll(world, folder)) branches.push(LightBranch.open(enrolment, folder));
    report.say(`fleet: ${BRANCHES} branches are enrolled`);
    const joined = performance.now();
    for (const branch of branches) branch.start();
    await allAnswered(branches, Date.now());
    report.say(`fleet: all have an answer after ${((performance.now() - joined) / 1_000).toFixed(1)} s`);
    await delay(BATCH_EVERY_MS);

    const cpuBefore = cpuSeconds(pid());
    const minutes: Sample[] = [];
    const began = performance.now();
    while (minutes.length < WATCH_MINUTES) {
      const samples: Sample[] = [];
      while (performance.now() - began < (minutes.length + 1) * 60_000) {
        await delay(SAMPLE_MS);
        // A machine that is too busy to answer in time is looked at again.
        samples.push(
          ...(await sampleOf(world, applier, pid()).then(
            one => [one],
            () => [],
          )),
        );
      }
      minutes.push(leastOf(samples));
      report.say(`fleet: minute ${minutes.length}: ${JSON.stringify(minutes.at(-1), rounded)}`);
    }
    const cpuMs = ((cpuSeconds(pid()) - cpuBefore) * 1_000) / BRANCHES / ((performance.now() - began) / 1_000);
    const [first, last] = [minutes[0]!, minutes.at(-1)!];
    report.add(
      alone(`fleet/${BRANCHES}/applier-cpu`, 'ms/s each', [cpuMs]),
      alone(`fleet/${BRANCHES}/applier-memory`, 'MiB each', [(last.resident - empty) / BRANCHES]),
      alone(`fleet/${BRANCHES}/memory-growth`, 'ratio', [last.resident / first.resident]),
      alone(`fleet/${BRANCHES}/heap-growth`, 'ratio', [last.heap / first.heap]),
      alone(`fleet/${BRANCHES}/connection-growth`, 'ratio', [last.connections / first.connections]),
    );
    const course = (field: keyof Sample): string => minutes.map(each => each[field].toFixed(0)).join(', ');
    report.note(
      `fleet: minute by minute, the least of a dozen looks: MiB resident ${course('resident')}; in the heap ${course('heap')}; ` +
        `outside it ${course('external')}; connections at the broker ${course('connections')}, at MySQL ${course('sessions')}.`,
    );

    const cut = Date.now();
    proxy.reset();
    await allAnswered(branches, cut);
    report.add(alone(`fleet/${BRANCHES}/storm/links`, 's', [(Date.now() - cut) / 1_000]));
    await broker.restart();
    const up = Date.now();
    await allAnswered(branches, up);
    report.add(alone(`fleet/${BRANCHES}/storm/broker`, 's', [(Date.now() - up) / 1_000]));
    for (const branch of branches) branch.rest();
    await mustArrive(world, branches);
    report.say(`fleet: every batch of every branch is applied`);
  } finally {
    await Promise.all(branches.map(branch => branch.close()));
    await world.remove();
    await proxy.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function enrolAll(world: World, folder: string): Promise<Enrolment[]> {
  const list = join(folder, 'branches.csv');
  const out = join(folder, 'enrolments');
  const names = Array.from({ length: BRANCHES }, (_, n) => `fleet-${String(n).padStart(3, '0')}`);
  writeFileSync(list, ['branch', ...names, ''].join('\n'));
  expectSuccess(await world.applierCli(['branch', 'add', '--from', list, '--out', out]));
  const files = readdirSync(out).sort();
  return Promise.all(files.map(file => readEnrolment(join(out, file))));
}

/** Every branch has had an answer to a hello said since then. */
async function allAnswered(branches: readonly LightBranch[], since: number): Promise<void> {
  const deadline = Date.now() + DEADLINE_MS;
  for (;;) {
    const missing = branches.filter(branch => !branch.answeredSince(since)).length;
    if (missing === 0) return;
    if (Date.now() > deadline) throw new Error(`${missing} branches have no answer after ${DEADLINE_MS} ms`);
    await delay(20);
  }
}

async function mustArrive(world: World, branches: readonly LightBranch[]): Promise<void> {
  const wanted = branches.reduce((sum, branch) => sum + branch.rows, 0);
  const deadline = Date.now() + DEADLINE_MS;
  for (;;) {
    const rows = await numberOf(world.headOfficeDb, `SELECT COUNT(*) FROM ${world.database}.sales`);
    if (rows === wanted) return;
    if (Date.now() > deadline) throw new Error(`the head office has ${rows} of ${wanted} rows`);
    await delay(200);
  }
}

/** Of the applier, in MiB and connections. The least of a minute is what is left after garbage was collected. */
interface Sample {
  readonly resident: number;
  readonly heap: number;
  readonly external: number;
  readonly connections: number;
  readonly sessions: number;
}

async function sampleOf(world: World, applier: Product, pid: number): Promise<Sample> {
  const metrics = String(await applier.get('/metrics'));
  const mebibytes = (name: string): number => Number(new RegExp(`^${name} (\\S+)`, 'm').exec(metrics)?.[1]) / 2 ** 20;
  return {
    resident: residentMegabytes(pid).now,
    heap: mebibytes('nodejs_heap_size_used_bytes'),
    external: mebibytes('nodejs_external_memory_bytes'),
    connections: await connections(world),
    sessions: await numberOf(world.headOfficeDb, 'SELECT COUNT(*) FROM INFORMATION_SCHEMA.PROCESSLIST'),
  };
}

function rounded(_key: string, value: unknown): unknown {
  return typeof value === 'number' ? Math.round(value) : value;
}

function leastOf(samples: readonly Sample[]): Sample {
  const least = (field: keyof Sample): number => Math.min(...samples.map(sample => sample[field]));
  return {
    resident: least('resident'),
    heap: least('heap'),
    external: least('external'),
    connections: least('connections'),
    sessions: least('sessions'),
  };
}

const overview = z.object({ object_totals: z.object({ connections: z.number() }) });

async function connections(world: World): Promise<number> {
  return overview.parse(await world.managementApi('GET', '/overview')).object_totals.connections;
}

/** The agent's forwarder and spool, and a clock that sells. */
class LightBranch {
  readonly #spool: Spool;
  readonly #forwarder: Forwarder;
  #timer: NodeJS.Timeout | null = null;
  rows = 0;

  private constructor(spool: Spool, forwarder: Forwarder) {
    this.#spool = spool;
    this.#forwarder = forwarder;
  }

  static open({ branch, broker }: Enrolment, folder: string): LightBranch {
    const spool = Spool.open({
      directory: join(folder, branch),
      branch,
      maxBytes: 2 ** 30,
      keepAppliedMs: 60_000,
      minFreeBytes: 0,
      now: () => Date.now(),
    });
    const report = makeReport({ version: 'bench' });
    const forwarder = new Forwarder({
      spool,
      connect: brokerLink({ ...broker, branch }),
      policy: { windows: [], timeZone: 'UTC', maxBytesPerSecond: 0 },
      facts: () => ({ capturedThrough: null, report }),
      events: {
        onNewEpoch: reason => {
          throw new Error(`${branch}: a new epoch: ${reason}`);
        },
        onStopped: error => {
          throw error;
        },
        onIdle: () => undefined,
        onAnswer: () => undefined,
      },
      log: { info: () => undefined, warn: () => undefined },
      now: () => Date.now(),
      random: () => Math.random(),
    });
    return new LightBranch(spool, forwarder);
  }

  start(): void {
    this.#forwarder.start();
    this.#sellLater(BATCH_EVERY_MS * Math.random());
  }

  answeredSince(since: number): boolean {
    const { connected, lastHelloAt, lastAnswerAt } = this.#forwarder.status();
    return connected && lastHelloAt !== null && lastAnswerAt !== null && lastHelloAt >= since && lastAnswerAt >= since;
  }

  rest(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  async close(): Promise<void> {
    this.rest();
    await this.#forwarder.stop();
    this.#spool.close();
  }

  #sellLater(ms: number): void {
    this.#timer = setTimeout(() => {
      this.#sell();
      this.#sellLater(BATCH_EVERY_MS);
    }, ms);
  }

  #sell(): void {
    this.rows += 1;
    const source = { server: 'bench', gtidSet: '', file: 'binlog.1', offset: this.rows, committedAt: null };
    const changes = [upsert([[this.rows, 'tea']])];
    const body = encodeBatch({ v: 1, source, transactions: 1, part: null, tables: [SALES], changes });
    this.#spool.append({ body, rows: 1, position: { source, lastGroup: null }, open: false });
  }
}
