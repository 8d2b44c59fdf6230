/** What the agent says of a link that stands and carries nothing: an alarm at the broker, and a head office that is silent. */
import t from 'tap';
import { BrokerServer } from '../../deploy/rig/broker-server.ts';
import { createWorld } from '../support/world/world.ts';
import type { AgentStatus } from '../../agent/web/status.ts';

const broker = await BrokerServer.start({ name: 'link-told' });
t.teardown(() => broker.remove());
const world = await createWorld(t, { broker });
const applier = await world.startApplier();
const paris = await world.addBranch('paris', { setup: ['CREATE TABLE sale (id INT PRIMARY KEY)'] });
await paris.startAgent();
await world.waitUntilEqual(paris);

const linkError = async (): Promise<string | undefined> =>
  ((await paris.agent.get('/api/status')) as AgentStatus).link.error?.code;

await t.test('BROKER_BLOCKED: the alarm ends, and the link carries again', async t => {
  await broker.restart({ 'vm_memory_high_watermark.absolute': '1MiB' });
  await paris.db.query('INSERT INTO sale VALUES (1)');
  await paris.agent.waitUntil('the alarm in the status', async () => (await linkError()) === 'BROKER_BLOCKED');
  await broker.restart({});
  await world.waitUntilEqual(paris);
  await paris.agent.waitUntil('a link without an error', async () => (await linkError()) === undefined);
  t.equal((await paris.cli(['check'])).code, 0);
});

await t.test('HEAD_OFFICE_SILENT: the applier is started, and answers', async t => {
  await applier.stop();
  await paris.db.query('INSERT INTO sale VALUES (2)');
  await paris.agent.waitUntil('the silence in the status', async () => (await linkError()) === 'HEAD_OFFICE_SILENT');
  await applier.start();
  await world.waitUntilEqual(paris);
  await paris.agent.waitUntil('a link without an error', async () => (await linkError()) === undefined);
  t.equal((await paris.cli(['check'])).code, 0);
});
