/** The guides' own commands and files, block by block in their order, lead to a head office and a branch that are equal. */
import { copyFileSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { parse, stringify } from 'yaml';
import { BrokerServer } from '../../deploy/rig/broker-server.ts';
import { DatabaseServer } from '../../deploy/rig/database-server.ts';
import { freePort } from '../../deploy/rig/free-port.ts';
import { findPrograms } from '../../deploy/rig/install/programs.ts';
import type { Product } from '../../deploy/rig/daemon.ts';
import type { DatabaseAddress } from '../../deploy/rig/shared-servers.ts';
import { blocksOf, GuideShell, RABBITMQCTL, settingsOf } from '../support/documents/guides.ts';
import type { Block } from '../support/documents/guides.ts';
import { createWorld } from '../support/world/world.ts';
import type { World } from '../support/world/world.ts';

const ROOT = resolve(import.meta.dirname, '../..');
/** In place of the guide's name for RabbitMQ: it is the name that this machine has for itself. */
const HOST = 'localhost';

await t.test('a head office and a branch are set up by the guides’ commands alone', async t => {
  const { certificates, broker, ports } = await brokerOfTheGuide(t);
  const world = await createWorld(t, { broker });
  const mysql = (await findPrograms('mysql')).program('mysql');
  const client = (server: DatabaseAddress): string =>
    `env MYSQL_PWD='${server.password}' '${mysql}' --no-defaults --host=${server.host} --port=${server.port} --user=${server.user}`;
  const user = `guide_${world.id}`;
  const brokerUser = `applier-${world.id}`;
  await world.managementApi('PUT', '/users/guest', { password: 'guest', tags: 'administrator' });

  // The head office.
  const applier = await world.applier({ name: 'applier' });
  const office = join(world.directory, 'applier');
  copyFileSync(join(certificates, 'ca.pem'), join(office, 'ca.pem'));
  writeFileSync(join(office, 'rabbitmqctl.mjs'), RABBITMQCTL);
  const { host, managementPort, user: admin, password } = world.broker;
  const headOffice = new GuideShell({
    folder: office,
    names: [
      ['/etc/tributary-applier', office],
      ['headoffice', world.database],
      ["'tributary'@", `'${user}'@`],
      ['user: tributary', `user: ${user}`],
      ['add_vhost tributary', `add_vhost ${world.vhost}`],
      ['-p tributary applier', `-p ${world.vhost} ${brokerUser}`],
      ['add_user applier', `add_user ${brokerUser}`],
      ['set_user_tags applier', `set_user_tags ${brokerUser}`],
      ['amqps://applier@hq.example.com:5671/tributary', `amqps://${brokerUser}@${HOST}:${ports.amqps}/${world.vhost}`],
      ['https://hq.example.com:15671', `https://${HOST}:${ports.https}`],
      ['host: 127.0.0.1', `host: ${world.headOffice.host}, port: ${world.headOffice.port}`],
      [' paris', ` paris-${world.id}`],
    ],
    programs: {
      'tributary-applier': program('applier', applier),
      mysql: client(world.headOffice),
      rabbitmqctl: `'${process.execPath}' '${office}/rabbitmqctl.mjs' http://${host}:${managementPort} '${admin}:${password}'`,
    },
    environment: world.environment,
  });
  await follow(t, 'head-office.md', headOffice, applier, world);
  t.match(headOffice.notes, [
    /^apt-get install .*tributary-applier/,
    /^rabbitmq-plugins enable/,
    'systemctl restart rabbitmq-server',
    'systemctl enable --now tributary-applier',
  ]);
  t.notMatch(
    (await world.applierCli(['check'])).stdout,
    /warning|FAULT/,
    'the guide leaves nothing that check would name',
  );

  // The branch.
  const branch = await world.prepareBranch('paris', {
    setup: ['CREATE TABLE sale (id INT PRIMARY KEY, item VARCHAR(20))', "INSERT INTO sale VALUES (1, 'before')"],
  });
  const shell = new GuideShell({
    folder: branch.folder,
    names: [
      ['/etc/tributary-agent/paris.enrolment', join(office, 'paris.enrolment')],
      ['/etc/tributary-agent', branch.folder],
      ["'tributary'@", `'${user}'@`],
      ['user: tributary', `user: ${user}`],
      ['shop.*', `${branch.schema}.*`],
      ['host: 127.0.0.1', `host: ${branch.source.host}, port: ${branch.source.port}`],
      ['branch: paris', `branch: ${branch.id}`],
    ],
    programs: { 'tributary-agent': program('agent', branch.agent), mysql: client(branch.source) },
    environment: world.environment,
  });
  t.teardown(() => shell.run({ language: 'sh', text: `mysql --execute "DROP USER IF EXISTS '${user}'@'%'"` }));
  t.teardown(() => headOffice.run({ language: 'sh', text: `mysql --execute "DROP USER IF EXISTS '${user}'@'%'"` }));
  await follow(t, 'branch.md', shell, branch.agent, world);
  t.match(shell.notes, [/^apt-get install .*tributary-agent/, 'systemctl enable --now tributary-agent']);

  t.equal((await world.compare(branch)).rowsCompared, 1, 'sync --wait has brought the row');
  t.ok((await world.compare(branch)).equal);
  const connections = (await world.managementApi('GET', '/connections')) as { ssl?: boolean }[];
  t.ok(connections.length > 0 && connections.every(({ ssl }) => ssl === true), 'all over TLS');
});

// Each has a server of its own, and waits more than it works.
t.jobs = 2;

for (const flavor of ['mysql', 'mariadb'] as const) {
  void t.test(
    `the file that the branch’s guide gives for ${flavor} starts that server, and check asks for no more`,
    async t => {
      const block = blocksOf('branch.md').find(
        ({ language, text }) => language === 'ini' && text.startsWith(flavor === 'mysql' ? '[mysqld]' : '[mariadb]'),
      );
      if (block === undefined) throw new Error(`the guide has no block for ${flavor}`);
      // A head office's server is given nothing of what the guide names.
      const server = await DatabaseServer.start({
        flavor,
        name: 'by-the-guide',
        role: 'head-office',
        options: settingsOf(block),
      });
      t.teardown(() => server.remove());
      const world = await createWorld(t);
      await world.startApplier();
      const branch = await world.addBranch('guide', {
        source: server,
        setup: ['CREATE TABLE sale (id INT PRIMARY KEY)', 'INSERT INTO sale VALUES (1)'],
      });
      const { stdout } = await branch.cli(['check']);
      t.notMatch(stdout, /warning|FAULT/, stdout);
      await branch.startAgent();
      t.equal((await world.waitUntilEqual(branch)).rowsCompared, 1);
    },
  );
}

/** Makes the guide's certificates by its own commands, and starts RabbitMQ with them and with its own settings. */
async function brokerOfTheGuide(t: Test) {
  const certificates = t.testdir({});
  const shell = new GuideShell({
    folder: certificates,
    names: [
      ['/root/tributary-ca', join(certificates, 'authority')],
      ['/etc/tributary-applier', certificates],
      ['/etc/rabbitmq', certificates],
      ['hq.example.com', HOST],
      // The user that RabbitMQ's package brings.
      ['-g rabbitmq ', ''],
    ],
    programs: {},
  });
  const blocks = blocksOf('head-office.md');
  for (const block of blocks.filter(makesCertificates)) {
    const { status, errors } = await shell.run(block);
    t.equal(status, 0, errors);
  }
  t.equal(statSync(join(certificates, 'ca.pem')).mode & 0o777, 0o644, 'every program may read the authority');
  t.equal(statSync(join(certificates, 'authority/ca.key')).mode & 0o077, 0, 'nobody else may read its key');
  const ports = { amqps: await freePort(), https: await freePort() };
  const block = blocks.find(({ language }) => language === 'ini');
  if (block === undefined) throw new Error('the guide has no rabbitmq.conf');
  const settings = settingsOf({ ...block, text: shell.renamed(block.text) });
  // The test's own way in, and what a laptop's disk may not have.
  for (const own of ['listeners.tcp', 'disk_free_limit.absolute']) Reflect.deleteProperty(settings, own);
  const broker = await BrokerServer.start({
    name: 'by-the-guide',
    config: { ...settings, 'listeners.ssl.default': String(ports.amqps), 'management.ssl.port': String(ports.https) },
  });
  t.teardown(() => broker.remove());
  return { certificates, broker, ports };
}

function makesCertificates({ text }: Block): boolean {
  return text.includes('openssl req');
}

/** Runs a guide from its first block to its last; starts the program where the guide has systemd do it. */
async function follow(t: Test, guide: string, shell: GuideShell, product: Product, world: World): Promise<void> {
  for (const block of blocksOf(guide)) {
    // Of the servers' own configuration; the world's servers have theirs. Other packages have tests of their own.
    if (block.language === 'ini' || block.kind !== undefined || makesCertificates(block)) continue;
    if (block.language === 'yaml') {
      const written = parse(shell.renamed(block.text)) as object;
      // The page's address is the world's.
      if (Object.keys(written).some(key => key !== 'http')) writeConfiguration(product, written, world);
      continue;
    }
    const { status, output, errors } = await shell.run(block);
    t.equal(status, 0, `${guide}:\n${block.text}${output}${errors}`);
    if (!block.text.includes('systemctl enable --now')) continue;
    await product.start();
    await product.waitReady();
  }
}

/** The guide's file, with the addresses and folders of the world, which keep it apart from others. */
function writeConfiguration(product: Product, guide: object, world: World): void {
  const { http, log, spool } = parse(readFileSync(product.configFile, 'utf8')) as Record<string, unknown>;
  t.comment(`the configuration of ${product.program} in ${world.directory}`);
  writeFileSync(product.configFile, stringify({ ...guide, http, log, ...(spool === undefined ? {} : { spool }) }), {
    mode: 0o600,
  });
}

/** A program with the world's configuration as if it lay in /etc. */
function program(name: 'agent' | 'applier', product: Product): string {
  const main = join(ROOT, name, 'main.ts');
  // The option goes behind the command's words: it is each command's own.
  return `bash -c 'exec "${process.execPath}" "${main}" "$@" --config "${product.configFile}"' --`;
}
