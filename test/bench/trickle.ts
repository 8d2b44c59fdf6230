/**
 * link/trickle/…: what an always-on line costs, in bytes on the socket, both ways: TLS, AMQP, batches, hellos, answers and
 * heartbeats. TCP's and IP's own headers (40 B a packet) are not among them. No rival.
 *
 * - `default`, `10s`: with that `link.freshness`;
 * - `1-per-second`, `10-per-second`: bytes a row, at so many sales of one row;
 * - `idle`: megabytes a day, from SELL_MS without a sale.
 *
 * Each has a branch and a line of its own, and all are measured at the same time: bytes do not depend on how busy the
 * machine is.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expectSuccess } from '../support/world/world.ts';
import type { Branch, World } from '../support/world/world.ts';
import { createBenchWorld } from './backlog.ts';
import { CountingLine } from './counting-line.ts';
import { alone } from './report.ts';
import type { Bench } from './servers.ts';
import { startTlsBroker } from './tls-broker.ts';
import { connectTo, SALES_DDL, salesTransactions } from './workload.ts';

const FRESHNESS = { default: {}, '10s': { link: { freshness: '10s' } } } as const;
const RATES = { '1-per-second': 1, '10-per-second': 10, idle: 0 } as const;
const SELL_MS = 300_000;
/** Until the first copy, and the first sales, are told of. */
const SETTLE_MS = 20_000;
const DAY_MS = 86_400_000;

interface Shop {
  readonly name: string;
  readonly perSecond: number;
  readonly branch: Branch;
  readonly line: CountingLine;
}

export async function benchTrickle(bench: Bench): Promise<void> {
  const wanted = Object.keys(FRESHNESS).flatMap(freshness =>
    Object.keys(RATES)
      .map(rate => ({ name: `link/trickle/${freshness}/${rate}`, freshness, rate }))
      .filter(({ name }) => bench.wants(name)),
  );
  if (wanted.length === 0) return;
  const { servers, report } = bench;
  const folder = mkdtempSync(join(tmpdir(), 'tributary-bench-tls-'));
  const broker = await startTlsBroker(folder);
  const world = await createBenchWorld(servers, broker.server);
  const shops: Shop[] = [];
  try {
    const { certificate, tlsPort } = broker;
    const settings = { branchUrl: `amqps://localhost:${tlsPort}`, tls: { ca: certificate } };
    await world.startApplier({ config: { broker: settings } });
    for (const { name, freshness, rate } of wanted) {
      const line = await CountingLine.open({ host: '127.0.0.1', port: tlsPort });
      const config = FRESHNESS[freshness as keyof typeof FRESHNESS];
      // Short, as names of branches are: each message carries it twice.
      const branch = await openBranch(bench, world, `b${shops.length}`, line, config);
      shops.push({ name, perSecond: RATES[rate as keyof typeof RATES], branch, line });
    }
    for (const { branch } of shops) await world.waitUntilEqual(branch);
    const results = await Promise.all(shops.map(shop => run(bench, shop)));
    report.add(...results);
    for (const { branch } of shops) {
      expectSuccess(await branch.cli(['sync', '--wait']));
      await world.waitUntilEqual(branch);
    }
    report.note(
      `link/trickle: bytes on the socket, both ways, TLS included, over ${SELL_MS / 60_000} minutes; a day is computed from them.`,
    );
  } finally {
    await world.remove();
    for (const { line } of shops) line.close();
    await broker.server.remove();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function openBranch(
  { servers }: Bench,
  world: World,
  name: string,
  line: CountingLine,
  config: object,
): Promise<Branch> {
  const branch = await world.addBranch(name, {
    source: await servers.branch(),
    setup: [SALES_DDL],
    config: { log: { level: 'info' }, ...config },
  });
  const user = `branch-${branch.id}`;
  branch.configure({ broker: { url: `amqps://${user}@localhost:${line.port}/${world.vhost}` } });
  await branch.startAgent();
  return branch;
}

async function run({ servers, report }: Bench, { name, perSecond, branch, line }: Shop) {
  const connection = await connectTo(await servers.branch(), branch.schema);
  try {
    const rows = (forMs: number): number => (perSecond * forMs) / 1_000;
    const all = salesTransactions(rows(SETTLE_MS + SELL_MS), 1);
    const sell = async (forMs: number): Promise<void> => {
      const began = performance.now();
      for (let sold = 0; sold < rows(forMs); sold += 1) {
        await delay(Math.max(0, began + (sold * 1_000) / perSecond - performance.now()));
        await connection.query(all.next().value as string);
      }
      await delay(Math.max(0, began + forMs - performance.now()));
    };
    await sell(SETTLE_MS);
    const before = { up: line.up, down: line.down };
    await sell(SELL_MS);
    const [up, down] = [line.up - before.up, line.down - before.down];
    if (perSecond > 0) {
      report.say(`${name}: ${(up / rows(SELL_MS)).toFixed(1)} B a row up, ${(down / rows(SELL_MS)).toFixed(1)} down`);
      return alone(name, 'B/row', [(up + down) / rows(SELL_MS)]);
    }
    const aDay = (bytes: number): number => (bytes * DAY_MS) / SELL_MS / 1e6;
    report.say(`${name}: ${aDay(up).toFixed(2)} MB a day up, ${aDay(down).toFixed(2)} down`);
    return alone(name, 'MB/day', [aDay(up + down)]);
  } finally {
    connection.destroy();
  }
}
