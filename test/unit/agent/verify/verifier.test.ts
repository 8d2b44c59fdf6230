/** The verifier beside the stream, with a source that fails as scripted. */
import { pino } from 'pino';
import t from 'tap';
import { createTableFilter } from '../../../../agent/source/table-filter.ts';
import { ServerCharsets } from '../../../../agent/values/server-charsets.ts';
import { SourceConnection } from '../../../../agent/source/connection.ts';
import type { Spool } from '../../../../agent/spool/spool.ts';
import { MAX_FAULTS, VerifyRequests } from '../../../../agent/verify/requests.ts';
import { Verifier } from '../../../../agent/verify/verifier.ts';
import { isVerifyMark } from '../../../../shared/batch/batch.ts';
import type { VerifyMark } from '../../../../shared/batch/batch.ts';
import { decodeBatch } from '../../../../shared/batch/decoder.ts';
import { TributaryError } from '../../../../shared/errors.ts';
import { TableSums } from '../../../../shared/batch/row-sums.ts';
import { FILE, IDENTITY, START, newSink } from '../../../support/hand-made/sink.ts';
import { openSpool, temporaryDirectory } from '../../../support/hand-made/spool-tools.ts';

/** What the branch's database does; each may throw or reject. */
interface Script {
  readonly connect?: (times: number) => void;
  readonly columns?: () => void;
  /** @param sql the query for rows of one of the tables `sale` and `stock` */
  readonly cells?: (sql: string) => void;
}

class Rig {
  readonly requests = new VerifyRequests();
  readonly spool: Spool;
  connections = 0;
  readonly #script: Script;
  readonly #sink;

  constructor(script: Script) {
    this.#script = script;
    this.spool = openSpool(temporaryDirectory());
    this.spool.newEpoch(null, START);
    this.#sink = newSink(this.spool, START);
    this.ask('first');
  }

  /** What the head office asks for from now on. */
  ask(...ids: readonly string[]): void {
    this.requests.serve(ids.map(id => ({ id, kind: 'verify', tables: null })));
  }

  /** Lives as a binlog connection does, until so many requests were answered, or `alive` says no more. */
  async run(answers: number, alive = (): boolean => true): Promise<void> {
    const stop = new AbortController();
    const verifier = new Verifier({
      connect: () => this.#connect(),
      identity: IDENTITY,
      tableFilter: createTableFilter({ include: ['*.*'], exclude: [], map: {} }),
      charsets: ServerCharsets.builtIn(false),
      spool: this.spool,
      sink: this.#sink,
      logger: pino({ level: 'silent' }),
      requests: this.requests,
      firstRetryMs: 1,
    });
    const running = verifier.run(stop.signal);
    running.catch(() => stop.abort());
    while (!stop.signal.aborted && alive() && this.ends.length < answers) {
      await new Promise(resolve => setTimeout(resolve, 2));
      this.#sink.heartbeat({ file: FILE, offset: 1_000 });
    }
    stop.abort();
    await running;
  }

  get marks(): VerifyMark[] {
    const marks: VerifyMark[] = [];
    for (let seq = 1; seq <= this.spool.stream().head.seq; seq += 1) {
      marks.push(...decodeBatch(this.spool.read(seq)!.body).changes.filter(change => isVerifyMark(change)));
    }
    return marks;
  }

  /** Requests that were answered, and why without rows. */
  get ends(): (readonly [request: string, problem: string | null])[] {
    return this.marks.flatMap(mark => (mark.op === 'verify-end' ? [[mark.request, mark.problem]] : []));
  }

  async #connect(): Promise<SourceConnection> {
    this.connections += 1;
    const { connect, columns, cells } = this.#script;
    await soon(() => connect?.(this.connections));
    const names = ['sale', 'stock'];
    return Object.assign(Object.create(SourceConnection.prototype) as SourceConnection, {
      identity: () => Promise.resolve(IDENTITY),
      execute: () => Promise.resolve(),
      rows: (sql: string) =>
        soon(() => {
          if (sql.includes('STATISTICS')) return names.map(tn => ({ ts: 'shop', tn, name: 'id', idx: 'PRIMARY' }));
          if (!sql.includes('COLUMNS')) {
            return names.map(tn => ({ ts: 'shop', tn, estimate: '1', type: 'BASE TABLE', engine: 'innodb' }));
          }
          columns?.();
          return names.map(tn => ({ ts: 'shop', tn, name: 'id', base: 'int', full: 'int' }));
        }),
      cells: (sql: string) =>
        soon(() => {
          cells?.(sql);
          return [[Buffer.from('1')]];
        }),
      waitUntilVisible: () => Promise.resolve(),
      binlogEnd: () => Promise.resolve({ file: FILE, offset: 1_000, gtidSet: '' }),
      destroy: () => undefined,
    });
  }
}

const soon = <T>(work: () => T): Promise<T> => Promise.resolve().then(work);

const away = (cause?: Error): TributaryError =>
  new TributaryError('SOURCE_UNREACHABLE', 'it is away', cause === undefined ? {} : { cause });

void t.test(
  'what does not pass is tried a few times, over connections, and then said; the next request has its turn',
  async t => {
    let fails = true;
    const rig = new Rig({
      columns: () => {
        if (fails) throw new TypeError('no such thing');
      },
    });
    await rig.run(1, () => rig.connections < 2);
    t.equal(rig.connections, 2);
    await rig.run(1);
    t.match(rig.ends, [['first', /^INTERNAL: no such thing — Report it/]]);
    t.equal(rig.connections, MAX_FAULTS);
    fails = false;
    rig.ask('first', 'second');
    await rig.run(2);
    t.strictSame(rig.ends.slice(1), [['second', null]]);
    t.strictSame(
      rig.marks.slice(1).map(({ op }) => op),
      ['verify-start', 'verify-sums', 'verify-sums', 'verify-end'],
    );
    rig.spool.close();
  },
);

void t.test('what is waited for in vain is given up, too', async t => {
  const rig = new Rig({
    connect: () => {
      throw away();
    },
  });
  await rig.run(1);
  t.equal(rig.connections, MAX_FAULTS);
  t.match(rig.ends, [['first', /^SOURCE_UNREACHABLE: it is away/]]);
  rig.spool.close();
});

void t.test('while the database is away it is tried without end', async t => {
  const rig = new Rig({
    connect: times => {
      const refused = Object.assign(new Error('refused'), { errno: -111 });
      const shutdown = Object.assign(new Error('shutting down'), { errno: 1053 });
      if (times <= 2 * MAX_FAULTS) throw away(times % 2 === 0 ? refused : shutdown);
    },
  });
  await rig.run(1);
  t.strictSame(rig.ends, [['first', null]]);
  t.equal(rig.connections, 2 * MAX_FAULTS + 1);
  rig.spool.close();
});

void t.test('what fails of one table is said of that one', async t => {
  const rig = new Rig({
    cells: sql => {
      if (sql.includes('sale')) throw new TributaryError('INTERNAL', 'an error of ours');
    },
  });
  await rig.run(1);
  t.equal(rig.connections, 1);
  const sums = rig.marks.filter(mark => mark.op === 'verify-sums');
  t.match(sums, [{ problem: /an error of ours/, sums: '' }, { problem: null }]);
  t.equal(TableSums.fromBytes(Buffer.from(sums[1]!.sums, 'base64'))?.rows, 1);
  rig.spool.close();
});

void t.test('what fails of the spool is not tried again: capture answers it', async t => {
  const rig = new Rig({});
  const append = rig.spool.append.bind(rig.spool);
  rig.spool.append = (...batch) => {
    if (rig.marks.length > 0) throw new TributaryError('SPOOL_IO', 'the disk is gone');
    return append(...batch);
  };
  await t.rejects(rig.run(1), { code: 'SPOOL_IO' });
  t.equal(rig.connections, 1);
  rig.spool.close();
});
