/**
 * cluster/…: how long branches stand still when a head office of three machines loses something, from the fault until
 * each branch's next commit is at the head office; beside it how long the engine itself takes. Nothing is repaired
 * meanwhile. No rival.
 *
 * - `node-killed`, `node-frozen`: the broker's node that leads most queues; `elected`: until every queue is led by another
 * - `primary-killed`, `primary-frozen`: the database that takes writes; `elected`: until another one takes them
 * - `applier-killed`: the one that serves most branches
 * - `broker-restarted`: every node is killed and started; from the last one's being up again
 */
import * as z from 'zod';
import type { BrokerServer } from '../../deploy/rig/broker-server.ts';
import { nodeName } from '../../deploy/rig/broker-server.ts';
import type { Product } from '../../deploy/rig/daemon.ts';
import { Chance } from '../chaos/chance.ts';
import { ClusterStage } from '../chaos/cluster-stage.ts';
import { instanceOf } from '../support/world/shares.ts';
import { until } from '../support/until.ts';
import { alone } from './report.ts';
import type { Bench } from './servers.ts';

const SEED = 'bench';
const LOOK_EVERY_MS = 50;

const queuesSchema = z.array(
  z.object({
    name: z.string(),
    leader: z.string().optional(),
    consumer_details: z.array(z.object({ consumer_tag: z.string(), activity_status: z.string() })).default([]),
  }),
);

/** What is lost, and what the engine does about it. */
interface Loss {
  readonly name: string;
  /** @returns resolves when the engine has done its part; null: there is nothing to elect */
  readonly lose: (stage: ClusterStage) => Promise<{ readonly elected: Promise<unknown> | null }>;
}

const LOSSES: readonly Loss[] = [
  { name: 'node-killed', lose: stage => loseNode(stage, node => node.kill()) },
  {
    name: 'node-frozen',
    lose: stage =>
      loseNode(stage, node => {
        node.pause();
        return Promise.resolve();
      }),
  },
  {
    name: 'primary-killed',
    lose: async stage => {
      const lost = await primaryOf(stage);
      await lost.kill();
      return { elected: anotherPrimary(stage, lost) };
    },
  },
  {
    name: 'primary-frozen',
    lose: async stage => {
      const lost = await primaryOf(stage);
      lost.pause();
      return { elected: anotherPrimary(stage, lost) };
    },
  },
  {
    name: 'applier-killed',
    lose: async stage => {
      await (await busiest(stage)).kill9();
      return { elected: null };
    },
  },
  {
    name: 'broker-restarted',
    lose: async ({ brokers }) => {
      await Promise.all(brokers.nodes.map(node => node.kill()));
      await Promise.all(brokers.nodes.map(node => node.restart()));
      return { elected: null };
    },
  },
];

export async function benchCluster(bench: Bench): Promise<void> {
  const { report, rounds } = bench;
  const wanted = LOSSES.filter(({ name }) => bench.wants(`cluster/${name}`));
  if (wanted.length === 0) return;
  const stage = await ClusterStage.open(line => report.say(line));
  try {
    const { branches } = stage;
    for (const { workload } of branches) workload.start(new Chance(SEED));
    for (const loss of wanted) {
      const moving: number[] = [];
      const elected: number[] = [];
      for (let round = 0; round < rounds; round += 1) {
        // Whatever the last loss has left behind is over.
        await stage.moved();
        const began = performance.now();
        const seconds = (): number => (performance.now() - began) / 1_000;
        const { elected: election } = await loss.lose(stage);
        // A restart counts from its end.
        const from = loss.name === 'broker-restarted' ? seconds() : 0;
        await Promise.all([
          stage.moved().then(() => moving.push(seconds() - from)),
          election?.then(() => elected.push(seconds())),
        ]);
        report.say(
          `cluster/${loss.name}: ${moving.at(-1)?.toFixed(1)} s, elected ${elected.at(-1)?.toFixed(1) ?? '–'}`,
        );
        await mend(stage);
      }
      report.add(alone(`cluster/${loss.name}/moving`, 's', moving));
      if (elected.length > 0) report.add(alone(`cluster/${loss.name}/elected`, 's', elected));
    }
    for (const { workload } of branches) await workload.stop();
    let rows = 0;
    for (const { branch } of branches) rows += (await stage.world.waitUntilEqual(branch)).rowsCompared;
    await stage.audit();
    report.note(
      `cluster: ${branches.length} branches that sell; least and greatest of ${rounds} losses each; in the end ${rows} rows ` +
        'are equal, in the same epochs, without a copy of a table and without a halt.',
    );
  } finally {
    await stage.remove();
  }
}

async function mend(stage: ClusterStage): Promise<void> {
  await stage.mend();
  for (const applier of stage.appliers) if (!applier.running) await (await applier.start()).waitReady();
}

async function primaryOf({ group }: ClusterStage) {
  const primary = await group.primary();
  if (primary === undefined) throw new Error('no member takes writes');
  return primary;
}

function anotherPrimary({ group }: ClusterStage, lost: unknown): Promise<void> {
  const elected = async (): Promise<boolean> => {
    const primary = await group.primary();
    return primary !== undefined && primary !== lost;
  };
  return until('another primary', elected, { everyMs: LOOK_EVERY_MS });
}

async function loseNode(stage: ClusterStage, lose: (node: BrokerServer) => Promise<void>) {
  const { nodes } = stage.brokers;
  const [first] = nodes;
  if (first === undefined) throw new Error('no nodes');
  const lost = mostly(
    nodes,
    (await queuesAt(stage, first)).map(({ leader }) => leader),
    node => nodeName(node.port),
  );
  const other = nodes.find(node => node !== lost) ?? first;
  await lose(lost);
  const gone = nodeName(lost.port);
  const elected = until(
    'another leader of every queue',
    // While the node is about to be found gone, the others may not answer in time.
    () =>
      queuesAt(stage, other).then(
        queues => queues.every(({ leader }) => leader !== undefined && leader !== gone),
        () => false,
      ),
    { everyMs: LOOK_EVERY_MS },
  );
  return { elected };
}

async function busiest(stage: ClusterStage): Promise<Product> {
  const [first] = stage.brokers.nodes;
  if (first === undefined) throw new Error('no nodes');
  const serving = (await queuesAt(stage, first)).flatMap(({ consumer_details }) =>
    consumer_details
      .filter(({ activity_status }) => activity_status === 'single_active')
      .map(each => each.consumer_tag),
  );
  return mostly(stage.appliers, serving, instanceOf);
}

/** The one whose name is there most often. */
function mostly<T>(all: readonly T[], found: readonly (string | undefined)[], nameOf: (each: T) => string): T {
  const count = (each: T): number => found.filter(name => name === nameOf(each)).length;
  const [most] = [...all].sort((a, b) => count(b) - count(a));
  if (most === undefined) throw new Error('nothing to choose from');
  return most;
}

async function queuesAt({ world }: ClusterStage, node: BrokerServer): Promise<z.infer<typeof queuesSchema>> {
  const login = Buffer.from(`${node.user}:${node.password}`).toString('base64');
  const response = await fetch(`http://${node.host}:${node.managementPort}/api/queues/${world.vhost}`, {
    headers: { authorization: `Basic ${login}` },
    signal: AbortSignal.timeout(5_000),
  });
  return queuesSchema.parse(await response.json());
}
