/**
 * Two machines with one identity: a copied spool, an enrolment file used twice. Rows are never wrong, both say that there
 * is another one, and as soon as they differ exactly one ends in a loud halt that names the command.
 */
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { parse, stringify } from 'yaml';
import { freePort } from '../../deploy/rig/free-port.ts';
import { Product } from '../../deploy/rig/daemon.ts';
import { Load, LOAD_TABLES, testSeed } from '../support/world/load.ts';
import { until as waitUntil } from '../support/until.ts';
import { createWorld, expectSuccess } from '../support/world/world.ts';
import type { Branch, World } from '../support/world/world.ts';

let seed = testSeed();
t.comment(`SEED=${seed}`);

// Each has a world of its own, and waits more than it works.
t.jobs = 2;

interface Site {
  readonly world: World;
  readonly applier: Product;
  readonly paris: Branch;
}

async function openSite(t: Test): Promise<Site> {
  const world = await createWorld(t);
  const applier = await world.startApplier();
  const paris = await world.addBranch('paris', { setup: LOAD_TABLES });
  await paris.startAgent();
  await world.waitUntilEqual(paris);
  // Two copies of a spool would each end the snapshot in a batch of its own, and so differ before either is noticed.
  await paris.agent.waitForLog(({ msg }) => msg === 'A snapshot has finished.');
  return { world, applier, paris };
}

interface Status {
  readonly state: string;
  readonly link: { readonly error: { readonly code: string; readonly message: string } | null };
}

const statusOf = async (agent: Product): Promise<Status> => (await agent.get('/api/status')) as Status;
const isSuperseded = async (agent: Product): Promise<boolean> => (await statusOf(agent)).state === 'superseded';

function until({ world }: Site, what: string, check: () => Promise<boolean>): Promise<void> {
  const statuses = (): Promise<unknown[]> => Promise.all(world.products.map(product => product.get('/api/status')));
  return waitUntil(what, check, { everyMs: 50, detail: async () => JSON.stringify(await statuses()) });
}

async function sell({ paris }: Site): Promise<void> {
  seed += 1;
  const load = new Load(paris.source, { schema: paris.schema, seed, sessions: 2, pauseMs: 4 });
  await waitUntil('sales', () => load.committed > 20);
  await load.stop();
}

/** A second machine with the same configuration; `spool`: with a copy of it. */
async function secondMachine({ world, paris }: Site, name: string, spool: 'copied' | 'none'): Promise<Product> {
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

void t.test('a spool copied to a second machine: both say so; exactly one halts, the other is right', async t => {
  const site = await openSite(t);
  const { world, applier, paris } = site;
  await paris.agent.stop();
  const clone = await secondMachine(site, 'paris-clone', 'copied');
  const both = [paris.agent, clone];
  await Promise.all(both.map(agent => agent.start()));
  await Promise.all(both.map(agent => agent.waitReady()));
  for (const agent of both) {
    await until(site, 'the other one to be noticed', async () => {
      return (await statusOf(agent)).link.error?.code === 'IDENTITY_SHARED';
    });
    const told = agent.log().find(line => line['code'] === 'IDENTITY_SHARED');
    t.match(told?.['hint'], /tributary-agent enroll FILE/, 'its log names the command');
    const kicked = agent.log().filter(line => /Another client reads the binlog/.test(JSON.stringify(line)));
    t.same(kicked, [], 'neither takes the binlog away from the other');
  }
  await until(site, 'the head office to show it', async () => {
    return JSON.stringify(await applier.get('/api/status')).includes('IDENTITY_SHARED');
  });
  // The two read the same binlog but cut it into other batches.
  await until(site, 'one halt', async () => {
    await sell(site);
    return (await isSuperseded(paris.agent)) || (await isSuperseded(clone));
  });
  await sell(site);
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
  await sell(site);
  await world.waitUntilEqual(paris);
});

void t.test(
  'an enrolment file used twice: the newer machine takes over; `enroll` on the older takes it back',
  async t => {
    const site = await openSite(t);
    const { world, paris } = site;
    const second = await secondMachine(site, 'paris-second', 'none');
    await second.start();
    await until(site, 'the first to be superseded', () => isSuperseded(paris.agent));
    await sell(site);
    await world.waitUntilEqual(paris);
    t.equal(await isSuperseded(second), false);
    await paris.agent.stop();
    const again = expectSuccess(await paris.cli(['enroll', join(paris.folder, 'enrolment')]));
    t.match(again.stdout, /new epoch/);
    await paris.startAgent();
    await until(site, 'the second to be superseded', () => isSuperseded(second));
    await second.kill9();
    await sell(site);
    await world.waitUntilEqual(paris);
  },
);
