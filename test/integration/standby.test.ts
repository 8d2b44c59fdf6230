/**
 * Two appliers share the branches. One is killed, one vanishes without a word; the other has all of them soon, and they share
 * again when the first comes back. Under load all the time, and compared row by row.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import { branchNames } from '../../shared/broker/amqp-messages.ts';
import type { Product } from '../../deploy/rig/daemon.ts';
import { Load, LOAD_TABLES, testSeed } from '../support/world/load.ts';
import { instanceOf, nameThatPrefers } from '../support/world/shares.ts';
import { until } from '../support/until.ts';
import { createWorld } from '../support/world/world.ts';
import type { Branch } from '../support/world/world.ts';

const seed = testSeed();
t.comment(`SEED=${seed}`);
const world = await createWorld(t);
const one = await world.startApplier();
const two = await world.startApplier({ name: 'applier-2' });

/** A branch that this applier is first for. */
async function branchOf(first: Product, second: Product): Promise<Branch> {
  const branch = await world.addBranch(nameThatPrefers(world, first, second), { setup: [...LOAD_TABLES] });
  await branch.startAgent();
  return branch;
}

const ofOne = await branchOf(one, two);
const ofTwo = await branchOf(two, one);

/** Which applier the broker serves with a branch's batches. */
async function consumer(branch: Branch): Promise<string | null> {
  const queue = (await world.managementApi('GET', `/queues/${world.vhost}/${branchNames(branch.id).batches}`)) as {
    readonly consumer_details?: readonly { readonly activity_status: string; readonly consumer_tag: string }[];
  };
  const active = queue.consumer_details?.find(({ activity_status }) => activity_status === 'single_active');
  return active?.consumer_tag ?? null;
}

const consumes = (applier: Product, branch: Branch): Promise<boolean> =>
  consumer(branch).then(found => found === instanceOf(applier));

const shared = (): Promise<unknown> =>
  Promise.all([
    until('the first to consume its own', () => consumes(one, ofOne)),
    until('the second to consume its own', () => consumes(two, ofTwo)),
  ]);

/** Whatever became of the two in another test. */
async function bothServe(): Promise<void> {
  for (const applier of [one, two]) {
    applier.resume();
    if (!applier.running) await applier.start();
    await applier.waitReady();
  }
  await shared();
}

async function applied(branch: Branch): Promise<number> {
  const [rows] = await world.headOfficeDb.query<RowDataPacket[]>(
    `SELECT applied_seq AS seq FROM ${world.database}.tributary_branch WHERE branch = '${branch.id}'`,
  );
  return Number(rows[0]?.['seq']);
}

/** Watches that no watermark goes back, until it is told to stop. @returns how often one did */
function watch(): () => Promise<number> {
  let watching = true;
  const backwards = (async () => {
    let found = 0;
    const last = new Map<Branch, number>();
    while (watching) {
      for (const branch of [ofOne, ofTwo]) {
        const now = await applied(branch);
        if (now < (last.get(branch) ?? 0)) found += 1;
        last.set(branch, now);
      }
      await sleep(10);
    }
    return found;
  })();
  return () => {
    watching = false;
    return backwards;
  };
}

function load(number: number): Load[] {
  return [ofOne, ofTwo].map(
    (branch, i) =>
      new Load(branch.source, { schema: branch.schema, seed: seed + 2 * number + i, sessions: 1, pauseMs: 20 }),
  );
}

async function equal(loads: readonly Load[]): Promise<void> {
  for (const each of loads) await each.stop();
  for (const branch of [ofOne, ofTwo]) await world.waitUntilEqual(branch);
}

await t.test('two appliers share the branches, each those that it is first for', async t => {
  await bothServe();
  t.pass('the broker says so');
});

await t.test('one is killed: the other goes on with its branch, and gives it back', async t => {
  await bothServe();
  const backwards = watch();
  const loads = load(1);
  await until('something applied', async () => (await applied(ofOne)) > 0);
  await one.kill9();
  const at = await applied(ofOne);
  await until('the other to go on', async () => (await applied(ofOne)) > at);
  t.ok(await consumes(two, ofTwo), 'its own it never left');
  await one.start();
  await one.waitReady();
  await shared();
  await equal(loads);
  t.equal(await backwards(), 0, 'no watermark went back');
});

await t.test('one is frozen without a word: its silence ends its connections, and thawed it shares again', async t => {
  await bothServe();
  const backwards = watch();
  const loads = load(2);
  const at = await applied(ofOne);
  one.pause();
  await until('the other to go on', async () => {
    return (await applied(ofOne)) > at && (await consumes(two, ofOne));
  });
  one.resume();
  await shared();
  await equal(loads);
  t.equal(await backwards(), 0, 'no watermark went back');
});
