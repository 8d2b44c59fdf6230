/**
 * The fence between two appliers: one is stopped with SIGSTOP in the midst of a transaction, the other takes over, and the
 * first is continued later. And an applier whose connection to the head office's database is dead without knowing it.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import { FaultProxy } from '../../deploy/rig/fault-proxy.ts';
import { branchNames } from '../../shared/broker/amqp-messages.ts';
import { Load, LOAD_TABLES, testSeed } from '../support/world/load.ts';
import { nameThatPrefers } from '../support/world/shares.ts';
import { until as waitUntil } from '../support/until.ts';
import { lockWaiters } from '../support/world/lock-waits.ts';
import { createWorld } from '../support/world/world.ts';
import { connectTo } from '../support/world/database.ts';

const seed = testSeed();
t.comment(`SEED=${seed}`);

const world = await createWorld(t);
const link = await FaultProxy.open(world.headOffice.port);
t.teardown(() => link.close());
const victim = await world.startApplier({ config: { target: { port: link.port } } });
const other = await world.applier({ name: 'applier-2' });
// It is to be the victim's as long as the victim is there.
const paris = await world.addBranch(nameThatPrefers(world, victim, other), {
  setup: [...LOAD_TABLES, 'CREATE TABLE hot (id INT PRIMARY KEY, n INT)', 'INSERT INTO hot VALUES (1, 0)'],
});
await paris.startAgent();

/** The victim serves the branch, and the other, if it is to be there, stands by. */
async function victimServes({ beside }: { readonly beside: boolean }): Promise<void> {
  await other.stop();
  if (!victim.running) await victim.start();
  await victim.waitReady();
  await paris.db.query('UPDATE hot SET n = n + 1');
  await world.waitUntilEqual(paris);
  if (!beside) return;
  await other.start();
  await other.waitReady();
}

/** The server renews INNODB_TRX only for those who have not looked for a tenth of a second. */
const until = (what: string, check: () => Promise<boolean>): Promise<void> => waitUntil(what, check, { everyMs: 150 });

async function received(): Promise<number> {
  const [rows] = await world.headOfficeDb.query<RowDataPacket[]>(
    `SELECT received_seq AS seq FROM ${world.database}.tributary_branch WHERE branch = '${paris.id}'`,
  );
  return Number(rows[0]?.['seq']);
}

/** Sessions in the head office's database that wait for a lock and speak of this table. */
const waiters = (table: string): Promise<number[]> => lockWaiters(world.headOfficeDb, world.database, table);

/** Whether this session has an open transaction. */
async function isOpen(session: number): Promise<boolean> {
  const [rows] = await world.headOfficeDb.query<RowDataPacket[]>(
    `SELECT 1 FROM information_schema.INNODB_TRX WHERE trx_mysql_thread_id = ${session}`,
  );
  return rows.length > 0;
}

/** Closes the connection of the applier that consumes, as a heartbeat that fails to come does after half a minute. */
async function dropActiveConsumer(): Promise<void> {
  const { batches } = branchNames(paris.id);
  let name: string | undefined;
  await until('the broker to tell who consumes', async () => {
    const queue = (await world.managementApi('GET', `/queues/${world.vhost}/${batches}`)) as {
      readonly consumer_details?: readonly {
        readonly activity_status: string;
        readonly channel_details: { readonly connection_name: string };
      }[];
    };
    name = queue.consumer_details?.find(({ activity_status }) => activity_status === 'single_active')?.channel_details
      .connection_name;
    return name !== undefined;
  });
  await world.managementApi('DELETE', `/connections/${encodeURIComponent(name ?? '')}`);
}

/**
 * Stops the victim when its transaction holds the branch's row and has begun to write.
 * @returns the server's number of the session that holds it
 */
async function freezeInMidTransaction(): Promise<number> {
  const blocker = await connectTo(world.headOffice, { database: world.database });
  try {
    await blocker.query('BEGIN');
    await blocker.query(`SELECT * FROM hot WHERE _branch = '${paris.id}' FOR UPDATE`);
    await paris.db.query('UPDATE hot SET n = n + 1');
    let waiting: number | undefined;
    await until('the transaction to wait', async () => {
      [waiting] = await waiters('hot');
      return waiting !== undefined;
    });
    victim.pause();
    await blocker.query('ROLLBACK');
    return Number(waiting);
  } finally {
    blocker.destroy();
  }
}

/** Watches the watermark until it is told to stop. @returns how often it went back */
function watchWatermark(): () => Promise<number> {
  let watching = true;
  let backwards = 0;
  const watch = (async () => {
    let last = 0;
    while (watching) {
      const now = await received();
      if (now < last) backwards += 1;
      last = now;
      await sleep(5);
    }
  })();
  return async () => {
    watching = false;
    await watch;
    return backwards;
  };
}

for (const [name, outlived] of [
  ['continued while its transaction is still open: the other waits for the fence', false],
  ['continued after its session has ended: the other has gone on meanwhile', true],
] as const) {
  await t.test(`an applier frozen in the midst of a transaction, ${name}`, async t => {
    await victimServes({ beside: true });
    const backwards = watchWatermark();
    const before = await received();
    const frozen = await freezeInMidTransaction();
    t.equal(await received(), before, 'nothing is committed yet');
    await dropActiveConsumer();
    const load = new Load(paris.source, {
      schema: paris.schema,
      seed: seed + Number(outlived),
      sessions: 2,
      pauseMs: 4,
    });
    if (outlived) {
      await until('the other one to go on', async () => (await received()) > before + 3);
    } else {
      // With the fence it waits while the frozen transaction is open; without, it writes.
      let passedFence = false;
      await until('the other one at the fence', async () => {
        const moved = (await received()) > before;
        const open = await isOpen(frozen);
        passedFence = moved && open;
        if (!open) t.comment('the machine was so slow that the frozen session ended before the other one came');
        return moved || !open || (await waiters('tributary_branch')).length > 0;
      });
      t.notOk(passedFence, 'it does not pass the fence');
    }
    await paris.db.query('UPDATE hot SET n = n + 1');
    victim.resume();
    await sleep(500);
    await load.stop();
    await world.waitUntilEqual(paris);
    t.equal(await backwards(), 0, 'the watermark never went back');
  });
}

await t.test('a connection to the head office’s database that is dead without a word is found out', async t => {
  await victimServes({ beside: false });
  const load = new Load(paris.source, { schema: paris.schema, seed, sessions: 2, pauseMs: 4 });
  await until('sales', () => Promise.resolve(load.committed > 10));
  link.halfOpen();
  await load.stop();
  await world.waitUntilEqual(paris);
  t.ok(
    victim.log().some(line => JSON.stringify(line).includes('no longer works on it')),
    'because the server was asked, long before a statement may be called stalled',
  );
});
