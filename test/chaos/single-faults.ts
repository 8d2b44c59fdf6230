/**
 * The faults of the single stage. Each breaks something, waits as long as the seed says, and mends it; what it leaves
 * behind (lost messages, an older spool, an older head office) is for the products to heal.
 */
import { cpSync, lstatSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parse, stringify } from 'yaml';
import { readFileSync } from 'node:fs';
import { freePort } from '../../deploy/rig/free-port.ts';
import { Product } from '../../deploy/rig/daemon.ts';
import { SPOOL_FILE_NAME } from '../../agent/spool/spool-file.ts';
import { branchNames } from '../../shared/broker/amqp-messages.ts';
import { flipBitOfLastBatch } from '../support/hand-made/spool-damage.ts';
import { stealBatches } from '../support/hand-made/queue-thief.ts';
import { COMMON_FAULTS } from './common-faults.ts';
import { briefly, some } from './fault.ts';
import type { FaultCall, Faults } from './fault.ts';
import { SOURCE_FAULTS } from './source-faults.ts';
import type { SingleStage } from './single-stage.ts';
import { TARGET_FAULTS } from './target-faults.ts';

/** As many copies are kept; the oldest go. */
const COPIES_KEPT = 3;

export const SINGLE_FAULTS: Faults<SingleStage> = {
  ...COMMON_FAULTS,
  'broker-killed': {
    weight: 2,
    run: async ({ stage }) => {
      await stage.broker.kill();
      await stage.broker.restart();
    },
  },
  'broker-frozen': {
    weight: 2,
    run: async ({ stage, chance }) => {
      stage.broker.pause();
      await briefly(chance);
      stage.broker.resume();
    },
  },
  'broker-wiped': {
    weight: 2,
    run: async ({ stage }) => {
      await stage.broker.kill();
      await stage.broker.wipe();
      await stage.broker.restart();
    },
  },
  'queue-purged': {
    weight: 4,
    run: async call => {
      const { batches } = branchNames(some(call).branch.id);
      await call.stage.world
        .managementApi('DELETE', `/queues/${call.stage.world.vhost}/${batches}/contents`)
        .catch(ignoreBrokerTrouble);
    },
  },
  'queue-deleted': {
    weight: 2,
    run: async call => {
      const { batches } = branchNames(some(call).branch.id);
      await call.stage.world
        .managementApi('DELETE', `/queues/${call.stage.world.vhost}/${batches}`)
        .catch(ignoreBrokerTrouble);
    },
  },
  'queue-loses-its-first': {
    weight: 2,
    run: async call => {
      // While nobody consumes: only one may.
      const { stage, chance } = call;
      const { branch } = some(call);
      for (const applier of stage.appliers) await applier.kill9();
      await briefly(chance);
      await stealBatches(stage.broker, stage.world.vhost, branch.id, chance.between(1, 5), 'take').catch(
        ignoreBrokerTrouble,
      );
      for (const applier of stage.appliers) await applier.start();
    },
  },
  'head-office-killed': {
    weight: 2,
    run: async ({ stage }) => {
      await stage.headOffice.kill();
      await stage.headOffice.restart();
    },
  },
  'head-office-frozen': {
    weight: 2,
    run: async ({ stage, chance }) => {
      stage.headOffice.pause();
      await briefly(chance);
      stage.headOffice.resume();
    },
  },
  'head-office-dumped': {
    weight: 4,
    run: async ({ stage, memory }) => {
      // mysqldump gives up when a table is altered under it: then there is no backup, as for any operator.
      const copy = await stage.dump().catch(() => null);
      if (copy === null) return;
      memory.dumps.push(copy);
      for (const old of memory.dumps.splice(0, memory.dumps.length - COPIES_KEPT)) rmSync(old.path, { force: true });
    },
  },
  'head-office-restored': {
    weight: 3,
    run: async ({ stage, chance, memory }) => {
      if (memory.dumps.length === 0) return;
      for (const applier of stage.appliers) await applier.kill9();
      await stage.restore(chance.pick(memory.dumps));
      for (const applier of stage.appliers) await applier.start();
    },
  },
  'spool-copied': {
    weight: 4,
    run: async call => {
      const stageBranch = some(call);
      await stageBranch.branch.agent.kill9();
      const copies = call.memory.spools.get(stageBranch.branch.id) ?? [];
      copies.push(call.stage.copySpool(stageBranch));
      for (const old of copies.splice(0, copies.length - COPIES_KEPT))
        rmSync(old.path, { recursive: true, force: true });
      call.memory.spools.set(stageBranch.branch.id, copies);
      await stageBranch.branch.agent.start();
    },
  },
  'spool-restored': {
    weight: 3,
    run: async call => {
      const stageBranch = some(call);
      const copies = call.memory.spools.get(stageBranch.branch.id) ?? [];
      if (copies.length === 0) return;
      await stageBranch.branch.agent.kill9();
      call.stage.putSpoolBack(stageBranch, call.chance.pick(copies));
      await stageBranch.branch.agent.start();
    },
  },
  'spool-lost': {
    weight: 2,
    run: async call => {
      const { branch } = some(call);
      await branch.agent.kill9();
      rmSync(branch.spoolDirectory, { recursive: true, force: true });
      await branch.agent.start();
    },
  },
  'spool-damaged': {
    weight: 2,
    run: async call => {
      const { branch, link } = some(call);
      for (const proxy of link) await proxy.set({ mode: 'cut' });
      await briefly(call.chance);
      await branch.agent.stop();
      try {
        flipBitOfLastBatch(join(branch.spoolDirectory, SPOOL_FILE_NAME));
      } catch (error) {
        call.note(String(error));
      }
      for (const proxy of link) await proxy.heal();
      await branch.agent.start();
      // It ends when it comes to the batch, and is started again, as systemd would.
      await Promise.race([branch.agent.exited, sleep(call.chance.between(1_000, 4_000))]);
      if (!branch.agent.running) await branch.agent.start();
    },
  },
  'spool-cloned': { weight: 2, run: call => runTwin(call, 'copied') },
  'enrolment-used-twice': { weight: 1, run: call => runTwin(call, 'none') },
  ...SOURCE_FAULTS,
  ...TARGET_FAULTS,
};

/** A second machine runs for a while beside the first, with its identity: with a copy of its spool, or with none. */
async function runTwin(call: FaultCall, spool: 'copied' | 'none'): Promise<void> {
  const stageBranch = some(call);
  const { branch } = stageBranch;
  await branch.agent.kill9();
  const folder = `${branch.folder}-clone`;
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  cpSync(branch.folder, folder, {
    recursive: true,
    // A killed agent leaves its socket behind, which cannot be copied.
    filter: source => !lstatSync(source).isSocket() && (spool === 'copied' || source !== branch.spoolDirectory),
  });
  const configFile = join(folder, 'agent.yaml');
  const config = parse(readFileSync(configFile, 'utf8')) as Record<string, unknown>;
  config['spool'] = { directory: join(folder, 'spool') };
  config['http'] = { listen: `127.0.0.1:${await freePort()}` };
  writeFileSync(configFile, stringify(config), { mode: 0o600 });
  const clone = new Product({
    program: 'agent',
    configFile,
    logFile: `${branch.agent.logFile}.clone`,
    url: 'http://127.0.0.1:9',
    environment: call.stage.world.environment,
  });
  await clone.start();
  await branch.agent.start();
  await sleep(call.chance.between(1_000, 5_000));
  await clone.kill9();
}

/** The broker may be down because of another fault. */
function ignoreBrokerTrouble(): void {
  // Nothing was purged; the fault has not happened.
}
