/**
 * The packages for RPM: in an empty root, and in a booted machine, where the guides' commands lead to a syncing branch. An
 * upgrade restarts what runs, and what was removed and installed again goes on where it was.
 */
import { chownSync, copyFileSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import t from 'tap';
import { buildPackages } from '../../deploy/packages/build.ts';
import { findPrograms } from '../../deploy/rig/install/programs.ts';
import { run } from '../../deploy/rig/run.ts';
import { blocksOf } from '../support/documents/guides.ts';
import { Machine, whyNoMachine } from '../support/world/machine.ts';
import { createWorld } from '../support/world/world.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const AGENT = 'tributary-agent';
const APPLIER = 'tributary-applier';

t.setTimeout(20 * 60_000);
const reason = await whyNoMachine();
const built = mkdtempSync(join(tmpdir(), 'tributary-rpm-'));
t.teardown(() => rmSync(built, { recursive: true, force: true }));

await t.test(
  'both kinds of machine: rpm installs the packages into an empty root',
  { skip: reason ?? false },
  async t => {
    const options = { root: ROOT, format: 'rpm', quick: true } as const;
    const files = [
      ...(await buildPackages({ ...options, output: join(built, 'old'), architectures: ['amd64', 'arm64'] })),
      ...(await buildPackages({ ...options, output: join(built, 'new'), version: '0.1.0^new' })),
    ];
    t.equal(files.length, 6);
    const rpm = await findPrograms('rpm', line => t.comment(line));
    for (const arch of ['x86_64', 'aarch64']) {
      const root = join(built, arch);
      mkdirSync(root);
      const rpmHere = (...args: string[]) =>
        run(rpm.program('rpm'), ['--root', root, '--dbpath', '/var/lib/rpm', ...args], {
          ...(rpm.environment === undefined ? {} : { environment: rpm.environment }),
        });
      // Scripts need a shell and systemd in the root; the machine below has them.
      const packages = files.filter(file => file.includes(`/old/`) && file.endsWith(`.${arch}.rpm`));
      const how = ['--nodeps', '--noscripts', '--ignorearch'];
      const { status, errors } = await rpmHere('-i', ...how, ...packages);
      t.equal(status, 0, errors);
      const verified = await rpmHere('-V', '--nodeps', '--noscripts', AGENT, APPLIER);
      t.equal(verified.status, 0, `every file is there as it was packed: ${verified.output}${verified.errors}`);
    }
  },
);

await t.test('the guides’ commands with these packages make a syncing branch', { skip: reason ?? false }, async t => {
  const world = await createWorld(t);
  await world.applier();
  const branch = await world.prepareBranch('shop', {
    config: { spool: { directory: `/var/lib/${AGENT}` } },
    setup: ['CREATE TABLE sale (id INT PRIMARY KEY, what VARCHAR(20))', "INSERT INTO sale VALUES (1, 'before')"],
  });
  const machine = await Machine.boot('rpm');
  t.teardown(() => machine.remove());
  await machine.sh('apt-get install -y --no-install-recommends rpm');
  /** The guide's block, in the folder where the packages are. Debian's packages are not in RPM's database. */
  const install = async (guide: string, version: 'old' | 'new'): Promise<void> => {
    const command = blocksOf(guide).find(({ kind }) => kind === 'rpm')?.text ?? 'false';
    await machine.sh(`cd /root/${version} && ${command.replace('rpm -U', 'rpm -U --nodeps')}`);
  };
  for (const version of ['old', 'new']) {
    mkdirSync(join(machine.root, 'root', version));
    for (const name of [AGENT, APPLIER]) {
      const file = join(built, version, `${name}-0.1.0${version === 'new' ? '^new' : ''}-1.x86_64.rpm`);
      copyFileSync(file, join(machine.root, 'root', version, basename(file)));
    }
  }
  await install('head-office.md', 'old');
  await install('branch.md', 'old');
  t.equal(await machine.sh(`stat -c '%a %U:%G' /etc/${AGENT}/agent.yaml`), `640 root:${AGENT}`);
  t.match(machine.read(`etc/${AGENT}/agent.yaml`), /^ *#branch:/m, 'the example, which sets nothing');

  /** Puts a file of the world where the program of the machine looks for it. */
  const bring = (from: string, name: string): void => {
    const place = join(machine.root, 'etc', name, basename(from));
    copyFileSync(from, place);
    chownSync(place, 0, 0);
  };
  const officeFolder = join(world.directory, 'applier');
  for (const file of ['applier.yaml', 'target.password', 'broker.password']) bring(join(officeFolder, file), APPLIER);
  for (const file of ['agent.yaml', 'source.password']) bring(join(branch.folder, file), AGENT);
  await machine.sh(`chgrp ${APPLIER} /etc/${APPLIER}/applier.yaml; chmod 640 /etc/*/agent.yaml /etc/*/applier.yaml`);
  await machine.sh(`chgrp ${AGENT} /etc/${AGENT}/agent.yaml`);
  await machine.sh(`${APPLIER} check && systemctl enable --now ${APPLIER}`);
  await machine.sh(`${APPLIER} branch add ${branch.id} --out /root/paris.enrolment`);
  await machine.sh(`${AGENT} enroll /root/paris.enrolment && ${AGENT} check && systemctl enable --now ${AGENT}`);
  await world.waitUntilEqual(branch);
  await branch.db.query("INSERT INTO sale VALUES (2, 'after')");
  await machine.sh(`${AGENT} sync --wait`);
  t.equal((await world.compare(branch)).rowsCompared, 2);

  const pid = (): Promise<string> => machine.show(AGENT, 'MainPID');
  const before = await pid();
  await install('branch.md', 'new');
  t.not(await pid(), before, 'an upgrade restarts it');
  await machine.waitUntil('running', AGENT, async () => (await machine.show(AGENT, 'ActiveState')) === 'active');
  t.match(await machine.sh(`${AGENT} --version`), '0.1.0^new');
  const epoch = async (): Promise<unknown> =>
    (JSON.parse(await machine.sh(`${AGENT} status --json`)) as { stream: { epoch: string } }).stream.epoch;
  const stream = await epoch();

  await machine.sh(`rpm -e ${AGENT}`);
  t.notOk(machine.has(`usr/lib/${AGENT}`));
  t.equal((await machine.try(`systemctl is-active ${AGENT}`)).code === 0, false, 'it was stopped');
  t.ok(machine.has(`etc/${AGENT}/agent.yaml`) && machine.has(`var/lib/${AGENT}/spool.db`), 'its files stay');
  await branch.db.query("INSERT INTO sale VALUES (3, 'while it was removed')");
  await install('branch.md', 'new');
  await machine.sh(`systemctl enable --now ${AGENT}`);
  t.equal((await world.waitUntilEqual(branch)).rowsCompared, 3);
  t.equal(await epoch(), stream, 'the stream goes on');
});
