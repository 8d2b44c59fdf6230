/**
 * What is lost, restored or copied heals without hands, or ends in one halt that names the command: PROTOCOL.md's
 * promises on real servers. Broker and head office are this file's own, because it damages them. Each test has a branch,
 * a head office and a virtual host of its own; those that damage the broker itself come last, one after the other.
 */
import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import type { Test } from 'tap';
import { Spool } from '../../agent/spool/spool.ts';
import { BrokerServer } from '../../deploy/rig/broker-server.ts';
import { DatabaseServer } from '../../deploy/rig/database-server.ts';
import type { Product } from '../../deploy/rig/daemon.ts';
import { branchNames, connectBroker } from '../../shared/broker/amqp.ts';
import { dumpDatabase, restoreDatabase } from '../support/world/dump.ts';
import { Load, LOAD_TABLES } from '../support/world/load.ts';
import { stealBatches } from '../support/hand-made/queue-thief.ts';
import { until } from '../support/until.ts';
import { createWorld } from '../support/world/world.ts';
import type { Branch, World } from '../support/world/world.ts';

const SEED = 20261123;

const [broker, headOffice] = await Promise.all([
  BrokerServer.start({ name: 'healing-broker' }),
  DatabaseServer.start({ flavor: 'mysql', name: 'healing-head-office', role: 'head-office' }),
]);
t.teardown(() => Promise.all([broker.remove(), headOffice.remove()]));

interface AgentStatus {
  readonly state: string;
  readonly capture: { readonly capturedThrough: string | null };
  readonly stream: { readonly epoch: string; readonly head: number; readonly confirmed: number };
}

/** A branch and its head office, with rows that both have. */
class Site {
  readonly world: World;
  readonly applier: Product;
  readonly paris: Branch;
  #seed = SEED;

  private constructor(world: World, applier: Product, paris: Branch) {
    this.world = world;
    this.applier = applier;
    this.paris = paris;
  }

  static async open(t: Test): Promise<Site> {
    const world = await createWorld(t, { broker, headOffice });
    const applier = await world.startApplier();
    const paris = await world.addBranch('paris', { setup: LOAD_TABLES });
    await paris.startAgent();
    const site = new Site(world, applier, paris);
    await site.sell();
    await site.equal();
    return site;
  }

  get queue(): string {
    return branchNames(this.paris.id).batches;
  }

  async status(): Promise<AgentStatus> {
    return (await this.paris.agent.get('/api/status')) as AgentStatus;
  }

  /** The stream as the head office has it. */
  async office(): Promise<{ epoch: string; received: number }> {
    const { database, headOfficeDb } = this.world;
    const [rows] = await headOfficeDb.query<RowDataPacket[]>(
      `SELECT epoch, received_seq FROM ${database}.tributary_branch WHERE branch = '${this.paris.id}'`,
    );
    return { epoch: String(rows[0]?.['epoch']), received: Number(rows[0]?.['received_seq']) };
  }

  /** Sells until so many transactions are committed, of which one changes a row for sure. */
  async sell(transactions = 40): Promise<void> {
    const { source, schema } = this.paris;
    this.#seed += 1;
    const load = new Load(source, { schema, seed: this.#seed, sessions: 2, pauseMs: 1 });
    await until('sales', () => load.committed >= transactions);
    await load.stop();
    await this.paris.db.query("INSERT INTO load_sale (item) VALUES ('for sure')");
  }

  /** Sells until so many batches wait at the broker that were not there before: the applier must be away. */
  async sellBatches(count: number): Promise<void> {
    for (let i = 0; i < count; i += 1) {
      const { head } = (await this.status()).stream;
      await this.sell(5);
      await until('a batch of these sales', async () => (await this.status()).stream.head > head);
    }
    await this.confirmed();
  }

  /** Waits until all that is committed at the branch is in batches, and the broker has confirmed them. */
  async confirmed(): Promise<void> {
    const [rows] = await this.paris.db.query<RowDataPacket[]>('SELECT UNIX_TIMESTAMP(NOW(6)) * 1000 AS ms');
    const now = Number(rows[0]?.['ms']);
    await until('all batches at the broker', async () => {
      const { stream, capture } = await this.status();
      return stream.confirmed === stream.head && Date.parse(capture.capturedThrough ?? '') > now;
    });
  }

  async equal(): Promise<void> {
    await this.world.waitUntilEqual(this.paris);
  }
}

/** Messages that wait for the applier, as the broker says at once. */
async function queueLength({ world, queue }: Site): Promise<number> {
  const { host, port, user, password } = broker;
  const url = `amqp://${user}@${host}:${port}/${world.vhost}`;
  const connection = await connectBroker({ url, password, purpose: 'test' });
  try {
    return (await connection.queueDepth(queue)).messages;
  } finally {
    await connection.close();
  }
}

/** The first batch that the branch still keeps; its agent must be away. */
function firstKept({ paris }: Site): number {
  const database = new DatabaseSync(join(paris.spoolDirectory, 'spool.db'), { readOnly: true });
  try {
    const first = database.prepare('SELECT MIN(seq) AS seq FROM batches').get()?.['seq'];
    return typeof first === 'number' ? first : Number.POSITIVE_INFINITY;
  } finally {
    database.close();
  }
}

await t.test('an epoch without the snapshot that it should begin with is replaced by one that has it', async t => {
  const site = await Site.open(t);
  const { paris } = site;
  await paris.agent.stop();
  await site.sell();
  const [ends] = await paris.db.query<RowDataPacket[]>('SHOW BINARY LOG STATUS');
  const [end] = ends;
  const spool = Spool.open({
    directory: paris.spoolDirectory,
    branch: paris.id,
    maxBytes: 1024 ** 3,
    keepAppliedMs: 3_600_000,
    minFreeBytes: 0,
    now: () => Date.now(),
  });
  const before = spool.position();
  t.ok(before);
  const source = {
    file: String(end?.['File']),
    offset: Number(end?.['Position']),
    gtidSet: String(end?.['Executed_Gtid_Set']),
  };
  if (before !== null) spool.newEpoch(null, { source: { ...before.source, ...source }, lastGroup: null });
  spool.close();
  await paris.agent.start();
  await site.equal();
});

await t.test('what is lost at the head office, on the way or at the branch', { jobs: 3 }, t => {
  void t.test('a queue purged by an operator is sent again, even if nothing follows', async t => {
    const site = await Site.open(t);
    const before = await site.office();
    await site.applier.stop();
    await site.sellBatches(2);
    await site.world.managementApi('DELETE', `/queues/${site.world.vhost}/${site.queue}/contents`);
    await site.applier.start();
    await site.equal();
    const after = await site.office();
    t.equal(after.epoch, before.epoch, 'resent, without a new epoch');
    t.ok(after.received > before.received);
  });

  void t.test('batches that vanish from the front of the queue while later ones wait are sent again', async t => {
    const site = await Site.open(t);
    const before = await site.office();
    await site.applier.stop();
    await site.sellBatches(6);
    t.equal(await stealBatches(broker, site.world.vhost, site.paris.id, 2, 'take'), 2, 'two batches are gone');
    await site.applier.start();
    await site.equal();
    t.equal((await site.office()).epoch, before.epoch);
  });

  void t.test('the tail of the stream that vanishes from the queue is sent again, even if nothing follows', async t => {
    const site = await Site.open(t);
    await site.applier.stop();
    const before = await site.office();
    await site.sellBatches(4);
    const waiting = (await site.status()).stream.head - before.received;
    t.ok(waiting > 2, `${waiting} batches wait`);
    const stolen = await stealBatches(broker, site.world.vhost, site.paris.id, waiting, 'take', 1);
    t.equal(stolen, waiting - 1, 'all but the first');
    await site.applier.start();
    await site.equal();
    t.equal((await site.office()).epoch, before.epoch);
  });

  void t.test('a batch delivered more often than RabbitMQ’s default limit of 20 is still there', async t => {
    const site = await Site.open(t);
    const before = await site.office();
    await site.applier.stop();
    await site.sellBatches(1);
    const waiting = await queueLength(site);
    for (let i = 0; i < 25; i += 1) {
      const taken = await stealBatches(broker, site.world.vhost, site.paris.id, 1, 'give-back');
      t.equal(taken, 1, `delivery ${i + 1}`);
    }
    // One that was dropped would be healed: the head office would ask for it again.
    await until('every batch in the queue again', async () => (await queueLength(site)) === waiting);
    await site.applier.start();
    await site.equal();
    t.equal((await site.office()).epoch, before.epoch);
  });

  void t.test('`check` finds a policy that drops batches or limits deliveries, and names it', async t => {
    const { world } = await Site.open(t);
    const path = `/policies/${world.vhost}/careless`;
    for (const definition of [{ overflow: 'drop-head', 'max-length': 10 }, { 'delivery-limit': 5 }]) {
      const policy = { pattern: '.*', definition, 'apply-to': 'queues', priority: 1 };
      await world.managementApi('PUT', path, policy);
      const found = await world.applierCli(['check', '--json']);
      await world.managementApi('DELETE', path);
      t.equal(found.code, 1);
      t.match(found.stdout, /BROKER_SETUP/);
      t.match(found.stdout, /careless/);
    }
    t.equal((await world.applierCli(['check'])).code, 0, 'without the policy all is well');
  });

  void t.test(
    'a head office restored from a dump is sent what it lost, as long as the branch still keeps it',
    async t => {
      const site = await Site.open(t);
      const { world, applier } = site;
      const dump = join(world.directory, 'head-office.sql');
      // Of a moment in which nothing is on its way.
      let before = await site.office();
      await until('a dump of a quiet moment', async () => {
        before = await site.office();
        await dumpDatabase(headOffice, world.database, dump);
        return (await site.office()).received === before.received;
      });
      await site.sell();
      await site.equal();
      const ahead = await site.office();
      t.ok(ahead.received > before.received);
      await applier.kill9();
      await restoreDatabase(headOffice, world.database, dump);
      t.equal((await site.office()).received, before.received, 'it is as it was');
      await applier.start();
      await site.equal();
      const after = await site.office();
      t.equal(after.epoch, before.epoch, 'resent, without a new epoch');
      t.ok(after.received >= ahead.received);
    },
  );

  void t.test('a head office restored to before what the branch keeps gets a new epoch with a snapshot', async t => {
    const site = await Site.open(t);
    const { world, applier, paris } = site;
    const dump = join(world.directory, 'older.sql');
    const before = await site.office();
    await dumpDatabase(headOffice, world.database, dump);
    paris.configure({ spool: { keepApplied: '1s' } });
    await paris.agent.restart();
    await paris.agent.waitReady();
    // Batches are forgotten when others are: the branch sells until the first that the restored head office lacks is.
    await until('a batch to be forgotten', async () => {
      await site.sell(5);
      await site.equal();
      await paris.agent.stop();
      const isForgotten = firstKept(site) > before.received + 1;
      await paris.startAgent();
      return isForgotten;
    });
    await applier.kill9();
    await restoreDatabase(headOffice, world.database, dump);
    await applier.start();
    await site.equal();
    t.not((await site.office()).epoch, before.epoch);
  });

  void t.test('a lost spool: a new epoch finds what was written and deleted meanwhile', async t => {
    const site = await Site.open(t);
    const { paris } = site;
    const before = await site.office();
    await paris.agent.kill9();
    rmSync(paris.spoolDirectory, { recursive: true });
    await paris.db.query('DELETE FROM load_sale LIMIT 50');
    await site.sell();
    await paris.startAgent();
    await site.equal();
    t.not((await site.office()).epoch, before.epoch);
  });

  void t.test('a spool restored from an older copy forks and begins a new epoch', async t => {
    const site = await Site.open(t);
    const { paris, world } = site;
    await paris.agent.stop();
    const copy = join(world.directory, 'spool-copy');
    cpSync(paris.spoolDirectory, copy, { recursive: true });
    await paris.startAgent();
    await site.sell();
    await site.equal();
    const before = await site.office();
    await paris.agent.kill9();
    rmSync(paris.spoolDirectory, { recursive: true });
    cpSync(copy, paris.spoolDirectory, { recursive: true });
    await paris.startAgent();
    await site.sell();
    await site.equal();
    t.not((await site.office()).epoch, before.epoch);
  });
  t.end();
});

/** Whatever became of the broker in a test, the next one needs it. */
async function siteOnItsBroker(t: Test): Promise<Site> {
  const site = await Site.open(t);
  t.teardown(async () => {
    if (broker.pid === undefined) await broker.restart();
  });
  return site;
}

void t.test(
  'a broker that has lost everything gets its vhost, queues and users back, and the batches again',
  async t => {
    const site = await siteOnItsBroker(t);
    const before = await site.office();
    const { source, schema } = site.paris;
    const load = new Load(source, { schema, seed: SEED, sessions: 1, pauseMs: 10 });
    await until('sales', () => load.committed > 5);
    await broker.kill();
    await broker.wipe();
    await broker.restart();
    await load.stop();
    await site.equal();
    t.equal((await site.office()).epoch, before.epoch, 'the spool was never in doubt');
  },
);

void t.test('a broker restored from a backup: old batches are ignored, new ones arrive', async t => {
  const site = await siteOnItsBroker(t);
  const data = join(broker.directory, 'data');
  const copy = join(site.world.directory, 'broker-data');
  await site.applier.stop();
  await site.sellBatches(1);
  await broker.stop();
  cpSync(data, copy, { recursive: true });
  await broker.restart();
  await site.applier.start();
  await site.equal();
  await site.sell();
  await site.equal();
  const before = await site.office();
  await broker.kill();
  rmSync(data, { recursive: true });
  cpSync(copy, data, { recursive: true });
  await broker.restart();
  await site.sell();
  await site.equal();
  const after = await site.office();
  t.equal(after.epoch, before.epoch, 'the spool was never in doubt');
  t.ok(after.received > before.received);
});
