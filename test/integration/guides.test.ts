/** The guides' own commands and files, block by block in their order, lead to a head office and a branch that are equal. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { parse, stringify } from 'yaml';
import { findPrograms } from '../../deploy/rig/install/programs.ts';
import type { Product } from '../../deploy/rig/daemon.ts';
import type { DatabaseAddress } from '../../deploy/rig/shared-servers.ts';
import { blocksOf, GuideShell, RABBITMQCTL } from '../support/documents/guides.ts';
import { createWorld } from '../support/world/world.ts';
import type { World } from '../support/world/world.ts';

const ROOT = resolve(import.meta.dirname, '../..');

await t.test('a head office and a branch are set up by the guides’ commands alone', async t => {
  const world = await createWorld(t);
  const mysql = (await findPrograms('mysql')).program('mysql');
  const client = (server: DatabaseAddress): string =>
    `env MYSQL_PWD='${server.password}' '${mysql}' --no-defaults --host=${server.host} --port=${server.port} --user=${server.user}`;
  const user = `guide_${world.id}`;
  const brokerUser = `applier-${world.id}`;
  t.teardown(() => world.managementApi('DELETE', `/users/${brokerUser}`).catch(() => undefined));

  // The head office.
  const applier = await world.applier({ name: 'applier' });
  const office = join(world.directory, 'applier');
  writeFileSync(join(office, 'rabbitmqctl.mjs'), RABBITMQCTL);
  const { host, port, managementPort, user: admin, password } = world.broker;
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
      ['amqps://applier@hq.example.com:5671/tributary', `amqp://${brokerUser}@${host}:${port}/${world.vhost}`],
      ['https://hq.example.com:15671', `http://${host}:${managementPort}`],
      // The world's broker speaks no TLS.
      ['  tls: { ca: ca.pem }\n', ''],
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
    'systemctl enable --now tributary-applier',
  ]);

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
});

/** Runs a guide from its first block to its last; starts the program where the guide has systemd do it. */
async function follow(t: Test, guide: string, shell: GuideShell, product: Product, world: World): Promise<void> {
  for (const block of blocksOf(guide)) {
    // Of the servers' own configuration; the world's servers have theirs.
    if (block.language === 'ini') continue;
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
