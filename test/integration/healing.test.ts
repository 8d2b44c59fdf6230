/**
 * What is lost, restored or copied heals without hands, or ends in one halt that names the command: PROTOCOL.md's
 * promises on real servers. Broker and head office are this file's own, because it damages them.
 */
import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import { BrokerServer } from '../../deploy/local/broker-server.ts';
import { DatabaseServer } from '../../deploy/local/database-server.ts';
import type { Product } from '../../deploy/local/product.ts';
import { branchNames, connectBroker } from '../../shared/amqp.ts';
import { dumpDatabase, restoreDatabase } from '../support/dump.ts';
import { Load, LOAD_TABLES } from '../support/load.ts';
import { stealBatches } from '../support/queue-thief.ts';
import { createWorld } from '../support/world.ts';

const SEED = 20261123;

const [broker, headOffice] = await Promise.all([
  BrokerServer.start({ name: 'healing-broker' }),
  DatabaseServer.start({ flavor: 'mysql', name: 'healing-head-office', role: 'head-office' }),
]);
t.teardown(() => Promise.all([broker.remove(), headOffice.remove()]));
const world = await createWorld(t, { broker, headOffice });
const applier = await world.startApplier();
const paris = await world.addBranch('paris', { setup: LOAD_TABLES });
await paris.startAgent();
const { batches } = branchNames(paris.id);

interface AgentStatus {
  readonly state: string;
  readonly stream: { readonly epoch: string; readonly head: number; readonly confirmed: number };
}

const statusOf = async (agent: Product): Promise<AgentStatus> => (await agent.get('/api/status')) as AgentStatus;

async function until(what: string, check: () => Promise<boolean>, deadlineMs = 30_000): Promise<void> {
  const end = Date.now() + deadlineMs;
  while (!(await check())) {
    if (Date.now() > end) throw new Error(`waited ${deadlineMs} ms for ${what}`);
    await sleep(50);
  }
}

/** The stream as the head office has it. */
async function office(): Promise<{ epoch: string; received: number }> {
  const [rows] = await world.headOfficeDb.query<RowDataPacket[]>(
    `SELECT epoch, received_seq FROM ${world.database}.tributary_branch WHERE branch = '${paris.id}'`,
  );
  return { epoch: String(rows[0]?.['epoch']), received: Number(rows[0]?.['received_seq']) };
}

/** Sells for a moment. */
async function sell(ms = 400): Promise<void> {
  const load = new Load(paris.source, { schema: paris.schema, seed: SEED + Date.now(), sessions: 2, pauseMs: 4 });
  await sleep(ms);
  await load.stop();
}

/** Messages that wait for the applier, as the broker says at once. */
async function queueLength(): Promise<number> {
  const { host, port, user, password } = broker;
  const url = `amqp://${user}@${host}:${port}/${world.vhost}`;
  const connection = await connectBroker({ url, password, purpose: 'test' });
  try {
    return (await connection.queueDepth(batches)).messages;
  } finally {
    await connection.close();
  }
}

/** Everything that the agent has is confirmed by the broker. */
const allConfirmed = (): Promise<void> =>
  until('all batches at the broker', async () => {
    const { stream } = await statusOf(paris.agent);
    return stream.confirmed === stream.head;
  });

await t.test('a queue purged by an operator is sent again, even if nothing follows', async t => {
  await sell();
  await world.waitUntilEqual(paris);
  const before = await office();
  await applier.stop();
  await sell();
  await allConfirmed();
  await world.managementApi('DELETE', `/queues/${world.vhost}/${batches}/contents`);
  await applier.start();
  await world.waitUntilEqual(paris);
  const after = await office();
  t.equal(after.epoch, before.epoch, 'resent, without a new epoch');
  t.ok(after.received > before.received);
});

await t.test('batches that vanish from the front of the queue while later ones wait are sent again', async t => {
  const before = await office();
  await applier.stop();
  // Sales that are some time apart do not share a batch.
  for (let i = 0; i < 6; i += 1) {
    await sell(150);
    await sleep(400);
  }
  await allConfirmed();
  t.equal(await stealBatches(broker, world.vhost, paris.id, 2, 'take'), 2, 'two batches are gone');
  await applier.start();
  await world.waitUntilEqual(paris);
  t.equal((await office()).epoch, before.epoch);
});

await t.test('the tail of the stream that vanishes from the queue is sent again, even if nothing follows', async t => {
  const before = await office();
  await applier.stop();
  for (let i = 0; i < 5; i += 1) {
    await sell(100);
    await sleep(300);
  }
  await allConfirmed();
  const waiting = (await statusOf(paris.agent)).stream.head - before.received;
  t.ok(waiting > 2, `${waiting} batches wait`);
  t.equal(await stealBatches(broker, world.vhost, paris.id, waiting, 'take', 1), waiting - 1, 'all but the first');
  await applier.start();
  await world.waitUntilEqual(paris);
  t.equal((await office()).epoch, before.epoch);
});

await t.test('a batch delivered more often than RabbitMQ’s default limit of 20 is still there', async t => {
  const before = await office();
  await applier.stop();
  await sell();
  await allConfirmed();
  const waiting = await queueLength();
  for (let i = 0; i < 25; i += 1) {
    t.equal(await stealBatches(broker, world.vhost, paris.id, 1, 'give-back'), 1, `delivery ${i + 1}`);
  }
  // One that was dropped would be healed: the head office would ask for it again.
  await until('every batch in the queue again', async () => (await queueLength()) === waiting);
  await applier.start();
  await world.waitUntilEqual(paris);
  t.equal((await office()).epoch, before.epoch);
});

await t.test('`check` finds a policy that drops batches or limits deliveries, and names it', async t => {
  const path = `/policies/${world.vhost}/careless`;
  for (const definition of [{ overflow: 'drop-head', 'max-length': 10 }, { 'delivery-limit': 5 }]) {
    const policy = { pattern: '.*', definition, 'apply-to': 'queues', priority: 1 };
    await world.managementApi('PUT', path, policy);
    const found = await world.applierCli(['check', '--json']);
    await world.managementApi('DELETE', path);
    t.equal(found.code, 1);
    t.match(found.stdout, /BROKER_SETUP/);
    t.match(found.stdout, /careless/);
  }
  t.equal((await world.applierCli(['check'])).code, 0, 'without the policy all is well');
});

await t.test(
  'a broker that has lost everything gets its vhost, queues and users back, and the batches again',
  async t => {
    const before = await office();
    const load = new Load(paris.source, { schema: paris.schema, seed: SEED, sessions: 1, pauseMs: 10 });
    await broker.kill();
    await broker.wipe();
    await broker.restart();
    await load.stop();
    await world.waitUntilEqual(paris);
    t.equal((await office()).epoch, before.epoch, 'the spool was never in doubt');
  },
);

await t.test('a broker restored from a backup: old batches are ignored, new ones arrive', async t => {
  const data = join(broker.directory, 'data');
  const copy = join(world.directory, 'broker-data');
  await applier.stop();
  await sell();
  await allConfirmed();
  await broker.stop();
  cpSync(data, copy, { recursive: true });
  await broker.restart();
  await applier.start();
  await world.waitUntilEqual(paris);
  await sell();
  await world.waitUntilEqual(paris);
  const before = await office();
  await broker.kill();
  rmSync(data, { recursive: true });
  cpSync(copy, data, { recursive: true });
  await broker.restart();
  await sell();
  await world.waitUntilEqual(paris);
  const after = await office();
  t.equal(after.epoch, before.epoch, 'the spool was never in doubt');
  t.ok(after.received > before.received);
});

await t.test(
  'a head office restored from a dump is sent what it lost, as long as the branch still keeps it',
  async t => {
    const dump = join(world.directory, 'head-office.sql');
    await dumpDatabase(headOffice, world.database, dump);
    const before = await office();
    await sell();
    await world.waitUntilEqual(paris);
    const ahead = await office();
    t.ok(ahead.received > before.received);
    await applier.kill9();
    await restoreDatabase(headOffice, world.database, dump);
    t.equal((await office()).received, before.received, 'it is as it was');
    await applier.start();
    await world.waitUntilEqual(paris);
    const after = await office();
    t.equal(after.epoch, before.epoch, 'resent, without a new epoch');
    t.ok(after.received >= ahead.received);
  },
);

await t.test('a head office restored to before what the branch keeps gets a new epoch with a snapshot', async t => {
  const dump = join(world.directory, 'older.sql');
  await dumpDatabase(headOffice, world.database, dump);
  const before = await office();
  paris.configure({ spool: { keepApplied: '1s' } });
  await paris.agent.restart();
  await paris.agent.waitReady();
  // Until the batches that the restored head office lacks are forgotten here.
  for (let i = 0; i < 3; i += 1) {
    await sell(200);
    await sleep(1_200);
  }
  await world.waitUntilEqual(paris);
  await applier.kill9();
  await restoreDatabase(headOffice, world.database, dump);
  await applier.start();
  await world.waitUntilEqual(paris);
  t.not((await office()).epoch, before.epoch);
  paris.configure({ spool: { keepApplied: '48h' } });
  await paris.agent.restart();
  await paris.agent.waitReady();
});

await t.test('a lost spool: a new epoch finds what was written and deleted meanwhile', async t => {
  const before = await office();
  await paris.agent.kill9();
  rmSync(paris.spoolDirectory, { recursive: true });
  await paris.db.query('DELETE FROM load_sale LIMIT 50');
  await sell();
  await paris.startAgent();
  await world.waitUntilEqual(paris);
  t.not((await office()).epoch, before.epoch);
});

await t.test('a spool restored from an older copy forks and begins a new epoch', async t => {
  await paris.agent.stop();
  const copy = join(world.directory, 'spool-copy');
  cpSync(paris.spoolDirectory, copy, { recursive: true });
  await paris.startAgent();
  await sell();
  await world.waitUntilEqual(paris);
  const before = await office();
  await paris.agent.kill9();
  rmSync(paris.spoolDirectory, { recursive: true });
  cpSync(copy, paris.spoolDirectory, { recursive: true });
  await paris.startAgent();
  await sell();
  await world.waitUntilEqual(paris);
  t.not((await office()).epoch, before.epoch);
});
