/**
 * A head office of three machines: the one with a leader, the primary and an applier is killed while a branch sells. The
 * branch moves on by itself, all is equal, in the same epoch, without a copy of a table and without a halt.
 * test/chaos/cluster.test.ts is the longer form, and `STAGE=cluster make chaos` the longest.
 */
import t from 'tap';
import { Chance } from '../chaos/chance.ts';
import { ClusterStage } from '../chaos/cluster-stage.ts';
import { testSeed } from '../support/world/load.ts';

const seed = testSeed();
t.comment(`SEED=${seed}`);
const stage = await ClusterStage.open(line => t.comment(line), ['paris']);
t.teardown(() => stage.remove());
const { world, branches, appliers } = stage;
const [paris] = branches;
const [served] = appliers;
if (paris === undefined || served === undefined) throw new Error('a branch and an applier are wanted');

await t.test('a machine with a leader, the primary and an applier is killed, and the branch moves on', async t => {
  paris.workload.start(new Chance(String(seed)));
  const { node, member, applier } = await stage.machineOf(served);
  await Promise.all([node.kill(), member.kill(), applier.kill9()]);
  await stage.moved();
  await paris.workload.stop();
  await stage.lookAtPrimary();
  t.ok((await world.waitUntilEqual(paris.branch)).rowsCompared > 0);
  await stage.audit();
});
