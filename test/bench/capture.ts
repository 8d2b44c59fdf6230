/**
 * capture/{1,10,1000}-row/{zongji,raw-dump}: rows a second out of one binlog of sales, by the real capture into a spool
 * on disk, by plain zongji whose rows are thrown away, and by reading packets alone. Each party is a process of its own;
 * rounds alternate, in an order that turns.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryDirectory } from '../../deploy/rig/keeper.ts';
import type { DatabaseAddress } from '../../deploy/rig/shared-servers.ts';
import type { ChildJob, ChildResult } from './child.ts';
import { compared, median } from './report.ts';
import type { Bench } from './servers.ts';
import { connectTo, newBinlog, runTransactions, SALES_DDL, salesTransactions } from './workload.ts';
import type { BinlogMark } from './workload.ts';

const SHAPES = [
  { rowsPerTransaction: 1, rows: 200_000 },
  { rowsPerTransaction: 10, rows: 600_000 },
  { rowsPerTransaction: 1_000, rows: 1_000_000 },
] as const;
/** Share of the transactions that the clock does not see. */
const WARM_UP = 0.2;
const PARTIES = ['capture', 'zongji', 'raw-dump'] as const;
type Party = (typeof PARTIES)[number];

export async function benchCapture(bench: Bench): Promise<void> {
  const { report } = bench;
  const branch = await bench.servers.branch();
  const cpu: string[] = [];
  for (const { rowsPerTransaction, rows } of SHAPES) {
    const name = `capture/${rowsPerTransaction}-row`;
    if (!bench.wants(name)) continue;
    const schema = `capture_${rowsPerTransaction}`;
    report.say(`${name}: ${rows} rows into the binlog`);
    const from = await fill(branch, schema, rows, rowsPerTransaction);
    const transactions = rows / rowsPerTransaction;
    const warmUp = Math.round(transactions * WARM_UP);
    const rates: Record<Party, number[]> = { capture: [], zongji: [], 'raw-dump': [] };
    const micros: Record<Party, number[]> = { capture: [], zongji: [], 'raw-dump': [] };
    for (let round = 0; round < bench.rounds; round += 1) {
      const parties = [...PARTIES.slice(round % 3), ...PARTIES.slice(0, round % 3)];
      for (const party of parties) {
        const result = await runParty(party, branch, { schema, from, transactions, rows, warmUp });
        if (party !== 'raw-dump' && result.rows !== rows)
          throw new Error(`${party} saw ${result.rows} of ${rows} rows`);
        const timed = (transactions - warmUp) * rowsPerTransaction;
        rates[party].push(timed / result.seconds);
        micros[party].push((result.cpuSeconds / timed) * 1e6);
      }
      const last = PARTIES.map(party => `${party} ${Math.round(rates[party].at(-1)! / 1_000)}k`);
      report.say(`${name}: round ${round + 1}: ${last.join(', ')} rows/s`);
    }
    cpu.push(`${rowsPerTransaction}-row ${PARTIES.map(party => median(micros[party]).toFixed(2)).join(' / ')}`);
    for (const rival of ['zongji', 'raw-dump'] as const) {
      report.add(compared(`${name}/${rival}`, 'rows/s', 'more', rates.capture, rates[rival]));
    }
  }
  if (cpu.length > 0) {
    report.note(
      `capture: warm processes (the first fifth is not timed); ours ends with its last batch in the spool, synced. Processor µs a row, ours / zongji / raw dump, which other load changes less: ${cpu.join(', ')}.`,
    );
  }
}

/** A schema whose sales begin at the place returned. */
async function fill(
  branch: DatabaseAddress,
  schema: string,
  rows: number,
  rowsPerTransaction: number,
): Promise<BinlogMark> {
  const connection = await connectTo(branch);
  try {
    await connection.query(`CREATE DATABASE ${schema}; USE ${schema}; ${SALES_DDL}`);
    const from = await newBinlog(connection);
    await runTransactions(connection, salesTransactions(rows, rowsPerTransaction));
    return from;
  } finally {
    connection.destroy();
  }
}

/** Runs one party to its end. @throws with what it has printed when it fails */
export async function runParty(
  party: Party,
  branch: DatabaseAddress,
  work: Pick<ChildJob, 'schema' | 'from' | 'transactions' | 'rows' | 'warmUp'>,
  keep?: (directory: string) => void,
): Promise<ChildResult> {
  const { host, port, user, password } = branch;
  const directory = mkdtempSync(join(temporaryDirectory(), 'spool-'));
  const job: ChildJob = { party, host, port, user, password, directory, ...work };
  try {
    const output = await runChild(join(import.meta.dirname, 'child.ts'), [JSON.stringify(job)]);
    keep?.(directory);
    return JSON.parse(output) as ChildResult;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Runs a script of ours; its standard output. @throws with what it has printed when it fails */
export function runChild(file: string, args: readonly string[]): Promise<string> {
  return new Promise((done, failed) => {
    const child = spawn(process.execPath, [file, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    let errors = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text));
    child.once('error', failed);
    child.once('close', code => {
      if (code === 0) done(output);
      else failed(new Error(`${file} ended with ${String(code)}:\n${output}${errors}`));
    });
  });
}
