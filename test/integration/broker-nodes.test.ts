/**
 * A cluster of three brokers loses one, whichever it is, while a branch sells: killed, frozen, back again. Everything
 * moves on by itself, also where the branch's queues are still as an earlier version made them. Both sides end equal.
 */
import type { RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import { BrokerCluster } from '../../deploy/rig/broker-cluster.ts';
import type { BrokerServer } from '../../deploy/rig/broker-server.ts';
import { branchNames } from '../../shared/broker/amqp-messages.ts';
import { Load, LOAD_TABLES } from '../support/world/load.ts';
import { until } from '../support/until.ts';
import { createWorld } from '../support/world/world.ts';

const SEED = 20261130;

const cluster = await BrokerCluster.start({ name: 'nodes' });
t.teardown(() => cluster.remove());
const [first, second, third] = cluster.nodes;
if (first === undefined || second === undefined || third === undefined) throw new Error('three nodes');
const world = await createWorld(t, { broker: first });
const { user } = first;
const broker = {
  // The node that this test kills first is the one that both programs would use.
  url: [third, first, second].map(({ host, port }) => `amqp://${user}@${host}:${port}/${world.vhost}`),
  management: [third, first, second].map(({ host, managementPort }) => `http://${host}:${managementPort}`),
};
const applier = await world.applier({ config: { broker } });
const paris = await world.addBranch('paris', {
  setup: [...LOAD_TABLES, 'CREATE TABLE told (what VARCHAR(80) PRIMARY KEY)'],
});
const names = branchNames(paris.id);

interface Queue {
  readonly type: string;
  readonly leader: string;
  readonly members: readonly string[];
  readonly arguments: Readonly<Record<string, unknown>>;
}

async function queue(name: string): Promise<Queue> {
  return (await world.managementApi('GET', `/queues/${world.vhost}/${name}`)) as Queue;
}

function nodeOf({ port }: BrokerServer): string {
  return `tributary-${port}@localhost`;
}

/** Sells something that was not sold before, and waits for it at the head office. */
async function sold(what: string): Promise<void> {
  await paris.db.query('INSERT INTO told VALUES (?)', [what]);
  await until(`"${what}" at the head office`, async () => {
    const [tables] = await world.headOfficeDb.query<RowDataPacket[]>("SHOW TABLES LIKE 'told'");
    if (tables.length === 0) return false;
    const [rows] = await world.headOfficeDb.query<RowDataPacket[]>('SELECT 1 FROM told WHERE what = ?', [what]);
    return rows.length > 0;
  });
}

await t.test('queues of an earlier version, on a node that is down, are made anew', async t => {
  const classic = { 'x-queue-type': 'classic', 'x-max-length': 1, 'x-overflow': 'drop-head' };
  for (const name of [names.hello, names.answer]) {
    const path = `/queues/${world.vhost}/${name}`;
    await world.managementApi('DELETE', path);
    await world.managementApi('PUT', path, { durable: true, node: nodeOf(third), arguments: classic });
  }
  await world.managementApi('POST', `/bindings/${world.vhost}/e/${names.exchange}/q/${names.hello}`, {
    routing_key: 'hello',
  });
  await third.kill();
  await applier.start();
  await paris.startAgent();
  await sold('with a node down');
  t.match(await queue(names.hello), { type: 'quorum', arguments: { 'x-single-active-consumer': true } });
  t.match(await queue(names.answer), { type: 'quorum' });
  await third.restart();
  await until('a copy on each node', async () => {
    const found = await Promise.all([names.batches, names.hello, names.answer].map(queue));
    return found.every(({ members }) => members.length === 3);
  });
  const check = await world.applierCli(['check']);
  t.equal(check.code, 0, check.stdout);
});

await t.test('a node is killed, another one frozen, while the branch sells', async t => {
  const load = new Load(paris.source, { schema: paris.schema, seed: SEED, sessions: 2, pauseMs: 20 });
  for (const fault of ['kill', 'pause'] as const) {
    const { leader } = await queue(names.hello);
    const node = cluster.nodes.find(each => nodeOf(each) === leader) ?? first;
    if (fault === 'kill') await node.kill();
    else node.pause();
    await sold(fault);
    if (fault === 'kill') await node.restart();
    else node.resume();
    await sold(`after ${fault}`);
  }
  await load.stop();
  const { rowsCompared } = await world.waitUntilEqual(paris);
  t.ok(rowsCompared > 0);
});
