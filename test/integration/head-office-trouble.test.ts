/**
 * Trouble of the head office's database that no row is to blame for, on a server of its own: the branch waits, says why and
 * names the cure; the cure works as it stands there, and then everything goes on by itself.
 */
import { randomBytes } from 'node:crypto';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import type { Fleet } from '../../applier/consume/fleet.ts';
import type { Waiting } from '../../applier/consume/retry-policy.ts';
import { runCli } from '../../deploy/rig/daemon.ts';
import { DatabaseServer } from '../../deploy/rig/database-server.ts';
import { FaultProxy } from '../../deploy/rig/fault-proxy.ts';
import type { TableDescription } from '../../shared/batch/batch.ts';
import { until } from '../support/until.ts';
import { SALES, upsert } from '../support/hand-made/branch.ts';
import type { HandMadeBranch, MadeBatch } from '../support/hand-made/branch.ts';
import { HeadOffice } from '../support/world/head-office.ts';

/** No branch would try again by itself before the test ends. */
const FOR_EVER = { minMs: 3_600_000, maxMs: 3_600_000 };
const SOON = { minMs: 20, maxMs: 100 };

const server = await DatabaseServer.start({
  flavor: 'mysql',
  name: 'troubled-office',
  role: 'head-office',
  options: { 'log-bin': 'binlog', 'server-id': '77' },
});
t.teardown(() => server.stop());
const office = await HeadOffice.open(server);
t.teardown(async () => {
  await office.query('SET GLOBAL super_read_only = OFF, GLOBAL read_only = OFF');
  await office.close();
});

/** Something much larger than a binlog's smallest cache, which nothing compresses. */
const WIDE: TableDescription = {
  ...SALES,
  name: 'wide',
  columns: [SALES.columns[0]!, { name: 'note', type: 'longtext' }],
};
function large(branch: HandMadeBranch): MadeBatch {
  const rows = 40;
  const notes = Array.from({ length: rows }, () => randomBytes(8_000).toString('base64'));
  return branch.make([{ op: 'upsert', table: 0, rows, values: [[...Array(rows).keys()], notes] }], { tables: [WIDE] });
}

async function found<T>(what: string, look: () => T | null): Promise<T> {
  let value: T | null = null;
  await until(what, () => (value = look()) !== null);
  return value!;
}

function waitingOf(fleet: Fleet, branch: string): Waiting | null {
  return fleet.status().find(({ row }) => row.branch === branch)?.waiting ?? null;
}

interface Trouble {
  readonly before?: readonly string[];
  readonly then?: readonly string[];
  /** What the hint says, where it names no statement as it is to be run. */
  readonly cured?: { readonly hint: RegExp; readonly statement: string };
}

/** Brings the trouble, sees a branch wait for it to pass with this code, and does what its hint says. */
async function waitsAndGoesOn(
  t: Test,
  name: string,
  { before = [], then = [], cured }: Trouble,
  code: string,
  made: (branch: HandMadeBranch) => MadeBatch,
): Promise<void> {
  // What holds for sessions that begin after it must be there before the fleet's.
  for (const statement of before) await office.query(statement);
  const fleet = await office.fleet({ instance: name, pauses: SOON });
  t.teardown(() => fleet.stop());
  const branch = await office.branch(name);
  await branch.hello();
  await branch.send(branch.make([upsert([[1, 'before']])]));
  await office.applied(name, 1);
  for (const statement of then) await office.query(statement);
  await branch.send(made(branch));
  const first = await found(`${name} waits`, () => waitingOf(fleet, name));
  t.equal(first.error.code, code, first.error.message);
  // Hellos between do not make it look as if all were well, nor begin the waiting anew.
  const later = await found(`${name} tries on`, () => {
    const now = waitingOf(fleet, name);
    return now !== null && now.tries > first.tries + 3 ? now : null;
  });
  if (then.length === 0) await branch.hello();
  t.equal(later.since, first.since);
  t.equal(waitingOf(fleet, name)?.since, first.since, 'nor does an answered hello');
  t.equal((await office.row(name)).state, 'active', 'no row is blamed');
  const named = /SET PERSIST .*$/.exec(first.error.hint.replaceAll(/; after.*$/g, ''))?.[0];
  const cure = cured === undefined ? named : cured.statement;
  t.match(first.error.hint, cured?.hint ?? /SET PERSIST/);
  await office.query(cure ?? '');
  await office.applied(name, 2);
  await found(`${name} waits no more`, () => (waitingOf(fleet, name) === null ? true : null));
}

await t.test('a cache of the binlog that is too small for a transaction', async t => {
  const before = ['SET GLOBAL binlog_cache_size = 4096', 'SET GLOBAL max_binlog_cache_size = 4096'];
  await waitsAndGoesOn(t, 'cache', { before }, 'TARGET_SETTING', large);
  t.equal((await office.query("SELECT COUNT(*) AS n FROM wide WHERE _branch = 'cache'"))[0]?.['n'], '40');
});

await t.test('a server that became read-only', async t => {
  const made = (branch: HandMadeBranch): MadeBatch => branch.make([upsert([[2, 'after']])]);
  await waitsAndGoesOn(t, 'read-only', { then: ['SET GLOBAL super_read_only = ON'] }, 'TARGET_SETTING', made);
});

await t.test('a trigger that writes to a table with a column that needs a value', async t => {
  const then = [
    'CREATE TABLE audit (id INT, who VARCHAR(9) NOT NULL)',
    'CREATE TRIGGER audited AFTER INSERT ON sales FOR EACH ROW INSERT INTO audit (id) VALUES (NEW.id)',
  ];
  const statement = "ALTER TABLE audit ALTER who SET DEFAULT 'nobody'";
  const cured = { hint: /trigger.*ALTER TABLE … ALTER … SET DEFAULT …/, statement };
  const made = (branch: HandMadeBranch): MadeBatch => branch.make([upsert([[2, 'after']])]);
  await waitsAndGoesOn(t, 'trigger', { then, cured }, 'TARGET_FAILED', made);
  t.match(await office.query('SELECT who FROM audit'), [{ who: 'nobody' }]);
});

await t.test('a command and the applier at a read-only head office say what to do, without a stack', async t => {
  const folder = t.testdir({ 'target.password': server.password, 'broker.password': 'none' });
  for (const name of ['target', 'broker']) chmodSync(join(folder, `${name}.password`), 0o600);
  const { host, port, user } = server;
  const config = join(folder, 'applier.yaml');
  writeFileSync(
    config,
    `target: { host: ${host}, port: ${port}, user: ${user}, passwordFile: target.password, database: read_only_office }
broker: { url: "amqp://applier@127.0.0.1:9/x", passwordFile: broker.password, management: "http://127.0.0.1:9" }
`,
  );
  await office.query('CREATE DATABASE read_only_office');
  await office.query('SET GLOBAL super_read_only = ON');
  for (const args of [['branch', 'list'], ['run']]) {
    const { code, stderr } = await runCli('applier', [...args, '--config', config]);
    t.equal(code, 1);
    t.match(stderr, /^TARGET_SETTING: .*\n {2}→ .*read-only.*super_read_only = OFF/m, args.join(' '));
    t.notMatch(stderr, /^ {4}at /m, 'no stack');
  }
  await office.query('SET GLOBAL super_read_only = OFF');
  await office.query('SET GLOBAL read_only = OFF');
  await office.query('DROP DATABASE read_only_office');
});

await t.test('when the database is back, every branch goes on at once', async t => {
  const proxy = await FaultProxy.open(server.port);
  t.teardown(() => proxy.close());
  const fleet = await office.fleet({ pauses: FOR_EVER, connectTarget: () => office.connect(proxy.port) });
  t.teardown(() => fleet.stop());
  const branches = await Promise.all(['one', 'two', 'three', 'four'].map(name => office.branch(name)));
  for (const branch of branches) {
    await branch.hello();
    await branch.send(branch.make([upsert([[1, 'before']])]));
    await office.applied(branch.branch, 1);
  }
  proxy.cut();
  for (const branch of branches) await branch.send(branch.make([upsert([[2, 'meanwhile']])]));
  for (const { branch } of branches) {
    const { error } = await found(`${branch} waits`, () => waitingOf(fleet, branch));
    t.equal(error.code, 'TARGET_UNREACHABLE');
  }
  proxy.restore();
  for (const { branch } of branches) {
    await office.applied(branch, 2);
    t.strictSame(await office.sales(branch), { 1: 'before', 2: 'meanwhile' });
  }
});
