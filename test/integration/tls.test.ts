/**
 * Every link over TLS with certificates made here: agent and applier to RabbitMQ, the applier to its management API, the
 * agent to the branch's MySQL, the applier to the head office's. What a server shows that is wrong is refused with its
 * cure, and nothing is lost over it.
 *
 * MySQL itself shows the wrong certificates, changed while it runs. RabbitMQ shows the right one; the wrong ones stand
 * at doors in its place, since a handshake that is refused never reaches what is behind it.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:tls';
import mysql from 'mysql2/promise';
import t from 'tap';
import type { Test } from 'tap';
import { BrokerServer } from '../../deploy/rig/broker-server.ts';
import { DatabaseServer } from '../../deploy/rig/database-server.ts';
import { freePort } from '../../deploy/rig/free-port.ts';
import { TestAuthority } from '../support/world/certificates.ts';
import type { Certificate } from '../support/world/certificates.ts';
import { createWorld } from '../support/world/world.ts';
import type { Branch, World } from '../support/world/world.ts';

/** A name, because TLS verifies one. */
const HOST = 'localhost';

interface Finding {
  readonly level: string;
  readonly subject: string;
  readonly code?: string;
  readonly hint?: string;
}

const folder = t.testdir({});
const authority = await TestAuthority.create(folder, 'ours');
const foreign = await TestAuthority.create(folder, 'foreign');
const [right, wrongName, expired, unknown] = await Promise.all([
  authority.issue('right', HOST),
  authority.issue('wrong', 'elsewhere.example'),
  authority.issue('expired', HOST, { expired: true }),
  foreign.issue('unknown', HOST),
]);
const amqpsPort = await freePort();
const httpsPort = await freePort();
const files = (prefix: string) => ({
  [`${prefix}.cacertfile`]: authority.ca,
  [`${prefix}.certfile`]: right.cert,
  [`${prefix}.keyfile`]: right.key,
});
const [server, broker] = await Promise.all([
  // One server for both ends: what it shows concerns the agent and the applier at once.
  DatabaseServer.start({ flavor: 'mysql', name: 'tls', role: 'branch', options: { 'local-infile': 'ON' } }),
  BrokerServer.start({
    name: 'tls',
    config: {
      'listeners.ssl.1': `127.0.0.1:${amqpsPort}`,
      ...files('ssl_options'),
      'management.ssl.ip': '127.0.0.1',
      'management.ssl.port': String(httpsPort),
      ...files('management.ssl'),
    },
  }),
]);
t.teardown(() => Promise.all([server.remove(), broker.remove()]));

await t.test('with the right certificates everything arrives; wrong ones are refused with their cure', async t => {
  await show(right);
  await sql("CREATE USER 'secured'@'%' IDENTIFIED BY ? REQUIRE SSL", [server.password]);
  await sql("GRANT ALL ON *.* TO 'secured'@'%'");
  const world = await createWorld(t, { broker, headOffice: server });
  const database = { host: HOST, user: 'secured', tls: { ca: authority.ca } };
  const url = (port: number): string => `amqps://${broker.user}@${HOST}:${port}/${world.vhost}`;
  const management = (port: number): string => `https://${HOST}:${port}`;
  const applier = await world.startApplier({
    config: {
      target: database,
      broker: { url: url(amqpsPort), management: management(httpsPort), tls: { ca: authority.ca } },
    },
  });
  const branch = await world.addBranch('secure', {
    source: server,
    config: { source: database },
    setup: ['CREATE TABLE sale (id INT PRIMARY KEY)', 'INSERT INTO sale VALUES (1)'],
  });
  await branch.startAgent();
  await world.waitUntilEqual(branch);
  // The broker's account of its connections is some seconds old.
  await branch.agent.waitUntil('encrypted connections to the broker', async () => {
    const connections = (await world.managementApi('GET', '/connections')) as { ssl?: boolean }[];
    return connections.length >= 3 && connections.every(({ ssl }) => ssl === true);
  });
  t.same(await faultsOf(world, branch), []);

  const written = [applier, branch.agent].map(
    ({ configFile }) => [configFile, readFileSync(configFile, 'utf8')] as const,
  );
  const point = (amqps: number, https: number): void => {
    for (const [file, text] of written) {
      const there = text
        .replace(`${HOST}:${amqpsPort}/`, `${HOST}:${amqps}/`)
        .replace(management(httpsPort), management(https));
      writeFileSync(file, there, { mode: 0o600 });
    }
  };

  const cases = [
    { name: 'a certificate for another name', shown: wrongName, hint: /another name/ },
    { name: 'an expired certificate', shown: expired, hint: /has expired: renew it/ },
    { name: 'a certificate of an unknown authority', shown: unknown, hint: /Set (source|target|broker)\.tls\.ca/ },
  ];
  for (const { name, shown, hint } of cases) {
    await t.test(`${name} is refused at every link`, async t => {
      await show(shown);
      const door = await wrongDoor(t, shown);
      point(door, door);
      const faults = await faultsOf(world, branch);
      t.same(
        faults.map(({ subject, code }) => [subject, code]),
        [
          ['source', 'SOURCE_UNREACHABLE'],
          ['broker', 'BROKER_UNREACHABLE'],
          ['target', 'TARGET_UNREACHABLE'],
          ['broker', 'BROKER_UNREACHABLE'],
          ['broker.management', 'BROKER_UNREACHABLE'],
        ],
      );
      for (const fault of faults) t.match(fault.hint, hint, fault.subject);
    });
  }

  await t.test('servers without TLS are refused at every link', async t => {
    // With an authority that cannot be read it turns TLS off.
    await sql("SET GLOBAL ssl_ca = ''");
    await sql('ALTER INSTANCE RELOAD TLS NO ROLLBACK ON ERROR');
    point(broker.port, broker.managementPort);
    const faults = await faultsOf(world, branch);
    t.match(faults, [
      { subject: 'source', code: 'SOURCE_SETTING', hint: /Turn TLS on at the server/ },
      { subject: 'broker', code: 'BROKER_UNREACHABLE', hint: /does not speak TLS/ },
      { subject: 'target', code: 'TARGET_SETTING', hint: /Turn TLS on at the server/ },
      { subject: 'broker', code: 'BROKER_UNREACHABLE', hint: /does not speak TLS/ },
      { subject: 'broker.management', code: 'BROKER_UNREACHABLE', hint: /does not speak TLS/ },
    ]);
    t.equal(faults.length, 5);
  });

  await t.test('daemons that meet a certificate that has expired go on when it is renewed', async t => {
    point(amqpsPort, httpsPort);
    await show(expired);
    await cutConnections();
    await branch.db
      .query('INSERT INTO sale VALUES (2)')
      .catch(() => sql(`INSERT INTO ${branch.schema}.sale VALUES (2)`));
    for (const [product, code] of [
      [branch.agent, 'SOURCE_UNREACHABLE'],
      [applier, 'TARGET_UNREACHABLE'],
    ] as const) {
      await product.waitForLog(
        line => JSON.stringify(line).includes(code) && JSON.stringify(line).includes('has expired'),
      );
    }
    await show(right);
    await sql(`INSERT INTO ${branch.schema}.sale VALUES (3)`);
    t.equal((await world.waitUntilEqual(branch)).rowsCompared, 3);
  });
});

/** The faults that both programs find, the agent's first. */
async function faultsOf(world: World, branch: Branch): Promise<Finding[]> {
  const results = await Promise.all([branch.cli(['check', '--json']), world.applierCli(['check', '--json'])]);
  return results.flatMap(({ stdout }) =>
    (JSON.parse(stdout) as { findings: Finding[] }).findings.filter(({ level }) => level === 'fault'),
  );
}

/** From the next connection on MySQL shows this certificate. */
async function show({ cert, key }: Certificate): Promise<void> {
  await sql(`SET GLOBAL ssl_cert = ?, GLOBAL ssl_key = ?, GLOBAL ssl_ca = ?`, [cert, key, authority.ca]);
  // It would rather go on with the old one than show one that has expired.
  await sql('ALTER INSTANCE RELOAD TLS NO ROLLBACK ON ERROR');
}

async function cutConnections(): Promise<void> {
  const rows = await sql("SELECT ID AS id FROM information_schema.PROCESSLIST WHERE USER = 'secured'");
  for (const { id } of rows as { id: number }[]) await sql(`KILL ${id}`).catch(() => undefined);
}

/** As root without TLS, on a connection of its own. */
async function sql(statement: string, values: readonly string[] = []): Promise<unknown> {
  const { host, port, user, password } = server;
  const connection = await mysql.createConnection({ host, port, user, password });
  try {
    const [result] = await connection.query(statement, [...values]);
    return result;
  } finally {
    connection.destroy();
  }
}

/** A port at which a certificate is shown and nothing else happens. */
async function wrongDoor(t: Test, { cert, key }: Certificate): Promise<number> {
  const door = createServer({ cert: readFileSync(cert), key: readFileSync(key) }, socket => socket.destroy());
  door.on('tlsClientError', () => undefined);
  await new Promise<void>(resolve => door.listen(0, '127.0.0.1', resolve));
  t.teardown(() => door.close());
  return (door.address() as AddressInfo).port;
}
