/**
 * Faults of a branch's database server: it dies, another takes over at its address, it writes without a binlog for a
 * while, or its binlog begins anew.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import mysql from 'mysql2/promise';
import type { ChangedOptions } from '../../deploy/local/database-server.ts';
import type { Failover } from './branch-source.ts';
import { some } from './fault.ts';
import type { FaultCall, Faults } from './fault.ts';
import type { StageBranch } from './stage.ts';

async function failOver(call: FaultCall, how: Failover): Promise<void> {
  call.note(await some(call).source.failOver(how, call.chance));
}

/** The server runs with the options for a while, is written to, and then runs as before. */
async function unlogged(call: FaultCall, options: (branch: StageBranch) => ChangedOptions): Promise<void> {
  const stageBranch = some(call);
  const { source, branch } = stageBranch;
  const changed = options(stageBranch);
  call.note(`${branch.schema}: ${JSON.stringify(changed)}`);
  // What is written now does not reach a standby: whoever runs the pair has to make it anew.
  await source.dropStandby();
  await source.primary.restart(changed);
  await sleep(call.chance.between(2_000, 8_000));
  await source.primary.restart(Object.fromEntries(Object.keys(changed).map(name => [name, null])));
}

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
  'source-unlogged': { weight: 3, run: call => unlogged(call, () => ({ 'skip-log-bin': true })) },
  'source-unlogged-schema': {
    weight: 3,
    run: call => unlogged(call, ({ branch }) => ({ 'binlog-ignore-db': branch.schema })),
  },
  'source-binlog-reset': { weight: 3, run: resetBinlog },
};
