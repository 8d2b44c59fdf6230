/**
 * Errors that the head office meets: each is provoked, its hint is carried out as written, and then `check` finds no fault
 * and rows arrive. Which tests do this for the other codes: test/support/documents/error-tests.ts.
 */
import { join } from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import t from 'tap';
import type { Test } from 'tap';
import type { Product } from '../../deploy/rig/daemon.ts';
import { readEnrolment } from '../../shared/config/enrolment.ts';
import { helloMessage } from '../../shared/broker/amqp.ts';
import { HandMadeBranch, upsert } from '../support/hand-made/branch.ts';
import { connectTo } from '../support/world/database.ts';
import { PROOF_TABLE, worksAgain } from '../support/world/recovery.ts';
import { createWorld, expectSuccess } from '../support/world/world.ts';
import type { Branch, World } from '../support/world/world.ts';

const MIB = 1024 * 1024;
const setup = [PROOF_TABLE];

// Most of the time here is spent on waiting.
t.jobs = 3;

interface Shown {
  readonly applied: number;
  readonly halt: { readonly code: string } | null;
  readonly waiting: { readonly code: string } | null;
}

async function shown(world: World, branch: string): Promise<Shown> {
  return JSON.parse(expectSuccess(await world.applierCli(['branch', 'show', branch, '--json'])).stdout) as Shown;
}

interface Site {
  readonly world: World;
  readonly applier: Product;
  readonly branch: Branch;
}

/** A branch of which all rows are at the head office. */
async function openSite(t: Test): Promise<Site> {
  const world = await createWorld(t);
  const applier = await world.startApplier({ config: { onTableTrouble: 'halt' } });
  const branch = await world.addBranch('paris', { setup });
  await branch.startAgent();
  await branch.db.query("INSERT INTO proof (word) VALUES ('before')");
  await world.waitUntilEqual(branch);
  return { world, applier, branch };
}

async function halts({ world, applier, branch }: Site, code: string): Promise<void> {
  await applier.waitUntil(code, async () => (await shown(world, branch.id)).halt?.code === code);
}

void t.test('TARGET_UNREACHABLE: target.port is corrected', async t => {
  const world = await createWorld(t);
  const wrong = await world.applier({ config: { target: { port: 1 } } });
  t.match(await world.applierCli(['check', '--json']), { code: 1, stdout: /TARGET_UNREACHABLE/ });
  await wrong.start();
  await wrong.waitUntil('a word of it', () => !wrong.running || /TARGET_UNREACHABLE/.test(wrong.logTail()));
  t.match(wrong.logTail(), /TARGET_UNREACHABLE/);
  await wrong.stop();
  await world.startApplier();
  const branch = await world.addBranch('paris', { setup });
  await worksAgain(t, world, branch);
});

void t.test('TARGET_ACCESS_DENIED: what `check --grants` prints is run at the database', async t => {
  const world = await createWorld(t);
  const user = `h_${world.id}`;
  const host = '127.%';
  const admin = await connectTo(world.headOffice);
  t.teardown(async () => {
    await admin.query(`DROP USER IF EXISTS '${user}'@'${host}'`);
    await admin.end();
  });
  await admin.query(`CREATE USER '${user}'@'${host}' IDENTIFIED BY '${world.headOffice.password}'`);
  const applier = await world.applier({ config: { target: { user } } });
  t.match(await world.applierCli(['check', '--json']), { code: 1, stdout: /TARGET_ACCESS_DENIED/ });
  const { stdout } = expectSuccess(await world.applierCli(['check', '--grants', host, '--json']));
  for (const statement of (JSON.parse(stdout) as { sql: string[] }).sql) await admin.query(statement);
  expectSuccess(await world.applierCli(['check']));
  await applier.start();
  await applier.waitReady();
  await worksAgain(t, world, await world.addBranch('paris', { setup }));
});

void t.test('TARGET_BUSY: the transaction that holds a row ends', async t => {
  const site = await openSite(t);
  const { world, branch, applier } = site;
  await world.headOfficeDb.beginTransaction();
  await world.headOfficeDb.query('SELECT * FROM proof FOR UPDATE');
  await branch.db.query("UPDATE proof SET word = 'changed'");
  await applier.waitUntil('the branch to wait', async () => {
    return (await shown(world, branch.id)).waiting?.code === 'TARGET_BUSY';
  });
  await world.headOfficeDb.commit();
  await worksAgain(t, world, branch);
});

void t.test('BATCH_REFUSED, BRANCH_HALTED: the table is corrected, and the branch retries', async t => {
  const site = await openSite(t);
  const { world, branch } = site;
  await world.headOfficeDb.query("ALTER TABLE proof ADD CONSTRAINT kind CHECK (word <> 'rude')");
  await branch.db.query("INSERT INTO proof (word) VALUES ('rude')");
  await halts(site, 'BATCH_REFUSED');
  t.match(await world.applierCli(['branch', 'verify', branch.id]), { code: 1, stderr: /BRANCH_HALTED/ });
  await world.headOfficeDb.query('ALTER TABLE proof DROP CONSTRAINT kind');
  expectSuccess(await world.applierCli(['branch', 'retry', branch.id]));
  await world.waitUntilEqual(branch);
  expectSuccess(await world.applierCli(['branch', 'verify', branch.id]));
  await worksAgain(t, world, branch);
});

void t.test('BRANCH_HALTED: the branch goes on without the batch, and a snapshot makes up for it', async t => {
  const site = await openSite(t);
  const { world, branch } = site;
  await world.headOfficeDb.query("ALTER TABLE proof ADD CONSTRAINT kind CHECK (word <> 'rude')");
  await branch.db.query("INSERT INTO proof (word) VALUES ('rude')");
  await halts(site, 'BATCH_REFUSED');
  expectSuccess(await world.applierCli(['branch', 'quarantine', branch.id]));
  await branch.db.query("UPDATE proof SET word = 'kind' WHERE word = 'rude'");
  await world.waitUntilEqual(branch);
  await worksAgain(t, world, branch);
});

void t.test('BRANCH_UNKNOWN: the branch is added', async t => {
  const world = await createWorld(t);
  await world.startApplier();
  const branch = await world.prepareBranch('paris', { setup });
  const asked = ['branch', 'show', branch.id];
  t.match(await world.applierCli(asked), { code: 1, stderr: /BRANCH_UNKNOWN/ });
  const file = join(branch.folder, 'enrolment');
  expectSuccess(await world.applierCli(['branch', 'add', branch.id, '--out', file]));
  expectSuccess(await world.applierCli(asked));
  expectSuccess(await branch.cli(['enroll', file]));
  await worksAgain(t, world, branch);
});

void t.test('batches that no agent makes, and a malformed hello', async t => {
  const world = await createWorld(t);
  const applier = await world.startApplier();
  const id = `rogue-${world.id}`;
  const file = join(world.directory, 'rogue.enrolment');
  expectSuccess(await world.applierCli(['branch', 'add', id, '--out', file]));
  const rogue = await HandMadeBranch.connect(await readEnrolment(file));
  t.teardown(() => rogue.close());
  await rogue.hello();
  const untilApplied = (): Promise<void> =>
    applier.waitUntil('the good batch', async () => (await shown(world, id)).applied === rogue.batches.length);
  const goesOn = async (): Promise<void> => {
    await rogue.send(rogue.make([upsert([[1, 'good']])]));
    await untilApplied();
    t.equal((await shown(world, id)).halt, null);
    expectSuccess(await world.applierCli(['check']));
  };
  const halted = async (code: string): Promise<void> => {
    await applier.waitUntil(code, async () => (await shown(world, id)).halt?.code === code);
  };

  for (const [code, body] of [
    ['BATCH_INVALID', Buffer.from('hello')],
    ['BATCH_TOO_LARGE', zstdCompressSync(Buffer.alloc(300 * MIB, ' '))],
  ] as const) {
    await t.test(`${code}: the batch is passed over`, async () => {
      await rogue.send(rogue.makeRaw(body));
      await halted(code);
      expectSuccess(await world.applierCli(['branch', 'quarantine', id]));
      await goesOn();
    });
  }

  // No applier knows more versions than this one: the hint names an upgrade, and until then nothing is lost.
  await t.test('BATCH_VERSION: a retry without an upgrade halts again; the batch can be passed over', async () => {
    await rogue.send(rogue.makeRaw(zstdCompressSync(JSON.stringify({ v: 2 }))));
    await halted('BATCH_VERSION');
    const lines = applier.log().length;
    expectSuccess(await world.applierCli(['branch', 'retry', id]));
    await applier.waitForLog(line => JSON.stringify(line).includes('BATCH_VERSION'), undefined, lines);
    await halted('BATCH_VERSION');
    expectSuccess(await world.applierCli(['branch', 'quarantine', id]));
    await goesOn();
  });

  await t.test('MESSAGE_INVALID: a hello that has another form is followed by one that has the right one', async t => {
    const hello = helloMessage(rogue.helloOf());
    await rogue.publish({ ...hello, body: Buffer.from('{"v":1}') });
    const line = await applier.waitForLog(each => JSON.stringify(each).includes('MESSAGE_INVALID'));
    t.match(JSON.stringify(line), id);
    await rogue.hello();
    await goesOn();
  });
});
