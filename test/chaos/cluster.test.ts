/**
 * A head office of three machines loses one of them while branches sell: the one with a leader, the primary and an
 * applier freezes, then is parted from the others. Everything moves on before the lost one is back, and in the end all
 * is equal, in the same epoch, without a copy of a table and without a halt. `node test/run.ts test/chaos/cluster.test.ts`.
 * test/integration/cluster.test.ts kills the machine, and `STAGE=cluster make chaos` is the long form.
 */
import t from 'tap';
import { testSeed } from '../support/world/load.ts';
import { Chance } from './chance.ts';
import { ClusterStage } from './cluster-stage.ts';

const seed = testSeed();
t.comment(`SEED=${seed}`);
const stage = await ClusterStage.open(line => t.comment(line), ['paris', 'lyon']);
t.teardown(() => stage.remove());
const { world, branches, appliers } = stage;
const [first, second] = appliers;
if (first === undefined || second === undefined) throw new Error('two appliers are wanted');

for (const { workload } of branches) workload.start(new Chance(String(seed)));

await t.test('a machine with a leader, the primary and an applier freezes', async () => {
  const { node, member, applier } = await stage.machineOf(first);
  for (const each of [node, member, applier]) each.pause();
  try {
    await stage.moved();
  } finally {
    // Otherwise all that follows fails too, and says nothing of why.
    for (const each of [node, member, applier]) each.resume();
  }
  await stage.makeWhole();
});

await t.test('a machine with a leader, the primary and an applier is parted, and branches still reach it', async t => {
  if (!stage.group.divisible) t.comment('no IPv6 loopback address: the primary is not parted');
  await stage.part(await stage.machineOf(second), 'black-hole', false);
  await stage.moved();
  await stage.makeWhole();
});

await t.test('a machine with a leader, the primary and an applier is parted from everything', async t => {
  if (!stage.group.divisible) t.comment('no IPv6 loopback address: the primary is not parted');
  await stage.part(await stage.machineOf(first), 'cut', true);
  await stage.moved();
  await stage.makeWhole();
});

await t.test('in the end all is equal, and nothing of it has cost an epoch, a copy or a halt', async t => {
  for (const { workload } of branches) await workload.stop();
  for (const { branch } of branches) t.ok((await world.waitUntilEqual(branch)).rowsCompared > 0);
  await stage.audit();
  const check = await world.applierCli(['check']);
  t.equal(check.code, 0, check.stdout);
  t.match(check.stdout, /ok +target\.group: .*ONLINE PRIMARY/);
  t.match(check.stdout, /ok +broker\.net_ticktime: 10 s/);
});
