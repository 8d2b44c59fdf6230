/**
 * wire/{sales,sysbench,wide}/…: bytes that cross the link for the same changes, a row change of the branch's binlog.
 *
 * Ours are the bodies of the batches that the real capture puts into a spool while the link is down. The rivals are made
 * from the same binlog: Maxwell's documents, one a row; the same in blocks of 128 KiB, each compressed (zstd -3); the
 * binlog itself; the same as MySQL's replication sends it with its protocol compressed; and, as the floor, the row
 * changes alone as lines of tab-separated values (a deleted row its key only), compressed as one stream (zstd -19),
 * which nothing that sends as it goes can do. `zstd19-sent` is the same of what we send, where of several changes to
 * a row within a batch one is left.
 *
 * Capture works on a backlog of the binlog here, so it hurries; `unhurried` is what it sends of a branch that writes as
 * it goes. What AMQP adds, small batches, and processor time are told in notes.
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { GroupReader } from '../../agent/binlog/group-reader.ts';
import { openBinlogStream } from '../../agent/binlog/binlog-stream.ts';
import { Spool } from '../../agent/spool/spool.ts';
import type { DatabaseServer } from '../../deploy/rig/database-server.ts';
import { runParty } from './capture.ts';
import { encodeBatch } from '../../shared/batch/encoder.ts';
import type { BatchBody } from '../../shared/batch/batch.ts';
import { MaxwellSink } from './maxwell.ts';
import { compared, cpuSeconds } from './report.ts';
import type { Bench } from './servers.ts';
import {
  binlogBytes,
  binlogEnd,
  connectTo,
  newBinlog,
  runTransactions,
  SALES_DDL,
  shopTransactions,
  SYSBENCH_DDL,
  sysbenchRows,
  sysbenchTransactions,
  WIDE_DDL,
  wideTransactions,
} from './workload.ts';
import type { BinlogMark } from './workload.ts';

interface Workload {
  readonly name: 'sales' | 'sysbench' | 'wide';
  readonly ddl: string;
  readonly before: () => Iterable<string>;
  readonly transactions: () => Iterable<string>;
}

const WORKLOADS: readonly Workload[] = [
  { name: 'sales', ddl: SALES_DDL, before: () => [], transactions: () => shopTransactions(40_000) },
  { name: 'sysbench', ddl: SYSBENCH_DDL, before: sysbenchRows, transactions: () => sysbenchTransactions(10_000) },
  { name: 'wide', ddl: WIDE_DDL, before: () => [], transactions: () => wideTransactions(15_000) },
];
const BLOCK_BYTES = 128 * 1024;
const SMALL_BATCHES = [1, 10, 60, 300] as const;
/** As agent/stream/compression-level.ts and shared/batch/encoder.ts have them. */
const UNHURRIED_LEVEL = 8;
const LEAST_MATCH = 5;

export async function benchWire(bench: Bench): Promise<void> {
  const { report } = bench;
  const branch = await bench.servers.branch();
  for (const workload of WORKLOADS) {
    const name = `wire/${workload.name}`;
    if (!bench.wants(name)) continue;
    report.say(`${name}: filling the binlog`);
    const source = await fill(branch, workload);
    report.say(`${name}: ${source.binlogBytes} bytes of binlog; Maxwell's documents`);
    const maxwell = await readMaxwell(branch, source);
    const rows = maxwell.rows;
    report.say(`${name}: ${rows} row changes in ${maxwell.transactions} transactions; ours`);
    const work = { schema: source.schema, from: source.from, transactions: maxwell.transactions, rows, warmUp: 0 };
    let batches: readonly Batch[] = [];
    const result = await runParty('capture', branch, work, directory => {
      batches = readSpool(directory, 'bench');
    });
    if (result.rows !== rows) throw new Error(`capture saw ${result.rows} of ${rows} row changes`);
    const ours = sum(batches.map(batch => batch.body.length)) / rows;
    const overhead = sum(batches.map(batch => amqpOverhead(batch.body.length))) / rows;
    const bodies = batches.map(batch => zstdDecompressSync(batch.body));
    const cpu = new CpuMeter(rows);
    const unhurried = cpu.of('ours again at the level of the unhurried', () =>
      sum(bodies.map(body => compress(body, UNHURRIED_LEVEL, LEAST_MATCH).length)),
    );
    const blocks = blocksOf(maxwell.documents);
    const maxwellZstd = cpu.of('zstd -3 of Maxwell’s documents', () =>
      sum(blocks.map(block => compress(block, 3).length)),
    );
    const server = branch.pid;
    if (server === undefined) throw new Error(`the server has ended`);
    const serverBefore = cpuSeconds(server);
    const mysqlZstd = await dumpedBytes(branch, source);
    const serverCpu = ((cpuSeconds(server) - serverBefore) / rows) * 1e6;
    const lines = Buffer.from(rowLines(maxwell.documents));
    const rivals = {
      'maxwell-json': maxwell.documents.length,
      'maxwell-json-zstd': maxwellZstd,
      'raw-binlog': source.binlogBytes,
      ...(mysqlZstd === null ? {} : { 'mysql-zstd': mysqlZstd }),
      'zstd19-floor': cpu.of('zstd -19, the floor', () => compress(lines, 19).length),
      'zstd19-sent': compress(Buffer.concat(bodies), 19).length,
    };
    for (const [rival, bytes] of Object.entries(rivals)) {
      report.add(compared(`${name}/${rival}`, 'B/row', 'less', [ours], [bytes / rows]));
    }
    report.add(
      compared(`${name}/unhurried/zstd19-floor`, 'B/row', 'less', [unhurried / rows], [rivals['zstd19-floor'] / rows]),
    );
    const sent = sum(batches.map(batch => batch.rows));
    report.note(
      `${name}: ${rows} row changes in ${batches.length} batches; ${(100 - (100 * sent) / rows).toFixed(1)} % of the changes were replaced by later ones within a batch and are not sent; ` +
        `AMQP adds ${overhead.toFixed(2)} B/row. In batches of so many rows, with what AMQP adds: ${smallBatches(bodies)} B/row.`,
      `${name}: processor µs a row: capture ${((result.cpuSeconds / rows) * 1e6).toFixed(1)}, from cold, reading, compressing and storing; ` +
        `${cpu.told}; ${maxwell.cpuMicros.toFixed(1)} Maxwell’s documents, made here; ${serverCpu.toFixed(1)} mysqld’s own for mysql-zstd.`,
    );
  }
}

interface Source {
  readonly schema: string;
  readonly from: BinlogMark;
  readonly to: BinlogMark;
  readonly binlogBytes: number;
}

async function fill(branch: DatabaseServer, workload: Workload): Promise<Source> {
  const schema = `wire_${workload.name}`;
  const connection = await connectTo(branch);
  try {
    await connection.query(`CREATE DATABASE ${schema}; USE ${schema}; ${workload.ddl}`);
    await runTransactions(connection, workload.before());
    const from = await newBinlog(connection);
    await runTransactions(connection, workload.transactions());
    const to = await binlogEnd(connection);
    return { schema, from, to, binlogBytes: await binlogBytes(connection, from, to) };
  } finally {
    connection.destroy();
  }
}

async function readMaxwell(
  branch: DatabaseServer,
  { schema, from, to }: Source,
): Promise<{ documents: Buffer; rows: number; transactions: number; cpuMicros: number }> {
  const cpuBefore = process.cpuUsage();
  const { host, port, user, password } = branch;
  const done = Promise.withResolvers<null>();
  const sink = new MaxwellSink(schema, mark => {
    if (mark.file > to.file || (mark.file === to.file && mark.endOffset >= to.offset)) done.resolve(null);
  });
  const reader = new GroupReader(sink, null);
  const stream = await openBinlogStream({
    connection: { host, port, user, password },
    serverId: 77_003,
    start: { kind: 'gtid', gtidSet: from.gtidSet },
    heartbeatMs: 1_000,
    silenceMs: 30_000,
    onEvent: event => {
      reader.handle(event);
    },
  });
  const fault = await Promise.race([done.promise, stream.ended]);
  await stream.close();
  if (fault !== null) throw fault;
  const cpu = process.cpuUsage(cpuBefore);
  const { rows, transactions } = sink;
  return { documents: sink.documents(), rows, transactions, cpuMicros: (cpu.user + cpu.system) / rows };
}

interface Batch {
  readonly body: Buffer;
  readonly rows: number;
}

/** All batches that a spool still has. Nobody may have it open. */
export function readSpool(directory: string, branch: string): Batch[] {
  const spool = Spool.open({
    directory,
    branch,
    maxBytes: 2 ** 40,
    keepAppliedMs: 0,
    minFreeBytes: 0,
    now: () => Date.now(),
  });
  try {
    const batches: Batch[] = [];
    for (let seq = 1; seq <= spool.stream().head.seq; seq += 1) {
      const batch = spool.read(seq);
      if (batch === null) throw new Error(`batch ${seq} is not in the spool`);
      batches.push({ body: batch.body, rows: batch.rows });
    }
    return batches;
  } finally {
    spool.close();
  }
}

/** Processor time of steps, in microseconds a row. */
class CpuMeter {
  readonly #rows: number;
  readonly #steps: string[] = [];

  constructor(rows: number) {
    this.#rows = rows;
  }

  get told(): string {
    return this.#steps.join('; ');
  }

  of<T>(step: string, work: () => T): T {
    const before = process.cpuUsage();
    const result = work();
    const { user, system } = process.cpuUsage(before);
    this.#steps.push(`${((user + system) / this.#rows).toFixed(1)} ${step}`);
    return result;
  }
}

/** The row changes of Maxwell's documents with nothing around them. The workloads' keys are their first columns. */
function rowLines(documents: Buffer): string {
  return documents
    .toString()
    .trimEnd()
    .split('\n')
    .map(line => {
      const { type, data } = JSON.parse(line) as { type: string; data: Readonly<Record<string, unknown>> };
      const values = Object.values(data);
      return [type[0], ...(type === 'delete' ? values.slice(0, 1) : values)].join('\t');
    })
    .join('\n');
}

/** Bytes a row where a batch holds few, as on a day of some sales: a typical batch's rows, cut up. */
function smallBatches(bodies: readonly Buffer[]): string {
  const { changes, ...body } = JSON.parse(bodies[bodies.length >> 1]!.toString()) as BatchBody;
  const upserts = changes.filter(change => change.op === 'upsert').sort((a, b) => b.rows - a.rows)[0]!;
  return SMALL_BATCHES.filter(rows => rows <= upserts.rows)
    .map(rows => {
      const sizes = Array.from({ length: Math.min(20, Math.floor(upserts.rows / rows)) }, (_, number) => {
        const values = upserts.values.map(column => column.slice(number * rows, (number + 1) * rows));
        const small = encodeBatch(
          { ...body, transactions: rows, changes: [{ ...upserts, rows, values }] },
          { level: UNHURRIED_LEVEL },
        );
        return small.length + amqpOverhead(small.length);
      });
      return `${rows}: ${(sum(sizes) / sizes.length / rows).toFixed(1)}`;
    })
    .join(', ');
}

function blocksOf(bytes: Buffer): Buffer[] {
  const blocks: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += BLOCK_BYTES) blocks.push(bytes.subarray(at, at + BLOCK_BYTES));
  return blocks;
}

function compress(bytes: Buffer, level: number, leastMatch?: number): Buffer {
  const match = leastMatch === undefined ? {} : { [constants.ZSTD_c_minMatch]: leastMatch };
  return zstdCompressSync(bytes, { params: { [constants.ZSTD_c_compressionLevel]: level, ...match } });
}

/**
 * What MySQL's own replication takes for the same binlog with its protocol compressed by zstd: the bytes that the server
 * says to `mysqlbinlog`, which reads as a replica does. Null where that program is not there.
 */
async function dumpedBytes(branch: DatabaseServer, { from }: Source): Promise<number | null> {
  let program: string;
  try {
    program = branch.programs.program('mysqlbinlog');
  } catch {
    return null;
  }
  let bytes = 0;
  const relay = createServer(near => {
    const far = connect({ host: branch.host, port: branch.port });
    for (const socket of [near, far]) socket.on('error', () => socket.destroy());
    far.on('data', chunk => (bytes += chunk.length));
    near.pipe(far);
    far.pipe(near);
  });
  await new Promise<void>(resolve => relay.listen(0, '127.0.0.1', resolve));
  const folder = mkdtempSync(join(tmpdir(), 'tributary-dump-'));
  try {
    const { port } = relay.address() as AddressInfo;
    const access = ['--host=127.0.0.1', `--port=${port}`, `--user=${branch.user}`, '--ssl-mode=DISABLED'];
    const wire = ['--get-server-public-key', '--compression-algorithms=zstd', '--read-from-remote-server'];
    const what = ['--raw', `--result-file=${folder}/`, `--start-position=${from.offset}`, from.file];
    await promisify(execFile)(program, ['--no-defaults', ...access, ...wire, ...what], {
      env: { ...process.env, ...branch.programs.environment, MYSQL_PWD: branch.password },
    });
  } finally {
    relay.close();
    rmSync(folder, { recursive: true, force: true });
  }
  return bytes;
}

/**
 * What AMQP 0-9-1 adds to a batch: the publish method with exchange `tributary.branch.paris` and key `batch`, the
 * header with its properties, a frame for each 128 KiB, and the confirm. By the specification's section 4.2.
 */
function amqpOverhead(bodyBytes: number): number {
  const frame = 8;
  const publish = frame + 4 + 2 + (1 + 23) + (1 + 5) + 1;
  const digest = 64;
  const epoch = 36;
  // A field of the headers table: name, type, a long string or a 64-bit integer.
  const field = (name: string, value: number): number => 1 + name.length + 1 + value;
  const table =
    4 +
    field('branch', 4 + 5) +
    field('epoch', 4 + epoch) +
    field('seq', 8) +
    field('previous', 4 + digest) +
    field('digest', 4 + digest);
  const contentType = 1 + 24;
  const deliveryMode = 1;
  const messageId = 1 + 5 + 1 + epoch + 1 + 6;
  const type = 1 + 5;
  const userId = 1 + 12;
  const header = frame + 14 + contentType + table + deliveryMode + messageId + type + userId;
  const frames = Math.max(1, Math.ceil(bodyBytes / (128 * 1024 - frame))) * frame;
  const confirm = frame + 4 + 8 + 1;
  return publish + header + frames + confirm;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
