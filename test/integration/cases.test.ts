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
/** METADATA=least: all cases where the binlog says no more of columns than old servers do. Usually it is only some of them. */
const ONE_METADATA = process.env['METADATA'];
const LEAST = { mysql: 'MINIMAL', mariadb: 'NO_LOG' } as const;
const FOR_LEAST = ['generated', 'keys', 'mariadb-hidden-hash', 'rename-column', 'sequence', 'xa'];

/** For older servers: what depends most on the version that writes the binlog and the catalogue. */
const FOR_OLD_SERVERS = ['add-column', 'drop-column-and-back', 'json-types', 'keys', 'modify-charset', 'no-key', 'xa'];
const OLD = { mysql: 'mysql-5.7', mariadb: 'mariadb-10.5' } as const;

// Each has servers of its own, and waits more than it works.
t.jobs = 2;

const KINDS = (['mysql', 'mariadb'] as const).flatMap(flavor =>
  (['full', 'least'] as const).map(metadata => ({ flavor, metadata })),
);

for (const { flavor, metadata } of KINDS) {
  if ((ONE_FLAVOR ?? flavor) !== flavor || (ONE_METADATA ?? metadata) !== metadata) continue;
  const isLeast = metadata === 'least';
  const chosen = SOME_CASES ?? (isLeast && ONE_METADATA === undefined ? FOR_LEAST : null);
  const which = chosen === null ? `every case on ${flavor}` : `some cases on ${flavor}`;
  void t.test(isLeast ? `${which} without names of columns` : which, async t => {
    const options = { ...CASE_OPTIONS, ...(isLeast ? { 'binlog-row-metadata': LEAST[flavor] } : {}) };
    const source = await DatabaseServer.start({
      flavor,
      name: `cases-${flavor}-${metadata}`,
      role: 'branch',
      options,
    });
    t.teardown(() => source.remove());
    const world = await createWorld(t);
    await world.startApplier();
    const cases = loadCases(flavor).filter(({ name }) => chosen === null || chosen.includes(name));
    await runCases(t, world, source, cases);
  });
}

for (const flavor of ['mysql', 'mariadb'] as const) {
  if (SOME_CASES !== undefined || (ONE_METADATA ?? 'old') !== 'old' || (ONE_FLAVOR ?? flavor) !== flavor) continue;
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
