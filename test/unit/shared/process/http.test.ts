import { readFileSync } from 'node:fs';
import { request } from 'node:http';
import type { IncomingHttpHeaders } from 'node:http';
import { request as secureRequest } from 'node:https';
import { connect } from 'node:net';
import { connect as connectSecurely } from 'node:tls';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { Readable } from 'node:stream';
import t from 'tap';
import type { Test } from 'tap';
import { TributaryError } from '../../../../shared/errors.ts';
import { HttpError, loadAssets, startHttpServer } from '../../../../shared/process/http.ts';
import type { HttpServer, HttpServerOptions, Route } from '../../../../shared/process/http.ts';
import { until } from '../../../support/until.ts';
import { silentLogger } from '../../../support/silent-logger.ts';
import { Secret } from '../../../../shared/config/secret.ts';
import { pageOf } from '../../../../shared/process/page.ts';
import { TestAuthority } from '../../../support/world/certificates.ts';

const TOKEN = 'the token of this page, from its file';
const JSON_TYPE = { 'content-type': 'application/json' };
let posted: unknown[] = [];
const routes: Route[] = [
  {
    method: 'GET',
    path: '/api/tables/:name/rows',
    handle: ({ params, query }) => ({ json: { ...params, page: query.get('page') } }),
  },
  { method: 'GET', path: '/boom', handle: () => Promise.reject(new Error('secret detail')) },
  { method: 'GET', path: '/down', handle: () => Promise.reject(new TributaryError('TARGET_UNREACHABLE', 'gone')) },
  { method: 'GET', path: '/chosen', handle: () => Promise.reject(new HttpError(409, 'BUSY', 'later')) },
  { method: 'GET', path: '/slow', handle: async ({ signal }) => (await sleep(5000, null, { signal }), { json: null }) },
  {
    method: 'POST',
    path: '/api/sync',
    handle: ({ body }) => {
      posted.push(body);
      return { status: 202, json: { started: true } };
    },
  },
];

async function start(t: Test, changes: Partial<HttpServerOptions> = {}): Promise<HttpServer> {
  const server = await startHttpServer({
    listen: { host: '127.0.0.1', port: 0 },
    metrics: () => Promise.resolve(''),
    ready: () => ({ ready: false, reasons: ['the database does not answer'] }),
    status: () => ({ state: 'capturing' }),
    routes,
    tokens: () => ({ operate: TOKEN }),
    logger: silentLogger(),
    ...changes,
  });
  t.teardown(() => server.close());
  return server;
}

interface Reply {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  readonly json: () => unknown;
}

/** One request with exactly these headers (fetch would not let a test forge Host, Origin or Sec-Fetch-Site). */
async function ask(
  server: HttpServer,
  path: string,
  options: { method?: string; headers?: Record<string, string>; body?: string } = {},
): Promise<Reply> {
  const { promise, resolve, reject } = Promise.withResolvers<Reply>();
  const { host, port } = server.address;
  const outgoing = request(
    { host, port, path, method: options.method ?? 'GET', headers: options.headers ?? {} },
    response => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => (text += chunk));
      response.on('end', () => {
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          text,
          json: () => JSON.parse(text) as unknown,
        });
      });
    },
  );
  outgoing.on('error', reject);
  outgoing.end(options.body ?? '');
  return promise;
}

void t.test('health, readiness, status and metrics answer', async t => {
  let scrapes = 0;
  const server = await start(t, { metrics: () => Promise.resolve(`scrapes ${(scrapes += 1)}`) });
  t.same((await ask(server, '/healthz')).json(), { ok: true });
  const ready = await ask(server, '/readyz');
  t.equal(ready.status, 503);
  t.same(ready.json(), { ready: false, reasons: ['the database does not answer'] });
  t.same((await ask(server, '/api/status')).json(), { state: 'capturing' });
  const metrics = await ask(server, '/metrics');
  t.match(metrics.headers['content-type'], /text\/plain/);
  t.equal(metrics.text, 'scrapes 1', 'as of the scrape');
});

void t.test('every answer carries the security headers', async t => {
  const server = await start(t);
  for (const path of ['/healthz', '/nothing', '/boom']) {
    const { headers } = await ask(server, path);
    t.match(headers['content-security-policy'], /default-src 'none'; script-src 'self'; style-src 'self'/, path);
    t.match(headers['content-security-policy'], /frame-ancestors 'none'/, 'no other page may frame it');
    t.match(headers, {
      'x-content-type-options': 'nosniff',
      'x-frame-options': 'DENY',
      'referrer-policy': 'no-referrer',
    });
    t.equal(headers['access-control-allow-origin'], undefined);
  }
});

void t.test('parameters are decoded, and malformed ones are refused', async t => {
  const server = await start(t);
  t.same((await ask(server, '/api/tables/caf%C3%A9%2Fx/rows?page=2')).json(), { name: 'café/x', page: '2' });
  t.equal((await ask(server, '/api/tables/%E0%A4/rows')).status, 400);
});

void t.test('HEAD is GET without a body; unknown paths are 404; other methods 405 with Allow', async t => {
  const server = await start(t);
  const head = await ask(server, '/healthz', { method: 'HEAD' });
  t.equal(head.status, 200);
  t.equal(head.text, '');
  t.equal(head.headers['content-length'], '11');
  t.match((await ask(server, '/nothing')).json(), { error: { code: 'NOT_FOUND' } });
  const wrong = await ask(server, '/healthz', { method: 'DELETE' });
  t.equal(wrong.status, 405);
  t.equal(wrong.headers.allow, 'GET, HEAD');
  t.equal((await ask(server, '/api/sync')).headers.allow, 'POST');
});

void t.test('faults become JSON: named ones with their cure, unnamed ones without details', async t => {
  const server = await start(t);
  const boom = await ask(server, '/boom');
  t.equal(boom.status, 500);
  t.notMatch(boom.text, /secret detail/);
  const down = await ask(server, '/down');
  t.equal(down.status, 503, 'a fault that may pass is 503');
  t.match(down.json(), { error: { code: 'TARGET_UNREACHABLE', message: 'gone', hint: /target\.host/ } });
  t.equal((await ask(server, '/chosen')).status, 409);
});

void t.test('a foreign Host on a loopback address is refused, whatever its port', async t => {
  const server = await start(t);
  for (const host of ['evil.example', 'evil.example:7641', '127.0.0.1.evil.example', '10.0.0.1']) {
    t.equal((await ask(server, '/api/status', { headers: { host } })).status, 421, host);
  }
  for (const host of ['localhost:1', '127.0.0.1', '[::1]:7641']) {
    t.equal((await ask(server, '/api/status', { headers: { host } })).status, 200, host);
  }
});

void t.test('a POST needs the token', async t => {
  const server = await start(t);
  posted = [];
  const missing = await ask(server, '/api/sync', { method: 'POST', headers: JSON_TYPE });
  t.match(missing.json(), { error: { code: 'TOKEN_MISSING' } });
  t.equal(missing.status, 401);
  const guesses = ['guess', '', ' ', TOKEN.slice(0, 1), TOKEN.slice(0, -1), `${TOKEN}x`, TOKEN.toUpperCase()];
  for (const guess of guesses) {
    const wrong = await ask(server, '/api/sync', {
      method: 'POST',
      headers: { ...JSON_TYPE, 'x-tributary-token': guess },
    });
    t.equal(wrong.status, 403, JSON.stringify(guess));
  }
  t.same(posted, []);
  const right = await ask(server, '/api/sync', {
    method: 'POST',
    headers: { ...JSON_TYPE, 'x-tributary-token': TOKEN, 'sec-fetch-site': 'same-origin' },
    body: '{"a":1}',
  });
  t.equal(right.status, 202);
  t.same(posted, [{ a: 1 }]);
  t.equal((await ask(server, '/api/token')).status, 405, 'nobody learns the token from the server');
  t.equal(
    (await ask(server, '/api/token', { method: 'POST', headers: { ...JSON_TYPE, 'x-tributary-token': TOKEN } })).status,
    200,
  );
});

void t.test('a POST of a type that a form can send is refused', async t => {
  const server = await start(t);
  posted = [];
  for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x']) {
    const headers = { 'content-type': type, 'x-tributary-token': TOKEN };
    t.equal((await ask(server, '/api/sync', { method: 'POST', headers, body: '{}' })).status, 415, type);
  }
  t.same(posted, []);
});

void t.test('beyond loopback the page answers to addresses and to its own names alone, metrics too', async t => {
  const server = await start(t, { listen: { host: '0.0.0.0', port: 0 }, names: ['HQ.Example.com'] });
  const status = async (host: string, path = '/api/status'): Promise<number> =>
    (await ask({ ...server, address: { ...server.address, host: '127.0.0.1' } }, path, { headers: { host } })).status;
  for (const host of ['192.0.2.7:7640', '[2001:db8::1]:7640', 'localhost:7640', 'HQ.example.com', hostname()]) {
    t.equal(await status(host), 200, host);
  }
  t.equal(await status('rebound.evil.example'), 421);
  t.equal(await status('evil.example', '/'), 421);
  t.equal(await status('rebound.evil.example', '/metrics'), 421);
  t.equal(await status('hq.example.com:7640', '/metrics'), 200);
  t.equal(await status('balancer-knows-it-as.example', '/healthz'), 200);
});

void t.test('a POST from another origin is refused even with the token', async t => {
  const server = await start(t);
  posted = [];
  const own = `http://127.0.0.1:${server.address.port}`;
  const foreign: Record<string, string>[] = [
    { 'sec-fetch-site': 'cross-site' },
    { 'sec-fetch-site': 'same-site', origin: own },
    { origin: 'http://evil.example' },
    { origin: 'null' },
    { 'sec-fetch-site': 'same-origin', origin: 'http://evil.example' },
  ];
  for (const headers of foreign) {
    const reply = await ask(server, '/api/sync', {
      method: 'POST',
      headers: { ...JSON_TYPE, 'x-tributary-token': TOKEN, ...headers },
    });
    t.match(reply.json(), { error: { code: 'CROSS_ORIGIN' } }, JSON.stringify(headers));
  }
  t.same(posted, []);
  const reply = await ask(server, '/api/sync', {
    method: 'POST',
    headers: { ...JSON_TYPE, 'x-tributary-token': TOKEN, origin: own },
  });
  t.equal(reply.status, 202, 'our own origin passes');
});

void t.test('a body that is too large or no JSON is refused', async t => {
  const server = await start(t);
  const headers = { ...JSON_TYPE, 'x-tributary-token': TOKEN };
  t.equal((await ask(server, '/api/sync', { method: 'POST', headers, body: '{' })).status, 400);
  const large = await ask(server, '/api/sync', { method: 'POST', headers, body: `"${'x'.repeat(70_000)}"` });
  t.equal(large.status, 413);
});

void t.test('headers that are too large are refused', async t => {
  const server = await start(t);
  t.equal((await ask(server, '/healthz', { headers: { 'x-large': 'x'.repeat(20_000) } })).status, 431);
});

void t.test('a handler that takes too long is given up, and told so', async t => {
  let aborted = false;
  const server = await start(t, {
    handlerTimeoutMs: 50,
    routes: [
      {
        method: 'GET',
        path: '/slow',
        handle: async ({ signal }) => {
          await sleep(5000, null, { signal }).catch(() => (aborted = true));
          return { json: null };
        },
      },
    ],
  });
  const reply = await ask(server, '/slow');
  t.match(reply.json(), { error: { code: 'TOO_SLOW' } });
  t.equal(aborted, true);
});

void t.test('closing ends a connection that says nothing', async t => {
  const server = await start(t);
  const socket = connect(server.address.port, '127.0.0.1');
  await new Promise(resolve => socket.once('connect', resolve));
  socket.on('error', () => undefined);
  const closed = new Promise(resolve => socket.once('close', resolve));
  await server.close();
  await closed;
  t.pass('both ended');
});

void t.test('a reader who does not take its answer is cut off', async t => {
  const large = 'x'.repeat(32 * 1024 * 1024);
  const server = await start(t, {
    routes: [{ method: 'GET', path: '/large', handle: () => ({ text: large }) }],
    writeTimeoutMs: 200,
  });
  const socket = connect(server.address.port, '127.0.0.1');
  t.teardown(() => socket.destroy());
  const { promise: cut, resolve } = Promise.withResolvers<boolean>();
  socket.on('error', () => undefined);
  socket.on('close', () => {
    resolve(true);
  });
  socket.write('GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n');
  // Some of it is read, then nothing, and what has come by then only after the server has had time to cut.
  socket.once('data', () => {
    socket.pause();
    setTimeout(() => socket.resume(), 1_000);
  });
  let read = 0;
  socket.on('data', (chunk: Buffer) => (read += chunk.length));
  t.equal(await cut, true);
  t.ok(read < large.length, `${read} bytes`);
  t.equal((await ask(server, '/healthz')).status, 200);
});

/** A file without an end, and whether what makes it was ended. */
function endless() {
  const state = { ended: false, aborted: false };
  async function* bytes(): AsyncGenerator<Uint8Array, void, undefined> {
    try {
      for (;;) yield await Promise.resolve(Buffer.alloc(64 * 1024));
    } finally {
      state.ended = true;
    }
  }
  return { state, bytes };
}

void t.test('a file is sent while it is made, under its name, and a fault in the middle cuts it', async t => {
  async function* broken(): AsyncGenerator<Uint8Array, void, undefined> {
    yield await Promise.resolve(Buffer.from('begin'));
    throw new Error('a fault');
  }
  const file = { contentType: 'text/csv; charset=utf-8', fileName: 'sales.csv' };
  const server = await start(t, {
    routes: [
      { method: 'GET', path: '/whole', handle: () => ({ ...file, stream: Readable.from([Buffer.from('a,b')]) }) },
      { method: 'GET', path: '/broken', handle: () => ({ ...file, stream: broken() }) },
    ],
  });
  const address = `http://127.0.0.1:${server.address.port}`;
  const whole = await fetch(`${address}/whole`);
  t.equal(await whole.text(), 'a,b');
  t.equal(whole.headers.get('content-disposition'), 'attachment; filename="sales.csv"');
  t.equal(whole.headers.get('x-content-type-options'), 'nosniff');
  const part = fetch(`${address}/broken`).then(response => response.text());
  await t.rejects(part, 'nobody takes a part for the whole');
});

void t.test('a file that nobody reads any more ends what makes it', async t => {
  const left = endless();
  const asked = endless();
  const stalled = endless();
  const of = (each: ReturnType<typeof endless>, path: string) => ({
    method: 'GET' as const,
    path,
    handle: ({ signal }: { readonly signal: AbortSignal }) => {
      signal.addEventListener('abort', () => (each.state.aborted = true));
      return { stream: each.bytes(), contentType: 'text/plain', fileName: 'x' };
    },
  });
  const server = await start(t, {
    routes: [of(left, '/left'), of(asked, '/asked'), of(stalled, '/stalled')],
    writeTimeoutMs: 200,
  });
  const address = `http://127.0.0.1:${server.address.port}`;
  const aborter = new AbortController();
  await fetch(`${address}/left`, { signal: aborter.signal });
  aborter.abort();
  await until('it has ended', () => left.state.ended && left.state.aborted);
  t.equal((await fetch(`${address}/asked`, { method: 'HEAD' })).status, 200);
  await until('the signal, where nothing is sent', () => asked.state.aborted);
  const socket = connect(server.address.port, '127.0.0.1');
  t.teardown(() => socket.destroy());
  socket.on('error', () => undefined);
  socket.write('GET /stalled HTTP/1.1\r\nHost: localhost\r\n\r\n');
  socket.pause();
  await until('one that stalls is cut', () => stalled.state.ended);
});

void t.test('with a certificate it speaks HTTPS, and nothing else', async t => {
  const authority = await TestAuthority.create(t.testdir(), 'page');
  const { cert, key } = await authority.issue('page', 'localhost');
  const tls = { cert: () => readFileSync(cert, 'utf8'), key: Secret.of(readFileSync(key, 'utf8')) };
  const server = await start(t, { tls });
  t.equal(pageOf(server), `https://127.0.0.1:${server.address.port}/`);
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const { port } = server.address;
  const options = {
    host: '127.0.0.1',
    port,
    path: '/healthz',
    servername: 'localhost',
    ca: readFileSync(authority.ca),
  };
  secureRequest(options, response => {
    response.resume();
    resolve(response.statusCode ?? 0);
  })
    .on('error', reject)
    .end();
  t.equal(await promise, 200);
  await t.rejects(ask(server, '/healthz'), 'plain HTTP');
  const other = await authority.issue('other', 'localhost');
  await t.rejects(start(t, { tls: { ...tls, key: Secret.of(readFileSync(other.key, 'utf8')) } }), {
    code: 'PAGE_UNAVAILABLE',
    message: /http\.tls/,
  });
});

void t.test('a renewed certificate is taken into use without a restart, and one that does not fit is not', async t => {
  const authority = await TestAuthority.create(t.testdir(), 'renewed');
  const [first, second] = [await authority.issue('first', 'localhost'), await authority.issue('second', 'localhost')];
  let files = first;
  const text = (file: string): string => readFileSync(file, 'utf8');
  const tls = {
    cert: () => text(files.cert),
    key: Secret.rotating(text(first.key), { read: () => text(files.key), isCredential: false }),
  };
  const server = await start(t, { tls, renewEveryMs: 20 });
  const shown = async (): Promise<string> => {
    const socket = connectSecurely({ ...server.address, servername: 'localhost', ca: text(authority.ca) });
    await new Promise<void>((resolve, reject) => socket.once('secureConnect', resolve).once('error', reject));
    const { serialNumber } = socket.getPeerCertificate();
    socket.destroy();
    return serialNumber;
  };
  const before = await shown();
  files = { cert: second.cert, key: first.key };
  await sleep(100);
  t.equal(await shown(), before, 'half of a renewal');
  files = second;
  await until('the new certificate', async () => (await shown()) !== before);
});

/** What a page says of a request with these headers that comes through the proxy, or not. */
async function proxied(t: Test, changes: Partial<HttpServerOptions>) {
  const proxy = {
    addresses: ['127.0.0.1'],
    header: 'x-forwarded-user',
    secret: Secret.of('between us'),
    users: { ana: 'operate', bob: 'look', 'constructor-like': 'sync' },
  } as const;
  const server = await start(t, { proxy, names: ['hq.example.com'], ...changes });
  const secret = { 'x-tributary-proxy-secret': 'between us' };
  return {
    get: (headers: Record<string, string>) => ask(server, '/api/me', { headers }),
    post: (headers: Record<string, string>) =>
      ask(server, '/api/sync', { method: 'POST', body: '{}', headers: { ...JSON_TYPE, ...headers } }),
    secret,
    server,
  };
}

void t.test('whom the proxy names has that person’s role, and needs no token', async t => {
  const { get, post, secret, server } = await proxied(t, {});
  t.same((await get({ ...secret, 'x-forwarded-user': 'ana' })).json(), { role: 'operate', name: 'ana' });
  t.equal((await post({ ...secret, 'x-forwarded-user': 'ana' })).status, 202);
  const low = await post({ ...secret, 'x-forwarded-user': 'bob' });
  t.equal(low.status, 403);
  t.match(low.json(), {
    error: { code: 'ROLE_TOO_LOW', message: /needs the role operate, and bob has the role look/ },
  });
  for (const nobody of ['eve', 'constructor', '__proto__']) {
    const reply = await get({ ...secret, 'x-forwarded-user': nobody });
    t.match(reply.json(), { error: { code: 'NO_ROLE' } }, nobody);
  }
  const named = { ...secret, 'x-forwarded-user': 'ana', host: 'hq.example.com', origin: 'https://hq.example.com' };
  t.equal((await post(named)).status, 202, 'by the proxy’s name, although it listens on loopback');
  t.equal(
    (await post({ ...named, 'sec-fetch-site': 'cross-site' })).status,
    403,
    'another site cannot use the sign-in',
  );
  t.equal((await ask(server, '/metrics')).status, 200, 'programs need no sign-in');
});

void t.test('the proxy’s header from elsewhere is refused, whatever it says', async t => {
  const { get, post, secret } = await proxied(t, {});
  for (const forged of [{}, { 'x-tributary-proxy-secret': 'a guess' }, { 'x-tributary-token': TOKEN }]) {
    const reply = await get({ ...forged, 'x-forwarded-user': 'ana' });
    t.equal(reply.status, 403);
    t.match(reply.json(), { error: { code: 'PROXY_UNKNOWN' } });
  }
  const elsewhere = await proxied(t, {
    proxy: { addresses: ['10.8.0.0/24'], header: 'x-forwarded-user', secret: null, users: { ana: 'operate' } },
  });
  t.match((await elsewhere.get({ 'x-forwarded-user': 'ana' })).json(), { error: { code: 'PROXY_UNKNOWN' } });
  t.match((await get({ ...secret })).json(), { error: { code: 'PROXY_SILENT' } }, 'and the proxy must say who asks');
  t.same((await get({})).json(), { role: 'look', name: null }, 'beside the proxy one may look');
  t.equal((await post({ 'x-tributary-token': TOKEN })).status, 202, 'and act with the token');
});

void t.test('each role has its token, and a token of less says what is needed', async t => {
  const tokens = { operate: TOKEN, sync: 'the token of the manager' };
  const route = { ...routes.find(({ path }) => path === '/api/sync')!, path: '/api/other' };
  const server = await start(t, {
    tokens: () => tokens,
    routes: [...routes.map(each => (each.method === 'POST' ? { ...each, role: 'sync' as const } : each)), route],
  });
  const post = (path: string, token: string) =>
    ask(server, path, { method: 'POST', body: '{}', headers: { ...JSON_TYPE, 'x-tributary-token': token } });
  t.equal((await post('/api/sync', tokens.sync)).status, 202);
  t.equal((await post('/api/sync', tokens.operate)).status, 202, 'who may do more may do this');
  const low = await post('/api/other', tokens.sync);
  t.equal(low.status, 403);
  t.match(low.json(), { error: { code: 'ROLE_TOO_LOW', message: /needs the role operate/ } });
  t.same((await post('/api/token', tokens.sync)).json(), { role: 'sync' });
  tokens.sync = 'a renewed one';
  t.match((await post('/api/sync', 'the token of the manager')).json(), { error: { code: 'TOKEN_WRONG' } });
});

void t.test('a port that is taken is told by its code', async t => {
  const server = await start(t);
  const options = { listen: server.address };
  await t.rejects(start(t, options), { code: 'PAGE_UNAVAILABLE', hint: /http\.listen/ });
});

void t.test('assets are served with their type, and not again while they are the same', async t => {
  const directory = t.testdir({ 'index.html': '<!doctype html>', 'page.js': 'export {};', 'notes.txt': 'not served' });
  const server = await start(t, { assets: loadAssets(directory) });
  t.match((await ask(server, '/')).headers['content-type'], /text\/html/);
  const script = await ask(server, '/assets/page.js');
  t.match(script.headers['content-type'], /text\/javascript/);
  const again = await ask(server, '/assets/page.js', { headers: { 'if-none-match': script.headers.etag ?? '' } });
  t.equal(again.status, 304);
  for (const path of ['/assets/notes.txt', '/assets/../package.json', '/assets/%2e%2e/package.json']) {
    t.equal((await ask(server, path)).status, 404, path);
  }
  t.equal((await ask(server, '/', { method: 'POST' })).status, 405);
});
