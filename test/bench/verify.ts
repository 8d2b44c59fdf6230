/**
 * verify/{rows,bytes}, repair/bytes: how fast tables are compared, from the command to its verdict, while nothing else
 * is to do, and what crosses the line; then one row is changed by hand, and found, named and repaired.
 *
 * The rival is a dump and a diff: both sides' rows are read in key order and compared line by line, with the branch's
 * compressed as they would be sent. It says nothing of a branch that sells meanwhile, as both must stand still for it.
 * One million rows; ten with --large.
 */
import { join } from 'node:path';
import { constants, createZstdCompress } from 'node:zlib';
import { applierCli } from '../../applier/commands.ts';
import { runCli } from '../../shared/process/cli.ts';
import { streamCells } from '../../shared/database/mysql.ts';
import type { Branch, World } from '../support/world/world.ts';
import { createBenchWorld } from './backlog.ts';
import { alone, compared } from './report.ts';
import type { Bench } from './servers.ts';
import { connectTo } from './workload.ts';

const FIRST_ROWS = 1_000;
const COPIED_WITHIN_MS = 3_600_000;
const COLUMNS = 'id, item, price, sold';
const TABLE = `CREATE TABLE sale (id INT PRIMARY KEY, item VARCHAR(40), price DECIMAL(10,2), sold DATETIME(3))`;

export async function benchVerify(bench: Bench): Promise<void> {
  const { report, servers } = bench;
  const rows = FIRST_ROWS * 2 ** (bench.large ? 13 : 10);
  const world = await createBenchWorld(servers);
  try {
    await world.startApplier({ config: { log: { level: 'info' } } });
    const branch = await world.addBranch('verify', {
      source: await servers.branch(),
      setup: [TABLE],
      config: { log: { level: 'info' } },
    });
    await fill(branch, rows);
    await branch.startAgent();
    await world.waitUntilEqual(branch, COPIED_WITHIN_MS);
    const ours: { readonly rate: number[]; readonly bytes: number[]; readonly repair: number[] } = {
      rate: [],
      bytes: [],
      repair: [],
    };
    const rival: { readonly rate: number[]; readonly bytes: number[] } = { rate: [], bytes: [] };
    for (let round = 0; round < bench.rounds; round += 1) {
      const before = await sentBytes(branch);
      const seconds = await timed(() => command(world, ['branch', 'verify', branch.id], 0));
      ours.rate.push(rows / seconds);
      ours.bytes.push((await sentBytes(branch)) - before);
      let dumped = 0;
      const dumping = await timed(async () => void (dumped = await dumpAndDiff(world, branch)));
      rival.rate.push(rows / dumping);
      rival.bytes.push(dumped);
      await world.headOfficeDb.query(`UPDATE sale SET price = price + 1 WHERE id = ${1 + round}`);
      await command(world, ['branch', 'verify', branch.id], 1);
      const found = await sentBytes(branch);
      await command(world, ['branch', 'repair', branch.id], 0);
      await world.waitUntilEqual(branch, COPIED_WITHIN_MS);
      ours.repair.push((await sentBytes(branch)) - found);
      report.say(`verify: ${rows} rows in ${seconds.toFixed(1)} s; dump and diff in ${dumping.toFixed(1)} s`);
    }
    report.add(
      compared('verify/rows', 'rows/s', 'more', ours.rate, rival.rate),
      compared('verify/bytes', 'bytes', 'less', ours.bytes, rival.bytes),
      alone('repair/bytes', 'bytes', ours.repair),
    );
    report.note(
      `verify: one table of ${rows} rows, both sides resting half of the time; the rival reads both sides in key order at full speed and would send the branch's rows compressed. repair: one row of it, changed by hand.`,
    );
  } finally {
    await world.remove();
  }
}

async function fill({ db }: Branch, rows: number): Promise<void> {
  const line = (id: string): string => `${id}, CONCAT('item ', ${id} % 977), (${id} * 7919) % 100000 / 100, NOW(3)`;
  const first = Array.from({ length: FIRST_ROWS }, (_, id) => `(${line(String(id + 1))})`);
  await db.query(`INSERT INTO sale VALUES ${first.join(', ')}`);
  for (let present = FIRST_ROWS; present < rows; present *= 2) {
    await db.query(`INSERT INTO sale SELECT ${line(`(id + ${present})`)} FROM sale`);
  }
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const begin = performance.now();
  await work();
  return (performance.now() - begin) / 1_000;
}

/** A command in this process. @throws unless it ends with this status */
export async function command(world: World, args: readonly string[], status: number): Promise<void> {
  let said = '';
  const streams = { out: (text: string) => (said += text), err: (text: string) => (said += text) };
  const config = join(world.directory, 'applier', 'applier.yaml');
  const code = await runCli(applierCli(), [...args, '--config', config], new AbortController().signal, streams);
  if (code !== status) throw new Error(`${args.join(' ')} ended with ${code}: ${said}`);
}

export async function sentBytes(branch: Branch): Promise<number> {
  const text = await (await fetch(`${branch.agent.url}/metrics`)).text();
  return Number(/^tributary_link_sent_bytes_total (\S+)/m.exec(text)?.[1]);
}

/** @returns the bytes of the branch's rows, compressed */
async function dumpAndDiff(world: World, branch: Branch): Promise<number> {
  const there = await connectTo(branch.source, branch.schema);
  const here = await connectTo(world.headOffice, world.database);
  const zstd = createZstdCompress({ params: { [constants.ZSTD_c_compressionLevel]: 3 } });
  let bytes = 0;
  zstd.on('data', (chunk: Buffer) => (bytes += chunk.length));
  const ended = new Promise(resolve => zstd.on('end', resolve));
  try {
    const own = streamCells(there, `SELECT ${COLUMNS} FROM sale ORDER BY id`, 1_000);
    const other = streamCells(here, `SELECT ${COLUMNS} FROM sale WHERE _branch = '${branch.id}' ORDER BY id`, 1_000);
    let lines = '';
    for await (const cells of own) {
      const line = cells.join('\t');
      const next = await other.next();
      if (next.done === true || next.value.join('\t') !== line) throw new Error(`a row differs: ${line}`);
      lines += `${line}\n`;
      if (lines.length < 65_536) continue;
      if (!zstd.write(lines)) await new Promise(resolve => zstd.once('drain', resolve));
      lines = '';
    }
    zstd.end(lines);
    await ended;
    return bytes;
  } finally {
    there.destroy();
    here.destroy();
  }
}
