/**
 * collapse/{offline-day,inserts}/{bytes,catch-up}: what a backlog is and how long it takes to catch up, with
 * `spool.collapse` and without (the rival). The day: sysbench's oltp_write_only, a million changes of 100,000 rows, while
 * the link is closed. The inserts are 500,000 sales: nothing of them can be saved, and nothing may be lost.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { Backlog } from './backlog.ts';
import { compared, cpuSeconds } from './report.ts';
import type { Bench } from './servers.ts';
import {
  SALES_DDL,
  SALES_TABLE,
  salesTransactions,
  SYSBENCH_DDL,
  SYSBENCH_TABLE,
  sysbenchRows,
  sysbenchTransactions,
} from './workload.ts';

/** Changes in one transaction of oltp_write_only. */
const CHANGES = 4;

interface Shape {
  readonly name: string;
  readonly table: { readonly name: string; readonly setup: readonly string[] };
  /** Rows in the table before and after. */
  readonly before: number;
  readonly after: number;
  readonly changes: number;
  readonly work: () => Iterable<string>;
}

function* upTo(rows: number): Generator<string> {
  yield SYSBENCH_DDL;
  yield* sysbenchRows(rows);
}

const SHAPES: readonly Shape[] = [
  {
    name: 'offline-day',
    table: { name: SYSBENCH_TABLE, setup: [...upTo(100_000)] },
    before: 100_000,
    after: 100_000,
    changes: 1_000_000,
    work: () => sysbenchTransactions(1_000_000 / CHANGES, 100_000),
  },
  {
    name: 'inserts',
    table: { name: SALES_TABLE, setup: [SALES_DDL] },
    before: 0,
    after: 500_000,
    changes: 500_000,
    work: () => salesTransactions(500_000, 10),
  },
];

/** The spool is taken as it is when so many looks have found it the same. */
const CALM_LOOKS = 4;
const LOOK_MS = 5_000;

export async function benchCollapse(bench: Bench): Promise<void> {
  for (const shape of SHAPES) {
    const name = `collapse/${shape.name}`;
    if (!bench.wants(`${name}/bytes`) && !bench.wants(`${name}/catch-up`)) continue;
    const open = (collapse: boolean): Promise<Backlog> =>
      Backlog.open(bench.servers, collapse ? 'merged' : 'whole', {
        agent: { spool: { collapse } },
        table: shape.table,
      });
    const backlogs = { merged: await open(true), whole: await open(false) };
    try {
      await measure(bench, name, shape, backlogs);
    } finally {
      await backlogs.merged.remove();
      await backlogs.whole.remove();
    }
  }
}

async function measure(
  { report, servers, rounds }: Bench,
  name: string,
  shape: Shape,
  backlogs: Readonly<Record<'merged' | 'whole', Backlog>>,
): Promise<void> {
  const kinds = ['merged', 'whole'] as const;
  const bytes = { merged: 0, whole: 0 };
  const cpu = { merged: 0, whole: 0 };
  for (const kind of kinds) {
    const backlog = backlogs[kind];
    if (shape.before > 0) await backlog.drain(shape.before);
    const began = cpuSeconds(backlog.agentPid);
    await backlog.work(servers, shape.work());
    await backlog.waitCaptured();
    bytes[kind] = await calmBytes(backlog);
    cpu[kind] = cpuSeconds(backlog.agentPid) - began;
    report.say(`${name}: ${kind}: ${shape.changes} changes wait in ${bytes[kind]} bytes`);
    await backlog.save();
  }
  const seconds: Record<'merged' | 'whole', number[]> = { merged: [], whole: [] };
  for (let round = 0; round < rounds; round += 1) {
    for (const kind of kinds) {
      const backlog = backlogs[kind];
      await backlog.restore();
      seconds[kind].push((await backlog.drain(shape.after)).seconds);
      if (round === rounds - 1) await backlog.mustBeEqual();
      await backlog.rest();
    }
    const figures = kinds.map(kind => `${kind} ${seconds[kind].at(-1)!.toFixed(1)} s`);
    report.say(`${name}: round ${round + 1}: ${figures.join(', ')}`);
  }
  report.add(compared(`${name}/bytes`, 'bytes', 'less', [bytes.merged], [bytes.whole]));
  report.add(compared(`${name}/catch-up`, 's', 'less', seconds.merged, seconds.whole));
  const micros = kinds.map(kind => ((cpu[kind] / shape.changes) * 1e6).toFixed(1));
  report.note(`${name}: processor µs of the agent a change: ${micros[0]} with merging, ${micros[1]} without.`);
}

/** What waits when it changes no more. */
async function calmBytes(backlog: Backlog): Promise<number> {
  let last = -1;
  for (let calm = 0; calm < CALM_LOOKS;) {
    await delay(LOOK_MS);
    const { waitingBytes } = (await backlog.status()).spool;
    calm = waitingBytes === last ? calm + 1 : 0;
    last = waitingBytes;
  }
  return last;
}
