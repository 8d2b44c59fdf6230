import { createServer } from 'node:http';
import { createServer as createTcpServer } from 'node:net';
import type { Server } from 'node:net';
import t from 'tap';
import type { Test } from 'tap';
import { Addresses } from '../../../../shared/addresses.ts';
import { ManagementApi } from '../../../../applier/broker/management-api.ts';
import { Provisioning } from '../../../../applier/broker/provisioning.ts';

async function listen(t: Test, server: Server): Promise<number> {
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', () => resolve()));
  t.teardown(() => server.close());
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

function api(options: { port: number; host?: string; secure?: boolean }): ManagementApi {
  const { port, host = '127.0.0.1', secure = false } = options;
  const addresses = new Addresses([{ secure, host, port, path: '' }]);
  return new ManagementApi({ addresses, user: 'applier', password: 'x', tls: {} });
}

void t.test('each way to miss the management API has a hint of its own', async t => {
  const http = await listen(
    t,
    createServer((_, response) => response.end('{}')),
  );
  const closing = await listen(
    t,
    createTcpServer(socket => socket.once('data', () => socket.destroy())),
  );
  const amqp = await listen(
    t,
    createTcpServer(socket => socket.end('AMQP\0\0\x09\x01')),
  );
  const gone = createServer();
  const nobody = await listen(t, gone);
  gone.close();
  const cases = [
    ['refused', { port: nobody }, /rabbitmq-plugins enable rabbitmq_management/],
    ['no such name', { port: 1, host: 'hq.invalid' }, /name of the host cannot be resolved/],
    ['TLS to a server without', { port: http, secure: true }, /does not speak TLS on this port/],
    ['closed at once', { port: closing }, /use https/],
    ['another protocol', { port: amqp }, /HTTP is not spoken there/],
  ] as const;
  for (const [name, options, hint] of cases) {
    const error: unknown = await api(options)
      .call('GET', ['overview'])
      .then(
        () => null,
        (reason: unknown) => reason,
      );
    t.match(error, { code: 'BROKER_UNREACHABLE', hint }, name);
    if (name !== 'refused') t.notMatch(error, { hint: /rabbitmq-plugins/ }, name);
  }
});

void t.test('a wrong password, a missing tag, a missing thing and another server are told apart', async t => {
  const answers: Record<string, [number, string, string]> = {
    '/api/a': [401, 'application/json', '{"error":"not_authorized","reason":"Login failed"}'],
    '/api/b': [403, 'application/json', '{"error":"not_authorised","reason":"Not administrator"}'],
    '/api/c': [404, 'application/json', '{"error":"Object Not Found","reason":"Not Found"}'],
    '/api/d': [404, 'text/html', '<h1>nginx</h1>'],
  };
  const server = createServer((request, response) => {
    const [status, type, body] = answers[request.url ?? ''] ?? [500, 'text/plain', ''];
    response.writeHead(status, { 'content-type': type }).end(body);
  });
  const broker = api({ port: await listen(t, server) });
  await t.rejects(broker.call('GET', ['a']), { code: 'BROKER_REFUSED', message: /password/, hint: /change_password/ });
  await t.rejects(broker.call('GET', ['b']), { code: 'BROKER_REFUSED', hint: /set_user_tags applier administrator/ });
  await t.rejects(broker.call('GET', ['c']), { code: 'BROKER_SETUP', hint: /add_vhost/ });
  await t.rejects(broker.call('GET', ['d']), { code: 'BROKER_UNREACHABLE', hint: /path in broker\.management/ });
});

void t.test('a node that sees no other is left for one that has the majority', async t => {
  const asked: string[] = [];
  const node = (name: string, seen: readonly string[]): Promise<number> =>
    listen(
      t,
      createServer((_, response) => {
        asked.push(name);
        const nodes = ['a', 'b', 'c'].map(each => ({ name: each, running: seen.includes(each) }));
        response.setHeader('content-type', 'application/json');
        response.end(JSON.stringify(nodes));
      }),
    );
  const provisioning = (ports: readonly number[]): Provisioning => {
    const addresses = new Addresses(ports.map(port => ({ secure: false, host: '127.0.0.1', port, path: '' })));
    return new Provisioning(new ManagementApi({ addresses, user: 'applier', password: 'x', tls: {} }), 'tributary');
  };
  const alone = await node('a', ['a']);
  const joined = provisioning([alone, await node('b', ['b', 'c'])]);
  await joined.requireMajority();
  await joined.requireMajority();
  t.same(asked, ['a', 'b', 'b']);
  await t.rejects(provisioning([alone, await node('c', ['c'])]).requireMajority(), {
    code: 'BROKER_UNCONFIRMED',
    message: /^2 of RabbitMQ’s 3 nodes are down/,
  });
});

void t.test('a removed branch keeps its user where another head office at the broker has it', async t => {
  const asked: string[] = [];
  let vhosts: readonly string[] = [];
  const port = await listen(
    t,
    createServer(({ method = '', url = '' }, response) => {
      asked.push(`${method} ${url}`);
      response.writeHead(200, { 'content-type': 'application/json' });
      const overview = { product_name: 'RabbitMQ', rabbitmq_version: '4.3.6' };
      const permissions = url.endsWith('/permissions') ? vhosts.map(vhost => ({ vhost })) : [];
      response.end(JSON.stringify(url === '/api/overview' ? overview : permissions));
    }),
  );
  const provisioning = new Provisioning(api({ port }), 'south');
  const deleted = async (): Promise<string[]> => {
    asked.length = 0;
    await provisioning.remove('paris');
    return asked.filter(each => /^DELETE \/api\/(users|permissions)/.test(each));
  };
  vhosts = ['south'];
  t.same(await deleted(), ['DELETE /api/users/branch-paris']);
  vhosts = ['south', 'north'];
  t.same(await deleted(), ['DELETE /api/permissions/south/branch-paris']);
  t.same(await provisioning.otherVhosts('paris'), ['north']);
});
