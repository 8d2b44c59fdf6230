/**
 * Two strangers with the guides: docs/head-office.md and docs/branch.md, step by step as they stand there, on Debian 12
 * and 13, with MySQL and with MariaDB at the branch. Each machine is alone with its loopback, so that every name, port
 * and path is the guide's own; a cable joins branch and head office. The end is the comparison of each row.
 *
 * What the strangers bring: the packages of Tributary in their folder; the answer yes to apt; a name server, for which
 * /etc/hosts stands; and the branch's database, which was there before Tributary. Not the real thing: MySQL, and on
 * Debian 12 RabbitMQ, come from the rig and not from their vendors' archives, which tests do not reach.
 */
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect as connectSocket, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { buildPackages } from '../../deploy/packages/build.ts';
import { freePort } from '../../deploy/rig/free-port.ts';
import { compareBranch, describeComparison } from '../../deploy/rig/oracle/compare.ts';
import type { CompareOptions, ServerAddress } from '../../deploy/rig/oracle/compare.ts';
import { run } from '../../deploy/rig/run.ts';
import { stepsOf } from '../support/documents/guides.ts';
import type { Step } from '../support/documents/guides.ts';
import { waitUntilEqual } from '../support/oracle/wait-until-equal.ts';
import { connect, Machine, whyNoMachine } from '../support/world/machine.ts';
import type { Release } from '../support/world/machine.ts';
import { folderOf, provide } from '../support/world/stand-in-packages.ts';
import type { StandIn } from '../support/world/stand-in-packages.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const DEBIANS: readonly { readonly title: string; readonly release: Release; readonly standIns: readonly StandIn[] }[] =
  [
    { title: 'Debian 12', release: 'bookworm', standIns: ['mysql-server', 'rabbitmq-server'] },
    { title: 'Debian 13', release: 'trixie', standIns: ['mysql-server'] },
  ];
const BRANCHES = [
  { flavor: 'mysql', name: 'paris', server: 'mysql-server', others: '/etc/mysql/mariadb.conf.d' },
  { flavor: 'mariadb', name: 'lyon', server: 'mariadb-server', others: '/etc/mysql/mysql.conf.d' },
] as const;

t.setTimeout(20 * 60_000);
const reason = await whyNoMachine(true);
const built = mkdtempSync(join(tmpdir(), 'tributary-packages-'));
t.teardown(() => rmSync(built, { recursive: true, force: true }));

/** A machine as the strangers have it. */
async function machineOf(t: Test, name: string, debian: (typeof DEBIANS)[number]): Promise<Machine> {
  const { release, standIns } = debian;
  const folders = await Promise.all(standIns.map(folderOf));
  const machine = await Machine.boot(name, { release, alone: true, folders });
  t.teardown(() => machine.remove());
  // This machine's way to Debian's archive.
  const { output } = await run('apt-config', ['dump', 'Acquire']);
  writeFileSync(join(machine.root, 'etc/apt/apt.conf.d/90stranger'), `${output}APT::Get::Assume-Yes "true";\n`);
  await provide(machine, standIns);
  await machine.sh('apt-get -qq update', true);
  return machine;
}

/** Does what the guide says. @param changed what it said, once it is done */
async function follow(
  t: Test,
  machine: Machine,
  steps: readonly Step[],
  changed: (text: string) => Promise<void> = () => Promise.resolve(),
): Promise<void> {
  for (const step of steps) {
    if (step.does === 'show') {
      t.comment(`shown in the guide, and not written anywhere: ${step.text.trim()}`);
    } else if (step.does === 'write') {
      await machine.sh(`cat > ${step.path} <<'END OF FILE'\n${step.text}END OF FILE`);
    } else {
      machine.write('root/step', step.text);
      // What is installed comes from Debian; all else happens in the machine and on its cables.
      const withInternet = step.text.startsWith('apt-get');
      const { code, output, errors } = await machine.try('cd /root; bash -eu -o pipefail step', withInternet);
      if (code !== 0) throw new Error(`the guide's step ended with ${code}:\n${step.text}\n${output}${errors}`);
      t.comment(`done: ${step.text.trim().replaceAll('\n', '; ')}`);
    }
    await changed(step.text);
  }
}

/**
 * The test's own way into a machine's database: a port here for its socket, and a user without a password. (The client
 * sees a port and the server a socket: they would not agree on how to send one.)
 */
async function door(t: Test, machine: Machine): Promise<ServerAddress> {
  await machine.sh(
    `mysql -e "CREATE USER 'oracle'@'localhost' IDENTIFIED BY ''; GRANT ALL ON *.* TO 'oracle'@'localhost'"`,
  );
  const server = createServer(client => {
    const database = connectSocket(`/proc/${machine.leader}/root/run/mysqld/mysqld.sock`);
    for (const [from, to] of [
      [client, database],
      [database, client],
    ] as const) {
      from.on('error', () => to.destroy());
      from.pipe(to);
    }
  });
  const port = await freePort();
  await new Promise<void>(done => server.listen(port, '127.0.0.1', done));
  t.teardown(() => server.close());
  return { host: '127.0.0.1', port, user: 'oracle', password: '' };
}

/** What systemd and ps say of a service that the guide has just started. */
async function looksStarted(t: Test, machine: Machine, unit: string): Promise<void> {
  const status = await machine.sh(`systemctl status --no-pager ${unit}`);
  // The kernel keeps 15 letters of a name; the command line has them all.
  t.match(status, new RegExp(`Main PID: \\d+ \\(${unit.slice(0, 15)}\\)`), 'the process has the program’s name');
  t.match(status, new RegExp(`─\\d+ "?${unit} run`));
  t.match(status, /^ +Status: "/m);
  t.notMatch(/^ +Status: "(.*)"/m.exec(status)?.[1] ?? '', /stopped|link down/, 'and is not called stopped');
}

async function installations(t: Test, debian: (typeof DEBIANS)[number]): Promise<void> {
  console.error(`${debian.title}: from the rig, and not from the vendors’ archives: ${debian.standIns.join(', ')}`);
  const office = await machineOf(t, 'office', debian);
  const [, applierPackage = ''] = await packages;
  copyFileSync(applierPackage, join(office.root, 'root', basename(applierPackage)));
  // For the name server that the guide wants to know the name.
  await office.sh('echo "127.0.0.1 hq.example.com" >> /etc/hosts');
  const steps = stepsOf('head-office.md');
  await t.test('the head office’s guide', async t => {
    await follow(t, office, steps, async text => {
      if (text.includes('enable --now')) await looksStarted(t, office, 'tributary-applier');
    });
    t.equal((await office.try('tributary-applier check')).code, 0);
    t.notMatch(await office.sh('tributary-applier check'), /warning|FAULT/, 'and nothing is left to do');
  });
  // What follows would only say again that there is no head office.
  if (!t.passing()) return;
  const headOffice = { ...(await door(t, office)), database: 'headoffice' };

  for (const [at, { flavor, name, server, others }] of BRANCHES.entries()) {
    await t.test(`the branch’s guide, with ${flavor}`, async t => {
      const renamed = (text: string): string => text.replaceAll('paris', name);
      if (at > 0) {
        const addition = steps.filter(step => step.text.includes('branch add'));
        await follow(
          t,
          office,
          addition.map(step => ({ ...step, text: renamed(step.text) })),
        );
      }
      const shop = await machineOf(t, name, debian);
      const [officeAddress, shopAddress] = [`10.77.${at}.1`, `10.77.${at}.2`];
      await connect([office, officeAddress], [shop, shopAddress]);
      await shop.sh(`echo "${officeAddress} hq.example.com" >> /etc/hosts`);
      const [agentPackage = ''] = await packages;
      copyFileSync(agentPackage, join(shop.root, 'root', basename(agentPackage)));
      await shop.sh(`apt-get install ${server}`, true);
      await shop.sh(
        "mysql -e \"CREATE DATABASE shop; CREATE TABLE shop.sale (id INT PRIMARY KEY AUTO_INCREMENT, item VARCHAR(20)); INSERT INTO shop.sale (item) VALUES ('before'), ('before')\"",
      );

      const branchSteps = stepsOf('branch.md')
        .filter(step => !(step.does === 'write' && step.path.startsWith(others)))
        .filter(step => !/^systemctl restart/.test(step.text) || step.text.includes(flavor))
        .map(step => ({ ...step, text: renamed(step.text) }));
      await follow(t, shop, branchSteps, async text => {
        // "Carry it by scp, and give it mode 0600."
        const enrolment = `etc/tributary-applier/${name}.enrolment`;
        if (text.includes('apt-get install ./tributary-agent'))
          shop.write(`etc/tributary-agent/${name}.enrolment`, office.read(enrolment));
        if (text.includes('enable --now')) await looksStarted(t, shop, 'tributary-agent');
      });

      const options: CompareOptions = { branch: await door(t, shop), headOffice, branchId: name, schemas: ['shop'] };
      const first = await compareBranch(options);
      t.ok(first.equal && first.rowsCompared === 2, `after sync --wait: ${describeComparison(first)}`);
      t.notMatch(await shop.sh('tributary-agent check'), /warning|FAULT/, 'and nothing is left to do');

      await t.test('the broker goes away and comes back: the journal has it as a warning', async t => {
        await office.sh('systemctl stop rabbitmq-server');
        await shop.sh('mysql -e "INSERT INTO shop.sale (item) VALUES (\'meanwhile\')"');
        for (const [machine, unit] of [
          [shop, 'tributary-agent'],
          [office, 'tributary-applier'],
        ] as const) {
          const warnings = (): Promise<string> => machine.sh(`journalctl -q -o cat -p warning -u ${unit}`);
          await machine.waitUntil('warned of', unit, async () => (await warnings()).includes('BROKER_UNREACHABLE'));
          t.notMatch(await warnings(), /"level":"info"/, 'and nothing else');
        }
        await office.sh('systemctl start rabbitmq-server');
        t.equal((await waitUntilEqual(options)).rowsCompared, 3);
      });
    });
  }
}

/** The agent's and the applier's. */
const packages =
  reason === null
    ? buildPackages({ root: ROOT, output: built, quick: true }).then(files => files.toSorted())
    : Promise.resolve([]);

for (const debian of DEBIANS) {
  if (reason === null) await t.test(debian.title, t => installations(t, debian));
  else void t.test(debian.title, { skip: reason }, () => undefined);
}
