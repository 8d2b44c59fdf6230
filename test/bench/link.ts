/**
 * link/drain-256k/…: how much of a line of 256 kbit/s a full spool makes use of. Ours: bytes of batch bodies a second,
 * from the opening of the link until the head office has committed the last; the rival is the line itself, which carries
 * AMQP's own bytes and hellos as well.
 *
 * - `line`: up all the time;
 * - `poor`: TLS, up for 60 s at a time, and dropping its connections every 20 ± 10 s, at seeded times. Ours counts the
 *   seconds that the line was up. Between its times it is down for DOWN_MS, long enough to have given up hurrying. A
 *   round for each of SEEDS.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { BrokerServer } from '../../deploy/rig/broker-server.ts';
import { Backlog } from './backlog.ts';
import { compared } from './report.ts';
import type { Bench } from './servers.ts';
import { SlowLine } from './slow-line.ts';
import { startTlsBroker } from './tls-broker.ts';
import { readSpool } from './wire.ts';
import { randomNumbers, salesTransactions } from './workload.ts';

const LINE_BYTES_PER_SECOND = 256_000 / 8;
const ROWS_A_TRANSACTION = 10;
const ROWS = { line: 40_000, poor: 200_000 } as const;
const UP_MS = 60_000;
const DOWN_MS = 10_000;
const SEEDS = [6, 7, 8] as const;

export async function benchLink(bench: Bench): Promise<void> {
  if (bench.wants('link/drain-256k/line')) {
    const broker = await bench.servers.broker();
    const line = await SlowLine.open(broker, LINE_BYTES_PER_SECOND);
    try {
      const rate = await drain(bench, 'line', line, { branchUrl: `amqp://127.0.0.1:${line.port}` });
      addRates(bench, 'line', [rate]);
    } finally {
      line.down();
    }
  }
  if (bench.wants('link/drain-256k/poor')) await benchPoorLine(bench);
}

function addRates(bench: Bench, kind: keyof typeof ROWS, rates: readonly number[]): void {
  const line = rates.map(() => LINE_BYTES_PER_SECOND);
  bench.report.add(compared(`link/drain-256k/${kind}`, 'B/s', 'more', rates, line));
}

async function benchPoorLine(bench: Bench): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'tributary-bench-tls-'));
  let server: BrokerServer | null = null;
  let line: SlowLine | null = null;
  try {
    const { certificate, ...started } = await startTlsBroker(folder);
    server = started.server;
    line = await SlowLine.open({ host: '127.0.0.1', port: started.tlsPort }, LINE_BYTES_PER_SECOND);
    const broker = { branchUrl: `amqps://localhost:${line.port}`, tls: { ca: certificate } };
    const rates: number[] = [];
    for (const seed of SEEDS) {
      const played = new AbortController();
      rates.push(
        await drain(bench, 'poor', line, broker, server, opened => void playPoorLine(opened, seed, played.signal)),
      );
      played.abort();
      await line.up();
    }
    addRates(bench, 'poor', rates);
  } finally {
    line?.down();
    await server?.remove();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function drain(
  { servers, report }: Bench,
  kind: keyof typeof ROWS,
  line: SlowLine,
  settings: object,
  broker?: BrokerServer,
  opened: (line: SlowLine) => void = () => undefined,
): Promise<number> {
  const name = `link/drain-256k/${kind}`;
  const rows = ROWS[kind];
  const backlog = await Backlog.open(servers, kind, { applier: { broker: settings }, broker });
  try {
    await backlog.work(servers, salesTransactions(rows, ROWS_A_TRANSACTION));
    await backlog.waitCaptured();
    const before = { seconds: line.secondsUp, passed: line.passed };
    opened(line);
    const { seconds, batches } = await backlog.drain(rows);
    const up = Math.min(seconds, line.secondsUp - before.seconds);
    const passed = line.passed - before.passed;
    await backlog.mustBeEqual();
    await backlog.branch.agent.stop();
    const kept = readSpool(backlog.branch.spoolDirectory, backlog.branch.id);
    const bytes = kept.reduce((sum, batch) => sum + batch.body.length, 0);
    const capacity = up * LINE_BYTES_PER_SECOND;
    const share = (part: number): string => `${((100 * part) / capacity).toFixed(1)} %`;
    report.say(
      `${name}: ${bytes} bytes in ${batches} batches took ${seconds.toFixed(1)} s, ${up.toFixed(1)} of them up; of what could ` +
        `cross: ${share(bytes)} bodies, ${share(passed - bytes)} all else, ${share(capacity - passed)} idle; ${line.connections} connections`,
    );
    return bytes / up;
  } finally {
    await backlog.remove();
  }
}

/** Ups, downs and drops until aborted; the line is left as it is. */
async function playPoorLine(line: SlowLine, seed: number, signal: AbortSignal): Promise<void> {
  const random = randomNumbers(seed);
  const pause = (ms: number): Promise<boolean> =>
    delay(ms, true, { signal }).catch(() => {
      return false;
    });
  for (let upMs = 0; ;) {
    const dropMs = 10_000 + 20_000 * random();
    const leftMs = UP_MS - upMs;
    if (!(await pause(Math.min(dropMs, leftMs)))) return;
    if (dropMs < leftMs) {
      upMs += dropMs;
      line.drop();
      continue;
    }
    line.down();
    if (!(await pause(DOWN_MS))) return;
    await line.up();
    upMs = 0;
  }
}
