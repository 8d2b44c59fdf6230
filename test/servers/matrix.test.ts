/**
 * Every version of every server that is to be had, in each role: it works, ending in a comparison of every row, or it is
 * refused with a sentence that names the version that is needed. Writes what it found to test/servers/matrix.json, which
 * `make docs` prints as a table.
 *
 * SERVER=mysql-8.0.15,rabbitmq-3.10 tries only these, and leaves the other lines of the file as they are.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { BrokerServer } from '../../deploy/rig/broker-server.ts';
import { DatabaseServer } from '../../deploy/rig/database-server.ts';
import type { DatabaseServerOptions } from '../../deploy/rig/database-server.ts';
import { whyNoJars } from '../../deploy/rig/install/jar.ts';
import {
  BUNDLES,
  MARIADB_RELEASES,
  MYSQL_RELEASES,
  RABBITMQ_RELEASES,
  isRelease,
} from '../../deploy/rig/install/releases.ts';
import type { BrokerRelease, DatabaseRelease } from '../../deploy/rig/install/releases.ts';
import { loadCases } from '../support/world/cases.ts';
import { CASE_OPTIONS, runCases, understoodCases } from '../support/world/run-cases.ts';
import { createWorld } from '../support/world/world.ts';
import type { Branch, World, WorldOptions } from '../support/world/world.ts';

const FILE = join(import.meta.dirname, 'matrix.json');
const ONLY = process.env['SERVER']?.split(',');
const SOME_CASES = process.env['CASE']?.split(',');
const REFUSED = / is too old: [\d.]+ or later is needed\.|is not supported as .* or later is needed\.$/;

type Role = 'branch database' | 'head-office database' | 'broker';

interface Line {
  readonly role: Role;
  readonly server: string;
  /** `works`, or the sentence with which it is refused. */
  readonly result: string;
  /** How many of the cases its SQL has, of how many there are; null: not tried with the cases. */
  readonly cases: readonly [of: number, all: number] | null;
}

/** As other runs have left them, too. */
function readLines(): Map<string, Line> {
  return new Map((JSON.parse(readFileSync(FILE, 'utf8')) as Line[]).map(line => [keyOf(line), line]));
}

function keyOf({ role, server }: Pick<Line, 'role' | 'server'>): string {
  return `${role} ${server}`;
}

function note(t: Test, line: Line): void {
  const lines = readLines().set(keyOf(line), line);
  t.comment(
    `${line.role}: ${line.server}: ${line.result}${line.cases === null ? '' : ` (${line.cases.join(' of ')} cases)`}`,
  );
  const sorted = [...lines.values()].sort((a, b) => collator.compare(keyOf(a), keyOf(b)));
  writeFileSync(FILE, `${JSON.stringify(sorted, null, 2)}\n`);
}

const collator = new Intl.Collator('en', { numeric: true });

/** `MySQL 8.0.31` from `8.0.31-debug`, `MariaDB 10.5.29` from `10.5.29-MariaDB-log`. */
function nameOf(product: string, version: string): string {
  return `${product} ${/^[\d.]+/.exec(version)?.[0] ?? version}`;
}

/** A test for a server, unless others are asked for or it is not to be had here. */
async function trial(role: Role, bundle: keyof typeof BUNDLES, work: (t: Test) => Promise<void>): Promise<void> {
  if (ONLY !== undefined && !ONLY.includes(bundle)) return;
  const skip = (BUNDLES[bundle].jar !== undefined && (await whyNoJars())) || false;
  await t.test(`${role}: ${bundle}`, { skip }, work);
}

async function startDatabase(
  t: Test,
  bundle: DatabaseRelease | 'mysql' | 'mariadb',
  more: Omit<DatabaseServerOptions, 'flavor' | 'name' | 'release'>,
) {
  const flavor = bundle.startsWith('mysql') ? 'mysql' : 'mariadb';
  const release = isRelease(bundle) ? { release: bundle } : {};
  const server = await DatabaseServer.start({ flavor, name: bundle, ...release, ...more }, line => t.comment(line));
  t.teardown(() => server.remove());
  return { server, name: nameOf(flavor === 'mysql' ? 'MySQL' : 'MariaDB', server.version) };
}

/** What a program's `check` says about the server if it is refused; null: it is not. */
async function refusal(run: () => Promise<{ readonly stdout: string }>, subject: string): Promise<string | null> {
  const { findings } = JSON.parse((await run()).stdout) as {
    findings: { subject: string; level: string; message: string }[];
  };
  const found = findings.find(finding => finding.subject === subject && finding.level === 'fault');
  return found === undefined || !REFUSED.test(found.message) ? null : found.message;
}

for (const bundle of [...MYSQL_RELEASES, 'mysql', ...MARIADB_RELEASES, 'mariadb'] as const) {
  await trial('branch database', bundle, async t => {
    const { server, name } = await startDatabase(t, bundle, { role: 'branch', options: CASE_OPTIONS });
    const world = await createWorld(t);
    await world.startApplier();
    const first = await world.addBranch('first', { source: server, setup: ['CREATE TABLE a (id INT PRIMARY KEY)'] });
    const refused = await refusal(() => first.cli(['check', '--json']), 'source');
    if (refused !== null) {
      t.match(refused, REFUSED);
      note(t, { role: 'branch database', server: name, result: refused, cases: null });
      return;
    }
    const all = loadCases(server.flavor).filter(({ name }) => SOME_CASES === undefined || SOME_CASES.includes(name));
    const cases = isRelease(bundle) ? await understoodCases(t, server, all) : all;
    await runCases(t, world, server, cases, branch => verified(t, world, branch));
    if (SOME_CASES === undefined && t.passing()) {
      note(t, { role: 'branch database', server: name, result: 'works', cases: [cases.length, all.length] });
    }
  });
}

/** `branch verify` says that a branch is equal. */
async function verified(t: Test, world: World, branch: Branch): Promise<void> {
  // A table of an engine without transactions cannot be compared (exit code 1), others are.
  const { stdout, stderr } = await world.applierCli(['branch', 'verify', branch.id], 'applier', 300_000);
  t.match(stdout, /: equal, /, stderr);
  t.notMatch(stdout, /: different/, `${branch.id} is verified`);
}

for (const bundle of ['mysql-8.0.15', 'mysql-8.0.31', 'mysql', 'mariadb'] as const) {
  await trial('head-office database', bundle, async t => {
    const { server, name } = await startDatabase(t, bundle, { role: 'head-office' });
    await tryServers(t, { headOffice: server }, 'head-office database', name);
  });
}

for (const bundle of [...RABBITMQ_RELEASES, 'rabbitmq'] as const) {
  await trial('broker', bundle, async t => {
    const release: { release?: BrokerRelease } = isRelease(bundle) ? { release: bundle } : {};
    const broker = await BrokerServer.start({ name: bundle, ...release }, line => t.comment(line));
    t.teardown(() => broker.remove());
    await tryServers(t, { broker }, 'broker', `RabbitMQ ${broker.version}`);
  });
}

/** A branch of each flavour with some cases: they end equal, or `check` refuses the server. */
async function tryServers(t: Test, servers: WorldOptions, role: Role, name: string): Promise<void> {
  const subject = role === 'broker' ? 'broker.management' : 'target';
  for (const flavor of ['mysql', 'mariadb'] as const) {
    const source = await DatabaseServer.start({ flavor, name: flavor, role: 'branch', options: CASE_OPTIONS });
    t.teardown(() => source.remove());
    const world = await createWorld(t, servers);
    await world.applier();
    const refused = await refusal(() => world.applierCli(['check', '--json']), subject);
    if (refused !== null) {
      note(t, { role, server: name, result: refused, cases: null });
      return;
    }
    await world.startApplier();
    const names = SOME_CASES ?? ['keys', 'no-key', 'add-column', 'json-types', 'retype-wider'];
    await runCases(
      t,
      world,
      source,
      loadCases(flavor).filter(one => names.includes(one.name)),
    );
  }
  if (t.passing()) note(t, { role, server: name, result: 'works', cases: null });
}
