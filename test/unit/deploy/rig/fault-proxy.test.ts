import { createConnection, createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { Test } from 'tap';
import { FaultProxy } from '../../../../deploy/rig/fault-proxy.ts';
import { until as waitUntil } from '../../../support/until.ts';

/** A server that says back what it hears, and remembers it, connection by connection. */
class Echo {
  readonly heard: Buffer[] = [];
  readonly sockets: Socket[] = [];
  readonly #server: Server;

  constructor(server: Server) {
    this.#server = server;
    server.on('connection', socket => {
      const place = this.sockets.push(socket) - 1;
      this.heard.push(Buffer.alloc(0));
      socket.on('error', () => undefined);
      socket.on('data', chunk => {
        const bytes = Buffer.from(chunk);
        this.heard[place] = Buffer.concat([this.heard[place] ?? Buffer.alloc(0), bytes]);
        socket.write(bytes);
      });
    });
  }

  close(): void {
    for (const socket of this.sockets) socket.destroy();
    this.#server.close();
  }
}

/** A connection and what became of it. */
class Client {
  readonly socket: Socket;
  heard = 0;
  error: string | null = null;
  ended = false;

  constructor(port: number) {
    this.socket = createConnection({ host: '127.0.0.1', port });
    this.socket.on('data', chunk => (this.heard += chunk.length));
    this.socket.on('error', error => (this.error = 'code' in error ? String(error.code) : error.message));
    this.socket.on('close', () => (this.ended = true));
  }
}

/** @param now the link's clock */
async function setUp(t: Test, now?: () => number) {
  const server = createServer();
  await new Promise<void>(done => server.listen(0, '127.0.0.1', done));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const echo = new Echo(server);
  const proxy = await FaultProxy.open(address.port, '127.0.0.1', now);
  const clients: Client[] = [];
  t.teardown(async () => {
    for (const client of clients) client.socket.destroy();
    await proxy.close();
    echo.close();
  });
  const connect = (): Client => {
    const client = new Client(proxy.port);
    clients.push(client);
    return client;
  };
  return { echo, proxy, connect };
}

const until = (what: string, check: () => boolean): Promise<void> => waitUntil(what, check, { everyMs: 2 });

await t.test('a good link passes everything on, both ways, and an orderly end', async t => {
  const { echo, proxy, connect } = await setUp(t);
  const client = connect();
  const bytes = Buffer.alloc(1_000_000, 'abc');
  client.socket.write(bytes);
  await until('the echo', () => client.heard === bytes.length);
  t.ok(echo.heard[0]?.equals(bytes), 'byte by byte');
  t.equal(proxy.passed('up'), bytes.length);
  t.equal(proxy.passed('down'), bytes.length);
  client.socket.end();
  await until('the end at the target', () => echo.sockets[0]?.destroyed === true);
  await until('no open line', () => proxy.connections === 0);
});

await t.test('cut: open connections are reset, and so are new ones, until it is restored', async t => {
  const { proxy, connect } = await setUp(t);
  const before = connect();
  before.socket.write('x');
  await until('the echo', () => before.heard === 1);
  proxy.cut();
  t.equal(proxy.up, false);
  await until('the reset', () => before.ended);
  t.equal(before.error, 'ECONNRESET');
  const during = connect();
  during.socket.write('x');
  await until('the reset of the new one', () => during.ended);
  t.equal(during.heard, 0);
  proxy.restore();
  const after = connect();
  after.socket.write('x');
  await until('the echo', () => after.heard === 1);
});

await t.test('refuse: nobody listens, what is open goes on; afterwards the port is the same', async t => {
  const { proxy, connect } = await setUp(t);
  const before = connect();
  before.socket.write('x');
  await until('the echo', () => before.heard === 1);
  await proxy.set({ mode: 'refuse' });
  const during = connect();
  await until('the refusal', () => during.ended);
  t.equal(during.error, 'ECONNREFUSED');
  before.socket.write('y');
  await until('the echo on the open one', () => before.heard === 2);
  await proxy.heal();
  const after = connect();
  after.socket.write('x');
  await until('the echo', () => after.heard === 1);
});

await t.test('black hole: nothing arrives, nobody is told, and all arrives when the link is back', async t => {
  const { echo, proxy, connect } = await setUp(t);
  const client = connect();
  client.socket.write('a');
  await until('the echo', () => client.heard === 1);
  await proxy.set({ mode: 'black-hole' });
  client.socket.write('bc');
  await sleep(50);
  t.equal(client.heard, 1);
  t.equal(client.ended, false);
  t.equal(String(echo.heard[0]), 'a');
  await proxy.heal();
  await until('what was sent meanwhile', () => client.heard === 3);
  t.equal(String(echo.heard[0]), 'abc');
});

await t.test('half open: each end keeps its socket and hears nothing any more; a new connection works', async t => {
  const { echo, proxy, connect } = await setUp(t);
  const old = connect();
  old.socket.write('a');
  await until('the echo', () => old.heard === 1);
  proxy.halfOpen();
  old.socket.write('b');
  const fresh = connect();
  fresh.socket.write('c');
  await until('the echo on the new one', () => fresh.heard === 1);
  t.equal(String(echo.heard[0]), 'a');
  old.socket.destroy();
  await sleep(30);
  t.equal(echo.sockets[0]?.destroyed, false, 'the target is not told of the end');
});

await t.test('cutAfter cuts in the middle of what is said, at exactly that byte', async t => {
  const { echo, proxy, connect } = await setUp(t);
  const client = connect();
  client.socket.write('a');
  await until('the echo', () => client.heard === 1);
  const cut = proxy.cutAfter(10);
  client.socket.write(Buffer.alloc(100, 'f'));
  await cut;
  await until('the reset', () => client.ended);
  await until('the end at the target', () => echo.sockets[0]?.destroyed === true);
  t.ok((echo.heard[0]?.length ?? 0) <= 11, 'not one byte more');
  t.equal(proxy.passed('up'), 11);
});

await t.test('a delay holds every byte back, both ways', async t => {
  let clock = 0;
  const { echo, proxy, connect } = await setUp(t, () => clock);
  await proxy.set({ delayMs: 60 });
  const client = connect();
  client.socket.write('x');
  await sleep(100);
  t.equal(proxy.passed('up'), 0, 'it is held');
  clock = 60;
  await until('it there', () => echo.heard[0]?.length === 1);
  await sleep(100);
  t.equal(proxy.passed('down'), 0, 'and so is the echo');
  clock = 120;
  await until('the echo', () => client.heard === 1);
});

await t.test('a bandwidth limit is shared by all connections of a direction', async t => {
  let clock = 0;
  const { proxy, connect } = await setUp(t, () => clock);
  await proxy.set({ bytesPerSecond: 400_000 });
  const clients = [connect(), connect()];
  for (const client of clients) client.socket.write(Buffer.alloc(40_000));
  let most = 0;
  await until('both echoes', () => {
    clock += 1;
    most = Math.max(most, proxy.passed('up') / clock);
    return clients.every(client => client.heard === 40_000);
  });
  t.ok(most <= 400, `at most ${most} bytes by millisecond`);
});

await t.test('duplicate: the target hears everything twice, the client one answer', async t => {
  const { echo, proxy, connect } = await setUp(t);
  await proxy.set({ duplicate: true });
  const client = connect();
  client.socket.write('hello');
  await until('both copies', () => echo.heard.length === 2 && echo.heard.every(bytes => String(bytes) === 'hello'));
  await until('the echo', () => client.heard === 5);
  await sleep(20);
  t.equal(client.heard, 5);
});

await t.test('a script plays its steps in order and stops when aborted', async t => {
  const { proxy, connect } = await setUp(t);
  const client = connect();
  client.socket.write('x');
  await until('the echo', () => client.heard === 1);
  const stop = new AbortController();
  const played = proxy.play(
    [
      { afterMs: 5, set: { delayMs: 7 } },
      { afterMs: 5, event: 'reset' },
      { afterMs: 60_000, set: { mode: 'cut' } },
    ],
    stop.signal,
  );
  await until('the reset', () => client.ended);
  t.equal(proxy.conditions.delayMs, 7);
  stop.abort();
  await played;
  t.equal(proxy.conditions.mode, 'pass');
});
