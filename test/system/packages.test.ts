/**
 * The packages in booted Debian machines: a head office and a branch, installed and run by the commands of README, with
 * databases and broker outside of them. After everything that is done to the branch's machine, both sides are compared
 * row by row.
 */
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { stringify } from 'yaml';
import { buildPackages } from '../../deploy/packages/build.ts';
import { freePort } from '../../deploy/rig/free-port.ts';
import { Machine, whyNoMachine } from '../support/world/machine.ts';
import { numbers } from '../support/oracle/every-type.ts';
import { until } from '../support/until.ts';
import { createWorld } from '../support/world/world.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const AGENT = 'tributary-agent';
const APPLIER = 'tributary-applier';
const VERSIONS = ['0.1.0~test1', '0.1.0~test2'] as const;
/** The least that a spool may be. */
const SPOOL_MIB = 64;
const SECRET = 'a database password, seen nowhere';

t.setTimeout(20 * 60_000);
const reason = await whyNoMachine();

/** Each step is a test, and leaves the machines to the next. */
async function steps(t: Test): Promise<void> {
  const whole = t;
  const world = await createWorld(t);
  const branch = await world.prepareBranch('shop', {
    setup: [
      'CREATE TABLE sale (id INT PRIMARY KEY AUTO_INCREMENT, what VARCHAR(40), price DECIMAL(10,2))',
      `INSERT INTO sale (what, price) SELECT CONCAT('thing ', i), i / 7 FROM (${numbers(5000)}) n`,
      'CREATE TABLE picture (id INT PRIMARY KEY AUTO_INCREMENT, bytes VARBINARY(1024))',
    ],
  });
  const user = `pkg_${world.id}`;
  t.teardown(() => branch.db.query(`DROP USER IF EXISTS ${user}`).catch(() => undefined));
  await branch.db.query(`CREATE USER ${user} IDENTIFIED BY '${SECRET}'`);
  await branch.db.query(`GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO ${user}`);
  await branch.db.query(`GRANT SELECT ON ${branch.schema}.* TO ${user}`);

  const built = mkdtempSync(join(tmpdir(), 'tributary-packages-'));
  t.teardown(() => rmSync(built, { recursive: true, force: true }));
  const packages = new Map<string, string>();
  for (const version of VERSIONS) {
    for (const file of await buildPackages({ root: ROOT, output: built, version, quick: true })) {
      packages.set(`${basename(file).split('_')[0] ?? ''} ${version}`, file);
    }
  }
  /** Hands a package to the machine. @returns where it is there */
  const deliver = (machine: Machine, name: string, version: string): string => {
    const file = packages.get(`${name} ${version}`) ?? '';
    copyFileSync(file, join(machine.root, 'root', basename(file)));
    return `/root/${basename(file)}`;
  };
  const [older, newer] = VERSIONS;
  const install = (machine: Machine, name: string, version: string, ...options: string[]): Promise<string> =>
    machine.sh(`apt-get install -y ${options.join(' ')} ${deliver(machine, name, version)}`);

  const office = await Machine.boot('office');
  t.teardown(() => office.remove());
  const officePort = await freePort();

  await t.test('a head office: install, configure, check, start', async t => {
    await install(office, APPLIER, older);
    t.equal((await office.show(APPLIER, 'UnitFileState')).trim(), 'enabled');
    t.equal(await office.show(APPLIER, 'ActiveState'), 'inactive', 'nothing runs before it is configured');
    t.match(office.read('etc/tributary-applier/applier.yaml'), /^ *#passwordFile: target\.password$/m);
    const { headOffice, broker } = world;
    office.write(
      'etc/tributary-applier/applier.yaml',
      stringify({
        target: {
          host: headOffice.host,
          port: headOffice.port,
          user: headOffice.user,
          passwordFile: 'target.password',
          database: world.database,
        },
        broker: {
          url: `amqp://${broker.user}@${broker.host}:${broker.port}/${world.vhost}`,
          passwordFile: 'broker.password',
          management: `http://${broker.host}:${broker.managementPort}`,
        },
        http: { listen: `127.0.0.1:${officePort}` },
      }),
    );
    office.write('etc/tributary-applier/target.password', headOffice.password);
    office.write('etc/tributary-applier/broker.password', broker.password);
    await office.sh(`${APPLIER} check`);
    await office.sh(`systemctl start ${APPLIER}`);
    t.equal(await office.show(APPLIER, 'SubState'), 'running', 'start returns when it is ready');
    await office.sh(`${APPLIER} branch add ${branch.id} --out /root/${branch.id}.enrolment`);
  });

  // Between two tests nothing may be waited for: tap would take the file for ended.
  const port = await freePort();
  let shop = office;
  const pid = (): Promise<string> => shop.show(AGENT, 'MainPID');
  const active = async (): Promise<boolean> => (await shop.show(AGENT, 'ActiveState')) === 'active';
  const equal = async (what: string): Promise<void> => {
    await branch.db.query(`INSERT INTO sale (what, price) VALUES ('${what}', 1.5)`);
    const { rowsCompared } = await world.waitUntilEqual(branch);
    t.ok(rowsCompared > 5000, `equal after ${what}: ${rowsCompared} rows`);
  };
  interface Status {
    readonly version: string;
    readonly state: string;
    readonly stream: { readonly epoch: string; readonly head: number };
    readonly spool: { readonly waitingBatches: number };
  }
  const status = async (): Promise<Status> => JSON.parse(await shop.sh(`${AGENT} status --json`)) as Status;

  await t.test('README’s commands lead from a fresh Debian to a syncing branch', async t => {
    shop = await Machine.boot('shop');
    whole.teardown(() => shop.remove());
    await install(shop, AGENT, older);
    t.equal(await shop.show(AGENT, 'UnitFileState'), 'enabled');
    const early = await shop.try(`systemctl start ${AGENT}`);
    t.not(early.code, 0, 'it does not start before it is enrolled');
    copyFileSync(join(office.root, `root/${branch.id}.enrolment`), join(shop.root, `root/${branch.id}.enrolment`));
    await shop.sh(`${AGENT} enroll /root/${branch.id}.enrolment`);
    await shop.sh(`umask 077; echo '${SECRET}' > /etc/tributary-agent/source.password`);
    // What an ordinary branch has no need of: its database is at the default port, and so is its page.
    const configuration = '/etc/tributary-agent/agent.yaml';
    await shop.sh(
      `sed -i 's/^  user: .*/  user: ${user}/; s/^  port: .*/  port: ${branch.source.port}/; s/"\\*\\.\\*"/"${branch.schema}.*"/' ${configuration}`,
    );
    await shop.sh(
      `printf 'http: { listen: "127.0.0.1:${port}" }\\nspool: { maxBytes: ${SPOOL_MIB}MiB }\\n' >> ${configuration}`,
    );
    await shop.sh(`${AGENT} check`);
    await shop.sh(`systemctl start ${AGENT}`);
    t.notMatch(
      await shop.show(AGENT, 'StatusText'),
      /stopped|link down/,
      'what has just started is not called stopped',
    );
    t.equal(await shop.sh(`cat /proc/${await pid()}/comm`), AGENT, 'ps shows the program’s name');
    await world.waitUntilEqual(branch);
    t.pass('equal');
  });

  await t.test('no secret is to be seen, and the program is confined', async t => {
    t.equal(
      await shop.sh('stat -c "%a %U" /etc/tributary-agent/broker.password /etc/tributary-agent/source.password'),
      '600 root\n600 root',
    );
    t.equal(await shop.sh('stat -c "%a %U:%G" /etc/tributary-agent/agent.yaml'), `640 root:${AGENT}`);
    t.equal(await shop.sh(`stat -c "%a %U" /var/lib/${AGENT}`), `700 ${AGENT}`);
    // The passwords are read from a file: on a command line of the test itself they would be found.
    shop.write('root/secrets', `${SECRET}\n${shop.read('etc/tributary-agent/broker.password')}`);
    const places = [
      'cat /proc/[0-9]*/cmdline',
      'journalctl --no-pager',
      'cat /etc/tributary-agent/agent.yaml',
      `systemctl show ${AGENT}`,
      `cat $(find / -xdev -type f -perm -o+r -size -1000k -newer /etc/hostname)`,
      `${AGENT} status --json`,
    ];
    const found = await shop.try(`for place in ${places.map(place => `"${place.replaceAll('$', '\\$')}"`).join(' ')}; do
      eval "$place" 2>/dev/null | tr '\\0' '\\n' | grep -qaFf /root/secrets && echo "$place"; done`);
    t.equal(found.output, '', 'not in the process list, the journal, a file that all may read, or what systemd shows');
    t.equal(
      await shop.sh('grep -cFf /root/secrets /etc/tributary-agent/source.password'),
      '1',
      'and the search finds what is there',
    );
    const page = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
    t.notMatch(page, SECRET);
    t.equal(await shop.sh(`stat -c %U /proc/${await pid()}`), AGENT);
    const exposure = await shop.try(`systemd-analyze security --threshold=20 --no-pager ${AGENT}`);
    t.equal(exposure.code, 0, exposure.output.split('\n').slice(-2).join(' '));
    await shop.waitUntil('described', AGENT, async () =>
      (await shop.show(AGENT, 'StatusText')).startsWith('capturing'),
    );
  });

  await t.test('stopped and started', async t => {
    await shop.sh(`systemctl stop ${AGENT}`);
    t.equal(await shop.show(AGENT, 'Result'), 'success');
    await branch.db.query('UPDATE sale SET price = price + 1 WHERE id % 10 = 0');
    await shop.sh(`systemctl start ${AGENT}`);
    await equal('a stop');
  });

  await t.test('killed: it is back by itself', async t => {
    const before = await pid();
    await shop.sh(`kill -9 ${before}`);
    await shop.waitUntil('back', AGENT, async () => (await active()) && (await pid()) !== before);
    await equal('kill -9');
    t.end();
  });

  await t.test('frozen: the watchdog ends it and it is back', async t => {
    await shop.sh(`mkdir -p /run/systemd/system/${AGENT}.service.d`);
    shop.write('root/watchdog.conf', '[Service]\nWatchdogSec=6\n');
    await shop.sh(
      `cp /root/watchdog.conf /run/systemd/system/${AGENT}.service.d/; systemctl daemon-reload; systemctl restart ${AGENT}`,
    );
    const before = await pid();
    // Longer than the watchdog's time: pings keep it alive.
    await shop.sh('sleep 10');
    t.equal(await pid(), before, 'a service that is well is left alone');
    await shop.sh(`kill -STOP ${before}`);
    await shop.waitUntil('back', AGENT, async () => (await active()) && (await pid()) !== before);
    t.match(await shop.sh(`journalctl --no-pager -u ${AGENT}`), /[Ww]atchdog timeout/);
    await equal('the watchdog');
    await shop.sh(`rm -r /run/systemd/system/${AGENT}.service.d; systemctl daemon-reload; systemctl restart ${AGENT}`);
  });

  await t.test('wrong configuration: it ends with 2 and is not started again until it is mended', async t => {
    await shop.sh(
      'cp -p /etc/tributary-agent/agent.yaml /root/good.yaml; echo "nonsense: 1" >> /etc/tributary-agent/agent.yaml',
    );
    await shop.try(`systemctl restart ${AGENT}`);
    await shop.waitUntil('failed', AGENT, async () => (await shop.show(AGENT, 'ActiveState')) === 'failed');
    t.equal(await shop.show(AGENT, 'ExecMainStatus'), '2');
    const errors = await shop.sh(`journalctl -q -o cat -p err -u ${AGENT}`);
    t.match(errors, /CONFIG_INVALID|nonsense/, 'the journal has the fault as an error');
    t.notMatch(errors, /"level":"(info|warn)"/, 'and nothing less');
    await shop.sh(`cp -p /root/good.yaml /etc/tributary-agent/agent.yaml; systemctl start ${AGENT}`);
    await equal('a mended configuration');
  });

  await t.test('a second agent on the same machine, by the template', async t => {
    const second = await world.prepareBranch('second', {
      setup: ['CREATE TABLE item (id INT PRIMARY KEY)', 'INSERT INTO item VALUES (1), (2)'],
    });
    await branch.db.query(`GRANT SELECT ON ${second.schema}.* TO ${user}`);
    await office.sh(`${APPLIER} branch add ${second.id} --out /root/second.enrolment`);
    copyFileSync(join(office.root, 'root/second.enrolment'), join(shop.root, 'root/second.enrolment'));
    const folder = '/etc/tributary-agent/second';
    await shop.sh(`mkdir ${folder}; install -m 0640 -g ${AGENT} /usr/share/${AGENT}/agent.yaml ${folder}/agent.yaml`);
    await shop.sh(
      `${AGENT} enroll /root/second.enrolment --config ${folder}/agent.yaml; cp -p /etc/tributary-agent/source.password ${folder}/`,
    );
    await shop.sh(
      `sed -i 's/^  user: .*/  user: ${user}/; s/^  port: .*/  port: ${second.source.port}/; s/"\\*\\.\\*"/"${second.schema}.*"/' ${folder}/agent.yaml`,
    );
    await shop.sh(
      `printf 'http: { listen: "127.0.0.1:${await freePort()}" }\\nspool: { directory: /var/lib/${AGENT}-second }\\n' >> ${folder}/agent.yaml`,
    );
    await shop.sh(`${AGENT} check --config ${folder}/agent.yaml; systemctl enable --now ${AGENT}@second`);
    await world.waitUntilEqual(second);
    await shop.sh(`systemctl disable --now ${AGENT}@second`);
    t.ok((await status()).version, 'and the first one still answers on its socket');
  });

  await t.test('upgraded with a full spool, downgraded again: nothing is lost', async t => {
    const { stream } = await status();
    await office.sh(`systemctl stop ${APPLIER}`);
    const full = async (): Promise<boolean> => (await status()).state === 'full';
    const fill = async (): Promise<boolean> => {
      await branch.db.query(`INSERT INTO picture (bytes) SELECT RANDOM_BYTES(1000) FROM (${numbers(5000)}) n`);
      return full();
    };
    await until('a full spool', fill, { detail: async () => JSON.stringify(await status()) });
    for (const [version, options] of [
      [newer, []],
      [older, ['--allow-downgrades']],
      [newer, []],
    ] as const) {
      const before = await pid();
      await install(shop, AGENT, version, ...options);
      t.not(await pid(), before, `${version} runs`);
      await shop.waitUntil('running', AGENT, active);
      const after = await status();
      t.equal(after.version, version);
      t.equal(after.stream.epoch, stream.epoch, 'the stream goes on');
      t.ok(after.spool.waitingBatches > 100, `${after.spool.waitingBatches} batches wait`);
    }
    t.match(
      shop.read('etc/tributary-agent/agent.yaml'),
      `maxBytes: ${SPOOL_MIB}MiB`,
      'the configuration is the user’s',
    );
    await install(office, APPLIER, newer);
    await office.sh(`systemctl start ${APPLIER}`);
    await equal('upgrades');
    t.equal((await status()).stream.epoch, stream.epoch);
  });

  await t.test('rebooted: it is back by itself', async t => {
    await shop.reboot();
    await shop.waitUntil('running', AGENT, active);
    await equal('a reboot');
    t.end();
  });

  await t.test('removed and installed again: it goes on where it was', async t => {
    const { stream } = await status();
    await shop.sh(`apt-get remove -y ${AGENT}`);
    t.notOk(shop.has(`usr/lib/${AGENT}/node`));
    t.ok(
      shop.has('etc/tributary-agent/agent.yaml') && shop.has(`var/lib/${AGENT}/spool.db`),
      'configuration and spool stay',
    );
    await branch.db.query('DELETE FROM sale WHERE id % 50 = 0');
    await install(shop, AGENT, newer);
    await shop.waitUntil('running', AGENT, active);
    await equal('reinstallation');
    t.equal((await status()).stream.epoch, stream.epoch);
  });

  await t.test('purged: nothing of it stays', async t => {
    await shop.sh(`apt-get purge -y ${AGENT}`);
    for (const path of [`etc/${AGENT}`, `var/lib/${AGENT}-second`, `var/lib/${AGENT}`, `usr/lib/${AGENT}`])
      t.notOk(shop.has(path), path);
    t.not((await shop.try(`test -e /run/${AGENT}`)).code, 0);
    t.equal(await shop.sh(`systemctl list-units --all --no-legend '${AGENT}*'`), '');
  });
}

if (reason === null) await steps(t);
else void t.test('packages in a booted Debian', { skip: reason }, () => undefined);
