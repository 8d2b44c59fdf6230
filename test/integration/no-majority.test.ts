/**
 * A cluster of three brokers loses two: the one that is left takes connections, and no queue works. Neither program
 * calls itself ready then; both say why and what to do; and nothing is lost.
 */
import t from 'tap';
import { BrokerCluster } from '../../deploy/rig/broker-cluster.ts';
import type { Product } from '../../deploy/rig/daemon.ts';
import type { AgentStatus } from '../../agent/web/status.ts';
import type { ApplierStatus } from '../../applier/web/status.ts';
import { createWorld } from '../support/world/world.ts';

interface Readiness {
  readonly ready: boolean;
  readonly reasons: readonly string[];
}

async function readiness(product: Product): Promise<Readiness> {
  return (await (await fetch(`${product.url}/readyz`)).json()) as Readiness;
}

const cluster = await BrokerCluster.start({ name: 'majority' });
t.teardown(() => cluster.remove());
const [first, ...others] = cluster.nodes;
if (first === undefined) throw new Error('a cluster without nodes');
const world = await createWorld(t, { broker: first });
const applier = await world.startApplier();
const paris = await world.addBranch('paris', { setup: ['CREATE TABLE sale (id INT PRIMARY KEY)'] });
await paris.startAgent();
await paris.db.query('INSERT INTO sale VALUES (1)');
await world.waitUntilEqual(paris);

await t.test('BROKER_UNCONFIRMED: the nodes are started, and everything moves again', async t => {
  await Promise.all(others.map(node => node.kill()));
  await paris.db.query('INSERT INTO sale VALUES (2)');

  for (const product of [applier, paris.agent]) {
    await product.waitUntil('not ready', async () => !(await readiness(product)).ready);
    const { reasons } = await readiness(product);
    t.match(reasons, [/^BROKER_UNCONFIRMED: .*[Ss]tart/], `${product.program} says why and what to do`);
  }
  const { broker } = (await applier.get('/api/status')) as ApplierStatus;
  t.match(broker, { up: false, error: { code: 'BROKER_UNCONFIRMED', message: /^2 of RabbitMQ’s 3 nodes are down/ } });
  t.match(await (await fetch(`${applier.url}/metrics`)).text(), /^tributary_broker_up 0$/m, 'the alert follows');
  const check = await world.applierCli(['check']);
  t.not(check.code, 0);
  t.match(check.stdout, /FAULT +broker.management: 2 of RabbitMQ’s 3 nodes are down/);
  // Connections are still taken, which does not hide it.
  const status = async () => (await paris.agent.get('/api/status')) as AgentStatus;
  const { link, spool } = await status();
  t.equal(link.error?.code, 'BROKER_UNCONFIRMED');
  t.ok(spool.waitingBatches > 0, 'the spool holds what was not confirmed');

  await Promise.all(others.map(node => node.restart()));
  t.equal((await world.waitUntilEqual(paris)).rowsCompared, 2);
  for (const product of [applier, paris.agent]) {
    await product.waitUntil('ready', async () => (await readiness(product)).ready);
  }
  t.equal((await status()).link.error, null);
  t.equal((await world.applierCli(['check'])).code, 0);
  t.equal((await paris.cli(['check'])).code, 0);
});
