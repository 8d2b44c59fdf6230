/**
 * A branch whose line has gone leaves half a batch behind: for longer than RabbitMQ lets anybody hold a message (half an
 * hour, here some seconds). It gives what was held back to the queue, and the rest must find whoever has it.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { BrokerServer } from '../../deploy/rig/broker-server.ts';
import { SERVERS_VARIABLE, sharedServers } from '../../deploy/rig/shared-servers.ts';
import { fragmentMessage } from '../../shared/broker/amqp-messages.ts';
import { silentLogger } from '../support/silent-logger.ts';
import type { Logger } from '../../shared/process/logging.ts';
import { upsert } from '../support/hand-made/branch.ts';
import { HeadOffice } from '../support/world/head-office.ts';

const broker = await BrokerServer.start({ name: 'impatient', config: { consumer_timeout: '2000' } });
t.teardown(() => broker.remove());
const { host, port, managementPort, user, password, version } = broker;
const servers = { ...sharedServers(), broker: { host, port, managementPort, user, password, version } };
process.env[SERVERS_VARIABLE] = JSON.stringify(servers);
const office = await HeadOffice.open();
t.teardown(() => office.close());

/** The broker looks whether anybody is too late when its timer fires, and does not always set it. */
const TRIES = 8;
const LOOKS = 120;

await t.test('half a batch is held longer than the broker allows', async t => {
  const cancelled: string[] = [];
  const waits = (): boolean => cancelled.length === 0;
  const logger: Logger = { ...silentLogger(), warn: () => void cancelled.push('consumer') };
  const applier = await office.fleet({ logger });
  const b = await office.branch('patient');
  await b.hello();
  const expected: Record<string, string> = {};
  for (let id = 1; waits() && id <= TRIES; id += 1) {
    const { header, body } = b.make([upsert([[id, 'a']])]);
    await b.publish(fragmentMessage(header, { index: 0, count: 2 }, body.subarray(0, 9)));
    for (let look = 0; waits() && look < LOOKS; look += 1) await sleep(50);
    await b.publish(fragmentMessage(header, { index: 1, count: 2 }, body.subarray(9)));
    expected[id] = 'a';
    await office.applied('patient', id);
  }
  t.notOk(waits(), 'the broker has taken it back');
  await b.send(b.make([upsert([[99, 'b']])]));
  await office.applied('patient', Object.keys(expected).length + 1);
  t.strictSame(await office.sales('patient'), { ...expected, 99: 'b' });
  await applier.stop();
});
