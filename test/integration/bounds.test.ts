/**
 * Bounds, at a tenth of full size: large transactions and rows, a full spool, a full disk, a damaged spool, memory,
 * starting and stopping. test/chaos/bounds.test.ts has the full sizes.
 */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import type { Test } from 'tap';
import type { Product } from '../../deploy/rig/daemon.ts';
import { Load, LOAD_TABLES } from '../support/world/load.ts';
import { batch } from '../support/hand-made/spool-tools.ts';
import { Spool } from '../../agent/spool/spool.ts';
import { flipBitOfLastBatch } from '../support/hand-made/spool-damage.ts';
import { until } from '../support/until.ts';
import { lockWaiters } from '../support/world/lock-waits.ts';
import { createWorld } from '../support/world/world.ts';
import { backlog, branchOnBadLink, largeRow, largeTransaction, MIB, openSite } from '../support/world/bounds.ts';

/** RabbitMQ's default of `max_message_size`. */
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

/** A program that does not end by itself is ended by its own limit of five seconds, with another status than 0. */
const STOPS = 3;
/** What a start may read, the program itself among it. */
const START_READS = 25 * MIB;

const world = await createWorld(t);
const applier = await world.startApplier();
const site = await openSite(t, world, applier);

interface Status {
  readonly state: string;
  readonly stream: { readonly head: number; readonly received: number | null };
  readonly spool: { readonly waitingBatches: number };
}

const statusOf = async (agent: Product): Promise<Status> => (await agent.get('/api/status')) as Status;

/** Whatever became of them in another test. */
async function begin(): Promise<void> {
  await site.link.heal();
  if (!applier.running) await applier.start();
  await applier.waitReady();
}

await t.test('a transaction of 100,000 rows appears at once, though the link is cut again and again', t =>
  largeTransaction(t, site, 100_000),
);

await t.test('a backlog of 500,000 rows goes out within the bounds of memory', async t => {
  await begin();
  await backlog(t, site, 500_000);
});

await t.test(
  'a row larger than any message of the broker arrives in fragments, also over a link that is cut',
  async t => {
    await begin();
    await largeRow(t, site, MAX_MESSAGE_BYTES + 1, 1);
    await site.branch.agent.stop();
  },
);

await t.test('a full spool: capture stops reading and says so, and goes on by itself', async t => {
  await begin();
  const { branch, link } = await branchOnBadLink(t, world, 'full', [
    'CREATE TABLE filler (id INT PRIMARY KEY AUTO_INCREMENT, content BLOB)',
  ]);
  branch.configure({ spool: { maxBytes: '64MiB' } });
  await branch.startAgent();
  await world.waitUntilEqual(branch);
  link.cut();
  // The same megabyte again and again: no batch is so large that it would hold it twice.
  await branch.db.query('INSERT INTO filler (content) VALUES ?', [
    Array.from({ length: 20 }, () => [randomBytes(50_000)]),
  ]);
  const [first] = await branch.db.query<RowDataPacket[]>('SELECT MAX(id) AS id FROM filler');
  for (let i = 1; i < 75; i += 1) {
    await branch.db.query('INSERT INTO filler (content) SELECT content FROM filler WHERE id <= ?', [first[0]?.['id']]);
  }
  await branch.agent.waitUntil('a full spool', async () => (await statusOf(branch.agent)).state === 'full');
  t.match(await branch.agent.get('/metrics'), /^tributary_spool_full 1$/m);
  t.ok(branch.agent.log().some(line => line.msg?.includes('The spool is full')));
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
  await begin();
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
  await branch.agent.waitUntil(
    'it says that something is wrong',
    async () => !branch.agent.running || (await statusOf(branch.agent)).state !== 'capturing',
  );
  execFileSync('rm', [join(folder, 'other')]);
  link.restore();
  // A disk that fails under a write ends the process, on purpose; its supervisor starts it again.
  if (!branch.agent.running) await branch.agent.start();
  await world.waitUntilEqual(branch);
});

await t.test(
  'a flipped bit in the spool is found; the next life begins with a snapshot, and no row is wrong',
  async t => {
    await begin();
    const { branch, link } = await branchOnBadLink(t, world, 'flipped', [
      'CREATE TABLE note (id INT PRIMARY KEY, word VARCHAR(60))',
    ]);
    await branch.startAgent();
    await world.waitUntilEqual(branch);
    link.cut();
    for (let i = 0; i < 200; i += 1) await branch.db.query(`INSERT INTO note VALUES (${i}, 'word number ${i}')`);
    // What is flipped must be a batch that the head office lacks: on a busy machine it may be spooled late.
    await branch.agent.waitUntil('the rows in the spool', async () => {
      const { waitingBatches } = (await statusOf(branch.agent)).spool;
      return waitingBatches > 0;
    });
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

/**
 * SIGTERM, and status 0: at one try of several, as five seconds may be short on a busy machine.
 * @param situation waits for it
 */
async function endsByItself(
  t: Test,
  product: Product,
  situation = (): Promise<unknown> => Promise.resolve(),
): Promise<void> {
  const statuses: number[] = [];
  for (;;) {
    await situation();
    statuses.push(await product.stop());
    if (statuses.at(-1) === 0 || statuses.length === STOPS) break;
    await product.start();
    await product.waitForLog(
      line => line.msg === `tributary-${product.program} runs.`,
      undefined,
      product.log().length,
    );
  }
  t.ok(statuses.includes(0), `the ${product.program} ended with ${statuses.join(', ')}`);
}

await t.test('SIGTERM ends both by themselves under load, and nothing is lost', async t => {
  await begin();
  const branch = await world.addBranch('stopped', { setup: LOAD_TABLES });
  await branch.startAgent();
  const load = new Load(branch.source, { schema: branch.schema, seed: 6, sessions: 2, pauseMs: 5 });
  await until('sales', () => load.committed > 50);
  for (const product of [branch.agent, applier]) {
    await endsByItself(t, product);
    await product.start();
  }
  await load.stop();
  await world.waitUntilEqual(branch);
});

await t.test('SIGTERM ends an applier that waits for a lock in the database', async t => {
  await begin();
  const branch = await world.addBranch('locked', { setup: LOAD_TABLES });
  await branch.startAgent();
  await world.waitUntilEqual(branch);
  await world.headOfficeDb.query('START TRANSACTION');
  await world.headOfficeDb.query(
    `SELECT * FROM ${world.database}.tributary_branch WHERE branch = '${branch.id}' FOR UPDATE`,
  );
  await branch.db.query(`INSERT INTO load_code (code, n) VALUES ('lock', 1)`);
  await endsByItself(t, applier, () =>
    until(
      'a wait for the lock',
      async () => (await lockWaiters(world.headOfficeDb, world.database, 'tributary_branch')).length > 0,
    ),
  );
  await world.headOfficeDb.query('ROLLBACK');
  await applier.start();
  await world.waitUntilEqual(branch);
});

await t.test('SIGTERM ends an agent whose database accepts and says nothing', async t => {
  const sockets: Socket[] = [];
  const silent = createServer(socket => sockets.push(socket)).listen(0, '127.0.0.1');
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    silent.close();
  });
  await once(silent, 'listening');
  const { port } = silent.address() as AddressInfo;
  const branch = await world.addBranch('silent', { config: { source: { port } } });
  await branch.agent.start();
  await endsByItself(t, branch.agent, () => until('a connection', () => sockets.some(socket => !socket.destroyed)));
});

await t.test('a start after a crash reads little, whatever the spool holds', async t => {
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
  for (let i = 1; i <= 200; i += 1) spool.append(batch(i, { body }));
  spool.close();
  await branch.agent.start();
  await branch.agent.waitForLog(line => line.msg === 'tributary-agent runs.');
  await branch.agent.kill9();
  const from = branch.agent.log().length;
  await branch.agent.start();
  await branch.agent.waitForLog(line => line.msg === 'tributary-agent runs.', undefined, from);
  const read = Number(/^rchar: (\d+)$/m.exec(readFileSync(`/proc/${branch.agent.pid ?? 0}/io`, 'utf8'))?.[1]);
  await branch.agent.kill9();
  t.ok(read < START_READS, `${read} bytes were read, the spool holds 50 MiB`);
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
