/**
 * kill -9 of every part under load, at moments drawn from a seed (SEED=… replays them), on servers of this file's own.
 * What a server has committed counts, whoever dies; afterwards branch and head office are equal row by row.
 */
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { BrokerServer } from '../../deploy/rig/broker-server.ts';
import { DatabaseServer } from '../../deploy/rig/database-server.ts';
import type { Product } from '../../deploy/rig/daemon.ts';
import { Load, LOAD_TABLES, randomFrom, testSeed } from '../support/world/load.ts';
import { until } from '../support/until.ts';
import { createWorld } from '../support/world/world.ts';
import type { Branch } from '../support/world/world.ts';

const KILLS = 3;

const seed = testSeed();
const random = randomFrom(seed);
const between = (least: number, most: number): number => Math.round(least + random() * (most - least));
t.comment(`SEED=${seed}`);

const [branchServer, headOfficeServer, brokerServer] = await Promise.all([
  DatabaseServer.start({ flavor: 'mysql', name: 'killed-branch', role: 'branch' }),
  DatabaseServer.start({ flavor: 'mysql', name: 'killed-office', role: 'head-office' }),
  BrokerServer.start({ name: 'killed-broker' }),
]);
t.teardown(() => Promise.all([branchServer, headOfficeServer, brokerServer].map(server => server.remove())));

void t.test('a broker that is away from the start: capture goes on, and all arrives once it is there', async t => {
  const world = await createWorld(t, { broker: brokerServer });
  const applier = await world.applier();
  const paris = await world.addBranch('paris', { setup: LOAD_TABLES });
  await brokerServer.stop();
  // Whatever happens here, the next test needs it.
  t.teardown(async () => {
    if (brokerServer.pid === undefined) await brokerServer.restart();
  });
  const load = new Load(paris.source, { schema: paris.schema, seed });
  await paris.startAgent();
  await paris.agent.waitUntil(
    'changes in the spool',
    async () => waitingBatches(await paris.agent.get('/api/status')) > 3,
  );
  const status = await paris.cli(['status']);
  t.match(status.stdout, /link: down/);
  await load.stop();
  await brokerServer.restart();
  await applier.start();
  t.equal((await paris.cli(['sync', '--wait'])).code, 0, 'sync --wait returns when all has arrived');
  const { rowsCompared } = await world.waitUntilEqual(paris);
  t.ok(rowsCompared > 100, `${rowsCompared} rows`);
});

function waitingBatches(status: unknown): number {
  return (status as { readonly spool: { readonly waitingBatches: number } }).spool.waitingBatches;
}

interface Victim {
  readonly kill: () => Promise<unknown>;
  readonly start: () => Promise<unknown>;
}

const product = (which: Product): Victim => ({ kill: () => which.kill9(), start: () => which.start() });
const server = (which: DatabaseServer | BrokerServer): Victim => ({
  kill: () => which.kill(),
  start: () => which.restart(),
});

void t.test('kill -9 under load', async t => {
  const servers = [branchServer, headOfficeServer, brokerServer];
  const world = await createWorld(t, { broker: brokerServer, headOffice: headOfficeServer });
  const applier = await world.startApplier();
  const victims = {
    agent: ({ agent }: Branch) => product(agent),
    applier: () => product(applier),
    mysql: () => server(branchServer),
    office: () => server(headOfficeServer),
    broker: () => server(brokerServer),
  };
  for (const [name, victimOf] of Object.entries(victims)) {
    await t.test(`of ${name}, ${KILLS} times`, async t => {
      // Whatever became of them in another test.
      for (const each of servers) if (each.pid === undefined) await each.restart();
      if (!applier.running) await applier.start();
      await applier.waitReady();
      const branch = await world.addBranch(`of-${name}`, { source: branchServer, setup: LOAD_TABLES });
      await branch.startAgent();
      const victim = victimOf(branch);
      const load = new Load(branchServer, { schema: branch.schema, seed: between(0, 1e9) });
      const moments: string[] = [];
      for (let kill = 0; kill < KILLS; kill += 1) {
        const [work, away] = [between(150, 1_500), between(0, 600)];
        moments.push(`after ${work} ms for ${away} ms`);
        await delay(work);
        await victim.kill();
        await delay(away);
        await victim.start();
      }
      await until('sales', () => load.committed > 20);
      await load.stop();
      const { rowsCompared } = await world.waitUntilEqual(branch);
      t.comment(`kills ${moments.join(', ')}`);
      t.pass(`${rowsCompared} rows equal after ${load.committed} transactions`);
      t.equal(branch.agent.running && applier.running, true, 'nobody gave up');
      await branch.agent.stop();
    });
  }
});
