/**
 * Two machines with one identity: a copied spool, an enrolment file used twice. Rows are never wrong, both say that there
 * is another one, and as soon as they differ exactly one ends in a loud halt that names the command.
 */
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { parse, stringify } from 'yaml';
import { freePort } from '../../deploy/local/free-port.ts';
import { Product } from '../../deploy/local/product.ts';
import { Load, LOAD_TABLES, testSeed } from '../support/load.ts';
import { createWorld, expectSuccess } from '../support/world.ts';

/** A handful of hellos; what is in doubt longer than that is in doubt for good. */
const RESOLVED_WITHIN_MS = 60_000;

let seed = testSeed();
t.comment(`SEED=${seed}`);

const world = await createWorld(t);
const applier = await world.startApplier();
const paris = await world.addBranch('paris', { setup: LOAD_TABLES });
await paris.startAgent();
await world.waitUntilEqual(paris);

interface Status {
  readonly state: string;
  readonly link: { readonly error: { readonly code: string; readonly message: string } | null };
}

const statusOf = async (agent: Product): Promise<Status> => (await agent.get('/api/status')) as Status;
const isSuperseded = async (agent: Product): Promise<boolean> => (await statusOf(agent)).state === 'superseded';

async function until(what: string, check: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + RESOLVED_WITHIN_MS;
  while (!(await check())) {
    if (Date.now() > end) {
      const links = await Promise.all(
        world.products.map(async product => (await product.get('/api/status')) as object),
      );
      throw new Error(`waited ${RESOLVED_WITHIN_MS} ms for ${what}: ${JSON.stringify(links)}`);
    }
    await sleep(50);
  }
}

/** Sells for a moment. */
async function sell(ms = 300): Promise<void> {
  seed += 1;
  const load = new Load(paris.source, { schema: paris.schema, seed, sessions: 2, pauseMs: 4 });
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
  const product = new Product({
    program: 'agent',
    configFile,
    logFile: join(folder, 'second.log'),
    url: `http://${listen}`,
    environment: world.environment,
  });
  world.products.push(product);
  return product;
}

await t.test('a spool copied to a second machine: both say so; exactly one halts, the other is right', async t => {
  await paris.agent.stop();
  const clone = await secondMachine('paris-clone', 'copied');
  const both = [paris.agent, clone];
  await Promise.all(both.map(agent => agent.start()));
  await Promise.all(both.map(agent => agent.waitReady()));
  for (const agent of both) {
    await until('the other one to be noticed', async () => {
      return (await statusOf(agent)).link.error?.code === 'IDENTITY_SHARED';
    });
    const told = agent.log().find(line => line['code'] === 'IDENTITY_SHARED');
    t.match(told?.['hint'], /tributary-agent enroll FILE/, 'its log names the command');
    const kicked = agent.log().filter(line => line['code'] === 'STREAM_ENDED');
    t.same(kicked, [], 'neither takes the binlog away from the other');
  }
  await until('the head office to show it', async () => {
    return JSON.stringify(await applier.get('/api/status')).includes('IDENTITY_SHARED');
  });
  // The two read the same binlog but cut it into other batches.
  await until('one halt', async () => {
    await sell(100);
    return (await isSuperseded(paris.agent)) || (await isSuperseded(clone));
  });
  await sell();
  await world.waitUntilEqual(paris);
  const halted = (await isSuperseded(paris.agent)) ? paris.agent : clone;
  const right = halted === clone ? paris.agent : clone;
  t.equal(await isSuperseded(right), false, 'the other one goes on');
  t.match((await statusOf(halted)).link.error, { code: 'EPOCH_SUPERSEDED', hint: /tributary-agent enroll/ });
  t.ok(
    halted.log().some(line => Number(line.level) === 50 || String(line.level) === 'error'),
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
    await until('the first to be superseded', () => isSuperseded(paris.agent));
    await sell();
    await world.waitUntilEqual(paris);
    t.equal(await isSuperseded(second), false);
    await paris.agent.stop();
    const again = expectSuccess(await paris.cli(['enroll', join(paris.folder, 'enrolment')]));
    t.match(again.stdout, /new life/);
    await paris.startAgent();
    await until('the second to be superseded', () => isSuperseded(second));
    await second.kill9();
    await sell();
    await world.waitUntilEqual(paris);
  },
);
