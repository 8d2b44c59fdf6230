/**
 * A head office of three machines loses one of them while branches sell: the one with a leader, the primary and an
 * applier is killed, then frozen. Everything moves on before the lost one is back, and in the end all is equal, in the
 * same epoch, without a copy of a table and without a halt. It takes seven minutes:
 * `node test/run.ts test/chaos/cluster.test.ts`. `STAGE=cluster make chaos` is the long form.
 */
import t from 'tap';
import type { BrokerServer } from '../../deploy/rig/broker-server.ts';
import type { DatabaseServer } from '../../deploy/rig/database-server.ts';
import { nodeName } from '../../deploy/rig/broker-server.ts';
import { branchNames } from '../../shared/broker/amqp-messages.ts';
import { Chance } from './chance.ts';
import { ClusterStage } from './cluster-stage.ts';
import { until } from '../support/until.ts';
import { testSeed } from '../support/world/load.ts';

const seed = testSeed();
t.comment(`SEED=${seed}`);
const stage = await ClusterStage.open(line => t.comment(line), ['paris', 'lyon']);
t.teardown(() => stage.remove());
const { brokers, group, world, branches, appliers } = stage;

for (const { workload } of branches) workload.start(new Chance(String(seed)));

/** The node that leads the first branch's queue of batches. */
async function leader(): Promise<BrokerServer> {
  const path = `/queues/${world.vhost}/${branchNames(branches[0]?.branch.id ?? '').batches}`;
  const { leader: name } = (await world.managementApi('GET', path)) as { readonly leader?: string };
  return brokers.nodes.find(({ port }) => nodeName(port) === name) ?? brokers.nodes[0]!;
}

async function primary(): Promise<DatabaseServer> {
  const found = await group.primary();
  if (found === undefined) throw new Error('no member takes writes');
  return found;
}

async function whole(): Promise<void> {
  await stage.mend();
  for (const applier of appliers) {
    applier.resume();
    // One that starts while the group has no primary ends, and here is no supervisor that starts it again.
    await until('an applier that is ready', async () => {
      if (!applier.running) await applier.start();
      const answer = await fetch(`${applier.url}/readyz`, { signal: AbortSignal.timeout(20_000) }).catch(() => null);
      return answer?.ok === true;
    });
  }
}

await t.test('a machine with a leader, the primary and an applier is killed', async () => {
  const [node, member] = [await leader(), await primary()];
  await Promise.all([node.kill(), member.kill(), appliers[0]?.kill9()]);
  await stage.moved();
  await whole();
});

await t.test('a machine with a leader, the primary and an applier freezes', async () => {
  const machine = [await leader(), await primary(), appliers[1]];
  for (const each of machine) each?.pause();
  try {
    await stage.moved();
  } finally {
    // Otherwise all that follows fails too, and says nothing of why.
    for (const each of machine) each?.resume();
  }
  await whole();
});

await t.test('in the end all is equal, and nothing of it has cost an epoch, a copy or a halt', async t => {
  for (const { workload } of branches) await workload.stop();
  for (const { branch } of branches) t.ok((await world.waitUntilEqual(branch)).rowsCompared > 0);
  await stage.audit();
  // A member that was frozen may have been expelled once more since.
  await stage.mend();
  const check = await world.applierCli(['check']);
  t.equal(check.code, 0, check.stdout);
  t.match(check.stdout, /ok +target\.group: .*ONLINE PRIMARY/);
  t.match(check.stdout, /ok +broker\.net_ticktime: 10 s/);
});
