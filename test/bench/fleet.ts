/**
 * fleet/…: what 200 branches, or with --large 1,000, cost the head office, and whether they all come back when all were
 * cut off at once. No rival.
 *
 * The branches are light (light-branch.ts): the agent's own forwarder and spool, without a database behind them; broker,
 * applier and MySQL are real. They are idle at first; then SELLERS of them send a batch of ten rows a second each. The
 * broker has the settings for large fleets (docs/sizing.md).
 *
 * - `add`, `answered`: seconds to add all of them, and from their start until each has an answer;
 * - `idle/…`, `selling/…`: cores of the applier and the broker, and hellos a second; `selling/rows` that are applied a
 *   second, and `selling/lag`: from a sale until it is written at the head office;
 * - `applier-memory`, `broker-memory`, `broker-files`: MiB resident, and file descriptors;
 * - `memory-growth`, `heap-growth`, `broker-growth`, `connection-growth`: what the applier holds resident and in its heap,
 *   the broker holds resident, and its connections, in the last minute by what they were in the first: 1 is flat. More than
 *   FLAT is a failure;
 * - `page/…`: the size and time of what the applier serves;
 * - `storm/links`: every connection reset at once, until each branch has an answer again; `storm/broker`: the broker
 *   restarted, from its being up again;
 * - `three/…`: with three appliers: the least and the most branches that one of them serves, the memory of all, and
 *   seconds from the kill of one until all that was sold before is applied.
 */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { BrokerServer } from '../../deploy/rig/broker-server.ts';
import type { Product } from '../../deploy/rig/daemon.ts';
import { FaultProxy } from '../../deploy/rig/fault-proxy.ts';
import { readEnrolment } from '../../shared/config/enrolment.ts';
import type { Enrolment } from '../../shared/config/enrolment.ts';
import { blocksOf, settingsOf } from '../support/documents/guides.ts';
import { expectSuccess } from '../support/world/world.ts';
import type { World } from '../support/world/world.ts';
import { createBenchWorld } from './backlog.ts';
import { consumersOf, FleetWatch, lagsOf } from './fleet-watch.ts';
import type { Sample, Watched } from './fleet-watch.ts';
import { BATCH_EVERY_MS, LightBranch } from './light-branch.ts';
import { alone, percentile, residentMegabytes } from './report.ts';
import type { Bench } from './servers.ts';
import { numberOf } from './workload.ts';

/** Branches, and minutes of selling that are watched. */
const FLEETS = { usual: { size: 200, minutes: 5 }, large: { size: 1_000, minutes: 10 } } as const;
const SELLERS = 100;
const IDLE_MINUTES = 2;
/** After the last answer, and after the first batch of each: until things have settled. */
const SETTLE_MS = 20_000;
const DEADLINE_MS = 300_000;
/** The growth over the watched minutes that is still called flat. */
const FLAT = { memory: 1.15, heap: 1.2, broker: 1.15, connection: 1.02 } as const;
const PAGES = ['/metrics', '/metrics/branches', '/api/status', '/api/branches'] as const;

export async function benchFleet(bench: Bench): Promise<void> {
  if (bench.wants('fleet/200')) await measure(bench, FLEETS.usual);
  if (bench.large && bench.wants('fleet/1000')) await measure(bench, FLEETS.large);
}

/** The broker's settings for large fleets, as the document has them. */
function documentedSettings(): Record<string, string> {
  const block = blocksOf('sizing.md').find(({ language }) => language === 'ini');
  if (block === undefined) throw new Error('docs/sizing.md has no settings for RabbitMQ');
  return settingsOf(block);
}

async function measure(
  { report, servers }: Bench,
  { size, minutes }: (typeof FLEETS)[keyof typeof FLEETS],
): Promise<void> {
  const broker = await BrokerServer.start({
    name: 'bench-fleet',
    config: { collect_statistics_interval: '5000', ...documentedSettings() },
  });
  const proxy = await FaultProxy.open(broker.port, broker.host);
  const world = await createBenchWorld(servers, broker);
  const folder = mkdtempSync(join(tmpdir(), 'tributary-fleet-'));
  const branches: LightBranch[] = [];
  const add = (name: string, unit: string, value: number): void =>
    report.add(alone(`fleet/${size}/${name}`, unit, [value]));
  const say = (line: string): void => report.say(`fleet/${size}: ${line}`);
  try {
    const url = `amqp://${proxy.host}:${proxy.port}`;
    const config = { broker: { branchUrl: url }, log: { level: 'info' } };
    const applier = await world.startApplier({ config });
    const fleet = new FleetWatch(world, applier, broker);
    say(`without branches: applier ${residentMegabytes(fleet.pid).now.toFixed(0)} MiB`);

    const asked = performance.now();
    const enrolments = await enrolAll(world, folder, size);
    add('add', 's', (performance.now() - asked) / 1_000);
    say('all are enrolled');
    for (const enrolment of enrolments) branches.push(LightBranch.open(enrolment, folder));
    const joined = performance.now();
    for (const branch of branches) branch.start();
    await allAnswered(branches, Date.now());
    add('answered', 's', (performance.now() - joined) / 1_000);
    say('all have an answer');

    const watched = async (phase: 'idle' | 'selling', forMinutes: number): Promise<Watched> => {
      await delay(SETTLE_MS);
      const hellos = hellosOf(branches);
      const result = await fleet.watch(forMinutes, (sample, minute) =>
        say(`${phase}, minute ${minute}: ${JSON.stringify(sample, rounded)}`),
      );
      add(`${phase}/applier-cpu`, 'cores', result.applierCores);
      add(`${phase}/broker-cpu`, 'cores', result.brokerCores);
      add(`${phase}/hellos`, 'per second', (hellosOf(branches) - hellos) / (forMinutes * 60));
      return result;
    };
    await watched('idle', IDLE_MINUTES);
    const sellers = branches.slice(0, SELLERS);
    for (const branch of sellers) branch.sell();
    await delay(BATCH_EVERY_MS);
    const { minutes: course, rowsPerSecond } = await watched('selling', minutes);
    add('selling/rows', 'rows/s', rowsPerSecond);
    const lags = await lagsOf(world);
    for (const share of [0.5, 0.99]) add(`selling/lag/p${share * 100}`, 'ms', percentile(lags, share));
    const growth = growthOf(course);
    const last = course.at(-1)!;
    add('applier-memory', 'MiB', last.resident);
    add('broker-memory', 'MiB', last.brokerResident);
    add('broker-files', 'files', last.brokerFiles);
    for (const [name, ratio] of Object.entries(growth)) add(`${name}-growth`, 'ratio', ratio);
    const each = (field: keyof Sample): string => course.map(sample => sample[field].toFixed(0)).join(', ');
    report.note(
      `fleet/${size}, minute by minute, the least of a dozen looks: MiB resident ${each('resident')}; in the heap ${each('heap')}; ` +
        `outside it ${each('external')}; of the broker ${each('brokerResident')}; connections at the broker ` +
        `${each('connections')}, at MySQL ${each('sessions')}.`,
    );
    for (const path of PAGES) {
      const { kilobytes, ms } = await fleet.page(path);
      add(`page${path}`, 'kB', kilobytes);
      add(`page${path}/time`, 'ms', ms);
    }

    const cut = Date.now();
    proxy.reset();
    await allAnswered(branches, cut);
    add('storm/links', 's', (Date.now() - cut) / 1_000);
    await broker.restart();
    const up = Date.now();
    await allAnswered(branches, up);
    add('storm/broker', 's', (Date.now() - up) / 1_000);

    const others = [];
    for (const name of ['applier-2', 'applier-3']) others.push(await world.startApplier({ name, config }));
    const [least, most] = await shared(world, [applier, ...others], size);
    add('three/least', 'branches', least);
    add('three/most', 'branches', most);
    const memory = [applier, ...others].map(({ pid }) => (pid === undefined ? 0 : residentMegabytes(pid).now));
    add(
      'three/memory',
      'MiB',
      memory.reduce((sum, one) => sum + one, 0),
    );
    add('three/broker-memory', 'MiB', residentMegabytes(fleet.brokerPid).now);
    const wanted = rowsOf(branches);
    await others[0]!.kill9();
    const killed = Date.now();
    await mustArrive(world, wanted);
    add('three/killed', 's', (Date.now() - killed) / 1_000);
    for (const branch of branches) branch.rest();
    await mustArrive(world, rowsOf(branches));
    say('every batch of every branch is applied');
    const grown = Object.entries(growth).filter(([name, ratio]) => ratio > FLAT[name as keyof typeof FLAT]);
    if (grown.length > 0) throw new Error(`fleet/${size} is not flat: ${JSON.stringify(Object.fromEntries(grown))}`);
  } finally {
    await Promise.all(branches.map(branch => branch.close()));
    await world.remove();
    await proxy.close();
    await broker.remove();
    rmSync(folder, { recursive: true, force: true });
  }
}

function growthOf(course: readonly Sample[]): Readonly<Record<keyof typeof FLAT, number>> {
  const [first, last] = [course[0]!, course.at(-1)!];
  return {
    memory: last.resident / first.resident,
    heap: last.heap / first.heap,
    broker: last.brokerResident / first.brokerResident,
    connection: last.connections / first.connections,
  };
}

async function enrolAll(world: World, folder: string, size: number): Promise<Enrolment[]> {
  const list = join(folder, 'branches.csv');
  const out = join(folder, 'enrolments');
  const names = Array.from({ length: size }, (_, n) => `fleet-${String(n).padStart(4, '0')}`);
  writeFileSync(list, ['branch', ...names, ''].join('\n'));
  expectSuccess(await world.applierCli(['branch', 'add', '--from', list, '--out', out], 'applier', DEADLINE_MS));
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

/** Waits until each of several appliers serves those branches that it is first for. @returns the least and the most */
async function shared(world: World, appliers: readonly Product[], size: number): Promise<[number, number]> {
  const deadline = Date.now() + DEADLINE_MS;
  let before = '';
  for (;;) {
    const counts = [...(await consumersOf(world)).values()];
    const isWhole = counts.length === appliers.length && counts.reduce((sum, one) => sum + one, 0) === size;
    if (isWhole && String(counts) === before) return [Math.min(...counts), Math.max(...counts)];
    before = String(counts);
    if (Date.now() > deadline) throw new Error(`the branches are shared ${before} after ${DEADLINE_MS} ms`);
    await delay(SETTLE_MS);
  }
}

function hellosOf(branches: readonly LightBranch[]): number {
  return branches.reduce((sum, branch) => sum + branch.hellos, 0);
}

function rowsOf(branches: readonly LightBranch[]): number {
  return branches.reduce((sum, branch) => sum + branch.rows, 0);
}

/** Waits until the head office has so many rows, each once. */
async function mustArrive(world: World, wanted: number): Promise<void> {
  const deadline = Date.now() + DEADLINE_MS;
  for (;;) {
    const rows = await numberOf(world.headOfficeDb, `SELECT COUNT(*) FROM ${world.database}.sales`);
    if (rows >= wanted) return;
    if (Date.now() > deadline) throw new Error(`the head office has ${rows} of ${wanted} rows`);
    await delay(200);
  }
}

function rounded(_key: string, value: unknown): unknown {
  return typeof value === 'number' ? Math.round(value) : value;
}
