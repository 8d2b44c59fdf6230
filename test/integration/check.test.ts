/** What `check` finds that would otherwise show only once the programs run. Each finding says what to do. */
import { createServer as createHttpServer } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo, Server } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { sharedServers } from '../../deploy/rig/shared-servers.ts';
import { branchNames, connectBroker } from '../../shared/broker/amqp.ts';
import { oldMysql } from '../support/hand-made/old-mysql.ts';
import { createWorld, expectSuccess } from '../support/world/world.ts';
import type { World } from '../support/world/world.ts';

interface Finding {
  readonly level: string;
  readonly subject: string;
  readonly message: string;
  readonly statement?: string;
  readonly hint?: string;
}

/** What the applier's `check` finds that is not as it should be. */
async function findings(world: World): Promise<Finding[]> {
  const { stdout } = await world.applierCli(['check', '--json']);
  return (JSON.parse(stdout) as { findings: Finding[] }).findings.filter(({ level }) => level !== 'ok');
}

/** Sets a global variable of the head office's server for the rest of a test. */
async function setGlobal(t: Test, world: World, name: string, value: number): Promise<void> {
  const [rows] = await world.headOfficeDb.query(`SELECT @@GLOBAL.${name} AS value`);
  const before = (rows as { value: number }[])[0]?.value ?? 0;
  t.teardown(() => world.headOfficeDb.query(`SET GLOBAL ${name} = ${before}`));
  await world.headOfficeDb.query(`SET GLOBAL ${name} = ${value}`);
}

await t.test('settings of the head office’s database that stop or hamper the applier', async t => {
  const world = await createWorld(t);
  await world.applier();
  t.same(await findings(world), []);
  await t.test('max_allowed_packet', async t => {
    await setGlobal(t, world, 'max_allowed_packet', 65_536);
    t.match(await findings(world), [
      { level: 'fault', subject: 'target.max_allowed_packet', statement: /^SET PERSIST max_allowed_packet=/ },
    ]);
    await setGlobal(t, world, 'max_allowed_packet', 16 * 1024 * 1024);
    t.match(await findings(world), [{ level: 'warning', subject: 'target.max_allowed_packet', message: /larger row/ }]);
  });
  for (const name of ['super_read_only', 'transaction_read_only']) {
    await t.test(name, async t => {
      // super_read_only brings read_only with it, and leaves it behind.
      t.teardown(() => world.headOfficeDb.query('SET GLOBAL super_read_only = OFF, GLOBAL read_only = OFF'));
      await setGlobal(t, world, name, 1);
      t.match(await findings(world), [
        { level: 'fault', subject: `target.${name}`, statement: /^SET PERSIST \w+=OFF$/, hint: /replica/ },
      ]);
    });
  }
  t.same(await findings(world), []);
});

await t.test('RabbitMQ: the user guest, other programs’ consumers, and what a branch lacks', async t => {
  const world = await createWorld(t);
  const applier = await world.applier();
  const branch = await world.addBranch('paris', { setup: ['CREATE TABLE sale (id INT PRIMARY KEY)'] });
  t.same(await findings(world), []);

  await t.test('guest', async () => {
    await world.managementApi('PUT', '/users/guest', { password: 'guest', tags: 'administrator' });
    const found = await findings(world);
    await world.managementApi('DELETE', '/users/guest');
    t.match(found, [{ level: 'warning', subject: 'broker.guest', statement: 'rabbitmqctl delete_user guest' }]);
  });

  await t.test('consumers of a program that is no applier of this head office', async t => {
    const { user, host, port, password } = world.broker;
    const names = branchNames(branch.id);
    const url = `amqp://${user}@${host}:${port}/${world.vhost}`;
    const staging = await connectBroker({ url, password, purpose: 'tributary-applier consume' });
    t.teardown(() => staging.close());
    for (const queue of [names.batches, names.hello])
      await staging.openConsumer({ queue, tag: 'staging:7640', prefetch: 1, onMessage: () => undefined });
    await applier.waitUntil('the broker lists the consumers', async () => {
      const listed = (await world.managementApi('GET', `/consumers/${world.vhost}`)) as unknown[];
      return listed.length === 2;
    });
    t.match(await findings(world), [
      {
        level: 'fault',
        subject: 'broker.consumers',
        message: /^staging:7640 .* consumes tributary\.\w+\.paris.* and 1 more of our queues/,
        hint: /virtual host of its own/,
      },
    ]);
  });

  await t.test('a user, permissions, an exchange, queues and bindings', async t => {
    const names = branchNames(branch.id);
    const lost: readonly (readonly [path: string, what: RegExp])[] = [
      [`/permissions/${world.vhost}/${names.user}`, /permissions of the user branch-paris/],
      [`/users/${names.user}`, /the user branch-paris/],
      [`/queues/${world.vhost}/${names.answer}`, /the queue tributary\.answer\.paris/],
      [`/queues/${world.vhost}/${names.hello}`, /the queue tributary\.hello\.paris.*the binding of tributary\.hello/],
      [`/exchanges/${world.vhost}/${names.exchange}`, /the exchange tributary\.branch\.paris/],
    ];
    for (const [path, what] of lost) {
      await world.managementApi('DELETE', path);
      t.match(await findings(world), [{ level: 'fault', message: what, hint: /branch rotate/ }], path);
      if (path.startsWith('/permissions')) continue;
      const file = join(branch.folder, `enrolment${path.replaceAll('/', '-')}`);
      expectSuccess(await world.applierCli(['branch', 'rotate', branch.id, '--out', file]));
      expectSuccess(await branch.cli(['enroll', file]));
      t.same(await findings(world), []);
    }
  });

  await t.test('a running applier makes a user again that was deleted, and its permissions', async () => {
    const { user } = branchNames(branch.id);
    await world.managementApi('DELETE', `/permissions/${world.vhost}/${user}`);
    await applier.start();
    await applier.waitReady();
    await applier.waitUntil('check finds nothing', async () => (await findings(world)).length === 0);
    await world.managementApi('DELETE', `/users/${user}`);
    await applier.waitUntil('check finds nothing', async () => (await findings(world)).length === 0);
    await branch.startAgent();
    await world.waitUntilEqual(branch);
  });

  await t.test('and is itself no stranger', async t => t.same(await findings(world), []));
});

await t.test('servers that are not supported are named, and nothing more is looked at', async t => {
  await t.test('MariaDB as the head office', async t => {
    const world = await createWorld(t, { headOffice: sharedServers().branchMariadb });
    await world.applier();
    t.match(await findings(world), [
      {
        subject: 'target',
        message: /^MariaDB .* is not supported as the head-office database/,
        hint: /MySQL 8\.0\.17/,
      },
    ]);
  });

  await t.test('an old MySQL at a branch', async t => {
    const world = await createWorld(t);
    await world.startApplier();
    const branch = await world.addBranch('old');
    branch.configure({ source: { port: await listen(t, oldMysql('5.6.51')) } });
    const { stdout } = await branch.cli(['check', '--json']);
    const found = (JSON.parse(stdout) as { findings: Finding[] }).findings.filter(({ level }) => level !== 'ok');
    t.match(found, [{ subject: 'source', message: 'MySQL 5.6.51 is too old: 5.7 or later is needed.' }]);
    await branch.agent.start();
    await branch.agent.waitForLog(({ code }) => code === 'SOURCE_SETTING');
    t.match((await branch.cli(['status'])).stdout, 'MySQL 5.6.51 is too old', 'and run says the same');
  });

  await t.test('an old RabbitMQ', async t => {
    const world = await createWorld(t);
    await world.applier({ config: { broker: { management: `http://127.0.0.1:${await listen(t, oldRabbitmq())}` } } });
    t.match(await findings(world), [
      { subject: 'broker.management', message: 'RabbitMQ 3.8.9 is too old: 4.0 or later is needed.' },
    ]);
    const added = await world.applierCli(['branch', 'add', 'paris', '--out', join(world.directory, 'enrolment')]);
    t.match(added.stderr, 'RabbitMQ 3.8.9 is too old', '`branch add` says the same');
  });
});

/** Starts a server for a test. @returns its port */
async function listen(t: Test, server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  t.teardown(() => server.close());
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

/** The management API of an old RabbitMQ, as far as it is asked. */
function oldRabbitmq(): Server {
  return createHttpServer((_, response) => {
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ product_name: 'RabbitMQ', rabbitmq_version: '3.8.9' }));
  });
}
