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
import { createSelection } from '../../agent/capture/selection.ts';
import { SourceConnection } from '../../agent/capture/source.ts';
import { idleProgress } from '../../agent/snapshot/progress.ts';
import { Spool } from '../../agent/spool/spool.ts';
import { createLogger } from '../../shared/logging.ts';
import { Secret } from '../../shared/secret.ts';
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
  /** Transactions from there on, and how many of them the clock does not see. */
  readonly transactions: number;
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

const GTID_EVENT = 33;
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
  spool.newEpoch(idleProgress(), { source: { ...from, committedAt: null }, lastGroup: null });
  const stop = new AbortController();
  let groups = 0;
  let rows = 0;
  spool.onAppend(() => {
    if (groups >= job.transactions) clock.stop();
  });
  const settings = { host, port, user, password: new Secret(password), tls: { mode: 'off', ca: null, verifyName: false } } as const;
  await new Capture({
    branch: 'bench',
    spool,
    selection: createSelection({ include: [`${schema}.*`], exclude: [], map: {} }),
    connection: { host, port, user, password },
    connect: () => SourceConnection.open(settings, 'bench'),
    logger: createLogger({ level: 'silent', name: 'bench' }),
    counters: {
      rows: (_schema, _name, _op, count) => {
        rows += count;
      },
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
    let finished = 0;
    client.on('error', failed);
    client.on('binlog', event => {
      const name = event.getEventName();
      if (name === 'tablemap') {
        tables += 1;
        clock.passed(tables);
      } else if (name === 'writerows' || name === 'updaterows' || name === 'deleterows') {
        const { rows: list } = event as unknown as { readonly rows: readonly unknown[] };
        rows += list.length;
        if (rows === job.transactions * rowsPerTransaction(job)) {
          clock.stop();
          finished += 1;
          client.stop();
          if (finished === 1) done(clock.result(rows));
        }
      }
    });
    client.start({
      serverId: 77_001,
      filename: job.from.file,
      position: job.from.offset,
      includeEvents: ['tablemap', 'writerows', 'updaterows', 'deleterows'],
    });
  });
}
