import { rmSync } from 'node:fs';
import t from 'tap';
import type { Test } from 'tap';
import { BrokerServer } from '../../deploy/rig/broker-server.ts';
import { FaultProxy } from '../../deploy/rig/fault-proxy.ts';
import { sharedServers } from '../../deploy/rig/shared-servers.ts';
import { brokerLink } from '../../agent/forward/broker-link.ts';
import type { ForwarderOptions } from '../../agent/forward/forwarder.ts';
import type { Spool } from '../../agent/spool/spool.ts';
import { branchNames } from '../../shared/broker/amqp.ts';
import {
  bind,
  branchUrl,
  BRANCH_PASSWORD,
  BrokerHeadOffice,
  manage,
  provision,
} from '../support/hand-made/broker-branch.ts';
import type { BrokerAddress } from '../support/hand-made/broker-branch.ts';
import { makeForwarder, until } from '../support/hand-made/forwarder-tools.ts';
import type { Harness } from '../support/hand-made/forwarder-tools.ts';
import { batch, openSpool, temporaryDirectory } from '../support/hand-made/spool-tools.ts';

const { broker } = sharedServers();

interface Site extends Harness {
  readonly spool: Spool;
}

async function site(
  test: Test,
  address: BrokerAddress,
  branch: string,
  options: Partial<ForwarderOptions> & { readonly batchesMaxLength?: number } = {},
): Promise<Site> {
  const { batchesMaxLength, ...rest } = options;
  await provision(address, branch, batchesMaxLength);
  const directory = temporaryDirectory();
  const spool = openSpool(directory, { branch });
  const connect = brokerLink({ branch, url: branchUrl(address, branch), password: BRANCH_PASSWORD });
  const harness = makeForwarder(spool, {
    connect,
    helloMs: 200,
    idleHelloMs: 600,
    helloTimeoutMs: 20_000,
    stallMs: 60_000,
    backOffs: { failed: { firstMs: 50, maxMs: 500 }, unreachable: { firstMs: 50, maxMs: 500 } },
    ...rest,
  });
  test.teardown(async () => {
    await harness.forwarder.stop();
    spool.close();
    rmSync(directory, { recursive: true, force: true });
  });
  return { ...harness, spool };
}

function fill(spool: Spool, count: number, bytes = 1_000): void {
  for (let n = 0; n < count; n += 1) spool.append(batch(n, { body: Buffer.alloc(bytes, n) }));
}

await t.test(
  'everything in a spool arrives in order under the branch’s own user, and the spool is told',
  async test => {
    const branch = `forward-${process.pid}`;
    const { spool, forwarder } = await site(test, broker, branch);
    fill(spool, 500, 20_000);
    const office = await BrokerHeadOffice.open(broker, branch);
    forwarder.start();
    await until('drained', () => spool.stream().receivedSeq === 500);
    // A hello may have been answered between a batch's leaving the queue and its arrival: then it is asked for again.
    const taken = office.office.arrived.filter(({ verdict }) => verdict !== 'repeated');
    test.same(new Set(taken.map(({ verdict }) => verdict)), new Set(['next']), 'none came before its turn');
    test.same([...office.userIds], [branchNames(branch).user]);
    for (let n = 0; n < 5; n += 1) {
      const { seq } = spool.append(batch(n));
      await until('a lone batch', () => office.office.received === seq);
    }
    await forwarder.stop();
    await office.close();
  },
);

await t.test('a queue that is full for a while holds back, and everything arrives when there is room', async test => {
  const branch = `full-${process.pid}`;
  const { spool, forwarder } = await site(test, broker, branch, { batchesMaxLength: 5 });
  fill(spool, 1);
  const first = await BrokerHeadOffice.open(broker, branch);
  forwarder.start();
  await until('registered', () => spool.stream().receivedSeq === 1);
  await first.close();
  fill(spool, 60);
  await until('refused', () => forwarder.status().counters.refusals > 2);
  const second = await BrokerHeadOffice.open(broker, branch, first.office);
  await until('drained', () => spool.stream().receivedSeq === 61);
  await forwarder.stop();
  await second.close();
});

await t.test('a queue that is not bound makes nothing vanish', async test => {
  const branch = `unbound-${process.pid}`;
  const { spool, forwarder } = await site(test, broker, branch);
  const names = branchNames(branch);
  const office = await BrokerHeadOffice.open(broker, branch);
  fill(spool, 1);
  forwarder.start();
  await until('registered', () => spool.stream().receivedSeq === 1);
  await manage(broker, 'DELETE', `bindings/%2F/e/${names.exchange}/q/${names.batches}/batch`);
  fill(spool, 3);
  await until('noticed', () => (forwarder.status().error ?? '').startsWith('BROKER_SETUP'));
  test.equal(office.office.received, 1);
  await bind(broker, branch, 'batch', names.batches);
  await until('drained', () => spool.stream().receivedSeq === 4);
  await forwarder.stop();
  await office.close();
});

await t.test(
  'a link that dies without a word is noticed by its heartbeats; everything arrives over a new one',
  async test => {
    const branch = `half-open-${process.pid}`;
    const proxy = await FaultProxy.open(broker.port, broker.host);
    test.teardown(() => proxy.close());
    await provision(broker, branch);
    const url = branchUrl({ ...broker, host: proxy.host, port: proxy.port }, branch);
    const connect = brokerLink({ branch, url, password: BRANCH_PASSWORD, heartbeatSeconds: 1 });
    const { spool, forwarder } = await site(test, broker, branch, {
      connect,
      stallMs: 600_000,
      helloTimeoutMs: 600_000,
    });
    const office = await BrokerHeadOffice.open(broker, branch);
    fill(spool, 1);
    forwarder.start();
    await until('registered', () => spool.stream().receivedSeq === 1);
    proxy.halfOpen();
    fill(spool, 3);
    await until('drained', () => spool.stream().receivedSeq === 4);
    await forwarder.stop();
    await office.close();
  },
);

await t.test('a broker that is killed while batches are on their way loses nothing', async test => {
  const server = await BrokerServer.start({ name: 'forwarder-kill' });
  test.teardown(() => server.remove());
  const branch = 'killed';
  const { spool, forwarder } = await site(test, server, branch);
  const first = await BrokerHeadOffice.open(server, branch);
  fill(spool, 5_000, 20_000);
  forwarder.start();
  await until('under way', () => first.office.received > 100);
  await server.kill();
  await until('noticed', () => forwarder.status().state === 'backing-off');
  fill(spool, 100);
  await first.close();
  await server.restart();
  const second = await BrokerHeadOffice.open(server, branch, first.office);
  await until('drained', () => spool.stream().receivedSeq === 5_100);
  const verdicts = new Set(second.office.arrived.map(({ verdict }) => verdict));
  test.notOk(verdicts.has('forked') || verdicts.has('foreign'), [...verdicts].join());
  test.ok(forwarder.status().counters.rewinds >= 1);
  // A head office that has lost its queue: the broker's confirms were not worth anything, and it asks again.
  await second.close();
  fill(spool, 50);
  await until('confirmed by the broker alone', () => forwarder.status().confirmed === 5_150);
  await manage(server, 'DELETE', `queues/%2F/${branchNames(branch).batches}/contents`);
  const third = await BrokerHeadOffice.open(server, branch, first.office);
  await until('sent again', () => spool.stream().receivedSeq === 5_150);
  await forwarder.stop();
  await third.close();
});
