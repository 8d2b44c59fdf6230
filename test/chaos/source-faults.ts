/**
 * Faults of a branch's database server: it dies, another takes over at its address, it writes without a binlog for a
 * while, or its binlog begins anew.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import mysql from 'mysql2/promise';
import type { ServerOptions } from '../../deploy/rig/database-options.ts';
import type { Failover } from './branch-source.ts';
import { some } from './fault.ts';
import type { FaultCall, Faults } from './fault.ts';

async function failOver(call: FaultCall, how: Failover): Promise<void> {
  call.note(await some(call).source.failOver(how, call.chance));
}

/** An agent that has lost its server looks again within half a minute. */
const SEEN_WITHIN_MS = 60_000;

/**
 * The server runs with the options for a while, is written to, and then runs as before.
 * @param agent `sees`: it runs all the time; `dies`: it is killed once it has seen; `away`: it is down all the time
 */
async function unlogged(call: FaultCall, options: ServerOptions, agent: 'sees' | 'dies' | 'away'): Promise<void> {
  const { chance, memory } = call;
  const stageBranch = some(call);
  const { source, branch } = stageBranch;
  const given = Object.keys(options).map(name => [name, name === IGNORE ? branch.schema : options[name]!] as const);
  call.note(`${source.name}: ${JSON.stringify(Object.fromEntries(given))}; the agent ${agent}`);
  const from = branch.agent.log().length;
  if (agent === 'away') {
    await branch.agent.kill9();
    memory.unseen.add(stageBranch);
  }
  // What is written now does not reach a standby: whoever runs the pair has to make it anew.
  await source.dropStandby();
  await source.primary.restart(Object.fromEntries(given));
  await sleep(chance.between(500, 3_000));
  if (agent !== 'away') {
    await branch.agent.waitForLog(({ code }) => code === 'SOURCE_SETTING', SEEN_WITHIN_MS, from);
    call.note('the agent has seen it');
    await sleep(chance.between(0, 2_000));
  }
  if (agent === 'dies') await branch.agent.kill9();
  await source.primary.restart(Object.fromEntries(given.map(([name]) => [name, false])));
  if (!branch.agent.running) await branch.agent.start();
}

const IGNORE = 'binlog-ignore-db';
const seenOrNot = (call: FaultCall): 'sees' | 'dies' => call.chance.weighted({ sees: 2, dies: 1 });

async function resetBinlog(call: FaultCall): Promise<void> {
  const { source } = some(call);
  call.note(source.name);
  await source.dropStandby();
  const { host, port, user, password, flavor } = source.primary;
  const db = await mysql.createConnection({ host, port, user, password });
  try {
    for (let i = call.chance.between(1, 2); i > 0; i -= 1) {
      await db.query(flavor === 'mysql' ? 'RESET BINARY LOGS AND GTIDS' : 'RESET MASTER');
      await sleep(call.chance.between(0, 1_000));
    }
  } finally {
    db.destroy();
  }
}

export const SOURCE_FAULTS: Faults = {
  'source-killed': {
    weight: 2,
    run: async call => {
      const { primary } = some(call).source;
      await primary.kill();
      await primary.restart();
    },
  },
  'source-failover-clean': { weight: 3, run: call => failOver(call, 'clean') },
  'source-failover-crash': { weight: 2, run: call => failOver(call, 'crash') },
  'source-failover-lossy': { weight: 3, run: call => failOver(call, 'lossy') },
  'source-unlogged': { weight: 3, run: call => unlogged(call, { 'skip-log-bin': true }, seenOrNot(call)) },
  'source-unlogged-schema': { weight: 3, run: call => unlogged(call, { [IGNORE]: 'its own' }, seenOrNot(call)) },
  'source-unlogged-unseen': {
    weight: 2,
    run: call => unlogged(call, call.chance.pick([{ 'skip-log-bin': true }, { [IGNORE]: 'its own' }]), 'away'),
  },
  'source-binlog-reset': { weight: 3, run: resetBinlog },
};
