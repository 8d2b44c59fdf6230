/**
 * A branch whose line has gone leaves half a batch behind: for longer than RabbitMQ lets anybody hold a message (half an
 * hour, here some seconds). It gives what was held back to the queue, and the rest must find whoever has it.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { BrokerServer } from '../../deploy/local/broker-server.ts';
import { SERVERS_VARIABLE, sharedServers } from '../../deploy/local/shared-servers.ts';
import { fragmentMessage } from '../../shared/amqp-messages.ts';
import { silentLogger } from '../../shared/logging.ts';
import type { Logger } from '../../shared/logging.ts';
import { upsert } from '../support/hand-made-branch.ts';
import { HeadOffice } from '../support/head-office.ts';

const broker = await BrokerServer.start({ name: 'impatient', config: { consumer_timeout: '2000' } });
t.teardown(() => broker.remove());
const { host, port, managementPort, user, password, version } = broker;
const servers = { ...sharedServers(), broker: { host, port, managementPort, user, password, version } };
process.env[SERVERS_VARIABLE] = JSON.stringify(servers);
const office = await HeadOffice.open();
t.teardown(() => office.close());

await t.test('half a batch is held longer than the broker allows, by one applier and by the other', async t => {
  const cancelled: string[] = [];
  const appliers = ['one', 'two'].map(instance => {
    const logger: Logger = { ...silentLogger(), warn: () => void cancelled.push(instance) };
    return office.fleet({ instance, logger });
  });
  const b = await office.branch('patient');
  await b.hello();
  await b.send(b.make([upsert([[1, 'a']])]));
  await office.applied('patient', 1);
  const { header, body } = b.make([upsert([[2, 'b']])]);
  await b.publish(fragmentMessage(header, { index: 0, count: 2 }, body.subarray(0, 9)));
  // Often enough for each of them to have held it too long.
  while (cancelled.length < 3) await sleep(100);
  await b.publish(fragmentMessage(header, { index: 1, count: 2 }, body.subarray(9)));
  await office.applied('patient', 2);
  t.strictSame(await office.sales('patient'), { 1: 'a', 2: 'b' });
  for (const applier of await Promise.all(appliers)) await applier.stop();
});
