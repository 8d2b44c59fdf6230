/**
 * Every statement and every schema change, a folder a case (test/cases), on the newest MySQL and MariaDB; some of them on
 * older ones (all of them on all versions: `make test-servers`).
 */
import t from 'tap';
import { DatabaseServer } from '../../deploy/rig/database-server.ts';
import { whyNoJars } from '../../deploy/rig/install/jar.ts';
import { loadCases } from '../support/world/cases.ts';
import { CASE_OPTIONS, runCases, understoodCases } from '../support/world/run-cases.ts';
import { createWorld } from '../support/world/world.ts';

/** To look at some cases (a,b) or one server while working on them. */
const SOME_CASES = process.env['CASE']?.split(',');
const ONE_FLAVOR = process.env['FLAVOR'];

/** For older servers: what depends most on the version that writes the binlog and the catalogue. */
const FOR_OLD_SERVERS = ['add-column', 'drop-column-and-back', 'json-types', 'keys', 'modify-charset', 'no-key', 'xa'];
const OLD = { mysql: 'mysql-8.0.15', mariadb: 'mariadb-10.5' } as const;

// Each has servers of its own, and waits more than it works.
t.jobs = 2;

for (const flavor of ['mysql', 'mariadb'] as const) {
  if (ONE_FLAVOR !== undefined && ONE_FLAVOR !== flavor) continue;
  void t.test(`every case on ${flavor}`, async t => {
    const source = await DatabaseServer.start({
      flavor,
      name: `cases-${flavor}`,
      role: 'branch',
      options: CASE_OPTIONS,
    });
    t.teardown(() => source.remove());
    const world = await createWorld(t);
    await world.startApplier();
    const cases = loadCases(flavor).filter(({ name }) => SOME_CASES === undefined || SOME_CASES.includes(name));
    await runCases(t, world, source, cases);
  });
}

for (const flavor of ['mysql', 'mariadb'] as const) {
  if (SOME_CASES !== undefined || (ONE_FLAVOR !== undefined && ONE_FLAVOR !== flavor)) continue;
  const release = OLD[flavor];
  const skip = (flavor === 'mysql' && (await whyNoJars())) || false;
  void t.test(`some cases on ${release}`, { skip }, async t => {
    const options = { flavor, release, name: release, role: 'branch', options: CASE_OPTIONS } as const;
    const source = await DatabaseServer.start(options, line => t.comment(line));
    t.teardown(() => source.remove());
    const world = await createWorld(t);
    await world.startApplier();
    const cases = loadCases(flavor).filter(({ name }) => FOR_OLD_SERVERS.includes(name));
    await runCases(t, world, source, await understoodCases(t, source, cases));
  });
}
