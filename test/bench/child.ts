/**
 * The parties of the benchmarks as processes of their own: node child.ts JOB, where JOB is JSON; one line of JSON on
 * standard output when done.
 *
 * - `capture`: the agent's own capture, from the server's socket into a spool on disk, offline;
 * - `zongji`: zongji as its README uses it, rows counted and thrown away;
 * - `raw-dump`: the same connection, packets counted and thrown away.
 *
 * The clock starts when `warmUp` transactions are through (a just-in-time compiler is cold in each new process, an agent
 * runs for months), and stops with the last one; for capture, when its last batch is in the spool.
 */
import ZongJi from '@vlasky/zongji';
import { Capture } from '../../agent/capture/capture.ts';
import { createTableFilter } from '../../agent/source/table-filter.ts';
import { SourceConnection } from '../../agent/source/connection.ts';
import { idleProgress } from '../../agent/spool/snapshot-progress.ts';
import { Spool } from '../../agent/spool/spool.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { Secret } from '../../shared/config/secret.ts';
import type { BinlogMark } from './workload.ts';

export interface ChildJob {
  readonly party: 'capture' | 'zongji' | 'raw-dump';
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  /** The only schema captured. */
  readonly schema: string;
  readonly from: BinlogMark;
  /** Transactions from there on with so many row changes, and how many of them the clock does not see. */
  readonly transactions: number;
  readonly rows: number;
  readonly warmUp: number;
  /** For the spool. */
  readonly directory: string;
}

export interface ChildResult {
  /** After the warm-up. */
  readonly seconds: number;
  readonly cpuSeconds: number;
  /** All rows seen, warm-up included; what a raw dump cannot know is 0. */
  readonly rows: number;
}

const XID_EVENT = 16;
/** Offset of the event's type in a binlog packet: status byte, then four bytes of time. */
const TYPE_OFFSET = 5;
const DEADLINE_MS = 300_000;

/** Wall clock and processor time since the warm-up. */
class Clock {
  readonly #warmUp: number;
  #at = 0;
  #cpu = process.cpuUsage();
  #end: { seconds: number; cpuSeconds: number } | null = null;

  constructor(warmUp: number) {
    this.#warmUp = warmUp;
  }

  /** Tells how many transactions are through. */
  passed(transactions: number): void {
    if (transactions !== this.#warmUp) return;
    this.#at = performance.now();
    this.#cpu = process.cpuUsage();
  }

  stop(): void {
    const { user, system } = process.cpuUsage(this.#cpu);
    this.#end = { seconds: (performance.now() - this.#at) / 1_000, cpuSeconds: (user + system) / 1e6 };
  }

  result(rows: number): ChildResult {
    if (this.#end === null) throw new Error('the clock was not stopped');
    return { ...this.#end, rows };
  }
}

async function capture(job: ChildJob): Promise<ChildResult> {
  const { host, port, user, password, schema, from } = job;
  const clock = new Clock(job.warmUp);
  const spool = Spool.open({
    directory: job.directory,
    branch: 'bench',
    maxBytes: 20 * 2 ** 30,
    keepAppliedMs: 0,
    minFreeBytes: 2 ** 28,
    now: () => Date.now(),
  });
  // Its start marker counts as waiting, which is what makes this an epoch that has begun; there is nothing to copy.
  const progress = { ...idleProgress(), started: false };
  spool.newEpoch(progress, { source: { ...from, committedAt: null }, lastGroup: null });
  const stop = new AbortController();
  let groups = 0;
  let rows = 0;
  spool.onAppend(() => {
    if (groups >= job.transactions) clock.stop();
  });
  const tls = { mode: 'off', ca: null, cert: null, key: null, verifyName: false } as const;
  const settings = { host, port, user, password: Secret.of(password), tls };
  let begun = false;
  await new Capture({
    branch: 'bench',
    spool,
    tableFilter: createTableFilter({ include: [`${schema}.*`], exclude: [], map: {} }),
    connection: { host, port, user, password },
    connect: async stallMs => {
      const source = await SourceConnection.open(settings, 'bench', stallMs);
      // An agent begins at the binlog's end. It is told that the end is where the bench has begun to write.
      const binlogEnd = source.binlogEnd.bind(source);
      source.binlogEnd = () => {
        const first = !begun;
        begun = true;
        return first ? Promise.resolve(from) : binlogEnd();
      };
      return source;
    },
    logger: silentLogger(),
    counters: {
      rows: (_schema, _name, _op, count) => {
        rows += count;
      },
      connected: () => undefined,
      read: () => undefined,
      group: () => {
        groups += 1;
        clock.passed(groups);
        // Stopping puts the open batch into the spool.
        if (groups === job.transactions) stop.abort();
      },
      fault: code => {
        process.stderr.write(`fault: ${code}\n`);
      },
      epoch: reason => {
        throw new Error(`a new epoch: ${reason}`);
      },
    },
    now: () => Date.now(),
    canSend: () => false,
    online: () => false,
    gatherMs: () => 0,
    packs: () => false,
  }).run(stop.signal);
  spool.close();
  return clock.result(rows);
}

function zongji(job: ChildJob): Promise<ChildResult> {
  const { host, port, user, password } = job;
  const clock = new Clock(job.warmUp);
  const client = new ZongJi({ host, port, user, password });
  return new Promise((done, failed) => {
    let tables = 0;
    let rows = 0;
    client.on('error', failed);
    client.on('binlog', event => {
      const name = event.getEventName();
      if (name === 'tablemap') {
        // One a transaction here.
        clock.passed(tables);
        tables += 1;
        return;
      }
      const list: unknown = Reflect.get(event, 'rows');
      if (Array.isArray(list)) rows += list.length;
      if (rows !== job.rows) return;
      clock.stop();
      done(clock.result(rows));
    });
    client.start({
      serverId: 77_001,
      filename: job.from.file,
      position: job.from.offset,
      includeEvents: ['tablemap', 'writerows', 'updaterows', 'deleterows'],
    });
  });
}

/** What of a packet is looked at. */
interface Packet {
  readonly buffer: Buffer;
  readonly offset: number;
}

type PacketHandler = (packet: Packet) => PacketHandler;

function rawDump(job: ChildJob): Promise<ChildResult> {
  const { host, port, user, password } = job;
  const clock = new Clock(job.warmUp);
  const client = new ZongJi({ host, port, user, password });
  return new Promise((done, failed) => {
    let transactions = 0;
    const count: PacketHandler = packet => {
      if (packet.buffer[packet.offset + TYPE_OFFSET] === XID_EVENT) {
        transactions += 1;
        clock.passed(transactions);
        if (transactions === job.transactions) {
          clock.stop();
          done(clock.result(0));
        }
      }
      return count;
    };
    client.on('error', failed);
    client.on('ready', () => {
      const prototype: unknown = Reflect.get(Object(Reflect.get(client, 'BinlogClass')), 'prototype');
      if (!(prototype instanceof Object)) throw new Error('zongji has changed: its dump command is elsewhere');
      Reflect.set(prototype, 'binlogData', count);
    });
    client.start({ serverId: 77_002, filename: job.from.file, position: job.from.offset });
  });
}

async function main(): Promise<void> {
  const job = JSON.parse(process.argv[2] ?? '') as ChildJob;
  setTimeout(() => {
    process.stderr.write(`${job.party} takes longer than ${DEADLINE_MS} ms\n`);
    process.exit(1);
  }, DEADLINE_MS).unref();
  const party = { capture, zongji, 'raw-dump': rawDump }[job.party];
  const result = await party(job);
  process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
}

await main();
