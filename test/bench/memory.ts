/**
 * memory/{agent,applier}/{idle,backlog-1m}: resident megabytes of the two programs as the kernel counts them: at rest,
 * and the most they ever were while a million rows were captured with the link closed and then let out. `--large` adds
 * backlog-10m, in a world of its own, so that each peak belongs to fresh processes.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { Backlog } from './backlog.ts';
import { alone, residentMegabytes } from './report.ts';
import type { Bench } from './servers.ts';
import { salesTransactions } from './workload.ts';

const IDLE_MS = 8_000;
const ROWS_A_TRANSACTION = 100;
const DRAIN_DEADLINE_MS = 900_000;

export async function benchMemory(bench: Bench): Promise<void> {
  const sizes = [
    { name: 'backlog-1m', rows: 1_000_000 },
    ...(bench.large ? [{ name: 'backlog-10m', rows: 10_000_000 }] : []),
  ];
  for (const [index, { name, rows }] of sizes.entries()) {
    const programs = ['agent', 'applier'] as const;
    const wanted = (what: string): boolean => programs.some(program => bench.wants(`memory/${program}/${what}`));
    if (!wanted(name) && !(index === 0 && wanted('idle'))) continue;
    const backlog = await Backlog.open(bench.servers, 'memory');
    try {
      if (index === 0) await measureIdle(bench, backlog);
      if (wanted(name)) await measureBacklog(bench, backlog, name, rows);
    } finally {
      await backlog.remove();
    }
  }
}

async function measureIdle({ report }: Bench, backlog: Backlog): Promise<void> {
  await delay(IDLE_MS);
  const agent = residentMegabytes(backlog.agentPid).now;
  const applier = residentMegabytes(backlog.applierPid).now;
  report.say(`memory: idle: agent ${agent.toFixed(0)} MB, applier ${applier.toFixed(0)} MB`);
  report.add(alone('memory/agent/idle', 'MB', [agent]), alone('memory/applier/idle', 'MB', [applier]));
}

async function measureBacklog({ report, servers }: Bench, backlog: Backlog, name: string, rows: number): Promise<void> {
  await backlog.work(servers, salesTransactions(rows, ROWS_A_TRANSACTION));
  await backlog.waitCaptured();
  const captured = residentMegabytes(backlog.agentPid).peak;
  const { seconds } = await backlog.drain(rows, DRAIN_DEADLINE_MS);
  const agent = residentMegabytes(backlog.agentPid).peak;
  const applier = residentMegabytes(backlog.applierPid).peak;
  report.say(
    `memory: ${rows} rows in ${ROWS_A_TRANSACTION}-row transactions, drained in ${seconds.toFixed(1)} s: agent ${agent.toFixed(0)} MB (${captured.toFixed(0)} while capturing), applier ${applier.toFixed(0)} MB`,
  );
  report.add(alone(`memory/agent/${name}`, 'MB', [agent]), alone(`memory/applier/${name}`, 'MB', [applier]));
  report.note(
    `memory/${name}: the peak (VmHWM) of processes that began with an empty spool; ${rows} rows equal in count in the end.`,
  );
}
