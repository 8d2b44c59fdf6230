import { execFileSync, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import t from 'tap';
import { BrokerServer } from '../../deploy/rig/broker-server.ts';
import { sharedServers } from '../../deploy/rig/shared-servers.ts';
import { batchMessage, branchNames, connectBroker, isUnreachable, readBatchHeader } from '../../shared/broker/amqp.ts';
import type { BrokerConsumer, ReceivedMessage, SendOutcome } from '../../shared/broker/amqp.ts';
import { adminUrl, branchUrl, BRANCH_PASSWORD, manage, provision } from '../support/hand-made/broker-branch.ts';
import { until } from '../support/hand-made/forwarder-tools.ts';
import { until as waitUntil } from '../support/until.ts';

const { broker } = sharedServers();
const branch = `amqp-${process.pid}`;
const names = branchNames(branch);
const admin = { url: adminUrl(broker), password: broker.password, purpose: 'test' };
const own = { url: branchUrl(broker, branch), password: BRANCH_PASSWORD, purpose: 'test' };
const digest = 'a'.repeat(64);

const header = (seq: number) => ({ branch, epoch: 'epoch', seq, previous: digest, digest });

await provision(broker, branch);

await t.test('a batch arrives byte for byte, with its header and the user that the broker checked', async test => {
  const sending = await connectBroker(own);
  const reading = await connectBroker(admin);
  const publisher = await sending.openPublisher();
  const body = Buffer.from(Array.from({ length: 100_000 }, (_, n) => n % 256));
  // Beyond 2^31 the header's integer has another type on the wire.
  const seqs = [1, 127, 128, 70_000, 2 ** 31, 2 ** 40];
  const outcomes = await Promise.all(seqs.map(seq => publisher.send(batchMessage(header(seq), body), 60_000)));
  test.same(
    outcomes,
    seqs.map(() => ({ outcome: 'confirmed' })),
  );
  const received: ReceivedMessage[] = [];
  const consumer = await reading.openConsumer({ queue: names.batches, prefetch: 3, onMessage: m => received.push(m) });
  await until('three', () => received.length === 3);
  await new Promise(resolve => setTimeout(resolve, 100));
  test.equal(received.length, 3, 'prefetch is kept to');
  for (const { deliveryTag } of received.slice(0, 3)) consumer.ack(deliveryTag);
  await until('all', () => received.length === 6);
  test.same(
    received.map(message => readBatchHeader(message)),
    seqs.map(header),
  );
  test.ok(
    received.every(message => message.body.equals(body) && message.userId === names.user && !message.redelivered),
  );
  for (const { deliveryTag } of received.slice(3, 5)) consumer.ack(deliveryTag);
  await consumer.close();
  await waitUntil('what was not acknowledged', async () => (await reading.queueDepth(names.batches)).messages === 1);
  await test.rejects(reading.queueDepth('no-such-queue'), { code: 'BROKER_SETUP' });
  await manage(broker, 'DELETE', `queues/%2F/${names.batches}/contents`);
  await Promise.all([sending.close(), reading.close()]);
  test.match(await sending.closed, { code: 'BROKER_UNREACHABLE' });
});

await t.test('a message that no queue takes is returned, though the broker confirms it', async test => {
  const connection = await connectBroker(own);
  const publisher = await connection.openPublisher();
  const lost = { ...batchMessage(header(1), Buffer.from('x')), routingKey: 'nowhere' };
  const outcomes = await Promise.all([
    publisher.send(lost, 60_000),
    publisher.send(batchMessage(header(2), Buffer.from('y')), 60_000),
  ]);
  test.match(outcomes, [{ outcome: 'returned', error: { code: 'BROKER_SETUP' } }, { outcome: 'confirmed' }]);
  await connection.close();
});

await t.test('a full queue refuses with a nack', async test => {
  const full = `${branch}-full`;
  await provision(broker, full, 1);
  const connection = await connectBroker({ ...own, url: branchUrl(broker, full) });
  const publisher = await connection.openPublisher();
  const outcomes: string[] = [];
  for (let seq = 1; seq <= 20 && !outcomes.includes('rejected'); seq += 1) {
    const message = batchMessage({ ...header(seq), branch: full }, Buffer.from('x'));
    outcomes.push((await publisher.send(message, 60_000)).outcome);
  }
  test.equal(outcomes.at(-1), 'rejected');
  await connection.close();
});

await t.test('over TLS, many at a time, each message is told its own outcome', async test => {
  const few = `${branch}-few`;
  await provision(broker, few, 1);
  const folder = test.testdir();
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'];
  const kind = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
  execFileSync('openssl', ['req', ...kind, ...subject, '-keyout', `${folder}/key`, '-out', `${folder}/ca`], {
    stdio: 'pipe',
  });
  const ca = readFileSync(`${folder}/ca`, 'utf8');
  const terminator = createTlsServer({ key: readFileSync(`${folder}/key`), cert: ca }, socket => {
    const upstream = connect(broker.port, broker.host);
    for (const each of [socket, upstream]) each.on('error', () => undefined);
    socket.pipe(upstream).pipe(socket);
  });
  await new Promise<void>(resolve => terminator.listen(0, '127.0.0.1', resolve));
  test.teardown(() => terminator.close());
  const { port } = terminator.address() as AddressInfo;
  const url = `amqps://${branchNames(few).user}@localhost:${port}/`;
  const connection = await connectBroker({ ...own, url, tls: { ca } });
  const publisher = await connection.openPublisher();
  const message = (n: number, routingKey: 'batch' | 'hello') => ({
    ...batchMessage({ ...header(n), branch: few }, Buffer.alloc(30_000)),
    routingKey,
  });
  for (let n = 1, last = ''; n <= 50 && last !== 'rejected'; n += 1) {
    last = (await publisher.send(message(n, 'batch'), 20_000)).outcome;
  }
  // The queue of batches is full now, that of hellos always takes the newest.
  const keys = Array.from({ length: 24 }, (_, n) => (n % 3 === 1 ? 'batch' : 'hello'));
  const outcomes = await Promise.all(
    keys.map(async (key, n) => (await publisher.send(message(100 + n, key), 20_000)).outcome),
  );
  test.same(
    outcomes,
    keys.map(key => (key === 'batch' ? 'rejected' : 'confirmed')),
  );
  await connection.close();
});

await t.test('a branch can neither write elsewhere, nor speak for another, nor declare', async test => {
  const connection = await connectBroker(own);
  const elsewhere = await (
    await connection.openPublisher()
  ).send({ ...batchMessage(header(1), Buffer.from('x')), exchange: 'amq.direct' }, 60_000);
  test.match(elsewhere, { outcome: 'unknown', error: { code: 'BROKER_REFUSED' } });
  await test.rejects(connection.openConsumer({ queue: names.batches, prefetch: 1, onMessage: () => undefined }), {
    code: 'BROKER_REFUSED',
  });
  await test.rejects(connection.queueDepth('no-such-queue'), { code: 'BROKER_REFUSED' });
  test.equal((await connection.queueDepth(names.answer)).messages, 0, 'the connection lives on');
  await connection.close();
});

await t.test('a wrong password is refused, a closed port unreachable, both with a cure', async test => {
  await test.rejects(connectBroker({ ...own, password: 'wrong' }), { code: 'BROKER_REFUSED' });
  await test.rejects(connectBroker({ ...own, url: 'amqp://u@127.0.0.1:1/' }), { code: 'BROKER_UNREACHABLE' });
  await test.rejects(connectBroker({ ...own, url: 'http://u@127.0.0.1:1/' }), { code: 'CONFIG_INVALID' });
});

await t.test(
  'whether nobody was reached is told from a broker that refuses; a swallowed attempt is given up soon',
  async test => {
    const faultOf = async (url: string): Promise<unknown> =>
      connectBroker({ ...own, url, reachTimeoutMs: 300 }).then(
        () => null,
        (error: unknown) => error,
      );
    test.equal(isUnreachable(await faultOf('amqp://u@127.0.0.1:1/')), true, 'a closed port');
    test.equal(isUnreachable(await faultOf('amqp://u@nowhere.invalid/')), true, 'a name without an address');
    test.equal(isUnreachable(await faultOf(`amqp://nobody@${broker.host}:${broker.port}/`)), false, 'a refusal');

    // A stopped process accepts nothing; when its queue is full the kernel answers no attempt, as a dead network.
    const listen =
      "require('net').createServer().listen(0, '127.0.0.1', 1, function () { console.log(this.address().port) })";
    const deaf = spawn('env', ['-u', 'NODE_OPTIONS', process.execPath, '-e', listen], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    test.teardown(() => deaf.kill('SIGKILL'));
    const port = Number(await new Promise<string>(resolve => deaf.stdout.once('data', data => resolve(String(data)))));
    deaf.kill('SIGSTOP');
    const fillers = Array.from({ length: 6 }, () => connect(port, '127.0.0.1').on('error', () => undefined));
    test.teardown(() => fillers.forEach(socket => socket.destroy()));
    await new Promise(resolve => setTimeout(resolve, 100));
    const silence = await faultOf(`amqp://u@127.0.0.1:${port}/`);
    test.equal(isUnreachable(silence), true, 'silence');
    test.match(silence, { message: /within 300 ms/ }, 'by that deadline, not by the one of the whole connection');
  },
);

await t.test('a server that never answers does not hold anybody for longer than the deadline', async test => {
  const sockets: Socket[] = [];
  const server = createServer(socket => sockets.push(socket));
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await test.rejects(connectBroker({ ...own, url: `amqp://u@127.0.0.1:${port}/`, connectTimeoutMs: 300 }), {
    code: 'BROKER_UNREACHABLE',
    message: /did not answer within 300 ms/,
  });
  for (const socket of sockets) socket.destroy();
  server.close();
});

await t.test('heartbeats that come before the login is complete do not end it', async test => {
  const heartbeat = Buffer.from([8, 0, 0, 0, 0, 0, 0, 0xce]);
  let chunks = 0;
  const sockets: Socket[] = [];
  const proxy = createServer(socket => {
    const upstream = connect(broker.port, broker.host);
    sockets.push(socket, upstream);
    socket.on('data', data => upstream.write(data));
    // The broker sends one frame at a time until the login is complete: start, tune, open-ok.
    upstream.on('data', data => {
      chunks += 1;
      socket.write(chunks === 2 || chunks === 3 ? Buffer.concat([heartbeat, heartbeat, data]) : data);
    });
    for (const each of [socket, upstream]) each.on('error', () => undefined);
  });
  await new Promise<void>(resolve => proxy.listen(0, '127.0.0.1', resolve));
  const { port } = proxy.address() as AddressInfo;
  const connection = await connectBroker({ ...own, url: `amqp://${names.user}@127.0.0.1:${port}/` });
  test.ok(chunks >= 3, 'they came');
  await (await connection.openPublisher()).close();
  await connection.close();
  for (const socket of sockets) socket.destroy();
  proxy.close();
});

await t.test(
  'a send over a link that has gone silent is unknown after its deadline, and the connection is dropped',
  async test => {
    let silent = false;
    const sockets: Socket[] = [];
    const proxy = createServer(socket => {
      const upstream = connect(broker.port, broker.host);
      sockets.push(socket, upstream);
      socket.on('data', data => silent || upstream.write(data));
      upstream.on('data', data => silent || socket.write(data));
      for (const each of [socket, upstream]) each.on('error', () => undefined);
    });
    await new Promise<void>(resolve => proxy.listen(0, '127.0.0.1', resolve));
    const { port } = proxy.address() as AddressInfo;
    const connection = await connectBroker({ ...own, url: `amqp://${names.user}@127.0.0.1:${port}/` });
    const publisher = await connection.openPublisher();
    silent = true;
    const outcome = await publisher.send(batchMessage(header(1), Buffer.from('x')), 300);
    // By the deadline: the connection's heartbeats would notice as well, but only after twice ten seconds.
    const late = { code: 'BROKER_UNCONFIRMED', message: /did not confirm .* within 300 ms/ };
    test.match(outcome, { outcome: 'unknown', error: late });
    test.match(await connection.closed, late);
    test.match(await publisher.send(batchMessage(header(2), Buffer.from('x')), 300), { outcome: 'unknown' });
    // Nobody at the other end takes leave.
    await connection.close();
    for (const socket of sockets) socket.destroy();
    proxy.close();
  },
);

await t.test('an alarm at the broker holds a message back for as long as it lasts, and is no dead link', async test => {
  const config = { 'vm_memory_high_watermark.absolute': '1MiB' };
  const alarmed = await BrokerServer.start({ name: 'alarmed', config });
  test.teardown(() => alarmed.remove());
  await provision(alarmed, branch);
  const connection = await connectBroker({ ...own, url: branchUrl(alarmed, branch) });
  const publisher = await connection.openPublisher();
  let outcome: SendOutcome | null = null;
  void publisher.send(batchMessage(header(1), Buffer.from('x')), 200).then(settled => (outcome = settled));
  await until('the alarm', () => connection.blocked);
  // More than one deadline of the message.
  await new Promise(resolve => setTimeout(resolve, 600));
  test.equal(outcome, null, 'it waits');
  await connection.close();
  await until('the end', () => outcome !== null);
  test.match(outcome, { outcome: 'unknown' });
});

await t.test('a consumer whose queue is deleted, or whose handler throws, is closed with the reason', async test => {
  const connection = await connectBroker(admin);
  const doomed = `${branch}-doomed`;
  await provision(broker, doomed);
  const { answer, hello } = branchNames(doomed);
  const consumer = await connection.openConsumer({ queue: answer, prefetch: 1, onMessage: () => undefined });
  await manage(broker, 'DELETE', `queues/%2F/${answer}`);
  test.match(await consumer.closed, { code: 'BROKER_SETUP' });

  const throwing: BrokerConsumer = await connection.openConsumer({
    queue: hello,
    prefetch: 1,
    onMessage: () => {
      throw new Error('handler');
    },
  });
  const publisher = await connection.openPublisher();
  const message = { ...batchMessage(header(1), Buffer.from('x')), exchange: '', routingKey: hello };
  test.match(await publisher.send(message, 60_000), { outcome: 'confirmed' });
  test.match(await throwing.closed, { code: 'INTERNAL' });
  // A quorum queue notices a moment later.
  await waitUntil('no consumer', async () => (await connection.queueDepth(hello)).consumers === 0);
  await connection.close();
});
