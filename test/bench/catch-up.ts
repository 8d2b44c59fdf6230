/**
 * catch-up/{1,10,1000}-row/{ceiling,native-default,native-best}: a full spool let out through broker and applier, from
 * the opening of the link until the head office has committed the last batch, in rows a second.
 *
 * Each round begins with fresh processes, an empty table and the same spool; then come the rivals, one after the other.
 * Ceiling: see ceiling.ts. Native replication of many small transactions is slow, so it is given the last of the
 * branch's transactions only; its rate does not depend on their number.
 */
import { Backlog } from './backlog.ts';
import { loadCeiling, readChunks } from './ceiling.ts';
import { replicate } from './native.ts';
import type { NativeJob } from './native.ts';
import { profile } from './profile.ts';
import { compared, cpuSeconds, median } from './report.ts';
import type { Bench } from './servers.ts';
import { binlogEnd, newBinlog, SALES_TABLE, salesTransactions } from './workload.ts';

interface Shape {
  readonly rowsPerTransaction: number;
  readonly rows: number;
  /** Rows given to native replication. */
  readonly nativeRows: number;
}

const SHAPES: readonly Shape[] = [
  { rowsPerTransaction: 1, rows: 200_000, nativeRows: 20_000 },
  { rowsPerTransaction: 10, rows: 300_000, nativeRows: 100_000 },
  { rowsPerTransaction: 1_000, rows: 500_000, nativeRows: 300_000 },
];
const RIVALS = ['ceiling', 'native-default', 'native-best'] as const;
type Rival = (typeof RIVALS)[number];

export async function benchCatchUp(bench: Bench): Promise<void> {
  for (const shape of SHAPES) {
    const name = `catch-up/${shape.rowsPerTransaction}-row`;
    const wanted = RIVALS.filter(rival => bench.wants(`${name}/${rival}`));
    if (wanted.length === 0) continue;
    const backlog = await Backlog.open(bench.servers, 'catchup');
    try {
      await catchUp(bench, name, shape, backlog, wanted);
    } finally {
      await backlog.remove();
    }
  }
}

async function catchUp(
  bench: Bench,
  name: string,
  shape: Shape,
  backlog: Backlog,
  wanted: readonly Rival[],
): Promise<void> {
  const { report, servers } = bench;
  const { rows, rowsPerTransaction } = shape;
  report.say(`${name}: ${rows} rows sold while the link is closed`);
  const native = await fill(bench, backlog, shape);
  await backlog.save();
  const [branch, headOffice] = await Promise.all([servers.branch(), servers.headOffice()]);
  const ours: number[] = [];
  const rivals: Record<Rival, number[]> = { ceiling: [], 'native-default': [], 'native-best': [] };
  const micros: { agent: number; applier: number }[] = [];
  const table = `${backlog.world.database}.${SALES_TABLE}`;
  let chunks: Buffer[] | null = null;
  let batches = 0;
  for (let round = 0; round < bench.rounds; round += 1) {
    await backlog.restore();
    const pids = { agent: backlog.agentPid, applier: backlog.applierPid };
    const before = { agent: cpuSeconds(pids.agent), applier: cpuSeconds(pids.applier) };
    const drained = await profile(bench.profiled === null ? null : pids[bench.profiled], () => backlog.drain(rows));
    batches = drained.batches;
    ours.push(rows / drained.seconds);
    micros.push({
      agent: ((cpuSeconds(pids.agent) - before.agent) / rows) * 1e6,
      applier: ((cpuSeconds(pids.applier) - before.applier) / rows) * 1e6,
    });
    if (round === bench.rounds - 1) await backlog.mustBeEqual();
    if (wanted.includes('ceiling')) {
      chunks ??= await readChunks(headOffice, table);
      rivals.ceiling.push(rows / (await loadCeiling(headOffice, table, chunks, rows)));
    }
    for (const rival of ['native-default', 'native-best'] as const) {
      if (!wanted.includes(rival)) continue;
      const replica = (await servers.replicas())[rival === 'native-default' ? 0 : 1];
      rivals[rival].push(native.rows / (await replicate(branch, replica, native)));
    }
    const figures = wanted.map(rival => `${rival} ${Math.round(rivals[rival].at(-1)! / 1_000)}k`);
    report.say(`${name}: round ${round + 1}: ours ${Math.round(ours.at(-1)! / 1_000)}k, ${figures.join(', ')} rows/s`);
  }
  for (const rival of wanted) report.add(compared(`${name}/${rival}`, 'rows/s', 'more', ours, rivals[rival]));
  const agent = median(micros.map(each => each.agent)).toFixed(1);
  const applier = median(micros.map(each => each.applier)).toFixed(1);
  report.note(
    `${name}: ${rows} rows of ${rowsPerTransaction}-row transactions in ${batches} batches, each round from fresh processes; processor µs a row: agent ${agent}, applier ${applier}. Native replication: the last ${native.rows} rows.`,
  );
}

/** Everything in the spool; the last part of it is what native replication is given. */
async function fill(bench: Bench, backlog: Backlog, shape: Shape): Promise<NativeJob> {
  const { servers } = bench;
  const { rows, nativeRows, rowsPerTransaction } = shape;
  const { db, schema } = backlog.branch;
  await backlog.work(servers, salesTransactions(rows - nativeRows, rowsPerTransaction));
  const from = await newBinlog(db);
  await backlog.work(servers, salesTransactions(nativeRows, rowsPerTransaction, rows - nativeRows + 1));
  const to = await binlogEnd(db);
  await backlog.waitCaptured();
  return { schema, from, to, rows: nativeRows };
}
