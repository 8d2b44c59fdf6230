/**
 * A disk that fails under the spool, and what a power cut leaves there: the process ends and says why, or recovers what
 * was durable; after the next start every row of branch and head office is equal.
 */
import { join } from 'node:path';
import t from 'tap';
import { BrokenDisk, garbleLastFrame, loseLastFrame, tearNextFrame } from '../support/world/broken-disk.ts';
import type { DiskFault } from '../support/world/broken-disk.ts';
import { Load, LOAD_TABLES } from '../support/world/load.ts';
import { createWorld } from '../support/world/world.ts';
import type { Branch } from '../support/world/world.ts';

/** Transactions of the load before the fault, and again after it. */
const SOME = 40;

const world = await createWorld(t);
await world.startApplier();

const FAULTS: readonly { readonly fault: DiskFault; readonly lasts: boolean; readonly name: string }[] = [
  { fault: 'writes', lasts: true, name: 'a disk that refuses writes ends the process, with the cure; nothing is lost' },
  {
    fault: 'syncs',
    lasts: true,
    name: 'a sync that fails ends the process, with the cure; nothing is tried again, nothing is lost',
  },
  {
    fault: 'one sync',
    lasts: false,
    name: 'one sync that fails ends the process, though the next would succeed; nothing is lost',
  },
];

for (const { fault, lasts, name } of FAULTS) {
  await t.test(name, async t => {
    const branchName = fault.replace(' ', '-');
    const disk = BrokenDisk.build(world.directory, join(world.directory, branchName, 'spool'));
    if (typeof disk === 'string') {
      t.comment(`skipped: ${disk}`);
      return;
    }
    const branch = await world.addBranch(branchName, { setup: LOAD_TABLES, environment: disk.environment });
    await branch.startAgent();
    await world.waitUntilEqual(branch);
    const load = new Load(branch.source, { schema: branch.schema, seed: 11 });
    await commits(branch, load, SOME);
    disk.fail(fault);
    t.equal(await endOf(branch), 1, 'the process ends');
    t.match(branch.agent.logTail(), /SPOOL_IO: The spool in .* failed: disk I\/O error\.\n +→ Check the disk/);
    t.same(disk.touchedAfterwards(), [], 'no file of the spool is touched after a sync that failed');
    if (lasts) {
      await branch.agent.start();
      t.equal(await endOf(branch), 1, 'and does not begin on such a disk');
      disk.heal();
    }
    await branch.startAgent();
    await commits(branch, load, SOME);
    await load.stop();
    await world.waitUntilEqual(branch);
    await branch.agent.stop();
  });
}

const CUTS: readonly { readonly cut: (logFile: string) => void; readonly keeps: boolean; readonly name: string }[] = [
  { cut: tearNextFrame, keeps: true, name: 'a write that a power cut has torn is passed over, in the same epoch' },
  { cut: loseLastFrame, keeps: false, name: 'a commit that the disk had called synced and lost: all is equal again' },
  { cut: garbleLastFrame, keeps: false, name: 'a commit that the disk had garbled: all is equal again' },
];

for (const [index, { cut, keeps, name }] of CUTS.entries()) {
  await t.test(name, async t => {
    const branch = await world.addBranch(`cut-${index}`, { setup: LOAD_TABLES });
    await branch.startAgent();
    await world.waitUntilEqual(branch);
    const load = new Load(branch.source, { schema: branch.schema, seed: 12 + index });
    await commits(branch, load, SOME);
    const epoch = await epochOf(branch);
    await branch.agent.kill9();
    cut(join(branch.spoolDirectory, 'spool.db-wal'));
    await branch.startAgent();
    await commits(branch, load, SOME);
    await load.stop();
    await world.waitUntilEqual(branch);
    if (keeps) t.equal(await epochOf(branch), epoch, 'nothing durable was lost');
    await branch.agent.stop();
  });
}

/** Resolves when the load has committed so many more. */
async function commits(branch: Branch, load: Load, more: number): Promise<void> {
  const wanted = load.committed + more;
  await branch.agent.waitUntil('transactions of the load', () => load.committed >= wanted);
}

/** The exit status. @throws at a deadline */
async function endOf(branch: Branch): Promise<number> {
  await branch.agent.waitUntil('its end', () => !branch.agent.running);
  return branch.agent.exited;
}

async function epochOf(branch: Branch): Promise<string> {
  return ((await branch.agent.get('/api/status')) as { stream: { epoch: string } }).stream.epoch;
}
