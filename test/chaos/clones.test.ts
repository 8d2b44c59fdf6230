/**
 * Two machines with one identity: a copied spool, an enrolment file used twice. Exactly one ends in a loud halt. It takes
 * a minute or two, because the two take the binlog and the answers away from each other in turn.
 */
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { parse, stringify } from 'yaml';
import { freePort } from '../../deploy/local/free-port.ts';
import { Product } from '../../deploy/local/product.ts';
import { Load, LOAD_TABLES } from '../support/load.ts';
import { createWorld, expectSuccess } from '../support/world.ts';

const SEED = 20261124;
const RESOLVED_WITHIN_MS = 200_000;

const world = await createWorld(t);
await world.startApplier();
const paris = await world.addBranch('paris', { setup: LOAD_TABLES });
await paris.startAgent();
await world.waitUntilEqual(paris);

const stateOf = async (agent: Product): Promise<string> =>
  ((await agent.get('/api/status')) as { readonly state: string }).state;

async function until(what: string, check: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + RESOLVED_WITHIN_MS;
  while (!(await check())) {
    if (Date.now() > end) throw new Error(`waited ${RESOLVED_WITHIN_MS} ms for ${what}`);
    await sleep(50);
  }
}

/** Sells for a moment. */
async function sell(ms = 400): Promise<void> {
  const load = new Load(paris.source, { schema: paris.schema, seed: SEED + Date.now(), sessions: 2, pauseMs: 4 });
  await sleep(ms);
  await load.stop();
}

/** A second machine with the same configuration; `spool`: with a copy of it. */
async function secondMachine(name: string, spool: 'copied' | 'none'): Promise<Product> {
  const folder = join(world.directory, name);
  mkdirSync(folder);
  cpSync(paris.folder, folder, { recursive: true, filter: source => spool === 'copied' || !source.endsWith('spool') });
  const configFile = join(folder, 'agent.yaml');
  const config = parse(readFileSync(configFile, 'utf8')) as Record<string, unknown>;
  const listen = `127.0.0.1:${await freePort()}`;
  writeFileSync(configFile, stringify({ ...config, spool: { directory: join(folder, 'spool') }, http: { listen } }));
  const logFile = join(folder, 'second.log');
  const product = new Product({
    program: 'agent',
    configFile,
    logFile,
    url: `http://${listen}`,
    environment: world.environment,
  });
  t.teardown(() => product.kill9());
  return product;
}

await t.test('a spool copied to a second machine: exactly one agent halts, loudly, and the other is right', async t => {
  await paris.agent.stop();
  const clone = await secondMachine('paris-clone', 'copied');
  await paris.startAgent();
  await clone.start();
  await clone.waitReady();
  const superseded = async (): Promise<Product[]> => {
    const found: Product[] = [];
    for (const agent of [paris.agent, clone]) {
      if ((await stateOf(agent)) === 'superseded') found.push(agent);
    }
    return found;
  };
  // The two share one answer queue, so each hears only some of its answers and asks again after a timeout.
  await until('one halt', async () => {
    await sell(100);
    return (await superseded()).length > 0;
  });
  await sell();
  await world.waitUntilEqual(paris);
  const [halted, ...more] = await superseded();
  t.equal(more.length, 0, 'the other one goes on');
  t.ok(
    halted?.log().some(line => line.level === 50 || String(line.level) === 'error'),
    'it is in the log as an error',
  );
  await clone.kill9();
  if (halted === paris.agent) {
    await paris.agent.stop();
    expectSuccess(await paris.cli(['enroll', join(paris.folder, 'enrolment')]));
    await paris.startAgent();
  }
  await sell();
  await world.waitUntilEqual(paris);
});

await t.test(
  'an enrolment file used twice: the newer machine takes over; `enroll` on the older takes it back',
  async t => {
    const second = await secondMachine('paris-second', 'none');
    await second.start();
    await until('the first to be superseded', async () => (await stateOf(paris.agent)) === 'superseded');
    await sell();
    await world.waitUntilEqual(paris);
    t.not(await stateOf(second), 'superseded');
    await paris.agent.stop();
    const again = expectSuccess(await paris.cli(['enroll', join(paris.folder, 'enrolment')]));
    t.match(again.stdout, /new life/);
    await paris.startAgent();
    await until('the second to be superseded', async () => (await stateOf(second)) === 'superseded');
    await second.kill9();
    await sell();
    await world.waitUntilEqual(paris);
  },
);
