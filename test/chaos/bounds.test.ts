/**
 * Bounds, at a tenth of full size: large transactions and rows, a full spool, a full disk, a damaged spool, memory,
 * starting and stopping. `make chaos` and `make bench` have the full sizes.
 */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import type { Test } from 'tap';
import { parse } from 'yaml';
import { FaultProxy } from '../../deploy/local/fault-proxy.ts';
import type { Product } from '../../deploy/local/product.ts';
import { MAX_MESSAGE_BYTES } from '../../shared/amqp-messages.ts';
import { Load, LOAD_TABLES } from '../support/load.ts';
import { batch } from '../support/spool-tools.ts';
import { Spool } from '../../agent/spool/spool.ts';
import { createWorld } from '../support/world.ts';
import type { Branch, World } from '../support/world.ts';

const MIB = 1024 * 1024;
const AGENT_BYTES = 250 * MIB;
const APPLIER_BYTES = 400 * MIB;
/** A row is held whole, decoded and as text, and joined from its fragments: 16 MiB of it take about 400 MiB at most. */
const APPLIER_WITH_LARGE_ROW_BYTES = 512 * MIB;
const STOP_WITHIN_MS = 5_000;
const START_WITHIN_MS = 2_000;

const world = await createWorld(t);
const applier = await world.startApplier();

/** A branch whose agent reaches the broker over a link that can be broken. */
async function branchOnBadLink(
  t: Test,
  of: World,
  name: string,
  setup: readonly string[],
): Promise<{ branch: Branch; link: FaultProxy }> {
  const link = await FaultProxy.open(of.broker.port);
  t.teardown(() => link.close());
  const branch = await of.addBranch(name, { setup });
  const { broker } = parse(readFileSync(branch.agent.configFile, 'utf8')) as { broker: { url: string } };
  branch.configure({ broker: { url: broker.url.replace(/:\d+\//, `:${link.port}/`) } });
  return { branch, link };
}

/** Most memory that a process has ever held; null where the system does not tell. */
function peakBytes(product: Product): number | null {
  try {
    const line = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${product.pid ?? 0}/status`, 'utf8'));
    return line === null ? null : Number(line[1]) * 1024;
  } catch {
    return null;
  }
}

function stayedBelow(t: Test, product: Product, limit: number): void {
  const peak = peakBytes(product);
  if (peak === null) t.comment(`memory of the ${product.program} is not told by this system`);
  else t.ok(peak < limit, `the ${product.program} held ${Math.round(peak / MIB)} MiB at most`);
}

interface Status {
  readonly state: string;
  readonly stream: { readonly head: number; readonly received: number | null };
}

const statusOf = async (agent: Product): Promise<Status> => (await agent.get('/api/status')) as Status;

await t.test('a transaction of 100,000 rows appears at once, though the link is cut again and again', async t => {
  const table = 'CREATE TABLE big (id INT PRIMARY KEY, word VARCHAR(60), n INT)';
  const { branch, link } = await branchOnBadLink(t, world, 'large', [table]);
  await branch.startAgent();
  await world.waitUntilEqual(branch);
  const seen = new Set<number>();
  let watching = true;
  const watch = (async () => {
    while (watching) {
      const [rows] = await world.headOfficeDb.query<RowDataPacket[]>(
        `SELECT COUNT(*) AS n FROM ${world.database}.big WHERE _branch = '${branch.id}'`,
      );
      seen.add(Number(rows[0]?.['n']));
      await sleep(10);
    }
  })();
  await branch.db.query('BEGIN');
  for (let first = 0; first < 100_000; first += 5_000) {
    const rows = Array.from({ length: 5_000 }, (_, i) => `(${first + i}, '${randomBytes(20).toString('hex')}', ${i})`);
    await branch.db.query(`INSERT INTO big VALUES ${rows.join(',')}`);
  }
  await branch.db.query('COMMIT');
  for (const bytes of [200_000, 700_000, 1_500_000]) {
    await Promise.race([link.cutAfter(bytes), sleep(5_000)]);
  }
  await link.heal();
  await world.waitUntilEqual(branch);
  watching = false;
  await watch;
  seen.delete(0);
  t.same([...seen], [100_000], 'nobody saw a part of it');
  stayedBelow(t, branch.agent, AGENT_BYTES);
  stayedBelow(t, applier, APPLIER_BYTES);
});

await t.test(
  'a row larger than any message of the broker arrives in fragments, also over a link that is cut',
  async t => {
    const table = 'CREATE TABLE document (id INT PRIMARY KEY, content LONGBLOB)';
    const { branch, link } = await branchOnBadLink(t, world, 'documents', [table]);
    await branch.startAgent();
    const content = randomBytes(MAX_MESSAGE_BYTES + 1);
    await branch.db.query('INSERT INTO document VALUES (1, ?)', [content]);
    await Promise.race([link.cutAfter(9 * MIB), sleep(8_000)]);
    await branch.db.query('INSERT INTO document VALUES (2, ?)', [Buffer.from('a small one after it')]);
    await world.waitUntilEqual(branch);
    t.ok(link.passed('up') > MAX_MESSAGE_BYTES);
    const [rows] = await world.headOfficeDb.query<RowDataPacket[]>(
      `SELECT LENGTH(content) AS bytes FROM ${world.database}.document WHERE id = 1`,
    );
    t.equal(Number(rows[0]?.['bytes']), content.length);
    stayedBelow(t, applier, APPLIER_WITH_LARGE_ROW_BYTES);
  },
);

await t.test('a full spool: capture stops reading and says so, and goes on by itself', async t => {
  const { branch, link } = await branchOnBadLink(t, world, 'full', [
    'CREATE TABLE filler (id INT PRIMARY KEY AUTO_INCREMENT, content BLOB)',
  ]);
  branch.configure({ spool: { maxBytes: '64MiB' } });
  await branch.startAgent();
  await world.waitUntilEqual(branch);
  link.cut();
  for (let i = 0; i < 75; i += 1) {
    await branch.db.query('INSERT INTO filler (content) VALUES ?', [
      Array.from({ length: 20 }, () => [randomBytes(50_000)]),
    ]);
  }
  await branch.agent.waitUntil('a full spool', async () => (await statusOf(branch.agent)).state === 'full');
  t.match(await branch.agent.get('/metrics'), /^tributary_spool_full 1$/m);
  t.ok(branch.agent.log().some(line => line.msg?.includes('the spool is full')));
  const { head } = (await statusOf(branch.agent)).stream;
  await sleep(500);
  t.equal((await statusOf(branch.agent)).stream.head, head, 'nothing more is read');
  link.restore();
  await world.waitUntilEqual(branch);
  t.equal((await statusOf(branch.agent)).state, 'capturing');
  t.match(await branch.agent.get('/metrics'), /^tributary_spool_full 0$/m);
});

await t.test('a full disk under the spool: nothing is lost, and it goes on when there is room', async t => {
  const folder = join(world.directory, 'tmpfs');
  mkdirSync(folder);
  const why = mountSmallDisk(folder, 48);
  if (why !== null) {
    t.comment(`skipped: ${why}`);
    return;
  }
  t.teardown(() => execFileSync('umount', ['--lazy', folder]));
  const { branch, link } = await branchOnBadLink(t, world, 'disk', [
    'CREATE TABLE filler_two (id INT PRIMARY KEY AUTO_INCREMENT, content BLOB)',
  ]);
  branch.configure({ spool: { directory: join(folder, 'spool'), minFree: '16MiB' } });
  await branch.startAgent();
  link.cut();
  // Somebody else's file takes all that the floor of free disk leaves.
  const fill = async (name: string, mebibytes: number): Promise<void> => {
    for (let i = 0; i < mebibytes; i += 1) {
      try {
        writeFileSync(join(folder, name), Buffer.alloc(MIB), { flag: 'a' });
      } catch {
        return;
      }
      await sleep(0);
    }
  };
  await fill('other', 64);
  for (let i = 0; i < 10; i += 1) {
    await branch.db.query('INSERT INTO filler_two (content) VALUES ?', [
      Array.from({ length: 10 }, () => [randomBytes(20_000)]),
    ]);
  }
  await sleep(1_500);
  if (branch.agent.running) t.not((await statusOf(branch.agent)).state, 'capturing', 'it says that something is wrong');
  execFileSync('rm', [join(folder, 'other')]);
  link.restore();
  // A disk that fails under a write ends the process, on purpose; its supervisor starts it again.
  if (!branch.agent.running) await branch.agent.start();
  await world.waitUntilEqual(branch);
});

await t.test(
  'a flipped bit in the spool is found; the next life begins with a snapshot, and no row is wrong',
  async t => {
    const { branch, link } = await branchOnBadLink(t, world, 'flipped', [
      'CREATE TABLE note (id INT PRIMARY KEY, word VARCHAR(60))',
    ]);
    await branch.startAgent();
    await world.waitUntilEqual(branch);
    link.cut();
    for (let i = 0; i < 200; i += 1) await branch.db.query(`INSERT INTO note VALUES (${i}, 'word number ${i}')`);
    await sleep(3_500);
    await branch.agent.stop();
    flipBitOfLastBatch(join(branch.spoolDirectory, 'spool.db'));
    link.restore();
    await branch.agent.start();
    const status = await branch.agent.exited;
    t.equal(status, 1, 'the process ends');
    t.match(branch.agent.logTail(), /SPOOL_CORRUPT/);
    const differences = (await world.compare(branch)).differences.filter(({ kind }) => kind === 'value');
    t.same(differences, [], 'rows may be missing for now, none is wrong');
    await branch.startAgent();
    await world.waitUntilEqual(branch);
  },
);

await t.test('SIGTERM ends both within five seconds under load, and nothing is lost', async t => {
  const branch = await world.addBranch('stopped', { setup: LOAD_TABLES });
  await branch.startAgent();
  const load = new Load(branch.source, { schema: branch.schema, seed: 6, sessions: 2, pauseMs: 1 });
  await sleep(700);
  for (const product of [branch.agent, applier]) {
    const started = performance.now();
    t.equal(await product.stop(STOP_WITHIN_MS), 0);
    t.ok(performance.now() - started < STOP_WITHIN_MS, `the ${product.program} took its time`);
    await product.start();
  }
  await load.stop();
  await world.waitUntilEqual(branch);
});

await t.test('a start after a crash takes less than two seconds, whatever the spool holds', async t => {
  const branch = await world.addBranch('starting', { setup: LOAD_TABLES });
  const spool = Spool.open({
    directory: branch.spoolDirectory,
    branch: branch.id,
    maxBytes: 1024 * MIB,
    keepAppliedMs: 48 * 3_600_000,
    minFreeBytes: 0,
    now: () => Date.now(),
  });
  const body = randomBytes(256 * 1024);
  for (let i = 1; i <= 400; i += 1) spool.append(batch(i, { body }));
  spool.close();
  await branch.agent.start();
  await branch.agent.waitForLog(line => line.msg === 'tributary-agent runs');
  await branch.agent.kill9();
  // The machine may be busy with other things: one good start of several shows what the spool takes.
  const took: number[] = [];
  while (took.length < 6 && !took.some(ms => ms < START_WITHIN_MS)) {
    const from = branch.agent.log().length;
    const started = performance.now();
    await branch.agent.start();
    await branch.agent.waitForLog(line => line.msg === 'tributary-agent runs', 10_000, from);
    took.push(performance.now() - started);
    await branch.agent.kill9();
  }
  t.ok(Math.min(...took) < START_WITHIN_MS, took.map(ms => `${Math.round(ms)} ms`).join(', '));
});

/** @returns why there is none, or null */
function mountSmallDisk(folder: string, mebibytes: number): string | null {
  if (process.getuid?.() !== 0) return 'only root may mount a small disk';
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${mebibytes}m`, 'tmpfs', folder], { stdio: 'pipe' });
    return null;
  } catch (error) {
    return `no tmpfs here: ${String(error)}`;
  }
}

/** In the middle of the last batch's body, which begins as every zstd frame does. */
function flipBitOfLastBatch(file: string): void {
  const bytes = readFileSync(file);
  const at = bytes.lastIndexOf(Buffer.from([0x28, 0xb5, 0x2f, 0xfd]));
  if (at < 0) throw new Error('the spool holds no batch');
  const place = at + 20;
  const handle = openSync(file, 'r+');
  writeSync(handle, Buffer.from([(bytes[place] ?? 0) ^ 0b100]), 0, 1, place);
  closeSync(handle);
}
